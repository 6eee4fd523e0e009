//! The embedded store's state machine: pure, synchronous, without clock, disk or threads.
//!
//! `plan` says what a batch of transactions does, and changes nothing; the writer makes that durable; `install` then
//! makes it visible. So a reader never sees what a crash could still take away.
//!
//! ```text
//!   keys:     key -> [version, version, current]      old versions only as far back as the compaction
//!   history:  revision, revision, revision ... head   what a watch resumes from; above the compaction
//! ```

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use skiff_world::mutants::{Mutant, is_awake};

use crate::store::{Entry, Event, EventKind, Op, RangeResult, Revision, StoreError, Txn, TxnResult};

/// What an empty store's head is: a list of nothing has a revision to watch from.
pub(super) const FIRST: u64 = 1;

/// One state of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Version {
    /// `None`: deleted.
    pub(super) value: Option<Bytes>,
    pub(super) create_revision: u64,
    pub(super) mod_revision: u64,
    /// Which of its revision's changes this is.
    pub(super) slot: u8,
    /// Wall clock in milliseconds; 0: never.
    pub(super) expires_at: i64,
}

#[derive(Debug, Clone)]
struct Chain {
    current: Version,
    /// Oldest first. Mostly empty, and then it takes no memory.
    older: Vec<Version>,
}

impl Chain {
    fn at(&self, revision: u64) -> Option<&Version> {
        if self.current.mod_revision <= revision {
            return Some(&self.current);
        }
        self.older.iter().rev().find(|version| version.mod_revision <= revision)
    }
}

/// One planned revision: the events and, in the same order, the versions they make.
#[derive(Debug, Clone)]
pub(super) struct Applied {
    pub(super) revision: Arc<Revision>,
    pub(super) versions: Vec<Version>,
}

/// What a batch does.
#[derive(Debug, Default)]
pub(super) struct Planned {
    /// One for each transaction, in order.
    pub(super) outcomes: Vec<TxnResult>,
    /// In order; transactions that changed nothing have none.
    pub(super) applied: Vec<Applied>,
}

/// Names one version in the log: its revision and slot.
pub(super) type VersionId = (u64, u8);

/// The state.
#[derive(Debug)]
pub(super) struct Machine {
    head: u64,
    compacted: u64,
    keys: BTreeMap<Bytes, Chain>,
    history: VecDeque<Arc<Revision>>,
    history_bytes: usize,
    expiries: BTreeSet<(i64, Bytes)>,
}

impl Machine {
    /// An empty store, or what a restore begins with: its first revision will be `head + 1`.
    pub(super) fn new(head: u64, compacted: u64) -> Machine {
        Machine {
            head: head.max(FIRST),
            compacted,
            keys: BTreeMap::new(),
            history: VecDeque::new(),
            history_bytes: 0,
            expiries: BTreeSet::new(),
        }
    }

    pub(super) fn head(&self) -> u64 {
        self.head
    }

    pub(super) fn compacted(&self) -> u64 {
        self.compacted
    }

    /// How many revisions, and about how many bytes of values, the history holds.
    pub(super) fn history_size(&self) -> (usize, usize) {
        (self.history.len(), self.history_bytes)
    }

    /// The revision below which the history must be forgotten so that `revisions` and `bytes` hold.
    pub(super) fn compaction_for(&self, revisions: usize, bytes: usize) -> u64 {
        let mut target = self.compacted;
        let (mut count, mut size) = self.history_size();
        for revision in &self.history {
            if count <= revisions && size <= bytes {
                break;
            }
            count -= 1;
            size -= size_of(revision);
            target = revision.revision;
        }
        target
    }

    /// What the batch does, one transaction after the other, each seeing those before it.
    pub(super) fn plan(&self, batch: &[Txn], now: i64) -> Planned {
        let mut planned = Planned::default();
        let mut overlay: BTreeMap<Bytes, Version> = BTreeMap::new();
        let mut head = self.head;
        for txn in batch {
            let live = |key: &Bytes| {
                overlay
                    .get(key)
                    .or_else(|| self.keys.get(key).map(|chain| &chain.current))
                    .filter(|v| v.value.is_some())
            };
            if txn.compare.iter().any(|c| live(&c.key).map_or(0, |v| v.mod_revision) != c.mod_revision) {
                let current = txn.compare.iter().map(|c| live(&c.key).and_then(|v| entry(&c.key, v))).collect();
                planned.outcomes.push(TxnResult::Conflict { revision: head, current });
                continue;
            }
            let changes = changes(txn, head + 1, now, live);
            if !changes.is_empty() {
                head += 1;
                let (events, versions): (Vec<Event>, Vec<Version>) = changes.into_iter().unzip();
                for (event, version) in events.iter().zip(&versions) {
                    overlay.insert(event.key.clone(), version.clone());
                }
                planned.applied.push(Applied { revision: Arc::new(Revision { revision: head, events }), versions });
            }
            planned.outcomes.push(TxnResult::Committed { revision: head });
        }
        planned
    }

    /// Makes planned revisions visible. They must follow the head directly.
    pub(super) fn install(&mut self, applied: &[Applied]) {
        for one in applied {
            self.head = one.revision.revision;
            for (event, version) in one.revision.events.iter().zip(&one.versions) {
                self.put_version(event.key.clone(), version.clone());
            }
            self.remember(one.revision.clone());
        }
    }

    /// Rebuilds the state from the log: one version after the other, in order of revision and slot.
    pub(super) fn replay(&mut self, key: Bytes, version: Version) {
        let revision = version.mod_revision;
        let previous = self.keys.get(&key).and_then(|chain| chain.current.value.clone());
        let create_revision = version.create_revision;
        let value = version.value.clone();
        self.put_version(key.clone(), version);
        self.head = self.head.max(revision);
        let kind = match (value, previous) {
            (Some(value), _) => EventKind::Put { value, create_revision },
            (None, Some(previous)) => EventKind::Delete { previous },
            (None, None) => return,
        };
        if revision <= self.compacted {
            return;
        }
        let event = Event { key, kind };
        match self.history.back_mut() {
            Some(last) if last.revision == revision => {
                let mut events = last.events.clone();
                self.history_bytes += size_of_event(&event);
                events.push(event);
                *last = Arc::new(Revision { revision, events });
            }
            _ => self.remember(Arc::new(Revision { revision, events: vec![event] })),
        }
    }

    /// See `Store::range`.
    pub(super) fn range(
        &self,
        prefix: &[u8],
        from: Option<&[u8]>,
        limit: usize,
        at: Option<u64>,
    ) -> Result<RangeResult, StoreError> {
        let at = at.filter(|at| *at > 0).unwrap_or(self.head);
        self.check(at)?;
        let start = from.map_or(prefix, |from| from.max(prefix));
        let mut entries = Vec::new();
        let keys = self.keys.range::<[u8], _>((Bound::Included(start), Bound::Unbounded));
        for (key, chain) in keys.take_while(|(key, _)| key.starts_with(prefix)) {
            let Some(found) = chain.at(at).and_then(|version| entry(key, version)) else { continue };
            if limit > 0 && entries.len() == limit {
                return Ok(RangeResult { entries, revision: at, more: true });
            }
            entries.push(found);
        }
        Ok(RangeResult { entries, revision: at, more: false })
    }

    /// The remembered revisions above `after`, cut down to the prefix.
    pub(super) fn since(&self, prefix: &[u8], after: u64) -> Result<VecDeque<Arc<Revision>>, StoreError> {
        // What is forgotten up to a revision cannot be told from that one on.
        self.check(if is_awake(Mutant::DeleteAtCompaction) { (after + 1).min(self.head) } else { after })?;
        let first = self.history.partition_point(|revision| revision.revision <= after);
        Ok(self.history.range(first..).filter_map(|revision| cut(revision, prefix)).collect())
    }

    /// Keys whose time is over, with the revision that said so.
    pub(super) fn expired(&self, now: i64) -> Vec<(Bytes, u64)> {
        let due = self.expiries.range(..(now.saturating_add(1), Bytes::new()));
        due.filter_map(|(_, key)| Some((key.clone(), self.keys.get(key)?.current.mod_revision))).collect()
    }

    /// When the next key expires.
    pub(super) fn next_expiry(&self) -> Option<i64> {
        self.expiries.first().map(|(at, _)| *at)
    }

    /// Forgets history below `below`; returns the versions that no read can reach any more.
    pub(super) fn compact(&mut self, below: u64) -> Vec<VersionId> {
        let below = below.min(self.head);
        let mut dead = Vec::new();
        if below <= self.compacted {
            return dead;
        }
        self.compacted = below;
        while let Some(revision) = self.history.pop_front_if(|revision| revision.revision <= below) {
            self.history_bytes -= size_of(&revision);
            for event in &revision.events {
                self.trim(&event.key, below, &mut dead);
            }
        }
        dead
    }

    /// Drops a key's versions that are superseded at `below`, and the key if it is gone by then.
    fn trim(&mut self, key: &Bytes, below: u64, dead: &mut Vec<VersionId>) {
        let Some(chain) = self.keys.get_mut(key) else { return };
        let id = |version: &Version| (version.mod_revision, version.slot);
        if chain.current.mod_revision <= below {
            dead.extend(chain.older.drain(..).map(|version| id(&version)));
            chain.older.shrink_to_fit();
            if chain.current.value.is_none() {
                dead.push(id(&chain.current));
                self.keys.remove(key);
            }
            return;
        }
        let reachable = chain.older.iter().rposition(|version| version.mod_revision <= below);
        if let Some(mut keep_from) = reachable {
            if chain.older[keep_from].value.is_none() {
                keep_from += 1;
            }
            dead.extend(chain.older.drain(..keep_from).map(|version| id(&version)));
        }
    }

    fn put_version(&mut self, key: Bytes, version: Version) {
        let expires_at = version.expires_at;
        match self.keys.get_mut(&key) {
            None => {
                self.keys.insert(key.clone(), Chain { current: version, older: Vec::new() });
            }
            Some(chain) => {
                let old = std::mem::replace(&mut chain.current, version);
                if old.expires_at != 0 {
                    self.expiries.remove(&(old.expires_at, key.clone()));
                }
                chain.older.push(old);
            }
        }
        if expires_at != 0 {
            self.expiries.insert((expires_at, key));
        }
    }

    fn remember(&mut self, revision: Arc<Revision>) {
        self.history_bytes += size_of(&revision);
        self.history.push_back(revision);
    }

    fn check(&self, revision: u64) -> Result<(), StoreError> {
        if revision < self.compacted {
            return Err(StoreError::Compacted { oldest: self.compacted });
        }
        if revision > self.head {
            return Err(StoreError::FutureRevision { asked: revision, head: self.head });
        }
        Ok(())
    }
}

/// What a transaction whose comparisons hold changes.
fn changes<'a>(
    txn: &Txn,
    revision: u64,
    now: i64,
    live: impl Fn(&Bytes) -> Option<&'a Version>,
) -> Vec<(Event, Version)> {
    let mut changes = Vec::with_capacity(txn.ops.len());
    for op in &txn.ops {
        let before = live(op.key());
        let slot = changes.len() as u8;
        let (kind, version) = match op {
            Op::Put { value, ttl, .. } => {
                let create_revision = before.map_or(revision, |version| version.create_revision);
                let expires_at = ttl.map_or(0, |ttl| now.saturating_add(ttl.as_millis().min(i64::MAX as u128) as i64));
                let value = value.clone();
                let version =
                    Version { value: Some(value.clone()), create_revision, mod_revision: revision, slot, expires_at };
                (EventKind::Put { value, create_revision }, version)
            }
            Op::Delete { .. } => {
                let Some((previous, create_revision)) =
                    before.and_then(|v| Some((v.value.clone()?, v.create_revision)))
                else {
                    continue;
                };
                let version = Version { value: None, create_revision, mod_revision: revision, slot, expires_at: 0 };
                (EventKind::Delete { previous }, version)
            }
        };
        changes.push((Event { key: op.key().clone(), kind }, version));
    }
    changes
}

/// The revision as a watcher of `prefix` sees it; shared when nothing has to be left out.
pub(crate) fn cut(revision: &Arc<Revision>, prefix: &[u8]) -> Option<Arc<Revision>> {
    let wanted = revision.events.iter().filter(|event| event.key.starts_with(prefix)).count();
    if wanted == revision.events.len() {
        return Some(revision.clone());
    }
    if wanted == 0 {
        return None;
    }
    let events = revision.events.iter().filter(|event| event.key.starts_with(prefix)).cloned().collect();
    Some(Arc::new(Revision { revision: revision.revision, events }))
}

fn entry(key: &Bytes, version: &Version) -> Option<Entry> {
    Some(Entry {
        key: key.clone(),
        value: version.value.clone()?,
        create_revision: version.create_revision,
        mod_revision: version.mod_revision,
        expires: version.expires_at != 0,
    })
}

fn size_of(revision: &Revision) -> usize {
    revision.events.iter().map(size_of_event).sum()
}

fn size_of_event(event: &Event) -> usize {
    let value = match &event.kind {
        EventKind::Put { value, .. } => value,
        EventKind::Delete { previous } => previous,
    };
    event.key.len() + value.len()
}
