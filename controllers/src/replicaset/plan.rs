//! What to do for one ReplicaSet, from what is there.
//!
//! First whose the pods are, then how many, then what to say about it. Creating and deleting go in
//! bounded bursts: a first one, then two, four, ... so that a quota or a broken template fails once
//! and not five hundred times. Each burst is one step; the first that fails ends the plan.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use skiff_client::driver::Plan;
use skiff_client::{ObjectKey, Resource};
use skiff_proto::appsv1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use skiff_world::mutants::{Mutant, is_awake};

use crate::ownership::{Claim, claim, selects};
use crate::pods::{PodView, deletion_order};

/// The condition that says that a create or delete fails.
pub const REPLICA_FAILURE: &str = "ReplicaFailure";
/// No more pods are created or deleted in one plan.
pub const BURST: usize = 500;

/// What there is to know about one ReplicaSet.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The ReplicaSet.
    pub replica_set: Arc<ReplicaSet>,
    /// Pods of its namespace that it owns or might adopt.
    pub pods: Vec<Arc<PodView>>,
    /// How many active pods of its family (all ReplicaSets of the same owner) are on each node.
    pub siblings: BTreeMap<String, usize>,
    /// Why the last create or delete failed, if it did.
    pub failure: Option<Failure>,
}

/// A create or delete that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// FailedCreate or FailedDelete.
    pub reason: String,
    /// The server's words.
    pub message: String,
}

/// What can be done for a ReplicaSet.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Take a pod that nobody controls.
    Adopt(Target),
    /// Let a pod go whose labels match no longer.
    Release(Target),
    /// Create so many pods from the template, at once.
    Create(usize),
    /// Delete these pods, at once.
    Delete(Vec<Target>),
    /// Say how it stands.
    WriteStatus(Box<ReplicaSetStatus>),
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
            Action::Adopt(pod) => write!(f, "adopt pod {}", pod.key.name),
            Action::Release(pod) => write!(f, "release pod {}", pod.key.name),
            Action::Create(1) => write!(f, "create 1 pod"),
            Action::Create(count) => write!(f, "create {count} pods"),
            Action::Delete(pods) => {
                let names: Vec<&str> = pods.iter().map(|p| p.key.name.as_str()).collect();
                write!(f, "delete pod {}", names.join(", "))
            }
            Action::WriteStatus(status) => write!(
                f,
                "write status: {} replicas, {} ready, {} available",
                status.replicas, status.ready_replicas, status.available_replicas
            ),
        }
    }
}

/// How many pods it shall have.
pub fn wanted(replica_set: &ReplicaSet) -> usize {
    usize::try_from(replica_set.spec.replicas.unwrap_or(1)).unwrap_or(0)
}

/// The plan.
pub fn plan(observed: &Observed, now: Timestamp) -> Plan<Action> {
    let set = &*observed.replica_set;
    let mut plan = Plan::nothing();
    plan.input(Resource::of::<ReplicaSet>().object(&set.metadata));
    let deleting = set.metadata.deletion_timestamp.is_some();
    let ours = claim_pods(observed, deleting, &mut plan);
    let active: Vec<&Arc<PodView>> = ours.iter().copied().filter(|p| p.is_active()).collect();

    let status = status(observed, &ours, now);
    let write = (status != set.status).then(|| Action::WriteStatus(Box::new(status)));
    // A failure is said before the next try, which would most likely end the plan.
    let (first, last) = if observed.failure.is_some() { (write, None) } else { (None, write) };
    if let Some(write) = first {
        plan.step(write, "the last attempt failed");
    }
    if !deleting {
        match wanted(set) {
            wanted if wanted > active.len() => create(wanted, active.len(), &mut plan),
            wanted if wanted < active.len() && !is_awake(Mutant::SurplusStays) => {
                delete(wanted, active.clone(), observed, &mut plan)
            }
            _ => {}
        }
    }
    if let Some(write) = last {
        plan.step(write, "the pods have changed");
    }
    wait_for_availability(set, &active, now, &mut plan);
    plan
}

fn claim_pods<'a>(observed: &'a Observed, deleting: bool, plan: &mut Plan<Action>) -> Vec<&'a Arc<PodView>> {
    let set = &observed.replica_set;
    let matches = |labels: &BTreeMap<String, String>| selects(set.spec.selector.as_deref(), labels);
    let mut ours = Vec::new();
    for pod in &observed.pods {
        match claim(&**pod, &set.metadata.uid, deleting, matches) {
            Claim::Ours => ours.push(pod),
            Claim::Adopt if pod.is_finished() => {}
            Claim::Adopt => {
                plan.step(Action::Adopt(Target::of(pod)), "its labels match, and nobody controls it");
                ours.push(pod);
            }
            Claim::Release => {
                plan.step(Action::Release(Target::of(pod)), "its labels match no longer");
            }
            Claim::NotOurs => {}
        }
    }
    ours
}

fn create(wanted: usize, have: usize, plan: &mut Plan<Action>) {
    let mut left = (wanted - have).min(BURST);
    let mut burst = 1;
    while left > 0 {
        let now = burst.min(left);
        plan.step(Action::Create(now), format!("{have} of {wanted} replicas exist"));
        left -= now;
        burst *= 2;
    }
}

fn delete(wanted: usize, mut active: Vec<&Arc<PodView>>, observed: &Observed, plan: &mut Plan<Action>) {
    let have = active.len();
    active.sort_by(|a, b| deletion_order(a, b, &observed.siblings));
    let surplus: Vec<Target> = active.iter().take((have - wanted).min(BURST)).map(|p| Target::of(p)).collect();
    plan.step(Action::Delete(surplus), format!("{have} replicas exist, {wanted} wanted"));
}

fn status(observed: &Observed, ours: &[&Arc<PodView>], now: Timestamp) -> ReplicaSetStatus {
    let set = &*observed.replica_set;
    let min_ready = set.spec.min_ready_seconds;
    let count = |counts: &dyn Fn(&PodView) -> bool| {
        i32::try_from(ours.iter().filter(|p| p.is_active() && counts(p)).count()).unwrap_or(i32::MAX)
    };
    let terminating = ours.iter().filter(|p| p.deleting && !p.is_finished()).count();
    let fully_labelled = |p: &PodView| {
        let wanted = &set.spec.template.metadata.labels;
        wanted.iter().all(|(k, v)| p.labels.get(k) == Some(v))
    };
    ReplicaSetStatus {
        replicas: count(&|_| true),
        fully_labeled_replicas: count(&fully_labelled),
        ready_replicas: count(&PodView::is_ready),
        available_replicas: count(&|p| p.available_in(min_ready, now.as_second()) == Some(0)),
        terminating_replicas: Some(i32::try_from(terminating).unwrap_or(i32::MAX)),
        observed_generation: set.metadata.generation,
        conditions: conditions(observed, now),
    }
}

fn conditions(observed: &Observed, now: Timestamp) -> Vec<ReplicaSetCondition> {
    let old = &observed.replica_set.status.conditions;
    let mut conditions: Vec<ReplicaSetCondition> =
        old.iter().filter(|c| c.r#type != REPLICA_FAILURE).cloned().collect();
    if let Some(failure) = &observed.failure {
        // The same failure keeps its first words: they may name the Pod that was tried, another one each time, and a
        // status that changes with every try would bring on the next.
        let before = old.iter().find(|c| c.r#type == REPLICA_FAILURE && c.reason == failure.reason);
        conditions.push(before.cloned().unwrap_or_else(|| ReplicaSetCondition {
            r#type: REPLICA_FAILURE.into(),
            status: "True".into(),
            last_transition_time: Some(now.into()),
            reason: failure.reason.clone(),
            message: failure.message.clone(),
        }));
    }
    conditions
}

/// Nothing changes when a pod has been ready for long enough, so a timer has to wake us.
fn wait_for_availability(set: &ReplicaSet, active: &[&Arc<PodView>], now: Timestamp, plan: &mut Plan<Action>) {
    let waits = active.iter().filter_map(|p| p.available_in(set.spec.min_ready_seconds, now.as_second()));
    if let Some(seconds) = waits.filter(|s| *s > 0).min() {
        plan.look_again_after(Duration::from_secs(seconds.unsigned_abs()));
    }
}
