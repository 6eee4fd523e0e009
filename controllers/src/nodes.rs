//! What the controllers keep of a Node, and of the Lease that is its heartbeat.

use skiff_client::Project;
use skiff_proto::coordinationv1::Lease;
use skiff_proto::corev1::{Node, NodeCondition};

/// The well-known label that names a node's zone.
const ZONE: &str = "topology.kubernetes.io/zone";
/// The well-known label that names the region that the zone is in.
const REGION: &str = "topology.kubernetes.io/region";

/// A Node as far as controllers care.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeView {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Its zone, or empty.
    pub zone: String,
    /// The region of its zone, or empty.
    pub region: String,
    /// Its condition Ready, if it has one.
    pub ready: Option<ConditionStatus>,
    /// Its other conditions.
    pub conditions: Vec<(String, ConditionStatus)>,
    /// `spec.unschedulable`: it is cordoned.
    pub unschedulable: bool,
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

/// What a condition says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConditionStatus {
    /// It is so.
    True,
    /// It is not so.
    False,
    /// Nobody knows: the node is silent.
    Unknown,
}

impl NodeView {
    /// Its condition Ready is True.
    pub fn is_ready(&self) -> bool {
        self.ready == Some(ConditionStatus::True)
    }

    /// Where it is, for counting who else there is lost. Zones of different regions may have the same name.
    pub fn place(&self) -> String {
        format!("{}/{}", self.region, self.zone)
    }
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
        let status = |c: &NodeCondition| match c.status.as_str() {
            "True" => ConditionStatus::True,
            "False" => ConditionStatus::False,
            _ => ConditionStatus::Unknown,
        };
        let condition = node.status.conditions.iter().find(|c| c.r#type == "Ready");
        let others = node.status.conditions.iter().filter(|c| c.r#type != "Ready");
        NodeView {
            name: meta.name.clone(),
            uid: meta.uid.clone(),
            zone: meta.labels.get(ZONE).cloned().unwrap_or_default(),
            region: meta.labels.get(REGION).cloned().unwrap_or_default(),
            ready: condition.map(status),
            conditions: others.map(|c| (c.r#type.clone(), status(c))).collect(),
            unschedulable: node.spec.unschedulable,
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
