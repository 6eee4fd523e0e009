//! Deliberate faults, for showing that the tests find such faults: each is one that small orchestrators, or the big ones,
//! really had. `docs/traps.md` says which, and which test kills it; `make mutants` tries.
//!
//! A fault stands where it would be made: `if is_awake(Mutant::X) { .. }`. Without the feature `mutants`, which only the
//! tests ask for, that is the constant `false`, and the compiler leaves the fault out: the binaries have none.
//!
//! With it, a mutant is awake in the thread that woke it ([`with`]; a simulation runs in one thread), or in the whole
//! process if the environment variable `SKIFF_MUTANT` names it.

/// Makes the list of mutants: their names, and all of them.
macro_rules! mutants {
    ($($(#[$words:meta])* $name:ident,)+) => {
        /// A fault.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Mutant {
            $($(#[$words])* $name,)+
        }

        impl Mutant {
            /// All of them.
            pub const ALL: &[Mutant] = &[$(Mutant::$name),+];

            /// The mutant of this name.
            pub fn named(name: &str) -> Option<Mutant> {
                Mutant::ALL.iter().copied().find(|mutant| format!("{mutant:?}") == name)
            }
        }
    };
}

mutants! {
    // Of small orchestrators.
    /// A watch begins at now, in place of where the list or the last watch stopped.
    GapBeforeWatch,
    /// A key that is added while it is being worked on is not worked on again.
    DroppedKey,
    /// A key that has failed five times is given up.
    GivenUp,
    /// A status is written by reading the whole object and, a little later, putting the whole object back, whoever has
    /// changed it meanwhile.
    BlindStatus,
    /// A controller takes for its own whatever has its labels, whoever owns it.
    LabelsAlone,
    /// What is owned stays when its owner goes.
    LeftBehind,
    /// Of what is owned, one object goes with its owner.
    OnlyTheFirst,
    /// A Pod that found no node is not tried again.
    NeverAgain,
    /// Why a Pod found no node is not told.
    ReasonsThrownAway,
    /// How much a node has left is not looked at.
    Overcommit,
    /// News are looked at every thirty seconds.
    Polling,
    /// One key is worked on at a time: what is slow holds up everybody.
    OneAtATime,
    /// Rules are written one by one.
    RuleByRule,
    /// UDP ports of Services are left out.
    TcpOnly,
    /// A Service without endpoints has no rule.
    NoReject,
    /// Conversations with endpoints that are gone go on.
    StaleConversations,
    /// What is in the tables when the proxy starts counts for nothing.
    RulesDoubled,
    /// The tables are read at the start, and never again.
    RulesFlushed,
    /// The container engine is waited for as long as it takes.
    HungEngine,
    /// Addresses and files without a container are not looked for.
    HalfMade,
    /// A watch from a revision that is forgotten is opened again, and again.
    SpinsOnExpired,
    /// A node says how it is with each heartbeat, whether that has changed or not.
    ChattyNode,
    /// History is never forgotten.
    HistoryForEver,
    /// A rollout that takes too long does not say so.
    SilentHang,
    /// A test that did not run counts as one that passed.
    NothingRun,

    // Of the watches, caches and stores of the big ones.
    /// A list of nothing says a revision that is one too high.
    EmptyListAhead,
    /// A deletion is told at the revision of the object's last change.
    OldDelete,
    /// A deletion is told without the object.
    NamelessDelete,
    /// Deletions are not told.
    LostDelete,
    /// What the server does not have yet is asked for until it has.
    AheadForEver,
    /// A list is believed, however old.
    TimeTravel,
    /// What is missing from a list is not taken for deleted.
    DeleteLostInGap,
    /// A delete at the revision at which a store was compacted is skipped.
    DeleteAtCompaction,
    /// A restored store counts on from the backup's revision.
    RestoreGoesBack,
    /// A leader's writes are not fenced.
    NoFence,
    /// A controller does not wait until it sees its own writes.
    StaleCache,
    /// A write whose answer was lost is taken for one that was not done.
    LostAnswer,
    /// What was reserved for a write that never came stays reserved.
    ReservedForEver,
    /// A sandbox that was made and not started, as a crash leaves it, is waited for.
    MadeNotStarted,
    /// A list shows what the cache has, without asking the store how far it is.
    ReadsBehind,
    /// An object that was deleted and made again unseen is one that changed.
    MissedInBetween,
    /// Pods that are too many stay.
    SurplusStays,
    /// Containers of Pods that nobody knows any more stay.
    LeftoversStay,
    /// A key that is done is queued again, as if it had failed.
    NeverDone,
}

#[cfg(not(feature = "mutants"))]
/// Whether the mutant is awake: never.
#[inline(always)]
pub const fn is_awake(_: Mutant) -> bool {
    false
}

#[cfg(feature = "mutants")]
pub use awake::{is_awake, with};

#[cfg(feature = "mutants")]
mod awake {
    use std::cell::Cell;
    use std::sync::OnceLock;

    use super::Mutant;

    thread_local! {
        static HERE: Cell<Option<Mutant>> = const { Cell::new(None) };
    }

    /// Runs `f` with the mutant awake.
    pub fn with<T>(mutant: Mutant, f: impl FnOnce() -> T) -> T {
        struct Asleep;
        impl Drop for Asleep {
            fn drop(&mut self) {
                HERE.set(None);
            }
        }
        HERE.set(Some(mutant));
        let _asleep = Asleep;
        f()
    }

    /// Whether the mutant is awake.
    pub fn is_awake(mutant: Mutant) -> bool {
        HERE.get() == Some(mutant) || everywhere() == Some(mutant)
    }

    /// The one that the environment names.
    fn everywhere() -> Option<Mutant> {
        static NAMED: OnceLock<Option<Mutant>> = OnceLock::new();
        *NAMED.get_or_init(|| {
            let name = std::env::var("SKIFF_MUTANT").ok()?;
            Some(Mutant::named(&name).unwrap_or_else(|| panic!("SKIFF_MUTANT: there is no mutant {name:?}")))
        })
    }
}
