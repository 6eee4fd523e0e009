//! The proxy's edge to the kernel: restores rules, reads them back, forgets stale connections.
//!
//! [`iptables`] is the real one; [`fake`] interprets the same text in memory, for simulations and tests. A test
//! against a real kernel (`tests/kernel.rs`) holds the two to the same answers.

pub mod conntrack;
pub mod fake;
pub mod iptables;

use async_trait::async_trait;
use thiserror::Error;

use crate::rules::{StaleFlow, Table};

pub use fake::FakeApplier;
pub use iptables::{Iptables, IptablesOptions};

/// Applies rules to one node's tables.
#[async_trait]
pub trait RuleApplier: Send + Sync + 'static {
    /// Restores `text` without flushing what it does not name. Each of its tables is all or nothing.
    async fn restore(&self, text: &str) -> Result<(), ApplyError>;

    /// Everything in a table, as `iptables-save` prints it.
    async fn save(&self, table: Table) -> Result<String, ApplyError>;

    /// Makes the kernel forget these UDP conversations, so that their next packet is dispatched anew.
    async fn forget(&self, flows: &[StaleFlow]) -> Result<(), ApplyError>;

    /// About how many rules a single restore should hold.
    async fn batch_limit(&self) -> Result<usize, ApplyError>;
}

/// Why rules could not be applied or read.
#[derive(Clone, Debug, Error)]
pub enum ApplyError {
    /// The program is not there or cannot run.
    #[error("cannot run {program}: {reason}; the proxy needs the package `iptables`")]
    Run {
        /// The program.
        program: String,
        /// The system's words.
        reason: String,
    },
    /// It did not end in time and was killed.
    #[error("{program} did not end within {seconds} s and was killed; the next try starts by reading back")]
    Timeout {
        /// The program.
        program: String,
        /// How long it was given.
        seconds: u64,
    },
    /// It refused.
    #[error("{program} refused: {reason}{}", line.as_ref().map(|l| format!("; the line was: {l}")).unwrap_or_default())]
    Refused {
        /// The program.
        program: String,
        /// Its words.
        reason: String,
        /// The line of the restore that it named.
        line: Option<String>,
    },
}
