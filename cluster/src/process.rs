//! A process of the cluster and its lock: a file that the process keeps locked for as long as it
//! lives, with its process id inside. The kernel frees the lock at any death, so whoever waits for
//! the lock learns of the death at once, without polling and without being the parent.

use std::fs::{File, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::layout::Layout;

/// The names of all processes that ever held a lock of this cluster, in order.
pub fn names(layout: &Layout) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(layout.dir().join("run")) else { return vec![] };
    let mut names: Vec<String> = entries
        .filter_map(|e| e.ok()?.file_name().into_string().ok()?.strip_suffix(".lock").map(str::to_owned))
        .collect();
    names.sort();
    names
}

/// The proof that this process is the one of its name. Freed when dropped, or at death.
#[derive(Debug)]
pub struct Held {
    _file: File,
}

/// Takes the lock at `path` for this process and writes the process id into it. Fails when another
/// process holds it.
pub fn hold(path: &Path) -> Result<Held> {
    let mut file = open(path)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let who = pid_in(&mut file).map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"));
            bail!("{} is held by {who}: it already runs", path.display())
        }
        Err(TryLockError::Error(e)) => return Err(e).with_context(|| format!("lock {}", path.display())),
    }
    file.set_len(0)?;
    file.rewind()?;
    write!(file, "{}", std::process::id()).with_context(|| format!("write {}", path.display()))?;
    Ok(Held { _file: file })
}

/// The process that holds the lock at `path`, if any does.
pub fn holder(path: &Path) -> Result<Option<Pid>> {
    if !path.exists() {
        return Ok(None);
    }
    let mut file = open(path)?;
    match file.try_lock_shared() {
        Ok(()) => Ok(None),
        Err(TryLockError::WouldBlock) => Ok(pid_in(&mut file)),
        Err(TryLockError::Error(e)) => Err(e).with_context(|| format!("look at the lock {}", path.display())),
    }
}

/// Blocks until no process holds the lock at `path`. Call it where blocking is allowed.
pub fn wait_until_free(path: &Path) -> Result<()> {
    open(path)?.lock_shared().with_context(|| format!("wait for the lock {}", path.display()))
}

/// Sends a signal to the holder of the lock at `path`; false when there is none.
pub fn signal(path: &Path, signal: Signal) -> Result<bool> {
    match holder(path)? {
        None => Ok(false),
        Some(pid) => match kill(pid, signal) {
            Ok(()) => Ok(true),
            Err(nix::errno::Errno::ESRCH) => Ok(false),
            Err(e) => Err(e).with_context(|| format!("send {signal} to process {pid}")),
        },
    }
}

/// Opens the file of a lock, and makes it if it is not there.
pub fn open(path: &Path) -> Result<File> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).with_context(|| format!("create {}", parent.display()))?;
    }
    std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .with_context(|| format!("open the lock {}", path.display()))
}

fn pid_in(file: &mut File) -> Option<Pid> {
    let mut text = String::new();
    file.rewind().ok()?;
    file.read_to_string(&mut text).ok()?;
    text.trim().parse().ok().map(Pid::from_raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_has_one_holder_and_is_free_after_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run/x.lock");
        assert_eq!(holder(&path).unwrap(), None);
        let held = hold(&path).unwrap();
        assert_eq!(holder(&path).unwrap(), Some(Pid::this()));
        let refused = hold(&path).unwrap_err().to_string();
        assert!(refused.contains(&Pid::this().to_string()), "{refused}");
        drop(held);
        assert_eq!(holder(&path).unwrap(), None);
        wait_until_free(&path).unwrap();
        assert!(!signal(&path, Signal::SIGTERM).unwrap());
    }
}
