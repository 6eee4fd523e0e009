//! What the kubelet remembers of one Pod between two looks at it. All of it can be lost: the runtime, the disk and the
//! API say it again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use skiff_proto::corev1::{Pod, PodStatus};

use crate::images::pull::ImageState;
use crate::lifecycle::{HostFacts, Observed, PodKey, Setback, Stopping};
use crate::network::PodNetwork;
use crate::pods::start::Start;
use crate::pods::tokens::Fetched;
use crate::probes::watch::Watch;
use crate::runtime::ContainerReport;

/// So many effects are named by one status write, the latest.
const TOLD: usize = 16;

/// What is remembered of one Pod.
#[derive(Default)]
pub struct Record {
    /// as the runtime last reported them
    pub containers: Vec<ContainerReport>,
    /// its network
    pub network: Option<PodNetwork>,
    /// its files are in place
    pub volumes_ready: bool,
    /// its tokens, asked for and not yet in their files
    pub fetched: Option<Fetched>,
    /// when the first of its tokens is to be renewed
    pub renew_tokens_at: Option<Timestamp>,
    /// there is something of it on disk
    pub volumes_left: bool,
    /// containers whose imagePullPolicy Always has been honoured
    pub pulled: BTreeSet<(String, u32)>,
    /// the probes of running containers, by id
    pub watches: BTreeMap<String, Watch>,
    /// containers being stopped, by id
    pub stopping: BTreeMap<String, Stopping>,
    /// postStart hooks that still run, by id of the container
    pub hooks: BTreeSet<String>,
    /// what went wrong last
    pub setbacks: BTreeMap<String, Setback>,
    /// termination messages, by id of the container
    pub messages: BTreeMap<String, String>,
    /// our last write of the status, with its revision
    pub written: Option<(u64, PodStatus)>,
    /// effects that no status write has named yet
    pub untold: Vec<String>,
    /// serialises looking at the runtime, so that an older answer never replaces a newer one
    pub looking: Arc<tokio::sync::Mutex<()>>,
    /// how far its start has come, for measurements
    pub start: Start,
    /// nothing is left of it on this node
    pub cleared: bool,
}

impl Record {
    /// Nothing is left that would have to be removed.
    pub fn is_cleared(&self) -> bool {
        self.cleared || (self.containers.is_empty() && self.network.is_none() && !self.volumes_left)
    }

    /// The next status write is to name this effect.
    pub fn tell(&mut self, effect: String) {
        if self.untold.len() >= TOLD {
            self.untold.remove(0);
        }
        self.untold.push(effect);
    }

    /// Which containers ran when last looked at, and have ended by what the runtime reports now.
    pub fn ended(&self, now: &[ContainerReport]) -> Vec<String> {
        let ran = |id: &str| self.containers.iter().any(|report| report.id == id && report.is_running());
        let ended = now.iter().filter(|report| ran(&report.id)).filter_map(|report| Some((report, report.exit()?)));
        ended
            .map(|(report, exit)| format!("container {} ended with {}", report.identity.container, exit.code))
            .collect()
    }

    /// Takes in what the runtime reports. True when something changed.
    pub fn reported(&mut self, containers: Vec<ContainerReport>) -> bool {
        let runs = |id: &str| containers.iter().any(|report| report.id == id && report.is_running());
        self.watches.retain(|id, _| runs(id));
        self.stopping.retain(|id, _| runs(id));
        self.hooks.retain(|id| runs(id));
        self.messages.retain(|id, _| containers.iter().any(|report| report.id == *id));
        let changed = self.containers != containers;
        if !containers.is_empty() {
            self.cleared = false;
        }
        self.containers = containers;
        changed
    }

    /// Everything a plan depends on.
    pub fn observed(
        &self,
        key: &PodKey,
        pod: Option<Arc<Pod>>,
        images: BTreeMap<String, ImageState>,
        host: HostFacts,
    ) -> Observed {
        let published = match (&pod, &self.written) {
            // Our own write may not have come back yet.
            (Some(pod), Some((revision, status))) if skiff_client::revision_of(&pod.metadata) < *revision => {
                status.clone()
            }
            (Some(pod), _) => pod.status.clone(),
            (None, _) => PodStatus::default(),
        };
        Observed {
            key: key.clone(),
            pod,
            containers: self.containers.clone(),
            network: self.network.clone(),
            volumes_ready: self.volumes_ready,
            volumes_left: self.volumes_left,
            renew_tokens_at: self.renew_tokens_at,
            images,
            pulled: self.pulled.clone(),
            verdicts: self.watches.iter().map(|(id, watch)| (id.clone(), watch.verdict())).collect(),
            stopping: self.stopping.clone(),
            hooks: self.hooks.clone(),
            setbacks: self.setbacks.clone(),
            messages: self.messages.clone(),
            published,
            host,
        }
    }
}
