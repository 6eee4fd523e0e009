//! Probes: is a container started, ready, alive? [`state`] is the pure state machine of one probe, [`check`] asks once,
//! [`watch`] does both for a running container and wakes its Pod when an answer changes.

pub mod check;
pub mod state;
pub mod watch;

pub use state::Verdict;
