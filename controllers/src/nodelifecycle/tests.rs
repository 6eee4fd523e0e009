//! Nodes that fall silent, come back, or go for good.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use skiff_client::ObjectKey;

use super::plan::{Action, NOT_READY, Observed, Times, UNREACHABLE, plan};
use crate::nodes::{NodeView, Ready, TaintView};
use crate::pods::{Phase, PodView, Toleration};

const TIMES: Times = Times { grace: Duration::from_secs(40), eviction_after: Duration::from_secs(60) };

fn node(ready: Ready, taints: &[TaintView]) -> NodeView {
    NodeView {
        name: "n1".into(),
        ready: Some(ready),
        pressures: vec![("DiskPressure".into(), ready == Ready::Unknown)],
        taints: taints.to_vec(),
        ..NodeView::default()
    }
}

fn taint(key: &str, effect: &str, added: i64) -> TaintView {
    TaintView { key: key.into(), value: String::new(), effect: effect.into(), added }
}

fn unreachable(added: i64) -> Vec<TaintView> {
    vec![taint(UNREACHABLE, "NoSchedule", added), taint(UNREACHABLE, "NoExecute", added)]
}

fn pod(name: &str, tolerations: &[Toleration]) -> PodView {
    PodView {
        key: ObjectKey::new("default", name),
        uid: format!("uid-{name}"),
        node: "n1".into(),
        phase: Phase::Running,
        ready_since: Some(1),
        tolerations: tolerations.to_vec(),
        ..PodView::default()
    }
}

fn tolerating(seconds: Option<i64>) -> Toleration {
    Toleration { key: UNREACHABLE.into(), operator: "Exists".into(), value: String::new(), seconds }
}

fn observed(node: Option<NodeView>, silence: u64, pods: Vec<PodView>) -> Observed {
    Observed {
        node: node.map(Arc::new),
        version: None,
        silence: Duration::from_secs(silence),
        all_silent: false,
        pods: pods.into_iter().map(Arc::new).collect(),
        times: TIMES,
    }
}

fn steps(observed: &Observed, now: i64) -> Vec<String> {
    let plan = plan(observed, Timestamp::from_second(now).unwrap());
    plan.steps.iter().map(|s| s.action.to_string()).collect()
}

#[test]
fn a_node_that_is_heard_is_left_alone_and_looked_at_in_time() {
    let heard = observed(Some(node(Ready::True, &[])), 30, vec![pod("p", &[])]);
    let plan = plan(&heard, Timestamp::from_second(1000).unwrap());
    assert!(plan.is_empty());
    assert_eq!(plan.requeue_after, Some(Duration::from_secs(10)));
}

#[test]
fn a_silent_node_is_unknown_tainted_and_its_pods_are_not_ready() {
    let silent = observed(Some(node(Ready::True, &[taint("mine", "NoSchedule", 5)])), 40, vec![pod("p", &[])]);
    assert_eq!(
        steps(&silent, 1000),
        [
            "set Ready, DiskPressure to Unknown",
            "set taints [mine:NoSchedule, node.kubernetes.io/unreachable:NoSchedule, node.kubernetes.io/unreachable:NoExecute]",
            "set pod default/p not ready",
        ]
    );
    // All that done, there is nothing to do before the pods' time is over.
    let unready = PodView { ready_since: None, ..pod("p", &[]) };
    let known = observed(Some(node(Ready::Unknown, &unreachable(1000))), 50, vec![unready.clone()]);
    assert!(steps(&known, 1010).is_empty());
    let plan = plan(&known, Timestamp::from_second(1010).unwrap());
    assert_eq!(plan.requeue_after, Some(Duration::from_secs(50)));
    assert_eq!(steps(&known, 1060), ["evict pod default/p"]);
}

#[test]
fn a_node_that_comes_back_loses_our_taints_and_no_others() {
    let mut taints = unreachable(1000);
    taints.push(taint("mine", "NoSchedule", 5));
    let back = observed(Some(node(Ready::True, &taints)), 1, vec![]);
    assert_eq!(steps(&back, 1100), ["set taints [mine:NoSchedule]"]);
}

#[test]
fn a_kubelet_that_says_not_ready_is_believed() {
    let ill = observed(Some(node(Ready::False, &unreachable(900))), 1, vec![pod("p", &[])]);
    let Some(Action::SetTaints { taints, .. }) =
        plan(&ill, Timestamp::from_second(1000).unwrap()).steps.first().map(|s| s.action.clone())
    else {
        panic!("no taints");
    };
    assert_eq!(taints, [taint(NOT_READY, "NoSchedule", 1000), taint(NOT_READY, "NoExecute", 1000)]);
}

#[test]
fn pods_stay_as_long_as_they_tolerate() {
    // Tainted at 1000. (tolerations, when it goes)
    let table: [(&[Toleration], Option<i64>); 5] = [
        (&[], Some(1060)),
        (&[tolerating(Some(5))], Some(1005)),
        (&[tolerating(None)], None),
        (&[tolerating(None), tolerating(Some(20))], Some(1020)),
        // What admission gives everybody stands for the cluster's default.
        (&[tolerating(Some(300))], Some(1060)),
    ];
    for (tolerations, goes) in table {
        let unready = PodView { ready_since: None, ..pod("p", tolerations) };
        let lost = observed(Some(node(Ready::Unknown, &unreachable(1000))), 99, vec![unready]);
        for now in [1004, 1005, 1019, 1020, 1059, 1060, 99_999] {
            let evicted = !steps(&lost, now).is_empty();
            assert_eq!(evicted, goes.is_some_and(|at| at <= now), "{tolerations:?} at {now}");
        }
    }
}

#[test]
fn another_taint_evicts_at_once() {
    let drained = observed(Some(node(Ready::True, &[taint("repair", "NoExecute", 1000)])), 1, vec![pod("p", &[])]);
    assert_eq!(steps(&drained, 1000), ["evict pod default/p"]);
}

#[test]
fn if_everybody_is_silent_we_are_deaf() {
    let unready = PodView { ready_since: None, ..pod("p", &[]) };
    let mut lost = observed(Some(node(Ready::Unknown, &unreachable(1000))), 9999, vec![unready]);
    lost.all_silent = true;
    assert!(steps(&lost, 99_999).is_empty());
}

#[test]
fn pods_on_their_way_out_are_removed_by_force_only_when_nobody_can_stop_them() {
    let going = PodView { deleting: true, ready_since: None, ..pod("p", &[]) };
    let lost = observed(Some(node(Ready::Unknown, &unreachable(1000))), 9999, vec![going.clone()]);
    assert!(steps(&lost, 99_999).is_empty(), "its kubelet may come back");
    let mut off = unreachable(1000);
    off.push(taint("node.kubernetes.io/out-of-service", "NoExecute", 2000));
    let off = observed(Some(node(Ready::Unknown, &off)), 9999, vec![going.clone()]);
    assert_eq!(steps(&off, 99_999), ["remove pod default/p by force"]);
    assert!(steps(&observed(None, 10, vec![going.clone()]), 1000).is_empty(), "the Node may come back");
    assert_eq!(steps(&observed(None, 40, vec![going]), 1000), ["remove pod default/p by force"]);
}
