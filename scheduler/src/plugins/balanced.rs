//! Prefers nodes whose CPU and memory fill up evenly: a node full of one and empty of the other
//! wastes the rest.

use crate::framework::{MAX_SCORE, Scale, Score};
use crate::snapshot::NodeView;
use crate::template::Template;

/// Balance between CPU and memory.
pub struct BalancedAllocation;

/// In millionths, so that it is exact on every machine.
const ONE: i64 = 1_000_000;

fn fraction(asked: i64, taken: i64, has: i64) -> i64 {
    if has <= 0 {
        return ONE;
    }
    let wanted = i128::from(asked + taken) * i128::from(ONE) / i128::from(has);
    i64::try_from(wanted).unwrap_or(ONE).clamp(0, ONE)
}

impl Score for BalancedAllocation {
    fn name(&self) -> &'static str {
        "NodeResourcesBalancedAllocation"
    }

    fn raw(&self, pod: &Template, node: NodeView<'_>) -> i64 {
        let has = &node.info.allocatable;
        let cpu = fraction(pod.scoring_cpu, node.scoring_cpu(), has.cpu);
        let memory = fraction(pod.scoring_memory, node.scoring_memory(), has.memory);
        // The standard deviation of two values is half their distance.
        (ONE - (cpu - memory).abs() / 2) * MAX_SCORE / ONE
    }

    fn scale(&self) -> Scale {
        Scale::Absolute
    }
}
