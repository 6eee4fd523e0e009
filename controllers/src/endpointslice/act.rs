//! Writes what was planned for a Service's slices.

use serde_json::{Map, Value, json};
use skiff_client::{ActError, Api, DeleteOptions, ObjectKey, Patch};
use skiff_proto::discoveryv1::{Endpoint, EndpointSlice};

use super::Controller;
use super::plan::Action;

impl Controller {
    pub(super) async fn execute(&self, key: &ObjectKey, action: &Action) -> Result<(), ActError> {
        let api = Api::<EndpointSlice>::new(&self.client);
        match action {
            Action::Create(slice) => {
                api.create(slice).await?;
            }
            Action::Update { slice, dropped } => {
                let meta = &slice.metadata;
                let mut labels: Map<String, Value> = dropped.iter().map(|l| (l.clone(), Value::Null)).collect();
                labels.extend(meta.labels.iter().map(|(label, value)| (label.clone(), json!(value))));
                let endpoints: Vec<Value> = slice.endpoints.iter().map(endpoint_json).collect();
                let patch = json!({
                    "metadata": { "uid": meta.uid, "resourceVersion": meta.resource_version, "labels": labels },
                    "endpoints": endpoints,
                });
                api.patch(&key.namespace, &meta.name, Patch::Merge(patch), None).await?;
            }
            Action::Delete { name, uid } => {
                let options = DeleteOptions { uid: uid.clone(), ..DeleteOptions::default() };
                match api.delete(&key.namespace, name, &options).await {
                    Err(error) if !error.is_not_found() && !error.is_conflict() => return Err(error.into()),
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

fn endpoint_json(endpoint: &Endpoint) -> Value {
    let conditions = &endpoint.conditions;
    let target = endpoint
        .target_ref
        .as_ref()
        .map(|t| json!({ "kind": t.kind, "namespace": t.namespace, "name": t.name, "uid": t.uid }));
    let mut value = json!({
        "addresses": endpoint.addresses,
        "conditions": {
            "ready": conditions.ready, "serving": conditions.serving, "terminating": conditions.terminating,
        },
        "hostname": endpoint.hostname,
        "targetRef": target,
        "nodeName": endpoint.node_name,
        "zone": endpoint.zone,
    });
    // Null means "absent" in a patch, and inside a list there is nothing to take away.
    if let Some(fields) = value.as_object_mut() {
        fields.retain(|_, v| !v.is_null());
    }
    value
}
