//! Reading what was recorded: of each segment the records that concern the question, each revision once.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use prost::Message;
use skiff_proto::skiffv1::Cause;
use skiff_world::Disk;

use super::index::{Index, Indexes};
use super::segment::{self, Contents, Notice, Record};
use super::{Reading, Recorded, RecorderError, SegmentId, Subject, failed, segments};
use crate::envelope::ContentType;

/// Which of too many changes are wanted. For the last ones, segments are read from the newest back, and no more than needed.
#[derive(Clone, Copy)]
pub(super) enum Keep {
    First(usize),
    Last(usize),
}

pub(super) fn read_segment(disk: &Disk, path: &Path) -> Result<Contents, RecorderError> {
    match disk.read(path) {
        Ok(file) => Ok(segment::decode(path, file)),
        // Dropped while we read: it was the oldest.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Contents::default()),
        Err(error) => Err(failed(path)(error)),
    }
}

/// The records of a segment that may be about the subject: by the index where there is one, else all of them, which
/// makes one.
fn records(
    disk: &Disk,
    indexes: &Indexes,
    (id, path, len): (SegmentId, &Path, u64),
    subject: &Subject,
    (after, up_to): (u64, u64),
) -> Result<Contents, RecorderError> {
    let places = match indexes.locked().get(&id).filter(|index| index.covers(len)) {
        Some(index) if index.last() <= after => return Ok(Contents::default()),
        Some(index) => index.find(subject, after, up_to),
        None => None,
    };
    if let Some(places) = places {
        let single = || {
            let file = disk.open(path).ok()?;
            places.into_iter().map(|offset| segment::read_at(&file, offset)).collect::<Option<Vec<Record>>>()
        };
        if let Some(records) = single() {
            return Ok(Contents { records, ..Contents::default() });
        }
    }
    // Not known yet, or changed since: reading it whole says what is wrong.
    let contents = read_segment(disk, path)?;
    let mut indexes = indexes.locked();
    if !contents.notices.is_empty() {
        indexes.remove(&id);
    } else if !contents.records.is_empty() && !indexes.get(&id).is_some_and(|index| index.covers(contents.len)) {
        indexes.insert(id, Index::of(&contents, contents.len));
    }
    Ok(contents)
}

pub(super) fn read(
    disk: &Disk,
    dir: &Path,
    indexes: &Indexes,
    subject: &Subject,
    after: u64,
    up_to: u64,
    keep: Keep,
) -> Result<Reading, RecorderError> {
    let mut notices = Vec::new();
    // By revision: what was told again after a crash is there twice.
    let mut found: BTreeMap<u64, Vec<Recorded>> = BTreeMap::new();
    let all = segments(disk, dir)?;
    indexes.locked().retain(|id, _| all.contains_key(id));
    let mut wanted: Vec<(SegmentId, (PathBuf, u64))> =
        all.into_iter().filter(|((first, _), _)| *first <= up_to).collect();
    if matches!(keep, Keep::Last(_)) {
        wanted.reverse();
    }
    for (id, (path, len)) in wanted {
        // What an older segment holds beside the newer ones is older than they are.
        if matches!(keep, Keep::Last(limit) if found.len() >= limit) {
            break;
        }
        let contents = records(disk, indexes, (id, &path, len), subject, (after, up_to))?;
        notices.extend(contents.notices);
        for record in contents.records.into_iter().filter(|record| record.revision > after) {
            if record.missing_after != 0 && record.missing_after < up_to {
                notices.push(missing(&record));
            }
            if record.revision <= up_to && !found.contains_key(&record.revision) {
                let (revision, changes) = (record.revision, changes(record, subject).collect::<Vec<_>>());
                if !changes.is_empty() {
                    found.insert(revision, changes);
                }
            }
        }
        // A revision has a change or two: this bounds what is held while reading on.
        while let Keep::First(limit) | Keep::Last(limit) = keep
            && found.len() > limit
        {
            match keep {
                Keep::First(_) => found.pop_last(),
                Keep::Last(_) => found.pop_first(),
            };
        }
    }
    let mut changes: Vec<Recorded> = found.into_values().flatten().collect();
    match keep {
        Keep::First(limit) => changes.truncate(limit),
        Keep::Last(limit) => drop(changes.drain(..changes.len().saturating_sub(limit))),
    }
    Ok(Reading { changes, notices })
}

fn missing(record: &Record) -> Notice {
    let text = format!("revisions {} to {} were not recorded", record.missing_after + 1, record.revision);
    Notice { file: PathBuf::new(), text }
}

fn changes(record: Record, subject: &Subject) -> impl Iterator<Item = Recorded> {
    let Record { revision, at, changes, .. } = record;
    let at = jiff::Timestamp::from_millisecond(at).unwrap_or_default();
    changes.into_iter().filter(move |change| subject.is(revision, change)).map(move |change| Recorded {
        revision,
        at,
        key: change.key,
        uid: change.uid,
        deleted: change.deleted,
        create_revision: change.create_revision,
        content_type: if change.json { ContentType::Json } else { ContentType::Protobuf },
        stored: change.object,
        cause: Some(change.cause).filter(|cause| !cause.is_empty()).and_then(|cause| Cause::decode(cause).ok()),
    })
}
