//! What nodes did about an object that is no write: a Pod's containers, a Service's chains.

use jiff::Timestamp;
use serde_json::Value;
use skiff_client::ListOptions;
use skiff_proto::skiffv1::Recorded;

use crate::changes;
use crate::columns::{name, text};
use crate::inspect;
use crate::session::Session;

/// Where every component shows what it did.
const PATH: &str = "/debug/effects";

/// What one node did.
pub struct OnNode {
    /// The node.
    pub name: String,
    /// The effects as the component tells them, the oldest first.
    pub effects: Vec<Value>,
}

/// What nodes did about an object, and who could not be asked.
pub async fn of(session: &Session, write: &Recorded) -> (Vec<OnNode>, Vec<String>) {
    let object = changes::json(write);
    let (component, nodes) = match text(&object, "/kind").as_str() {
        "Pod" => ("kubelet", vec![text(&object, "/spec/nodeName")]),
        "Service" => match nodes(session).await {
            Ok(nodes) => ("proxy", nodes),
            Err(error) => return (vec![], vec![format!("which nodes there are cannot be read: {error:#}")]),
        },
        _ => return (vec![], vec![]),
    };
    let (mut found, mut notices) = (vec![], vec![]);
    for node in nodes.into_iter().filter(|node| !node.is_empty()) {
        match inspect::get(session, component, &node, PATH).await {
            Ok(text) => {
                let effects: Vec<Value> = parse(&text).into_iter().filter(|effect| is_about(effect, &object)).collect();
                if !effects.is_empty() {
                    found.push(OnNode { name: node, effects });
                }
            }
            Err(error) => notices.push(format!("what {node} did cannot be read: {error:#}")),
        }
    }
    (found, notices)
}

async fn nodes(session: &Session) -> anyhow::Result<Vec<String>> {
    let nodes = session.resource("", "nodes").await?;
    let list = session.api(&nodes, false).list("", &ListOptions::default()).await?;
    Ok(list.items.iter().map(name).collect())
}

fn parse(text: &str) -> Vec<Value> {
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// A kubelet knows its Pods by uid; a proxy knows Services by name.
fn is_about(effect: &Value, object: &Value) -> bool {
    let named = |field: &str| effect["object"][field].as_str().unwrap_or_default();
    let meta = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
    let same_name = named("namespace") == meta("namespace") && named("name") == meta("name");
    match object["kind"].as_str() {
        Some("Pod") => named("resource") == "pods" && named("uid") == meta("uid"),
        Some("Service") => named("resource") == "services" && same_name,
        _ => false,
    }
}

/// When an effect was.
pub fn time(effect: &Value) -> Option<Timestamp> {
    effect["at"].as_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn effects_belong_to_the_object_that_they_name() {
        let pod = json!({"kind": "Pod", "metadata": {"namespace": "a", "name": "p", "uid": "1"}});
        let service = json!({"kind": "Service", "metadata": {"namespace": "a", "name": "p", "uid": "1"}});
        let effect = |resource: &str, namespace: &str, uid: &str| json!({"object": {"resource": resource, "namespace": namespace, "name": "p", "uid": uid}});
        for (effect, object, expected) in [
            (effect("pods", "a", "1"), &pod, true),
            (effect("pods", "a", "2"), &pod, false),
            (effect("services", "a", ""), &service, true),
            (effect("services", "b", ""), &service, false),
            (effect("services", "a", ""), &pod, false),
            (json!({}), &pod, false),
        ] {
            assert_eq!(is_about(&effect, object), expected, "{effect}");
        }
        assert_eq!(parse("{\"id\":1}\nhalf a li").len(), 1);
    }
}
