//! What lies in etcd and is not the API's: the store's own keys, the cluster's prefix, and revisions as etcd counts them.
//!
//! A revision of ours is etcd's plus a base. The base is part of what is stored: a restore raises it, because etcd's own
//! count cannot be.

use bytes::Bytes;
use etcd_client::KeyValue;

use crate::store::{Entry, ROOT, StoreError};

/// Holds the format, the base, and whether a restore is under way.
pub(super) const STORE_KEY: &str = "/skiff/-/store";
/// Written to see a watch go by.
pub(super) const PROGRESS_KEY: &str = "/skiff/-/store/progress";

const FORMAT: u32 = 1;

/// What the store key says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Marks {
    pub(super) base: u64,
    pub(super) restoring: bool,
}

impl Marks {
    pub(super) fn encode(self) -> String {
        format!("{FORMAT} {}{}", self.base, if self.restoring { " restoring" } else { "" })
    }

    pub(super) fn decode(value: &[u8]) -> Result<Marks, StoreError> {
        let text = String::from_utf8_lossy(value);
        let damaged = || StoreError::Corrupt(format!("etcd's key {STORE_KEY} holds {text:?}"));
        let mut words = text.split(' ');
        let mut number = || words.next().and_then(|word| word.parse::<u64>().ok()).ok_or_else(damaged);
        let format = number()?;
        if format > u64::from(FORMAT) {
            let found = u32::try_from(format).unwrap_or(u32::MAX);
            return Err(StoreError::NewerFormat { what: "the store in etcd".into(), found, known: FORMAT });
        }
        Ok(Marks { base: number()?, restoring: words.next() == Some("restoring") })
    }
}

/// Translates keys and revisions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layout {
    /// What every key in etcd begins with; keeps clusters that share an etcd apart.
    pub(super) cluster: String,
    pub(super) base: u64,
    /// etcd's revision of the store key: a write is refused if somebody restored in between.
    pub(super) marked_at: i64,
}

impl Layout {
    /// Our revision.
    pub(super) fn outer(&self, inner: i64) -> u64 {
        self.base + inner.max(0) as u64
    }

    /// etcd's revision; 0 for what was before the base.
    pub(super) fn inner(&self, outer: u64) -> i64 {
        i64::try_from(outer.saturating_sub(self.base)).unwrap_or(i64::MAX)
    }

    /// The revision to compare a key with: -1, which no key has, for one from before the base.
    pub(super) fn expected(&self, outer: u64) -> i64 {
        match outer {
            0 => 0,
            outer if outer <= self.base => -1,
            outer => self.inner(outer),
        }
    }

    /// The key in etcd.
    pub(super) fn key(&self, key: &[u8]) -> Vec<u8> {
        [self.cluster.as_bytes(), key].concat()
    }

    /// The first key behind everything that begins with `prefix`.
    pub(super) fn end_of(&self, prefix: &[u8]) -> Vec<u8> {
        let mut end = self.key(prefix);
        while let Some(last) = end.pop() {
            if last < u8::MAX {
                end.push(last + 1);
                return end;
            }
        }
        // Everything: etcd's own sign for "to the last key".
        vec![0]
    }

    /// The range of all that is ours.
    pub(super) fn everything(&self) -> (Vec<u8>, Vec<u8>) {
        (self.key(ROOT.as_bytes()), self.end_of(ROOT.as_bytes()))
    }

    /// Our key of etcd's.
    pub(super) fn strip(&self, key: &[u8]) -> Option<Bytes> {
        key.strip_prefix(self.cluster.as_bytes()).map(Bytes::copy_from_slice)
    }

    /// Our entry of etcd's; `None` for the store's own keys.
    pub(super) fn entry(&self, kv: KeyValue) -> Option<Entry> {
        let (create_revision, mod_revision) = (self.outer(kv.create_revision()), self.outer(kv.mod_revision()));
        let expires = kv.lease() != 0;
        let (key, value) = kv.into_key_value();
        let key = Bytes::from(key).slice(self.cluster.len()..);
        let own = key == STORE_KEY.as_bytes() || key == PROGRESS_KEY.as_bytes();
        (!own).then(|| Entry { key, value: value.into(), create_revision, mod_revision, expires })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_read_back_and_a_newer_format_is_refused() {
        for marks in [Marks { base: 0, restoring: false }, Marks { base: 200_000_000_000, restoring: true }] {
            assert_eq!(Marks::decode(marks.encode().as_bytes()), Ok(marks));
        }
        assert!(matches!(Marks::decode(b"2 0"), Err(StoreError::NewerFormat { found: 2, .. })));
        for text in [&b""[..], b"x", b"1", b"1 x"] {
            assert!(matches!(Marks::decode(text), Err(StoreError::Corrupt(_))), "{text:?}");
        }
    }

    #[test]
    fn revisions_from_before_a_restore_match_nothing() {
        let layout = Layout { cluster: String::new(), base: 100, marked_at: 1 };
        assert_eq!([0, 7, 100, 101].map(|revision| layout.expected(revision)), [0, -1, -1, 1]);
        assert_eq!(layout.outer(layout.inner(105)), 105);
    }

    #[test]
    fn a_prefix_ends_where_the_next_begins() {
        let layout = Layout { cluster: "/a".into(), base: 0, marked_at: 1 };
        assert_eq!(layout.end_of(b"/skiff/"), b"/a/skiff0");
        let bare = Layout { cluster: String::new(), base: 0, marked_at: 1 };
        assert_eq!(bare.end_of(&[b'a', 0xff]), b"b");
        assert_eq!(bare.end_of(&[0xff]), [0]);
    }
}
