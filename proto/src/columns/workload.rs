//! The columns of Deployments and ReplicaSets.

use jiff::Timestamp;
use serde_json::Value;

use super::{created, list, name, number, text};

/// The cells of one Deployment.
pub fn deployment(o: &Value, now: Timestamp) -> Vec<String> {
    let mut cells = vec![
        name(o),
        format!("{}/{}", number(o, "/status/readyReplicas"), number(o, "/spec/replicas")),
        number(o, "/status/updatedReplicas").to_string(),
        number(o, "/status/availableReplicas").to_string(),
        created(o, now),
    ];
    cells.extend(template(o));
    cells
}

/// The cells of one ReplicaSet.
pub fn replica_set(o: &Value, now: Timestamp) -> Vec<String> {
    let mut cells = vec![
        name(o),
        number(o, "/spec/replicas").to_string(),
        number(o, "/status/replicas").to_string(),
        number(o, "/status/readyReplicas").to_string(),
        created(o, now),
    ];
    cells.extend(template(o));
    cells
}

fn template(o: &Value) -> [String; 3] {
    let containers = list(o, "/spec/template/spec/containers");
    let joined = |pointer: &str| containers.iter().map(|c| text(c, pointer)).collect::<Vec<_>>().join(",");
    [joined("/name"), joined("/image"), selector(o.pointer("/spec/selector"))]
}

/// A label selector as one would write it after `-l`.
pub fn selector(selector: Option<&Value>) -> String {
    let Some(selector) = selector else { return String::new() };
    let mut parts = vec![super::labels(selector.get("matchLabels"))];
    for e in list(selector, "/matchExpressions") {
        let key = text(e, "/key");
        let values = list(e, "/values").iter().filter_map(Value::as_str).collect::<Vec<_>>().join(",");
        parts.push(match text(e, "/operator").as_str() {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "DoesNotExist" => format!("!{key}"),
            _ => key,
        });
    }
    parts.retain(|p| !p.is_empty());
    parts.join(",")
}
