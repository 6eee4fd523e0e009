//! Deployments: from one template to the next without losing the service, and back if need be.
//!
//! `observe` reads the caches, `plan` decides (with `rolling` and `scale` for the arithmetic,
//! `revisions` for hashes and history, `status` for what it says about itself), `act` writes.

mod act;
mod changes;
mod observe;
pub mod plan;
pub mod revisions;
mod rolling;
pub mod rollout;
mod scale;
mod status;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Mutex;

use skiff_client::driver::{Plan, Reconciler};
use skiff_client::{ActError, Change, Client, EventRecorder, ObjectKey, Store, WorkQueue};
use skiff_proto::appsv1::{Deployment, ReplicaSet};
use skiff_proto::corev1::ResourceQuota;
use skiff_proto::quota::concerns;

use crate::caches::Caches;
use crate::ownership::{Owner, selects};
use crate::pods::PodView;
use crate::resourcequota::makes_room;
use plan::{Action, Observed};

/// Rolls out every Deployment.
pub struct Controller {
    caches: Caches,
    client: Client,
    events: EventRecorder,
    /// Why a ReplicaSet could not be created, until one could.
    failures: Mutex<BTreeMap<ObjectKey, String>>,
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
    const NAME: &'static str = "deployment";

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

/// A Deployment changed.
pub fn deployment_changed(queue: &WorkQueue<ObjectKey>, change: &Change<Deployment>) {
    queue.add(change.key(), change.trigger());
}

/// A quota has room for ReplicaSets again: that concerns whoever could not create one.
pub fn quota_changed(queue: &WorkQueue<ObjectKey>, deployments: &Store<Deployment>, change: &Change<ResourceQuota>) {
    if !makes_room(change) || !concerns(change.latest(), "apps", "replicasets") {
        return;
    }
    for deployment in deployments.in_namespace(&change.object.namespace) {
        queue.add(ObjectKey::of(&deployment.metadata), change.trigger());
    }
}

/// A ReplicaSet changed: it concerns its Deployment, before and now, or whoever might adopt it.
pub fn set_changed(queue: &WorkQueue<ObjectKey>, deployments: &Store<Deployment>, change: &Change<ReplicaSet>) {
    for set in change.old.iter().chain(&change.new) {
        if let Some(owner) = Owner::of(&set.metadata).filter(|o| o.kind == "Deployment") {
            queue.add(ObjectKey::new(set.metadata.namespace.as_str(), owner.name), change.trigger());
        }
    }
    let Some(orphan) = change.new.as_ref().filter(|s| Owner::of(&s.metadata).is_none()) else { return };
    for deployment in deployments.in_namespace(&orphan.metadata.namespace) {
        if selects(deployment.spec.selector.as_deref(), &orphan.metadata.labels) {
            queue.add(ObjectKey::of(&deployment.metadata), change.trigger());
        }
    }
}

/// A pod is gone, or ended: with strategy Recreate that is what the Deployment waits for.
pub fn pod_changed(queue: &WorkQueue<ObjectKey>, sets: &Store<ReplicaSet>, change: &Change<PodView>) {
    let was_there = change.old.as_ref().filter(|p| !p.is_finished());
    let is_there = change.new.as_ref().is_some_and(|p| !p.is_finished());
    let Some(pod) = was_there.filter(|_| !is_there) else { return };
    let set = pod.owner.as_ref().and_then(|o| sets.get(&ObjectKey::new(pod.key.namespace.as_str(), o.name.as_str())));
    if let Some(owner) = set.and_then(|set| Owner::of(&set.metadata)).filter(|o| o.kind == "Deployment") {
        queue.add(ObjectKey::new(pod.key.namespace.as_str(), owner.name), change.trigger());
    }
}
