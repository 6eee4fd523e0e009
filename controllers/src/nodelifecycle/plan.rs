//! What to do about one node and the pods on it, from its heartbeats.
//!
//! ```text
//!             heartbeat                       silent for the grace period
//!   Ready ◄───────────────┐   ┌──────────────────────────────────────────► Unknown
//!     │                   │   │                                               │
//!     │ kubelet says no   │   │                    taints unreachable, pods Ready=False
//!     ▼                   │   │                                               ▼
//!   False: taints not-ready, ─┴─ pods deleted when their toleration of the taint is over
//! ```
//!
//! A pod that is deleted on a silent node stays, terminating: only its kubelet can say that its
//! containers have stopped. Its ReplicaSet replaces it at once, because it is being deleted. It is
//! removed by force only when nothing is left to wait for: the Node object has been deleted, or
//! somebody vouches with the taint `node.kubernetes.io/out-of-service` that the machine is off.
//!
//! If *every* node is silent, it is more likely that we are deaf: then nothing is evicted.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use skiff_client::ObjectKey;
use skiff_client::driver::Plan;
use skiff_proto::skiffv1::ObjectRef;

use crate::nodes::{NodeView, Ready, TaintView};
use crate::pods::{PodView, Toleration};

/// The node's kubelet says that it is not ready.
pub const NOT_READY: &str = "node.kubernetes.io/not-ready";
/// The node is silent.
pub const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
/// Somebody says that the machine is off.
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

/// The seconds of the toleration that admission gives to pods without one.
const ADMITTED: i64 = 300;

/// The times that decide.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// How long a node may be silent.
    pub grace: Duration,
    /// How long pods stay on a node that is not ready or silent, if they don't say.
    pub eviction_after: Duration,
}

/// What there is to know about one node.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The Node; `None` if it does not exist (any more).
    pub node: Option<Arc<NodeView>>,
    /// Which version of it.
    pub version: Option<ObjectRef>,
    /// For how long we have not heard its heartbeat; if there is no Node, for how long it has been missing.
    pub silence: Duration,
    /// Nobody has been heard for the grace period.
    pub all_silent: bool,
    /// The pods bound to it.
    pub pods: Vec<Arc<PodView>>,
    /// The times that decide.
    pub times: Times,
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
    let silent = observed.silence >= observed.times.grace;
    if silent {
        mark_unknown(node, observed, &mut plan);
    } else {
        plan.look_again_after(observed.times.grace - observed.silence);
    }
    let ready = if silent { Ready::Unknown } else { node.ready.unwrap_or(Ready::False) };
    let taints = taints(node, ready, now.as_second());
    if taints != node.taints {
        let revision = observed.version.as_ref().map_or(0, |v| v.revision);
        plan.step(Action::SetTaints { taints: taints.clone(), revision }, format!("the node's readiness is {ready:?}"));
    }
    if silent {
        for pod in observed.pods.iter().filter(|p| p.is_ready() && !p.is_finished()) {
            plan.step(Action::MarkPodNotReady(Target::of(pod)), "its node is silent");
        }
    }
    evict(observed, node, &taints, silent, now.as_second(), &mut plan);
    plan
}

/// The Node is gone: once it is sure to stay so, its pods go too.
fn clean_up(observed: &Observed, plan: &mut Plan<Action>) {
    if observed.pods.is_empty() {
        return;
    }
    if observed.silence < observed.times.grace {
        plan.look_again_after(observed.times.grace - observed.silence);
        return;
    }
    for pod in &observed.pods {
        plan.step(Action::Remove(Target::of(pod)), "its node does not exist any more");
    }
}

fn mark_unknown(node: &NodeView, observed: &Observed, plan: &mut Plan<Action>) {
    let mut conditions: Vec<String> =
        node.pressures.iter().filter(|(_, unknown)| !unknown).map(|(kind, _)| kind.clone()).collect();
    if node.ready != Some(Ready::Unknown) {
        conditions.insert(0, "Ready".into());
    }
    if !conditions.is_empty() {
        let seconds = observed.silence.as_secs();
        plan.step(Action::MarkUnknown(conditions), format!("no heartbeat for {seconds} s"));
    }
}

/// The taints that the node should have: ours by readiness, those of others as they are.
fn taints(node: &NodeView, ready: Ready, now: i64) -> Vec<TaintView> {
    let wanted = match ready {
        Ready::True => None,
        Ready::False => Some(NOT_READY),
        Ready::Unknown => Some(UNREACHABLE),
    };
    let ours = |t: &TaintView| {
        (t.key == NOT_READY || t.key == UNREACHABLE) && (t.effect == "NoSchedule" || t.effect == "NoExecute")
    };
    let stays = |t: &TaintView| !ours(t) || Some(t.key.as_str()) == wanted;
    let mut taints: Vec<TaintView> = node.taints.iter().filter(|t| stays(t)).cloned().collect();
    if let Some(key) = wanted {
        for effect in ["NoSchedule", "NoExecute"] {
            if !taints.iter().any(|t| t.key == key && t.effect == effect) {
                taints.push(TaintView { key: key.into(), value: String::new(), effect: effect.into(), added: now });
            }
        }
    }
    taints
}

fn evict(observed: &Observed, node: &NodeView, taints: &[TaintView], silent: bool, now: i64, plan: &mut Plan<Action>) {
    let out_of_service = silent && node.taints.iter().any(|t| t.key == OUT_OF_SERVICE);
    for pod in &observed.pods {
        if pod.deleting {
            if out_of_service {
                plan.step(Action::Remove(Target::of(pod)), "its node is out of service");
            }
            continue;
        }
        let deafness = |t: &&TaintView| !(observed.all_silent && t.key == UNREACHABLE);
        let due = taints
            .iter()
            .filter(|t| t.effect == "NoExecute")
            .filter(deafness)
            .filter_map(|t| Some((due(t, pod, &observed.times)?, t)))
            .min_by_key(|(due, _)| *due);
        match due {
            Some((due, taint)) if due <= now => {
                plan.step(
                    Action::Evict(Target::of(pod)),
                    format!("it does not tolerate the taint {} any longer", taint.key),
                );
            }
            Some((due, _)) => {
                plan.look_again_after(Duration::from_secs((due - now).unsigned_abs()));
            }
            None => {}
        }
    }
}

/// When a pod has to go because of a taint; `None`: never.
fn due(taint: &TaintView, pod: &PodView, times: &Times) -> Option<i64> {
    let about_nodes = taint.key == NOT_READY || taint.key == UNREACHABLE;
    let default = i64::try_from(times.eviction_after.as_secs()).unwrap_or(i64::MAX);
    let tolerations: Vec<&Toleration> = pod.tolerations.iter().filter(|t| tolerates(t, taint)).collect();
    let patience = if tolerations.is_empty() {
        if about_nodes { default } else { 0 }
    } else {
        // Admission gives every pod that says nothing a toleration of five minutes. It stands for "the
        // cluster's default", which is what we have been told.
        let is_default = |t: &Toleration| about_nodes && t.operator == "Exists" && t.seconds == Some(ADMITTED);
        let seconds = |t: &&Toleration| if is_default(t) { Some(default) } else { t.seconds };
        tolerations.iter().filter_map(seconds).min()?.max(0)
    };
    Some(taint.added.saturating_add(patience))
}

fn tolerates(toleration: &Toleration, taint: &TaintView) -> bool {
    match toleration.operator.as_str() {
        "Exists" => toleration.key.is_empty() || toleration.key == taint.key,
        "" | "Equal" => toleration.key == taint.key && toleration.value == taint.value,
        _ => false,
    }
}
