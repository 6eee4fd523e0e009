//! All that happens in a run, beside chance: it follows from the seed, and can be made smaller.

use std::time::Duration;

use skiff_apiserver::Retention;

use super::Size;
use super::cluster::Layout;
use super::script::Script;
use super::trouble::{self, Planned};

/// What happens in a run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The seed of chance: delays, the order of tasks, which connection breaks.
    pub seed: u64,
    /// How many nodes the cluster has.
    pub nodes: usize,
    /// What the user does.
    pub script: Script,
    /// What goes wrong.
    pub troubles: Vec<Planned>,
    /// Whether connections break and stall by themselves.
    pub network_fails: bool,
}

impl Plan {
    /// The plan of a seed.
    pub fn of_seed(seed: u64, size: Size) -> Plan {
        Plan {
            seed,
            nodes: size.nodes,
            script: Script::from_seed(seed, size.acts),
            troubles: trouble::of_seed(seed, size.troubles, size.nodes, two_servers(seed)),
            network_fails: size.troubles > 0,
        }
    }

    /// The same without anything going wrong.
    pub fn without_troubles(&self) -> Plan {
        Plan { troubles: Vec::new(), network_fails: false, ..self.clone() }
    }

    /// How the cluster is made: with two servers in every fourth run, and in every third so little history that whoever
    /// is away for a moment has to list again.
    pub fn layout(&self) -> Layout {
        let usual = Retention::default();
        let short = Retention { revisions: 24, always: 8, age: Duration::from_secs(10), ..usual };
        let retention = if self.seed.is_multiple_of(3) { short } else { usual };
        Layout { retention, two_servers: two_servers(self.seed) }
    }
}

fn two_servers(seed: u64) -> bool {
    seed % 4 == 1
}
