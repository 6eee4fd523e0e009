//! How many Pods may be evicted: those that are healthy, less those that have to be.
//!
//! The API server writes into the status too: it takes one from what is allowed and names the Pod, which counts as
//! gone from then on, until it is seen going. So two evictions in a row cannot both use the same healthy Pod, however
//! late this controller hears of the first. Each side writes only onto the status that it has read.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use skiff_client::Resource;
use skiff_client::driver::Plan;
use skiff_proto::Time;
use skiff_proto::metav1::Condition;
use skiff_proto::policyv1::{PodDisruptionBudget, PodDisruptionBudgetStatus};

use crate::pods::PodView;

/// The condition that says whether an eviction would be granted.
const ALLOWED: &str = "DisruptionAllowed";
/// A Pod that was let go and still does not go after so long stays: whoever evicted it has failed.
const LET_GO: i64 = 120;

/// What there is to know about one budget.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The budget.
    pub budget: Arc<PodDisruptionBudget>,
    /// The pods that it selects and that have not ended.
    pub pods: Vec<Arc<PodView>>,
    /// How many of them their controllers want.
    pub wanted: i64,
}

/// What can be done for a budget.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Write this status onto the revision that was read.
    WriteStatus {
        /// The status.
        status: Box<PodDisruptionBudgetStatus>,
        /// Pods that count as let go no longer.
        seen: Vec<String>,
        /// The resourceVersion that it was worked out from.
        onto: String,
    },
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Action::WriteStatus { status, .. } = self;
        let (allowed, healthy, wanted) = (status.disruptions_allowed, status.current_healthy, status.desired_healthy);
        write!(f, "write status: {allowed} disruptions allowed, {healthy} of {wanted} healthy")
    }
}

/// The plan.
pub fn plan(observed: &Observed, now: Timestamp) -> Plan<Action> {
    let budget = &*observed.budget;
    let mut plan = Plan::nothing();
    plan.input(Resource::of::<PodDisruptionBudget>().object(&budget.metadata));
    let old = &budget.status;
    let let_go = let_go(observed, now);
    let status = status(observed, let_go, now);
    if let Some(first) = status.disrupted_pods.values().map(Time::unix).min() {
        let left = (first + LET_GO - now.as_second()).max(1);
        plan.look_again_after(Duration::from_secs(left.unsigned_abs()));
    }
    if status != *old {
        let seen =
            old.disrupted_pods.keys().filter(|name| !status.disrupted_pods.contains_key(*name)).cloned().collect();
        let onto = budget.metadata.resource_version.clone();
        plan.step(
            Action::WriteStatus { status: Box::new(status), seen, onto },
            "its pods or what is wanted have changed",
        );
    }
    plan
}

/// Of the pods that were let go those that are not seen going yet.
fn let_go(observed: &Observed, now: Timestamp) -> BTreeMap<String, Time> {
    let mut let_go = observed.budget.status.disrupted_pods.clone();
    let_go.retain(|name, at| {
        let pod = observed.pods.iter().find(|pod| pod.key.name == *name);
        // One that was made later has only the name of it.
        pod.is_some_and(|pod| !pod.deleting && pod.created <= at.unix()) && at.unix() + LET_GO > now.as_second()
    });
    let_go
}

fn status(observed: &Observed, let_go: BTreeMap<String, Time>, now: Timestamp) -> PodDisruptionBudgetStatus {
    let budget = &*observed.budget;
    let healthy = |pod: &&Arc<PodView>| pod.is_ready() && !pod.deleting && !let_go.contains_key(&pod.key.name);
    let current = count(observed.pods.iter().filter(healthy).count());
    let (desired, expected) = desired(observed);
    let allowed = if expected > 0 { (current - desired).max(0) } else { 0 };
    PodDisruptionBudgetStatus {
        observed_generation: budget.metadata.generation,
        conditions: conditions(&budget.status.conditions, budget.metadata.generation, allowed > 0, now),
        disrupted_pods: let_go,
        disruptions_allowed: allowed,
        current_healthy: current,
        desired_healthy: desired,
        expected_pods: expected,
    }
}

/// How many pods have to be healthy, and how many there should be. A plain number is of the pods that there are; for a
/// share one has to know how many are wanted, which only a controller can say.
fn desired(observed: &Observed) -> (i32, i32) {
    let spec = &observed.budget.spec;
    let there = count(observed.pods.len());
    let wanted = i32::try_from(observed.wanted).unwrap_or(i32::MAX);
    match (&spec.min_available, &spec.max_unavailable) {
        (_, Some(most)) => {
            let missing = most.scaled(wanted, true).unwrap_or(0);
            ((wanted - missing).max(0), wanted)
        }
        (Some(least), None) => match least.as_int() {
            Some(least) => (least, there),
            None => (least.scaled(wanted, true).unwrap_or(wanted), wanted),
        },
        // Neither is said, so nobody knows how many may be missing: none.
        (None, None) => (0, 0),
    }
}

fn conditions(old: &[Condition], generation: i64, allowed: bool, now: Timestamp) -> Vec<Condition> {
    let (status, reason) = if allowed { ("True", "SufficientPods") } else { ("False", "InsufficientPods") };
    let before = old.iter().find(|c| c.r#type == ALLOWED);
    let since = before.filter(|c| c.status == status).and_then(|c| c.last_transition_time);
    let mut conditions: Vec<Condition> = old.iter().filter(|c| c.r#type != ALLOWED).cloned().collect();
    conditions.push(Condition {
        r#type: ALLOWED.into(),
        status: status.into(),
        observed_generation: generation,
        last_transition_time: since.or(Some(now.into())),
        reason: reason.into(),
        message: String::new(),
    });
    conditions
}

fn count(n: usize) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}
