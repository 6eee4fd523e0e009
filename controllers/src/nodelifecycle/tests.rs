//! Nodes that fall silent, come back, or go for good.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use skiff_client::ObjectKey;

use super::plan::{Action, Observed, plan};
use super::taints::{NOT_READY, UNREACHABLE};
use super::turns::Turn;
use crate::nodes::ConditionStatus::{self, False, True, Unknown};
use crate::nodes::{NodeView, TaintView};
use crate::pods::{Phase, PodView, Toleration};

const GRACE: Duration = Duration::from_secs(40);

fn node(ready: ConditionStatus, taints: &[TaintView]) -> NodeView {
    let pressure = if ready == Unknown { Unknown } else { False };
    NodeView {
        name: "n1".into(),
        ready: Some(ready),
        conditions: vec![("DiskPressure".into(), pressure), ("NetworkUnavailable".into(), False)],
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
        bound: 1,
        phase: Phase::Running,
        ready_since: Some(1),
        tolerations: tolerations.to_vec(),
        ..PodView::default()
    }
}

fn unready(name: &str, tolerations: &[Toleration]) -> PodView {
    PodView { ready_since: None, ..pod(name, tolerations) }
}

fn tolerating(seconds: Option<i64>) -> Toleration {
    Toleration { key: UNREACHABLE.into(), operator: "Exists".into(), value: String::new(), seconds }
}

fn observed(node: Option<NodeView>, silence: u64, pods: Vec<PodView>) -> Observed {
    Observed {
        node: node.map(Arc::new),
        version: None,
        silence: Duration::from_secs(silence),
        grace: GRACE,
        all_lost: false,
        turn: Turn::Now,
        pods: pods.into_iter().map(Arc::new).collect(),
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn steps(observed: &Observed, now: i64) -> Vec<String> {
    plan(observed, at(now)).steps.iter().map(|s| s.action.to_string()).collect()
}

/// Without the part that all keys have in common.
fn short(steps: Vec<String>) -> Vec<String> {
    steps.into_iter().map(|step| step.replace("node.kubernetes.io/", "")).collect()
}

#[test]
fn a_node_that_is_heard_is_left_alone_and_looked_at_in_time() {
    let heard = observed(Some(node(True, &[])), 30, vec![pod("p", &[])]);
    let plan = plan(&heard, at(1000));
    assert!(plan.is_empty());
    assert_eq!(plan.requeue_after, Some(Duration::from_secs(10)));
}

#[test]
fn a_silent_node_is_unknown_then_tainted_and_its_pods_are_not_ready() {
    let mine = taint("mine", "NoSchedule", 5);
    let silent = observed(Some(node(True, std::slice::from_ref(&mine))), 40, vec![pod("p", &[])]);
    assert_eq!(steps(&silent, 1000), ["set Ready, DiskPressure to Unknown", "set pod default/p not ready"]);
    let stays = [tolerating(Some(60))];
    let marked = observed(Some(node(Unknown, &[mine])), 41, vec![unready("p", &stays)]);
    let expected = "set taints [mine:NoSchedule, unreachable:NoSchedule, unreachable:NoExecute]";
    assert_eq!(short(steps(&marked, 1000)), [expected]);
    // All that done, there is nothing to do before the pods' time is over.
    let known = observed(Some(node(Unknown, &unreachable(1000))), 50, vec![unready("p", &stays)]);
    assert!(steps(&known, 1010).is_empty());
    assert_eq!(plan(&known, at(1010)).requeue_after, Some(Duration::from_secs(50)));
    assert_eq!(steps(&known, 1060), ["evict pod default/p"]);
}

#[test]
fn a_node_that_comes_back_loses_our_taints_and_no_others() {
    let mut taints = unreachable(1000);
    taints.push(taint("mine", "NoSchedule", 5));
    let back = observed(Some(node(True, &taints)), 1, vec![]);
    assert_eq!(steps(&back, 1100), ["set taints [mine:NoSchedule]"]);
}

#[test]
fn a_kubelet_that_says_not_ready_is_believed() {
    let ill = observed(Some(node(False, &unreachable(900))), 1, vec![]);
    let Some(Action::SetTaints { taints, .. }) = plan(&ill, at(1000)).steps.first().map(|s| s.action.clone()) else {
        panic!("no taints");
    };
    assert_eq!(taints, [taint(NOT_READY, "NoSchedule", 1000), taint(NOT_READY, "NoExecute", 1000)]);
}

#[test]
fn what_a_node_says_of_itself_keeps_pods_away() {
    let kinds = ["MemoryPressure", "DiskPressure", "PIDPressure", "NetworkUnavailable"];
    let says = |status| NodeView { conditions: kinds.map(|k| (k.to_string(), status)).to_vec(), ..node(True, &[]) };
    let cordoned = NodeView { unschedulable: true, ..node(True, &[]) };
    let table: [(NodeView, &[&str]); 5] = [
        (
            says(True),
            &[
                "set taints [memory-pressure:NoSchedule, disk-pressure:NoSchedule, pid-pressure:NoSchedule, network-unavailable:NoSchedule]",
            ],
        ),
        (says(False), &[]),
        (says(Unknown), &[]),
        (cordoned, &["set taints [unschedulable:NoSchedule]"]),
        (
            node(True, &[taint("node.kubernetes.io/disk-pressure", "NoSchedule", 1), taint(NOT_READY, "mine", 1)]),
            &["set taints [not-ready:mine]"],
        ),
    ];
    for (node, expected) in table {
        let says = format!("{node:?}");
        assert_eq!(short(steps(&observed(Some(node), 1, vec![pod("p", &[])]), 1000)), expected, "{says}");
    }
}

#[test]
fn pods_stay_as_long_as_they_tolerate() {
    // Tainted at 1000. (tolerations, when it goes)
    let table: [(&[Toleration], Option<i64>); 5] = [
        (&[], Some(1000)),
        (&[tolerating(Some(5))], Some(1005)),
        (&[tolerating(None)], None),
        (&[tolerating(None), tolerating(Some(20))], Some(1020)),
        (&[tolerating(Some(300))], Some(1300)),
    ];
    for (tolerations, goes) in table {
        let lost = observed(Some(node(Unknown, &unreachable(1000))), 99, vec![unready("p", tolerations)]);
        for now in [1000, 1004, 1005, 1019, 1020, 1299, 1300, 99_999] {
            let evicted = !steps(&lost, now).is_empty();
            assert_eq!(evicted, goes.is_some_and(|at| at <= now), "{tolerations:?} at {now}");
        }
    }
}

#[test]
fn who_comes_to_a_tainted_node_has_their_time_too() {
    let late = PodView { bound: 5000, ..pod("p", &[Toleration { key: "repair".into(), ..tolerating(Some(60)) }]) };
    let tainted = observed(Some(node(True, &[taint("repair", "NoExecute", 1000)])), 1, vec![late]);
    assert!(steps(&tainted, 5059).is_empty());
    assert_eq!(steps(&tainted, 5060), ["evict pod default/p"]);
}

#[test]
fn another_taint_evicts_at_once() {
    let drained = observed(Some(node(True, &[taint("repair", "NoExecute", 1000)])), 1, vec![pod("p", &[])]);
    assert_eq!(steps(&drained, 1000), ["evict pod default/p"]);
}

#[test]
fn a_taint_without_a_time_begins_when_it_is_seen() {
    let stays = [Toleration { key: "repair".into(), ..tolerating(Some(60)) }];
    let drained = observed(Some(node(True, &[taint("repair", "NoExecute", 0)])), 1, vec![pod("p", &stays)]);
    let first = plan(&drained, at(1000));
    let [step] = first.steps.as_slice() else { panic!("{first}") };
    let Action::SetTaints { taints, .. } = &step.action else { panic!("{first}") };
    assert_eq!(taints, &[taint("repair", "NoExecute", 1000)]);
    assert_eq!(first.requeue_after, Some(Duration::from_secs(39)), "before that the next heartbeat is due");
}

#[test]
fn who_is_not_in_turn_keeps_its_pods() {
    for (turn, again) in [(Turn::Held, None), (Turn::After(Duration::from_secs(7)), Some(7))] {
        let waits = Observed { turn, ..observed(Some(node(Unknown, &[])), 50, vec![unready("p", &[])]) };
        assert_eq!(short(steps(&waits, 1000)), ["set taints [unreachable:NoSchedule]"]);
        assert_eq!(plan(&waits, at(1000)).requeue_after.map(|wait| wait.as_secs()), again);
    }
    // One that is heard is not of those that wait for a turn.
    let heard = Observed { turn: Turn::After(Duration::from_secs(7)), ..observed(Some(node(True, &[])), 0, vec![]) };
    assert_eq!(plan(&heard, at(1000)).requeue_after, Some(GRACE));
}

#[test]
fn if_everybody_is_lost_we_are_deaf() {
    let given_up = observed(Some(node(Unknown, &unreachable(1000))), 9999, vec![unready("p", &[])]);
    let lost = Observed { all_lost: true, ..given_up };
    assert_eq!(short(steps(&lost, 99_999)), ["set taints [unreachable:NoSchedule]"], "and nobody is evicted");
}

#[test]
fn pods_on_their_way_out_are_removed_by_force_only_when_nobody_can_stop_them() {
    let going = PodView { deleting: true, ..unready("p", &[]) };
    let lost = observed(Some(node(Unknown, &unreachable(1000))), 9999, vec![going.clone()]);
    assert!(steps(&lost, 99_999).is_empty(), "its kubelet may come back");
    let off = taint("node.kubernetes.io/out-of-service", "NoExecute", 2000);
    let both: Vec<TaintView> = unreachable(1000).into_iter().chain([off.clone()]).collect();
    let gone = observed(Some(node(Unknown, &both)), 9999, vec![going.clone()]);
    assert_eq!(steps(&gone, 99_999), ["remove pod default/p by force"]);
    let well = observed(Some(node(True, &[off])), 1, vec![going.clone()]);
    assert!(steps(&well, 99_999).is_empty(), "its kubelet is there to stop it");
    assert!(steps(&observed(None, 10, vec![going.clone()]), 1000).is_empty(), "the Node may come back");
    let removed = "remove pod default/p by force unless its node exists";
    assert_eq!(steps(&observed(None, 40, vec![going]), 1000), [removed]);
}
