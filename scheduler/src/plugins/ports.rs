//! Two pods cannot take the same host port of one node.

use crate::framework::Filter;
use crate::snapshot::NodeView;
use crate::template::Template;

/// Host ports.
pub struct NodePorts;

impl Filter for NodePorts {
    fn name(&self) -> &'static str {
        "NodePorts"
    }

    fn concerns(&self, pod: &Template) -> bool {
        !pod.ports.is_empty()
    }

    fn check(&self, pod: &Template, node: NodeView<'_>) -> bool {
        pod.ports.iter().all(|wanted| !node.ports().iter().any(|taken| wanted.clashes(taken)))
    }

    fn explain(&self, pod: &Template, node: NodeView<'_>) -> Vec<String> {
        if self.check(pod, node) {
            return Vec::new();
        }
        vec!["node(s) didn't have free ports for the requested pod ports".into()]
    }
}
