//! A Pod's life on this node, decided by a pure function: [`plan`](plan::plan) takes what is [`Observed`] and the time,
//! and gives [`Action`]s. It knows no runtime, no client and no clock, so every story below is a table in a test.
//!
//! ```text
//!                    bound to this node
//!                           │
//!                           ▼
//!   ┌──────────── PREPARING ────────────┐   network, volumes, sandbox (pause)
//!   │   a failure is told and retried   │
//!   └───────────────┬───────────────────┘
//!                   ▼
//!   ┌────────── INITIALIZING ───────────┐   init containers, one after the other; sidecars stay
//!   └───────────────┬───────────────────┘
//!                   ▼                         sandbox lost: its containers are stopped,
//!   ┌──────────── RUNNING ──────────────┐───▶ PREPARING again (the address stays)
//!   │  containers, restarted by policy  │
//!   │  with backoff, probed             │
//!   └───────┬───────────────────┬───────┘
//!           │ all ended for     │ deleted at the API, or gone from it
//!           │ good, deadline,   │
//!           │ or init failed    │
//!           ▼                   ▼
//!      ┌─ FINISHED ─┐     ┌─ TERMINATING ─┐   TERM, grace period, KILL; apps first, then sidecars
//!      │ Succeeded  │────▶│               │
//!      │ or Failed  │     └───────┬───────┘
//!      └────────────┘             ▼
//!                              CLEARED         no container, namespace, volume or cgroup is left;
//!                                              then, and only then, the API object goes
//! ```
//!
//! Nothing of this is stored. What a container's labels, the files of the network and the API say is enough to be in
//! the right state again after the kubelet was killed at any point.

pub mod backoff;
pub mod containers;
pub mod ephemeral;
pub mod plan;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use skiff_proto::corev1::{Pod, PodStatus};

use crate::images::pull::ImageState;
use crate::network::PodNetwork;
use crate::probes::Verdict;
use crate::runtime::{ContainerReport, Role};

/// A Pod on this node. The uid is part of it: a Pod that was deleted and made again is another one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodKey {
    /// namespace
    pub namespace: String,
    /// name
    pub name: String,
    /// uid
    pub uid: String,
}

impl fmt::Display for PodKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A container that was told to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopping {
    /// when it is killed, if it is still there; killed in vain, it is killed again later
    pub deadline: Timestamp,
}

/// Why something could not be done last time; it becomes a waiting container's reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setback {
    /// "CreateContainerConfigError", "FailedMount", ...
    pub reason: String,
    /// in words
    pub message: String,
    /// not to be tried again before
    pub retry_at: Timestamp,
    /// how many times in a row
    pub times: u32,
}

/// What the node is to its Pods.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct HostFacts {
    /// the node's address
    pub node_ip: Option<IpAddr>,
}

/// Everything that a plan depends on.
#[derive(Clone, Debug)]
pub struct Observed {
    /// who
    pub key: PodKey,
    /// as the API has it; None: it is gone from there
    pub pod: Option<Arc<Pod>>,
    /// its containers as the runtime last reported them; the order does not matter
    pub containers: Vec<ContainerReport>,
    /// its network, if it has one; a hostNetwork Pod's is never asked for
    pub network: Option<PodNetwork>,
    /// its volumes and files are in place
    pub volumes_ready: bool,
    /// when the first of its tokens is to be renewed
    pub renew_tokens_at: Option<Timestamp>,
    /// anything of it is left on disk
    pub volumes_left: bool,
    /// the images its containers need
    pub images: BTreeMap<String, ImageState>,
    /// containers (name and attempt) whose imagePullPolicy Always has been honoured
    pub pulled: BTreeSet<(String, u32)>,
    /// what the probes say, by container id
    pub verdicts: BTreeMap<String, Verdict>,
    /// containers being stopped, by id
    pub stopping: BTreeMap<String, Stopping>,
    /// containers whose postStart hook still runs, by id
    pub hooks: BTreeSet<String>,
    /// what went wrong last, by container name; "" for the Pod as a whole
    pub setbacks: BTreeMap<String, Setback>,
    /// termination messages read from ended containers, by id
    pub messages: BTreeMap<String, String>,
    /// the status as the API has it, our own last write included
    pub published: PodStatus,
    /// about the node
    pub host: HostFacts,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// make the Pod's namespace and give it its address
    SetUpNetwork,
    /// put volumes, resolv.conf, hosts and hostname in place
    PrepareVolumes,
    /// ask for new tokens in the place of those that soon end
    RenewTokens,
    /// make (or adopt) and start pause
    StartSandbox {
        /// counts up each time the sandbox is lost
        attempt: u32,
    },
    /// find out whether an image is there
    LookForImage {
        /// reference
        image: String,
    },
    /// get an image; goes on in the background
    PullImage {
        /// reference
        image: String,
        /// whose container wants it
        container: String,
        /// of which attempt
        attempt: u32,
    },
    /// make (or adopt) and start a container
    StartContainer {
        /// name
        container: String,
        /// init, app or ephemeral
        role: Role,
        /// counts up
        attempt: u32,
        /// id of the sandbox
        sandbox: String,
        /// what the restart after this one waits
        backoff_seconds: u32,
    },
    /// watch a running container with its probes
    StartProbes {
        /// name
        container: String,
        /// id
        id: String,
    },
    /// tell a container to end: preStop, TERM; goes on in the background
    StopContainer {
        /// name
        container: String,
        /// id
        id: String,
        /// how long it may take
        grace: Duration,
    },
    /// its time is over
    KillContainer {
        /// name
        container: String,
        /// id
        id: String,
    },
    /// remove an ended container, or a sandbox
    RemoveContainer {
        /// name
        container: String,
        /// id
        id: String,
    },
    /// give the address back and remove the namespace
    TearDownNetwork,
    /// unmount and remove volumes and files
    RemoveVolumes,
    /// remove the Pod's cgroup
    RemoveCgroup,
    /// write the status
    PublishStatus {
        /// all of it
        status: Box<PodStatus>,
    },
    /// nothing is left: let the API object go
    FinishDeletion,
    /// nothing is left and the API object is gone: forget it
    Forget,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::SetUpNetwork => f.write_str("set up network"),
            Action::PrepareVolumes => f.write_str("prepare volumes"),
            Action::RenewTokens => f.write_str("renew tokens"),
            Action::StartSandbox { attempt } => write!(f, "start sandbox, attempt {attempt}"),
            Action::LookForImage { image } => write!(f, "look for image {image}"),
            Action::PullImage { image, container, .. } => write!(f, "pull image {image} for {container}"),
            Action::StartContainer { container, attempt, .. } => write!(f, "start {container}, attempt {attempt}"),
            Action::StartProbes { container, .. } => write!(f, "start probes of {container}"),
            Action::StopContainer { container, grace, .. } => {
                write!(f, "stop {container} within {} s", grace.as_secs())
            }
            Action::KillContainer { container, .. } => write!(f, "kill {container}"),
            Action::RemoveContainer { container, .. } => write!(f, "remove {container}"),
            Action::TearDownNetwork => f.write_str("tear down network"),
            Action::RemoveVolumes => f.write_str("remove volumes"),
            Action::RemoveCgroup => f.write_str("remove cgroup"),
            Action::PublishStatus { status } => {
                write!(f, "publish status {}", status.phase)?;
                let all = status.init_container_statuses.iter().chain(&status.container_statuses);
                for container in all.chain(&status.ephemeral_container_statuses) {
                    write!(f, ", {}: {}", container.name, crate::status::state_word(&container.state))?;
                }
                Ok(())
            }
            Action::FinishDeletion => f.write_str("finish deletion"),
            Action::Forget => f.write_str("forget"),
        }
    }
}
