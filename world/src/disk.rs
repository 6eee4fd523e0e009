//! A disk with clear promises: what survives a crash, and what may not.
//!
//! - **Names** are durable when the call returns: `create`, `rename`, `remove` and the directory
//!   calls sync the directory. Nobody needs to know about syncing directories.
//! - **Contents** are durable when [`File::sync`] returns. What was written but not synced may after
//!   a crash be there, be lost, or be torn, in any order.
//! - [`Disk::write_atomic`] does both: after a crash there is the old content or the new.
//!
//! The calls block, as system calls do. Call them inside `World::blocking` where that matters.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::sim::SimDisk;
use crate::sim::SimFile;

/// A machine's file system. Cheap to clone.
#[derive(Clone)]
pub struct Disk {
    kind: Kind,
}

#[derive(Clone)]
enum Kind {
    Real,
    Simulated(Arc<SimDisk>),
}

/// One name in a directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// The name alone, without the directory.
    pub name: OsString,
    /// Whether it is a directory.
    pub is_dir: bool,
    /// The file's length in bytes; 0 for a directory.
    pub len: u64,
}

impl Disk {
    pub(crate) fn real() -> Disk {
        Disk { kind: Kind::Real }
    }

    pub(crate) fn simulated(disk: Arc<SimDisk>) -> Disk {
        Disk { kind: Kind::Simulated(disk) }
    }

    /// Opens an existing file for reading and writing.
    pub fn open(&self, path: impl AsRef<Path>) -> io::Result<File> {
        let path = path.as_ref();
        match &self.kind {
            Kind::Real => named("open", path, real_open(path, false, false).map(File::real)),
            Kind::Simulated(disk) => disk.open(path).map(File::simulated),
        }
    }

    /// Opens a file, creating it (mode 0600) when it is missing and keeping its content when not.
    pub fn open_or_create(&self, path: impl AsRef<Path>) -> io::Result<File> {
        let path = path.as_ref();
        match &self.kind {
            Kind::Real => {
                let existed = path.exists();
                let file = named("open", path, real_open(path, true, false))?;
                if !existed {
                    named("sync the directory of", path, sync_parent(path))?;
                }
                Ok(File::real(file))
            }
            Kind::Simulated(disk) => disk.create(path, 0o600, false).map(File::simulated),
        }
    }

    /// Creates a file (mode 0600), or empties it when it exists.
    pub fn create(&self, path: impl AsRef<Path>) -> io::Result<File> {
        let path = path.as_ref();
        match &self.kind {
            Kind::Real => {
                let file = named("create", path, real_open(path, true, true))?;
                named("sync the directory of", path, sync_parent(path))?;
                Ok(File::real(file))
            }
            Kind::Simulated(disk) => disk.create(path, 0o600, true).map(File::simulated),
        }
    }

    /// A file's whole content.
    pub fn read(&self, path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
        let path = path.as_ref();
        match &self.kind {
            Kind::Real => named("read", path, fs::read(path)),
            Kind::Simulated(disk) => disk.read(path),
        }
    }

    /// Whether something has this name.
    pub fn exists(&self, path: impl AsRef<Path>) -> bool {
        match &self.kind {
            Kind::Real => fs::symlink_metadata(path).is_ok(),
            Kind::Simulated(disk) => disk.exists(path.as_ref()),
        }
    }

    /// Replaces a file's content as one step, durably, with these permissions.
    pub fn write_atomic(&self, path: impl AsRef<Path>, bytes: &[u8], mode: u32) -> io::Result<()> {
        self.replace(path.as_ref(), bytes, mode, true)
    }

    /// Like [`Disk::write_atomic`] for readers, but not durable, and so much quicker: for what is
    /// made anew after a crash anyway.
    pub fn write_volatile(&self, path: impl AsRef<Path>, bytes: &[u8], mode: u32) -> io::Result<()> {
        self.replace(path.as_ref(), bytes, mode, false)
    }

    fn replace(&self, path: &Path, bytes: &[u8], mode: u32, durable: bool) -> io::Result<()> {
        match &self.kind {
            Kind::Real => named("write", path, real_replace(path, bytes, mode, durable)),
            Kind::Simulated(disk) => disk.replace(path, bytes, mode, durable),
        }
    }

    /// Removes a file. A missing one is an error of kind `NotFound`.
    pub fn remove(&self, path: impl AsRef<Path>) -> io::Result<()> {
        let path = path.as_ref();
        match &self.kind {
            Kind::Real => named("remove", path, fs::remove_file(path).and_then(|()| sync_parent(path))),
            Kind::Simulated(disk) => disk.remove(path),
        }
    }

    /// Gives a file or directory another name, replacing a file that has it.
    pub fn rename(&self, from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<()> {
        let (from, to) = (from.as_ref(), to.as_ref());
        match &self.kind {
            Kind::Real => named("rename", from, real_rename(from, to)),
            Kind::Simulated(disk) => disk.rename(from, to),
        }
    }

    /// What a directory contains, by name.
    pub fn list(&self, dir: impl AsRef<Path>) -> io::Result<Vec<Entry>> {
        let dir = dir.as_ref();
        match &self.kind {
            Kind::Real => named("list", dir, real_list(dir)),
            Kind::Simulated(disk) => disk.list(dir),
        }
    }

    /// Creates a directory (mode 0700) and those above it, as far as they are missing.
    pub fn create_dir_all(&self, dir: impl AsRef<Path>) -> io::Result<()> {
        let dir = dir.as_ref();
        match &self.kind {
            Kind::Real => named("create the directory", dir, real_create_dir_all(dir)),
            Kind::Simulated(disk) => disk.create_dir_all(dir),
        }
    }

    /// Removes a directory and everything in it. A missing one is an error of kind `NotFound`.
    pub fn remove_dir_all(&self, dir: impl AsRef<Path>) -> io::Result<()> {
        let dir = dir.as_ref();
        match &self.kind {
            Kind::Real => named("remove", dir, fs::remove_dir_all(dir).and_then(|()| sync_parent(dir))),
            Kind::Simulated(disk) => disk.remove_dir_all(dir),
        }
    }

    /// The file as redb's storage, created when missing. On a real disk the file is locked, so that
    /// a second process is refused and does not corrupt it.
    pub fn redb_backend(&self, path: impl AsRef<Path>) -> io::Result<RedbFile> {
        let path = path.as_ref();
        let file = self.open_or_create(path)?;
        if let FileKind::Real(real) = &file.kind {
            match real.try_lock() {
                Ok(()) => {}
                Err(fs::TryLockError::WouldBlock) => {
                    let text = format!("{} is in use by another process", path.display());
                    return Err(io::Error::new(io::ErrorKind::ResourceBusy, text));
                }
                Err(fs::TryLockError::Error(error)) => return named("lock", path, Err(error)),
            }
        }
        Ok(RedbFile { file })
    }
}

/// An open file. Cheap to clone; clones are the same file.
#[derive(Clone, Debug)]
pub struct File {
    kind: FileKind,
}

#[derive(Clone, Debug)]
enum FileKind {
    Real(Arc<fs::File>),
    Simulated(SimFile),
}

impl File {
    fn real(file: fs::File) -> File {
        File { kind: FileKind::Real(Arc::new(file)) }
    }

    fn simulated(file: SimFile) -> File {
        File { kind: FileKind::Simulated(file) }
    }

    /// Reads what there is at `offset`, and says how many bytes; 0 is the end.
    pub fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<usize> {
        match &self.kind {
            FileKind::Real(file) => file.read_at(out, offset),
            FileKind::Simulated(file) => file.read_at(offset, out),
        }
    }

    /// Fills `out` from `offset`; less is an error of kind `UnexpectedEof`.
    pub fn read_exact_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut done = 0;
        while done < out.len() {
            match self.read_at(offset + done as u64, &mut out[done..])? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                some => done += some,
            }
        }
        Ok(())
    }

    /// Writes all bytes at `offset`, growing the file with zeros where needed.
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        match &self.kind {
            FileKind::Real(file) => file.write_all_at(bytes, offset),
            FileKind::Simulated(file) => file.write_at(offset, bytes),
        }
    }

    /// Writes all bytes at the end. One writer at a time.
    pub fn append(&self, bytes: &[u8]) -> io::Result<()> {
        self.write_at(self.len()?, bytes)
    }

    /// The length in bytes.
    pub fn len(&self) -> io::Result<u64> {
        match &self.kind {
            FileKind::Real(file) => Ok(file.metadata()?.len()),
            FileKind::Simulated(file) => file.len(),
        }
    }

    /// Whether the file has no content.
    pub fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Cuts the file off, or grows it with zeros.
    pub fn set_len(&self, len: u64) -> io::Result<()> {
        match &self.kind {
            FileKind::Real(file) => file.set_len(len),
            FileKind::Simulated(file) => file.set_len(len),
        }
    }

    /// Returns when everything written so far would survive a crash.
    pub fn sync(&self) -> io::Result<()> {
        match &self.kind {
            FileKind::Real(file) => file.sync_data(),
            FileKind::Simulated(file) => file.sync(),
        }
    }
}

/// A file as redb wants it.
#[derive(Debug)]
pub struct RedbFile {
    file: File,
}

impl redb::StorageBackend for RedbFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write_at(offset, data)
    }
}

/// Says what was tried with which file, which the system's own message leaves out.
fn named<T>(verb: &str, path: &Path, result: io::Result<T>) -> io::Result<T> {
    result.map_err(|error| io::Error::new(error.kind(), format!("cannot {verb} {}: {error}", path.display())))
}

fn real_open(path: &Path, create: bool, truncate: bool) -> io::Result<fs::File> {
    let mut options = fs::OpenOptions::new();
    options.read(true).write(true).create(create).truncate(truncate).mode(0o600);
    options.open(path)
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn sync_parent(path: &Path) -> io::Result<()> {
    fs::File::open(parent(path))?.sync_all()
}

fn real_rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    sync_parent(to)?;
    if parent(from) != parent(to) {
        sync_parent(from)?;
    }
    Ok(())
}

/// Writes a sibling and renames it. Its name has the process's id in it, so that two processes
/// don't write the same one, and what a crash left of it is overwritten.
fn real_replace(path: &Path, bytes: &[u8], mode: u32, durable: bool) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let mut sibling = OsString::from(".");
    sibling.push(name);
    sibling.push(format!(".{}.new", std::process::id()));
    let sibling: PathBuf = parent(path).join(sibling);
    let written = (|| {
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(mode).open(&sibling)?;
        // Neither the umask nor a leftover's mode may widen or narrow what was asked for.
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.write_all(bytes)?;
        if durable {
            file.sync_all()?;
        }
        fs::rename(&sibling, path)
    })();
    if written.is_err() {
        // The error that counts is the first one.
        let _ = fs::remove_file(&sibling);
    }
    written?;
    if durable { sync_parent(path) } else { Ok(()) }
}

fn real_list(dir: &Path) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        // Gone between the listing and the look: then it isn't there.
        let Ok(meta) = entry.metadata() else { continue };
        let is_dir = meta.is_dir();
        entries.push(Entry { name: entry.file_name(), is_dir, len: if is_dir { 0 } else { meta.len() } });
    }
    entries.sort();
    Ok(entries)
}

fn real_create_dir_all(dir: &Path) -> io::Result<()> {
    if dir.is_dir() || dir.as_os_str().is_empty() {
        return Ok(());
    }
    if let Some(above) = dir.parent() {
        real_create_dir_all(above)?;
    }
    match fs::DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => Ok(()),
        Err(error) => Err(error),
        Ok(()) => sync_parent(dir),
    }
}
