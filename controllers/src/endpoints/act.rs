//! Writes what was planned for a Service's Endpoints.

use serde_json::{Map, Value, json};
use skiff_client::{ActError, Api, DeleteOptions, ObjectKey, Patch};
use skiff_proto::corev1::Endpoints;

use super::Controller;
use super::plan::{Action, OVER_CAPACITY};

impl Controller {
    pub(super) async fn execute(&self, key: &ObjectKey, action: &Action) -> Result<(), ActError> {
        let api = Api::<Endpoints>::new(&self.client);
        match action {
            Action::Create(wanted) => {
                api.create(wanted).await?;
            }
            Action::Update { wanted, dropped } => {
                let meta = &wanted.metadata;
                let mut labels: Map<String, Value> = dropped.iter().map(|l| (l.clone(), Value::Null)).collect();
                labels.extend(meta.labels.iter().map(|(label, value)| (label.clone(), json!(value))));
                let patch = json!({
                    "metadata": {
                        "uid": meta.uid,
                        "resourceVersion": meta.resource_version,
                        "labels": labels,
                        "annotations": { OVER_CAPACITY: meta.annotations.get(OVER_CAPACITY) },
                    },
                    "subsets": wanted.subsets,
                });
                api.patch(&key.namespace, &key.name, Patch::Merge(patch), None).await?;
            }
            Action::Delete { uid } => {
                match api.delete(&key.namespace, &key.name, &DeleteOptions::of_uid(uid.as_str())).await {
                    Err(error) if !error.is_not_found() && !error.is_conflict() => return Err(error.into()),
                    _ => {}
                }
            }
        }
        Ok(())
    }
}
