//! Node lifecycle: notices that a node has fallen silent, says so, and moves its pods elsewhere.
//!
//! A heartbeat is a change of the node's Lease, or of the time in its condition Ready. What counts
//! is when *we* saw it, by our own clock: the clocks of nodes may be wrong.

mod act;
mod heartbeats;
pub mod plan;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use skiff_client::driver::{Plan, Reconciler};
use skiff_client::{ActError, Change, Client, EventRecorder, ObjectKey, Store, WorkQueue};
use skiff_world::World;

pub use heartbeats::Heartbeats;

use crate::caches::{Caches, NODE};
use crate::nodes::{Heartbeat, NodeView, Ready};
use crate::pods::PodView;
use plan::{Action, Observed, Times};

/// Where kubelets keep their Leases.
pub const LEASE_NAMESPACE: &str = "kube-node-lease";

/// Watches over every node.
pub struct Controller {
    world: World,
    caches: Caches,
    client: Client,
    events: EventRecorder,
    heartbeats: Arc<Heartbeats>,
    times: Times,
}

impl Controller {
    /// Reads these caches and heartbeats, and writes through this client.
    pub fn new(
        world: World,
        caches: Caches,
        client: Client,
        events: EventRecorder,
        heartbeats: Arc<Heartbeats>,
        times: Times,
    ) -> Controller {
        Controller { world, caches, client, events, heartbeats, times }
    }
}

impl Reconciler for Controller {
    /// The node's name, in no namespace.
    type Key = ObjectKey;
    type Observed = Observed;
    type Action = Action;
    const NAME: &'static str = "node-lifecycle";

    fn observe(&self, key: &ObjectKey) -> Option<Observed> {
        let now = self.world.now();
        let node = self.caches.nodes.get(key);
        let pods = self.caches.pods.by_index(NODE, &key.name);
        if node.is_none() && pods.is_empty() {
            self.heartbeats.forget(&key.name);
            return None;
        }
        Some(Observed {
            silence: self.heartbeats.silence(&key.name, node.is_some(), now),
            all_silent: self
                .caches
                .nodes
                .list()
                .iter()
                .all(|n| self.heartbeats.silence(&n.name, true, now) >= self.times.grace),
            version: self.caches.nodes.reference(key),
            node,
            pods,
            times: self.times,
        })
    }

    fn plan(&self, observed: &Observed, now: jiff::Timestamp) -> Plan<Action> {
        plan::plan(observed, now)
    }

    async fn act(&self, key: &ObjectKey, action: &Action) -> Result<(), ActError> {
        self.execute(key, action).await
    }
}

/// A Lease changed: a heartbeat, if it is a node's. It is only worth a look if the node was thought silent.
pub fn lease_changed(
    queue: &WorkQueue<ObjectKey>,
    heartbeats: &Heartbeats,
    nodes: &Store<NodeView>,
    world: &World,
    change: &Change<Heartbeat>,
) {
    if change.object.namespace != LEASE_NAMESPACE || change.is_deletion() {
        return;
    }
    heartbeats.heard(&change.object.name, world.now());
    let key = ObjectKey::new("", change.object.name.as_str());
    if nodes.get(&key).is_some_and(|n| n.ready == Some(Ready::Unknown)) {
        queue.add(key, change.trigger());
    }
}

/// A Node changed; if its kubelet wrote the time of its condition, that is a heartbeat too.
pub fn node_changed(queue: &WorkQueue<ObjectKey>, heartbeats: &Heartbeats, world: &World, change: &Change<NodeView>) {
    if let Some(node) = &change.new {
        let before = change.old.as_ref().map(|old| old.heartbeat);
        if before != Some(node.heartbeat) {
            heartbeats.heard(&node.name, world.now());
        }
    } else {
        heartbeats.gone(&change.object.name, world.now());
    }
    queue.add(change.key(), change.trigger());
}

/// A pod was bound, or changed on its node.
pub fn pod_changed(queue: &WorkQueue<ObjectKey>, nodes: &Store<NodeView>, change: &Change<PodView>) {
    let Some(pod) = change.new.as_ref().filter(|p| !p.node.is_empty()) else { return };
    let key = ObjectKey::new("", pod.node.as_str());
    // On a healthy node there is nothing to do for a pod.
    let healthy = nodes
        .get(&key)
        .is_some_and(|n| n.ready == Some(Ready::True) && !n.taints.iter().any(|t| t.effect == "NoExecute"));
    if !healthy {
        queue.add(key, change.trigger());
    }
}
