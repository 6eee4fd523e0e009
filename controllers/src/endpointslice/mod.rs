//! EndpointSlices: which pods are behind a Service, and which of them are ready.
//!
//! `observe` reads the caches, `plan` decides and packs, `act` writes.

mod act;
mod observe;
pub mod plan;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use skiff_client::driver::{Plan, Reconciler};
use skiff_client::{ActError, Change, Client, ObjectKey, Store, WorkQueue};
use skiff_proto::corev1::Service;
use skiff_proto::discoveryv1::EndpointSlice;

use crate::caches::{Caches, SELECTOR, label_values};
use crate::nodes::NodeView;
use crate::pods::PodView;
use plan::{Action, MANAGED_BY, MANAGER, Observed, SERVICE_NAME};

/// Keeps the EndpointSlices of every Service with a selector.
pub struct Controller {
    caches: Caches,
    client: Client,
}

impl Controller {
    /// Reads these caches and writes through this client.
    pub fn new(caches: Caches, client: Client) -> Controller {
        Controller { caches, client }
    }
}

impl Reconciler for Controller {
    type Key = ObjectKey;
    type Observed = Observed;
    type Action = Action;
    const NAME: &'static str = "endpointslice";

    fn observe(&self, key: &ObjectKey) -> Option<Observed> {
        Some(self.look(key))
    }

    fn plan(&self, observed: &Observed, _: jiff::Timestamp) -> Plan<Action> {
        plan::plan(observed)
    }

    async fn act(&self, key: &ObjectKey, action: &Action) -> Result<(), ActError> {
        self.execute(key, action).await
    }
}

/// A Service changed.
pub fn service_changed(queue: &WorkQueue<ObjectKey>, change: &Change<Service>) {
    queue.add(change.key(), change.trigger());
}

/// A slice that we made changed: by us, or by somebody who should not.
pub fn slice_changed(queue: &WorkQueue<ObjectKey>, change: &Change<EndpointSlice>) {
    for slice in change.old.iter().chain(&change.new) {
        if let Some(key) = service_of(slice) {
            queue.add(key, change.trigger());
        }
    }
}

/// A pod changed: it concerns the Services that select it, before or now.
pub fn pod_changed(queue: &WorkQueue<ObjectKey>, services: &Store<Service>, change: &Change<PodView>) {
    let mut keys = BTreeSet::new();
    for pod in change.old.iter().chain(&change.new) {
        for value in label_values(&pod.key.namespace, &pod.labels) {
            for service in services.by_index(SELECTOR, &value) {
                if service.spec.selector.iter().all(|(k, v)| pod.labels.get(k) == Some(v)) {
                    keys.insert(ObjectKey::of(&service.metadata));
                }
            }
        }
    }
    for key in keys {
        queue.add(key, change.trigger());
    }
}

/// A node is in another zone now: that concerns the slices that name it.
pub fn node_changed(queue: &WorkQueue<ObjectKey>, slices: &Store<EndpointSlice>, change: &Change<NodeView>) {
    let zone = |node: &Option<std::sync::Arc<NodeView>>| node.as_ref().map(|n| n.zone.clone()).unwrap_or_default();
    if zone(&change.old) == zone(&change.new) {
        return;
    }
    for slice in slices.list() {
        if slice.endpoints.iter().any(|e| e.node_name.as_ref() == Some(&change.object.name))
            && let Some(key) = service_of(&slice)
        {
            queue.add(key, change.trigger());
        }
    }
}

/// The Service that we made a slice for.
pub fn service_of(slice: &EndpointSlice) -> Option<ObjectKey> {
    let labels = &slice.metadata.labels;
    let ours = labels.get(MANAGED_BY).is_some_and(|m| m == MANAGER);
    let name = labels.get(SERVICE_NAME).filter(|_| ours)?;
    Some(ObjectKey::new(slice.metadata.namespace.as_str(), name.as_str()))
}
