//! Events that differ in nothing but their words, many of them, are told as one: of the tenth and all further ones within ten
//! minutes of each other only the newest is shown, behind `(combined from similar events): `, with how many they were.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::Hasher;

use tokio::time::Instant;

use super::{FORGOTTEN_AFTER, Id, REMEMBERED};

/// So many different words about the same are told apart, and one less.
pub(super) const APART: usize = 10;
/// What the words of an Event that stands for several begin with, as client-go writes it.
pub(super) const COMBINED: &str = "(combined from similar events): ";

/// What has been said of late, by what it was about.
#[derive(Default)]
pub(super) struct Similar {
    groups: BTreeMap<Id, Group>,
}

struct Group {
    /// Hashes of what was said: messages may be long, and their number is what counts.
    words: BTreeSet<u64>,
    last: Instant,
}

impl Similar {
    /// Which Event a happening is counted in: its own, or that of all that are like it.
    pub(super) fn place(&mut self, id: Id, now: Instant) -> Id {
        let old = |group: &Group| now.saturating_duration_since(group.last) > FORGOTTEN_AFTER;
        if self.groups.len() >= REMEMBERED {
            self.groups.retain(|_, group| !old(group));
        }
        let all = Id { message: COMBINED.to_string(), ..id.clone() };
        if self.groups.len() >= REMEMBERED && !self.groups.contains_key(&all) {
            return id;
        }
        let group = self.groups.entry(all.clone()).or_insert_with(|| Group { words: BTreeSet::new(), last: now });
        if old(group) {
            group.words.clear();
        }
        group.last = now;
        let words = hash(&id.message);
        if group.words.contains(&words) {
            return id;
        }
        if group.words.len() + 1 >= APART {
            return all;
        }
        group.words.insert(words);
        id
    }
}

fn hash(words: &str) -> u64 {
    let mut hasher = fxhash::FxHasher::default();
    hasher.write(words.as_bytes());
    hasher.finish()
}
