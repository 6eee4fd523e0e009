//! All that happens in a run, beside chance: it follows from the seed, and can be made smaller.

use std::time::Duration;

use skiff_apiserver::Retention;

use super::Size;
use super::cluster::Layout;
use super::mix::Mix;
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
    /// How long the cluster has to stay at rest in the end.
    pub rest_for: Duration,
}

impl Plan {
    /// The plan of a seed, which chooses what its story is made of.
    pub fn of_seed(seed: u64) -> Plan {
        Plan::mixed(seed, &Mix::of_seed(seed))
    }

    /// The plan of a seed with everything in it, of this size.
    pub fn sized(seed: u64, size: Size) -> Plan {
        Plan::mixed(seed, &Mix::whole(size))
    }

    /// The plan of a seed that is made of this.
    pub fn mixed(seed: u64, mix: &Mix) -> Plan {
        Plan {
            seed,
            nodes: mix.size.nodes,
            script: Script::of_seed(seed, mix),
            troubles: trouble::of_seed(seed, mix, two_servers(seed)),
            network_fails: mix.network_fails,
            rest_for: mix.rest_for,
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
