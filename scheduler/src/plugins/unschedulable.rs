//! Keeps pods off cordoned nodes, unless they tolerate it.

use crate::framework::Filter;
use crate::snapshot::NodeView;
use crate::template::{Taint, Template};

/// The taint that a cordoned node is treated as having.
const TAINT: &str = "node.kubernetes.io/unschedulable";

/// `spec.unschedulable` of the node.
pub struct NodeUnschedulable;

impl Filter for NodeUnschedulable {
    fn name(&self) -> &'static str {
        "NodeUnschedulable"
    }

    fn check(&self, pod: &Template, node: NodeView<'_>) -> bool {
        if !node.info.unschedulable {
            return true;
        }
        let taint = Taint { key: TAINT.into(), value: String::new(), effect: "NoSchedule".into() };
        pod.tolerations.iter().any(|t| t.tolerates(&taint))
    }

    fn explain(&self, pod: &Template, node: NodeView<'_>) -> Vec<String> {
        if self.check(pod, node) {
            return Vec::new();
        }
        vec!["node(s) were unschedulable".into()]
    }
}
