//! What keeps a rollout from getting on: that it is paused, or a Pod, and why.

use serde_json::Value;
use skiff_client::ListOptions;

use super::{revision, revisions};
use crate::columns::{self, list, name, number, pod_status, text};
use crate::session::Session;

/// `: it is paused; ...`, or `: pod/x: ImagePullBackOff: ...` for a Pod of the newest ReplicaSet that is not ready;
/// nothing if nothing can be found.
pub async fn hindrance(session: &Session, deployment: &Value) -> String {
    if deployment.pointer("/spec/paused") == Some(&Value::Bool(true)) {
        let name = name(deployment);
        return format!(": it is paused; `skiffctl rollout resume deployment/{name}` lets it go on");
    }
    match find(session, deployment).await {
        Ok(Some(why)) => format!(": {why}"),
        Ok(None) | Err(_) => String::new(),
    }
}

async fn find(session: &Session, deployment: &Value) -> anyhow::Result<Option<String>> {
    let sets = revisions(session, deployment).await?;
    let newest = sets.iter().max_by_key(|s| revision(s));
    let Some(newest) = newest else { return Ok(None) };
    let selector = columns::selector(newest.pointer("/spec/selector"));
    let pods = session.resource("", "pods").await?;
    let found = session.api(&pods, false).list(session.namespace(), &ListOptions::labels(selector)).await?.items;
    if found.is_empty() {
        // Then it is the ReplicaSet that cannot make any.
        let failure = list(newest, "/status/conditions").iter().find(|c| text(c, "/type") == "ReplicaFailure");
        return Ok(failure.map(|c| format!("replicaset/{}: {}", name(newest), text(c, "/message"))));
    }
    Ok(worst(&found)
        .map(|pod| format!("pod/{}: {}; see `skiffctl describe pod/{}`", name(pod), reason(pod), name(pod))))
}

/// A Pod that is not ready; one that says why before one that only waits.
fn worst(pods: &[Value]) -> Option<&Value> {
    let is_ready = |pod: &&Value| {
        list(pod, "/status/conditions").iter().any(|c| text(c, "/type") == "Ready" && text(c, "/status") == "True")
    };
    let says_why = |pod: &&Value| !message(pod).is_empty();
    pods.iter().filter(|p| !is_ready(p)).max_by_key(says_why)
}

/// Its status as `get` shows it, and what it says about it.
fn reason(pod: &Value) -> String {
    match (pod_status(pod), message(pod)) {
        (status, message) if message.is_empty() => status,
        (status, message) => format!("{status}: {message}"),
    }
}

fn message(pod: &Value) -> String {
    for status in ["/status/initContainerStatuses", "/status/containerStatuses"] {
        for container in list(pod, status) {
            let waiting = text(container, "/state/waiting/message");
            if !waiting.is_empty() {
                return waiting;
            }
            for end in ["/state/terminated", "/lastState/terminated"] {
                let code = number(container, &format!("{end}/exitCode"));
                if code != 0 {
                    return format!("container {} ended with exit code {code}", text(container, "/name"));
                }
            }
        }
    }
    let conditions = list(pod, "/status/conditions");
    let mut unmet = conditions.iter().filter(|c| text(c, "/status") == "False").map(|c| text(c, "/message"));
    unmet.find(|m| !m.is_empty()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_pod_that_says_why_is_named() {
        let ready =
            json!({"metadata": {"name": "ready"}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}});
        let starting = json!({"metadata": {"name": "starting"}, "status": {"phase": "Pending"}});
        let pulling = json!({"metadata": {"name": "pulling"}, "status": {"phase": "Pending", "containerStatuses": [
            {"name": "c", "state": {"waiting": {"reason": "ErrImagePull", "message": "no such image: x"}}},
        ]}});
        let crashing = json!({"metadata": {"name": "crashing"}, "status": {"phase": "Running", "containerStatuses": [
            {"name": "c", "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": {"terminated": {"exitCode": 3}}},
        ]}});
        let unplaced = json!({"metadata": {"name": "unplaced"}, "status": {"phase": "Pending", "conditions": [
            {"type": "PodScheduled", "status": "False", "message": "0/1 nodes are available"},
        ]}});
        assert_eq!(worst(std::slice::from_ref(&ready)), None);
        let all = [starting.clone(), pulling.clone(), ready];
        assert_eq!(worst(&all), Some(&pulling));
        for (pod, expected) in [
            (pulling, "ErrImagePull: no such image: x"),
            (crashing, "CrashLoopBackOff: container c ended with exit code 3"),
            (unplaced, "Pending: 0/1 nodes are available"),
            (starting, "Pending"),
        ] {
            assert_eq!(reason(&pod), expected);
        }
    }
}
