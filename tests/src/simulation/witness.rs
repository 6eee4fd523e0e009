//! The witness: writes down every version of every object, by its own list and watch, for the laws to be held against.
//!
//! It uses no informer, so that a fault of the informer's does not blind it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use skiff_client::{Api, Client, ListOptions, WatchEvent};
use skiff_proto::Kind;
use skiff_proto::appsv1::{Deployment, ReplicaSet};
use skiff_proto::corev1::{Node, Pod, Service};
use skiff_proto::discoveryv1::EndpointSlice;
use skiff_proto::metav1::ObjectMeta;
use skiff_world::World;
use skiff_world::sim::Sim;

use super::laws::REVISIONS;

/// A watch that has been silent for so long is opened anew; its server may have gone without a word.
const SILENCE: Duration = Duration::from_secs(30);

/// An object of one of the kinds that are watched.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Object {
    Pod(Pod),
    ReplicaSet(ReplicaSet),
    Deployment(Deployment),
    Service(Service),
    EndpointSlice(EndpointSlice),
    Node(Node),
}

impl Object {
    /// The kind's name.
    pub fn kind(&self) -> &'static str {
        match self {
            Object::Pod(_) => Pod::KIND,
            Object::ReplicaSet(_) => ReplicaSet::KIND,
            Object::Deployment(_) => Deployment::KIND,
            Object::Service(_) => Service::KIND,
            Object::EndpointSlice(_) => EndpointSlice::KIND,
            Object::Node(_) => Node::KIND,
        }
    }

    /// The object's metadata.
    pub fn metadata(&self) -> &ObjectMeta {
        match self {
            Object::Pod(object) => object.metadata(),
            Object::ReplicaSet(object) => object.metadata(),
            Object::Deployment(object) => object.metadata(),
            Object::Service(object) => object.metadata(),
            Object::EndpointSlice(object) => object.metadata(),
            Object::Node(object) => object.metadata(),
        }
    }
}

/// One version of one object.
#[derive(Clone, Debug)]
pub struct Record {
    /// The revision at which it came to be, or at which it went.
    pub revision: u64,
    /// When the witness heard of it.
    pub at: Duration,
    /// The object; what it last was, if it is gone.
    pub object: Object,
    /// Whether it was deleted.
    pub gone: bool,
    /// Whether it comes from a list: versions before it may have been missed.
    pub listed: bool,
}

impl Record {
    /// Kind, namespace and name.
    pub fn key(&self) -> (&'static str, &str, &str) {
        let metadata = self.object.metadata();
        (self.object.kind(), &metadata.namespace, &metadata.name)
    }
}

/// Revisions of a kind that the witness has not seen one by one: those before its first list, and those that the server
/// had forgotten when it asked.
#[derive(Clone, Copy, Debug)]
pub struct Gap {
    /// The kind's name.
    pub kind: &'static str,
    /// The last revision that was seen before.
    pub after: u64,
    /// The revision of the list that came then.
    pub until: u64,
}

impl Gap {
    /// Whether a revision of objects of this kind may have been missed.
    pub fn hides(&self, kind: &str, revision: u64) -> bool {
        self.kind == kind && self.after < revision && revision <= self.until
    }
}

/// Everything that was written down. Clones are the same.
#[derive(Clone, Default)]
pub struct History {
    records: Arc<Mutex<Vec<Record>>>,
    gaps: Arc<Mutex<Vec<Gap>>>,
    complaints: Arc<Mutex<Vec<String>>>,
}

impl History {
    fn push(&self, record: Record) {
        self.records.lock().unwrap_or_else(PoisonError::into_inner).push(record);
    }

    fn complain(&self, complaint: String) {
        self.complaints.lock().unwrap_or_else(PoisonError::into_inner).push(complaint);
    }

    /// All records so far, by revision.
    pub fn records(&self) -> Vec<Record> {
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner).clone();
        records.sort_by(|a, b| (a.revision, a.key()).cmp(&(b.revision, b.key())));
        records
    }

    /// What was missed.
    pub fn gaps(&self) -> Vec<Gap> {
        self.gaps.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many records there are so far.
    pub fn len(&self) -> usize {
        self.records.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether nothing has happened.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What the witness found wrong with the watches themselves.
    pub fn complaints(&self) -> Vec<String> {
        self.complaints.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Starts to watch everything.
pub fn start(world: &World, client: &Client, sim: &Sim) -> History {
    let history = History::default();
    follow(world, client, sim, &history, Object::Pod);
    follow(world, client, sim, &history, Object::ReplicaSet);
    follow(world, client, sim, &history, Object::Deployment);
    follow(world, client, sim, &history, Object::Service);
    follow(world, client, sim, &history, Object::EndpointSlice);
    follow(world, client, sim, &history, Object::Node);
    history
}

fn follow<K: Kind>(world: &World, client: &Client, sim: &Sim, history: &History, wrap: fn(K) -> Object) {
    let following = Following {
        api: Api::<K>::new(client),
        world: world.clone(),
        sim: sim.clone(),
        history: history.clone(),
        wrap,
        since: None,
        seen_until: 0,
        known: BTreeMap::new(),
    };
    world.spawn("witness", following.run());
}

struct Following<K> {
    api: Api<K>,
    world: World,
    sim: Sim,
    history: History,
    wrap: fn(K) -> Object,
    /// Where the watch goes on; None: list.
    since: Option<u64>,
    /// Up to where everything was seen.
    seen_until: u64,
    /// What is there, by uid.
    known: BTreeMap<String, K>,
}

impl<K: Kind> Following<K> {
    async fn run(mut self) {
        loop {
            match self.since {
                None => self.list().await,
                Some(since) => self.watch(since).await,
            }
            self.world.sleep(Duration::from_millis(20)).await;
        }
    }

    fn note(&mut self, object: K, revision: u64, gone: bool, listed: bool) {
        let uid = object.metadata().uid.clone();
        if gone {
            self.known.remove(&uid);
        } else {
            self.known.insert(uid, object.clone());
        }
        let object = (self.wrap)(object);
        self.sim.trace(format_args!(
            "{revision:>6} {}{} {}{}",
            if gone { "-" } else { "+" },
            object.kind(),
            object.metadata().name,
            summary(&object),
        ));
        self.history.push(Record { revision, at: self.sim.elapsed(), object, gone, listed });
    }

    async fn list(&mut self) {
        let Ok(list) = self.api.list("", &ListOptions::default()).await else { return };
        let revision_of = |text: &str| text.parse::<u64>().unwrap_or_default();
        let now = revision_of(&list.resource_version);
        let there: BTreeSet<String> = list.items.iter().map(|object| object.metadata().uid.clone()).collect();
        let gone: Vec<K> = self.known.iter().filter(|(uid, _)| !there.contains(*uid)).map(|(_, o)| o.clone()).collect();
        for object in gone {
            self.note(object, now, true, true);
        }
        for object in list.items {
            let revision = revision_of(&object.metadata().resource_version);
            self.note(object, revision, false, true);
        }
        let gap = Gap { kind: K::KIND, after: self.seen_until, until: now };
        self.history.gaps.lock().unwrap_or_else(PoisonError::into_inner).push(gap);
        (self.since, self.seen_until) = (Some(now), now);
    }

    async fn watch(&mut self, since: u64) {
        let options = ListOptions::default();
        let mut events = match self.api.watch("", &options, &since.to_string()).await {
            Ok(events) => events,
            Err(error) => return self.failed(&error),
        };
        while let Ok(Some(event)) = tokio::time::timeout(SILENCE, events.next()).await {
            match event {
                Ok(event) => self.take(event),
                Err(error) => return self.failed(&error),
            }
        }
    }

    fn failed(&mut self, error: &skiff_client::Error) {
        if error.is_expired() {
            self.sim.trace(format_args!("witness: {} expired", K::KIND));
            self.since = None;
        }
    }

    fn take(&mut self, event: WatchEvent<K>) {
        let known = self.since.unwrap_or_default();
        let (object, revision, gone) = match event {
            WatchEvent::Bookmark { revision, .. } => {
                if revision < known {
                    self.history.complain(format!("{REVISIONS}: {}: bookmark {revision} after {known}", K::KIND));
                }
                self.since = Some(known.max(revision));
                self.seen_until = known.max(revision);
                return;
            }
            WatchEvent::Added { object, revision } | WatchEvent::Modified { object, revision } => {
                (object, revision, false)
            }
            WatchEvent::Deleted { object, revision } => (object, revision, true),
        };
        if revision <= known {
            self.history.complain(format!("{REVISIONS}: {}: an event at {revision} after {known}", K::KIND));
        }
        (self.since, self.seen_until) = (Some(revision), revision);
        self.note(object, revision, gone, false);
    }
}

/// What matters about a version, for whoever reads the trace.
fn summary(object: &Object) -> String {
    match object {
        Object::Pod(pod) => {
            let going = if pod.metadata.deletion_timestamp.is_some() { " going" } else { "" };
            format!(" on {:?} {} {}{going}", pod.spec.node_name, pod.status.phase, pod.status.pod_ip)
        }
        Object::ReplicaSet(set) => format!(
            " wants {} has {} ready {}",
            set.spec.replicas.unwrap_or(1),
            set.status.replicas,
            set.status.ready_replicas
        ),
        Object::Deployment(d) => format!(
            " gen {} seen {} wants {} has {} updated {} available {}",
            d.metadata.generation,
            d.status.observed_generation,
            d.spec.replicas.unwrap_or(1),
            d.status.replicas,
            d.status.updated_replicas,
            d.status.available_replicas
        ),
        Object::EndpointSlice(slice) => {
            let ready = slice.endpoints.iter().filter(|e| e.conditions.ready != Some(false)).count();
            format!(" ready {ready} of {}", slice.endpoints.len())
        }
        Object::Node(node) => {
            let ready = node.status.conditions.iter().find(|c| c.r#type == "Ready");
            format!(" ready {}", ready.map_or("?", |c| c.status.as_str()))
        }
        Object::Service(_) => String::new(),
    }
}
