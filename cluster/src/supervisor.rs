//! The supervisor that `skiff up` leaves behind: it keeps the cluster's processes alive, restarts
//! what dies with backoff, and adopts what runs already when it died itself.
//!
//! ```text
//!            ┌──────────── lock held by a process ───────────▶ Adopted ──┐ lock free
//!   look ────┤                                                           ▼
//!            └─ lock free ─▶ Starting ─▶ Running ── exit ─▶ backoff ─▶ look
//! ```

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use skiff_world::World;
use skiff_world::watch;
use tokio::signal::unix::{SignalKind, signal};

use crate::layout::Layout;
use crate::logging::{FORMAT, LogFormat};
use crate::process;
use crate::spec::ClusterSpec;

/// The lock's name of the supervisor itself.
pub const SUPERVISOR: &str = "supervisor";

/// One process that the cluster consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Its name: of its lock, its log, and in `skiff status`.
    pub name: String,
    /// The arguments to the `skiff` binary.
    pub args: Vec<String>,
}

/// The cluster's processes: a control plane, and an agent a node.
pub fn programs(layout: &Layout, spec: &ClusterSpec) -> Vec<Program> {
    let base = |command: &str| {
        vec![
            "--home".to_owned(),
            layout.home().display().to_string(),
            command.to_owned(),
            "--name".to_owned(),
            layout.name().to_owned(),
        ]
    };
    let mut all = vec![Program { name: "server".to_owned(), args: base("server") }];
    for (_, node) in spec.nodes() {
        let mut args = base("agent");
        args.extend(["--node".to_owned(), node.clone()]);
        all.push(Program { name: format!("agent-{node}"), args });
    }
    all
}

/// How long to wait before a start, after so many quick deaths in a row: at once, then 0.5 s
/// doubling to 30 s.
fn backoff(quick_deaths: u32) -> Duration {
    match quick_deaths {
        0 => Duration::ZERO,
        n => Duration::from_millis(500 << (n - 1).min(6)).min(Duration::from_secs(30)),
    }
}

/// A process that lived this long did not die quickly.
const LIVED: Duration = Duration::from_secs(10);
/// How long a process may take to end by itself.
const GRACE: Duration = Duration::from_secs(10);

/// Supervises until SIGTERM or SIGINT, then stops every process. SIGHUP: read the spec again and
/// start what is new in it.
pub async fn run(world: World, layout: Layout, binary: PathBuf, format: LogFormat) -> Result<()> {
    let _held = process::hold(&layout.lock(SUPERVISOR))?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (stop, stopping) = watch::channel(false);
    let layout = Arc::new(layout);
    let mut started: Vec<(Program, skiff_world::Task)> = vec![];
    loop {
        let spec = ClusterSpec::read(&layout)?.context("the cluster's spec is gone")?;
        for program in programs(&layout, &spec) {
            if !started.iter().any(|(p, _)| *p == program) {
                let keeper = Keeper {
                    world: world.clone(),
                    layout: layout.clone(),
                    binary: binary.clone(),
                    program: program.clone(),
                    format,
                    stopping: stopping.clone(),
                };
                started.push((program, world.spawn("keep a process", keeper.keep())));
            }
        }
        tokio::select! {
            biased;
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => tracing::info!("reading the cluster's spec again"),
        }
    }
    tracing::info!("stopping {} processes", started.len());
    stop.send_replace(true);
    for (_, task) in started {
        task.join().await;
    }
    Ok(())
}

/// Keeps one process alive.
struct Keeper {
    world: World,
    layout: Arc<Layout>,
    binary: PathBuf,
    program: Program,
    format: LogFormat,
    stopping: watch::Receiver<bool>,
}

impl Keeper {
    async fn keep(mut self) {
        let mut quick_deaths = 0;
        while !*self.stopping.borrow() {
            let pause = backoff(quick_deaths);
            tokio::select! {
                biased;
                _ = self.stopping.changed() => break,
                () = self.world.sleep(pause) => {}
            }
            let began = self.world.now();
            match self.live_once().await {
                Ok(end) => tracing::warn!("{} ended: {end}", self.program.name),
                Err(e) => tracing::error!("{}: {e:#}", self.program.name),
            }
            let lived = self.world.now().duration_since(began);
            quick_deaths = if lived > LIVED { 0 } else { quick_deaths + 1 };
        }
    }

    /// One life of the process, adopted or started; says how it ended.
    async fn live_once(&mut self) -> Result<String> {
        let lock = self.layout.lock(&self.program.name);
        if let Some(pid) = process::holder(&lock)? {
            tracing::info!("{} runs already as process {pid}: adopted", self.program.name);
            self.until_free_or_stopped(&lock).await?;
            return Ok("an adopted process died".to_owned());
        }
        let mut child = self.start()?;
        tracing::info!("{} started as process {}", self.program.name, child.id().unwrap_or_default());
        tokio::select! {
            biased;
            status = child.wait() => return Ok(status?.to_string()),
            _ = self.stopping.changed() => {}
        }
        let pid = child.id().and_then(|id| i32::try_from(id).ok()).map(nix::unistd::Pid::from_raw);
        if let Some(pid) = pid {
            let _ = nix::sys::signal::kill(pid, Signal::SIGTERM);
        }
        match tokio::time::timeout(GRACE, child.wait()).await {
            Ok(status) => Ok(status?.to_string()),
            Err(_) => {
                child.kill().await?;
                Ok(format!("killed: it did not stop within {} s", GRACE.as_secs()))
            }
        }
    }

    async fn until_free_or_stopped(&mut self, lock: &Path) -> Result<()> {
        let path = lock.to_owned();
        let mut free = std::pin::pin!(self.world.blocking(move || process::wait_until_free(&path)));
        tokio::select! {
            biased;
            result = &mut free => return result,
            _ = self.stopping.changed() => {}
        }
        process::signal(lock, Signal::SIGTERM)?;
        if tokio::time::timeout(GRACE, &mut free).await.is_err() {
            process::signal(lock, Signal::SIGKILL)?;
        }
        Ok(())
    }

    fn start(&self) -> Result<tokio::process::Child> {
        let log = self.layout.log(&self.program.name);
        let output = open_log(&log)?;
        let mut command = std::process::Command::new(&self.binary);
        command
            .args(&self.program.args)
            .env(FORMAT, self.format.as_str())
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            // Not in the supervisor's process group: a signal to the terminal's group is not theirs.
            .process_group(0);
        tokio::process::Command::from(command)
            .spawn()
            .with_context(|| format!("start {} {}", self.binary.display(), self.program.args.join(" ")))
    }
}

/// Opens a log for appending; one that has grown beyond 16 MiB is put aside first, as `.1`.
pub fn open_log(path: &Path) -> Result<std::fs::File> {
    const LIMIT: u64 = 16 << 20;
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).with_context(|| format!("create {}", parent.display()))?;
    }
    if std::fs::metadata(path).is_ok_and(|m| m.len() > LIMIT) {
        std::fs::rename(path, path.with_extension("log.1")).with_context(|| format!("rotate {}", path.display()))?;
    }
    std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .with_context(|| format!("open the log {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::StoreSpec;

    #[test]
    fn backoff_grows_and_is_bounded() {
        assert_eq!(backoff(0), Duration::ZERO);
        assert_eq!(backoff(1), Duration::from_millis(500));
        assert_eq!(backoff(2), Duration::from_secs(1));
        assert_eq!(backoff(7), Duration::from_secs(30));
        assert_eq!(backoff(u32::MAX), Duration::from_secs(30));
    }

    #[test]
    fn a_cluster_is_a_server_and_an_agent_a_node() {
        let layout = Layout::new(Path::new("/h"), "t");
        let spec = ClusterSpec::choose("t", 2, vec![], StoreSpec::Embedded, &[]).unwrap();
        let names: Vec<String> = programs(&layout, &spec).into_iter().map(|p| p.name).collect();
        assert_eq!(names, ["server", "agent-node-1", "agent-node-2"]);
    }
}
