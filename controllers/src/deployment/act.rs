//! Writes what was planned for a Deployment.

use std::sync::PoisonError;

use serde_json::{Value, json};
use skiff_client::{ActError, Api, DeleteOptions, ObjectKey, Patch};
use skiff_proto::appsv1::{Deployment, DeploymentStatus, ReplicaSet};

use super::Controller;
use super::changes::Change;
use super::plan::{Action, Target};
use super::revisions::REVISION;
use crate::ownership::{adoption, controller_reference, release};
use skiff_client::events::reference;

impl Controller {
    pub(super) async fn execute(&self, key: &ObjectKey, action: &Action) -> Result<(), ActError> {
        let Some(deployment) = self.caches.deployments.get(key) else { return Ok(()) };
        match action {
            Action::Adopt(set) => self.adopt(&deployment, set).await,
            Action::Release(set) => {
                self.patch_set(key, &set.name, Patch::Strategic(release(&set.uid, &deployment.metadata.uid))).await
            }
            Action::Create(set) => self.create(key, &deployment, set).await,
            Action::Change(change) => self.change(key, &deployment, change).await,
            Action::SetRevision(revision) => {
                let patch = json!({ "metadata": { "annotations": { (REVISION): revision.to_string() } } });
                let api = Api::<Deployment>::new(&self.client);
                api.patch(&key.namespace, &key.name, Patch::Merge(patch), None).await?;
                Ok(())
            }
            Action::Delete(set) => self.delete(key, set).await,
            Action::WriteStatus(status) => self.patch_status(key, status_json(status)).await,
        }
    }

    /// Asks the API server itself first: a cache that is behind must not give ReplicaSets to what is gone.
    async fn adopt(&self, deployment: &Deployment, set: &Target) -> Result<(), ActError> {
        let meta = &deployment.metadata;
        let live = Api::<Deployment>::new(&self.client).get(&meta.namespace, &meta.name).await?;
        if live.metadata.uid != meta.uid || live.metadata.deletion_timestamp.is_some() {
            return Err(ActError::Changed(format!("deployment {} is another one, or being deleted", meta.name)));
        }
        let owner = controller_reference("apps/v1", "Deployment", meta);
        let patch = Patch::Strategic(adoption(&set.uid, &owner));
        self.patch_set(&ObjectKey::of(meta), &set.name, patch).await
    }

    async fn create(&self, key: &ObjectKey, deployment: &Deployment, set: &ReplicaSet) -> Result<(), ActError> {
        let result = Api::<ReplicaSet>::new(&self.client).create(set).await;
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        match result {
            Ok(_) => {
                failures.remove(key);
                drop(failures);
                let (name, size) = (&set.metadata.name, set.spec.replicas.unwrap_or(0));
                self.tell(deployment, &format!("Scaled up replica set {name} from 0 to {size}"));
                Ok(())
            }
            Err(error) => {
                // The name is taken: once the cache shows by whom, the next plan knows what to do.
                if !error.is_already_exists() && !error.is_unreachable() {
                    let message = format!("Failed to create new replica set \"{}\": {error}", set.metadata.name);
                    self.events.record(&reference(deployment), "Warning", "ReplicaSetCreateError", &message);
                    failures.insert(key.clone(), message);
                }
                Err(error.into())
            }
        }
    }

    async fn change(&self, key: &ObjectKey, deployment: &Deployment, change: &Change) -> Result<(), ActError> {
        let mut spec = serde_json::Map::new();
        if let Some((_, to)) = change.replicas {
            spec.insert("replicas".into(), to.into());
        }
        if let Some(seconds) = change.min_ready_seconds {
            spec.insert("minReadySeconds".into(), seconds.into());
        }
        let set = &change.set;
        let patch = json!({
            "metadata": { "uid": set.uid, "resourceVersion": set.resource_version, "annotations": change.annotations },
            "spec": spec,
        });
        self.patch_set(key, &set.name, Patch::Merge(patch)).await?;
        if let Some((from, to)) = change.replicas {
            let direction = if to > from { "up" } else { "down" };
            self.tell(deployment, &format!("Scaled {direction} replica set {} from {from} to {to}", set.name));
        }
        Ok(())
    }

    async fn delete(&self, key: &ObjectKey, set: &Target) -> Result<(), ActError> {
        let options = DeleteOptions {
            uid: set.uid.clone(),
            resource_version: set.resource_version.clone(),
            ..DeleteOptions::default()
        };
        match Api::<ReplicaSet>::new(&self.client).delete(&key.namespace, &set.name, &options).await {
            Err(error) if !error.is_not_found() => Err(error.into()),
            _ => Ok(()),
        }
    }

    async fn patch_set(&self, key: &ObjectKey, name: &str, patch: Patch) -> Result<(), ActError> {
        Api::<ReplicaSet>::new(&self.client).patch(&key.namespace, name, patch, None).await?;
        Ok(())
    }

    async fn patch_status(&self, key: &ObjectKey, status: Value) -> Result<(), ActError> {
        let patch = Patch::Merge(json!({ "status": status }));
        match Api::<Deployment>::new(&self.client).patch_status(&key.namespace, &key.name, patch).await {
            // It was deleted meanwhile: nobody is left to be told.
            Err(error) if !error.is_not_found() => Err(error.into()),
            _ => Ok(()),
        }
    }

    fn tell(&self, deployment: &Deployment, message: &str) {
        self.events.record(&reference(deployment), "Normal", "ScalingReplicaSet", message);
    }
}

/// With every zero written out: a merge patch leaves alone what it does not name.
fn status_json(status: &DeploymentStatus) -> Value {
    let conditions: Vec<_> = status
        .conditions
        .iter()
        .map(|c| {
            json!({
                "type": c.r#type, "status": c.status, "reason": c.reason, "message": c.message,
                "lastUpdateTime": c.last_update_time.as_ref().map(ToString::to_string),
                "lastTransitionTime": c.last_transition_time.as_ref().map(ToString::to_string),
            })
        })
        .collect();
    json!({
        "observedGeneration": status.observed_generation,
        "replicas": status.replicas,
        "updatedReplicas": status.updated_replicas,
        "readyReplicas": status.ready_replicas,
        "availableReplicas": status.available_replicas,
        "unavailableReplicas": status.unavailable_replicas,
        "terminatingReplicas": status.terminating_replicas,
        "collisionCount": status.collision_count,
        "conditions": conditions,
    })
}
