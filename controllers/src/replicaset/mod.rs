//! ReplicaSets: as many pods of one template as asked for, at any time.
//!
//! `observe` reads the caches, `plan` decides, `act` writes.

mod act;
mod observe;
pub mod plan;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use skiff_client::driver::{Plan, Reconciler};
use skiff_client::{ActError, Change, Client, EventRecorder, ObjectKey, Store, WorkQueue};
use skiff_proto::appsv1::ReplicaSet;
use skiff_proto::corev1::ResourceQuota;

use crate::caches::Caches;
use crate::pods::PodView;
use crate::resourcequota::makes_room;
use plan::{Action, Failure, Observed};

/// Keeps the number of pods of every ReplicaSet.
pub struct Controller {
    caches: Caches,
    client: Client,
    events: EventRecorder,
    /// What failed the last time, until it succeeds.
    failures: Mutex<BTreeMap<ObjectKey, Failure>>,
}

impl Controller {
    /// Reads these caches and writes through this client.
    pub fn new(caches: Caches, client: Client, events: EventRecorder) -> Controller {
        Controller { caches, client, events, failures: Mutex::default() }
    }
}

impl Reconciler for Controller {
    type Key = ObjectKey;
    type Observed = Observed;
    type Action = Action;
    const NAME: &'static str = "replicaset";

    fn observe(&self, key: &ObjectKey) -> Option<Observed> {
        self.look(key)
    }

    fn plan(&self, observed: &Observed, now: jiff::Timestamp) -> Plan<Action> {
        plan::plan(observed, now)
    }

    async fn act(&self, key: &ObjectKey, action: &Action) -> Result<(), ActError> {
        self.execute(key, action).await
    }
}

/// A ReplicaSet changed.
pub fn set_changed(queue: &WorkQueue<ObjectKey>, change: &Change<ReplicaSet>) {
    queue.add(change.key(), change.trigger());
}

/// A quota has room again: that concerns those who could not create what they should.
pub fn quota_changed(queue: &WorkQueue<ObjectKey>, sets: &Store<ReplicaSet>, change: &Change<ResourceQuota>) {
    if !makes_room(change) {
        return;
    }
    for set in sets.in_namespace(&change.object.namespace) {
        if set.status.conditions.iter().any(|c| c.r#type == plan::REPLICA_FAILURE) {
            queue.add(ObjectKey::of(&set.metadata), change.trigger());
        }
    }
}

/// A pod changed: it concerns its controller, before and now; one without a controller concerns
/// whoever might adopt it.
pub fn pod_changed(queue: &WorkQueue<ObjectKey>, sets: &Store<ReplicaSet>, change: &Change<PodView>) {
    for pod in change.old.iter().chain(&change.new) {
        if let Some(owner) = pod.owner.as_ref().filter(|o| o.kind == "ReplicaSet") {
            queue.add(ObjectKey::new(pod.key.namespace.as_str(), owner.name.as_str()), change.trigger());
        }
    }
    let orphan: Option<&Arc<PodView>> = change.new.as_ref().filter(|p| p.owner.is_none() && !p.labels.is_empty());
    let Some(orphan) = orphan else { return };
    for set in sets.in_namespace(&orphan.key.namespace) {
        if crate::ownership::selects(set.spec.selector.as_deref(), &orphan.labels) {
            queue.add(ObjectKey::of(&set.metadata), change.trigger());
        }
    }
}
