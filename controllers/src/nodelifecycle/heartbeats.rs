//! When each node was last heard, by our own clock.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// When each node was last heard, or since when it is missing.
#[derive(Default)]
pub struct Heartbeats {
    nodes: Mutex<BTreeMap<String, Seen>>,
}

#[derive(Clone, Copy)]
struct Seen {
    exists: bool,
    at: Instant,
}

impl Heartbeats {
    /// A heartbeat.
    pub fn heard(&self, node: &str, now: Instant) {
        self.lock().insert(node.into(), Seen { exists: true, at: now });
    }

    /// The Node was deleted.
    pub fn gone(&self, node: &str, now: Instant) {
        self.lock().insert(node.into(), Seen { exists: false, at: now });
    }

    /// Nothing is left of it.
    pub fn forget(&self, node: &str) {
        self.lock().remove(node);
    }

    /// For how long a node has been silent, or missing. One that is met for the first time, or was of the other
    /// sort, begins now: after a restart nobody is declared dead for what we did not hear.
    pub fn silence(&self, node: &str, exists: bool, now: Instant) -> Duration {
        let mut nodes = self.lock();
        let seen = nodes.entry(node.into()).or_insert(Seen { exists, at: now });
        if seen.exists != exists {
            *seen = Seen { exists, at: now };
        }
        now.saturating_duration_since(seen.at)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Seen>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
