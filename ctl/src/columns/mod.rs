//! How each kind looks in a list: its columns, as kubectl names and fills them.

mod pod;
mod workload;

pub use pod::status as pod_status;
pub use workload::selector;

use jiff::Timestamp;
use serde_json::Value;

use crate::age;
use crate::table::Table;

/// The columns of one kind.
pub struct Columns {
    /// Titles of the ordinary columns, NAME first.
    pub narrow: &'static [&'static str],
    /// Titles of those that `-o wide` adds.
    pub wide: &'static [&'static str],
    /// The cells of one object: narrow, then wide.
    pub cells: fn(&Value, Timestamp) -> Vec<String>,
}

/// The columns of `kind`; for kinds that have none of their own, name and age.
pub fn of(kind: &str) -> Columns {
    let columns = |narrow, wide, cells| Columns { narrow, wide, cells };
    match kind {
        "Pod" => columns(
            &["NAME", "READY", "STATUS", "RESTARTS", "AGE"],
            &["IP", "NODE", "NOMINATED NODE", "READINESS GATES"],
            pod::cells,
        ),
        "Deployment" => columns(
            &["NAME", "READY", "UP-TO-DATE", "AVAILABLE", "AGE"],
            &["CONTAINERS", "IMAGES", "SELECTOR"],
            workload::deployment,
        ),
        "ReplicaSet" => columns(
            &["NAME", "DESIRED", "CURRENT", "READY", "AGE"],
            &["CONTAINERS", "IMAGES", "SELECTOR"],
            workload::replica_set,
        ),
        "Service" => columns(&["NAME", "TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)", "AGE"], &["SELECTOR"], service),
        "Node" => columns(
            &["NAME", "STATUS", "ROLES", "AGE", "VERSION"],
            &["INTERNAL-IP", "EXTERNAL-IP", "OS-IMAGE", "KERNEL-VERSION", "CONTAINER-RUNTIME"],
            node,
        ),
        "Namespace" => {
            columns(&["NAME", "STATUS", "AGE"], &[], |o, now| vec![name(o), text(o, "/status/phase"), created(o, now)])
        }
        "ConfigMap" => columns(&["NAME", "DATA", "AGE"], &[], |o, now| {
            vec![name(o), (count(o, "/data") + count(o, "/binaryData")).to_string(), created(o, now)]
        }),
        "Secret" => columns(&["NAME", "TYPE", "DATA", "AGE"], &[], |o, now| {
            vec![name(o), text(o, "/type"), count(o, "/data").to_string(), created(o, now)]
        }),
        "ServiceAccount" => columns(&["NAME", "SECRETS", "AGE"], &[], |o, now| {
            vec![name(o), count(o, "/secrets").to_string(), created(o, now)]
        }),
        "Lease" => columns(&["NAME", "HOLDER", "AGE"], &[], |o, now| {
            vec![name(o), text(o, "/spec/holderIdentity"), created(o, now)]
        }),
        "EndpointSlice" => columns(&["NAME", "ADDRESSTYPE", "PORTS", "ENDPOINTS", "AGE"], &[], endpoint_slice),
        "PodDisruptionBudget" => {
            columns(&["NAME", "MIN AVAILABLE", "MAX UNAVAILABLE", "ALLOWED DISRUPTIONS", "AGE"], &[], |o, now| {
                let amount = |field: &str| match text(o, field) {
                    unset if unset.is_empty() => "N/A".to_owned(),
                    amount => amount,
                };
                let allowed = number(o, "/status/disruptionsAllowed").to_string();
                vec![name(o), amount("/spec/minAvailable"), amount("/spec/maxUnavailable"), allowed, created(o, now)]
            })
        }
        "Event" => columns(&["LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"], &["COUNT", "NAME"], event),
        _ => columns(&["NAME", "AGE"], &[], |o, now| vec![name(o), created(o, now)]),
    }
}

/// A table of objects of one kind; `prefix` (as `pod/`) is put before each name.
pub fn table(kind: &str, objects: &[Value], options: &TableOptions, now: Timestamp) -> Table {
    let columns = of(kind);
    let mut header: Vec<&str> = vec![];
    if options.namespace {
        header.push("NAMESPACE");
    }
    header.extend(columns.narrow);
    if options.wide {
        header.extend(columns.wide);
    }
    let titles: Vec<String> = options.label_columns.iter().map(|key| label_title(key)).collect();
    header.extend(titles.iter().map(String::as_str));
    if options.labels {
        header.push("LABELS");
    }
    let mut table = Table::new(header);
    for object in objects {
        let mut cells = (columns.cells)(object, now);
        if columns.narrow.first() == Some(&"NAME")
            && let Some(first) = cells.first_mut()
        {
            first.insert_str(0, &options.prefix);
        }
        if !options.wide {
            cells.truncate(columns.narrow.len());
        }
        if options.namespace {
            cells.insert(0, text(object, "/metadata/namespace"));
        }
        let values = object.pointer("/metadata/labels");
        let value = |key: &String| values.and_then(|v| v.get(key)).and_then(Value::as_str).unwrap_or_default();
        cells.extend(options.label_columns.iter().map(|key| value(key).to_owned()));
        if options.labels {
            cells.push(labels(object.pointer("/metadata/labels")));
        }
        table.row(cells);
    }
    table
}

/// `topology.kubernetes.io/zone` is titled ZONE.
fn label_title(key: &str) -> String {
    key.rsplit('/').next().unwrap_or(key).to_uppercase()
}

/// What a table shows beside the columns of its kind.
#[derive(Clone, Debug, Default)]
pub struct TableOptions {
    /// A first column with the namespace.
    pub namespace: bool,
    /// The wide columns.
    pub wide: bool,
    /// A column for each of these labels.
    pub label_columns: Vec<String>,
    /// A last column with the labels.
    pub labels: bool,
    /// Put before names: `pod/`.
    pub prefix: String,
}

/// The string at a JSON pointer, or nothing.
pub fn text(object: &Value, pointer: &str) -> String {
    match object.pointer(pointer) {
        Some(Value::String(s)) => s.clone(),
        Some(Value::Number(n)) => n.to_string(),
        Some(Value::Bool(b)) => b.to_string(),
        _ => String::new(),
    }
}

/// The number at a JSON pointer, or 0.
pub fn number(object: &Value, pointer: &str) -> i64 {
    object.pointer(pointer).and_then(Value::as_i64).unwrap_or(0)
}

/// The list at a JSON pointer, or an empty one.
pub fn list<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    object.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The object's name.
pub fn name(object: &Value) -> String {
    text(object, "/metadata/name")
}

/// `k=v,k2=v2`.
pub fn labels(map: Option<&Value>) -> String {
    let Some(map) = map.and_then(Value::as_object) else { return String::new() };
    let pairs: Vec<String> = map.iter().map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or_default())).collect();
    pairs.join(",")
}

fn created(object: &Value, now: Timestamp) -> String {
    age::since(object.pointer("/metadata/creationTimestamp"), now)
}

fn count(object: &Value, pointer: &str) -> usize {
    match object.pointer(pointer) {
        Some(Value::Object(map)) => map.len(),
        Some(Value::Array(list)) => list.len(),
        _ => 0,
    }
}

fn service(o: &Value, now: Timestamp) -> Vec<String> {
    let ports: Vec<String> = list(o, "/spec/ports")
        .iter()
        .map(|p| {
            let protocol = match text(p, "/protocol") {
                t if t.is_empty() => "TCP".to_owned(),
                t => t,
            };
            match number(p, "/nodePort") {
                0 => format!("{}/{protocol}", number(p, "/port")),
                node => format!("{}:{node}/{protocol}", number(p, "/port")),
            }
        })
        .collect();
    vec![
        name(o),
        text(o, "/spec/type"),
        text(o, "/spec/clusterIP"),
        list(o, "/spec/externalIPs").iter().filter_map(Value::as_str).collect::<Vec<_>>().join(","),
        ports.join(","),
        created(o, now),
        labels(o.pointer("/spec/selector")),
    ]
}

fn node(o: &Value, now: Timestamp) -> Vec<String> {
    let ready = list(o, "/status/conditions").iter().find(|c| text(c, "/type") == "Ready");
    let mut status = match ready.map(|c| text(c, "/status")).as_deref() {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    }
    .to_owned();
    if o.pointer("/spec/unschedulable") == Some(&Value::Bool(true)) {
        status.push_str(",SchedulingDisabled");
    }
    let roles: Vec<&str> = o
        .pointer("/metadata/labels")
        .and_then(Value::as_object)
        .map(|l| l.keys().filter_map(|k| k.strip_prefix("node-role.kubernetes.io/")).collect())
        .unwrap_or_default();
    let address = |kind: &str| {
        list(o, "/status/addresses")
            .iter()
            .find(|a| text(a, "/type") == kind)
            .map(|a| text(a, "/address"))
            .unwrap_or_default()
    };
    vec![
        name(o),
        status,
        roles.join(","),
        created(o, now),
        text(o, "/status/nodeInfo/kubeletVersion"),
        address("InternalIP"),
        address("ExternalIP"),
        text(o, "/status/nodeInfo/osImage"),
        text(o, "/status/nodeInfo/kernelVersion"),
        text(o, "/status/nodeInfo/containerRuntimeVersion"),
    ]
}

fn endpoint_slice(o: &Value, now: Timestamp) -> Vec<String> {
    let ports: Vec<String> = list(o, "/ports").iter().map(|p| number(p, "/port").to_string()).collect();
    let addresses: Vec<&str> =
        list(o, "/endpoints").iter().flat_map(|e| list(e, "/addresses")).filter_map(Value::as_str).collect();
    vec![name(o), text(o, "/addressType"), ports.join(","), some_of(&addresses), created(o, now)]
}

/// The first three, and how many more there are.
fn some_of(words: &[&str]) -> String {
    match words.len() {
        0..=3 => words.join(","),
        n => format!("{} + {} more...", words[..3].join(","), n - 3),
    }
}

/// The cells of an event; its time is the last one it was seen.
fn event(o: &Value, now: Timestamp) -> Vec<String> {
    let seen = ["/lastTimestamp", "/eventTime", "/metadata/creationTimestamp"]
        .into_iter()
        .map(|p| o.pointer(p))
        .find(|v| v.is_some_and(Value::is_string))
        .flatten();
    let object = format!("{}/{}", text(o, "/involvedObject/kind").to_lowercase(), text(o, "/involvedObject/name"));
    vec![
        age::since(seen, now),
        text(o, "/type"),
        text(o, "/reason"),
        object,
        text(o, "/message").trim().to_owned(),
        number(o, "/count").max(1).to_string(),
        name(o),
    ]
}

#[cfg(test)]
mod tests;
