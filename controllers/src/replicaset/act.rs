//! Writes what was planned for a ReplicaSet.

use std::sync::PoisonError;

use futures::future::join_all;
use serde_json::json;
use skiff_client::{ActError, Api, DeleteOptions, Error, ObjectKey, Patch};
use skiff_proto::appsv1::{ReplicaSet, ReplicaSetStatus};
use skiff_proto::corev1::{ObjectReference, Pod};
use skiff_proto::metav1::ObjectMeta;

use super::Controller;
use super::plan::{Action, Failure, Target};
use crate::ownership::{adoption, controller_reference, release};
use skiff_client::events::reference;

impl Controller {
    pub(super) async fn execute(&self, key: &ObjectKey, action: &Action) -> Result<(), ActError> {
        let Some(set) = self.caches.replica_sets.get(key) else { return Ok(()) };
        match action {
            Action::Adopt(pod) => self.adopt(&set, pod).await,
            Action::Release(pod) => self.release(&set, pod).await,
            Action::Create(count) => self.create(&set, *count).await,
            Action::Delete(pods) => self.delete(&set, pods).await,
            Action::WriteStatus(status) => self.write_status(key, status).await,
        }
    }

    /// Before taking a pod, asks the API server itself whether this ReplicaSet still exists: a cache that is
    /// behind must not give pods to one that is gone.
    async fn adopt(&self, set: &ReplicaSet, pod: &Target) -> Result<(), ActError> {
        let live = Api::<ReplicaSet>::new(&self.client).get(&set.metadata.namespace, &set.metadata.name).await?;
        if live.metadata.uid != set.metadata.uid || live.metadata.deletion_timestamp.is_some() {
            return Err(ActError::Changed(format!(
                "replica set {} is another one, or being deleted",
                set.metadata.name
            )));
        }
        let owner = controller_reference("apps/v1", "ReplicaSet", &set.metadata);
        let patch = Patch::Strategic(adoption(&pod.uid, &owner));
        Api::<Pod>::new(&self.client).patch(&pod.key.namespace, &pod.key.name, patch, None).await?;
        Ok(())
    }

    async fn release(&self, set: &ReplicaSet, pod: &Target) -> Result<(), ActError> {
        let patch = Patch::Strategic(release(&pod.uid, &set.metadata.uid));
        match Api::<Pod>::new(&self.client).patch(&pod.key.namespace, &pod.key.name, patch, None).await {
            Err(error) if !error.is_not_found() => Err(error.into()),
            _ => Ok(()),
        }
    }

    async fn create(&self, set: &ReplicaSet, count: usize) -> Result<(), ActError> {
        let (api, pod, about) = (Api::<Pod>::new(&self.client), pod_of(set), reference(set));
        let results = join_all((0..count).map(|_| api.create(&pod))).await;
        self.conclude(set, &about, "Create", "creating", results, |pod| format!("Created pod: {}", pod.metadata.name))
    }

    async fn delete(&self, set: &ReplicaSet, pods: &[Target]) -> Result<(), ActError> {
        let (api, about) = (Api::<Pod>::new(&self.client), reference(set));
        let delete = async |pod: &Target| {
            let options = DeleteOptions { uid: pod.uid.clone(), ..DeleteOptions::default() };
            match api.delete(&pod.key.namespace, &pod.key.name, &options).await {
                // Gone, or gone and made again: either way it is not there any more.
                Err(error) if error.is_not_found() || error.is_conflict() => Ok(None),
                Err(error) => Err(error),
                Ok(_) => Ok(Some(pod.key.name.clone())),
            }
        };
        let results = join_all(pods.iter().map(delete)).await;
        self.conclude(set, &about, "Delete", "deleting", results, |name| match name {
            Some(name) => format!("Deleted pod: {name}"),
            None => String::new(),
        })
    }

    /// Tells of each that succeeded; remembers and tells of the first that failed.
    fn conclude<T>(
        &self,
        set: &ReplicaSet,
        about: &ObjectReference,
        verb: &str,
        doing: &str,
        results: Vec<Result<T, Error>>,
        message: impl Fn(&T) -> String,
    ) -> Result<(), ActError> {
        let mut failed = None;
        for result in results {
            match result {
                Ok(done) => {
                    let message = message(&done);
                    if !message.is_empty() {
                        self.events.record(about, "Normal", &format!("Successful{verb}"), &message);
                    }
                }
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        let key = ObjectKey::of(&set.metadata);
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(error) = failed else {
            failures.remove(&key);
            return Ok(());
        };
        // That the API server cannot be reached says nothing about the ReplicaSet.
        if !error.is_unreachable() {
            let reason = format!("Failed{verb}");
            self.events.record(about, "Warning", &reason, &format!("Error {doing}: {error}"));
            failures.insert(key, Failure { reason, message: error.to_string() });
        }
        Err(error.into())
    }

    async fn write_status(&self, key: &ObjectKey, status: &ReplicaSetStatus) -> Result<(), ActError> {
        let patch = Patch::Merge(json!({ "status": status_json(status) }));
        match Api::<ReplicaSet>::new(&self.client).patch_status(&key.namespace, &key.name, patch).await {
            // It was deleted meanwhile: nobody is left to be told.
            Err(error) if !error.is_not_found() => Err(error.into()),
            _ => Ok(()),
        }
    }
}

/// A pod of the template. The server gives it its name.
fn pod_of(set: &ReplicaSet) -> Pod {
    let template = &set.spec.template;
    Pod {
        metadata: ObjectMeta {
            generate_name: format!("{}-", set.metadata.name),
            namespace: set.metadata.namespace.clone(),
            labels: template.metadata.labels.clone(),
            annotations: template.metadata.annotations.clone(),
            finalizers: template.metadata.finalizers.clone(),
            owner_references: vec![controller_reference("apps/v1", "ReplicaSet", &set.metadata)],
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        ..Pod::default()
    }
}

/// With every zero written out: a merge patch leaves alone what it does not name.
fn status_json(status: &ReplicaSetStatus) -> serde_json::Value {
    let conditions: Vec<_> = status
        .conditions
        .iter()
        .map(|c| {
            json!({
                "type": c.r#type, "status": c.status, "reason": c.reason, "message": c.message,
                "lastTransitionTime": c.last_transition_time.as_ref().map(ToString::to_string),
            })
        })
        .collect();
    json!({
        "replicas": status.replicas,
        "fullyLabeledReplicas": status.fully_labeled_replicas,
        "readyReplicas": status.ready_replicas,
        "availableReplicas": status.available_replicas,
        "terminatingReplicas": status.terminating_replicas,
        "observedGeneration": status.observed_generation,
        "conditions": conditions,
    })
}
