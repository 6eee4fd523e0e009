//! The informer's states, and what it does about what it hears: a pure function, so that every turn can be read
//! and tested as a line of a table.
//!
//! ```text
//!                      listed at R                    opened
//!   ┌────────────────┐ ──────────▶ ┌────────────────┐ ─────────▶ ┌──────────────────┐ ──┐ event or bookmark at S:
//!   │ Listing        │             │ Opening, at R  │            │ Watching, at R   │   │ now at S
//!   └────────────────┘ ◀────────── └────────────────┘ ◀───────── └──────────────────┘ ◀─┘
//!     ▲ │  ▲  failed     expired       ▲ │  failed      ended         │
//!     └─┘  └───────────────────────────┼─┘──────────────────────────  │ expired
//!   (wait, then again)                 └─ (wait, then again at R)     ▼ or doubted: Listing
//! ```
//!
//! Between a list and its watch, and between a watch and the next, there is never a gap: each starts at the revision
//! at which the one before stopped. Every failure in a row makes the next wait longer; only an event, or a watch that
//! lived for a while, proves that things are well again.

use std::time::Duration;

use skiff_world::mutants::{Mutant, is_awake};

/// A watch that lived so long was no failure, however it ended.
const LIVED: Duration = Duration::from_secs(10);
/// A list older than what is known is refused so often, before history is believed to have gone back.
const BACKWARDS: u32 = 10;

/// What the informer is about to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// List everything. `seen` is the highest revision ever known, 0 at the start.
    Listing { seen: u64, failures: u32 },
    /// Everything up to `revision` is known: open a watch for what follows.
    Opening { revision: u64, failures: u32 },
    /// The watch is open, and everything up to `revision` is known: hear the next event.
    Watching { revision: u64, failures: u32 },
}

/// What it hears while doing so. `T` is an object.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Heard<T> {
    /// The list, complete.
    Listed { items: Vec<T>, revision: u64 },
    /// The watch is open.
    Opened,
    /// An object came or changed.
    Put { object: T, revision: u64 },
    /// An object was deleted, or is no longer selected.
    Removed { object: T, revision: u64 },
    /// Nothing happened up to here.
    Bookmark { revision: u64 },
    /// A write may have happened that nobody was told of: only a list says whether it has.
    Doubted,
    /// The watch's revision is no longer known to the server.
    Expired,
    /// The watch's revision is not yet known to the server.
    Ahead,
    /// There is no connection to an API server. The connection's own backoff sees to it that nobody dials too often, so
    /// this is no reason to wait, and none to wait longer the next time.
    Unreachable,
    /// The list failed, the watch could not be opened, or it ended after it `lived` so long.
    Failed { lived: Duration },
}

/// What is to be done about it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Effect<T> {
    /// Nothing.
    None,
    /// This is everything there is.
    Replace { items: Vec<T>, revision: u64 },
    /// Take in one object.
    Put { object: T, revision: u64 },
    /// Take out one object.
    Remove { object: T, revision: u64 },
    /// Know that nothing else happened up to here.
    Advance { revision: u64 },
    /// Wait as befits so many failures in a row.
    Wait { failures: u32 },
}

impl State {
    /// The start: nothing is known.
    pub(crate) const START: State = State::Listing { seen: 0, failures: 0 };

    /// What follows from what was heard.
    pub(crate) fn step<T>(self, heard: Heard<T>) -> (State, Effect<T>) {
        match (self, heard) {
            (State::Listing { seen, failures }, Heard::Listed { items, revision }) => {
                if revision < seen && failures < BACKWARDS && !is_awake(Mutant::TimeTravel) {
                    // A server that is behind. To believe it would be travelling back in time.
                    return State::Listing { seen, failures }.again();
                }
                (State::Opening { revision, failures }, Effect::Replace { items, revision })
            }
            (State::Opening { revision, failures }, Heard::Opened) => {
                (State::Watching { revision, failures }, Effect::None)
            }
            (State::Watching { revision: known, .. }, Heard::Put { object, revision }) => {
                Self::heard_at(known, revision, Effect::Put { object, revision })
            }
            (State::Watching { revision: known, .. }, Heard::Removed { object, revision }) => {
                Self::heard_at(known, revision, Effect::Remove { object, revision })
            }
            (State::Watching { revision: known, .. }, Heard::Bookmark { revision }) => {
                Self::heard_at(known, revision, Effect::Advance { revision })
            }
            (State::Watching { revision: seen, failures }, Heard::Doubted) => {
                (State::Listing { seen, failures }, Effect::None)
            }
            (
                State::Opening { revision: seen, failures } | State::Watching { revision: seen, failures },
                Heard::Expired,
            ) if !is_awake(Mutant::SpinsOnExpired) => State::Listing { seen, failures }.again(),
            // A server that catches up is waited for; after so long, only a list can say what is true.
            (
                State::Opening { revision: seen, failures } | State::Watching { revision: seen, failures },
                Heard::Ahead,
            ) if failures >= BACKWARDS && !is_awake(Mutant::AheadForEver) => State::Listing { seen, failures }.again(),
            (state @ (State::Listing { .. } | State::Opening { .. }), Heard::Unreachable) => {
                (state, Effect::Wait { failures: 1 })
            }
            (State::Watching { revision, .. }, Heard::Failed { lived }) if lived >= LIVED => {
                (State::Opening { revision, failures: 0 }, Effect::None)
            }
            (State::Watching { revision, failures }, Heard::Failed { .. }) => {
                State::Opening { revision, failures }.again()
            }
            // Everything else is a failure of what was tried.
            (state, _) => state.again(),
        }
    }

    /// An event of a watch. One from before what is known is an echo of a resumed watch, and changes nothing.
    fn heard_at<T>(known: u64, revision: u64, effect: Effect<T>) -> (State, Effect<T>) {
        if revision < known {
            return (State::Watching { revision: known, failures: 0 }, Effect::None);
        }
        (State::Watching { revision, failures: 0 }, effect)
    }

    /// The same state, after one more failure.
    fn again<T>(self) -> (State, Effect<T>) {
        let next = match self {
            State::Listing { seen, failures } => State::Listing { seen, failures: failures.saturating_add(1) },
            State::Opening { revision, failures } | State::Watching { revision, failures } => {
                State::Opening { revision, failures: failures.saturating_add(1) }
            }
        };
        (next, Effect::Wait { failures: next.failures() })
    }

    fn failures(self) -> u32 {
        match self {
            State::Listing { failures, .. } | State::Opening { failures, .. } | State::Watching { failures, .. } => {
                failures
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed<T>() -> Heard<T> {
        Heard::Failed { lived: Duration::ZERO }
    }

    fn listing(seen: u64, failures: u32) -> State {
        State::Listing { seen, failures }
    }
    fn opening(revision: u64, failures: u32) -> State {
        State::Opening { revision, failures }
    }
    fn watching(revision: u64, failures: u32) -> State {
        State::Watching { revision, failures }
    }

    #[test]
    fn every_turn() {
        let wait = |failures| Effect::Wait { failures };
        let listed = |revision| Heard::Listed { items: vec!['a'], revision };
        let replace = |revision| Effect::Replace { items: vec!['a'], revision };
        let put = |revision| Heard::Put { object: 'a', revision };
        let removed = |revision| Heard::Removed { object: 'a', revision };
        let table = [
            ("the watch starts where the list ended", listing(0, 0), listed(7), opening(7, 0), replace(7)),
            ("a list that works does not yet end the trouble", listing(0, 3), listed(7), opening(7, 3), replace(7)),
            ("a failed list is tried again", listing(4, 1), failed(), listing(4, 2), wait(2)),
            ("a list token that expired means listing again", listing(4, 1), Heard::Expired, listing(4, 2), wait(2)),
            ("a list from a server that is behind is refused", listing(9, 0), listed(8), listing(9, 1), wait(1)),
            ("but not for ever", listing(9, 10), listed(8), opening(8, 10), replace(8)),
            ("a list at what is known is fine", listing(9, 0), listed(9), opening(9, 0), replace(9)),
            ("opening", opening(7, 2), Heard::Opened, watching(7, 2), Effect::None),
            ("a watch that cannot open is tried at the same place", opening(7, 0), failed(), opening(7, 1), wait(1)),
            ("expired before it opened: list", opening(7, 1), Heard::Expired, listing(7, 2), wait(2)),
            ("a server that is behind is waited for", opening(7, 1), Heard::Ahead, opening(7, 2), wait(2)),
            ("but not for ever: list", opening(7, 10), Heard::Ahead, listing(7, 11), wait(11)),
            ("in doubt it lists at once", watching(7, 2), Heard::Doubted, listing(7, 2), Effect::None),
            ("expired in the stream: list", watching(7, 0), Heard::Expired, listing(7, 1), wait(1)),
            (
                "an event moves on and ends the trouble",
                watching(7, 2),
                put(9),
                watching(9, 0),
                Effect::Put { object: 'a', revision: 9 },
            ),
            (
                "so does a deletion",
                watching(7, 2),
                removed(9),
                watching(9, 0),
                Effect::Remove { object: 'a', revision: 9 },
            ),
            (
                "and a bookmark",
                watching(7, 2),
                Heard::Bookmark { revision: 12 },
                watching(12, 0),
                Effect::Advance { revision: 12 },
            ),
            (
                "two objects of one revision both count",
                watching(9, 0),
                put(9),
                watching(9, 0),
                Effect::Put { object: 'a', revision: 9 },
            ),
            ("an echo changes nothing", watching(9, 0), put(8), watching(9, 0), Effect::None),
            ("a cut watch resumes at what was last heard", watching(9, 0), failed(), opening(9, 1), wait(1)),
            ("cut at once again and again waits longer", watching(9, 4), failed(), opening(9, 5), wait(5)),
            ("an outage is waited for where it began", opening(9, 2), Heard::Unreachable, opening(9, 2), wait(1)),
            ("also without a list", listing(0, 0), Heard::Unreachable, listing(0, 0), wait(1)),
            (
                "a watch that lived long resumes at once",
                watching(9, 4),
                Heard::Failed { lived: Duration::from_secs(60) },
                opening(9, 0),
                Effect::None,
            ),
        ];
        for (name, state, heard, next, effect) in table {
            assert_eq!(state.step(heard), (next, effect), "{name}");
        }
    }

    proptest::proptest! {
        /// Whatever happens, what is known never goes back, except by a list that was refused ten times.
        #[test]
        fn revisions_only_grow(heard in proptest::collection::vec((0u8..9, 1u64..50), 1..200)) {
            let mut state = State::START;
            let mut seen = 0;
            for (what, revision) in heard {
                let heard = match what {
                    0 => Heard::Listed { items: vec!['a'], revision },
                    1 => Heard::Opened,
                    2 => Heard::Put { object: 'a', revision },
                    3 => Heard::Removed { object: 'a', revision },
                    4 => Heard::Bookmark { revision },
                    5 => Heard::Expired,
                    6 => Heard::Ahead,
                    7 => Heard::Unreachable,
                    _ => failed(),
                };
                let tries = state.failures();
                let (next, effect) = state.step(heard);
                let now = match next {
                    State::Listing { seen, .. } => seen,
                    State::Opening { revision, .. } | State::Watching { revision, .. } => revision,
                };
                proptest::prop_assert!(now >= seen || tries >= BACKWARDS, "{:?} after {:?}: {:?}", next, state, effect);
                if let Effect::Put { revision, .. } | Effect::Remove { revision, .. } | Effect::Advance { revision } = effect {
                    proptest::prop_assert_eq!(next, watching(revision, 0));
                }
                (state, seen) = (next, now);
            }
        }
    }
}
