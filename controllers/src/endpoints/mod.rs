//! Endpoints: what the EndpointSlices of a Service say, in one object of the Service's name, for those who read no slices.
//!
//! Nothing here looks at Pods: who is behind a Service is decided once, in `endpointslice`.

mod act;
pub mod plan;
#[cfg(test)]
mod tests;

use skiff_client::driver::{Plan, Reconciler};
use skiff_client::{ActError, Change, Client, ObjectKey, WorkQueue};
use skiff_proto::corev1::{Endpoints, Service};
use skiff_proto::discoveryv1::EndpointSlice;

use crate::caches::{Caches, SERVICE};
use crate::endpointslice::service_of;
use plan::{Action, Observed};

/// Keeps the Endpoints of every Service with a selector.
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
    const NAME: &'static str = "endpoints";

    fn observe(&self, key: &ObjectKey) -> Option<Observed> {
        Some(Observed {
            service: self.caches.services.get(key),
            slices: self.caches.slices.by_index(SERVICE, &key.to_string()),
            endpoints: self.caches.endpoints.get(key),
        })
    }

    fn plan(&self, observed: &Observed, _: jiff::Timestamp) -> Plan<Action> {
        plan::plan(observed)
    }

    async fn act(&self, key: &ObjectKey, action: &Action) -> Result<(), ActError> {
        self.execute(key, action).await
    }
}

/// A Service changed: its labels, or it is gone.
pub fn service_changed(queue: &WorkQueue<ObjectKey>, change: &Change<Service>) {
    queue.add(change.key(), change.trigger());
}

/// A slice of a Service changed.
pub fn slice_changed(queue: &WorkQueue<ObjectKey>, change: &Change<EndpointSlice>) {
    for slice in change.old.iter().chain(&change.new) {
        if let Some(key) = service_of(slice) {
            queue.add(key, change.trigger());
        }
    }
}

/// Endpoints changed: by us, or by somebody who should not.
pub fn endpoints_changed(queue: &WorkQueue<ObjectKey>, change: &Change<Endpoints>) {
    queue.add(change.key(), change.trigger());
}
