//! The words of the store: transactions, entries, revisions and their events.

use std::time::Duration;

use bytes::Bytes;

use super::StoreError;

/// Most operations in one transaction: an object, its tombstone or its address, and what else has to change with it.
pub const MAX_OPS: usize = 32;
/// Longest key in bytes.
pub const MAX_KEY: usize = 1024;
/// Longest value in bytes; just under what etcd takes in one request by default (1.5 MiB).
pub const MAX_VALUE: usize = 1_500_000;

/// One key's expected state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compare {
    /// The key.
    pub key: Bytes,
    /// The revision of its last change; 0: the key must be absent.
    pub mod_revision: u64,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Writes a value.
    Put {
        /// Where.
        key: Bytes,
        /// What.
        value: Bytes,
        /// After this time the store deletes the key by itself, roughly (etcd leases are shared in steps).
        ttl: Option<Duration>,
    },
    /// Deletes a key; of an absent one, nothing.
    Delete {
        /// Which.
        key: Bytes,
    },
}

impl Op {
    /// The key it changes.
    pub fn key(&self) -> &Bytes {
        match self {
            Op::Put { key, .. } | Op::Delete { key } => key,
        }
    }
}

/// All or nothing: at most [`MAX_OPS`] operations on different keys, done if all comparisons hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Txn {
    /// What must hold.
    pub compare: Vec<Compare>,
    /// What is then done.
    pub ops: Vec<Op>,
}

impl Txn {
    /// Writes a key that must not exist.
    pub fn create(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Txn {
        Txn::default().expect(key, 0).put_same(value)
    }

    /// Replaces a key that must be at `mod_revision`.
    pub fn update(key: impl Into<Bytes>, mod_revision: u64, value: impl Into<Bytes>) -> Txn {
        Txn::default().expect(key, mod_revision).put_same(value)
    }

    /// Deletes a key that must be at `mod_revision`.
    pub fn delete(key: impl Into<Bytes>, mod_revision: u64) -> Txn {
        let key = key.into();
        Txn::default().expect(key.clone(), mod_revision).and(Op::Delete { key })
    }

    /// Adds a comparison.
    pub fn expect(mut self, key: impl Into<Bytes>, mod_revision: u64) -> Txn {
        self.compare.push(Compare { key: key.into(), mod_revision });
        self
    }

    /// Adds an operation.
    pub fn and(mut self, op: Op) -> Txn {
        self.ops.push(op);
        self
    }

    /// Gives every put of this transaction a time to live.
    pub fn with_ttl(mut self, after: Duration) -> Txn {
        for op in &mut self.ops {
            if let Op::Put { ttl, .. } = op {
                *ttl = Some(after);
            }
        }
        self
    }

    fn put_same(mut self, value: impl Into<Bytes>) -> Txn {
        let key = self.compare[0].key.clone();
        self.ops.push(Op::Put { key, value: value.into(), ttl: None });
        self
    }

    /// Refuses what neither store would take, with the same words for both.
    pub fn validate(&self) -> Result<(), StoreError> {
        let invalid = |why: String| Err(StoreError::Invalid(why));
        if self.ops.len() > MAX_OPS {
            return invalid(format!("{} operations in one transaction; the most is {MAX_OPS}", self.ops.len()));
        }
        for (at, op) in self.ops.iter().enumerate() {
            if self.ops[..at].iter().any(|before| before.key() == op.key()) {
                return invalid("two operations on the same key in one transaction".into());
            }
        }
        for key in self.ops.iter().map(Op::key).chain(self.compare.iter().map(|c| &c.key)) {
            if key.is_empty() || key.len() > MAX_KEY {
                return invalid(format!("a key of {} bytes; it must have 1 to {MAX_KEY}", key.len()));
            }
        }
        for op in &self.ops {
            if let Op::Put { value, .. } = op
                && value.len() > MAX_VALUE
            {
                return invalid(format!("a value of {} bytes; the most is {MAX_VALUE}", value.len()));
            }
        }
        Ok(())
    }
}

/// What became of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TxnResult {
    /// Done and durable, at this revision (the head, unchanged, if nothing had to be changed).
    Committed {
        /// The transaction's own revision.
        revision: u64,
    },
    /// Some comparison failed; nothing was changed.
    Conflict {
        /// The revision at which the keys were read.
        revision: u64,
        /// What the compared keys hold, in the order of `Txn::compare`.
        current: Vec<Option<Entry>>,
    },
}

/// A key with its value and where both come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: Bytes,
    /// The value.
    pub value: Bytes,
    /// The revision that made the key.
    pub create_revision: u64,
    /// The revision of the last change.
    pub mod_revision: u64,
    /// True if it was put with a time to live.
    pub expires: bool,
}

/// One page of a range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RangeResult {
    /// In key order.
    pub entries: Vec<Entry>,
    /// The revision that the entries show: `at`, or the head when read. Watching after it leaves no gap.
    pub revision: u64,
    /// True if the limit cut something off.
    pub more: bool,
}

/// Everything one transaction changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revision {
    /// Its number.
    pub revision: u64,
    /// The changes, each to a different key.
    pub events: Vec<Event>,
}

/// One changed key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The key.
    pub key: Bytes,
    /// The change.
    pub kind: EventKind,
}

/// What happened to a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventKind {
    /// Created (`create_revision` is the event's own revision) or replaced.
    Put {
        /// The new value.
        value: Bytes,
        /// The revision that made the key.
        create_revision: u64,
    },
    /// Deleted, by a transaction or because its time was over.
    Delete {
        /// The value it had.
        previous: Bytes,
    },
}
