//! A snapshot of a store, the same for both stores, so that one can be restored into the other.
//!
//! It holds the state at one revision: no history, and no entries that expire (Events, tombstones). Each restored entry
//! gets a new revision, above every revision that the old store may have given out after the snapshot was taken; what
//! that was, nobody may know any more (the store may be lost), so `floor` leaves room for years of writes.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::{ROOT, Store, StoreError};

/// What a restore begins from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The revision it shows.
    pub revision: u64,
    /// Restored revisions are above this.
    pub floor: u64,
    /// Keys and values, in key order.
    pub entries: Vec<(Bytes, Bytes)>,
}

const MAGIC: &[u8; 8] = b"skiffsnp";
const FORMAT: u32 = 1;
/// Revisions left for what was written after the snapshot: two months of writing 20,000 a second without a pause.
const ROOM: u64 = 100_000_000_000;
const PAGE: usize = 1_000;

/// Takes a snapshot of everything at one revision, page by page, while the store goes on.
pub async fn take_snapshot(store: &dyn Store) -> Result<Snapshot, StoreError> {
    let mut entries = Vec::new();
    let mut at = None;
    let mut from: Option<Bytes> = None;
    loop {
        let page = store.range(ROOT.as_bytes(), from.as_deref(), PAGE, at).await?;
        let revision = *at.get_or_insert(page.revision);
        let last = page.entries.last().map(|entry| entry.key.clone());
        entries.extend(page.entries.into_iter().filter(|e| !e.expires).map(|e| (e.key, e.value)));
        match last {
            Some(key) if page.more => from = Some(successor(&key)),
            _ => return Ok(Snapshot { revision, floor: floor_above(revision), entries }),
        }
    }
}

/// A round number, so that a person who reads a resourceVersion sees how often the cluster was restored.
fn floor_above(revision: u64) -> u64 {
    (revision / ROOM + 2) * ROOM
}

/// The first key after `key`.
fn successor(key: &[u8]) -> Bytes {
    let mut next = BytesMut::with_capacity(key.len() + 1);
    next.put_slice(key);
    next.put_u8(0);
    next.freeze()
}

impl Snapshot {
    /// The snapshot's file.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_slice(MAGIC);
        out.put_u32(FORMAT);
        out.put_u64(self.revision);
        out.put_u64(self.floor);
        out.put_u64(self.entries.len() as u64);
        for (key, value) in &self.entries {
            out.put_u32(key.len() as u32);
            out.put_slice(key);
            out.put_u32(value.len() as u32);
            out.put_slice(value);
        }
        let crc = crc32fast::hash(&out);
        out.put_u32(crc);
        out.freeze()
    }

    /// Reads a snapshot's file; a damaged or cut one is refused as a whole.
    pub fn decode(file: &[u8]) -> Result<Snapshot, StoreError> {
        let damaged = |why: &str| StoreError::Corrupt(format!("the snapshot {why}"));
        if file.len() < MAGIC.len() + 32 || !file.starts_with(MAGIC) {
            return Err(damaged("is not a Skiff snapshot, or is cut short"));
        }
        let mut all = Bytes::copy_from_slice(file);
        let (body, mut crc) = (all.split_to(file.len() - 4), all);
        let mut rest = body.slice(MAGIC.len()..);
        let format = rest.get_u32();
        if format > FORMAT {
            return Err(StoreError::NewerFormat { what: "the snapshot".into(), found: format, known: FORMAT });
        }
        if crc32fast::hash(&body) != crc.get_u32() {
            return Err(damaged("does not match its checksum"));
        }
        let (revision, floor, count) = (rest.get_u64(), rest.get_u64(), rest.get_u64());
        let mut entries = Vec::new();
        for _ in 0..count {
            let key = take(&mut rest).ok_or_else(|| damaged("ends within an entry"))?;
            let value = take(&mut rest).ok_or_else(|| damaged("ends within an entry"))?;
            entries.push((key, value));
        }
        Ok(Snapshot { revision, floor, entries })
    }
}

fn take(rest: &mut Bytes) -> Option<Bytes> {
    let len = rest.try_get_u32().ok()? as usize;
    (rest.len() >= len).then(|| rest.split_to(len))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Snapshot {
        let entries = vec![(Bytes::from("/skiff/a"), Bytes::from("1")), (Bytes::from("/skiff/b"), Bytes::new())];
        Snapshot { revision: 7, floor: floor_above(7), entries }
    }

    #[test]
    fn a_snapshot_reads_back() {
        assert_eq!(Snapshot::decode(&sample().encode()), Ok(sample()));
    }

    #[test]
    fn every_cut_and_every_changed_byte_is_refused() {
        let file = sample().encode();
        for len in 0..file.len() {
            assert!(Snapshot::decode(&file[..len]).is_err(), "cut at {len}");
        }
        for at in 0..file.len() {
            let mut changed = file.to_vec();
            changed[at] ^= 1;
            assert!(Snapshot::decode(&changed).is_err(), "changed at {at}");
        }
    }

    #[test]
    fn a_newer_format_is_refused_in_words() {
        let mut file = sample().encode().to_vec();
        file[11] = 9;
        let error = Snapshot::decode(&file).unwrap_err();
        assert!(error.to_string().contains("newer Skiff"), "{error}");
    }

    #[test]
    fn the_floor_is_above_every_revision_that_may_have_been_given_out() {
        for revision in [0, 1, ROOM - 1, ROOM, 5 * ROOM + 3] {
            assert!(floor_above(revision) > revision + ROOM - 1);
        }
    }
}
