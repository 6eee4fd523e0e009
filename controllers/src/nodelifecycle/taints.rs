//! The taints that a node should have, from what its conditions say.
//!
//! | the node | taint | effect |
//! |---|---|---|
//! | is not Ready; is silent | `not-ready`; `unreachable` | NoSchedule, and NoExecute once it is given up |
//! | MemoryPressure, DiskPressure, PIDPressure | `memory-pressure`, `disk-pressure`, `pid-pressure` | NoSchedule |
//! | NetworkUnavailable | `network-unavailable` | NoSchedule |
//! | is cordoned | `unschedulable` | NoSchedule |
//!
//! All keys begin with `node.kubernetes.io/`. The taints of others stay as they are, but for the time of a NoExecute
//! taint that says none: from then on pods that tolerate it for a while are counted down.

use crate::nodes::{ConditionStatus, NodeView, TaintView};

/// The node's kubelet says that it is not ready.
pub const NOT_READY: &str = "node.kubernetes.io/not-ready";
/// The node is silent.
pub const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
/// Somebody has cordoned the node.
pub const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

const NO_SCHEDULE: &str = "NoSchedule";
const NO_EXECUTE: &str = "NoExecute";

/// Conditions that keep pods away while they are True.
const BY_CONDITION: [(&str, &str); 4] = [
    ("MemoryPressure", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "node.kubernetes.io/pid-pressure"),
    ("NetworkUnavailable", "node.kubernetes.io/network-unavailable"),
];

/// All taints of a node that is as ready as this; the lost have NoExecute too if they are given up.
pub fn of(node: &NodeView, ready: ConditionStatus, given_up: bool, now: i64) -> Vec<TaintView> {
    let wanted = wanted(node, ready, given_up);
    let mut taints: Vec<TaintView> = Vec::new();
    for taint in &node.taints {
        let stays = !is_ours(taint) || wanted.iter().any(|(key, effect)| taint.key == *key && taint.effect == *effect);
        if stays {
            let timed = taint.effect != NO_EXECUTE || taint.added > 0;
            taints.push(TaintView { added: if timed { taint.added } else { now }, ..taint.clone() });
        }
    }
    for (key, effect) in wanted {
        if !taints.iter().any(|t| t.key == key && t.effect == effect) {
            taints.push(TaintView { key: key.into(), value: String::new(), effect: effect.into(), added: now });
        }
    }
    taints
}

/// Whether the node carries the taint by which pods leave a lost node.
pub fn is_given_up(node: &NodeView) -> bool {
    node.taints.iter().any(|t| is_about_readiness(t) && t.effect == NO_EXECUTE)
}

fn wanted(node: &NodeView, ready: ConditionStatus, given_up: bool) -> Vec<(&'static str, &'static str)> {
    let mut wanted = Vec::new();
    let key = match ready {
        ConditionStatus::True => None,
        ConditionStatus::False => Some(NOT_READY),
        ConditionStatus::Unknown => Some(UNREACHABLE),
    };
    if let Some(key) = key {
        wanted.push((key, NO_SCHEDULE));
        if given_up {
            wanted.push((key, NO_EXECUTE));
        }
    }
    for (kind, key) in BY_CONDITION {
        if node.conditions.iter().any(|(k, status)| k == kind && *status == ConditionStatus::True) {
            wanted.push((key, NO_SCHEDULE));
        }
    }
    if node.unschedulable {
        wanted.push((UNSCHEDULABLE, NO_SCHEDULE));
    }
    wanted
}

fn is_about_readiness(taint: &TaintView) -> bool {
    taint.key == NOT_READY || taint.key == UNREACHABLE
}

fn is_ours(taint: &TaintView) -> bool {
    let by_condition = || BY_CONDITION.iter().any(|(_, key)| taint.key == *key) || taint.key == UNSCHEDULABLE;
    match taint.effect.as_str() {
        NO_SCHEDULE => is_about_readiness(taint) || by_condition(),
        NO_EXECUTE => is_about_readiness(taint),
        _ => false,
    }
}
