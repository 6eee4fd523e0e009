//! The Node object: made at the first start, its status written when it changes and every five minutes. Pure, the two
//! writes aside.

use std::collections::BTreeMap;
use std::net::IpAddr;

use jiff::Timestamp;
use serde_json::{Value, json};
use skiff_client::{Api, Error, Patch};
use skiff_proto::corev1::{Node, NodeAddress, NodeCondition, NodeSpec, NodeStatus, NodeSystemInfo, Taint};
use skiff_proto::metav1::ObjectMeta;
use skiff_proto::{Quantity, Time};

use crate::runtime::RuntimeInfo;

/// How many Pods a node takes unless it is told otherwise, as in Kubernetes.
pub const DEFAULT_MAX_PODS: i64 = 110;

/// What this node has to give.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// thousandths of a CPU
    pub cpu_milli: i64,
    /// bytes
    pub memory: i64,
    /// bytes of local disk
    pub ephemeral_storage: i64,
    /// how many Pods
    pub pods: i64,
}

impl Capacity {
    /// What the machine has, divided by `share` nodes on it.
    pub fn of_machine(share: u32) -> Capacity {
        let share = i64::from(share.max(1));
        let cpus = std::thread::available_parallelism().map_or(1, |n| i64::try_from(n.get()).unwrap_or(1));
        let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let total =
            memory.lines().find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse().ok());
        let disk = nix::sys::statvfs::statvfs("/").map_or(0, |fs| fs.blocks().saturating_mul(fs.fragment_size()));
        Capacity {
            cpu_milli: cpus * 1000 / share,
            memory: total.map_or(0, |kib: i64| kib * 1024) / share,
            ephemeral_storage: i64::try_from(disk).unwrap_or(i64::MAX) / share,
            pods: DEFAULT_MAX_PODS,
        }
    }

    /// As resources.
    pub fn quantities(&self) -> BTreeMap<String, Quantity> {
        BTreeMap::from([
            ("cpu".to_string(), Quantity::from_milli(self.cpu_milli)),
            ("memory".to_string(), Quantity::from_bytes(self.memory)),
            ("ephemeral-storage".to_string(), Quantity::from_bytes(self.ephemeral_storage)),
            ("pods".to_string(), Quantity::from_value(self.pods)),
        ])
    }
}

/// What the kubelet says about its node.
#[derive(Clone, Debug)]
pub struct Facts {
    /// its name
    pub name: String,
    /// its address for other nodes
    pub address: Option<IpAddr>,
    /// its labels beside Kubernetes' own
    pub labels: BTreeMap<String, String>,
    /// its taints when it registers
    pub taints: Vec<Taint>,
    /// what it has to give
    pub capacity: Capacity,
    /// about the machine
    pub machine: NodeSystemInfo,
}

/// How the node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// ready for Pods
    Ready,
    /// not, with reason and words
    NotReady {
        /// "ContainerRuntimeIsDown", "NetworkNotReady"
        reason: &'static str,
        /// in words
        message: String,
    },
}

/// What the machine says about itself. For a real node; a simulated one says nothing.
pub fn machine() -> NodeSystemInfo {
    let read = |path: &str| std::fs::read_to_string(path).map(|text| text.trim().to_string()).unwrap_or_default();
    NodeSystemInfo {
        machine_id: read("/etc/machine-id"),
        system_uuid: read("/sys/class/dmi/id/product_uuid"),
        boot_id: read("/proc/sys/kernel/random/boot_id"),
        ..NodeSystemInfo::default()
    }
}

/// With what the engine says, and what the kubelet is.
pub fn with_runtime(machine: &NodeSystemInfo, runtime: &RuntimeInfo) -> NodeSystemInfo {
    let version = format!("skiff/{}", env!("CARGO_PKG_VERSION"));
    NodeSystemInfo {
        kernel_version: runtime.kernel.clone(),
        os_image: runtime.os_image.clone(),
        container_runtime_version: runtime.version.clone(),
        kubelet_version: version.clone(),
        kube_proxy_version: version,
        operating_system: "linux".into(),
        architecture: crate::images::archive::architecture(),
        ..machine.clone()
    }
}

/// The object as it is first made.
pub fn new_node(facts: &Facts) -> Node {
    let mut labels = facts.labels.clone();
    for (key, value) in own_labels(facts) {
        labels.entry(key).or_insert(value);
    }
    Node {
        metadata: ObjectMeta { name: facts.name.clone(), labels, ..ObjectMeta::default() },
        spec: NodeSpec { taints: facts.taints.clone(), ..NodeSpec::default() },
        status: NodeStatus::default(),
    }
}

fn own_labels(facts: &Facts) -> BTreeMap<String, String> {
    let arch = &facts.machine.architecture;
    BTreeMap::from([
        ("kubernetes.io/hostname".to_string(), facts.name.clone()),
        ("kubernetes.io/os".to_string(), "linux".to_string()),
        ("kubernetes.io/arch".to_string(), arch.clone()),
    ])
}

/// The status as it should be.
pub fn node_status(facts: &Facts, before: &NodeStatus, health: &Health, now: Timestamp) -> NodeStatus {
    let quantities = facts.capacity.quantities();
    let mut addresses = Vec::new();
    if let Some(address) = facts.address {
        addresses.push(NodeAddress { r#type: "InternalIP".into(), address: address.to_string() });
    }
    addresses.push(NodeAddress { r#type: "Hostname".into(), address: facts.name.clone() });
    let (ready, reason, message) = match health {
        Health::Ready => (true, "KubeletReady", "kubelet is posting ready status".to_string()),
        Health::NotReady { reason, message } => (false, *reason, message.clone()),
    };
    let condition = |kind: &str, verdict: bool, reason: &str, message: &str| {
        let status = if verdict { "True" } else { "False" };
        let old = before.conditions.iter().find(|condition| condition.r#type == kind && condition.status == status);
        let now = Some(Time::from(now));
        NodeCondition {
            r#type: kind.into(),
            status: status.into(),
            last_heartbeat_time: now,
            last_transition_time: old.and_then(|old| old.last_transition_time).or(now),
            reason: reason.into(),
            message: message.into(),
        }
    };
    NodeStatus {
        capacity: quantities.clone(),
        allocatable: quantities,
        addresses,
        conditions: vec![
            condition("MemoryPressure", false, "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
            condition("DiskPressure", false, "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
            condition("PIDPressure", false, "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
            condition("Ready", ready, reason, &message),
        ],
        node_info: facts.machine.clone(),
        ..before.clone()
    }
}

/// Whether two statuses differ in more than their heartbeat's time.
pub fn differs(a: &NodeStatus, b: &NodeStatus) -> bool {
    let still = |status: &NodeStatus| {
        let mut status = status.clone();
        status.conditions.iter_mut().for_each(|condition| condition.last_heartbeat_time = None);
        // The API server adds what others own.
        status
            .conditions
            .retain(|c| matches!(c.r#type.as_str(), "MemoryPressure" | "DiskPressure" | "PIDPressure" | "Ready"));
        // They are told apart by type, and stay in the order in which they first came, whoever brought them.
        status.conditions.sort_by(|a, b| a.r#type.cmp(&b.r#type));
        status
    };
    still(a) != still(b)
}

/// Makes the Node object if it is not there; brings the kubelet's own labels up to date if it is.
pub async fn register(api: &Api<Node>, facts: &Facts) -> Result<Node, Error> {
    let Some(node) = api.get_opt("", &facts.name).await? else {
        return match api.create(&new_node(facts)).await {
            Err(error) if error.is_already_exists() => api.get("", &facts.name).await,
            other => other,
        };
    };
    let mut wanted = own_labels(facts);
    wanted.extend(facts.labels.clone());
    let changed: serde_json::Map<String, Value> = wanted
        .into_iter()
        .filter(|(key, value)| node.metadata.labels.get(key) != Some(value))
        .map(|(key, value)| (key, Value::String(value)))
        .collect();
    if changed.is_empty() {
        return Ok(node);
    }
    api.patch("", &facts.name, Patch::Merge(json!({ "metadata": { "labels": changed } })), None).await
}

/// Writes the kubelet's part of the status.
pub async fn publish(api: &Api<Node>, node: &Node, status: &NodeStatus) -> Result<Node, Error> {
    let tree: Value = serde_json::from_slice(&skiff_proto::json::encode(status)).unwrap_or_default();
    let mut fields = serde_json::Map::new();
    for field in ["capacity", "allocatable", "conditions", "addresses", "nodeInfo"] {
        if let Some(value) = tree.get(field) {
            fields.insert(field.to_string(), value.clone());
        }
    }
    let patch = json!({ "metadata": { "uid": node.metadata.uid }, "status": fields });
    api.patch_status("", &node.metadata.name, Patch::Strategic(patch)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts {
            name: "node-1".into(),
            address: Some("10.89.0.2".parse().expect("an address")),
            labels: BTreeMap::from([("zone".to_string(), "a".to_string())]),
            taints: Vec::new(),
            capacity: Capacity { cpu_milli: 667, memory: 8 << 30, ephemeral_storage: 1 << 30, pods: 110 },
            machine: NodeSystemInfo { architecture: "amd64".into(), ..NodeSystemInfo::default() },
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("in range")
    }

    #[test]
    fn a_new_node_has_kubernetes_labels_and_its_own() {
        let node = new_node(&facts());
        assert_eq!(node.metadata.labels["kubernetes.io/hostname"], "node-1");
        assert_eq!(node.metadata.labels["zone"], "a");
    }

    #[test]
    fn a_heartbeat_is_no_change_and_a_transition_is() {
        let first = node_status(&facts(), &NodeStatus::default(), &Health::Ready, at(100));
        let second = node_status(&facts(), &first, &Health::Ready, at(400));
        assert!(!differs(&first, &second));
        // Of a node that was lost before it first said how it is, somebody else has written Ready.
        let mut reordered = second.clone();
        reordered.conditions.rotate_right(1);
        assert_ne!(reordered.conditions[0].r#type, second.conditions[0].r#type);
        assert!(!differs(&reordered, &second));
        let down = Health::NotReady { reason: "ContainerRuntimeIsDown", message: "no answer".into() };
        let third = node_status(&facts(), &second, &down, at(500));
        assert!(differs(&second, &third));
        let ready =
            |status: &NodeStatus| status.conditions.iter().find(|c| c.r#type == "Ready").cloned().expect("Ready");
        assert_eq!(ready(&second).last_transition_time, Some(Time::from_unix(100)));
        assert_eq!(ready(&third).last_transition_time, Some(Time::from_unix(500)));
        assert_eq!(ready(&third).status, "False");
        assert_eq!(third.allocatable["cpu"].to_string(), "667m");
    }
}
