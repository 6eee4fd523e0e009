//! How much misfortune a simulation deals.

use std::time::Duration;

/// What goes wrong, and how often. Shares are out of a million.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults {
    /// Chunks between machines that break their connection.
    pub breaks: u64,
    /// Connection attempts between machines that are refused.
    pub refusals: u64,
    /// Chunks between machines that arrive up to `longest_stall` late.
    pub stalls: u64,
    /// The longest that a stalled chunk, and all behind it, takes.
    pub longest_stall: Duration,
    /// The longest that any other chunk between machines takes.
    pub longest_delay: Duration,
    /// Polls at which a ready task lets the others go first.
    pub yields: u64,
    /// How many connections may be broken or refused in all. An endless run of bad luck proves
    /// nothing.
    pub budget: u64,
}

impl Default for Faults {
    fn default() -> Faults {
        Faults {
            breaks: 2_000,
            refusals: 50_000,
            stalls: 2_000,
            longest_stall: Duration::from_secs(3),
            longest_delay: Duration::from_millis(5),
            yields: 100_000,
            budget: 200,
        }
    }
}

impl Faults {
    /// Nothing breaks; delays and the order of tasks are random all the same.
    pub fn none() -> Faults {
        Faults { breaks: 0, refusals: 0, stalls: 0, budget: 0, ..Faults::default() }
    }

    pub(super) fn calm(&mut self) {
        (self.breaks, self.refusals, self.stalls, self.budget) = (0, 0, 0, 0);
    }

    /// Takes one fault out of the budget, if a draw below a million says so.
    pub(super) fn strikes(&mut self, share: u64, draw: u64) -> bool {
        let strikes = draw < share && self.budget > 0;
        if strikes {
            self.budget -= 1;
        }
        strikes
    }
}
