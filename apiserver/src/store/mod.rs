//! The store: an ordered map of keys to values in which every change has a revision.
//!
//! Only the API server touches it. Two implementations stand behind one trait: [`embedded`], the default for one
//! server, and [`etcd`], for high availability. One conformance suite (`conformance`) runs on both, so what this page
//! promises holds for either:
//!
//! - **One order.** Each transaction that changes something has a revision of its own, greater than every one before.
//!   An empty store stands at revision 1, so that a list of nothing still has a revision to watch from.
//! - **Durable before acknowledged.** When [`Store::txn`] returns `Committed`, the write survives a crash.
//! - **Watching loses nothing.** [`Store::watch`] after revision N yields every revision above N exactly once, whole and
//!   in order, or a typed error; deletes carry a revision of their own and the last value.
//! - **No travel back in time.** Revisions are what clients see as resourceVersion. A restore lifts the store above
//!   every revision that was ever given out, so a revision names one moment forever.
//!
//! Reads are answered by the cache (`crate::cache`), which one watch over the whole key space feeds.

#[cfg(test)]
mod conformance;
pub mod embedded;
mod error;
pub mod etcd;
mod keys;
mod snapshot;
mod types;
mod watch;

pub use error::StoreError;
pub use keys::{KeyError, ObjectName, ROOT, object_key, parse_key, resource_prefix, tombstone_key};
pub(crate) use keys::{is_bookkeeping, tombstone_of};
pub use snapshot::{Snapshot, take_snapshot};
pub use types::{
    Compare, Entry, Event, EventKind, MAX_KEY, MAX_OPS, MAX_VALUE, Op, RangeResult, Revision, Txn, TxnResult,
};
pub use watch::{WatchItem, WatchSender, WatchStream, watch_channel};

use async_trait::async_trait;

/// What both stores do. Every call is bounded in time; none panics on input.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Does all operations at once if every compared key is at its revision; else says what is there instead.
    /// `StoreError::Unavailable` and `Timeout` leave open whether the write happened: read before trying again.
    async fn txn(&self, txn: Txn) -> Result<TxnResult, StoreError>;

    /// The entries whose keys begin with `prefix`, in key order, from the key `from` on (inclusive), at most `limit`
    /// (0: all), as they were at revision `at` (`None`: now).
    async fn range(
        &self,
        prefix: &[u8],
        from: Option<&[u8]>,
        limit: usize,
        at: Option<u64>,
    ) -> Result<RangeResult, StoreError>;

    /// Every revision above `after` that touches keys beginning with `prefix`. Below the compaction: `Compacted`.
    async fn watch(&self, prefix: &[u8], after: u64) -> Result<WatchStream, StoreError>;

    /// Forgets history: reading or watching below revision `below` fails from now on. Going back is a no-op.
    async fn compact(&self, below: u64) -> Result<(), StoreError>;

    /// The newest revision, read so that it covers every write acknowledged before the call.
    async fn head(&self) -> Result<u64, StoreError>;

    /// Makes every open watch report how far it is (`WatchItem::Progress`), at least up to the head at this moment.
    async fn progress(&self) -> Result<(), StoreError>;

    /// Replaces everything by the snapshot's entries, at revisions above `snapshot.floor` and above every revision this
    /// store ever gave out. Open watches end with an error after which one
    /// lists again.
    async fn restore(&self, snapshot: Snapshot) -> Result<u64, StoreError>;

    /// Ends all watches and gives the files or connections back. Later calls fail with `Closed`.
    async fn close(&self);
}
