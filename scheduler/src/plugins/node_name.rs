//! A pod that names its node goes nowhere else.

use crate::framework::Filter;
use crate::snapshot::NodeView;
use crate::template::Template;

/// `spec.nodeName` of the pod.
pub struct NodeName;

impl Filter for NodeName {
    fn name(&self) -> &'static str {
        "NodeName"
    }

    fn concerns(&self, pod: &Template) -> bool {
        !pod.node_name.is_empty()
    }

    fn check(&self, pod: &Template, node: NodeView<'_>) -> bool {
        pod.node_name.is_empty() || pod.node_name == node.info.name
    }

    fn explain(&self, pod: &Template, node: NodeView<'_>) -> Vec<String> {
        if self.check(pod, node) {
            return Vec::new();
        }
        vec!["node(s) didn't match the requested node name".into()]
    }
}
