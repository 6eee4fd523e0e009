//! Endpoints: that they say what the slices say, and that nothing is written when nothing changes.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use skiff_proto::corev1::{EndpointSubset, Endpoints, ObjectReference, Service};
use skiff_proto::discoveryv1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};

use super::plan::{Action, MANAGED_BY, MANAGER, MAX_ADDRESSES, OVER_CAPACITY, Observed, plan};

fn service() -> Service {
    let mut service = Service::default();
    service.metadata.name = "web".into();
    service.metadata.namespace = "default".into();
    service.metadata.labels = [("team".to_string(), "blue".to_string())].into();
    service.spec.selector = [("app".to_string(), "web".to_string())].into();
    service.spec.cluster_ip = "10.0.0.1".into();
    service
}

/// Conditions of an endpoint: ready, terminating.
const READY: (bool, bool) = (true, false);
const NOT_READY: (bool, bool) = (false, false);
const ENDING: (bool, bool) = (false, true);
const READY_ALTHOUGH_ENDING: (bool, bool) = (true, true);

fn endpoint(n: usize, (ready, terminating): (bool, bool)) -> Endpoint {
    Endpoint {
        addresses: vec![format!("10.244.{}.{}", n / 250, n % 250 + 1)],
        conditions: EndpointConditions { ready: Some(ready), serving: Some(ready), terminating: Some(terminating) },
        node_name: Some("node-0".into()),
        target_ref: Some(Box::new(ObjectReference { uid: format!("uid-{n}"), ..ObjectReference::default() })),
        ..Endpoint::default()
    }
}

fn slice(port: i32, endpoints: Vec<Endpoint>) -> Arc<EndpointSlice> {
    let port =
        EndpointPort { name: Some(String::new()), port: Some(port), protocol: Some("TCP".into()), ..<_>::default() };
    Arc::new(EndpointSlice { address_type: "IPv4".into(), endpoints, ports: vec![port], ..EndpointSlice::default() })
}

fn observed(slices: Vec<Arc<EndpointSlice>>, endpoints: Option<Endpoints>) -> Observed {
    Observed { service: Some(Arc::new(service())), slices, endpoints: endpoints.map(Arc::new) }
}

/// What is there after the plan.
fn apply(observed: &Observed) -> Option<Endpoints> {
    let plan = plan(observed);
    assert!(plan.steps.len() <= 1, "{plan}");
    match plan.steps.first().map(|s| &s.action) {
        Some(Action::Create(wanted) | Action::Update { wanted, .. }) => Some((**wanted).clone()),
        Some(Action::Delete { .. }) => None,
        None => observed.endpoints.as_deref().cloned(),
    }
}

fn ips(subset: &EndpointSubset) -> (Vec<&str>, Vec<&str>) {
    (
        subset.addresses.iter().map(|a| a.ip.as_str()).collect(),
        subset.not_ready_addresses.iter().map(|a| a.ip.as_str()).collect(),
    )
}

#[test]
fn each_set_of_ports_is_a_subset_with_who_is_ready_and_who_is_not() {
    let slices = vec![
        slice(80, vec![endpoint(10, READY), endpoint(2, READY), endpoint(3, NOT_READY)]),
        slice(80, vec![endpoint(4, ENDING), endpoint(5, READY_ALTHOUGH_ENDING)]),
        slice(8080, vec![endpoint(6, NOT_READY)]),
        slice(9090, vec![endpoint(7, ENDING)]),
    ];
    let made = apply(&observed(slices, None)).unwrap();
    assert_eq!((made.metadata.namespace.as_str(), made.metadata.name.as_str()), ("default", "web"));
    let labels: BTreeMap<String, String> =
        [("team", "blue"), (MANAGED_BY, MANAGER)].map(|(k, v)| (k.to_string(), v.to_string())).into();
    assert_eq!(made.metadata.labels, labels);
    assert!(made.metadata.annotations.is_empty());
    let ports: Vec<i32> = made.subsets.iter().map(|s| s.ports[0].port).collect();
    assert_eq!(ports, [80, 8080], "who is ending and not ready is in none");
    // By number, not by text.
    assert_eq!(ips(&made.subsets[0]), (vec!["10.244.0.3", "10.244.0.6", "10.244.0.11"], vec!["10.244.0.4"]));
    assert_eq!(ips(&made.subsets[1]), (vec![], vec!["10.244.0.7"]));
    let first = &made.subsets[0].addresses[0];
    assert_eq!(first.node_name.as_deref(), Some("node-0"));
    assert_eq!(first.target_ref.as_ref().unwrap().uid, "uid-2");
}

#[test]
fn a_service_without_an_address_is_marked() {
    let mut headless = service();
    headless.spec.cluster_ip = "None".into();
    let now = Observed { service: Some(Arc::new(headless)), ..observed(vec![slice(80, vec![])], None) };
    assert_eq!(apply(&now).unwrap().metadata.labels["service.kubernetes.io/headless"], "");
}

#[test]
fn labels_follow_the_service_and_others_go() {
    let slices = vec![slice(80, vec![endpoint(1, READY)])];
    let mut made = apply(&observed(slices.clone(), None)).unwrap();
    made.metadata.labels.insert("old".into(), "one".into());
    made.metadata.annotations.insert("somebody".into(), "else's".into());
    let plan = plan(&observed(slices, Some(made)));
    let Action::Update { wanted, dropped } = &plan.steps[0].action else { panic!("{plan}") };
    assert_eq!(dropped.iter().collect::<Vec<_>>(), ["old"]);
    assert!(wanted.metadata.annotations.contains_key("somebody"));
}

#[test]
fn only_what_was_made_here_goes_with_its_service() {
    let ours = apply(&observed(vec![slice(80, vec![endpoint(1, READY)])], None)).unwrap();
    let gone = |endpoints: &Endpoints| Observed { service: None, ..observed(vec![], Some(endpoints.clone())) };
    assert_eq!(apply(&gone(&ours)), None);
    let mut somebody_elses = ours;
    somebody_elses.metadata.labels.clear();
    assert!(plan(&gone(&somebody_elses)).is_empty());
}

#[test]
fn nothing_is_written_for_a_service_that_selects_nothing_or_has_no_slice_yet() {
    let mut selecting_nothing = service();
    selecting_nothing.spec.selector.clear();
    let by_hand = Some(Endpoints::default());
    let service = Some(Arc::new(selecting_nothing));
    assert!(plan(&Observed { service, ..observed(vec![], by_hand) }).is_empty());
    assert!(plan(&observed(vec![], None)).is_empty());
}

#[test]
fn an_object_is_cut_off_with_the_ready_ones_first_and_says_so() {
    let some = |from: usize, n: usize, how| (from..from + n).map(|n| endpoint(n, how)).collect::<Vec<_>>();
    // (ready behind port 80, not ready there, ready behind 8080) -> the same, and whether it is cut off
    for ((ready, not_ready, others), expected, cut) in [
        ((600, 200, 200), (600, 200, 200), false),
        ((600, 300, 300), (600, 100, 300), true),
        ((900, 50, 150), (900, 0, 100), true),
        ((1200, 1, 1), (1000, 0, 0), true),
    ] {
        let both = [some(0, ready, READY), some(2000, not_ready, NOT_READY)].concat();
        let slices = vec![slice(80, both), slice(8080, some(4000, others, READY))];
        let made = apply(&observed(slices.clone(), None)).unwrap();
        let of = |port: i32| made.subsets.iter().find(|s| s.ports[0].port == port);
        let lens = |s: Option<&EndpointSubset>| s.map_or((0, 0), |s| (s.addresses.len(), s.not_ready_addresses.len()));
        let (a, b) = (lens(of(80)), lens(of(8080)));
        assert_eq!((a.0, a.1, b.0), expected);
        let mark = made.metadata.annotations.get(OVER_CAPACITY).map(String::as_str);
        assert_eq!(mark, cut.then_some("truncated"));
        let fewer = apply(&observed(vec![slice(80, vec![endpoint(1, READY)])], Some(made.clone()))).unwrap();
        assert!(!fewer.metadata.annotations.contains_key(OVER_CAPACITY));
        assert!(plan(&observed(slices, Some(made))).is_empty(), "and it is left at that");
    }
}

fn any_slices() -> impl Strategy<Value = Vec<Arc<EndpointSlice>>> {
    let how = prop::sample::select(vec![READY, NOT_READY, ENDING, READY_ALTHOUGH_ENDING]);
    let one = (prop::sample::select(vec![80, 81, 82]), prop::collection::vec((0..2000usize, how), 0..100));
    let made = one.prop_map(|(port, list)| slice(port, list.into_iter().map(|(n, how)| endpoint(n, how)).collect()));
    prop::collection::vec(made, 1..20)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 50, ..ProptestConfig::default() })]

    /// Whatever the slices, and however they are ordered: not too many, never an address twice behind the same ports,
    /// and a second look has nothing to do.
    #[test]
    fn the_order_of_slices_says_nothing(before in any_slices(), slices in any_slices()) {
        let old = apply(&observed(before, None));
        let made = apply(&observed(slices.clone(), old)).unwrap();
        let mut turned = slices;
        turned.reverse();
        prop_assert!(plan(&observed(turned, Some(made.clone()))).is_empty());
        let twice = |s: &EndpointSubset| s.not_ready_addresses.iter().any(|a| s.addresses.contains(a));
        prop_assert!(!made.subsets.iter().any(twice));
        let size: usize = made.subsets.iter().map(|s| s.addresses.len() + s.not_ready_addresses.len()).sum();
        prop_assert!(size <= MAX_ADDRESSES);
    }
}
