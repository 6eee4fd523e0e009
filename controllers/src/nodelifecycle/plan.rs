//! What to do about one node and the pods on it, from its heartbeats.
//!
//! ```text
//!             heartbeat                       silent for the grace period
//!   Ready ◄───────────────┐   ┌──────────────────────────────────────────► Unknown
//!     │                   │   │                                               │
//!     │ kubelet says no   │   │                    taints unreachable, pods Ready=False
//!     ▼                   │   │                                               ▼
//!   False: taints not-ready, ─┴─ in its turn NoExecute: pods go when their toleration is over
//! ```
//!
//! A pod that is deleted on a silent node stays, terminating: only its kubelet can say that its
//! containers have stopped. Its ReplicaSet replaces it at once, because it is being deleted. It is
//! removed by force only when nothing is left to wait for: the Node object has been deleted, or
//! somebody vouches with the taint `node.kubernetes.io/out-of-service` that the machine is off.
//!
//! The taint NoExecute, by which pods leave, comes to one node of a zone after the other, and to none if
//! every node is lost (`zones`, `turns`).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use skiff_client::ObjectKey;
use skiff_client::driver::Plan;
use skiff_proto::skiffv1::ObjectRef;

use super::turns::Turn;
use super::{taints, tolerations};
use crate::nodes::{ConditionStatus, NodeView, TaintView};
use crate::pods::PodView;

/// Somebody says that the machine is off.
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";
/// What a kubelet reports beside Ready, and nobody knows when it is silent.
const REPORTED: [&str; 3] = ["MemoryPressure", "DiskPressure", "PIDPressure"];

/// What there is to know about one node.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The Node; `None` if it does not exist (any more).
    pub node: Option<Arc<NodeView>>,
    /// Which version of it.
    pub version: Option<ObjectRef>,
    /// For how long we have not heard its heartbeat; if there is no Node, for how long it has been missing.
    pub silence: Duration,
    /// For how long it may be silent; so long a Node has to be missing, too.
    pub grace: Duration,
    /// Not one node is ready.
    pub all_lost: bool,
    /// Whether it may be given up, if it is lost.
    pub turn: Turn,
    /// The pods bound to it.
    pub pods: Vec<Arc<PodView>>,
}

/// What can be done about a node.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Set its conditions to Unknown.
    MarkUnknown(Vec<String>),
    /// Give it exactly these taints.
    SetTaints {
        /// All of them, those of others included.
        taints: Vec<TaintView>,
        /// The revision that the list was made from.
        revision: u64,
    },
    /// Set a pod's condition Ready to False.
    MarkPodNotReady(Target),
    /// Delete a pod, as anybody would.
    Evict(Target),
    /// Remove a pod that nobody will ever report as stopped.
    Remove(Target),
    /// Remove a pod in the same way, once the server confirms that there is no such Node.
    RemoveOrphan(Target),
}

/// A pod to act on, and no other one that may get its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Namespace and name.
    pub key: ObjectKey,
    /// Its uid.
    pub uid: String,
}

impl Target {
    fn of(pod: &PodView) -> Target {
        Target { key: pod.key.clone(), uid: pod.uid.clone() }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::MarkUnknown(conditions) => write!(f, "set {} to Unknown", conditions.join(", ")),
            Action::SetTaints { taints, .. } => {
                let names: Vec<String> = taints.iter().map(|t| format!("{}:{}", t.key, t.effect)).collect();
                write!(f, "set taints [{}]", names.join(", "))
            }
            Action::MarkPodNotReady(pod) => write!(f, "set pod {} not ready", pod.key),
            Action::Evict(pod) => write!(f, "evict pod {}", pod.key),
            Action::Remove(pod) => write!(f, "remove pod {} by force", pod.key),
            Action::RemoveOrphan(pod) => write!(f, "remove pod {} by force unless its node exists", pod.key),
        }
    }
}

/// The plan.
pub fn plan(observed: &Observed, now: Timestamp) -> Plan<Action> {
    let mut plan = Plan::nothing();
    plan.inputs.extend(observed.version.clone());
    let Some(node) = &observed.node else {
        clean_up(observed, &mut plan);
        return plan;
    };
    let silent = observed.silence >= observed.grace;
    if silent {
        if let Some(unknown) = unknown(node) {
            plan.step(Action::MarkUnknown(unknown), format!("no heartbeat for {} s", observed.silence.as_secs()));
        }
        for pod in observed.pods.iter().filter(|p| p.is_ready() && !p.is_finished()) {
            plan.step(Action::MarkPodNotReady(Target::of(pod)), "its node is silent");
        }
        if !plan.is_empty() {
            // What is to become of it depends on how many are lost, and it has to be counted first.
            return plan;
        }
    } else {
        plan.look_again_after(observed.grace - observed.silence);
    }
    let ready = if silent { ConditionStatus::Unknown } else { node.ready.unwrap_or(ConditionStatus::False) };
    let lost = ready != ConditionStatus::True;
    let given_up = lost && !observed.all_lost && observed.turn == Turn::Now;
    let taints = taints::of(node, ready, given_up, now.as_second());
    if taints != node.taints {
        let revision = observed.version.as_ref().map_or(0, |v| v.revision);
        plan.step(Action::SetTaints { taints: taints.clone(), revision }, reason(node, ready, observed));
    }
    if let Turn::After(wait) = observed.turn
        && lost
    {
        plan.look_again_after(wait);
    }
    let out_of_service = lost && node.taints.iter().any(|t| t.key == OUT_OF_SERVICE);
    evict(observed, &taints, out_of_service, now.as_second(), &mut plan);
    plan
}

fn reason(node: &NodeView, ready: ConditionStatus, observed: &Observed) -> String {
    let state = match ready {
        ConditionStatus::True if node.unschedulable => "ready and cordoned",
        ConditionStatus::True => "ready",
        ConditionStatus::False => "not ready",
        ConditionStatus::Unknown => "silent",
    };
    match observed.all_lost {
        true if ready != ConditionStatus::True => format!("the node is {state}, as all are"),
        _ => format!("the node is {state}"),
    }
}

/// The Node is gone: once it is sure to stay so, its pods go too.
fn clean_up(observed: &Observed, plan: &mut Plan<Action>) {
    if observed.pods.is_empty() {
        return;
    }
    if observed.silence < observed.grace {
        plan.look_again_after(observed.grace - observed.silence);
        return;
    }
    for pod in &observed.pods {
        plan.step(Action::RemoveOrphan(Target::of(pod)), "its node does not exist any more");
    }
}

/// The conditions of a silent node that say more than anybody knows.
fn unknown(node: &NodeView) -> Option<Vec<String>> {
    let is_known = |kind: &str, status: ConditionStatus| REPORTED.contains(&kind) && status != ConditionStatus::Unknown;
    let known = node.conditions.iter().filter(|(kind, status)| is_known(kind, *status));
    let mut conditions: Vec<String> = known.map(|(kind, _)| kind.clone()).collect();
    if node.ready != Some(ConditionStatus::Unknown) {
        conditions.insert(0, "Ready".into());
    }
    (!conditions.is_empty()).then_some(conditions)
}

fn evict(observed: &Observed, taints: &[TaintView], out_of_service: bool, now: i64, plan: &mut Plan<Action>) {
    for pod in &observed.pods {
        if pod.deleting {
            if out_of_service {
                plan.step(Action::Remove(Target::of(pod)), "its node is out of service");
            }
            continue;
        }
        let drives_out = taints.iter().filter(|t| t.effect == "NoExecute");
        let first = drives_out.filter_map(|t| Some((tolerations::due(t, pod)?, t))).min_by_key(|(due, _)| *due);
        match first {
            Some((due, taint)) if due <= now => {
                let why = format!("it does not tolerate the taint {} any longer", taint.key);
                plan.step(Action::Evict(Target::of(pod)), why);
            }
            Some((due, _)) => {
                plan.look_again_after(Duration::from_secs((due - now).unsigned_abs()));
            }
            None => {}
        }
    }
}
