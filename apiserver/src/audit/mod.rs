//! The audit log: who wrote what, who went into which Pod, and who read which Secret. A file of JSON lines, each an `audit.k8s.io/v1` Event of level
//! Metadata, at the stage ResponseComplete.
//!
//! Writing is off the requests' path: a request leaves what it did in a bounded queue, and a task of its own makes lines
//! of it. When the queue is full the log has a gap, and a line in the server's own log that says how many events are
//! missing: the cluster goes on. The file is bounded: at `FILE_BYTES` it becomes `FILE.1`, that one `FILE.2`, and so on.
//!
//! Leases that their holders renew are left out, as long as they are renewed: they are most of all writes, and say nothing.

mod event;
mod file;
#[cfg(test)]
mod tests;

pub use event::{Done, Object};

use crate::registry::Request;
use file::Log;
use skiff_world::World;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::{mpsc, oneshot};

/// Events that may wait to be written.
const QUEUE: usize = 16_384;
/// Events that are written at once.
const BATCH: usize = 512;
/// The log's file is followed by a new one when it is so long.
const FILE_BYTES: u64 = 16 << 20;
/// So many older files are kept beside it.
const OLDER: u32 = 3;

/// How the log is kept.
#[derive(Clone, Debug)]
pub struct AuditOptions {
    /// The file.
    pub file: PathBuf,
    /// How long it may get.
    pub file_bytes: u64,
    /// How many older ones are kept.
    pub older: u32,
}

impl AuditOptions {
    /// The usual bounds.
    pub fn new(file: impl Into<PathBuf>) -> Self {
        Self { file: file.into(), file_bytes: FILE_BYTES, older: OLDER }
    }
}

enum Item {
    Done(Box<Done>),
    /// Answers when everything before it is in the file.
    Flush(oneshot::Sender<()>),
}

/// The log. Cheap to clone.
#[derive(Clone)]
pub struct Audit {
    queue: mpsc::Sender<Item>,
    missing: Arc<AtomicU64>,
}

impl Audit {
    /// Opens the file and begins to write.
    pub async fn open(world: &World, options: AuditOptions) -> std::io::Result<Self> {
        let disk = world.disk();
        let log = world.blocking(move || Log::open(disk, options)).await?;
        let (queue, items) = mpsc::channel(QUEUE);
        let missing = Arc::new(AtomicU64::new(0));
        world.spawn("audit-log", run(world.clone(), log, items, missing.clone()));
        Ok(Self { queue, missing })
    }

    /// Whether the log wants to know of a request; of one that succeeded, or one that did not.
    pub fn wants(request: &Request, succeeded: bool) -> bool {
        let resource = (request.resource.group.as_str(), request.resource.resource.as_str());
        if !request.is_write() {
            return resource == ("", "secrets");
        }
        !(succeeded && resource == ("coordination.k8s.io", "leases") && matches!(request.verb(), "update" | "patch"))
    }

    /// Leaves what was done to be written. Never waits.
    pub fn record(&self, done: Done) {
        if self.queue.try_send(Item::Done(Box::new(done))).is_err() {
            self.missing.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until everything recorded so far is in the file.
    pub async fn flush(&self) {
        let (reply, done) = oneshot::channel();
        if self.queue.send(Item::Flush(reply)).await.is_ok() {
            let _ = done.await;
        }
    }
}

/// Writes what comes, until nobody is left who could send anything.
async fn run(world: World, mut log: Log, mut items: mpsc::Receiver<Item>, missing: Arc<AtomicU64>) {
    let mut batch = Vec::with_capacity(BATCH);
    while items.recv_many(&mut batch, BATCH).await > 0 {
        let mut lines = Vec::new();
        let mut waiting = Vec::new();
        for item in batch.drain(..) {
            match item {
                Item::Done(done) => event::line(&done, &mut lines),
                Item::Flush(reply) => waiting.push(reply),
            }
        }
        let lost = missing.swap(0, Ordering::Relaxed);
        if lost > 0 {
            tracing::error!(events = lost, "the audit log could not keep up: events are missing in it");
        }
        let (back, wrote) = world
            .blocking(move || {
                let wrote = log.append(&lines);
                (log, wrote)
            })
            .await;
        log = back;
        if let Err(why) = wrote {
            tracing::error!(%why, "the audit log cannot be written: events are missing in it");
        }
        for reply in waiting {
            let _ = reply.send(());
        }
    }
}
