//! Named network namespaces, as `ip netns` knows them (files in /run/netns), and doing something
//! inside one.
//!
//! A thread that entered a namespace is never used for anything else: it ends with the work.

use std::fs::File;
use std::future::Future;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};

/// Where named network namespaces lie.
const RUN_NETNS: &str = "/run/netns";

/// The file that stands for the namespace `name`.
pub fn path(name: &str) -> PathBuf {
    Path::new(RUN_NETNS).join(name)
}

/// Makes the namespace `name` unless it is there.
pub fn create(name: &str) -> Result<()> {
    let file = path(name);
    if is_namespace(&file) {
        return Ok(());
    }
    make_mount_point()?;
    std::fs::write(&file, b"").with_context(|| format!("create {}", file.display()))?;
    on_own_thread(move || {
        unshare(CloneFlags::CLONE_NEWNET).context("make a network namespace (are you root?)")?;
        let own = format!("/proc/self/task/{}/ns/net", nix::unistd::gettid());
        mount(Some(own.as_str()), &file, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .with_context(|| format!("mount the new namespace at {}", file.display()))
    })
}

/// Makes /run/netns a mount of its own that is shared, as `ip netns` does when it finds that it is none. Would it do so
/// after namespaces were made here, its mount would lie over them: they could be seen, and not removed.
fn make_mount_point() -> Result<()> {
    std::fs::create_dir_all(RUN_NETNS).context("create /run/netns")?;
    let share = || mount(None::<&str>, RUN_NETNS, None::<&str>, MsFlags::MS_SHARED | MsFlags::MS_REC, None::<&str>);
    if share() != Err(Errno::EINVAL) {
        return Ok(());
    }
    mount(Some(RUN_NETNS), RUN_NETNS, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)
        .context("make /run/netns a mount of its own")?;
    share().context("share /run/netns")
}

/// Removes the namespace `name`; nothing happens when there is none.
pub fn remove(name: &str) -> Result<()> {
    let file = path(name);
    if !file.exists() {
        return Ok(());
    }
    // More than one, if somebody mounted over it.
    while is_namespace(&file) {
        umount2(&file, MntFlags::MNT_DETACH).with_context(|| format!("unmount {}", file.display()))?;
    }
    std::fs::remove_file(&file).with_context(|| format!("remove {}", file.display()))
}

/// The names that begin with `prefix`.
pub fn list(prefix: &str) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(RUN_NETNS) else { return vec![] };
    let mut names: Vec<String> =
        entries.filter_map(|e| e.ok()?.file_name().into_string().ok()).filter(|n| n.starts_with(prefix)).collect();
    names.sort();
    names
}

/// Moves the calling thread into the namespace at `file`. For a process that lives on a node, this
/// is done first thing, while it has one thread, so that all later ones inherit it.
pub fn enter(file: &Path) -> Result<()> {
    let namespace = File::open(file).with_context(|| format!("open the network namespace {}", file.display()))?;
    setns(namespace, CloneFlags::CLONE_NEWNET)
        .with_context(|| format!("enter the network namespace {}", file.display()))
}

/// Runs `work` inside the namespace `name` with a netlink connection to it.
pub fn inside<F, Fut, T>(name: &str, work: F) -> Result<T>
where
    F: FnOnce(rtnetlink::Handle) -> Fut + Send + 'static,
    Fut: Future<Output = Result<T>>,
    T: Send + 'static,
{
    let file = path(name);
    on_own_thread(move || {
        enter(&file)?;
        with_netlink(work)
    })
}

/// Runs `work` in the caller's own namespace with a netlink connection.
pub fn here<F, Fut, T>(work: F) -> Result<T>
where
    F: FnOnce(rtnetlink::Handle) -> Fut + Send + 'static,
    Fut: Future<Output = Result<T>>,
    T: Send + 'static,
{
    on_own_thread(move || with_netlink(work))
}

fn with_netlink<F, Fut, T>(work: F) -> Result<T>
where
    F: FnOnce(rtnetlink::Handle) -> Fut,
    Fut: Future<Output = Result<T>>,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (connection, handle, _) = rtnetlink::new_connection().context("open a netlink socket")?;
        let worker = async {
            connection.await;
            Err(anyhow!("the netlink connection ended"))
        };
        tokio::select! {
            biased;
            result = work(handle) => result,
            ended = worker => ended,
        }
    })
}

/// A namespace file is a mount of the kernel's nsfs.
fn is_namespace(file: &Path) -> bool {
    nix::sys::statfs::statfs(file).is_ok_and(|s| s.filesystem_type() == nix::sys::statfs::NSFS_MAGIC)
}

#[expect(clippy::disallowed_methods, reason = "a thread that changes its namespace must not be one of a pool")]
fn on_own_thread<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    std::thread::spawn(work).join().map_err(|_| anyhow!("the namespace thread panicked"))?
}
