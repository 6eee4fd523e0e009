//! The loop: take in what was heard, decide for the pods that wait, hand over what was decided.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use skiff_client::driver::{self, Reconciler};
use skiff_client::{Change, Client, Controls, Error, EventRecorder, Informer, ObjectKey, ObjectRef, Store, Trigger};
use skiff_proto::corev1::{Node, ObjectReference, Pod};
use skiff_world::World;
use tokio::sync::mpsc::{self, UnboundedReceiver};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::binding::{Binder, Target};
use crate::complaints::Complaints;
use crate::cycle::{self, Outcome, Request, Story};
use crate::framework::Profile;
use crate::memo::Memo;
use crate::metrics::{self, Attempts, Metrics};
use crate::node::{NodeInfo, NodeProjection};
use crate::pod::{PodInfo, PodProjection};
use crate::queue::Queue;
use crate::snapshot::{Placed, Snapshot};
use crate::story::Inspect;

/// How many bindings are written at a time.
const BINDERS: usize = 64;
/// How many complaints are written at a time.
const CLERKS: usize = 8;
/// How many pods are decided before the loop listens again.
const BATCH: usize = 256;
/// How many templates' evaluations are kept.
const TEMPLATES: usize = 128;

/// Everything that the loop hears.
pub enum Event {
    /// A pod came, changed or went.
    Pod(Change<PodInfo>),
    /// A node came, changed or went.
    Node(Change<NodeInfo>),
    /// A binding was written, or refused.
    Bound {
        /// The pod.
        pod: ObjectKey,
        /// Its uid.
        uid: Arc<str>,
        /// The node it was meant for.
        node: String,
        /// Why it was refused.
        failure: Option<Error>,
    },
    /// Somebody wants to know how a pod's decision comes about, now.
    Explain {
        /// The pod.
        pod: ObjectKey,
        /// Where to send the story; nothing if there is no such pod.
        reply: oneshot::Sender<Option<Story>>,
    },
}

/// Schedules until the future is dropped.
pub async fn run(world: &World, client: &Client, controls: &Controls, inspect: &Inspect, metrics: &Metrics) {
    let (sender, inbox) = mpsc::unbounded_channel();
    // A send fails only when the loop has ended, and then nobody wants to hear.
    let to_loop = sender.clone();
    let nodes = Informer::<Node, NodeProjection>::of(client).run(world, move |c| drop(to_loop.send(Event::Node(c))));
    let to_loop = sender.clone();
    let pods = Informer::<Pod, PodProjection>::of(client).run(world, move |c| drop(to_loop.send(Event::Pod(c))));
    nodes.synced().await;
    pods.synced().await;

    let queue = controls.queue(world, Binder::NAME);
    let binder = Arc::new(Binder::new(client.clone(), queue.clone(), sender.clone()));
    let complaint_queue = controls.queue(world, Complaints::NAME);
    let complaints = Complaints::new(world.clone(), client.clone(), pods.clone(), complaint_queue.clone());
    let complaints = Arc::new(complaints);
    let events = EventRecorder::new(world, client, "default-scheduler", "");
    let deciding = Scheduler::new(world, pods, nodes, binder.clone(), complaints.clone(), events, metrics);
    inspect.serve(sender);
    futures::join!(
        deciding.run(inbox),
        driver::run(world.clone(), binder, queue, controls.gate(Binder::NAME), BINDERS),
        driver::run(world.clone(), complaints, complaint_queue, controls.gate(Complaints::NAME), CLERKS),
    );
}

struct Scheduler {
    world: World,
    started: Instant,
    pods: Store<PodInfo>,
    nodes: Store<NodeInfo>,
    binder: Arc<Binder>,
    complaints: Arc<Complaints>,
    events: EventRecorder,
    profile: Profile,
    snapshot: Snapshot,
    memo: Memo,
    queue: Queue,
    /// Pods that were sent to a node, and are not yet seen there.
    assumed: BTreeMap<Arc<str>, Arc<PodInfo>>,
    /// Slots that may do for a pod for which they did not.
    improved: BTreeSet<usize>,
    /// How the pods' attempts go, for measurements.
    attempts: Attempts,
    /// Nodes have come, changed or gone: what pods say about the cluster may not be true any more.
    nodes_changed: bool,
}

impl Scheduler {
    fn new(
        world: &World,
        pods: Store<PodInfo>,
        nodes: Store<NodeInfo>,
        binder: Arc<Binder>,
        complaints: Arc<Complaints>,
        events: EventRecorder,
        metrics: &Metrics,
    ) -> Scheduler {
        Scheduler {
            world: world.clone(),
            started: world.now(),
            pods,
            nodes,
            binder,
            complaints,
            events,
            profile: Profile::standard(),
            snapshot: Snapshot::new(),
            memo: Memo::new(TEMPLATES),
            queue: Queue::new(),
            assumed: BTreeMap::new(),
            improved: BTreeSet::new(),
            attempts: Attempts::new(metrics),
            nodes_changed: false,
        }
    }

    /// The loop.
    async fn run(mut self, mut inbox: UnboundedReceiver<Event>) {
        loop {
            while let Ok(event) = inbox.try_recv() {
                self.hear(event);
            }
            self.wake_pods();
            let next = self.queue.tick(self.now());
            for _ in 0..BATCH {
                let Some(pod) = self.queue.pop(self.now()) else { break };
                self.schedule(&pod);
            }
            let depth = self.queue.depth();
            self.attempts.pending(depth);
            if depth.active > 0 {
                // Others on this thread, those who write what was decided among them, get their turn.
                tokio::task::yield_now().await;
                continue;
            }
            let event = match next {
                None => inbox.recv().await,
                Some(due) => match tokio::time::timeout_at(self.started + due, inbox.recv()).await {
                    Ok(event) => event,
                    Err(_) => continue,
                },
            };
            match event {
                Some(event) => self.hear(event),
                None => return,
            }
        }
    }

    fn hear(&mut self, event: Event) {
        match event {
            Event::Pod(change) => self.hear_pod(&change),
            Event::Node(change) => self.hear_node(change),
            Event::Bound { pod, uid, node, failure } => self.hear_bound(&pod, &uid, &node, failure),
            Event::Explain { pod, reply } => drop(reply.send(self.explain(&pod))),
        }
    }

    fn hear_pod(&mut self, change: &Change<PodInfo>) {
        let (key, pod) = (change.key(), change.latest());
        if change.is_deletion() || pod.finished {
            self.done_with(&key, &pod.uid);
            self.improved.extend(self.snapshot.remove_pod(&pod.uid));
        } else if !pod.node.is_empty() {
            if self.assumed.contains_key(&pod.uid) {
                // Our own binding, whose answer may come later.
                self.attempts.ended(&pod.uid, metrics::Result::Scheduled, self.world.now());
            }
            self.done_with(&key, &pod.uid);
            let from = self.snapshot.placement(&pod.uid).map(|p| p.node.clone());
            self.snapshot.place(&pod.uid, placed(pod, &pod.node));
            // It was assumed elsewhere, or has shrunk: there is more room where it was.
            self.improved.extend(from.and_then(|node| self.snapshot.slot(&node)));
        } else if self.is_ours(pod) {
            // One that is assumed on a node is in hand already, and stays so.
            self.attempts.seen(&pod.uid, self.world.now());
            self.queue.offer(pod.clone());
        } else {
            self.done_with(&key, &pod.uid);
            self.improved.extend(self.snapshot.remove_pod(&pod.uid));
        }
    }

    fn is_ours(&self, pod: &PodInfo) -> bool {
        let ours = pod.scheduler.is_empty() || pod.scheduler == self.profile.name;
        ours && !pod.terminating && !pod.gated
    }

    fn done_with(&mut self, key: &ObjectKey, uid: &str) {
        self.queue.remove(uid);
        self.attempts.gone(uid);
        self.assumed.remove(uid);
        self.binder.forget(key, uid);
        self.complaints.forget(key);
    }

    fn hear_node(&mut self, change: Change<NodeInfo>) {
        match change.new {
            Some(node) => self.improved.extend(self.snapshot.set_node(node)),
            None => {
                self.snapshot.remove_node(&change.object.name);
            }
        }
        self.nodes_changed = true;
    }

    fn hear_bound(&mut self, key: &ObjectKey, uid: &Arc<str>, node: &str, failure: Option<Error>) {
        let now = self.world.now();
        let Some(error) = failure else {
            self.attempts.ended(uid, metrics::Result::Scheduled, now);
            let message = format!("Successfully assigned {key} to {node}");
            self.events.normal(&about(key, uid), "Scheduled", &message);
            return;
        };
        // Heard of otherwise in the meantime: it is bound, or gone.
        if self.assumed.remove(uid).is_none() {
            return;
        }
        self.improved.extend(self.snapshot.remove_pod(uid));
        self.attempts.ended(uid, metrics::Result::Error, now);
        if error.is_not_found() {
            self.queue.remove(uid);
            self.attempts.gone(uid);
            return;
        }
        self.events.warning(&about(key, uid), "FailedScheduling", &format!("binding rejected: {error}"));
        self.queue.retry(uid, self.now());
    }

    /// Finds the pods that what happened may help.
    fn wake_pods(&mut self) {
        let improved = std::mem::take(&mut self.improved);
        if !improved.is_empty() {
            for (digest, pod) in self.queue.unschedulable_templates() {
                let views = improved.iter().filter_map(|slot| self.snapshot.view(*slot));
                if views.into_iter().any(|view| self.profile.admits(&pod.template, view)) {
                    self.queue.wake(digest);
                }
            }
        }
        if std::mem::take(&mut self.nodes_changed) {
            self.queue.wake_all(self.now());
        }
    }

    /// One pod: decide, and hand over what was decided.
    fn schedule(&mut self, pod: &Arc<PodInfo>) {
        let key = ObjectKey::new(pod.namespace.as_str(), pod.name.as_str());
        let request = Request { uid: &pod.uid, owner: pod.owner.as_deref(), template: &pod.template };
        let began = self.world.now();
        let decision = self.memo.decide(pod.digest, &pod.template, &request, &self.snapshot, &self.profile);
        let decided = self.world.now();
        self.attempts.tried(&pod.uid, began, decided);
        let reference = self.pods.reference(&key);
        let trigger = reference.clone().map_or(Trigger::Resync("pending".into()), Trigger::Object);
        match decision.outcome {
            Outcome::Node { name, score, feasible } => {
                self.snapshot.place(&pod.uid, placed(pod, &name));
                self.assumed.insert(pod.uid.clone(), pod.clone());
                let reason = format!("best of {feasible} feasible nodes out of {}, score {score}", self.snapshot.len());
                let node: Option<ObjectRef> = self.nodes.reference(&ObjectKey::new("", name.as_str()));
                let inputs = reference.into_iter().chain(node).collect();
                self.binder.bind(key, Target { uid: pod.uid.clone(), node: name, reason, inputs }, trigger);
            }
            Outcome::Unschedulable(failure) => {
                self.queue.unschedulable(&pod.uid);
                self.attempts.ended(&pod.uid, metrics::Result::Unschedulable, decided);
                let message = failure.to_string();
                self.events.warning(&about(&key, &pod.uid), "FailedScheduling", &message);
                self.complaints.complain(pod, message, trigger);
            }
        }
    }

    /// The story of a pod's decision as it would be made now; for a pod that has a node, as if it had none.
    fn explain(&mut self, key: &ObjectKey) -> Option<Story> {
        let pod = self.pods.get(key)?;
        let request = Request { uid: &pod.uid, owner: pod.owner.as_deref(), template: &pod.template };
        let place = self.snapshot.placement(&pod.uid).cloned();
        if place.is_some() {
            self.snapshot.remove_pod(&pod.uid);
        }
        let story = cycle::explain(&request, &self.snapshot, &self.profile);
        if let Some(place) = place {
            self.snapshot.place(&pod.uid, place);
        }
        Some(story)
    }

    fn now(&self) -> Duration {
        self.world.now().saturating_duration_since(self.started)
    }
}

fn placed(pod: &PodInfo, node: &str) -> Placed {
    Placed { node: node.into(), template: pod.template.clone(), owner: pod.owner.clone() }
}

fn about(pod: &ObjectKey, uid: &str) -> ObjectReference {
    ObjectReference {
        api_version: "v1".into(),
        kind: "Pod".into(),
        namespace: pod.namespace.clone(),
        name: pod.name.clone(),
        uid: uid.into(),
        ..ObjectReference::default()
    }
}
