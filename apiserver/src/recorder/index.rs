//! Where in the segments an object's changes lie: a few bytes a change, in memory, so that a question about one object
//! reads that object's records and no more.
//!
//! The writer notes what it appends; segments from before it started are read whole once, when they are first asked
//! for. An index holds hashes: what it points at is looked at before it is believed.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::Hasher;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fxhash::FxHasher;

use super::segment::{Contents, HEADER, Record};
use super::{SegmentId, Subject};

/// The indexes of all segments that are known whole.
#[derive(Clone, Default)]
pub(super) struct Indexes {
    segments: Arc<Mutex<BTreeMap<SegmentId, Index>>>,
}

impl Indexes {
    pub(super) fn locked(&self) -> MutexGuard<'_, BTreeMap<SegmentId, Index>> {
        self.segments.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes records that were appended to a segment up to `len`, if all that lies before them is known.
    pub(super) fn appended(&self, id: SegmentId, begin: u64, records: &[(u64, &Record)], len: u64) {
        let mut segments = self.locked();
        if begin == HEADER as u64 {
            segments.insert(id, Index { len: begin, ..Index::default() });
        }
        if let Some(index) = segments.get_mut(&id).filter(|index| index.len == begin) {
            records.iter().for_each(|(offset, record)| index.note(*offset, record));
            index.len = len;
        }
    }
}

/// One segment's index. A segment only ever grows, so what it says stays true.
#[derive(Default)]
pub(super) struct Index {
    /// So much of the file is known.
    len: u64,
    last: u64,
    places: Vec<Place>,
}

struct Place {
    offset: u32,
    key: u32,
    uid: u32,
    /// Says that something is missing, which concerns everybody.
    missing: bool,
    revision: u64,
}

impl Index {
    /// Of a segment that was read whole and had no damage.
    pub(super) fn of(contents: &Contents, len: u64) -> Index {
        let mut index = Index { len, ..Index::default() };
        contents.offsets.iter().zip(&contents.records).for_each(|(offset, record)| index.note(*offset, record));
        index
    }

    fn note(&mut self, offset: u64, record: &Record) {
        self.last = self.last.max(record.revision);
        // A segment is closed long before this.
        let Ok(offset) = u32::try_from(offset) else { return };
        let place = |key: &[u8], uid: &[u8], missing| Place {
            offset,
            key: hash(key),
            uid: hash(uid),
            missing,
            revision: record.revision,
        };
        let changes = record.changes.iter().map(|change| place(&change.key, change.uid.as_bytes(), false));
        self.places.extend(changes);
        if record.missing_after != 0 {
            self.places.push(place(&[], &[], true));
        }
    }

    /// Whether it speaks of the whole file, which has this length.
    pub(super) fn covers(&self, len: u64) -> bool {
        self.len >= len
    }

    /// The last revision in it.
    pub(super) fn last(&self) -> u64 {
        self.last
    }

    /// Where records lie that may be about the subject, within these revisions; `None`: everywhere.
    pub(super) fn find(&self, subject: &Subject, after: u64, up_to: u64) -> Option<Vec<u64>> {
        let wanted: Box<dyn Fn(&Place) -> bool> = match subject {
            Subject::All => return None,
            Subject::Key(key) => {
                let key = hash(key);
                Box::new(move |place| place.key == key)
            }
            Subject::Uid(uid) => {
                let uid = hash(uid.as_bytes());
                Box::new(move |place| place.uid == uid)
            }
            Subject::Writes(writes) => {
                let wanted: BTreeSet<(u64, u32)> =
                    writes.iter().map(|(revision, uid)| (*revision, hash(uid.as_bytes()))).collect();
                Box::new(move |place| wanted.contains(&(place.revision, place.uid)))
            }
        };
        let within = |place: &&Place| place.revision > after && (place.missing || place.revision <= up_to);
        let found = self.places.iter().filter(within).filter(|place| place.missing || wanted(place));
        let mut offsets: Vec<u64> = found.map(|place| place.offset.into()).collect();
        offsets.dedup();
        Some(offsets)
    }
}

fn hash(bytes: &[u8]) -> u32 {
    let mut hasher = FxHasher::default();
    hasher.write(bytes);
    (hasher.finish() >> 32) as u32
}
