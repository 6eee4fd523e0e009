//! Writes a Pod's status: a patch of the fields that the kubelet owns, for the Pod of this uid and no other.

use serde_json::{Map, Value, json};
use skiff_client::{ActError, Patch, Trigger, cause, revision_of};
use skiff_proto::corev1::PodStatus;

use super::Pods;
use crate::lifecycle::PodKey;

/// While the API server cannot be reached, containers come first; the status is tried again after so long.
const RETRY: std::time::Duration = std::time::Duration::from_secs(2);

/// The fields of the status that are the kubelet's. Conditions are merged by type, so those of others stay.
const OWN: [&str; 14] = [
    "observedGeneration",
    "phase",
    "conditions",
    "message",
    "reason",
    "hostIP",
    "hostIPs",
    "podIP",
    "podIPs",
    "startTime",
    "initContainerStatuses",
    "containerStatuses",
    "ephemeralContainerStatuses",
    "qosClass",
];
/// The conditions that are the kubelet's.
const CONDITIONS: [&str; 5] = ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"];

impl Pods {
    pub(super) async fn publish(&self, key: &PodKey, status: &PodStatus) -> Result<(), ActError> {
        let before = self.published(key);
        self.tell_waiting(key, &before, status);
        let patch = patch(&key.uid, &before, status);
        // The record keeps what was written: the Pod's care must not wait until it comes back through the informer,
        // which may be long if the API server goes away right now.
        let write = self.api.patch_status(&key.namespace, &key.name, Patch::Strategic(patch));
        let told = self.with(key, |record| record.untold.clone());
        match cause::unawaited(cause::reporting(told.clone(), write)).await {
            Ok(pod) => {
                let (now, wall) = (self.shared.world.now(), self.shared.world.wall());
                let created = pod.metadata.creation_timestamp.as_ref().map_or(wall, |time| time.timestamp());
                let start = self.with(key, |record| record.start.published(status, created, now, wall));
                self.shared.metrics.told(&start);
                self.with(key, |record| {
                    record.written = Some((revision_of(&pod.metadata), pod.status));
                    record.untold.retain(|id| !told.contains(id));
                });
                Ok(())
            }
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) if error.is_unreachable() => {
                tracing::warn!(pod = %key, %error, "cannot publish the status; trying again");
                let why = Trigger::Timer("the status could not be written".into());
                self.queue.add_after(key.clone(), why, RETRY);
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    fn published(&self, key: &PodKey) -> PodStatus {
        let written = self.with(key, |record| record.written.clone());
        let pod = self.pod(key);
        match (pod, written) {
            (Some(pod), Some((revision, status))) if revision_of(&pod.metadata) < revision => status,
            (Some(pod), _) => pod.status.clone(),
            (None, written) => written.map(|(_, status)| status).unwrap_or_default(),
        }
    }

    /// Events for containers that have begun to wait for something that will not pass by itself.
    fn tell_waiting(&self, key: &PodKey, before: &PodStatus, now: &PodStatus) {
        let waits = |status: &PodStatus| -> Vec<(String, String, String)> {
            let all = status.init_container_statuses.iter().chain(&status.container_statuses);
            all.chain(&status.ephemeral_container_statuses)
                .filter_map(|c| {
                    let waiting = c.state.waiting.as_ref()?;
                    Some((c.name.clone(), waiting.reason.clone(), waiting.message.clone()))
                })
                .collect()
        };
        let old = waits(before);
        for (name, reason, message) in waits(now) {
            if old.iter().any(|(n, r, _)| *n == name && *r == reason) {
                continue;
            }
            let event = match reason.as_str() {
                "CrashLoopBackOff" => {
                    format!("Back-off restarting failed container {name} in pod {key}")
                }
                "ImagePullBackOff" => message,
                "ErrImageNeverPull" => message,
                _ => continue,
            };
            let kind = if reason == "ErrImageNeverPull" { "ErrImageNeverPull" } else { "BackOff" };
            self.shared.events.warning(&self.reference(key), kind, &event);
        }
    }
}

/// A strategic merge patch from one status to the other.
fn patch(uid: &str, before: &PodStatus, status: &PodStatus) -> Value {
    let tree = |status: &PodStatus| -> Map<String, Value> {
        // What the crate encodes is a JSON object.
        serde_json::from_slice(&skiff_proto::json::encode(status)).unwrap_or_default()
    };
    let (old, mut new) = (tree(before), tree(status));
    let mut fields = Map::new();
    for field in OWN {
        match (old.get(field), new.remove(field)) {
            (before, Some(after)) if before == Some(&after) => {}
            (_, Some(after)) => {
                fields.insert(field.to_string(), owned(field, old.get(field), after));
            }
            (Some(_), None) => {
                fields.insert(field.to_string(), Value::Null);
            }
            (None, None) => {}
        }
    }
    json!({ "metadata": { "uid": uid }, "status": fields })
}

fn owned(field: &str, before: Option<&Value>, value: Value) -> Value {
    match (field, value) {
        ("conditions", Value::Array(all)) => {
            let before = before.and_then(Value::as_array);
            let own = |condition: &Value| condition["type"].as_str().is_some_and(|kind| CONDITIONS.contains(&kind));
            let changed = |condition: &Value| !before.is_some_and(|before| before.contains(condition));
            Value::Array(all.into_iter().filter(|c| own(c) && changed(c)).map(whole).collect())
        }
        // These merge by address: without this, an old one would stay beside the new.
        ("podIPs" | "hostIPs", Value::Array(mut all)) => {
            all.insert(0, json!({ "$patch": "replace" }));
            Value::Array(all)
        }
        (_, value) => value,
    }
}

/// A condition that leaves nothing of its predecessor: they merge by type, so a reason that is no longer given would stay.
fn whole(mut condition: Value) -> Value {
    if let Value::Object(fields) = &mut condition {
        for field in ["reason", "message", "lastProbeTime"] {
            fields.entry(field).or_insert(Value::Null);
        }
    }
    condition
}

#[cfg(test)]
mod tests {
    use super::*;
    use skiff_proto::corev1::{ContainerStatus, PodCondition, PodIp};

    fn condition(kind: &str, status: &str) -> PodCondition {
        PodCondition { r#type: kind.into(), status: status.into(), ..PodCondition::default() }
    }

    /// What the kubelet works out and does not write, nobody ever sees.
    #[test]
    fn containers_of_every_role_are_told_of() {
        let one = |name: &str| vec![ContainerStatus { name: name.into(), ..ContainerStatus::default() }];
        let after = PodStatus {
            init_container_statuses: one("init"),
            container_statuses: one("app"),
            ephemeral_container_statuses: one("look"),
            ..PodStatus::default()
        };
        let patch = patch("u1", &PodStatus::default(), &after);
        for (field, name) in
            [("initContainerStatuses", "init"), ("containerStatuses", "app"), ("ephemeralContainerStatuses", "look")]
        {
            assert_eq!(patch["status"][field][0]["name"], name, "{patch}");
        }
    }

    #[test]
    fn only_what_changed_and_only_our_own() {
        let before = PodStatus {
            phase: "Pending".into(),
            reason: "x".into(),
            nominated_node_name: "n".into(),
            conditions: vec![condition("Ready", "False"), condition("example.com/gate", "True")],
            ..PodStatus::default()
        };
        let after = PodStatus {
            phase: "Running".into(),
            reason: String::new(),
            pod_ips: vec![PodIp { ip: "10.0.0.1".into() }],
            conditions: vec![condition("Ready", "True"), condition("example.com/gate", "True")],
            ..before.clone()
        };
        let patch = patch("u1", &before, &after);
        assert_eq!(patch["metadata"]["uid"], "u1");
        let status = patch["status"].as_object().expect("an object");
        assert_eq!(status["phase"], "Running");
        assert_eq!(status["reason"], Value::Null);
        assert_eq!(status["podIPs"], json!([{ "$patch": "replace" }, { "ip": "10.0.0.1" }]));
        let types: Vec<_> = status["conditions"].as_array().expect("a list").iter().map(|c| &c["type"]).collect();
        assert_eq!(types, ["Ready"]);
        // A reason from before does not outlive what it explained.
        assert_eq!(status["conditions"][0].get("reason"), Some(&Value::Null));
        assert_eq!(status["conditions"][0].get("message"), Some(&Value::Null));
        assert!(!status.contains_key("nominatedNodeName"));
        assert!(super::patch("u1", &after, &after)["status"].as_object().expect("an object").is_empty());
    }
}
