//! The embedded store's file: every version that can still be read, in order of revision, in one redb table.
//!
//! Writes append at the table's end, so a commit touches few pages; compaction removes what is superseded. The state is
//! rebuilt in memory by reading the table from its beginning. One commit carries a whole batch and is durable (one
//! fsync) when it returns.

use bytes::{Buf, BufMut, Bytes};
use redb::{Database, Durability, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition, TableError};

use super::machine::{Applied, FIRST, Machine, Version, VersionId};
use crate::store::{EventKind, StoreError};

/// Revision and slot in one number -> a version's record.
const VERSIONS: TableDefinition<u64, &[u8]> = TableDefinition::new("versions");
const META: TableDefinition<&str, u64> = TableDefinition::new("meta");

const META_FORMAT: &str = "format";
const META_HEAD: &str = "head";
const META_COMPACTED: &str = "compacted";

/// The store's format: tables and keys. Each record has its own number beside it.
const FORMAT: u32 = 1;
const RECORD_FORMAT: u8 = 1;
/// A revision's changes take this many numbers.
const SLOTS: u64 = 16;
/// redb's page cache. Reads are answered from memory, so it only has to hold the pages that commits touch.
const PAGE_CACHE: usize = 4 << 20;

const PUT: u8 = 0;
const DELETE: u8 = 1;

/// What one durable commit writes.
#[derive(Debug, Default)]
pub(super) struct Commit {
    /// New revisions.
    pub(super) applied: Vec<Applied>,
    /// Versions that compaction freed.
    pub(super) dead: Vec<VersionId>,
    /// Head and compaction, when they cannot be told from the versions.
    pub(super) marks: Option<(u64, u64)>,
    /// True for a restore: everything that was there goes first.
    pub(super) clear: bool,
}

impl Commit {
    pub(super) fn is_empty(&self) -> bool {
        self.applied.is_empty() && self.dead.is_empty() && self.marks.is_none() && !self.clear
    }
}

/// The open file.
#[derive(Debug)]
pub(super) struct Log {
    db: Database,
}

impl Log {
    /// Opens or creates the file and rebuilds the state.
    pub(super) fn open(backend: impl StorageBackend) -> Result<(Log, Machine), StoreError> {
        let db = Database::builder().set_cache_size(PAGE_CACHE).create_with_backend(backend).map_err(unavailable)?;
        let log = Log { db };
        log.check_format()?;
        let machine = log.load()?;
        Ok((log, machine))
    }

    fn check_format(&self) -> Result<(), StoreError> {
        let read = self.db.begin_read().map_err(unavailable)?;
        let found = match read.open_table(META) {
            Ok(meta) => meta.get(META_FORMAT).map_err(unavailable)?.map(|format| format.value()),
            Err(TableError::TableDoesNotExist(_)) => None,
            Err(error) => return Err(unavailable(error)),
        };
        drop(read);
        match found {
            Some(format) if format > u64::from(FORMAT) => Err(StoreError::NewerFormat {
                what: "the embedded store".into(),
                found: format.min(u64::from(u32::MAX)) as u32,
                known: FORMAT,
            }),
            Some(_) => Ok(()),
            None => self.write_format(),
        }
    }

    fn write_format(&self) -> Result<(), StoreError> {
        let write = self.db.begin_write().map_err(unavailable)?;
        {
            let mut meta = write.open_table(META).map_err(unavailable)?;
            meta.insert(META_FORMAT, u64::from(FORMAT)).map_err(unavailable)?;
            write.open_table(VERSIONS).map_err(unavailable)?;
        }
        write.commit().map_err(unavailable)
    }

    fn load(&self) -> Result<Machine, StoreError> {
        let read = self.db.begin_read().map_err(unavailable)?;
        let meta = read.open_table(META).map_err(unavailable)?;
        let mark = |name: &str| Ok(meta.get(name).map_err(unavailable)?.map(|mark| mark.value()));
        let head = mark(META_HEAD)?.unwrap_or(FIRST);
        let mut machine = Machine::new(head, mark(META_COMPACTED)?.unwrap_or(0));
        let versions = read.open_table(VERSIONS).map_err(unavailable)?;
        for row in versions.iter().map_err(unavailable)? {
            let (number, record) = row.map_err(unavailable)?;
            let (revision, slot) = (number.value() / SLOTS, (number.value() % SLOTS) as u8);
            let (key, version) = decode(revision, slot, record.value())?;
            machine.replay(key, version);
        }
        Ok(machine)
    }

    /// Writes everything at once; durable when it returns. After an error nothing more may be written: whether the
    /// commit happened is only known after opening the file again.
    pub(super) fn commit(&self, commit: &Commit) -> Result<(), StoreError> {
        let mut write = self.db.begin_write().map_err(unavailable)?;
        write.set_durability(Durability::Immediate).map_err(unavailable)?;
        if commit.clear {
            write.delete_table(VERSIONS).map_err(unavailable)?;
        }
        {
            let mut versions = write.open_table(VERSIONS).map_err(unavailable)?;
            for (revision, slot) in &commit.dead {
                versions.remove(revision * SLOTS + u64::from(*slot)).map_err(unavailable)?;
            }
            let mut record = Vec::new();
            for applied in &commit.applied {
                for (event, version) in applied.revision.events.iter().zip(&applied.versions) {
                    encode(&mut record, &event.key, &event.kind, version);
                    let number = version.mod_revision * SLOTS + u64::from(version.slot);
                    versions.insert(number, record.as_slice()).map_err(unavailable)?;
                }
            }
        }
        if let Some((head, compacted)) = commit.marks {
            let mut meta = write.open_table(META).map_err(unavailable)?;
            meta.insert(META_HEAD, head).map_err(unavailable)?;
            meta.insert(META_COMPACTED, compacted).map_err(unavailable)?;
        }
        write.commit().map_err(unavailable)
    }
}

fn encode(out: &mut Vec<u8>, key: &Bytes, kind: &EventKind, version: &Version) {
    out.clear();
    out.put_u8(RECORD_FORMAT);
    let value: &[u8] = match kind {
        EventKind::Put { value, .. } => {
            out.put_u8(PUT);
            value
        }
        EventKind::Delete { .. } => {
            out.put_u8(DELETE);
            &[]
        }
    };
    out.put_u64(version.create_revision);
    out.put_i64(version.expires_at);
    out.put_u16(key.len() as u16);
    out.put_slice(key);
    out.put_slice(value);
}

/// Key and value share the record's one allocation.
fn decode(revision: u64, slot: u8, record: &[u8]) -> Result<(Bytes, Version), StoreError> {
    let damaged = || StoreError::Corrupt(format!("the record of revision {revision} is cut short"));
    let mut rest = Bytes::copy_from_slice(record);
    let format = rest.try_get_u8().map_err(|_| damaged())?;
    if format > RECORD_FORMAT {
        let what = format!("the record of revision {revision}");
        return Err(StoreError::NewerFormat { what, found: format.into(), known: RECORD_FORMAT.into() });
    }
    let kind = rest.try_get_u8().map_err(|_| damaged())?;
    let create_revision = rest.try_get_u64().map_err(|_| damaged())?;
    let expires_at = rest.try_get_i64().map_err(|_| damaged())?;
    let key_len = rest.try_get_u16().map_err(|_| damaged())? as usize;
    if rest.len() < key_len {
        return Err(damaged());
    }
    let key = rest.split_to(key_len);
    let value = (kind == PUT).then_some(rest);
    Ok((key, Version { value, create_revision, mod_revision: revision, slot, expires_at }))
}

fn unavailable(error: impl Into<redb::Error>) -> StoreError {
    match error.into() {
        redb::Error::Corrupted(why) => StoreError::Corrupt(why),
        redb::Error::UpgradeRequired(_) => StoreError::Corrupt("the file is of an older redb".into()),
        redb::Error::DatabaseAlreadyOpen => StoreError::Unavailable(
            "another process has the store open; is another skiff running on this directory?".into(),
        ),
        other => StoreError::Unavailable(other.to_string()),
    }
}
