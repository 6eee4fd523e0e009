//! Changes to ReplicaSets, gathered, so that each is written once with everything in it.

use std::collections::BTreeMap;
use std::fmt;

use skiff_client::driver::Plan;
use skiff_proto::appsv1::ReplicaSet;

use super::plan::{Action, Target};
use super::revisions::{DESIRED, MOST};
use super::rollout::Rollout;

/// What changes in one ReplicaSet.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// Which one, at which revision.
    pub set: Target,
    /// From how many replicas to how many.
    pub replicas: Option<(i32, i32)>,
    /// Annotations to set.
    pub annotations: BTreeMap<String, String>,
    /// `spec.minReadySeconds`.
    pub min_ready_seconds: Option<i32>,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.set.name;
        match self.replicas {
            Some((from, to)) if to > from => write!(f, "scale up replica set {name} from {from} to {to}"),
            Some((from, to)) => write!(f, "scale down replica set {name} from {from} to {to}"),
            None => write!(f, "annotate replica set {name}"),
        }
    }
}

/// The changes of one plan, by name of the ReplicaSet.
#[derive(Default)]
pub struct Changes {
    changes: BTreeMap<String, (Change, String)>,
}

impl Changes {
    /// Nothing changes.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Sets the size; the annotations that remember the Deployment's size go along.
    pub fn resize(&mut self, rollout: &Rollout<'_>, set: &ReplicaSet, to: i32, reason: &str) {
        let from = Rollout::size(set);
        if from != to {
            self.entry(set, reason).replicas = Some((from, to));
        }
        self.remember_size(rollout, set, reason);
    }

    /// Remembers in a ReplicaSet which size of the Deployment it was made to fit.
    pub fn remember_size(&mut self, rollout: &Rollout<'_>, set: &ReplicaSet, reason: &str) {
        let most = rollout.wanted().saturating_add(rollout.max_surge);
        self.annotate(set, DESIRED, rollout.wanted().to_string(), reason);
        self.annotate(set, MOST, most.to_string(), reason);
    }

    /// Sets an annotation, if it is not set so.
    pub fn annotate(&mut self, set: &ReplicaSet, key: &str, value: String, reason: &str) {
        if set.metadata.annotations.get(key) != Some(&value) {
            self.entry(set, reason).annotations.insert(key.into(), value);
        }
    }

    /// Sets minReadySeconds, if it is not set so.
    pub fn min_ready(&mut self, set: &ReplicaSet, seconds: i32, reason: &str) {
        if set.spec.min_ready_seconds != seconds {
            self.entry(set, reason).min_ready_seconds = Some(seconds);
        }
    }

    /// The steps: first what grows, then what shrinks.
    pub fn into_steps(self, rollout: &Rollout<'_>, plan: &mut Plan<Action>) {
        let shrinks = |change: &Change| change.replicas.is_some_and(|(from, to)| to < from);
        let (down, up): (Vec<_>, Vec<_>) = self.changes.into_values().partition(|(change, _)| shrinks(change));
        let order = |name: &str| rollout.all().position(|s| s.metadata.name == name);
        for mut group in [up, down] {
            group.sort_by_key(|(change, _)| order(&change.set.name));
            for (change, reason) in group {
                plan.step(Action::Change(change), reason);
            }
        }
    }

    fn entry(&mut self, set: &ReplicaSet, reason: &str) -> &mut Change {
        let new =
            || Change { set: Target::of(set), replicas: None, annotations: BTreeMap::new(), min_ready_seconds: None };
        let entry = self.changes.entry(set.metadata.name.clone()).or_insert_with(|| (new(), reason.to_string()));
        &mut entry.0
    }
}
