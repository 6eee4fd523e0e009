//! How news come in: from the API (Pods), from the runtime (events, which only wake), and a slow look at everything as
//! a safety net.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use skiff_client::{Change, Trigger, WorkQueue};
use skiff_proto::corev1::Pod;
use skiff_world::mutants::{Mutant, is_awake};

use super::Pods;
use crate::lifecycle::PodKey;
use crate::runtime::{ContainerReport, RuntimeError};

/// Everything is looked at this often, although events should have told.
const RELIST: Duration = Duration::from_secs(90);
/// Between two tries to reach an engine that is down.
const RETRY: Duration = Duration::from_secs(2);
/// So many Pods are looked at in the runtime at once.
const LOOKERS: usize = 4;

/// A Pod's key.
pub fn key_of(pod: &Pod) -> PodKey {
    let metadata = &pod.metadata;
    PodKey { namespace: metadata.namespace.clone(), name: metadata.name.clone(), uid: metadata.uid.clone() }
}

impl Pods {
    /// A Pod came, changed or went at the API.
    pub fn changed(&self, change: &Change<Pod>) {
        self.queue.add(key_of(change.latest()), change.trigger());
    }

    /// Follows the runtime for ever.
    pub async fn follow_runtime(self: Arc<Self>) {
        let lookers: WorkQueue<String> = WorkQueue::new(&self.shared.world, "runtime");
        let looking = futures::future::join_all((0..LOOKERS).map(|_| self.clone().look_for(lookers.clone())));
        let listening = self.listen(&lookers);
        futures::future::join(looking, listening).await;
    }

    /// Looks at the Pods that events are about.
    async fn look_for(self: Arc<Self>, queue: WorkQueue<String>) {
        while let Some(work) = queue.next().await {
            let uid = work.key().clone();
            let key = self.records().keys().find(|key| key.uid == uid).cloned();
            let looked = match &key {
                Some(key) => self.look(key).await,
                // A container of a Pod that is not known: the next look at everything finds out.
                None => Ok(()),
            };
            match looked {
                Ok(()) => work.done(),
                Err(error) => {
                    tracing::debug!(uid, %error, "cannot look at the Pod's containers");
                    work.retry(Duration::ZERO, RETRY);
                }
            }
        }
    }

    async fn listen(&self, lookers: &WorkQueue<String>) {
        loop {
            // Subscribed first, listed then: nothing falls between the two.
            if let Err(error) = self.listen_once(lookers).await {
                tracing::warn!(%error, "the container engine's events have stopped");
            }
            self.shared.world.sleep(RETRY).await;
        }
    }

    async fn listen_once(&self, lookers: &WorkQueue<String>) -> Result<(), RuntimeError> {
        let mut events = self.shared.runtime.events().await?;
        self.look_at_everything().await?;
        loop {
            match tokio::time::timeout(RELIST, events.next()).await {
                Ok(Some(Ok(event))) => {
                    lookers.add(event.pod_uid, Trigger::Effect(event.action));
                }
                Ok(Some(Err(error))) => return Err(error),
                Ok(None) => return Ok(()),
                // Quiet for so long: look whether that is true.
                Err(_) => self.look_at_everything().await?,
            }
        }
    }

    /// All containers, addresses and files of this node: each becomes its Pod's, and those of no Pod are found.
    pub async fn look_at_everything(&self) -> Result<(), RuntimeError> {
        let mut by_pod: BTreeMap<PodKey, Vec<ContainerReport>> = BTreeMap::new();
        for report in self.shared.runtime.containers(None).await? {
            by_pod.entry(self.owner(&report)).or_default().push(report);
        }
        let networks = self.shared.network.pods().await.unwrap_or_default();
        let files: BTreeSet<String> = self.shared.volumes.pods().await.into_iter().collect();
        let mut uids: BTreeSet<&String> = networks.keys().chain(&files).collect();
        if is_awake(Mutant::HalfMade) {
            uids.clear();
        }
        for uid in uids {
            if !by_pod.keys().any(|key| key.uid == **uid) {
                by_pod.entry(self.by_uid(uid)).or_default();
            }
        }
        if is_awake(Mutant::LeftoversStay) {
            by_pod.retain(|key, _| self.is_listed(&key.uid));
        }
        for key in by_pod.keys() {
            self.with(key, |record| {
                if record.network.is_none() && !record.cleared {
                    record.network = networks.get(&key.uid).cloned();
                }
                record.volumes_left |= files.contains(&key.uid);
            });
        }
        // One more look each, in order with all others, rather than taking a list that may be old by now.
        let all: BTreeSet<PodKey> = by_pod.into_keys().chain(self.keys()).collect();
        for key in all {
            self.look(&key).await?;
            self.wake(&key, "everything is looked at");
        }
        Ok(())
    }

    fn owner(&self, report: &ContainerReport) -> PodKey {
        let identity = &report.identity;
        PodKey {
            namespace: identity.pod_namespace.clone(),
            name: identity.pod_name.clone(),
            uid: identity.pod_uid.clone(),
        }
    }

    /// Whether the API has a Pod of this uid on this node.
    pub(super) fn is_listed(&self, uid: &str) -> bool {
        self.store.get().is_some_and(|store| store.list().iter().any(|pod| pod.metadata.uid == uid))
    }

    /// The Pod of a uid that an address or a directory is named by. Of one that is gone no name is left.
    fn by_uid(&self, uid: &str) -> PodKey {
        let known = self.records().keys().find(|key| key.uid == uid).cloned();
        let pods = self.store.get().map(|store| store.list()).unwrap_or_default();
        let listed = || pods.iter().find(|pod| pod.metadata.uid == uid).map(|pod| key_of(pod));
        known.or_else(listed).unwrap_or_else(|| PodKey {
            namespace: String::new(),
            name: String::new(),
            uid: uid.to_string(),
        })
    }
}
