//! How each kind looks in a list: its columns, as kubectl names and fills them. skiffctl prints them, the API server
//! answers with them where a Table is asked for.

pub mod age;
mod custom;
mod pod;
mod workload;

pub use custom::of_definition;
pub use pod::status as pod_status;
pub use workload::selector;

use jiff::Timestamp;
use serde_json::Value;
use std::borrow::Cow;

/// One column, as Tables describe it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its title: `Up-to-date`.
    pub name: Cow<'static, str>,
    /// What its cells are: `string`, `integer`, `number`, `boolean`, `date`.
    pub kind: Cow<'static, str>,
    /// What OpenAPI says of how they are printed.
    pub format: Cow<'static, str>,
    /// What it shows.
    pub description: Cow<'static, str>,
    /// Above 0: shown with `-o wide` only.
    pub priority: i32,
}

impl Column {
    /// Shown with `-o wide` only.
    pub fn is_wide(&self) -> bool {
        self.priority > 0
    }
}

const fn typed(name: &'static str, kind: &'static str, priority: i32) -> Column {
    let (name, kind) = (Cow::Borrowed(name), Cow::Borrowed(kind));
    Column { name, kind, format: Cow::Borrowed(""), description: Cow::Borrowed(""), priority }
}

const fn column(name: &'static str) -> Column {
    typed(name, "string", 0)
}

const fn number_column(name: &'static str) -> Column {
    typed(name, "integer", 0)
}

const fn wide(name: &'static str) -> Column {
    typed(name, "string", 1)
}

/// The columns of one kind.
pub struct Columns {
    /// In the order in which they are shown.
    pub columns: Cow<'static, [Column]>,
    cells: Cells,
}

/// How the cells are made.
enum Cells {
    BuiltIn(fn(&Value, Timestamp) -> Vec<String>),
    Custom(Vec<custom::Cell>),
}

impl Columns {
    /// The cells of one object, as many as there are columns.
    pub fn cells(&self, object: &Value, now: Timestamp) -> Vec<String> {
        match &self.cells {
            Cells::BuiltIn(cells) => cells(object, now),
            Cells::Custom(cells) => cells.iter().map(|cell| cell.of(object, now)).collect(),
        }
    }

    /// The columns are a CustomResourceDefinition's.
    pub fn is_custom(&self) -> bool {
        matches!(self.cells, Cells::Custom(_))
    }
}

fn built_in(columns: &'static [Column], cells: fn(&Value, Timestamp) -> Vec<String>) -> Columns {
    Columns { columns: Cow::Borrowed(columns), cells: Cells::BuiltIn(cells) }
}

const NAME: Column = Column {
    name: Cow::Borrowed("Name"),
    kind: Cow::Borrowed("string"),
    format: Cow::Borrowed("name"),
    description: Cow::Borrowed(""),
    priority: 0,
};
const AGE: Column = column("Age");

/// The columns of `kind`; for kinds that have none of their own, name and age.
pub fn of(kind: &str) -> Columns {
    let columns = built_in;
    match kind {
        "Pod" => columns(
            const {
                &[
                    NAME,
                    column("Ready"),
                    column("Status"),
                    column("Restarts"),
                    AGE,
                    wide("IP"),
                    wide("Node"),
                    wide("Nominated Node"),
                    wide("Readiness Gates"),
                ]
            },
            pod::cells,
        ),
        "Deployment" => columns(
            const {
                &[
                    NAME,
                    column("Ready"),
                    column("Up-to-date"),
                    column("Available"),
                    AGE,
                    wide("Containers"),
                    wide("Images"),
                    wide("Selector"),
                ]
            },
            workload::deployment,
        ),
        "ReplicaSet" => columns(
            const {
                &[
                    NAME,
                    number_column("Desired"),
                    number_column("Current"),
                    number_column("Ready"),
                    AGE,
                    wide("Containers"),
                    wide("Images"),
                    wide("Selector"),
                ]
            },
            workload::replica_set,
        ),
        "Service" => columns(
            const {
                &[
                    NAME,
                    column("Type"),
                    column("Cluster-IP"),
                    column("External-IP"),
                    column("Port(s)"),
                    AGE,
                    wide("Selector"),
                ]
            },
            service,
        ),
        "Node" => columns(
            const {
                &[
                    NAME,
                    column("Status"),
                    column("Roles"),
                    AGE,
                    column("Version"),
                    wide("Internal-IP"),
                    wide("External-IP"),
                    wide("OS-Image"),
                    wide("Kernel-Version"),
                    wide("Container-Runtime"),
                ]
            },
            node,
        ),
        "Event" => columns(
            const {
                &[
                    column("Last Seen"),
                    column("Type"),
                    column("Reason"),
                    column("Object"),
                    wide("Subobject"),
                    wide("Source"),
                    column("Message"),
                    wide("First Seen"),
                    wide("Count"),
                    wide("Name"),
                ]
            },
            event,
        ),
        _ => of_plain(kind),
    }
}

/// The columns of kinds that are little but data.
fn of_plain(kind: &str) -> Columns {
    let columns = built_in;
    match kind {
        "Namespace" => columns(const { &[NAME, column("Status"), AGE] }, |o, now| {
            vec![name(o), text(o, "/status/phase"), created(o, now)]
        }),
        "ConfigMap" => columns(const { &[NAME, column("Data"), AGE] }, |o, now| {
            vec![name(o), (count(o, "/data") + count(o, "/binaryData")).to_string(), created(o, now)]
        }),
        "Secret" => columns(const { &[NAME, column("Type"), column("Data"), AGE] }, |o, now| {
            vec![name(o), text(o, "/type"), count(o, "/data").to_string(), created(o, now)]
        }),
        "ServiceAccount" => columns(const { &[NAME, column("Secrets"), AGE] }, |o, now| {
            vec![name(o), count(o, "/secrets").to_string(), created(o, now)]
        }),
        "Lease" => columns(const { &[NAME, column("Holder"), AGE] }, |o, now| {
            vec![name(o), text(o, "/spec/holderIdentity"), created(o, now)]
        }),
        "Endpoints" => {
            columns(const { &[NAME, column("Endpoints"), AGE] }, |o, now| vec![name(o), endpoints(o), created(o, now)])
        }
        "EndpointSlice" => {
            columns(const { &[NAME, column("AddressType"), column("Ports"), column("Endpoints"), AGE] }, endpoint_slice)
        }
        "PodDisruptionBudget" => columns(
            const { &[NAME, column("Min Available"), column("Max Unavailable"), number_column("Allowed Disruptions"), AGE] },
            disruption_budget,
        ),
        "CustomResourceDefinition" => columns(const { &[NAME, typed("Created At", "date", 0)] }, |o, _| {
            vec![name(o), text(o, "/metadata/creationTimestamp")]
        }),
        "Role" | "ClusterRole" => columns(const { &[NAME, column("Created At")] }, |o, _| {
            vec![name(o), text(o, "/metadata/creationTimestamp")]
        }),
        "RoleBinding" | "ClusterRoleBinding" => columns(
            const { &[NAME, column("Role"), AGE, wide("Users"), wide("Groups"), wide("ServiceAccounts")] },
            role_binding,
        ),
        "ResourceQuota" => columns(const { &[NAME, column("Request"), column("Limit"), AGE] }, resource_quota),
        "PriorityClass" => columns(
            const { &[NAME, number_column("Value"), column("Global-Default"), AGE, column("PreemptionPolicy")] },
            |o, now| {
                let default = o.pointer("/globalDefault") == Some(&Value::Bool(true));
                let policy = text(o, "/preemptionPolicy");
                vec![name(o), number(o, "/value").to_string(), default.to_string(), created(o, now), policy]
            },
        ),
        // As Kubernetes has it for kinds without columns of their own.
        _ => columns(const { &[NAME, AGE] }, |o, now| vec![name(o), created(o, now)]),
    }
}

fn role_binding(o: &Value, now: Timestamp) -> Vec<String> {
    let subjects = |kind: &str| {
        let names = list(o, "/subjects").iter().filter(|s| text(s, "/kind") == kind).map(|s| {
            let namespace = text(s, "/namespace");
            if kind == "ServiceAccount" { format!("{namespace}/{}", text(s, "/name")) } else { text(s, "/name") }
        });
        names.collect::<Vec<_>>().join(", ")
    };
    vec![
        name(o),
        format!("{}/{}", text(o, "/roleRef/kind"), text(o, "/roleRef/name")),
        created(o, now),
        subjects("User"),
        subjects("Group"),
        subjects("ServiceAccount"),
    ]
}

fn disruption_budget(object: &Value, now: Timestamp) -> Vec<String> {
    let amount = |field: &str| match text(object, field) {
        unset if unset.is_empty() => "N/A".to_owned(),
        amount => amount,
    };
    vec![
        name(object),
        amount("/spec/minAvailable"),
        amount("/spec/maxUnavailable"),
        number(object, "/status/disruptionsAllowed").to_string(),
        created(object, now),
    ]
}

/// What a quota has and gives, its limits of Pods apart: `cpu: 1/2, pods: 3/10`.
fn resource_quota(object: &Value, now: Timestamp) -> Vec<String> {
    let hard = object.pointer("/status/hard").and_then(Value::as_object);
    let part = |limits: bool| {
        let names = hard.into_iter().flatten().filter(|(name, _)| name.starts_with("limits.") == limits);
        let show = |(name, most): (&String, &Value)| {
            let used = object.pointer("/status/used").and_then(|used| used.get(name)).and_then(Value::as_str);
            format!("{name}: {}/{}", used.unwrap_or("0"), most.as_str().unwrap_or_default())
        };
        names.map(show).collect::<Vec<_>>().join(", ")
    };
    vec![name(object), part(false), part(true), created(object, now)]
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

/// `10.0.0.1:80,10.0.0.2:80`.
fn endpoints(o: &Value) -> String {
    let mut all = vec![];
    for subset in list(o, "/subsets") {
        for address in list(subset, "/addresses") {
            let ip = text(address, "/ip");
            match list(subset, "/ports") {
                [] => all.push(ip),
                ports => all.extend(ports.iter().map(|port| format!("{ip}:{}", number(port, "/port")))),
            }
        }
    }
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    some_of(&all)
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
    let first = ["/firstTimestamp", "/eventTime", "/metadata/creationTimestamp"]
        .into_iter()
        .map(|p| o.pointer(p))
        .find(|v| v.is_some_and(Value::is_string))
        .flatten();
    let source = match (text(o, "/source/component"), text(o, "/source/host")) {
        (component, host) if host.is_empty() && component.is_empty() => text(o, "/reportingComponent"),
        (component, host) if host.is_empty() => component,
        (component, host) => format!("{component}, {host}"),
    };
    vec![
        age::since(seen, now),
        text(o, "/type"),
        text(o, "/reason"),
        object,
        text(o, "/involvedObject/fieldPath"),
        source,
        text(o, "/message").trim().to_owned(),
        age::since(first, now),
        number(o, "/count").max(1).to_string(),
        name(o),
    ]
}
