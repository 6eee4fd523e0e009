//! TaintNodesByCondition: a new Node gets the taint of one that is not ready, until a controller has seen that it is. Else
//! Pods could be bound to it before anybody has looked at it.

use super::{Facts, Plugin, Verb};
use crate::registry::ApiResult;
use crate::resources::{Object, Typed};
use skiff_proto::corev1::{Node, Taint};

const NOT_READY: &str = "node.kubernetes.io/not-ready";
const NO_SCHEDULE: &str = "NoSchedule";

pub struct TaintNodesByCondition;

impl Plugin for TaintNodesByCondition {
    fn mutate(&self, facts: &Facts<'_>, new: &mut dyn Object) -> ApiResult<()> {
        if facts.is(Verb::Create, "", "Node")
            && let Some(Typed(node)) = new.as_any_mut().downcast_mut::<Typed<Node>>()
        {
            taint(node);
        }
        Ok(())
    }
}

/// Taints a new Node that does not come ready.
fn taint(node: &mut Node) {
    let ready = node.status.conditions.iter().any(|c| c.r#type == "Ready" && c.status == "True");
    let tainted = node.spec.taints.iter().any(|t| t.key == NOT_READY && t.effect == NO_SCHEDULE);
    if !ready && !tainted {
        let taint = Taint { key: NOT_READY.into(), effect: NO_SCHEDULE.into(), ..Taint::default() };
        node.spec.taints.push(taint);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skiff_proto::corev1::NodeCondition;

    #[test]
    fn only_a_node_that_does_not_come_ready_is_tainted_and_once() {
        for (ready, taints) in [(None, 1), (Some("False"), 1), (Some("True"), 0)] {
            let mut node = Node::default();
            node.status.conditions.extend(ready.map(|status| NodeCondition {
                r#type: "Ready".into(),
                status: status.into(),
                ..NodeCondition::default()
            }));
            for _ in 0..2 {
                super::taint(&mut node);
            }
            assert_eq!(node.spec.taints.len(), taints, "Ready: {ready:?}");
        }
    }
}
