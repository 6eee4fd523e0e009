//! What woke a key. The key alone decides what is done; triggers only explain it afterwards,
//! so they are kept in a small bounded set.

use std::fmt;

use skiff_proto::skiffv1;

/// How many triggers a key keeps; the rest are only counted.
pub const KEPT: usize = 8;

/// One reason why a key was put into a queue.
#[derive(Clone, Debug, PartialEq)]
pub enum Trigger {
    /// An object changed: this version of it.
    Object(skiffv1::ObjectRef),
    /// A time came, that somebody had waited for: what for.
    Timer(String),
    /// The key is looked at again although nothing is known to have changed: why.
    Resync(String),
    /// The component started.
    Start(String),
    /// Something happened outside of the API (a container exited): the effect's id.
    Effect(String),
}

impl From<Trigger> for skiffv1::Trigger {
    fn from(trigger: Trigger) -> Self {
        use skiffv1::trigger::What;
        let what = match trigger {
            Trigger::Object(object) => What::Object(object),
            Trigger::Timer(why) => What::Timer(why),
            Trigger::Resync(why) => What::Resync(why),
            Trigger::Start(why) => What::Start(why),
            Trigger::Effect(id) => What::Effect(id),
        };
        skiffv1::Trigger { what: Some(what) }
    }
}

impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trigger::Object(o) if o.namespace.is_empty() => {
                write!(f, "{}/{} at {}", o.resource, o.name, o.revision)
            }
            Trigger::Object(o) => {
                write!(f, "{}/{}/{} at {}", o.resource, o.namespace, o.name, o.revision)
            }
            Trigger::Timer(why) => write!(f, "timer: {why}"),
            Trigger::Resync(why) => write!(f, "resync: {why}"),
            Trigger::Start(why) => write!(f, "start: {why}"),
            Trigger::Effect(id) => write!(f, "effect {id}"),
        }
    }
}

/// The triggers of one key: the earliest [`KEPT`], in order, and a count of the others.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TriggerSet {
    first: Vec<Trigger>,
    more: u32,
}

impl TriggerSet {
    /// Remembers a trigger; one that is already there is not counted again.
    pub fn note(&mut self, trigger: Trigger) {
        if self.first.contains(&trigger) {
            return;
        }
        if self.first.len() < KEPT {
            self.first.push(trigger);
        } else {
            self.more = self.more.saturating_add(1);
        }
    }

    /// Remembers all of another set, which came later.
    pub fn merge(&mut self, later: TriggerSet) {
        for trigger in later.first {
            self.note(trigger);
        }
        self.more = self.more.saturating_add(later.more);
    }

    /// The earliest triggers, in order.
    pub fn first(&self) -> &[Trigger] {
        &self.first
    }

    /// How many more there were.
    pub fn more(&self) -> u32 {
        self.more
    }
}

impl From<Trigger> for TriggerSet {
    fn from(trigger: Trigger) -> Self {
        TriggerSet { first: vec![trigger], more: 0 }
    }
}

impl fmt::Display for TriggerSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, trigger) in self.first.iter().enumerate() {
            write!(f, "{}{trigger}", if i == 0 { "" } else { ", " })?;
        }
        match self.more {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timer(n: usize) -> Trigger {
        Trigger::Timer(n.to_string())
    }

    #[test]
    fn keeps_the_earliest_and_counts_the_rest() {
        let mut set = TriggerSet::default();
        (0..12).for_each(|n| set.note(timer(n)));
        assert_eq!(set.first(), (0..KEPT).map(timer).collect::<Vec<_>>());
        assert_eq!(set.more(), 4);
    }

    #[test]
    fn the_same_trigger_counts_once() {
        let mut set = TriggerSet::from(timer(1));
        set.note(timer(1));
        assert_eq!((set.first().len(), set.more()), (1, 0));
    }

    #[test]
    fn merging_keeps_order_and_counts() {
        let mut early = TriggerSet::default();
        (0..6).for_each(|n| early.note(timer(n)));
        let mut late = TriggerSet::default();
        (4..16).for_each(|n| late.note(timer(n)));
        // 4 and 5 are known; 6 and 7 fit; 8..=11 do not; 12..=15 were only counted before.
        early.merge(late);
        assert_eq!(early.first(), (0..8).map(timer).collect::<Vec<_>>());
        assert_eq!(early.more(), 8);
    }
}
