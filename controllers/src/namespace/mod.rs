//! Namespaces: empties those that are being deleted.

mod conditions;
pub mod plan;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures::future::join_all;
use prost::Message;
use serde_json::json;
use skiff_client::driver::{Plan, Reconciler};
use skiff_client::{
    ActError, Api, Change, Client, DeleteOptions, DynamicApi, Error, ListOptions, ObjectKey, PROTOBUF, Patch, Resource,
    Store, WorkQueue, WriteOptions,
};
use skiff_proto::corev1::{Namespace, NamespaceCondition};

use crate::caches::Caches;
use crate::inventory::{Inventory, Item, MetaView};
use plan::{Action, FINALIZER, Observed};

/// Empties namespaces.
pub struct Controller {
    caches: Caches,
    inventory: Arc<Inventory>,
    client: Client,
    /// Why an object could not be deleted, until one could.
    failures: Mutex<BTreeMap<ObjectKey, String>>,
}

/// So many objects are deleted at once.
const AT_ONCE: usize = 50;

impl Controller {
    /// Reads these caches and writes through this client.
    pub fn new(caches: Caches, inventory: Arc<Inventory>, client: Client) -> Controller {
        Controller { caches, inventory, client, failures: Mutex::default() }
    }

    /// Asks the server itself, resource by resource: what is not in our caches yet must not be left behind.
    async fn finalize(&self, key: &ObjectKey) -> Result<(), ActError> {
        let Some(namespace) = self.caches.namespaces.get(key) else { return Ok(()) };
        // Resources may have been added since we last asked which there are.
        self.inventory.discover().await?;
        for resource in self.inventory.namespaced() {
            let api = DynamicApi::of(&self.client, resource.clone());
            let options = ListOptions { limit: 1, ..ListOptions::default() };
            let found = match api.list(&key.name, &options).await {
                // The kind itself has gone meanwhile.
                Err(error) if error.is_not_found() => continue,
                found => found?.items,
            };
            if !found.is_empty() {
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

    async fn delete(&self, key: &ObjectKey, item: &Item) -> Result<(), ActError> {
        let options =
            DeleteOptions { propagation_policy: "Background".into(), ..DeleteOptions::of_uid(item.meta.uid.as_str()) };
        let api = DynamicApi::of(&self.client, item.id.resource.clone());
        let result = gone_is_fine(api.delete(&item.id.key.namespace, &item.id.key.name, &options).await);
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        match &result {
            Ok(()) => {
                failures.remove(key);
            }
            // That the API server cannot be reached says nothing about the object.
            Err(error) if error.is_unreachable() => {}
            Err(error) => {
                failures.insert(key.clone(), format!("{}: {error}", item.id));
            }
        }
        result.map_err(ActError::from)
    }

    /// Nothing new is made in a namespace that is being deleted, so what is listed is all.
    async fn clear(&self, key: &ObjectKey, resource: &Resource) -> Result<(), ActError> {
        let api = DynamicApi::of(&self.client, resource.clone());
        let objects = api.list(&key.name, &ListOptions::default()).await?.items;
        let names: Vec<&str> = objects.iter().filter_map(|object| object["metadata"]["name"].as_str()).collect();
        let options = DeleteOptions::default();
        let delete = async |name: &&str| gone_is_fine(api.delete(&key.name, name, &options).await);
        for some in names.chunks(AT_ONCE) {
            join_all(some.iter().map(delete)).await.into_iter().collect::<Result<(), Error>>()?;
        }
        Ok(())
    }

    async fn write_conditions(&self, key: &ObjectKey, conditions: &[NamespaceCondition]) -> Result<(), ActError> {
        let conditions: Vec<_> = conditions
            .iter()
            .map(|c| {
                json!({
                    "type": c.r#type, "status": c.status, "reason": c.reason, "message": c.message,
                    "lastTransitionTime": c.last_transition_time.as_ref().map(ToString::to_string),
                })
            })
            .collect();
        let patch = Patch::Strategic(json!({ "status": { "conditions": conditions } }));
        Ok(gone_is_fine(Api::<Namespace>::new(&self.client).patch_status("", &key.name, patch).await)?)
    }
}

/// What is gone, or has been made anew since, is deleted.
fn gone_is_fine<T>(result: Result<T, Error>) -> Result<(), Error> {
    match result {
        Err(error) if !error.is_not_found() && !error.is_conflict() => Err(error),
        _ => Ok(()),
    }
}

impl Reconciler for Controller {
    type Key = ObjectKey;
    type Observed = Observed;
    type Action = Action;
    const NAME: &'static str = "namespace";

    fn observe(&self, key: &ObjectKey) -> Option<Observed> {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(namespace) = self.caches.namespaces.get(key) else {
            failures.remove(key);
            return None;
        };
        let failure = failures.get(key).cloned();
        drop(failures);
        let deleting = namespace.metadata.deletion_timestamp.is_some();
        let contents = if deleting { self.inventory.in_namespace(&key.name) } else { Vec::new() };
        Some(Observed { namespace, contents, unseen: self.inventory.left_out(), failure })
    }

    fn plan(&self, observed: &Observed, now: jiff::Timestamp) -> Plan<Action> {
        plan::plan(observed, now)
    }

    async fn act(&self, key: &ObjectKey, action: &Action) -> Result<(), ActError> {
        match action {
            Action::Finalize => self.finalize(key).await,
            Action::Delete(item) => self.delete(key, item).await,
            Action::Clear(resource) => self.clear(key, resource).await,
            Action::WriteConditions(conditions) => self.write_conditions(key, conditions).await,
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
