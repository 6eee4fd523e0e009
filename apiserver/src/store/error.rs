//! What can go wrong with a store, in words for the person who has to act on it.

/// Why a store call failed. A failed comparison is no error: see `TxnResult::Conflict`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The history asked for is forgotten: list again.
    #[error("history below revision {oldest} is compacted: list again and go on from there")]
    Compacted {
        /// The lowest revision that can still be read, or watched after.
        oldest: u64,
    },
    /// A revision this store has not reached.
    #[error("revision {asked} is in the future: the store is at {head}")]
    FutureRevision {
        /// What was asked for.
        asked: u64,
        /// Where the store is.
        head: u64,
    },
    /// The call makes no sense: too many operations, an empty key, a value over the limit.
    #[error("invalid store call: {0}")]
    Invalid(String),
    /// The store cannot be reached or cannot write. A write may or may not have happened.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// No answer in time. A write may or may not have happened.
    #[error("the store gave no answer to {operation} within {seconds} s")]
    Timeout {
        /// What was asked.
        operation: &'static str,
        /// How long we waited.
        seconds: u64,
    },
    /// This watcher read too slowly and was cut off: watch again after the last revision it saw.
    #[error("the watcher fell behind and was cut off: watch again after the last revision it saw")]
    Lagging,
    /// Everything was replaced by a snapshot: list again.
    #[error("the store was restored from a snapshot: list again")]
    Restored,
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
    /// Written by a newer Skiff.
    #[error(
        "{what} has format {found}, and this Skiff reads up to {known}: it was written by a newer Skiff; run that one, or restore a snapshot made by this one"
    )]
    NewerFormat {
        /// What has the format: the store, a snapshot, an envelope.
        what: String,
        /// Its format number.
        found: u32,
        /// The newest we read.
        known: u32,
    },
    /// Bytes that this store wrote read back wrong.
    #[error("the store's data is damaged: {0}")]
    Corrupt(String),
}

impl StoreError {
    /// True if the same call may succeed later without anybody doing anything. A write must read first.
    pub fn is_transient(&self) -> bool {
        matches!(self, StoreError::Unavailable(_) | StoreError::Timeout { .. } | StoreError::Lagging)
    }

    /// True if whoever watches has to list again.
    pub fn needs_relist(&self) -> bool {
        matches!(self, StoreError::Compacted { .. } | StoreError::Restored | StoreError::FutureRevision { .. })
    }
}
