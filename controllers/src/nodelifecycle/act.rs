//! Writes what was planned about a node.

use serde_json::json;
use skiff_client::{ActError, Api, DeleteOptions, Error, ObjectKey, Patch};
use skiff_proto::Time;
use skiff_proto::corev1::{Node, ObjectReference, Pod};

use super::Controller;
use super::plan::{Action, Target};

impl Controller {
    pub(super) async fn execute(&self, key: &ObjectKey, action: &Action) -> Result<(), ActError> {
        let now = Time::from(self.world.wall()).to_string();
        match action {
            Action::MarkUnknown(conditions) => {
                let conditions: Vec<_> = conditions
                    .iter()
                    .map(|kind| {
                        json!({
                            "type": kind, "status": "Unknown", "reason": "NodeStatusUnknown",
                            "message": "Kubelet stopped posting node status.", "lastTransitionTime": now,
                        })
                    })
                    .collect();
                let patch = Patch::Strategic(json!({ "status": { "conditions": conditions } }));
                let node = Api::<Node>::new(&self.client).patch_status("", &key.name, patch).await?;
                let message = format!("Node {} status is now: NodeNotReady", key.name);
                self.events.record(&skiff_client::events::reference(&node), "Normal", "NodeNotReady", &message);
                Ok(())
            }
            Action::SetTaints { taints, revision } => {
                let taints: Vec<_> = taints
                    .iter()
                    .map(|t| {
                        let mut taint = json!({ "key": t.key, "effect": t.effect });
                        if !t.value.is_empty() {
                            taint["value"] = t.value.as_str().into();
                        }
                        if t.added > 0 {
                            taint["timeAdded"] = Time::from_unix(t.added).to_string().into();
                        }
                        taint
                    })
                    .collect();
                let patch = json!({
                    "metadata": { "resourceVersion": revision.to_string() }, "spec": { "taints": taints },
                });
                Api::<Node>::new(&self.client).patch("", &key.name, Patch::Merge(patch), None).await?;
                Ok(())
            }
            Action::MarkPodNotReady(pod) => {
                let condition = json!({
                    "type": "Ready", "status": "False", "reason": "NodeNotReady",
                    "message": format!("node {} has stopped reporting", key.name), "lastTransitionTime": now,
                });
                let patch = json!({ "metadata": { "uid": pod.uid }, "status": { "conditions": [condition] } });
                let api = Api::<Pod>::new(&self.client);
                gone_is_fine(api.patch_status(&pod.key.namespace, &pod.key.name, Patch::Strategic(patch)).await)?;
                self.tell(pod, "Warning", "NodeNotReady", "Node is not ready");
                Ok(())
            }
            Action::Evict(pod) => {
                self.tell(pod, "Normal", "TaintManagerEviction", &format!("Marking for deletion Pod {}", pod.key));
                self.delete(pod, None).await
            }
            Action::Remove(pod) => self.delete(pod, Some(0)).await,
            Action::RemoveOrphan(pod) => {
                // A cache that is behind must not cost a pod that runs.
                if Api::<Node>::new(&self.client).get_opt("", &key.name).await?.is_some() {
                    return Err(ActError::Changed(format!("node {} exists after all", key.name)));
                }
                self.delete(pod, Some(0)).await
            }
        }
    }

    async fn delete(&self, pod: &Target, grace: Option<i64>) -> Result<(), ActError> {
        let options = DeleteOptions { uid: pod.uid.clone(), grace_period_seconds: grace, ..DeleteOptions::default() };
        gone_is_fine(Api::<Pod>::new(&self.client).delete(&pod.key.namespace, &pod.key.name, &options).await)
    }

    fn tell(&self, pod: &Target, kind: &str, reason: &str, message: &str) {
        let about = ObjectReference {
            api_version: "v1".into(),
            kind: "Pod".into(),
            namespace: pod.key.namespace.clone(),
            name: pod.key.name.clone(),
            uid: pod.uid.clone(),
            ..ObjectReference::default()
        };
        self.events.record(&about, kind, reason, message);
    }
}

/// The pod is gone, or another one has its name: then there is nothing left to do.
fn gone_is_fine<T>(result: Result<T, Error>) -> Result<(), ActError> {
    match result {
        Err(error) if !error.is_not_found() && !error.is_conflict() => Err(error.into()),
        _ => Ok(()),
    }
}
