//! A disk in memory that forgets what was not synced when its machine crashes.

use std::collections::BTreeMap;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use rand::Rng;
use rand_chacha::ChaCha20Rng;

use crate::Entry;
use crate::host::locked;

/// What a disk writes as a whole; a torn write is torn between two of these.
const SECTOR: usize = 512;

/// The file system of a simulated machine.
pub struct SimDisk {
    names: Mutex<BTreeMap<PathBuf, Node>>,
    /// Grows at each crash; a file opened in an earlier life is of no use in a later one.
    life: AtomicU64,
    full: AtomicBool,
}

enum Node {
    Dir,
    File(Arc<Inode>),
}

struct Inode {
    content: Mutex<Content>,
}

#[derive(Default)]
struct Content {
    /// What a reader sees.
    seen: Vec<u8>,
    /// What is on the platter.
    synced: Vec<u8>,
    /// The way from `synced` to `seen`.
    unsynced: Vec<Change>,
}

enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    SetLen(usize),
}

impl Change {
    /// From where to where it writes.
    fn place(&self) -> (usize, usize) {
        match self {
            Change::SetLen(_) => (0, 0),
            Change::Write { offset, bytes } => (*offset, offset + bytes.len()),
        }
    }

    fn apply(&self, to: &mut Vec<u8>) {
        match self {
            Change::SetLen(len) => to.resize(*len, 0),
            Change::Write { offset, bytes } => write_into(to, *offset, bytes),
        }
    }
}

fn write_into(to: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if to.len() < end {
        to.resize(end, 0);
    }
    to[offset..end].copy_from_slice(bytes);
}

impl Content {
    fn change(&mut self, change: Change) {
        change.apply(&mut self.seen);
        self.unsynced.push(change);
    }

    fn sync(&mut self) {
        for change in self.unsynced.drain(..) {
            change.apply(&mut self.synced);
        }
    }

    /// Decides what of the unsynced changes made it to the platter.
    fn crash(&mut self, rng: &mut ChaCha20Rng) {
        let changes = in_fixed_order(std::mem::take(&mut self.unsynced));
        let count = changes.len();
        match rng.random_range(0..3u8) {
            // Nothing did.
            0 => {}
            // They did in order up to a point, the last of them torn.
            1 => {
                let kept = rng.random_range(0..=count);
                for (at, change) in changes.iter().take(kept).enumerate() {
                    if at + 1 == kept { self.tear(change, rng) } else { change.apply(&mut self.synced) }
                }
            }
            // Each for itself, as a write-back cache does it.
            _ => {
                for change in &changes {
                    match rng.random_range(0..3u8) {
                        0 => {}
                        1 => self.tear(change, rng),
                        _ => change.apply(&mut self.synced),
                    }
                }
            }
        }
        self.seen.clone_from(&self.synced);
    }

    fn tear(&mut self, change: &Change, rng: &mut ChaCha20Rng) {
        let Change::Write { offset, bytes } = change else {
            return change.apply(&mut self.synced);
        };
        // The file's length may have been written before its data: then there are zeros.
        if rng.random_bool(0.5) && self.synced.len() < offset + bytes.len() {
            self.synced.resize(offset + bytes.len(), 0);
        }
        let sectors = bytes.len().div_ceil(SECTOR);
        let kept = (rng.random_range(0..=sectors) * SECTOR).min(bytes.len());
        if kept > 0 {
            write_into(&mut self.synced, *offset, &bytes[..kept]);
        }
    }
}

/// Between two changes of the length, writes to different places by their place. A database may
/// flush its pages in any order, a hash map's for one; what a seed makes of a crash must not
/// depend on it.
fn in_fixed_order(mut changes: Vec<Change>) -> Vec<Change> {
    let is_write = |change: &Change| matches!(change, Change::Write { .. });
    for run in changes.chunk_by_mut(|a, b| is_write(a) && is_write(b)) {
        let mut places: Vec<(usize, usize)> = run.iter().map(Change::place).collect();
        places.sort_unstable();
        // Where two writes meet, the later one counts, and the order has to stay.
        if places.windows(2).all(|two| two[0].1 <= two[1].0) {
            run.sort_by_key(Change::place);
        }
    }
    changes
}

impl SimDisk {
    pub(super) fn new() -> Arc<SimDisk> {
        let names = BTreeMap::from([(PathBuf::from("/"), Node::Dir)]);
        Arc::new(SimDisk { names: Mutex::new(names), life: AtomicU64::new(0), full: AtomicBool::new(false) })
    }

    /// Ends the life of every open file, before the tasks that hold them are dropped: what they
    /// would write while they go down is not written.
    pub(super) fn close_all(&self) {
        self.life.fetch_add(1, Ordering::SeqCst);
    }

    /// The power fails.
    pub(super) fn crash(&self, rng: &mut ChaCha20Rng) {
        self.close_all();
        for node in locked(&self.names).values() {
            if let Node::File(inode) = node {
                locked(&inode.content).crash(rng);
            }
        }
    }

    /// From now on nothing can be written, or it can again.
    pub(super) fn set_full(&self, full: bool) {
        self.full.store(full, Ordering::SeqCst);
    }

    fn writable(&self) -> io::Result<()> {
        if self.full.load(Ordering::SeqCst) {
            return Err(io::Error::new(io::ErrorKind::StorageFull, "no space left on the simulated disk"));
        }
        Ok(())
    }

    fn handle(self: &Arc<Self>, inode: &Arc<Inode>) -> SimFile {
        SimFile { disk: self.clone(), inode: inode.clone(), life: self.life.load(Ordering::SeqCst) }
    }

    pub(crate) fn open(self: &Arc<Self>, path: &Path) -> io::Result<SimFile> {
        match locked(&self.names).get(&absolute(path)) {
            Some(Node::File(inode)) => Ok(self.handle(inode)),
            Some(Node::Dir) => Err(problem(io::ErrorKind::IsADirectory, "open", path)),
            None => Err(problem(io::ErrorKind::NotFound, "open", path)),
        }
    }

    pub(crate) fn create(self: &Arc<Self>, path: &Path, _mode: u32, empty: bool) -> io::Result<SimFile> {
        self.writable()?;
        let path = absolute(path);
        let mut names = locked(&self.names);
        match names.get(&path) {
            Some(Node::Dir) => Err(problem(io::ErrorKind::IsADirectory, "create", &path)),
            Some(Node::File(inode)) => {
                if empty {
                    locked(&inode.content).change(Change::SetLen(0));
                }
                Ok(self.handle(inode))
            }
            None => {
                check_parent(&names, "create", &path)?;
                let inode = Arc::new(Inode { content: Mutex::default() });
                names.insert(path, Node::File(inode.clone()));
                Ok(self.handle(&inode))
            }
        }
    }

    pub(crate) fn read(self: &Arc<Self>, path: &Path) -> io::Result<Vec<u8>> {
        Ok(locked(&self.open(path)?.inode.content).seen.clone())
    }

    pub(crate) fn exists(&self, path: &Path) -> bool {
        locked(&self.names).contains_key(&absolute(path))
    }

    pub(crate) fn replace(&self, path: &Path, bytes: &[u8], _mode: u32, durable: bool) -> io::Result<()> {
        self.writable()?;
        let path = absolute(path);
        let mut names = locked(&self.names);
        if matches!(names.get(&path), Some(Node::Dir)) {
            return Err(problem(io::ErrorKind::IsADirectory, "write", &path));
        }
        check_parent(&names, "write", &path)?;
        let mut content = Content::default();
        content.change(Change::Write { offset: 0, bytes: bytes.to_vec() });
        if durable {
            content.sync();
        }
        names.insert(path, Node::File(Arc::new(Inode { content: Mutex::new(content) })));
        Ok(())
    }

    pub(crate) fn remove(&self, path: &Path) -> io::Result<()> {
        let path = absolute(path);
        let mut names = locked(&self.names);
        match names.get(&path) {
            None => Err(problem(io::ErrorKind::NotFound, "remove", &path)),
            Some(Node::Dir) => Err(problem(io::ErrorKind::IsADirectory, "remove", &path)),
            Some(Node::File(_)) => {
                names.remove(&path);
                Ok(())
            }
        }
    }

    pub(crate) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (absolute(from), absolute(to));
        let mut names = locked(&self.names);
        if !names.contains_key(&from) {
            return Err(problem(io::ErrorKind::NotFound, "rename", &from));
        }
        check_parent(&names, "rename", &to)?;
        if matches!(names.get(&to), Some(Node::Dir)) {
            return Err(problem(io::ErrorKind::AlreadyExists, "rename to", &to));
        }
        let moved: Vec<PathBuf> = names.keys().filter(|path| path.starts_with(&from)).cloned().collect();
        for path in moved {
            let tail = path.strip_prefix(&from).map(Path::to_owned).unwrap_or_default();
            let name = if tail.as_os_str().is_empty() { to.clone() } else { to.join(tail) };
            if let Some(node) = names.remove(&path) {
                names.insert(name, node);
            }
        }
        Ok(())
    }

    pub(crate) fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        let dir = absolute(dir);
        let names = locked(&self.names);
        match names.get(&dir) {
            None => return Err(problem(io::ErrorKind::NotFound, "list", &dir)),
            Some(Node::File(_)) => return Err(problem(io::ErrorKind::NotADirectory, "list", &dir)),
            Some(Node::Dir) => {}
        }
        let children = names.iter().filter(|(path, _)| path.parent() == Some(dir.as_path()));
        let mut entries: Vec<Entry> = children
            .filter_map(|(path, node)| {
                let name = path.file_name()?.to_owned();
                Some(match node {
                    Node::Dir => Entry { name, is_dir: true, len: 0 },
                    Node::File(inode) => Entry { name, is_dir: false, len: locked(&inode.content).seen.len() as u64 },
                })
            })
            .collect();
        entries.sort();
        Ok(entries)
    }

    pub(crate) fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.writable()?;
        let dir = absolute(dir);
        let mut names = locked(&self.names);
        let above: Vec<PathBuf> = dir.ancestors().map(Path::to_owned).collect();
        for dir in above.into_iter().rev() {
            match names.get(&dir) {
                Some(Node::Dir) => {}
                Some(Node::File(_)) => {
                    return Err(problem(io::ErrorKind::NotADirectory, "create the directory", &dir));
                }
                None => {
                    names.insert(dir, Node::Dir);
                }
            }
        }
        Ok(())
    }

    pub(crate) fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        let dir = absolute(dir);
        let mut names = locked(&self.names);
        if !names.contains_key(&dir) {
            return Err(problem(io::ErrorKind::NotFound, "remove", &dir));
        }
        names.retain(|path, _| !path.starts_with(&dir));
        // The root stays, empty.
        names.entry(PathBuf::from("/")).or_insert(Node::Dir);
        Ok(())
    }
}

/// An open file of a simulated machine.
#[derive(Clone)]
pub struct SimFile {
    disk: Arc<SimDisk>,
    inode: Arc<Inode>,
    life: u64,
}

impl SimFile {
    fn content(&self) -> io::Result<std::sync::MutexGuard<'_, Content>> {
        if self.life != self.disk.life.load(Ordering::SeqCst) {
            return Err(io::Error::other("the file was open when its machine crashed"));
        }
        Ok(locked(&self.inode.content))
    }

    pub(crate) fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<usize> {
        let content = self.content()?;
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(content.seen.len());
        let some = out.len().min(content.seen.len() - from);
        out[..some].copy_from_slice(&content.seen[from..from + some]);
        Ok(some)
    }

    pub(crate) fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.disk.writable()?;
        let offset = usize::try_from(offset).map_err(|_| io::ErrorKind::FileTooLarge)?;
        self.content()?.change(Change::Write { offset, bytes: bytes.to_vec() });
        Ok(())
    }

    pub(crate) fn len(&self) -> io::Result<u64> {
        Ok(self.content()?.seen.len() as u64)
    }

    pub(crate) fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk.writable()?;
        let len = usize::try_from(len).map_err(|_| io::ErrorKind::FileTooLarge)?;
        self.content()?.change(Change::SetLen(len));
        Ok(())
    }

    pub(crate) fn sync(&self) -> io::Result<()> {
        self.disk.writable()?;
        self.content()?.sync();
        Ok(())
    }
}

impl std::fmt::Debug for SimFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SimFile").field("life", &self.life).finish_non_exhaustive()
    }
}

/// The path from the root, without `.` and `..`.
fn absolute(path: &Path) -> PathBuf {
    let mut whole = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::Normal(name) => whole.push(name),
            Component::ParentDir => {
                whole.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    whole
}

fn check_parent(names: &BTreeMap<PathBuf, Node>, verb: &str, path: &Path) -> io::Result<()> {
    match path.parent().and_then(|parent| names.get(parent)) {
        Some(Node::Dir) => Ok(()),
        Some(Node::File(_)) => Err(problem(io::ErrorKind::NotADirectory, verb, path)),
        None => Err(problem(io::ErrorKind::NotFound, verb, path)),
    }
}

fn problem(kind: io::ErrorKind, verb: &str, path: &Path) -> io::Error {
    io::Error::new(kind, format!("cannot {verb} {}: {kind}", path.display()))
}
