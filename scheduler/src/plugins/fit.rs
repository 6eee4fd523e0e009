//! Does it fit? And the emptier the node, the better (least allocated).

use skiff_world::mutants::{Mutant, is_awake};

use crate::framework::{Filter, MAX_SCORE, Scale, Score};
use crate::snapshot::NodeView;
use crate::template::Template;

/// Requests against what the node has left.
pub struct NodeResourcesFit;

/// What is asked for is more than is left. Asking for nothing always fits, on an overcommitted node too.
fn lacks(asked: i64, taken: i64, has: i64) -> bool {
    asked > 0 && asked > has - taken
}

/// How much of it would be left, 0 to 100.
fn left(asked: i64, taken: i64, has: i64) -> i64 {
    let wanted = asked + taken;
    if has <= 0 || wanted > has { 0 } else { (has - wanted) * MAX_SCORE / has }
}

impl Filter for NodeResourcesFit {
    fn name(&self) -> &'static str {
        "NodeResourcesFit"
    }

    fn check(&self, pod: &Template, node: NodeView<'_>) -> bool {
        let (asked, taken, has) = (&pod.requests, node.requested(), &node.info.allocatable);
        if is_awake(Mutant::Overcommit) {
            return true;
        }
        node.pods() < node.info.max_pods
            && !lacks(asked.cpu, taken.cpu, has.cpu)
            && !lacks(asked.memory, taken.memory, has.memory)
            && !lacks(asked.ephemeral, taken.ephemeral, has.ephemeral)
            && asked.other.iter().all(|(name, amount)| !lacks(*amount, taken.other(name), has.other(name)))
    }

    fn explain(&self, pod: &Template, node: NodeView<'_>) -> Vec<String> {
        let (asked, taken, has) = (&pod.requests, node.requested(), &node.info.allocatable);
        let mut reasons = Vec::new();
        if node.pods() >= node.info.max_pods {
            reasons.push("Too many pods".to_string());
        }
        let named = [
            ("cpu", asked.cpu, taken.cpu, has.cpu),
            ("memory", asked.memory, taken.memory, has.memory),
            ("ephemeral-storage", asked.ephemeral, taken.ephemeral, has.ephemeral),
        ];
        for (name, asked, taken, has) in named {
            if lacks(asked, taken, has) {
                reasons.push(format!("Insufficient {name}"));
            }
        }
        for (name, amount) in &asked.other {
            if lacks(*amount, taken.other(name), has.other(name)) {
                reasons.push(format!("Insufficient {name}"));
            }
        }
        reasons
    }
}

impl Score for NodeResourcesFit {
    fn name(&self) -> &'static str {
        "NodeResourcesFit"
    }

    fn raw(&self, pod: &Template, node: NodeView<'_>) -> i64 {
        let has = &node.info.allocatable;
        let cpu = left(pod.scoring_cpu, node.scoring_cpu(), has.cpu);
        let memory = left(pod.scoring_memory, node.scoring_memory(), has.memory);
        (cpu + memory) / 2
    }

    fn scale(&self) -> Scale {
        Scale::Absolute
    }
}
