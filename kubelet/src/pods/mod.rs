//! The Pods of this node: what is remembered of each ([`record`]), how it is looked at and what is done about it
//! ([`Pods`], a [`Reconciler`]: observe, plan, act), and how the runtime's news come in ([`watch`]).
//!
//! The plan itself is in [`crate::lifecycle`].

mod act;
mod containers;
mod publish;
pub mod record;
mod sources;
pub mod start;
mod tokens;
pub mod watch;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, Weak};
use std::time::Duration;

use jiff::Timestamp;
use skiff_client::{
    ActError, Api, Client, Effects, EventRecorder, ObjectKey, ObjectRef, Plan, Reconciler, Resource, Store, Trigger,
    WorkQueue,
};
use skiff_proto::corev1::{Node, ObjectReference, Pod, Service};
use skiff_world::World;

use crate::environment::Facts;
use crate::images::pull::ImageState;
use crate::lifecycle::plan::plan;
use crate::lifecycle::{Action, HostFacts, Observed, PodKey, Setback};
use crate::metrics::Metrics;
use crate::network::Network;
use crate::runtime::ContainerRuntime;
use crate::volumes::Volumes;
use crate::volumes::files::DnsSettings;
use record::Record;

/// The first wait after something could not be done; doubles up to [`SETBACK_MAX`].
const SETBACK_FIRST: Duration = Duration::from_secs(1);
const SETBACK_MAX: Duration = Duration::from_secs(20);

/// What the parts of the kubelet share.
pub struct Shared {
    /// time, tasks, disk
    pub world: World,
    /// name of the cluster
    pub cluster: String,
    /// name of the node
    pub node_name: String,
    /// containers
    pub runtime: Arc<dyn ContainerRuntime>,
    /// namespaces, addresses, routes
    pub network: Arc<dyn Network>,
    /// files
    pub volumes: Volumes,
    /// how names are looked up
    pub dns: DnsSettings,
    /// Events
    pub events: EventRecorder,
    /// what was done that is no write
    pub effects: Effects,
    /// what is counted
    pub metrics: Metrics,
}

/// The Pods of this node.
pub struct Pods {
    pub(crate) shared: Arc<Shared>,
    api: Api<Pod>,
    client: Client,
    pub(crate) queue: WorkQueue<PodKey>,
    records: Mutex<BTreeMap<PodKey, Record>>,
    images: Mutex<BTreeMap<String, ImageState>>,
    pub(crate) store: OnceLock<Store<Pod>>,
    pub(crate) services: OnceLock<Store<Service>>,
    node: Mutex<Arc<Node>>,
    pause: tokio::sync::OnceCell<String>,
    own: OnceLock<Weak<Pods>>,
    /// the Node object has changed: look at it
    pub(crate) node_changed: tokio::sync::Notify,
}

impl Pods {
    /// No Pods yet.
    pub fn new(shared: Arc<Shared>, client: &Client, queue: WorkQueue<PodKey>) -> Arc<Pods> {
        let pods = Arc::new(Pods {
            own: OnceLock::new(),
            node_changed: tokio::sync::Notify::new(),
            shared,
            api: Api::new(client),
            client: client.clone(),
            queue,
            records: Mutex::default(),
            images: Mutex::default(),
            store: OnceLock::new(),
            services: OnceLock::new(),
            node: Mutex::default(),
            pause: tokio::sync::OnceCell::new(),
        });
        // Nobody else has it yet, so it is not set.
        let _ = pods.own.set(Arc::downgrade(&pods));
        pods
    }

    /// The node object as it is now: its address and what it has to give. Every Pod's status tells the address, so they
    /// are looked at again when it is another.
    pub fn set_node(&self, node: Arc<Node>) {
        let before = std::mem::replace(&mut *lock(&self.node), node.clone());
        if crate::node::internal_ip(&before) != crate::node::internal_ip(&node) {
            for key in self.keys() {
                self.wake(&key, "the node's address is known");
            }
        }
    }

    /// The node object as it was last set.
    pub fn node(&self) -> Arc<Node> {
        lock(&self.node).clone()
    }

    /// A Pod's containers as the runtime last reported them.
    pub fn containers(&self, key: &PodKey) -> Vec<crate::runtime::ContainerReport> {
        self.records().get(key).map(|record| record.containers.clone()).unwrap_or_default()
    }

    fn records(&self) -> MutexGuard<'_, BTreeMap<PodKey, Record>> {
        lock(&self.records)
    }

    /// Works on a Pod's record, made if it is new.
    pub(crate) fn with<T>(&self, key: &PodKey, work: impl FnOnce(&mut Record) -> T) -> T {
        work(self.records().entry(key.clone()).or_default())
    }

    /// The Pod as the informer has it, if that is the one.
    pub fn pod(&self, key: &PodKey) -> Option<Arc<Pod>> {
        let store = self.store.get()?;
        let pod = store.get(&ObjectKey::new(key.namespace.as_str(), key.name.as_str()))?;
        (pod.metadata.uid == key.uid).then_some(pod)
    }

    /// Looks at a Pod again.
    pub(crate) fn wake(&self, key: &PodKey, why: &str) {
        self.queue.add(key.clone(), Trigger::Effect(why.to_string()));
    }

    /// Keeps an effect of the present step; the next status write will name it.
    pub(crate) fn effect(&self, key: &PodKey, what: impl Into<String>) {
        let known = self.pod(key).map(|pod| Resource::of::<Pod>().object(&pod.metadata));
        let object = known.unwrap_or_else(|| ObjectRef {
            resource: "pods".into(),
            namespace: key.namespace.clone(),
            name: key.name.clone(),
            uid: key.uid.clone(),
            ..ObjectRef::default()
        });
        let id = self.shared.effects.note(self.shared.world.wall(), what, object);
        self.with(key, |record| record.tell(id));
    }

    /// Everything that is known, by key: for the tunnel and for inspection.
    pub fn keys(&self) -> Vec<PodKey> {
        self.records().keys().cloned().collect()
    }

    /// The address that this node has given to a Pod; of one in the node's network, the node's.
    pub fn address(&self, key: &PodKey) -> Option<IpAddr> {
        let pod = self.pod(key)?;
        if pod.spec.host_network {
            return self.host().node_ip;
        }
        self.with(key, |record| record.network.as_ref().map(|network| network.ip.into()))
    }

    fn host(&self) -> HostFacts {
        HostFacts { node_ip: crate::node::internal_ip(&self.node()) }
    }

    fn facts(&self, key: &PodKey, pod: &Pod) -> Facts {
        let node = self.node();
        let host_ip = crate::node::internal_ip(&node).map(|ip| ip.to_string()).unwrap_or_default();
        let own = self.with(key, |record| record.network.as_ref().map(|network| network.ip.to_string()));
        let pod_ip = if pod.spec.host_network { host_ip.clone() } else { own.unwrap_or_default() };
        Facts { pod_ip, host_ip, allocatable: node.status.allocatable.clone() }
    }

    /// Something could not be done: it is told, and tried again later. The rest of the plan is dropped.
    fn setback(&self, key: &PodKey, what: &str, reason: &str, message: String) -> ActError {
        let now = self.shared.world.wall();
        self.with(key, |record| {
            let times = record.setbacks.get(what).map_or(1, |before| before.times.saturating_add(1));
            let wait = SETBACK_FIRST.saturating_mul(1 << (times - 1).min(10)).min(SETBACK_MAX);
            let (reason, message) = (reason.to_string(), message.clone());
            record.setbacks.insert(what.to_string(), Setback { reason, message, retry_at: now + wait, times });
        });
        self.wake(key, reason);
        ActError::Changed(format!("{reason}: {message}"))
    }

    fn overcome(&self, key: &PodKey, what: &str) {
        self.with(key, |record| record.setbacks.remove(what));
    }

    /// Whom an Event is about.
    pub(crate) fn reference(&self, key: &PodKey) -> ObjectReference {
        ObjectReference {
            kind: "Pod".into(),
            api_version: "v1".into(),
            namespace: key.namespace.clone(),
            name: key.name.clone(),
            uid: key.uid.clone(),
            ..ObjectReference::default()
        }
    }
}

impl Reconciler for Pods {
    type Key = PodKey;
    type Observed = Observed;
    type Action = Action;
    const NAME: &'static str = "pods";

    fn observe(&self, key: &PodKey) -> Option<Observed> {
        let pod = self.pod(key);
        if pod.is_none() && !self.store.get().is_some_and(Store::is_synced) {
            // Not an orphan: just not heard of yet.
            return None;
        }
        if pod.is_none() && self.is_listed(&key.uid) {
            // An event of before the Pods were known made a key of the uid alone: the Pod has its own key by now, and
            // what is found under the uid is its.
            self.records().remove(key);
            return None;
        }
        let host = self.host();
        let images = lock(&self.images).clone();
        let mut records = self.records();
        let record = records.entry(key.clone()).or_default();
        let deleted = pod.as_ref().is_some_and(|pod| pod.metadata.deletion_timestamp.is_some());
        if pod.is_none() && record.is_cleared() {
            records.remove(key);
            return None;
        }
        if deleted && record.cleared {
            // Let go of already: the API object is just not seen to be gone yet.
            return None;
        }
        if let Some(pod) = &pod {
            record.start.seen(&pod.status.phase, self.shared.world.now());
        }
        Some(record.observed(key, pod, images, host))
    }

    fn plan(&self, observed: &Observed, now: Timestamp) -> Plan<Action> {
        plan(observed, now)
    }

    async fn act(&self, key: &PodKey, action: &Action) -> Result<(), ActError> {
        self.perform(key, action).await
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Plain data: whole also after a panic elsewhere.
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
