//! The embedded store: for one server, without another process, durable before it acknowledges.
//!
//! ```text
//!   txn ──> queue ──> writer: plan (machine) ──> one durable commit (log) ──> install ──> watchers, then all answers
//!   range, watch ──> machine (in memory)
//! ```
//!
//! `machine` is the pure state, `log` the file, `writer` the only task that changes either. While one commit waits for
//! the disk, transactions gather for the next: one fsync carries many writes.

mod log;
mod machine;
mod writer;

pub(crate) use machine::cut;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use async_trait::async_trait;
use skiff_world::World;
use tokio::sync::{mpsc, oneshot};

use self::log::Log;
use self::machine::Machine;
use self::writer::{Request, Writer};
use super::{
    RangeResult, Snapshot, Store, StoreError, Txn, TxnResult, WatchItem, WatchSender, WatchStream, watch_channel,
};

/// How long a caller waits for the disk.
const PATIENCE: Duration = Duration::from_secs(30);
/// Transactions that may wait for a commit; more callers than that wait for room.
const QUEUE: usize = 4_096;
/// Revisions a watcher may be behind before it is cut off.
const WATCH_QUEUE: usize = 16_384;

/// Where the store lies and how much history it keeps.
#[derive(Debug, Clone)]
pub struct EmbeddedOptions {
    /// The directory; made if missing. The file in it is `store.redb`.
    pub dir: PathBuf,
    /// What is kept for watches to resume from and for chunked lists.
    pub retention: Retention,
}

impl EmbeddedOptions {
    /// The defaults, in this directory.
    pub fn new(dir: impl Into<PathBuf>) -> EmbeddedOptions {
        EmbeddedOptions { dir: dir.into(), retention: Retention::default() }
    }
}

/// How much history is kept. Older revisions are compacted away by and by.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    /// At most so many revisions.
    pub revisions: usize,
    /// At most about so many bytes of keys and values.
    pub bytes: usize,
    /// What is older goes, except the last `always` revisions.
    pub age: Duration,
    /// Kept however old.
    pub always: usize,
}

impl Default for Retention {
    fn default() -> Retention {
        Retention { revisions: 10_000, bytes: 16 << 20, age: Duration::from_secs(300), always: 1_000 }
    }
}

/// The embedded store.
pub struct Embedded {
    shared: Arc<Shared>,
    requests: mpsc::Sender<Request>,
}

/// What the writer and the readers share.
struct Shared {
    machine: RwLock<Machine>,
    watchers: Mutex<Vec<Watcher>>,
}

struct Watcher {
    prefix: Vec<u8>,
    sender: WatchSender,
}

impl Shared {
    fn read(&self) -> RwLockReadGuard<'_, Machine> {
        // The machine is never left half-changed by a panic: planning does not touch it.
        self.machine.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn watchers(&self) -> std::sync::MutexGuard<'_, Vec<Watcher>> {
        self.watchers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Embedded {
    /// Opens or creates the store in `options.dir` and starts its writer.
    pub async fn open(world: &World, options: EmbeddedOptions) -> Result<Embedded, StoreError> {
        let disk = world.disk();
        let dir = options.dir.clone();
        let opened = world.blocking(move || {
            let failed = |error: std::io::Error| StoreError::Unavailable(format!("{}: {error}", dir.display()));
            disk.create_dir_all(&dir).map_err(failed)?;
            Log::open(disk.redb_backend(dir.join("store.redb")).map_err(failed)?)
        });
        let (log, machine) = opened.await?;
        let shared = Arc::new(Shared { machine: RwLock::new(machine), watchers: Mutex::default() });
        let (requests, queue) = mpsc::channel(QUEUE);
        let writer = Writer::new(world.clone(), log, shared.clone(), options.retention);
        world.spawn("store-writer", writer.run(queue));
        Ok(Embedded { shared, requests })
    }

    async fn ask<T>(
        &self,
        operation: &'static str,
        request: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Request,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let asking = async {
            self.requests.send(request(reply)).await.map_err(|_| StoreError::Closed)?;
            answer.await.map_err(|_| StoreError::Closed)?
        };
        let late = |_| StoreError::Timeout { operation, seconds: PATIENCE.as_secs() };
        tokio::time::timeout(PATIENCE, asking).await.map_err(late)?
    }
}

#[async_trait]
impl Store for Embedded {
    async fn txn(&self, txn: Txn) -> Result<TxnResult, StoreError> {
        txn.validate()?;
        self.ask("a transaction", |reply| Request::Txn(txn, reply)).await
    }

    async fn range(
        &self,
        prefix: &[u8],
        from: Option<&[u8]>,
        limit: usize,
        at: Option<u64>,
    ) -> Result<RangeResult, StoreError> {
        if self.requests.is_closed() {
            return Err(StoreError::Closed);
        }
        self.shared.read().range(prefix, from, limit, at)
    }

    async fn watch(&self, prefix: &[u8], after: u64) -> Result<WatchStream, StoreError> {
        // The lock is held over both, so that no revision falls between the backlog and the queue.
        let machine = self.shared.read();
        let (sender, stream) = watch_channel(machine.since(prefix, after)?, WATCH_QUEUE);
        let mut watchers = self.shared.watchers();
        if self.requests.is_closed() {
            return Err(StoreError::Closed);
        }
        watchers.push(Watcher { prefix: prefix.to_vec(), sender });
        Ok(stream)
    }

    async fn compact(&self, below: u64) -> Result<(), StoreError> {
        self.ask("a compaction", |reply| Request::Compact(below, reply)).await
    }

    async fn head(&self) -> Result<u64, StoreError> {
        if self.requests.is_closed() {
            return Err(StoreError::Closed);
        }
        Ok(self.shared.read().head())
    }

    async fn progress(&self) -> Result<(), StoreError> {
        let machine = self.shared.read();
        let head = machine.head();
        self.shared.watchers().retain(|watcher| watcher.sender.send(WatchItem::Progress(head)));
        Ok(())
    }

    async fn restore(&self, snapshot: Snapshot) -> Result<u64, StoreError> {
        self.ask("a restore", |reply| Request::Restore(snapshot, reply)).await
    }

    async fn close(&self) {
        // An error means that it is closed already.
        let _ = self.ask("closing", Request::Close).await;
    }
}
