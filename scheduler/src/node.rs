//! What the scheduler keeps of a Node.

use std::collections::BTreeMap;

use skiff_client::Project;
use skiff_proto::corev1::Node;

use crate::pod::{amount, resources};
use crate::template::{Resources, Taint};

/// The well-known label that names a node's zone.
const ZONE: &str = "topology.kubernetes.io/zone";
/// What a node takes if it does not say: Kubernetes' default.
const DEFAULT_MAX_PODS: i64 = 110;

/// A Node without what changes at every heartbeat.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeInfo {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its zone, or empty.
    pub zone: String,
    /// Its taints.
    pub taints: Vec<Taint>,
    /// Cordoned.
    pub unschedulable: bool,
    /// What it has for pods.
    pub allocatable: Resources,
    /// How many pods it takes.
    pub max_pods: i64,
}

/// Keeps a `NodeInfo` of each Node.
pub struct NodeProjection;

impl Project<Node> for NodeProjection {
    type Out = NodeInfo;

    fn project(node: &Node) -> NodeInfo {
        let taints = node.spec.taints.iter().map(|t| Taint {
            key: t.key.clone(),
            value: t.value.clone(),
            effect: t.effect.clone(),
        });
        let max_pods = node.status.allocatable.get("pods").map(|q| amount("pods", q));
        NodeInfo {
            name: node.metadata.name.clone(),
            labels: node.metadata.labels.clone(),
            zone: node.metadata.labels.get(ZONE).cloned().unwrap_or_default(),
            taints: taints.collect(),
            unschedulable: node.spec.unschedulable,
            allocatable: resources(&node.status.allocatable),
            max_pods: max_pods.unwrap_or(DEFAULT_MAX_PODS),
        }
    }
}
