//! Writes what was counted for a budget.

use serde_json::{Map, Value, json};
use skiff_client::{ActError, Api, ObjectKey, Patch};
use skiff_proto::policyv1::PodDisruptionBudget;

use super::Controller;
use super::plan::Action;

impl Controller {
    pub(super) async fn execute(&self, key: &ObjectKey, action: &Action) -> Result<(), ActError> {
        let Action::WriteStatus { status, seen, onto } = action;
        // A merge patch leaves alone what it does not name: those that are seen going are named, with nothing.
        let mut let_go: Map<String, Value> = seen.iter().map(|name| (name.clone(), Value::Null)).collect();
        let_go.extend(status.disrupted_pods.iter().map(|(name, at)| (name.clone(), json!(at.to_string()))));
        let conditions: Vec<Value> = status
            .conditions
            .iter()
            .map(|c| {
                json!({
                    "type": c.r#type, "status": c.status, "reason": c.reason, "message": c.message,
                    "observedGeneration": c.observed_generation,
                    "lastTransitionTime": c.last_transition_time.as_ref().map(ToString::to_string),
                })
            })
            .collect();
        let patch = json!({
            "metadata": { "resourceVersion": onto },
            "status": {
                "observedGeneration": status.observed_generation,
                "disruptedPods": let_go,
                "disruptionsAllowed": status.disruptions_allowed,
                "currentHealthy": status.current_healthy,
                "desiredHealthy": status.desired_healthy,
                "expectedPods": status.expected_pods,
                "conditions": conditions,
            },
        });
        match Api::<PodDisruptionBudget>::new(&self.client)
            .patch_status(&key.namespace, &key.name, Patch::Merge(patch))
            .await
        {
            // It was deleted meanwhile: nobody is left to be told.
            Err(error) if !error.is_not_found() => Err(error.into()),
            _ => Ok(()),
        }
    }
}
