//! What a seed's story is made of. Most stories are small and have few kinds of things in them, a few are large and have
//! all (swarm testing): a fault that takes two things to happen is met sooner where nothing else happens, more seeds fit
//! into an hour, and what fails is easier to read.

use std::collections::BTreeSet;
use std::time::Duration;

use super::Size;
use super::draws::Draws;

/// A kind of trouble; what they are is said at [`super::trouble::Trouble`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Kind {
    Crash,
    CrashAtWrite,
    Unplug,
    Partition,
    Cut,
    End,
    Engine,
    Power,
    Wipe,
    Blackout,
    Full,
    Slow,
    Late,
    Leaderless,
    Clock,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 15] = [
        Kind::Crash,
        Kind::CrashAtWrite,
        Kind::Unplug,
        Kind::Partition,
        Kind::Cut,
        Kind::End,
        Kind::Engine,
        Kind::Power,
        Kind::Wipe,
        Kind::Blackout,
        Kind::Full,
        Kind::Slow,
        Kind::Late,
        Kind::Leaderless,
        Kind::Clock,
    ];
}

/// What a user may do, beside making Deployments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    /// Change a number of replicas.
    Scale,
    /// Roll to another image.
    Roll,
    /// Delete a Deployment.
    Delete,
    /// Put a Service before one, or take it away.
    Expose,
    /// Ask for a Pod that no node can take, or withdraw it.
    Ask,
}

impl Verb {
    /// All of them.
    pub const ALL: [Verb; 5] = [Verb::Scale, Verb::Roll, Verb::Delete, Verb::Expose, Verb::Ask];
}

/// What a story is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mix {
    /// How much of it.
    pub size: Size,
    /// How many names the user gives to Deployments.
    pub names: usize,
    /// The most replicas that a Deployment is scaled to, at least 2.
    pub replicas: i32,
    /// What the user does.
    pub verbs: BTreeSet<Verb>,
    /// What goes wrong.
    pub troubles: BTreeSet<Kind>,
    /// How far two troubles are apart at most, in milliseconds.
    pub apart: u64,
    /// How long the user waits now and then between two acts, in milliseconds.
    pub pause: u64,
    /// Whether connections break and stall by themselves.
    pub network_fails: bool,
    /// How long the cluster has to stay at rest in the end.
    pub rest_for: Duration,
}

impl Mix {
    /// Everything that there is, and so much of it.
    pub fn whole(size: Size) -> Mix {
        Mix {
            size,
            names: 4,
            replicas: 6,
            verbs: BTreeSet::from(Verb::ALL),
            troubles: BTreeSet::from(Kind::ALL),
            apart: 12_000,
            pause: 20_000,
            network_fails: size.troubles > 0,
            rest_for: Duration::from_secs(60),
        }
    }

    /// The mix that a seed chooses. The nodes have room for all that the user may ever want at once.
    pub fn of_seed(seed: u64) -> Mix {
        let mut draws = Draws::new(seed, 0x006d_6978);
        let mut between = |from: i32, to: i32| draws.number(from, to) as usize;
        let mut mix = match between(0, 99) {
            0..=79 => {
                let size = Size { nodes: between(1, 2), acts: between(1, 4), troubles: between(1, 3) };
                Mix { names: 2, replicas: 2, apart: 4_000, pause: 6_000, ..Mix::whole(size) }
            }
            80..=96 => {
                let size = Size { nodes: between(2, 3), acts: between(3, 8), troubles: between(2, 5) };
                Mix { names: 4, replicas: 3, apart: 8_000, ..Mix::whole(size) }
            }
            _ => return Mix::whole(Size::default()),
        };
        let mut one_in = |n: u64| draws.below(n) == 0;
        mix.verbs.retain(|_| !one_in(4));
        if !one_in(4) {
            mix.troubles.retain(|_| one_in(2));
        }
        mix.network_fails = one_in(2);
        mix.rest_for = Duration::from_secs(if one_in(8) { 60 } else { 12 });
        mix
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulation::cluster::MOST_PODS;

    fn mixes() -> Vec<Mix> {
        (0..2000).map(Mix::of_seed).collect()
    }

    #[test]
    fn most_stories_are_small_and_some_have_everything() {
        let large = mixes().iter().filter(|mix| mix.size == Size::default()).count();
        let small = mixes().iter().filter(|mix| mix.size.acts <= 4 && mix.size.nodes <= 2).count();
        assert!((40..100).contains(&large), "{large} of 2000 are large");
        assert!((1500..1800).contains(&small), "{small} of 2000 are small");
        let long = mixes().iter().filter(|mix| mix.rest_for == Duration::from_secs(60)).count();
        assert!((200..500).contains(&long), "{long} of 2000 stay at rest for long");
    }

    #[test]
    fn everything_is_often_on_and_often_off() {
        for kind in Kind::ALL {
            let on = mixes().iter().filter(|mix| mix.troubles.contains(&kind)).count();
            assert!((1000..1500).contains(&on), "{kind:?} is on in {on} of 2000");
        }
        for verb in Verb::ALL {
            let on = mixes().iter().filter(|mix| mix.verbs.contains(&verb)).count();
            assert!((1400..1700).contains(&on), "{verb:?} is on in {on} of 2000");
        }
    }

    #[test]
    fn the_nodes_have_room_for_all_that_may_be_wanted() {
        for mix in mixes() {
            let surge = 2;
            let most = mix.names as i64 * (i64::from(mix.replicas) + surge);
            // In a large story, not everything is wanted at once.
            assert!(mix.size == Size::default() || most <= mix.size.nodes as i64 * MOST_PODS, "{mix:?}");
        }
    }
}
