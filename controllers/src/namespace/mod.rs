//! Namespaces: empties those that are being deleted.

pub mod plan;

use std::sync::Arc;

use prost::Message;
use skiff_client::driver::{Plan, Reconciler};
use skiff_client::{
    ActError, Change, Client, DeleteOptions, DynamicApi, ListOptions, ObjectKey, PROTOBUF, Resource, Store, WorkQueue,
    WriteOptions,
};
use skiff_proto::corev1::Namespace;

use crate::caches::Caches;
use crate::inventory::{Inventory, MetaView};
use plan::{Action, FINALIZER, Observed};

/// Empties namespaces.
pub struct Controller {
    caches: Caches,
    inventory: Arc<Inventory>,
    client: Client,
}

impl Controller {
    /// Reads these caches and writes through this client.
    pub fn new(caches: Caches, inventory: Arc<Inventory>, client: Client) -> Controller {
        Controller { caches, inventory, client }
    }

    /// Asks the server itself, resource by resource: what is not in our caches yet must not be left behind.
    async fn finalize(&self, key: &ObjectKey) -> Result<(), ActError> {
        let Some(namespace) = self.caches.namespaces.get(key) else { return Ok(()) };
        for resource in self.inventory.namespaced() {
            let api = DynamicApi::of(&self.client, resource.clone());
            let options = ListOptions { limit: 1, ..ListOptions::default() };
            if !api.list(&key.name, &options).await?.items.is_empty() {
                return Err(ActError::Changed(format!("there are {resource} left in namespace {}", key.name)));
            }
        }
        let mut wanted = (*namespace).clone();
        wanted.spec.finalizers.retain(|f| f != FINALIZER);
        let resource = Resource::of::<Namespace>();
        let body = wanted.encode_to_vec();
        let written =
            self.client.update(&resource, "", &key.name, "finalize", body, PROTOBUF, &WriteOptions::default()).await;
        match written {
            Err(error) if !error.is_not_found() => Err(error.into()),
            _ => Ok(()),
        }
    }
}

impl Reconciler for Controller {
    type Key = ObjectKey;
    type Observed = Observed;
    type Action = Action;
    const NAME: &'static str = "namespace";

    fn observe(&self, key: &ObjectKey) -> Option<Observed> {
        let namespace = self.caches.namespaces.get(key)?;
        let deleting = namespace.metadata.deletion_timestamp.is_some();
        let contents = if deleting { self.inventory.in_namespace(&key.name) } else { Vec::new() };
        Some(Observed { namespace, contents })
    }

    fn plan(&self, observed: &Observed, _: jiff::Timestamp) -> Plan<Action> {
        plan::plan(observed)
    }

    async fn act(&self, key: &ObjectKey, action: &Action) -> Result<(), ActError> {
        match action {
            Action::Finalize => self.finalize(key).await,
            Action::Delete(item) => {
                let options = DeleteOptions {
                    propagation_policy: "Background".into(),
                    ..DeleteOptions::of_uid(item.meta.uid.as_str())
                };
                let api = DynamicApi::of(&self.client, item.id.resource.clone());
                match api.delete(&item.id.key.namespace, &item.id.key.name, &options).await {
                    Err(error) if !error.is_not_found() && !error.is_conflict() => Err(error.into()),
                    _ => Ok(()),
                }
            }
        }
    }
}

/// A namespace changed.
pub fn namespace_changed(queue: &WorkQueue<ObjectKey>, change: &Change<Namespace>) {
    if change.new.as_ref().is_some_and(|n| n.metadata.deletion_timestamp.is_some()) {
        queue.add(change.key(), change.trigger());
    }
}

/// Something in a namespace changed: that matters if the namespace is being deleted.
pub fn object_changed(queue: &WorkQueue<ObjectKey>, namespaces: &Store<Namespace>, change: &Change<MetaView>) {
    let key = ObjectKey::new("", change.object.namespace.as_str());
    if !key.name.is_empty() && namespaces.get(&key).is_some_and(|n| n.metadata.deletion_timestamp.is_some()) {
        queue.add(key, change.trigger());
    }
}
