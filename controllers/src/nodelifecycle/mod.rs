//! Node lifecycle: notices that a node has fallen silent, says so, and moves its pods elsewhere.
//!
//! A heartbeat is a change of the node's Lease, or of the time in its condition Ready. What counts
//! is when *we* saw it, by our own clock: the clocks of nodes may be wrong.

mod act;
mod heartbeats;
pub mod plan;
mod taints;
#[cfg(test)]
mod tests;
mod tolerations;
mod turns;
mod zones;

use std::sync::Arc;
use std::time::Duration;

use skiff_client::driver::{Plan, Reconciler};
use skiff_client::{ActError, Change, Client, EventRecorder, ObjectKey, Store, WorkQueue};
use skiff_world::World;

pub use heartbeats::Heartbeats;
pub use turns::Turns;

use crate::caches::{Caches, NODE};
use crate::nodes::{ConditionStatus, Heartbeat, NodeView};
use crate::pods::PodView;
use plan::{Action, Observed};
use turns::Turn;
use zones::Zones;

/// Where kubelets keep their Leases.
pub const LEASE_NAMESPACE: &str = "kube-node-lease";

/// Watches over every node.
pub struct Controller {
    world: World,
    caches: Caches,
    client: Client,
    events: EventRecorder,
    heartbeats: Arc<Heartbeats>,
    turns: Arc<Turns>,
    grace: Duration,
}

impl Controller {
    /// Reads these caches and heartbeats, and writes through this client. A node may be silent for `grace`.
    pub fn new(
        world: World,
        caches: Caches,
        client: Client,
        events: EventRecorder,
        (heartbeats, turns): (Arc<Heartbeats>, Arc<Turns>),
        grace: Duration,
    ) -> Controller {
        Controller { world, caches, client, events, heartbeats, turns, grace }
    }

    /// Whether a lost node may be given up, as the others stand.
    fn turn(&self, node: Option<&NodeView>, silent: bool, zones: &Zones, key: &ObjectKey) -> Turn {
        let now = self.world.now();
        self.turns.note(zones.all_lost(), self.grace, now);
        match node {
            Some(node) if node.is_ready() && !silent => self.turns.leave(&node.name),
            Some(node) if taints::is_given_up(node) => return self.turns.took(&node.name, now),
            Some(node) => {
                let place = node.place();
                return self.turns.stand(&node.name, &place, zones.at(&place).pace(), now);
            }
            None => self.turns.leave(&key.name),
        }
        Turn::Held
    }
}

impl Reconciler for Controller {
    /// The node's name, in no namespace.
    type Key = ObjectKey;
    type Observed = Observed;
    type Action = Action;
    const NAME: &'static str = "node-lifecycle";

    fn observe(&self, key: &ObjectKey) -> Option<Observed> {
        let node = self.caches.nodes.get(key);
        let pods = self.caches.pods.by_index(NODE, &key.name);
        let nodes = self.caches.nodes.list();
        let zones = Zones::of(nodes.iter().map(|node| &**node));
        let silence = self.heartbeats.silence(&key.name, node.is_some(), self.world.now());
        let turn = self.turn(node.as_deref(), silence >= self.grace, &zones, key);
        if node.is_none() && pods.is_empty() {
            self.heartbeats.forget(&key.name);
            return None;
        }
        let version = self.caches.nodes.reference(key);
        Some(Observed { silence, grace: self.grace, all_lost: zones.all_lost(), turn, version, node, pods })
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
    if nodes.get(&key).is_some_and(|n| n.ready == Some(ConditionStatus::Unknown)) {
        queue.add(key, change.trigger());
    }
}

/// A Node changed; if its kubelet wrote the time of its condition, that is a heartbeat too. If it was lost or found,
/// that concerns all that are lost: how fast they are given up depends on how many there are.
pub fn node_changed(
    queue: &WorkQueue<ObjectKey>,
    heartbeats: &Heartbeats,
    turns: &Turns,
    world: &World,
    change: &Change<NodeView>,
) {
    if let Some(node) = &change.new {
        let before = change.old.as_ref().map(|old| old.heartbeat);
        if before != Some(node.heartbeat) {
            heartbeats.heard(&node.name, world.now());
        }
    } else {
        heartbeats.gone(&change.object.name, world.now());
    }
    queue.add(change.key(), change.trigger());
    let standing = |node: &Option<Arc<NodeView>>| node.as_ref().map(|n| (n.is_ready(), n.place()));
    if standing(&change.old) != standing(&change.new) {
        for lost in turns.lost() {
            queue.add(ObjectKey::new("", lost), change.trigger());
        }
    }
}

/// A pod was bound, or changed on its node.
pub fn pod_changed(queue: &WorkQueue<ObjectKey>, nodes: &Store<NodeView>, change: &Change<PodView>) {
    let Some(pod) = change.new.as_ref().filter(|p| !p.node.is_empty()) else { return };
    let key = ObjectKey::new("", pod.node.as_str());
    // On a healthy node there is nothing to do for a pod.
    let healthy = nodes.get(&key).is_some_and(|n| n.is_ready() && !n.taints.iter().any(|t| t.effect == "NoExecute"));
    if !healthy {
        queue.add(key, change.trigger());
    }
}
