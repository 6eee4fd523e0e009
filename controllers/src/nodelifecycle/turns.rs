//! Whose turn it is to be given up: a line per zone, that moves at the zone's pace.
//!
//! A node stands in line from the first look that finds it lost until it is ready, gone, or given up. Only who is first
//! can be given up, so however many workers look at nodes, no two of a zone are given up at once. What is in line is
//! forgotten with the process; the taints that say who was given up are not.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Whether a lost node may be given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It may, or it was already.
    Now,
    /// It should be looked at again after so long.
    After(Duration),
    /// Not before other nodes have changed.
    Held,
}

/// The lines of all zones.
#[derive(Default)]
pub struct Turns {
    lines: Mutex<Lines>,
}

#[derive(Default)]
struct Lines {
    zones: BTreeMap<String, Line>,
    lost: BTreeSet<String>,
    all_lost: bool,
    /// Nobody is given up before.
    pause: Option<Instant>,
}

#[derive(Default)]
struct Line {
    waiting: Vec<String>,
    last: Option<Instant>,
}

impl Turns {
    /// Notes whether every node is lost. When that is over, nobody is given up for the time of `grace`: so long may
    /// take what was held up to be heard.
    pub fn note(&self, all_lost: bool, grace: Duration, now: Instant) {
        let mut lines = self.lock();
        if lines.all_lost && !all_lost {
            lines.pause = Some(now + grace);
        }
        lines.all_lost = all_lost;
    }

    /// A lost node stands in the line of its zone, which moves at this pace or not at all.
    pub fn stand(&self, node: &str, zone: &str, pace: Option<Duration>, now: Instant) -> Turn {
        let mut lines = self.lock();
        lines.lost.insert(node.into());
        for (_, line) in lines.zones.iter_mut().filter(|(name, _)| *name != zone) {
            line.waiting.retain(|n| n != node);
        }
        let (held, pause) = (lines.all_lost, lines.pause);
        let line = lines.zones.entry(zone.into()).or_default();
        let place = line.waiting.iter().position(|n| n == node).unwrap_or_else(|| {
            line.waiting.push(node.into());
            line.waiting.len() - 1
        });
        let Some(pace) = pace.filter(|_| !held) else { return Turn::Held };
        let free = line.last.map_or(now, |last| last + pace).max(pause.unwrap_or(now));
        let wait = free.saturating_duration_since(now) + pace * u32::try_from(place).unwrap_or(u32::MAX);
        if wait.is_zero() { Turn::Now } else { Turn::After(wait) }
    }

    /// A lost node has been given up: the next one waits from now.
    pub fn took(&self, node: &str, now: Instant) -> Turn {
        let mut lines = self.lock();
        lines.lost.insert(node.into());
        for line in lines.zones.values_mut().filter(|line| line.waiting.iter().any(|n| n == node)) {
            line.waiting.retain(|n| n != node);
            line.last = Some(now);
        }
        Turn::Now
    }

    /// A node is ready, or gone.
    pub fn leave(&self, node: &str) {
        let mut lines = self.lock();
        lines.lost.remove(node);
        for line in lines.zones.values_mut() {
            line.waiting.retain(|n| n != node);
        }
    }

    /// The nodes that were lost when last looked at: what becomes of them depends on the others.
    pub fn lost(&self) -> Vec<String> {
        self.lock().lost.iter().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use skiff_world::World;

    use super::*;

    const PACE: Option<Duration> = Some(Duration::from_secs(10));

    fn after(seconds: u64) -> Turn {
        Turn::After(Duration::from_secs(seconds))
    }

    #[test]
    fn one_of_a_zone_at_a_time() {
        let (turns, start) = (Turns::default(), World::real("turns").now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(turns.stand("a", "z", PACE, at(0)), Turn::Now);
        assert_eq!(turns.stand("b", "z", PACE, at(0)), after(10), "a is first, also before it is given up");
        assert_eq!(turns.stand("c", "z", PACE, at(0)), after(20));
        assert_eq!(turns.stand("d", "y", PACE, at(0)), Turn::Now, "another zone has another line");
        turns.took("a", at(1));
        turns.took("a", at(9));
        assert_eq!(turns.stand("b", "z", PACE, at(9)), after(2), "it was given up once");
        turns.leave("b");
        assert_eq!(turns.stand("c", "z", PACE, at(11)), Turn::Now, "b is ready again");
        assert_eq!(turns.stand("c", "z", None, at(11)), Turn::Held);
        assert_eq!(turns.lost(), ["a", "c", "d"]);
    }

    #[test]
    fn after_all_were_lost_there_is_a_pause() {
        let (turns, start, grace) = (Turns::default(), World::real("turns").now(), Duration::from_secs(40));
        let at = |seconds| start + Duration::from_secs(seconds);
        turns.note(true, grace, at(0));
        assert_eq!(turns.stand("a", "z", PACE, at(0)), Turn::Held);
        turns.note(false, grace, at(100));
        turns.note(false, grace, at(110));
        assert_eq!(turns.stand("a", "z", PACE, at(110)), after(30));
        assert_eq!(turns.stand("a", "z", PACE, at(140)), Turn::Now);
    }
}
