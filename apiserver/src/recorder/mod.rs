//! The recorder: every revision with its cause, in bounded files, whatever the store has forgotten.
//!
//! It hangs on the cache's watch as a sink. Records go to segment files named by the lowest revision in them; when they
//! outgrow their bound, the oldest goes. Nothing is synced to disk but closed segments: after a crash, the cache tells
//! again what followed the last record before the damage, and reading takes each revision once. Leases are left out: they
//! change without end and say nothing. What could not be recorded is recorded as missing, and reading says so; it never
//! holds anything up. Where in the segments an object's changes lie stands in memory, a few bytes a change.

mod index;
mod read;
mod segment;
mod writer;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use skiff_proto::skiffv1::Cause;
use skiff_world::{Disk, World};
use tokio::sync::{mpsc, oneshot};

pub use segment::Notice;

use self::index::Indexes;
use self::read::{Keep, read, read_segment};
use self::segment::Change;
use self::writer::{Item, Writer};
use crate::cache::RevisionSink;
use crate::envelope::{ContentType, with_resource_version};
use crate::store::{Revision, StoreError};

/// Revisions that may wait to be written; of more, the rest is recorded as missing.
const QUEUE: usize = 8_192;
const SUFFIX: &str = ".log";

/// Where the recorder writes, and how much.
#[derive(Debug, Clone)]
pub struct RecorderOptions {
    /// The directory; made if missing.
    pub dir: PathBuf,
    /// A segment is closed when it is larger.
    pub segment_bytes: u64,
    /// All segments together stay about below this.
    pub total_bytes: u64,
}

impl RecorderOptions {
    /// The defaults, in this directory.
    pub fn new(dir: impl Into<PathBuf>) -> RecorderOptions {
        RecorderOptions { dir: dir.into(), segment_bytes: 4 << 20, total_bytes: 64 << 20 }
    }
}

/// Why the recorder cannot do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum RecorderError {
    /// The disk refused.
    #[error("the recorder cannot use {path}: {error}", path = path.display())]
    Disk {
        /// What was used.
        path: PathBuf,
        /// Why it failed.
        error: std::io::Error,
    },
    /// It has stopped.
    #[error("the recorder has stopped")]
    Stopped,
}

/// One change of one object, read back.
#[derive(Debug, Clone, PartialEq)]
pub struct Recorded {
    /// The revision that made it.
    pub revision: u64,
    /// When it was recorded, by the server's clock.
    pub at: jiff::Timestamp,
    /// The object's key in the store; `store::parse_key` takes it apart.
    pub key: Bytes,
    /// metadata.uid.
    pub uid: String,
    /// True if the object went away; `object` is then what it was last.
    pub deleted: bool,
    /// The revision that made the object.
    pub create_revision: u64,
    /// How the object is encoded.
    pub content_type: ContentType,
    /// The object without resourceVersion.
    pub stored: Bytes,
    /// Why, if it is known.
    pub cause: Option<Cause>,
}

impl Recorded {
    /// The object as clients saw it at this revision.
    pub fn object(&self) -> Bytes {
        with_resource_version(self.content_type, &self.stored, self.revision)
    }
}

/// Whose history is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// Everything.
    All,
    /// What ever had this key in the store.
    Key(Bytes),
    /// One object, from its creation to its end.
    Uid(String),
    /// Single writes, by revision and uid.
    Writes(BTreeSet<(u64, String)>),
}

impl Subject {
    fn is(&self, revision: u64, change: &Change) -> bool {
        match self {
            Subject::All => true,
            Subject::Key(key) => *key == change.key,
            Subject::Uid(uid) => *uid == change.uid,
            Subject::Writes(writes) => writes.contains(&(revision, change.uid.clone())),
        }
    }
}

/// What was found, and what could not be read.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Reading {
    /// Oldest first.
    pub changes: Vec<Recorded>,
    /// What is damaged or missing in what was read.
    pub notices: Vec<Notice>,
}

/// The recorder.
pub struct Recorder {
    world: World,
    dir: PathBuf,
    queue: mpsc::Sender<Item>,
    front: Mutex<Front>,
    indexes: Indexes,
}

/// What the sink remembers between two revisions.
struct Front {
    /// The last revision that was taken, or given up.
    last: Option<u64>,
    /// Set while the queue is full: everything after this is missing.
    missing_after: Option<u64>,
}

impl Recorder {
    /// Opens the directory, finds where it stopped, and starts to write.
    pub async fn open(world: &World, options: RecorderOptions) -> Result<Arc<Recorder>, RecorderError> {
        let disk = world.disk();
        let dir = options.dir.clone();
        let indexes = Indexes::default();
        let own = indexes.clone();
        let (writer, last) = world.blocking(move || Writer::open(disk, options, own)).await?;
        let (queue, items) = mpsc::channel(QUEUE);
        world.spawn("recorder", writer::run(world.clone(), writer, items));
        let front = Mutex::new(Front { last, missing_after: None });
        Ok(Arc::new(Recorder { world: world.clone(), dir, queue, front, indexes }))
    }

    fn front(&self) -> MutexGuard<'_, Front> {
        self.front.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last revision it was told of.
    pub fn last(&self) -> Option<u64> {
        self.front().last
    }

    /// The changes after revision `after`, up to `up_to`; the first `limit` of them.
    pub async fn range(
        &self,
        subject: Subject,
        after: u64,
        up_to: u64,
        limit: usize,
    ) -> Result<Reading, RecorderError> {
        self.flushed().await?;
        let (disk, dir, indexes) = (self.world.disk(), self.dir.clone(), self.indexes.clone());
        self.world.blocking(move || read(&disk, &dir, &indexes, &subject, after, up_to, Keep::First(limit))).await
    }

    /// The last `limit` changes of an object.
    pub async fn history(&self, subject: Subject, limit: usize) -> Result<Reading, RecorderError> {
        self.last_changes(subject, u64::MAX, limit).await
    }

    /// The last `limit` changes of an object up to a revision.
    pub async fn last_changes(&self, subject: Subject, up_to: u64, limit: usize) -> Result<Reading, RecorderError> {
        self.flushed().await?;
        let (disk, dir, indexes) = (self.world.disk(), self.dir.clone(), self.indexes.clone());
        self.world.blocking(move || read(&disk, &dir, &indexes, &subject, 0, up_to, Keep::Last(limit))).await
    }

    /// The object as it was at a revision: `changes` has the change that made it so, and that one may be its deletion.
    /// Empty if the recorder does not reach back so far, or the object was never there.
    pub async fn get(&self, subject: Subject, at: u64) -> Result<Reading, RecorderError> {
        self.last_changes(subject, at, 1).await
    }

    /// These writes, by revision and uid; those that are not held are left out.
    pub async fn writes(&self, writes: BTreeSet<(u64, String)>) -> Result<Reading, RecorderError> {
        let (Some((first, _)), Some((last, _))) = (writes.first().cloned(), writes.last().cloned()) else {
            return Ok(Reading::default());
        };
        let limit = writes.len();
        self.range(Subject::Writes(writes), first.saturating_sub(1), last, limit).await
    }

    /// The oldest revision that is held; none if nothing is.
    pub async fn oldest(&self) -> Result<Option<u64>, RecorderError> {
        self.flushed().await?;
        let (disk, dir) = (self.world.disk(), self.dir.clone());
        let first = self.world.blocking(move || segments(&disk, &dir)).await?;
        Ok(first.into_keys().next().map(|(first, _)| first))
    }

    /// Waits until everything told so far can be read.
    async fn flushed(&self) -> Result<(), RecorderError> {
        let (reply, done) = oneshot::channel();
        self.queue.send(Item::Flush(reply)).await.map_err(|_| RecorderError::Stopped)?;
        done.await.map_err(|_| RecorderError::Stopped)
    }

    fn offer(&self, front: &mut Front, item: Item, revision: u64) {
        if let Some(after) = front.missing_after {
            if self.queue.try_send(Item::Missing { after, up_to: revision - 1 }).is_err() {
                front.last = Some(revision);
                return;
            }
            front.missing_after = None;
        }
        if self.queue.try_send(item).is_err() {
            front.missing_after = Some(front.last.unwrap_or(revision - 1));
        }
        front.last = Some(revision);
    }
}

impl RevisionSink for Recorder {
    fn resume_from(&self) -> Option<u64> {
        self.last()
    }

    fn revision(&self, revision: &Arc<Revision>) {
        let mut front = self.front();
        if front.last.is_none_or(|last| last < revision.revision) {
            let item = Item::Revision(revision.clone(), self.world.wall().as_millisecond());
            self.offer(&mut front, item, revision.revision);
        }
    }

    fn gap(&self, after: u64, up_to: u64) {
        let mut front = self.front();
        if front.last.is_some_and(|last| last < up_to) {
            self.offer(&mut front, Item::Missing { after, up_to }, up_to);
        }
    }
}

fn failed(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> RecorderError {
    let path = path.into();
    |error| RecorderError::Disk { path, error }
}

/// A segment's name: its lowest revision, and a number for those that begin with the same.
type SegmentId = (u64, u32);

fn segment_name((first, again): SegmentId) -> String {
    format!("{first:020}-{again}{SUFFIX}")
}

/// The segments, with their files and lengths.
fn segments(disk: &Disk, dir: &std::path::Path) -> Result<BTreeMap<SegmentId, (PathBuf, u64)>, RecorderError> {
    let mut found = BTreeMap::new();
    for entry in disk.list(dir).map_err(failed(dir))? {
        let parts = entry.name.to_str().and_then(|name| name.strip_suffix(SUFFIX)?.split_once('-'));
        if let Some((first, again)) = parts
            && let (Ok(first), Ok(again)) = (first.parse(), again.parse())
        {
            found.insert((first, again), (dir.join(&entry.name), entry.len));
        }
    }
    Ok(found)
}

/// A value that the store holds cannot be an error here: it is named in the log, and recorded without its object.
fn unreadable(key: &[u8], why: &StoreError) {
    tracing::warn!(key = %String::from_utf8_lossy(key), %why, "the recorder cannot read a value");
}
