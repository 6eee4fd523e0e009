//! `spec.nodeSelector` and node affinity: required terms filter, preferred terms score.

use crate::framework::{Filter, Scale, Score};
use crate::snapshot::NodeView;
use crate::template::Template;

/// Node selector and node affinity.
pub struct NodeAffinity;

impl Filter for NodeAffinity {
    fn name(&self) -> &'static str {
        "NodeAffinity"
    }

    fn concerns(&self, pod: &Template) -> bool {
        pod.required.is_some() || !pod.node_selector.is_empty()
    }

    fn check(&self, pod: &Template, node: NodeView<'_>) -> bool {
        let labels = &node.info.labels;
        pod.node_selector.iter().all(|(k, v)| labels.get(k) == Some(v))
            && pod.required.as_ref().is_none_or(|terms| terms.iter().any(|term| term.matches(&node.info.name, labels)))
    }

    fn explain(&self, pod: &Template, node: NodeView<'_>) -> Vec<String> {
        if self.check(pod, node) {
            return Vec::new();
        }
        vec!["node(s) didn't match Pod's node affinity/selector".into()]
    }
}

impl Score for NodeAffinity {
    fn name(&self) -> &'static str {
        "NodeAffinity"
    }

    fn concerns(&self, pod: &Template) -> bool {
        !pod.preferred.is_empty()
    }

    fn raw(&self, pod: &Template, node: NodeView<'_>) -> i64 {
        pod.preferred
            .iter()
            .filter(|(_, term)| term.matches(&node.info.name, &node.info.labels))
            .map(|(weight, _)| i64::from(*weight))
            .sum()
    }

    fn scale(&self) -> Scale {
        Scale::HighestIsBest
    }
}
