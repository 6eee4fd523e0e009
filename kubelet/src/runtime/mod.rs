//! The edge to the container runtime: what the kubelet asks of it ([`ContainerRuntime`]), and what it reports back.
//!
//! Two implementations: [`docker`] speaks to a Docker Engine, [`fake`] lives in the simulation. One conformance suite
//! (tests/runtime_conformance.rs) runs on both. Neither decides anything: what to create, start, signal and remove is
//! planned in [`crate::lifecycle`].
//!
//! Everything the kubelet must remember about a container is in its labels ([`Identity`]), so a kubelet that was killed
//! finds its containers again. Names are deterministic, so creating the same container twice finds the first one.

pub mod docker;
mod docker_convert;
pub mod fake;
mod identity;
pub mod measured;

use std::pin::Pin;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use jiff::Timestamp;
use tokio::io::AsyncWrite;

pub use identity::{CLUSTER_LABEL, Identity, POD_UID_LABEL, Role, SANDBOX_NAME};

/// The cgroup that those of all Pods of a cluster are below (with Docker's cgroupfs driver).
pub fn cgroup_parent(cluster: &str) -> String {
    format!("/skiff/{cluster}")
}

/// The network namespace a container starts in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetworkMode {
    /// the engine's own host namespace; pause moves on from there
    Host,
    /// that of another container, by id
    Container(String),
}

/// An IPC or process namespace.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum NamespaceMode {
    /// its own
    #[default]
    Private,
    /// its own, which others may join
    Shareable,
    /// that of another container, by id
    Container(String),
    /// the host's
    Host,
}

/// A directory or file of the node seen inside a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BindMount {
    /// path on the node
    pub source: String,
    /// path in the container
    pub target: String,
    /// no writes
    pub read_only: bool,
    /// Docker's word: rprivate, rslave, rshared
    pub propagation: String,
}

/// Limits, in the kernel's terms.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Limits {
    /// bytes; 0: none
    pub memory: i64,
    /// relative weight; 0: the engine's default
    pub cpu_shares: i64,
    /// microseconds in each 100 ms; 0: none
    pub cpu_quota: i64,
    /// who is killed first when memory runs out
    pub oom_score_adj: i64,
}

/// Everything that makes a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerConfig {
    /// who it is
    pub identity: Identity,
    /// image reference
    pub image: String,
    /// replaces the image's entrypoint unless empty
    pub command: Vec<String>,
    /// replaces the image's command unless empty
    pub args: Vec<String>,
    /// NAME=value
    pub env: Vec<(String, String)>,
    /// unless empty
    pub working_dir: String,
    /// uid or uid:gid, unless empty
    pub user: String,
    /// supplementary groups
    pub groups: Vec<String>,
    /// network namespace
    pub network: NetworkMode,
    /// IPC namespace
    pub ipc: NamespaceMode,
    /// process namespace
    pub pid: NamespaceMode,
    /// only where the network mode allows it
    pub hostname: String,
    /// mounts
    pub mounts: Vec<BindMount>,
    /// limits
    pub limits: Limits,
    /// capabilities beyond the engine's default set
    pub capabilities_add: Vec<String>,
    /// capabilities taken from the engine's default set; "ALL" is one
    pub capabilities_drop: Vec<String>,
    /// the root file system cannot be written
    pub read_only_root: bool,
    /// no program gains privileges by being run
    pub no_new_privileges: bool,
    /// all privileges
    pub privileged: bool,
    /// with a terminal
    pub tty: bool,
    /// keeps stdin open
    pub stdin: bool,
    /// closes stdin after the first attach
    pub stdin_once: bool,
}

impl ContainerConfig {
    /// A container of this identity and image with nothing special about it.
    pub fn new(identity: Identity, image: &str) -> ContainerConfig {
        ContainerConfig {
            identity,
            image: image.to_string(),
            command: Vec::new(),
            args: Vec::new(),
            env: Vec::new(),
            working_dir: String::new(),
            user: String::new(),
            groups: Vec::new(),
            network: NetworkMode::Host,
            ipc: NamespaceMode::Private,
            pid: NamespaceMode::Private,
            hostname: String::new(),
            mounts: Vec::new(),
            limits: Limits::default(),
            capabilities_add: Vec::new(),
            capabilities_drop: Vec::new(),
            read_only_root: false,
            no_new_privileges: false,
            privileged: false,
            tty: false,
            stdin: false,
            stdin_once: false,
        }
    }
}

/// Where a container is in its life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunState {
    /// made, not started
    Created,
    /// running
    Running {
        /// its first process, in the engine's process namespace
        pid: u32,
        /// since when
        started_at: Timestamp,
    },
    /// ended, or could not be started
    Exited(Exit),
}

/// How a container ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// exit code; 128 + signal where a signal ended it
    pub code: i32,
    /// killed for using more memory than its limit
    pub oom_killed: bool,
    /// it never ran: why the engine could not start it
    pub start_error: Option<String>,
    /// when it was started; None: it never ran
    pub started_at: Option<Timestamp>,
    /// when it ended
    pub finished_at: Timestamp,
}

/// What the runtime reports about a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerReport {
    /// the engine's id
    pub id: String,
    /// who it is
    pub identity: Identity,
    /// image reference it was made from
    pub image: String,
    /// digest of that image
    pub image_id: String,
    /// the signal its image wants to be stopped with
    pub stop_signal: String,
    /// state
    pub state: RunState,
}

impl ContainerReport {
    /// Running now.
    pub fn is_running(&self) -> bool {
        matches!(self.state, RunState::Running { .. })
    }

    /// How it ended, if it did.
    pub fn exit(&self) -> Option<&Exit> {
        match &self.state {
            RunState::Exited(exit) => Some(exit),
            _ => None,
        }
    }
}

/// An image that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageReport {
    /// digest
    pub id: String,
    /// user it runs as: "" or "0" is root
    pub user: String,
}

/// What the engine says about itself.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct RuntimeInfo {
    /// "docker://20.10.24"
    pub version: String,
    /// "linux"
    pub os: String,
    /// "amd64", as Kubernetes calls it
    pub architecture: String,
    /// kernel release
    pub kernel: String,
    /// distribution
    pub os_image: String,
}

/// Something happened to a container of the Pod: look again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeEvent {
    /// whose container
    pub pod_uid: String,
    /// "die", "start", "oom", ...
    pub action: String,
}

/// A piece of output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// standard output, or a terminal's
    Stdout(Bytes),
    /// standard error
    Stderr(Bytes),
}

/// Which part of a log.
#[derive(Clone, Debug, Default)]
pub struct LogOptions {
    /// go on as it grows
    pub follow: bool,
    /// only so many lines from the end
    pub tail: Option<u64>,
    /// only lines since
    pub since: Option<Timestamp>,
    /// each line with its time
    pub timestamps: bool,
}

/// A command to run in a container.
#[derive(Clone, Debug, Default)]
pub struct ExecConfig {
    /// program and arguments, not a shell line
    pub command: Vec<String>,
    /// with standard input
    pub stdin: bool,
    /// with a terminal
    pub tty: bool,
}

/// A process's streams: an exec, or a container that was attached to.
pub struct Session {
    /// what to resize, and whose exit code to ask for
    pub target: SessionTarget,
    /// output until the process ends
    pub output: BoxStream<'static, Result<Output, RuntimeError>>,
    /// its standard input; shut down to end it
    pub input: Pin<Box<dyn AsyncWrite + Send>>,
}

/// What a [`Session`] is connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionTarget {
    /// an exec, by the engine's id
    Exec(String),
    /// a container's own process
    Container(String),
}

/// What can go wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuntimeError {
    /// The engine is there but does not answer.
    #[error("the container engine did not answer within {} s when asked to {operation}", after.as_secs())]
    Timeout {
        /// what was asked
        operation: String,
        /// for how long it was waited
        after: Duration,
    },
    /// The engine cannot be reached.
    #[error("cannot reach the container engine to {operation}: {reason}")]
    Unreachable {
        /// what was asked
        operation: String,
        /// what the connection says
        reason: String,
    },
    /// What was named does not exist.
    #[error("cannot {operation}: {message}")]
    NotFound {
        /// what was asked
        operation: String,
        /// the engine's words
        message: String,
    },
    /// The engine refuses.
    #[error("cannot {operation}: {message}")]
    Refused {
        /// what was asked
        operation: String,
        /// the engine's words
        message: String,
    },
}

impl RuntimeError {
    /// It is not there (any more).
    pub fn is_not_found(&self) -> bool {
        matches!(self, RuntimeError::NotFound { .. })
    }

    /// The engine itself is at fault, not what was asked: the node is not ready.
    pub fn is_engine_down(&self) -> bool {
        matches!(self, RuntimeError::Timeout { .. } | RuntimeError::Unreachable { .. })
    }

    /// The engine's own words, without what was asked.
    pub fn words(&self) -> String {
        match self {
            RuntimeError::NotFound { message, .. } | RuntimeError::Refused { message, .. } => message.clone(),
            other => other.to_string(),
        }
    }
}

/// A container runtime, as the kubelet uses it. Every method returns within a bounded time, streams aside.
#[async_trait]
pub trait ContainerRuntime: Send + Sync + 'static {
    /// Answers if the engine is well.
    async fn info(&self) -> Result<RuntimeInfo, RuntimeError>;
    /// All containers of this node, ended ones too; of one Pod where a uid is given.
    async fn containers(&self, pod_uid: Option<&str>) -> Result<Vec<ContainerReport>, RuntimeError>;
    /// Makes a container; where one of this name exists already, that is the one.
    async fn create(&self, config: &ContainerConfig) -> Result<String, RuntimeError>;
    /// Starts it; nothing happens where it runs already.
    async fn start(&self, id: &str) -> Result<(), RuntimeError>;
    /// Sends a signal ("TERM", "KILL"); nothing happens where it has ended.
    async fn signal(&self, id: &str, signal: &str) -> Result<(), RuntimeError>;
    /// Removes it, running or not; nothing happens where it is gone.
    async fn remove(&self, id: &str) -> Result<(), RuntimeError>;
    /// Removes what the engine leaves of a Pod after its containers (cgroups).
    async fn forget_pod(&self, pod_uid: &str) -> Result<(), RuntimeError>;
    /// The image, if it is there.
    async fn image(&self, reference: &str) -> Result<Option<ImageReport>, RuntimeError>;
    /// Gets the image from its registry.
    async fn pull(&self, reference: &str) -> Result<(), RuntimeError>;
    /// Takes in an image archive (`docker save` format).
    async fn load(&self, archive: Bytes) -> Result<(), RuntimeError>;
    /// Wake-ups, from now on, until the stream ends; then list and ask again.
    async fn events(&self) -> Result<BoxStream<'static, Result<RuntimeEvent, RuntimeError>>, RuntimeError>;
    /// A container's log.
    async fn logs(
        &self,
        id: &str,
        options: &LogOptions,
    ) -> Result<BoxStream<'static, Result<Output, RuntimeError>>, RuntimeError>;
    /// Runs a command in a running container.
    async fn exec(&self, id: &str, config: &ExecConfig) -> Result<Session, RuntimeError>;
    /// Connects to a running container's own process.
    async fn attach(&self, id: &str, stdin: bool, replay: bool) -> Result<Session, RuntimeError>;
    /// The exit code, once the process has ended.
    async fn exit_code(&self, target: &SessionTarget) -> Result<Option<i32>, RuntimeError>;
    /// The terminal's new size.
    async fn resize(&self, target: &SessionTarget, columns: u16, rows: u16) -> Result<(), RuntimeError>;
}

/// How much of a command's output is kept for a message.
const OUTPUT_KEPT: usize = 10 * 1024;

/// Runs a command to its end: the exit code and the beginning of its output.
pub async fn run_command(
    runtime: &dyn ContainerRuntime,
    id: &str,
    command: &[String],
    limit: Duration,
) -> Result<(i32, String), RuntimeError> {
    let operation = format!("run {:?} in a container", command.first().map(String::as_str).unwrap_or_default());
    let work = async {
        let config = ExecConfig { command: command.to_vec(), stdin: false, tty: false };
        let mut session = runtime.exec(id, &config).await?;
        let mut text = Vec::new();
        while let Some(piece) = session.output.next().await {
            let (Output::Stdout(bytes) | Output::Stderr(bytes)) = piece?;
            let room = OUTPUT_KEPT.saturating_sub(text.len());
            text.extend_from_slice(&bytes[..bytes.len().min(room)]);
        }
        // The stream's end and the exit code are two things to the engine; the second may follow a little later.
        for _ in 0..50 {
            if let Some(code) = runtime.exit_code(&session.target).await? {
                return Ok((code, String::from_utf8_lossy(&text).into_owned()));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Err(RuntimeError::Refused {
            operation: operation.clone(),
            message: "its output ended but it goes on running".into(),
        })
    };
    match tokio::time::timeout(limit, work).await {
        Ok(result) => result,
        Err(_) => Err(RuntimeError::Timeout { operation, after: limit }),
    }
}
