//! ReplicaSets: whose pods, how many, which ones go; as tables and properties.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use proptest::prelude::*;
use skiff_client::ObjectKey;
use skiff_proto::appsv1::ReplicaSet;
use skiff_proto::metav1::LabelSelector;

use super::plan::{Action, BURST, Failure, Observed, plan};
use crate::model::{Model, NAMESPACE};
use crate::ownership::Owner;
use crate::pods::{Phase, PodView, deletion_order};

fn set(name: &str, replicas: i32) -> ReplicaSet {
    let labels: BTreeMap<String, String> = [("app".to_string(), "web".to_string())].into();
    let mut set = ReplicaSet::default();
    set.metadata.name = name.into();
    set.metadata.namespace = NAMESPACE.into();
    set.metadata.uid = format!("uid-{name}");
    set.metadata.generation = 1;
    set.spec.replicas = Some(replicas);
    set.spec.selector = Some(Box::new(LabelSelector { match_labels: labels.clone(), ..LabelSelector::default() }));
    set.spec.template.metadata.labels = labels;
    set
}

fn pod(name: &str) -> PodView {
    PodView {
        key: ObjectKey::new(NAMESPACE, name),
        uid: format!("uid-{name}"),
        labels: [("app".to_string(), "web".to_string())].into(),
        node: "n".into(),
        phase: Phase::Running,
        ready_since: Some(100),
        created: 100,
        ..PodView::default()
    }
}

fn owned(name: &str, by: &str) -> PodView {
    let owner = Owner { kind: "ReplicaSet".into(), name: by.into(), uid: format!("uid-{by}") };
    PodView { owner: Some(owner), ..pod(name) }
}

fn observed(set: ReplicaSet, pods: Vec<PodView>) -> Observed {
    let pods = pods.into_iter().map(Arc::new).collect();
    Observed { replica_set: Arc::new(set), pods, siblings: BTreeMap::new(), failure: None }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn steps(observed: &Observed) -> Vec<String> {
    let steps = plan(observed, at(1000)).steps.into_iter().map(|s| s.action.to_string());
    steps.filter(|s| !s.starts_with("write status")).collect()
}

#[test]
fn pods_of_others_are_left_alone() {
    let released = PodView { labels: BTreeMap::new(), ..owned("loose", "web") };
    let pods = vec![owned("mine", "web"), owned("theirs", "other"), pod("orphan"), released];
    assert_eq!(steps(&observed(set("web", 2), pods)), ["adopt pod orphan", "release pod loose"]);
}

#[test]
fn a_replica_set_that_goes_takes_and_makes_nothing() {
    let mut going = set("web", 5);
    going.metadata.deletion_timestamp = Some(skiff_proto::Time::from_unix(999));
    assert!(steps(&observed(going, vec![pod("orphan")])).is_empty());
}

#[test]
fn creating_starts_slowly_and_is_bounded() {
    assert_eq!(steps(&observed(set("web", 6), vec![])), ["create 1 pod", "create 2 pods", "create 3 pods"]);
    let all = plan(&observed(set("web", 5000), vec![]), at(0));
    let created: usize = all.steps.iter().map(|s| if let Action::Create(n) = s.action { n } else { 0 }).sum();
    assert_eq!(created, BURST);
}

#[test]
fn pods_that_ended_or_are_on_their_way_out_are_replaced() {
    let ended = PodView { phase: Phase::Failed, ready_since: None, ..owned("ended", "web") };
    let going = PodView { deleting: true, ..owned("going", "web") };
    assert_eq!(steps(&observed(set("web", 1), vec![ended, going])), ["create 1 pod"]);
}

#[test]
fn what_is_missed_least_goes_first() {
    // Each line: the one that goes, the one that stays.
    let base = || pod("b");
    let other = |change: fn(&mut PodView)| {
        let mut pod = pod("a-comes-first-by-name-alone");
        change(&mut pod);
        pod
    };
    let table: Vec<(&str, PodView, PodView)> = vec![
        ("unscheduled", PodView { node: String::new(), ..base() }, other(|_| {})),
        ("pending", PodView { phase: Phase::Pending, ..base() }, other(|_| {})),
        ("unready", PodView { ready_since: None, ..base() }, other(|_| {})),
        ("cheap", base(), other(|p| p.deletion_cost = 1)),
        ("on a crowded node", PodView { node: "crowded".into(), ..base() }, other(|_| {})),
        ("ready for less time", PodView { ready_since: Some(500), ..base() }, other(|_| {})),
        ("restarted", PodView { restarts: 3, ..base() }, other(|_| {})),
        ("younger", PodView { created: 500, ..base() }, other(|_| {})),
    ];
    let siblings = [("crowded".to_string(), 3), ("n".to_string(), 1)].into();
    for (name, goes, stays) in table {
        assert!(deletion_order(&goes, &stays, &siblings).is_lt(), "{name}");
        assert!(deletion_order(&stays, &goes, &siblings).is_gt(), "{name}, the other way round");
    }
}

#[test]
fn available_is_ready_for_long_enough_and_a_timer_waits_for_it() {
    let mut set = set("web", 2);
    set.spec.min_ready_seconds = 30;
    let pods = vec![owned("a", "web"), PodView { ready_since: Some(990), ..owned("b", "web") }];
    let plan = plan(&observed(set, pods), at(1000));
    let Some(Action::WriteStatus(status)) = plan.steps.last().map(|s| &s.action) else { panic!("no status") };
    assert_eq!((status.replicas, status.ready_replicas, status.available_replicas), (2, 2, 1));
    assert_eq!(plan.requeue_after.map(|d| d.as_secs()), Some(20));
}

#[test]
fn a_failure_is_said_before_the_next_try_and_taken_back_after_success() {
    let failure = Failure { reason: "FailedCreate".into(), message: "quota".into() };
    let failed = Observed { failure: Some(failure), ..observed(set("web", 1), vec![]) };
    let plan = plan(&failed, at(1000));
    let Action::WriteStatus(status) = &plan.steps[0].action else { panic!("{plan}") };
    assert_eq!(status.conditions[0].reason, "FailedCreate");
    assert_eq!(plan.steps[1].action, Action::Create(1));

    // Said once: that the next try failed in other words (they name the Pod) is no news, and no write that wakes it again.
    let mut said = set("web", 1);
    said.status = (**status).clone();
    let failure = Failure { reason: "FailedCreate".into(), message: "quota, for another pod".into() };
    let again = super::plan::plan(&Observed { failure: Some(failure), ..observed(said, vec![]) }, at(2000));
    assert!(again.steps.iter().all(|step| step.action == Action::Create(1)), "{again}");

    let mut model = Model::new();
    model.apply(crate::model::web(2, "v1"));
    model.quota = Some("exceeded quota".into());
    for _ in 0..4 {
        model.reconcile_all();
    }
    assert!(model.pods.is_empty());
    assert_eq!(model.condition("web", "ReplicaFailure"), "True FailedCreate");
    model.quota = None;
    model.settle();
    assert_eq!(model.shape(), "v1 2/2");
    assert_eq!(model.condition("web", "ReplicaFailure"), "none");
}

fn any_pod() -> impl Strategy<Value = PodView> {
    let owner = prop_oneof![2 => Just(Some("web")), 1 => Just(Some("other")), 1 => Just(None)];
    let phase = prop_oneof![Just(Phase::Pending), Just(Phase::Running), Just(Phase::Failed)];
    (any::<u16>(), owner, phase, any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
        |(id, owner, phase, labelled, deleting, ready)| {
            let name = format!("p{id}");
            let mut pod = owner.map_or_else(|| pod(&name), |owner| owned(&name, owner));
            (pod.phase, pod.deleting) = (phase, deleting);
            pod.ready_since = ready.then_some(100);
            if !labelled {
                pod.labels.clear();
            }
            pod
        },
    )
}

proptest! {
    /// Two ReplicaSets with the same labels never plan for the same pod, and none plans for a pod that another one
    /// controls, that does not match, or that is on its way out already.
    #[test]
    fn two_controllers_never_act_on_one_pod(
        pods in prop::collection::vec(any_pod(), 0..12), sizes in (0..6i32, 0..6i32)
    ) {
        let mut touched = std::collections::BTreeMap::new();
        for (name, size) in [("web", sizes.0), ("other", sizes.1)] {
            let observed = observed(set(name, size), pods.clone());
            for step in plan(&observed, at(1000)).steps {
                let Action::Delete(targets) = step.action else { continue };
                for target in targets {
                    let pod = pods.iter().find(|p| p.uid == target.uid).unwrap();
                    prop_assert!(pod.is_active());
                    let orphan = pod.owner.is_none();
                    prop_assert!(orphan || pod.owner.as_ref().unwrap().name == name);
                    // An orphan is adopted in the same plan, before it is deleted; only one adoption can succeed.
                    if !orphan {
                        prop_assert!(touched.insert(target.uid, name).is_none());
                    }
                }
            }
        }
    }

    /// From any state, a ReplicaSet arrives at the number asked for, without deleting and creating in one plan.
    #[test]
    fn it_arrives_from_any_state(pods in prop::collection::vec(any_pod(), 0..12), size in 0..8i32) {
        let mut model = Model::new();
        model.sets.insert("web".into(), set("web", size));
        for pod in pods {
            model.pods.insert(pod.key.name.clone(), pod);
        }
        let first = model.plan_set("web");
        let creates = first.steps.iter().any(|s| matches!(s.action, Action::Create(_)));
        let deletes = first.steps.iter().any(|s| matches!(s.action, Action::Delete(_)));
        prop_assert!(!(creates && deletes), "{}", first);
        model.settle();
        let set = &model.sets["web"];
        prop_assert_eq!(model.pods_of(set).filter(|p| p.is_active()).count(), usize::try_from(size).unwrap());
        prop_assert_eq!((set.status.replicas, set.status.available_replicas), (size, size));
        prop_assert!(model.pods.values().all(|p| p.owner.as_ref().is_none_or(|o| o.uid != set.metadata.uid || !p.labels.is_empty())));
    }
}
