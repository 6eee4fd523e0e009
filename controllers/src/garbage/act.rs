//! Writes what was planned about garbage, after asking the server whether it really is.

use serde_json::{Value, json};
use skiff_client::{ActError, DeleteOptions, DynamicApi, Error, ListOptions, PROTOBUF, Patch};
use skiff_proto::metav1::PartialObjectMetadata;

use super::Controller;
use super::plan::{Action, FOREGROUND, ORPHAN};
use crate::inventory::{Item, OwnerView};
use crate::ownership::release;

impl Controller {
    pub(super) async fn execute(&self, action: &Action) -> Result<(), ActError> {
        match action {
            Action::Collect { item, owners } => {
                self.confirm_gone(item, owners).await?;
                self.delete(item, own_policy(item)).await
            }
            Action::Forget { item, owners } => {
                self.confirm_gone(item, owners).await?;
                for owner in owners {
                    self.release(item, &owner.uid).await?;
                }
                Ok(())
            }
            Action::DeleteDependent { item, others, first_its_own } => {
                self.confirm_gone(item, others).await?;
                self.delete(item, if *first_its_own { "Foreground" } else { own_policy(item) }).await
            }
            Action::Orphan { dependent, owner } => self.release(dependent, owner).await,
            Action::RemoveFinalizer { item, finalizer } => {
                if *finalizer == ORPHAN {
                    self.confirm_free(item).await?;
                }
                let left: Vec<&String> = item.meta.finalizers.iter().filter(|f| f != finalizer).collect();
                let left: Value = json!(left);
                let patch = json!({
                    "metadata": { "resourceVersion": item.revision.to_string(), "finalizers": left },
                });
                self.patch(item, Patch::Merge(patch)).await
            }
        }
    }

    /// Asks the server for each owner by name: it is gone if there is none, or one with another uid.
    async fn confirm_gone(&self, item: &Item, owners: &[OwnerView]) -> Result<(), ActError> {
        for owner in owners {
            let Some(resource) = self.inventory.resource(&owner.api_version, &owner.kind) else {
                return Err(ActError::Failed(format!(
                    "{}: its owner {} {:?} is of a kind that the API server does not know, so nobody can tell whether it is gone",
                    item.id, owner.kind, owner.name
                )));
            };
            let namespace = if resource.namespaced { item.id.key.namespace.as_str() } else { "" };
            if resource.namespaced && namespace.is_empty() {
                return Err(ActError::Failed(format!(
                    "{}: its owner {} {:?} is of a kind that lives in namespaces, so nobody can tell whether it is gone",
                    item.id, owner.kind, owner.name
                )));
            }
            match self.client.get(&resource, namespace, &owner.name, "", PROTOBUF, true).await {
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error.into()),
                Ok(reply) => {
                    let live = decode(&reply.object)?;
                    if live.metadata.uid == owner.uid {
                        return Err(ActError::Changed(format!("{} {} exists after all", owner.kind, owner.name)));
                    }
                }
            }
        }
        Ok(())
    }

    /// Asks the server whether anything still names the object as an owner: what the inventory does not show yet would
    /// be collected once the object is gone, though it was to stay.
    async fn confirm_free(&self, item: &Item) -> Result<(), ActError> {
        let namespace = &item.id.key.namespace;
        for resource in self.inventory.resources() {
            if !resource.namespaced && !namespace.is_empty() {
                continue;
            }
            let api = DynamicApi::of(&self.client, resource.clone());
            let objects = api.list(namespace, &ListOptions::default()).await?.items;
            let owns = |owner: &Value| owner["uid"] == item.meta.uid.as_str();
            let owners = |object: &Value| object["metadata"]["ownerReferences"].as_array().cloned().unwrap_or_default();
            if let Some(object) = objects.iter().find(|object| owners(object).iter().any(owns)) {
                let name = &object["metadata"]["name"];
                return Err(ActError::Changed(format!("{resource} {name} still names {} as an owner", item.id)));
            }
        }
        Ok(())
    }

    async fn delete(&self, item: &Item, propagation: &str) -> Result<(), ActError> {
        let options = DeleteOptions {
            uid: item.meta.uid.clone(),
            resource_version: item.revision.to_string(),
            propagation_policy: propagation.into(),
            ..DeleteOptions::default()
        };
        let api = DynamicApi::of(&self.client, item.id.resource.clone());
        match api.delete(&item.id.key.namespace, &item.id.key.name, &options).await {
            Err(error) if !error.is_not_found() => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Takes an owner off an object. A custom resource merges no lists: it gets the list without the owner, as it was read.
    async fn release(&self, item: &Item, owner: &str) -> Result<(), ActError> {
        let api = DynamicApi::of(&self.client, item.id.resource.clone());
        let (namespace, name) = (&item.id.key.namespace, &item.id.key.name);
        let merged = api.patch(namespace, name, Patch::Strategic(release(&item.meta.uid, owner)), None).await;
        match merged {
            Err(error) if error.reason() == "UnsupportedMediaType" => {}
            Err(error) if !error.is_not_found() => return Err(error.into()),
            _ => return Ok(()),
        }
        let Some(object) = api.get_opt(namespace, name).await? else { return Ok(()) };
        if object["metadata"]["uid"] != item.meta.uid.as_str() {
            return Ok(());
        }
        let owners = object["metadata"]["ownerReferences"].as_array().cloned().unwrap_or_default();
        let left: Vec<Value> = owners.into_iter().filter(|o| o["uid"] != owner).collect();
        let revision = &object["metadata"]["resourceVersion"];
        let patch = json!({"metadata": {"resourceVersion": revision, "ownerReferences": left}});
        self.patch(item, Patch::Merge(patch)).await
    }

    async fn patch(&self, item: &Item, patch: Patch) -> Result<(), ActError> {
        let api = DynamicApi::of(&self.client, item.id.resource.clone());
        match api.patch(&item.id.key.namespace, &item.id.key.name, patch, None).await {
            Err(error) if !error.is_not_found() => Err(error.into()),
            _ => Ok(()),
        }
    }
}

/// How an object goes that nobody waits for: as its own finalizers ask for its dependents, else they follow it.
fn own_policy(item: &Item) -> &'static str {
    let asks = |finalizer: &str| item.meta.finalizers.iter().any(|f| f == finalizer);
    match () {
        () if asks(ORPHAN) => "Orphan",
        () if asks(FOREGROUND) => "Foreground",
        () => "Background",
    }
}

fn decode(bytes: &[u8]) -> Result<PartialObjectMetadata, Error> {
    let object: Result<PartialObjectMetadata, _> = prost::Message::decode(bytes);
    object.map_err(|error| Error::Decode { operation: "get an owner".into(), reason: error.to_string() })
}
