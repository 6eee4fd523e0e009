//! Network namespaces as files: made, entered, removed.
//!
//! A namespace belongs to a thread. These functions change the calling thread's and always change it back, so they may
//! run on a pool's threads (`World::blocking`).

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};

use super::NetworkError;

const THREAD_NAMESPACE: &str = "/proc/thread-self/ns/net";

/// Returns to the namespace that the thread was in, whatever happens in between.
struct Return(File);

impl Return {
    fn here() -> std::io::Result<Return> {
        Ok(Return(File::open(THREAD_NAMESPACE)?))
    }
}

impl Drop for Return {
    fn drop(&mut self) {
        if let Err(error) = setns(&self.0, CloneFlags::CLONE_NEWNET) {
            // The thread would go on to do the node's work inside a Pod. Nothing is safer than to start anew.
            tracing::error!(%error, "cannot return to the node's network namespace; the kubelet ends here");
            std::process::abort();
        }
    }
}

/// A file that holds a namespace has another device than the directory it is in.
pub fn exists(path: &Path) -> bool {
    let Some(parent) = path.parent().and_then(|parent| fs::metadata(parent).ok()) else {
        return false;
    };
    fs::metadata(path).is_ok_and(|file| file.dev() != parent.dev())
}

/// Makes a new namespace and binds it to the file; keeps one that is there.
pub fn make(path: &Path) -> Result<(), NetworkError> {
    if exists(path) {
        return Ok(());
    }
    let failed = |error: &dyn std::fmt::Display| {
        NetworkError::failed(format!("make the network namespace {}", path.display()), error)
    };
    let _return = Return::here().map_err(|e| failed(&e))?;
    File::create(path).map_err(|e| failed(&e))?;
    unshare(CloneFlags::CLONE_NEWNET).map_err(|e| failed(&e))?;
    bind_current(path)
}

/// Binds the calling thread's namespace to the file.
pub fn bind_current(path: &Path) -> Result<(), NetworkError> {
    if !path.exists() {
        File::create(path).map_err(|error| NetworkError::failed(format!("make {}", path.display()), error))?;
    }
    mount(Some(THREAD_NAMESPACE), path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .map_err(|error| NetworkError::failed(format!("bind a network namespace to {}", path.display()), error))
}

/// Unbinds and removes the file. The namespace itself ends with the last process in it.
pub fn remove(path: &Path) -> Result<(), NetworkError> {
    let failed =
        |error: &dyn std::fmt::Display| NetworkError::failed(format!("remove the namespace {}", path.display()), error);
    // Several mounts may lie on top of each other after a crash at the wrong moment.
    while exists(path) {
        umount2(path, MntFlags::MNT_DETACH).map_err(|e| failed(&e))?;
    }
    match fs::remove_file(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed(&error)),
    }
}

/// Runs `work` inside the namespace. It must not start threads or tasks that go on in there.
pub fn inside<T>(path: &Path, work: impl FnOnce() -> T) -> Result<T, NetworkError> {
    let failed =
        |error: &dyn std::fmt::Display| NetworkError::failed(format!("enter the namespace {}", path.display()), error);
    let target = File::open(path).map_err(|e| failed(&e))?;
    let _return = Return::here().map_err(|e| failed(&e))?;
    setns(&target, CloneFlags::CLONE_NEWNET).map_err(|e| failed(&e))?;
    Ok(work())
}

/// Makes sure that the process is in the namespace of the file.
pub fn check(path: &Path, pid: u32) -> Result<(), NetworkError> {
    let of_process = format!("/proc/{pid}/ns/net");
    let read = |path: &Path| {
        fs::metadata(path)
            .map(|file| (file.dev(), file.ino()))
            .map_err(|error| NetworkError::failed(format!("look at {}", path.display()), error))
    };
    if read(path)? == read(Path::new(&of_process))? {
        return Ok(());
    }
    let found = fs::read_link(&of_process).map(|link| link.display().to_string()).unwrap_or_default();
    Err(NetworkError::WrongNamespace { pid, found })
}
