//! Taints that a pod does not tolerate: NoSchedule and NoExecute filter, PreferNoSchedule scores.

use crate::framework::{Filter, Scale, Score};
use crate::snapshot::NodeView;
use crate::template::{Taint, Template};

/// Taints of the node against tolerations of the pod.
pub struct TaintToleration;

fn tolerated(pod: &Template, taint: &Taint) -> bool {
    pod.tolerations.iter().any(|t| t.tolerates(taint))
}

fn untolerated<'a>(pod: &Template, node: &NodeView<'a>) -> Option<&'a Taint> {
    node.info.taints.iter().find(|t| (t.effect == "NoSchedule" || t.effect == "NoExecute") && !tolerated(pod, t))
}

impl Filter for TaintToleration {
    fn name(&self) -> &'static str {
        "TaintToleration"
    }

    fn check(&self, pod: &Template, node: NodeView<'_>) -> bool {
        untolerated(pod, &node).is_none()
    }

    fn explain(&self, pod: &Template, node: NodeView<'_>) -> Vec<String> {
        untolerated(pod, &node)
            .map(|t| format!("node(s) had untolerated taint {{{}: {}}}", t.key, t.value))
            .into_iter()
            .collect()
    }
}

impl Score for TaintToleration {
    fn name(&self) -> &'static str {
        "TaintToleration"
    }

    fn raw(&self, pod: &Template, node: NodeView<'_>) -> i64 {
        node.info.taints.iter().filter(|t| t.effect == "PreferNoSchedule" && !tolerated(pod, t)).count() as i64
    }

    fn scale(&self) -> Scale {
        Scale::LowestIsBest
    }
}
