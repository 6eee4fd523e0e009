//! The two kinds of plugin, and the list of them: the Profile.
//!
//! A filter says whether a pod *can* run on a node, a score how *good* that would be. Both see one
//! node at a time and keep nothing between calls, so that the answers can be kept per template and
//! node, and be asked for again when somebody wants to know why.

use crate::plugins;
use crate::snapshot::NodeView;
use crate::template::Template;

/// Whether a pod can run on a node.
pub trait Filter: Send + Sync {
    /// The plugin's name, as Kubernetes has it.
    fn name(&self) -> &'static str;
    /// Whether the filter has anything to say about such a pod at all; most have about few pods.
    fn concerns(&self, _pod: &Template) -> bool {
        true
    }
    /// Whether the node will do. Called for thousands of nodes: allocates nothing.
    fn check(&self, pod: &Template, node: NodeView<'_>) -> bool;
    /// Why the node will not do, one line per reason; empty exactly if `check` says yes.
    fn explain(&self, pod: &Template, node: NodeView<'_>) -> Vec<String>;
}

/// How good a node is for a pod.
pub trait Score: Send + Sync {
    /// The plugin's name, as Kubernetes has it.
    fn name(&self) -> &'static str;
    /// Whether it may give such a pod anything but zero.
    fn concerns(&self, _pod: &Template) -> bool {
        true
    }
    /// A node's raw score.
    fn raw(&self, pod: &Template, node: NodeView<'_>) -> i64;
    /// How raw scores become 0 to 100.
    fn scale(&self) -> Scale;
}

/// How raw scores become 0 to 100.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// They are 0 to 100 already.
    Absolute,
    /// The highest of all feasible nodes becomes 100.
    HighestIsBest,
    /// Zero becomes 100, the highest of all feasible nodes 0.
    LowestIsBest,
}

impl Scale {
    /// A raw score as 0 to 100, given the highest raw score of all feasible nodes.
    pub fn apply(self, raw: i64, highest: i64) -> i64 {
        match self {
            Scale::Absolute => raw,
            Scale::HighestIsBest if highest <= 0 => 0,
            Scale::HighestIsBest => raw.max(0) * MAX_SCORE / highest,
            Scale::LowestIsBest if highest <= 0 => MAX_SCORE,
            Scale::LowestIsBest => MAX_SCORE - raw.max(0) * MAX_SCORE / highest,
        }
    }
}

/// The best a plugin can give.
pub const MAX_SCORE: i64 = 100;

/// The plugins, with the weights of the scores.
pub struct Profile {
    /// The name that pods ask for in `spec.schedulerName`.
    pub name: String,
    /// Asked in this order; the first that says no gives the reason.
    pub filters: Vec<Box<dyn Filter>>,
    /// With their weights.
    pub scores: Vec<(i64, Box<dyn Score>)>,
    /// Weight of spreading the pods of one owner over nodes and zones; 0 switches it off.
    pub spread: i64,
}

/// The name of the profile that pods get which ask for none.
pub const STANDARD: &str = "default-scheduler";

impl Profile {
    /// Kubernetes' plugins with Kubernetes' weights, as far as we have them.
    pub fn standard() -> Profile {
        Profile {
            name: STANDARD.into(),
            filters: vec![
                Box::new(plugins::unschedulable::NodeUnschedulable),
                Box::new(plugins::node_name::NodeName),
                Box::new(plugins::taints::TaintToleration),
                Box::new(plugins::affinity::NodeAffinity),
                Box::new(plugins::ports::NodePorts),
                Box::new(plugins::fit::NodeResourcesFit),
            ],
            scores: vec![
                (3, Box::new(plugins::taints::TaintToleration)),
                (2, Box::new(plugins::affinity::NodeAffinity)),
                (1, Box::new(plugins::fit::NodeResourcesFit)),
                (1, Box::new(plugins::balanced::BalancedAllocation)),
            ],
            spread: 2,
        }
    }

    /// Whether every filter says yes.
    pub fn admits(&self, pod: &Template, node: NodeView<'_>) -> bool {
        self.filters.iter().all(|filter| filter.check(pod, node))
    }

    /// The filters that have something to say about such a pod.
    pub fn concerned<'p>(&'p self, pod: &Template) -> Vec<&'p dyn Filter> {
        self.filters.iter().map(|filter| &**filter).filter(|filter| filter.concerns(pod)).collect()
    }

    /// The first filter that says no, with its reasons.
    pub fn objection(&self, pod: &Template, node: NodeView<'_>) -> Option<(&'static str, Vec<String>)> {
        self.filters
            .iter()
            .find(|filter| !filter.check(pod, node))
            .map(|filter| (filter.name(), filter.explain(pod, node)))
    }
}
