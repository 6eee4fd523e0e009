//! EndpointSlices: what is in them, and that little changes when little changes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;
use skiff_client::ObjectKey;
use skiff_proto::IntOrString;
use skiff_proto::corev1::{Service, ServicePort};
use skiff_proto::discoveryv1::EndpointSlice;

use super::plan::{Action, MANAGED_BY, MANAGER, MAX_ENDPOINTS, Observed, SERVICE_NAME, plan};
use crate::pods::{NamedPort, Phase, PodView};

fn service() -> Service {
    let mut service = Service::default();
    service.metadata.name = "web".into();
    service.metadata.namespace = "default".into();
    service.metadata.uid = "uid-web".into();
    service.metadata.labels = [("team".to_string(), "blue".to_string())].into();
    service.spec.selector = [("app".to_string(), "web".to_string())].into();
    let target_port = IntOrString::from("http");
    service.spec.ports = vec![ServicePort { name: "web".into(), port: 80, target_port, ..ServicePort::default() }];
    service
}

fn pod(n: usize) -> PodView {
    PodView {
        key: ObjectKey::new("default", format!("web-{n}")),
        uid: format!("uid-{n:04}"),
        node: format!("node-{}", n % 2),
        phase: Phase::Running,
        ready_since: Some(1),
        ip: format!("10.244.{}.{}", n / 250, n % 250 + 1),
        ports: vec![NamedPort { name: "http".into(), protocol: "TCP".into(), port: 8080 }],
        ..PodView::default()
    }
}

fn observed(service: Service, pods: Vec<PodView>, slices: &BTreeMap<String, EndpointSlice>) -> Observed {
    Observed {
        service: Some(Arc::new(service)),
        pods: pods.into_iter().map(Arc::new).collect(),
        zones: [("node-0".to_string(), "a".to_string())].into(),
        slices: slices.values().map(|s| Arc::new(s.clone())).collect(),
    }
}

/// Does what is planned; says how many writes that took.
fn apply(slices: &mut BTreeMap<String, EndpointSlice>, observed: &Observed) -> usize {
    let plan = plan(observed);
    for step in &plan.steps {
        match &step.action {
            Action::Create(slice) => {
                let free =
                    (1..).map(|n| format!("{}{n}", slice.metadata.generate_name)).find(|n| !slices.contains_key(n));
                let name = free.unwrap();
                let mut slice = (**slice).clone();
                slice.metadata.uid = format!("uid-{name}");
                slice.metadata.name = name.clone();
                assert!(slices.insert(name, slice).is_none());
            }
            Action::Update { slice, .. } => {
                slices.insert(slice.metadata.name.clone(), (**slice).clone());
            }
            Action::Delete { name, .. } => {
                slices.remove(name);
            }
        }
    }
    plan.steps.len()
}

fn only(slices: &BTreeMap<String, EndpointSlice>) -> &EndpointSlice {
    assert_eq!(slices.len(), 1, "{slices:?}");
    slices.values().next().unwrap()
}

#[test]
fn a_slice_says_who_made_it_for_what_and_what_is_in_it() {
    let mut slices = BTreeMap::new();
    apply(&mut slices, &observed(service(), vec![pod(2)], &BTreeMap::new()));
    let slice = only(&slices);
    let labels = &slice.metadata.labels;
    assert_eq!((labels[SERVICE_NAME].as_str(), labels[MANAGED_BY].as_str()), ("web", MANAGER));
    assert_eq!(labels["team"], "blue");
    assert_eq!(slice.metadata.owner_references[0].uid, "uid-web");
    assert_eq!((slice.ports[0].name.as_deref(), slice.ports[0].port), (Some("web"), Some(8080)));
    let endpoint = &slice.endpoints[0];
    assert_eq!(endpoint.addresses, ["10.244.0.3"]);
    assert_eq!((endpoint.node_name.as_deref(), endpoint.zone.as_deref()), (Some("node-0"), Some("a")));
    assert_eq!(endpoint.target_ref.as_ref().unwrap().uid, "uid-0002");
}

#[test]
fn conditions_tell_ready_from_serving_and_terminating() {
    // (ready, deleting, publishNotReady) -> (ready, serving, terminating)
    let table = [
        (true, false, false, (true, true, false)),
        (false, false, false, (false, false, false)),
        (true, true, false, (false, true, true)),
        (false, true, false, (false, false, true)),
        (false, false, true, (true, false, false)),
        (false, true, true, (true, false, true)),
    ];
    for (ready, deleting, publish, expected) in table {
        let mut service = service();
        service.spec.publish_not_ready_addresses = publish;
        let pod = PodView { ready_since: ready.then_some(1), deleting, ..pod(1) };
        let mut slices = BTreeMap::new();
        apply(&mut slices, &observed(service, vec![pod], &BTreeMap::new()));
        let conditions = &only(&slices).endpoints[0].conditions;
        let is = (conditions.ready.unwrap(), conditions.serving.unwrap(), conditions.terminating.unwrap());
        assert_eq!(is, expected, "ready {ready}, deleting {deleting}, publishNotReadyAddresses {publish}");
    }
}

#[test]
fn pods_without_an_address_or_at_their_end_are_left_out() {
    let ended = PodView { phase: Phase::Succeeded, ..pod(1) };
    let without = PodView { ip: String::new(), ..pod(2) };
    let other_port = PodView { ports: vec![], ..pod(3) };
    let mut slices = BTreeMap::new();
    apply(&mut slices, &observed(service(), vec![ended, without, other_port], &BTreeMap::new()));
    assert!(only(&slices).endpoints.is_empty(), "one empty slice says that nobody is there");
}

#[test]
fn pods_with_another_number_behind_the_name_are_in_a_slice_of_their_own() {
    let mut other = pod(2);
    other.ports[0].port = 9090;
    let mut slices = BTreeMap::new();
    apply(&mut slices, &observed(service(), vec![pod(1), other], &BTreeMap::new()));
    let ports: BTreeSet<_> = slices.values().map(|s| s.ports[0].port.unwrap()).collect();
    assert_eq!(ports, [8080, 9090].into());
}

#[test]
fn a_label_that_the_service_no_longer_has_is_named_to_go() {
    let mut slices = BTreeMap::new();
    apply(&mut slices, &observed(service(), vec![pod(1)], &BTreeMap::new()));
    let mut other = service();
    other.metadata.labels = [("tier".to_string(), "front".to_string())].into();
    let plan = plan(&observed(other, vec![pod(1)], &slices));
    let [step] = &plan.steps[..] else { panic!("{plan}") };
    let Action::Update { slice, dropped } = &step.action else { panic!("{plan}") };
    assert_eq!(dropped.iter().collect::<Vec<_>>(), ["team"]);
    assert_eq!(slice.metadata.labels["tier"], "front");
}

#[test]
fn without_a_service_or_selector_nothing_stays() {
    let mut slices = BTreeMap::new();
    apply(&mut slices, &observed(service(), vec![pod(1)], &BTreeMap::new()));
    let gone = Observed { service: None, ..observed(service(), vec![], &slices) };
    assert_eq!(plan(&gone).steps.len(), 1);
    let mut selecting_nothing = service();
    selecting_nothing.spec.selector.clear();
    let now = observed(selecting_nothing, vec![], &slices);
    apply(&mut slices, &now);
    assert!(slices.is_empty());
}

#[test]
fn one_pod_more_or_less_is_one_write() {
    let mut slices = BTreeMap::new();
    let pods = |range: std::ops::Range<usize>| range.map(pod).collect::<Vec<_>>();
    apply(&mut slices, &observed(service(), pods(0..250), &BTreeMap::new()));
    assert_eq!(slices.len(), 3);
    assert_eq!(apply(&mut slices.clone(), &observed(service(), pods(0..250), &slices)), 0);
    assert_eq!(apply(&mut slices.clone(), &observed(service(), pods(0..251), &slices)), 1);
    assert_eq!(apply(&mut slices.clone(), &observed(service(), pods(1..250), &slices)), 1);
    assert_eq!(apply(&mut slices.clone(), &observed(service(), pods(1..251), &slices)), 1, "one goes, one comes");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 50, ..ProptestConfig::default() })]

    /// After any change, the slices hold each pod exactly once, none too many, and a second look has nothing to do.
    #[test]
    fn every_pod_is_in_exactly_one_slice(changes in prop::collection::vec(prop::collection::btree_set(0..400usize, 0..320), 1..5)) {
        let mut slices = BTreeMap::new();
        for wanted in changes {
            let pods: Vec<PodView> = wanted.iter().map(|n| pod(*n)).collect();
            let now = observed(service(), pods.clone(), &slices);
            apply(&mut slices, &now);
            let uid = |e: &skiff_proto::discoveryv1::Endpoint| e.target_ref.as_ref().unwrap().uid.clone();
            let found: Vec<String> = slices.values().flat_map(|s| s.endpoints.iter().map(uid)).collect();
            let unique: BTreeSet<String> = found.iter().cloned().collect();
            prop_assert_eq!(found.len(), unique.len());
            prop_assert_eq!(unique, pods.iter().map(|p| p.uid.clone()).collect::<BTreeSet<_>>());
            prop_assert!(slices.values().all(|s| s.endpoints.len() <= MAX_ENDPOINTS));
            prop_assert!(!slices.is_empty());
            let again = observed(service(), pods, &slices);
            prop_assert!(plan(&again).is_empty(), "{}", plan(&again));
        }
    }
}
