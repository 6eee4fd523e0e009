//! The recorder's writing side: gathers what waits, appends it in one go, begins new segments and drops old ones.

use std::path::PathBuf;
use std::sync::Arc;

use skiff_world::{Disk, File, World};
use tokio::sync::{mpsc, oneshot};

use super::index::{Index, Indexes};
use super::segment::{self, Change, HEADER, Record};
use super::{RecorderError, RecorderOptions, SegmentId, failed, read_segment, segment_name, segments, unreadable};
use crate::cache::{FieldIndexer, Indexer};
use crate::envelope::{ContentType, Envelope};
use crate::store::{self, Event, EventKind, Revision};

/// After so many revisions that are not recorded, a mark says that none is missing.
const MARK_EVERY: u32 = 500;
const BATCH: usize = 1_024;
const LEASES: &[u8] = b"/skiff/coordination.k8s.io/leases/";

/// What the writer is told.
pub(super) enum Item {
    /// A revision, and when it came.
    Revision(Arc<Revision>, i64),
    /// Everything after `after` up to `up_to` could not be recorded.
    Missing { after: u64, up_to: u64 },
    /// Answers when everything before it can be read.
    Flush(oneshot::Sender<()>),
}

/// Where it writes.
pub(super) struct Writer {
    disk: Disk,
    options: RecorderOptions,
    current: Option<Current>,
    skipped: u32,
    /// Set by a failed write: what it lost must be recorded as missing.
    lost_after: Option<u64>,
    written: u64,
    indexes: Indexes,
}

struct Current {
    id: SegmentId,
    file: File,
    len: u64,
}

impl Writer {
    /// Finds the last revision before any damage of the newest segment: from there on everything is to be told again. A
    /// damaged segment is left as it is; writing goes on in a new one.
    pub(super) fn open(
        disk: Disk,
        options: RecorderOptions,
        indexes: Indexes,
    ) -> Result<(Writer, Option<u64>), RecorderError> {
        disk.create_dir_all(&options.dir).map_err(failed(&options.dir))?;
        let mut last = None;
        let mut current = None;
        for (index, (id, (path, len))) in segments(&disk, &options.dir)?.into_iter().rev().enumerate() {
            let contents = read_segment(&disk, &path)?;
            for notice in &contents.notices {
                tracing::warn!(file = %path.display(), "a segment of the recorder {}", notice.text);
            }
            if index == 0 && contents.notices.is_empty() && len < options.segment_bytes {
                current = Some(Current { id, file: disk.open(&path).map_err(failed(&path))?, len });
                indexes.locked().insert(id, Index::of(&contents, len));
            }
            last = contents.records[..contents.intact].last().map(|record| record.revision);
            if last.is_some() {
                break;
            }
        }
        let written = last.unwrap_or(0);
        Ok((Writer { disk, options, current, skipped: 0, lost_after: None, written, indexes }, last))
    }

    /// Writes a batch. A disk that fails loses records, which is recorded when it works again, and nothing else.
    fn write(&mut self, items: Vec<Item>, now: i64) {
        let mut records: Vec<Record> = items.iter().filter_map(|item| self.record(item, now)).collect();
        let Some(last) = records.last().map(|record| record.revision) else { return };
        if let Some(after) = self.lost_after {
            let up_to = records[0].revision.saturating_sub(1).max(after);
            records.insert(0, Record { revision: up_to, at: now, changes: Vec::new(), missing_after: after });
        }
        match self.append(&records) {
            Ok(()) => {
                self.lost_after = None;
                self.written = last;
            }
            Err(why) => {
                tracing::error!(%why, "the recorder cannot write; what happens now is not recorded");
                self.lost_after.get_or_insert(self.written);
                // What the file holds now is unknown: a new one is begun.
                self.current = None;
            }
        }
    }

    fn append(&mut self, records: &[Record]) -> Result<(), RecorderError> {
        let mut bytes = Vec::new();
        let mut placed = Vec::with_capacity(records.len());
        for record in records {
            let mut at = self.current.as_ref().map_or(0, |current| current.len) + bytes.len() as u64;
            if self.current.is_none() || at >= self.options.segment_bytes {
                self.flush(&mut bytes, &mut placed)?;
                self.begin(record.revision)?;
                at = HEADER as u64;
            }
            placed.push((at, record));
            segment::encode(&mut bytes, record);
        }
        self.flush(&mut bytes, &mut placed)
    }

    fn flush(&mut self, bytes: &mut Vec<u8>, placed: &mut Vec<(u64, &Record)>) -> Result<(), RecorderError> {
        if let Some(current) = &mut self.current {
            current.file.append(bytes).map_err(failed(&self.options.dir))?;
            let begin = current.len;
            current.len += bytes.len() as u64;
            self.indexes.appended(current.id, begin, placed, current.len);
        }
        bytes.clear();
        placed.clear();
        Ok(())
    }

    /// Begins a segment and makes room for it.
    fn begin(&mut self, first: u64) -> Result<(), RecorderError> {
        if let Some(current) = self.current.take() {
            current.file.sync().map_err(failed(&self.options.dir))?;
        }
        let mut existing = segments(&self.disk, &self.options.dir)?;
        let same = existing.range((first, 0)..=(first, u32::MAX)).next_back();
        let again = same.map_or(0, |((_, again), _)| again + 1);
        let mut total: u64 = existing.values().map(|(_, len)| len).sum();
        while total + self.options.segment_bytes > self.options.total_bytes {
            let Some((id, (path, len))) = existing.pop_first() else { break };
            self.disk.remove(&path).map_err(failed(&path))?;
            self.indexes.locked().remove(&id);
            total -= len;
        }
        let id = (first, again);
        let path: PathBuf = self.options.dir.join(segment_name(id));
        let file = self.disk.create(&path).map_err(failed(&path))?;
        file.append(&segment::header()).map_err(failed(&path))?;
        self.current = Some(Current { id, file, len: HEADER as u64 });
        Ok(())
    }

    fn record(&mut self, item: &Item, now: i64) -> Option<Record> {
        match item {
            Item::Flush(_) => None,
            Item::Missing { after, up_to } => {
                Some(Record { revision: *up_to, at: now, changes: Vec::new(), missing_after: *after })
            }
            Item::Revision(revision, at) => {
                let changes = changes(revision);
                self.skipped = if changes.is_empty() { self.skipped + 1 } else { 0 };
                if changes.is_empty() && self.skipped < MARK_EVERY {
                    return None;
                }
                self.skipped = 0;
                Some(Record { revision: revision.revision, at: *at, changes, missing_after: 0 })
            }
        }
    }
}

/// Writes until the recorder is dropped.
pub(super) async fn run(world: World, writer: Writer, mut items: mpsc::Receiver<Item>) {
    let mut writer = writer;
    let mut waiting = Vec::with_capacity(BATCH);
    while items.recv_many(&mut waiting, BATCH).await > 0 {
        let batch = std::mem::take(&mut waiting);
        let now = world.wall().as_millisecond();
        let (mut flushes, mut rest) = (Vec::new(), Vec::with_capacity(batch.len()));
        for item in batch {
            match item {
                Item::Flush(reply) => flushes.push(reply),
                other => rest.push(other),
            }
        }
        writer = world
            .blocking(move || {
                writer.write(rest, now);
                writer
            })
            .await;
        for reply in flushes {
            // Whoever asked may have gone away.
            let _ = reply.send(());
        }
    }
}

/// What is recorded of a revision. A delete's cause lies in the tombstone that the same transaction wrote.
fn changes(revision: &Revision) -> Vec<Change> {
    let recorded = |event: &&Event| !event.key.starts_with(LEASES) && !store::is_bookkeeping(&event.key);
    revision.events.iter().filter(recorded).map(|event| change(event, revision)).collect()
}

fn change(event: &Event, revision: &Revision) -> Change {
    let (value, deleted, create_revision) = match &event.kind {
        EventKind::Put { value, create_revision } => (value, false, *create_revision),
        EventKind::Delete { previous } => (previous, true, 0),
    };
    let mut change = Change { key: event.key.clone(), deleted, create_revision, ..Change::default() };
    match Envelope::decode(&event.key, value) {
        Ok(envelope) => {
            let meta = FieldIndexer::default().index(&envelope.object, envelope.content_type);
            change.uid = meta.map(|meta| meta.uid.into_string()).unwrap_or_default();
            change.json = envelope.content_type == ContentType::Json;
            change.object = envelope.object;
            change.cause = if deleted { tombstone_cause(&event.key, revision) } else { envelope.cause };
        }
        Err(why) => unreadable(&event.key, &why),
    }
    change
}

fn tombstone_cause(key: &[u8], revision: &Revision) -> bytes::Bytes {
    let cause = revision.events.iter().find_map(|event| match &event.kind {
        EventKind::Put { value, .. } if store::tombstone_of(&event.key).is_some_and(|of| of.as_bytes() == key) => {
            Envelope::decode(&event.key, value).ok()
        }
        _ => None,
    });
    cause.map(|envelope| envelope.cause).unwrap_or_default()
}
