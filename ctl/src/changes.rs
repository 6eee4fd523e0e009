//! Writes as people read them: what a write did to an object, who did it, and when.

use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use serde_json::Value;
use skiff_client::Error;
use skiff_proto::skiffv1::{Cause, ChangesReply, ChangesRequest, Recorded, ResourceInfo, ResourceRef};

use crate::columns::{name, text};
use crate::session::Session;

/// So many fields are named in one line.
const NAMED: usize = 3;
/// As much of a value is shown.
const VALUE: usize = 40;
/// Fields that follow from every write and say nothing.
const SILENT: [&str; 5] = [
    "metadata.resourceVersion",
    "metadata.managedFields",
    "metadata.generation",
    "status.observedGeneration",
    "metadata.annotations.kubectl.kubernetes.io/last-applied-configuration",
];

/// The last `limit` writes of an object up to a revision (0: the latest), oldest first; 0: as many as there are.
pub async fn fetch(
    session: &Session,
    resource: &ResourceInfo,
    name: &str,
    up_to: u64,
    limit: u32,
) -> Result<ChangesReply, Error> {
    let reference = ResourceRef {
        group: resource.group.clone(),
        version: resource.version.clone(),
        resource: resource.resource.clone(),
        namespace: if resource.namespaced { session.namespace().to_owned() } else { String::new() },
        name: name.to_owned(),
        subresource: String::new(),
    };
    let request = ChangesRequest { r#ref: Some(reference), uid: String::new(), up_to, limit };
    session.client().changes(request).await
}

/// The object as it was at a revision; an error where it was gone by then.
pub async fn at(session: &Session, resource: &ResourceInfo, name: &str, revision: u64) -> Result<Value> {
    let reply = fetch(session, resource, name, revision, 1).await;
    let reply = reply.with_context(|| match revision {
        0 => format!("read {} {name:?}", resource.resource),
        _ => format!("read {} {name:?} as it was at revision {revision}", resource.resource),
    })?;
    for notice in &reply.notices {
        eprintln!("Warning: {notice}");
    }
    match reply.changes.last() {
        Some(gone) if gone.deleted => {
            bail!("{} {name:?} was deleted at revision {}", resource.resource, revision_of(gone))
        }
        Some(change) => Ok(json(change)),
        None => bail!("nothing is held of {} {name:?} at revision {revision}", resource.resource),
    }
}

/// The object of a write.
pub fn json(write: &Recorded) -> Value {
    serde_json::from_slice(&write.json).unwrap_or_default()
}

/// The revision of a write.
pub fn revision_of(write: &Recorded) -> u64 {
    write.object.as_ref().map_or(0, |object| object.revision)
}

/// When a write was recorded, if that is known.
pub fn time(write: &Recorded) -> Option<Timestamp> {
    (write.at != 0).then(|| Timestamp::from_millisecond(write.at).ok()).flatten()
}

/// `Deployment default/web`.
pub fn called(write: &Recorded) -> String {
    let object = json(write);
    let named = write.object.clone().unwrap_or_default();
    let kind = match text(&object, "/kind") {
        kind if kind.is_empty() => named.resource,
        kind => kind,
    };
    if named.namespace.is_empty() {
        format!("{kind} {}", named.name)
    } else {
        format!("{kind} {}/{}", named.namespace, named.name)
    }
}

/// Who wrote: a controller, a kubelet, or a user with the program that was used.
pub fn who(cause: &Cause) -> String {
    let actor = cause.actor.clone().unwrap_or_default();
    if let Some(node) = actor.user.strip_prefix("system:node:") {
        return format!("kubelet of {node}");
    }
    match (actor.user.as_str(), cause.controller.as_str()) {
        ("system:kube-controller-manager", "") => "the controllers".into(),
        ("system:kube-controller-manager", controller) => format!("{controller} controller"),
        ("system:kube-scheduler", _) => "scheduler".into(),
        ("system:apiserver", _) => "API server".into(),
        ("", _) => "somebody".into(),
        (user, "") if cause.reason.starts_with("skiffctl ") => format!("{user} ({})", cause.reason),
        (user, "") if actor.component.is_empty() => user.into(),
        (user, "") => format!("{user} ({})", actor.component),
        (user, controller) => format!("{user} ({controller})"),
    }
}

/// What a write did, as a verb: `created`, `wrote the status of`, ...
pub fn verb(write: &Recorded) -> &'static str {
    let cause = write.cause.clone().unwrap_or_default();
    match cause.verb.as_str() {
        _ if write.deleted => "deleted",
        "create" => "created",
        "create binding" => "bound",
        "create eviction" => "evicted",
        "delete" => "began to delete",
        "patch scale" | "update scale" => "scaled",
        verb if verb.ends_with(" status") => "wrote the status of",
        "" => "wrote",
        _ => "changed",
    }
}

/// What a write did, in one line.
pub fn summary(before: Option<&Value>, write: &Recorded) -> String {
    let after = json(write);
    if write.deleted {
        return "deleted".into();
    }
    let cause = write.cause.clone().unwrap_or_default();
    let Some(before) = before else {
        return if cause.replaced_revision == 0 { "created".into() } else { format!("{} it", verb(write)) };
    };
    let mut found = vec![];
    compare("", Some(before), Some(&after), &mut found);
    found.retain(|(path, _)| !is_silent(path));
    if after["kind"] == "Secret" {
        for (path, change) in &mut found {
            if path.starts_with("data") || path.starts_with("stringData") {
                *change = "changed".into();
            }
        }
    }
    if found.is_empty() {
        return "nothing but times and counters".into();
    }
    let named: Vec<String> = found.iter().take(NAMED).map(|(path, change)| format!("{path} {change}")).collect();
    match found.len().saturating_sub(NAMED) {
        0 => named.join("; "),
        more => format!("{}; and {more} more", named.join("; ")),
    }
}

/// Whether it is one of the fields that say nothing, or lies in one.
fn is_silent(path: &str) -> bool {
    let lies_in = |rest: &str| rest.is_empty() || rest.starts_with('[');
    path.ends_with("Time") || SILENT.iter().any(|silent| path.strip_prefix(silent).is_some_and(lies_in))
}

/// Every field that differs, by path, with how.
fn compare(path: &str, before: Option<&Value>, after: Option<&Value>, found: &mut Vec<(String, String)>) {
    let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    match (before, after) {
        (Some(a), Some(b)) if a == b => {}
        (Some(Value::Object(a)), Some(Value::Object(b))) => {
            let keys = a.keys().chain(b.keys().filter(|key| !a.contains_key(*key)));
            keys.for_each(|key| compare(&below(key), a.get(key), b.get(key), found));
        }
        (Some(Value::Array(a)), Some(Value::Array(b))) => {
            let (a, b) = (elements(a), elements(b));
            let keys = a.iter().chain(b.iter().filter(|(key, _)| !a.iter().any(|(other, _)| other == key)));
            let keys: Vec<String> = keys.map(|(key, _)| key.clone()).collect();
            let of =
                |all: &[(String, &Value)], key: &str| all.iter().find(|(k, _)| k == key).map(|(_, v)| (*v).clone());
            for key in keys {
                compare(&format!("{path}[{key}]"), of(&a, &key).as_ref(), of(&b, &key).as_ref(), found);
            }
        }
        (None, Some(after)) => found.push((path.to_owned(), format!("= {}", short(after)))),
        (Some(_), None) => found.push((path.to_owned(), "removed".into())),
        (Some(a), Some(b)) => found.push((path.to_owned(), format!("{} -> {}", short(a), short(b)))),
        (None, None) => {}
    }
}

/// The elements of a list by what names them: `name` or `type`, else their place.
fn elements(list: &[Value]) -> Vec<(String, &Value)> {
    let names: Vec<String> = list.iter().map(|value| name_or_type(value).unwrap_or_default()).collect();
    let unique = names.iter().enumerate().all(|(at, name)| !name.is_empty() && !names[..at].contains(name));
    list.iter().enumerate().map(|(at, v)| (if unique { names[at].clone() } else { at.to_string() }, v)).collect()
}

fn name_or_type(value: &Value) -> Option<String> {
    let own = value["name"].as_str().or_else(|| value["type"].as_str()).map(str::to_owned);
    own.or_else(|| Some(name(value)).filter(|name| !name.is_empty()))
}

fn short(value: &Value) -> String {
    let text = match value {
        Value::Object(_) => "{...}".to_owned(),
        Value::Array(list) => format!("[{} elements]", list.len()),
        other => other.to_string(),
    };
    if text.chars().count() <= VALUE { text } else { format!("{}...", text.chars().take(VALUE).collect::<String>()) }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use serde_json::json;
    use skiff_proto::skiffv1::{Actor, ObjectRef};

    /// A write for tests.
    pub fn write(object: Value, revision: u64, at: i64, cause: Cause) -> Recorded {
        let named = ObjectRef {
            namespace: text(&object, "/metadata/namespace"),
            name: name(&object),
            uid: text(&object, "/metadata/uid"),
            revision,
            ..ObjectRef::default()
        };
        Recorded { object: Some(named), at, deleted: false, cause: Some(cause), json: object.to_string().into() }
    }

    #[test]
    fn a_change_is_told_in_one_line() {
        let cause = || Cause { verb: "patch".into(), replaced_revision: 1, ..Cause::default() };
        for (before, after, expected) in [
            (json!({"spec": {"replicas": 1}}), json!({"spec": {"replicas": 3}}), "spec.replicas 1 -> 3"),
            (
                json!({"metadata": {"resourceVersion": "1"}}),
                json!({"metadata": {"resourceVersion": "2"}}),
                "nothing but times and counters",
            ),
            (
                json!({"metadata": {"managedFields": [{"manager": "a", "time": "1"}]}, "spec": {"replicas": 1}}),
                json!({"metadata": {"managedFields": [{"manager": "a", "time": "2"}]}, "spec": {"replicas": 3}}),
                "spec.replicas 1 -> 3",
            ),
            (
                json!({"spec": {"c": [{"name": "a", "image": "x:1"}, {"name": "b"}]}}),
                json!({"spec": {"c": [{"name": "b"}, {"name": "a", "image": "x:2"}]}}),
                "spec.c[a].image \"x:1\" -> \"x:2\"",
            ),
            (
                json!({"kind": "Secret", "data": {"k": "aHVzaA=="}}),
                json!({"kind": "Secret", "data": {"k": "bG91ZA=="}}),
                "data.k changed",
            ),
            (
                json!({"a": 1, "b": 2, "c": [1], "d": 4}),
                json!({"a": 2, "c": [1, 2], "d": 5, "e": {"f": 1}}),
                "a 1 -> 2; b removed; c[1] = 2; and 2 more",
            ),
        ] {
            assert_eq!(summary(Some(&before), &write(after, 2, 0, cause())), expected);
        }
        assert_eq!(summary(None, &write(json!({}), 2, 0, Cause::default())), "created");
        assert_eq!(summary(None, &write(json!({}), 2, 0, cause())), "changed it");
    }

    #[test]
    fn everybody_has_a_name() {
        let cause = |user: &str, component: &str, controller: &str, reason: &str| Cause {
            actor: Some(Actor { user: user.into(), component: component.into(), ..Actor::default() }),
            controller: controller.into(),
            reason: reason.into(),
            ..Cause::default()
        };
        for (cause, expected) in [
            (cause("system:kube-controller-manager", "skiff/0.1", "deployment", "x"), "deployment controller"),
            (cause("system:node:node-1", "skiff/0.1", "pods", "x"), "kubelet of node-1"),
            (cause("system:kube-scheduler", "skiff/0.1", "scheduler", "x"), "scheduler"),
            (cause("admin", "skiffctl/0.1.0", "", "skiffctl apply"), "admin (skiffctl apply)"),
            (cause("alice", "kubectl/v1.33", "", ""), "alice (kubectl/v1.33)"),
            (cause("alice", "", "", ""), "alice"),
            (Cause::default(), "somebody"),
        ] {
            assert_eq!(who(&cause), expected);
        }
    }
}
