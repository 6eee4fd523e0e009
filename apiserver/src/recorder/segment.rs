//! One segment file of the recorder: a header, then records, each with its length and checksum.
//!
//! Reading never fails as a whole: a record that was changed is passed over, and a torn end is the end; both leave a
//! notice that says what is missing.

use std::path::{Path, PathBuf};

use bytes::{Buf, BufMut, Bytes};
use prost::Message;
use skiff_world::File;

const MAGIC: &[u8; 8] = b"skiffrec";
const FORMAT: u32 = 1;
/// Magic and format.
pub(super) const HEADER: usize = 12;
/// Length and checksum.
const FRAME: usize = 8;

/// What a segment holds for one revision.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Record {
    #[prost(uint64, tag = "1")]
    pub(super) revision: u64,
    /// Wall clock in milliseconds when it was recorded.
    #[prost(int64, tag = "2")]
    pub(super) at: i64,
    /// Empty in a mark, which only says how far the recorder is.
    #[prost(message, repeated, tag = "3")]
    pub(super) changes: Vec<Change>,
    /// Not 0: everything after this revision up to `revision` is missing.
    #[prost(uint64, tag = "4")]
    pub(super) missing_after: u64,
}

/// One changed object.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Change {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) key: Bytes,
    #[prost(string, tag = "2")]
    pub(super) uid: String,
    #[prost(bool, tag = "3")]
    pub(super) deleted: bool,
    #[prost(bool, tag = "4")]
    pub(super) json: bool,
    #[prost(bytes = "bytes", tag = "5")]
    pub(super) object: Bytes,
    #[prost(bytes = "bytes", tag = "6")]
    pub(super) cause: Bytes,
    #[prost(uint64, tag = "7")]
    pub(super) create_revision: u64,
}

/// Something that could not be read, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// The segment file; empty if it is about no file.
    pub file: PathBuf,
    /// What is wrong.
    pub text: String,
}

/// A new segment's first bytes.
pub(super) fn header() -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER);
    out.put_slice(MAGIC);
    out.put_u32(FORMAT);
    out
}

/// Appends a record's bytes.
pub(super) fn encode(out: &mut Vec<u8>, record: &Record) {
    let payload = record.encode_to_vec();
    out.put_u32(payload.len() as u32);
    out.put_u32(crc32fast::hash(&payload));
    out.put_slice(&payload);
}

/// What a segment holds.
#[derive(Debug, Default)]
pub(super) struct Contents {
    pub(super) records: Vec<Record>,
    pub(super) notices: Vec<Notice>,
    /// Where each record lies.
    pub(super) offsets: Vec<u64>,
    /// How many of the records come before the first damage.
    pub(super) intact: usize,
    /// The file's length when it was read.
    pub(super) len: u64,
}

/// Reads what can be read.
pub(super) fn decode(path: &Path, file: Vec<u8>) -> Contents {
    let mut contents = Contents { len: file.len() as u64, ..Contents::default() };
    let mut notice = |text: String| contents.notices.push(Notice { file: path.to_owned(), text });
    let file_len = file.len();
    let mut rest = Bytes::from(file);
    if rest.len() < HEADER || !rest.starts_with(MAGIC) {
        notice("is no recorder segment, or its beginning is lost".into());
        return contents;
    }
    rest.advance(MAGIC.len());
    let format = rest.get_u32();
    if format > FORMAT {
        notice(format!("has format {format}, and this Skiff reads up to {FORMAT}: it was written by a newer Skiff"));
        return contents;
    }
    let mut damaged = false;
    while !rest.is_empty() {
        let at = file_len - rest.len();
        let found = next(&mut rest);
        if let Ok(record) = found {
            contents.records.push(record);
            contents.offsets.push(at as u64);
            contents.intact += usize::from(!damaged);
            continue;
        }
        damaged = true;
        let text = match found {
            Err(Damage::Changed) => format!("the record at byte {at} was changed and is passed over"),
            // A crash can leave zeros where data was to come; no record is empty.
            Err(Damage::Zeros) => format!("holds nothing from byte {at} on"),
            _ => format!("ends within a record at byte {at}, or the record's length was changed"),
        };
        contents.notices.push(Notice { file: path.to_owned(), text });
    }
    contents
}

/// The record that lies there; none if it is not whole.
pub(super) fn read_at(file: &File, offset: u64) -> Option<Record> {
    let mut frame = [0; FRAME];
    file.read_exact_at(offset, &mut frame).ok()?;
    let (len, _) = frame.split_at(FRAME / 2);
    let len = u32::from_be_bytes(len.try_into().ok()?) as usize;
    if offset + (FRAME + len) as u64 > file.len().ok()? {
        return None;
    }
    let mut whole = vec![0; FRAME + len];
    file.read_exact_at(offset, &mut whole).ok()?;
    next(&mut Bytes::from(whole)).ok()
}

enum Damage {
    Changed,
    Zeros,
    End,
}

/// Takes the next record off; where nothing can follow, everything.
fn next(rest: &mut Bytes) -> Result<Record, Damage> {
    if rest.len() < FRAME {
        rest.clear();
        return Err(Damage::End);
    }
    let (len, crc) = (rest.get_u32() as usize, rest.get_u32());
    if len == 0 || len > rest.len() {
        rest.clear();
        return Err(if len == 0 { Damage::Zeros } else { Damage::End });
    }
    let payload = rest.split_to(len);
    if crc32fast::hash(&payload) != crc {
        return Err(Damage::Changed);
    }
    Record::decode(payload).map_err(|_| Damage::Changed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(revision: u64) -> Record {
        let change = Change { key: Bytes::from("k"), uid: "u".into(), object: Bytes::from("o"), ..Change::default() };
        Record { revision, at: 1, changes: vec![change], missing_after: 0 }
    }

    fn file(revisions: std::ops::Range<u64>) -> Vec<u8> {
        let mut out = header();
        revisions.for_each(|revision| encode(&mut out, &record(revision)));
        out
    }

    fn revisions(contents: &Contents) -> Vec<u64> {
        contents.records.iter().map(|record| record.revision).collect()
    }

    #[test]
    fn a_segment_reads_back() {
        let contents = decode(Path::new("s"), file(1..4));
        assert_eq!(contents.records, [record(1), record(2), record(3)]);
        assert_eq!(contents.notices, []);
    }

    #[test]
    fn a_newer_format_is_refused_in_words() {
        let mut newer = file(1..2);
        newer[11] = 2;
        assert!(decode(Path::new("s"), newer).notices[0].text.contains("newer Skiff"));
    }

    proptest! {
        #[test]
        fn a_cut_loses_the_end_and_says_so(cut in 0..1_000_usize) {
            let whole = file(1..10);
            let cut = cut % whole.len();
            let one = (whole.len() - HEADER) / 9;
            let contents = decode(Path::new("s"), whole[..cut].to_vec());
            let kept = cut.saturating_sub(HEADER) / one;
            prop_assert_eq!(revisions(&contents), (1..=kept as u64).collect::<Vec<_>>());
            let clean = cut >= HEADER && (cut - HEADER).is_multiple_of(one);
            prop_assert_eq!(contents.notices.is_empty(), clean);
        }

        #[test]
        fn a_changed_byte_loses_at_most_what_follows_and_never_goes_unseen(at in 0..1_000_usize, bit in 0..8_u32) {
            let mut changed = file(1..10);
            let at = at % changed.len();
            changed[at] ^= 1 << bit;
            let contents = decode(Path::new("s"), changed);
            // A changed format is older or newer; an older one reads the same.
            prop_assert!(!contents.notices.is_empty() || (8..HEADER).contains(&at));
            prop_assert!(contents.records.iter().all(|read| *read == record(read.revision)));
        }
    }
}
