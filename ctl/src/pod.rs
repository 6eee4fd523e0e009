//! Which Pod and which of its containers a word means.

use anyhow::{Result, bail};
use serde_json::Value;
use skiff_client::ListOptions;

use crate::columns::{list, name, text};
use crate::session::Session;
use crate::target;

/// Says which container is meant when nobody does.
const DEFAULT_CONTAINER: &str = "/metadata/annotations/kubectl.kubernetes.io~1default-container";

/// The Pod that is meant: itself, or the first one that a workload or Service selects.
pub async fn pod_of(session: &Session, what: &str) -> Result<String> {
    let Some((_, object_name)) = what.split_once('/') else { return Ok(what.to_owned()) };
    let (resource, _) = target::parse_one(session, &[what.to_owned()]).await?;
    if resource.kind == "Pod" {
        return Ok(object_name.to_owned());
    }
    let object = session.api(&resource, false).get(session.namespace(), object_name).await?;
    let selector = match resource.kind.as_str() {
        "Service" => crate::columns::labels(object.pointer("/spec/selector")),
        _ => crate::columns::selector(object.pointer("/spec/selector")),
    };
    if selector.is_empty() {
        bail!("{what} selects no Pods: name a Pod");
    }
    let pods = session.resource("", "pods").await?;
    let mut found = session.api(&pods, false).list(session.namespace(), &ListOptions::labels(selector)).await?.items;
    // A running one first, then the oldest.
    found.sort_by_key(|p| (text(p, "/status/phase") != "Running", text(p, "/metadata/creationTimestamp")));
    let Some(first) = found.first() else { bail!("{what} has no Pods") };
    if found.len() > 1 {
        eprintln!("Found {} pods, using pod/{}", found.len(), name(first));
    }
    Ok(name(first))
}

/// The container that is meant: the one asked for, or the Pod's default one, which is said where there
/// is a choice.
pub async fn container_of(session: &Session, namespace: &str, pod: &str, asked: Option<String>) -> Result<String> {
    if let Some(asked) = asked {
        return Ok(asked);
    }
    let pods = session.resource("", "pods").await?;
    let pod = session.api(&pods, false).get(namespace, pod).await?;
    let all = containers(&pod);
    let default = default(&pod);
    if all.len() > 1 {
        eprintln!("Defaulted container {default:?} out of: {}", all.join(", "));
    }
    Ok(default)
}

/// The container that the Pod names as its default, or the first.
pub fn default(pod: &Value) -> String {
    match (text(pod, DEFAULT_CONTAINER), list(pod, "/spec/containers").first()) {
        (annotated, _) if !annotated.is_empty() => annotated,
        (_, Some(first)) => text(first, "/name"),
        (_, None) => String::new(),
    }
}

/// The names of all containers, those that prepare marked as such.
fn containers(pod: &Value) -> Vec<String> {
    let init = list(pod, "/spec/initContainers").iter().map(|c| format!("{} (init)", text(c, "/name")));
    list(pod, "/spec/containers").iter().map(|c| text(c, "/name")).chain(init).collect()
}

/// The names of the containers that run, without those that prepare.
pub fn running(pod: &Value) -> Vec<String> {
    list(pod, "/spec/containers").iter().map(|c| text(c, "/name")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_default_container_is_annotated_or_first() {
        let mut pod = json!({"metadata": {"annotations": {}}, "spec": {
            "containers": [{"name": "a"}, {"name": "b"}], "initContainers": [{"name": "i"}],
        }});
        assert_eq!(default(&pod), "a");
        assert_eq!(containers(&pod), ["a", "b", "i (init)"]);
        assert_eq!(running(&pod), ["a", "b"]);
        pod["metadata"]["annotations"]["kubectl.kubernetes.io/default-container"] = json!("b");
        assert_eq!(default(&pod), "b");
    }
}
