//! What the controllers keep of a Node, and of the Lease that is its heartbeat.

use skiff_client::Project;
use skiff_proto::coordinationv1::Lease;
use skiff_proto::corev1::{Node, NodeCondition};

/// The well-known label that names a node's zone.
const ZONE: &str = "topology.kubernetes.io/zone";

/// A Node as far as controllers care.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeView {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Its zone, or empty.
    pub zone: String,
    /// Its condition Ready, if it has one.
    pub ready: Option<Ready>,
    /// The other conditions that its kubelet keeps, and whether they are Unknown.
    pub pressures: Vec<(String, bool)>,
    /// When its kubelet last wrote the condition Ready, in seconds.
    pub heartbeat: i64,
    /// Its taints.
    pub taints: Vec<TaintView>,
    /// `spec.podCIDR`, or empty.
    pub pod_cidr: String,
    /// It is being deleted.
    pub deleting: bool,
    /// When it was made, in seconds.
    pub created: i64,
}

/// The condition Ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ready {
    /// It takes pods.
    True,
    /// Its kubelet says that it does not.
    False,
    /// Nobody knows: it is silent.
    Unknown,
}

/// A taint with its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaintView {
    /// Its key.
    pub key: String,
    /// Its value.
    pub value: String,
    /// NoSchedule, PreferNoSchedule or NoExecute.
    pub effect: String,
    /// When it was added, in seconds; 0 if that is not known.
    pub added: i64,
}

/// Keeps a `NodeView` of each Node.
pub struct NodeProjection;

impl Project<Node> for NodeProjection {
    type Out = NodeView;

    fn project(node: &Node) -> NodeView {
        let meta = &node.metadata;
        let ready = |c: &NodeCondition| match c.status.as_str() {
            "True" => Ready::True,
            "False" => Ready::False,
            _ => Ready::Unknown,
        };
        let condition = node.status.conditions.iter().find(|c| c.r#type == "Ready");
        let others = node.status.conditions.iter().filter(|c| c.r#type.ends_with("Pressure"));
        NodeView {
            name: meta.name.clone(),
            uid: meta.uid.clone(),
            zone: meta.labels.get(ZONE).cloned().unwrap_or_default(),
            ready: condition.map(ready),
            pressures: others.map(|c| (c.r#type.clone(), c.status == "Unknown")).collect(),
            heartbeat: condition.and_then(|c| c.last_heartbeat_time.as_ref()).map_or(0, |t| t.unix()),
            taints: node
                .spec
                .taints
                .iter()
                .map(|t| TaintView {
                    key: t.key.clone(),
                    value: t.value.clone(),
                    effect: t.effect.clone(),
                    added: t.time_added.as_ref().map_or(0, |t| t.unix()),
                })
                .collect(),
            pod_cidr: node.spec.pod_cidr.clone(),
            deleting: meta.deletion_timestamp.is_some(),
            created: meta.creation_timestamp.as_ref().map_or(0, |t| t.unix()),
        }
    }
}

/// When a Lease was last renewed: all that a heartbeat is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Heartbeat {
    /// `spec.renewTime`, in microseconds.
    pub renewed: i64,
}

/// Keeps a `Heartbeat` of each Lease.
pub struct LeaseProjection;

impl Project<Lease> for LeaseProjection {
    type Out = Heartbeat;

    fn project(lease: &Lease) -> Heartbeat {
        Heartbeat { renewed: lease.spec.renew_time.as_ref().map_or(0, |t| t.unix_micros()) }
    }
}
