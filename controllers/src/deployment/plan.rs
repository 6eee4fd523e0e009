//! What to do for one Deployment, from what is there.
//!
//! A plan is one move: what is due next, and then the status. The ReplicaSets' own changes wake the
//! Deployment again, and the next plan is made from what has become of the last one. So a rollout
//! can be taken over by a newer template, paused or scaled between any two moves.
//!
//! ```text
//!  claim ReplicaSets ─► paused or resized? ── yes ─► resize in proportion (scale) ───────────────┐
//!                            │ no                                                                │
//!                            ├─ RollingUpdate ─► grow the new one ─► shrink the old (rolling) ───┤
//!                            └─ Recreate ─► empty the old ─► wait for their pods ─► fill the new ┤
//!                                                                                                ▼
//!                                                                    tidy up history ─► write status
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use skiff_client::Resource;
use skiff_client::driver::Plan;
use skiff_proto::appsv1::{Deployment, DeploymentStatus, ReplicaSet};

use super::changes::{Change, Changes};
use super::rollout::Rollout;
use super::{revisions, rolling, scale, status};
use crate::ownership::{Claim, claim, selects};
use crate::replicasets::SetView;

/// What there is to know about one Deployment.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The Deployment.
    pub deployment: Arc<Deployment>,
    /// All ReplicaSets of its namespace that it owns or might adopt.
    pub replica_sets: Vec<Arc<ReplicaSet>>,
    /// The name that the template's ReplicaSet would have, if somebody else's has it.
    pub taken: Option<String>,
    /// How many pods that have not ended there are, by the uid of their ReplicaSet. Those being deleted count.
    pub pods: BTreeMap<String, usize>,
    /// Why the last ReplicaSet could not be created, if it could not.
    pub failure: Option<String>,
}

/// What can be done for a Deployment.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Take a ReplicaSet that nobody controls.
    Adopt(Target),
    /// Let a ReplicaSet go whose labels match no longer.
    Release(Target),
    /// Create the ReplicaSet of the current template.
    Create(Box<ReplicaSet>),
    /// Change size, annotations or minReadySeconds of a ReplicaSet.
    Change(Change),
    /// Say which revision this is, in the Deployment's annotation.
    SetRevision(u64),
    /// Delete a ReplicaSet that history needs no longer.
    Delete(Target),
    /// Say how it stands.
    WriteStatus(Box<DeploymentStatus>),
}

/// A ReplicaSet to act on, and no other one that may get its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// The revision that the plan was made from.
    pub resource_version: String,
}

impl Target {
    pub(super) fn of(set: &ReplicaSet) -> Target {
        let meta = &set.metadata;
        Target { name: meta.name.clone(), uid: meta.uid.clone(), resource_version: meta.resource_version.clone() }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Adopt(set) => write!(f, "adopt replica set {}", set.name),
            Action::Release(set) => write!(f, "release replica set {}", set.name),
            Action::Create(set) => {
                write!(f, "create replica set {} with {} replicas", set.metadata.name, set.spec.replicas.unwrap_or(0))
            }
            Action::Change(change) => change.fmt(f),
            Action::SetRevision(revision) => write!(f, "set revision {revision}"),
            Action::Delete(set) => write!(f, "delete replica set {}", set.name),
            Action::WriteStatus(s) => write!(
                f,
                "write status: {} replicas, {} updated, {} available",
                s.replicas, s.updated_replicas, s.available_replicas
            ),
        }
    }
}

/// The plan.
pub fn plan(observed: &Observed, now: Timestamp) -> Plan<Action> {
    let deployment = &*observed.deployment;
    let mut plan = Plan::nothing();
    plan.input(Resource::of::<Deployment>().object(&deployment.metadata));
    let Some(sets) = claim_sets(observed, &mut plan) else { return plan };
    let rollout = Rollout::of(deployment, sets);
    for set in rollout.all() {
        plan.input(Resource::of::<ReplicaSet>().object(&set.metadata));
    }

    let mut news = status::News { failure: observed.failure.clone(), ..status::News::default() };
    if deployment.metadata.deletion_timestamp.is_none() {
        let mut changes = Changes::default();
        if deployment.spec.paused || scale::is_due(&rollout) {
            revisions::mark(&rollout, &mut changes, &mut plan);
            scale::plan(&rollout, &mut changes);
        } else if rollout.recreates() {
            recreate(observed, &rollout, &mut changes, &mut news, &mut plan);
        } else if make_new_set(observed, &rollout, &mut news, &mut plan) {
            rolling::plan(&rollout, &mut changes);
        }
        changes.into_steps(&rollout, &mut plan);
        if plan.steps.is_empty() && (deployment.spec.paused || rollout.is_complete()) {
            revisions::tidy(&rollout, &mut plan);
        }
    }

    let (status, again) = status::of(&rollout, &news, now);
    if status != deployment.status {
        plan.step(Action::WriteStatus(Box::new(status)), "what it says is not how it is");
        if observed.failure.is_some() {
            // The failure is said before the next try, which would most likely end the plan.
            plan.steps.rotate_right(1);
        }
    }
    if let Some(again) = again {
        plan.look_again_after(again);
    }
    plan
}

/// Whose the ReplicaSets are. Taking and letting go is a move of its own: `None` while there is any to do.
fn claim_sets<'a>(observed: &'a Observed, plan: &mut Plan<Action>) -> Option<Vec<&'a ReplicaSet>> {
    let deployment = &observed.deployment;
    let deleting = deployment.metadata.deletion_timestamp.is_some();
    let selector = deployment.spec.selector.as_deref();
    let mut ours = Vec::new();
    for set in &observed.replica_sets {
        let view = SetView::of(set);
        match claim(&view, &deployment.metadata.uid, deleting, |labels| selects(selector, labels)) {
            Claim::Ours => ours.push(&**set),
            Claim::Adopt => {
                plan.step(Action::Adopt(Target::of(set)), "its labels match, and nobody controls it");
            }
            Claim::Release => {
                plan.step(Action::Release(Target::of(set)), "its labels match no longer");
            }
            Claim::NotOurs => {}
        }
    }
    plan.steps.is_empty().then_some(ours)
}

/// Makes sure that there is a ReplicaSet of the current template. False while it has to be made first.
fn make_new_set(observed: &Observed, rollout: &Rollout<'_>, news: &mut status::News, plan: &mut Plan<Action>) -> bool {
    if rollout.new.is_some() {
        let mut changes = Changes::default();
        revisions::mark(rollout, &mut changes, plan);
        let marked = changes.is_empty();
        changes.into_steps(rollout, plan);
        return marked;
    }
    let size = rolling::first_size(rollout);
    let set = revisions::new_set(rollout, size);
    let name = &set.metadata.name;
    if observed.taken.as_ref() == Some(name) || rollout.all().any(|s| &s.metadata.name == name) {
        // The count is part of the hash: with the next look there is another name.
        news.collisions = Some(rollout.deployment.status.collision_count.unwrap_or(0) + 1);
        return false;
    }
    news.created = Some(name.clone());
    let revision = revisions::next(rollout);
    plan.step(Action::Create(Box::new(set)), format!("no replica set has the template of revision {revision}"));
    if revisions::of_deployment(rollout.deployment) != revision {
        plan.step(Action::SetRevision(revision), "the template is new");
    }
    false
}

/// Recreate: nothing of the new before everything of the old is gone.
fn recreate(
    observed: &Observed,
    rollout: &Rollout<'_>,
    changes: &mut Changes,
    news: &mut status::News,
    plan: &mut Plan<Action>,
) {
    for set in rollout.old.iter().filter(|s| Rollout::size(s) > 0) {
        changes.resize(rollout, set, 0, "strategy Recreate: the old ones go first");
    }
    let old_pods = |s: &&&ReplicaSet| observed.pods.get(&s.metadata.uid).copied().unwrap_or(0) > 0;
    if !changes.is_empty() || rollout.old.iter().any(|s| old_pods(&s)) {
        revisions::mark(rollout, changes, plan);
        return;
    }
    if make_new_set(observed, rollout, news, plan)
        && let Some(new) = rollout.new
        && Rollout::size(new) != rollout.wanted()
    {
        changes.resize(rollout, new, rollout.wanted(), "the old ones are gone");
    }
}
