//! The cluster as the scheduler sees it: flat columns with one slot per node.
//!
//! Thousands of nodes are looked at for every pod, so what every pod asks about (room, counts)
//! lies in columns, and what few ask about (labels, taints) behind one pointer per node.
//! Every change of a slot is written to a short log; an evaluation that is kept between pods
//! (see `memo`) reads the log to learn which few nodes to look at again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use fxhash::{FxBuildHasher, FxHashMap};
use indexmap::IndexMap;

use crate::node::NodeInfo;
use crate::template::{HostPort, Resources, Template};

/// How many changes are remembered; an evaluation further behind starts afresh.
const LOG: usize = 16_384;

/// All nodes with what runs on them.
#[derive(Default)]
pub struct Snapshot {
    slots: BTreeMap<String, usize>,
    free: Vec<usize>,
    pub(crate) nodes: Vec<Option<Arc<NodeInfo>>>,
    pub(crate) requested: Vec<Resources>,
    pub(crate) scoring_cpu: Vec<i64>,
    pub(crate) scoring_memory: Vec<i64>,
    pub(crate) pods: Vec<u32>,
    pub(crate) ports: Vec<Vec<HostPort>>,
    pub(crate) zones: Vec<u32>,
    zone_ids: BTreeMap<String, u32>,
    placed: FxHashMap<Arc<str>, Placed>,
    by_node: BTreeMap<String, BTreeSet<Arc<str>>>,
    owners: FxHashMap<Arc<str>, OwnerCounts>,
    log: VecDeque<usize>,
    revision: u64,
}

/// A pod that has a node, or is assumed to.
#[derive(Clone, Debug, PartialEq)]
pub struct Placed {
    /// The node's name; the node itself may not be known (yet, or any more).
    pub node: String,
    /// What it takes.
    pub template: Arc<Template>,
    /// The uid of its controller.
    pub owner: Option<Arc<str>>,
}

/// Where the pods of one owner are. Kept up to date pod by pod, since every decision asks.
#[derive(Debug, Default)]
pub struct OwnerCounts {
    by_slot: IndexMap<usize, u32, FxBuildHasher>,
    by_zone: Vec<u32>,
    /// How many slots have so many of the pods; the last is not zero, so its index is the most there are on any.
    with: Vec<u32>,
}

impl OwnerCounts {
    /// The slots that have some of the pods, with how many.
    pub fn slots(&self) -> impl Iterator<Item = (usize, u32)> + '_ {
        self.by_slot.iter().map(|(slot, count)| (*slot, *count))
    }

    /// How many are in a slot.
    pub fn in_slot(&self, slot: usize) -> u32 {
        self.by_slot.get(&slot).copied().unwrap_or(0)
    }

    /// How many are in a zone.
    pub fn in_zone(&self, zone: u32) -> u32 {
        self.by_zone.get(zone as usize).copied().unwrap_or(0)
    }

    /// The most in any slot.
    pub fn most_in_a_slot(&self) -> u32 {
        self.with.len().saturating_sub(1) as u32
    }

    /// The most in any zone.
    pub fn most_in_a_zone(&self) -> u32 {
        self.by_zone.iter().copied().max().unwrap_or(0)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_slot.is_empty()
    }

    fn count(&mut self, slot: usize, zone: u32, times: i64) {
        let zone = zone as usize;
        if self.by_zone.len() <= zone {
            self.by_zone.resize(zone + 1, 0);
        }
        self.by_zone[zone] = self.by_zone[zone].saturating_add_signed(times as i32);
        let before = self.in_slot(slot);
        let after = before.saturating_add_signed(times as i32);
        if after == 0 {
            self.by_slot.swap_remove(&slot);
        } else {
            self.by_slot.insert(slot, after);
        }
        let most = before.max(after) as usize;
        if self.with.len() <= most {
            self.with.resize(most + 1, 0);
        }
        if before > 0 {
            self.with[before as usize] -= 1;
        }
        if after > 0 {
            self.with[after as usize] += 1;
        }
        while self.with.last() == Some(&0) {
            self.with.pop();
        }
    }
}

/// One node, seen through the columns.
#[derive(Clone, Copy)]
pub struct NodeView<'a> {
    /// The snapshot it is in.
    pub snapshot: &'a Snapshot,
    /// Its slot.
    pub slot: usize,
    /// Labels, taints and sizes.
    pub info: &'a NodeInfo,
}

impl NodeView<'_> {
    /// What its pods ask for, together.
    pub fn requested(&self) -> &Resources {
        &self.snapshot.requested[self.slot]
    }

    /// How many pods it has.
    pub fn pods(&self) -> i64 {
        i64::from(self.snapshot.pods[self.slot])
    }

    /// CPU (milli) its pods take as scores see it.
    pub fn scoring_cpu(&self) -> i64 {
        self.snapshot.scoring_cpu[self.slot]
    }

    /// Memory its pods take as scores see it.
    pub fn scoring_memory(&self) -> i64 {
        self.snapshot.scoring_memory[self.slot]
    }

    /// The host ports taken on it.
    pub fn ports(&self) -> &[HostPort] {
        &self.snapshot.ports[self.slot]
    }
}

impl Snapshot {
    /// An empty cluster.
    pub fn new() -> Snapshot {
        Snapshot::default()
    }

    /// Counts changes; two equal revisions of one snapshot are the same cluster.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// How many nodes there are.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there are no nodes.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// How many slots there are, free ones included.
    pub fn width(&self) -> usize {
        self.nodes.len()
    }

    /// The node in a slot.
    pub fn view(&self, slot: usize) -> Option<NodeView<'_>> {
        let info = self.nodes.get(slot)?.as_deref()?;
        Some(NodeView { snapshot: self, slot, info })
    }

    /// All nodes, by name.
    pub fn by_name(&self) -> impl Iterator<Item = NodeView<'_>> {
        self.slots.values().filter_map(|slot| self.view(*slot))
    }

    /// The slot of a node.
    pub fn slot(&self, node: &str) -> Option<usize> {
        self.slots.get(node).copied()
    }

    /// How many zones have been seen.
    pub fn zone_count(&self) -> usize {
        self.zone_ids.len()
    }

    /// How many pods of this owner are in each slot.
    pub fn owner_counts(&self, owner: &str) -> Option<&OwnerCounts> {
        self.owners.get(owner)
    }

    /// The slots that changed after a revision, or `None` if that is too long ago to know.
    pub fn changed_since(&self, revision: u64) -> Option<impl Iterator<Item = usize> + '_> {
        let behind = usize::try_from(self.revision.checked_sub(revision)?).ok()?;
        let start = self.log.len().checked_sub(behind)?;
        Some(self.log.range(start..).copied())
    }

    /// Adds a node, or replaces what was known of it. Returns its slot, or `None` if nothing changed.
    pub fn set_node(&mut self, info: Arc<NodeInfo>) -> Option<usize> {
        let zone = self.zone_id(&info.zone);
        if let Some(slot) = self.slots.get(&info.name).copied() {
            if self.nodes[slot].as_deref() == Some(&*info) {
                return None;
            }
            // Its pods are counted under its zone.
            let moves = self.zones[slot] != zone;
            if moves {
                self.account_all(&info.name, slot, -1);
            }
            self.zones[slot] = zone;
            if moves {
                self.account_all(&info.name, slot, 1);
            }
            self.nodes[slot] = Some(info);
            self.touch(slot);
            return Some(slot);
        }
        let slot = self.free.pop().unwrap_or_else(|| self.grow());
        self.slots.insert(info.name.clone(), slot);
        self.zones[slot] = zone;
        let name = info.name.clone();
        self.nodes[slot] = Some(info);
        // Pods may be known before their node is: they count from the moment the node appears.
        self.account_all(&name, slot, 1);
        self.touch(slot);
        Some(slot)
    }

    /// Takes a node out. Its pods are remembered in case it comes back.
    pub fn remove_node(&mut self, name: &str) -> bool {
        let Some(slot) = self.slots.remove(name) else { return false };
        self.account_all(name, slot, -1);
        self.nodes[slot] = None;
        self.free.push(slot);
        self.touch(slot);
        true
    }

    /// Puts a pod on a node; if it was elsewhere it moves. Says whether anything changed.
    pub fn place(&mut self, uid: &Arc<str>, placed: Placed) -> bool {
        if self.placed.get(uid) == Some(&placed) {
            return false;
        }
        self.remove_pod(uid);
        if let Some(slot) = self.slots.get(&placed.node).copied() {
            self.account(slot, &placed, 1);
            self.touch(slot);
        }
        self.by_node.entry(placed.node.clone()).or_default().insert(uid.clone());
        self.placed.insert(uid.clone(), placed);
        true
    }

    /// Takes a pod off its node. Returns the slot that has more room now.
    pub fn remove_pod(&mut self, uid: &str) -> Option<usize> {
        let (uid, placed) = self.placed.remove_entry(uid)?;
        if let Some(pods) = self.by_node.get_mut(&placed.node) {
            pods.remove(&uid);
            if pods.is_empty() {
                self.by_node.remove(&placed.node);
            }
        }
        let slot = self.slots.get(&placed.node).copied()?;
        self.account(slot, &placed, -1);
        self.touch(slot);
        Some(slot)
    }

    /// Where a pod is.
    pub fn placement(&self, uid: &str) -> Option<&Placed> {
        self.placed.get(uid)
    }

    fn grow(&mut self) -> usize {
        self.nodes.push(None);
        self.requested.push(Resources::default());
        self.scoring_cpu.push(0);
        self.scoring_memory.push(0);
        self.pods.push(0);
        self.ports.push(Vec::new());
        self.zones.push(0);
        self.nodes.len() - 1
    }

    fn zone_id(&mut self, zone: &str) -> u32 {
        if let Some(id) = self.zone_ids.get(zone) {
            return *id;
        }
        let id = self.zone_ids.len() as u32;
        self.zone_ids.insert(zone.to_string(), id);
        id
    }

    fn account_all(&mut self, node: &str, slot: usize, times: i64) {
        let pods = self.by_node.get(node).into_iter().flatten();
        let placed: Vec<Placed> = pods.filter_map(|uid| self.placed.get(uid).cloned()).collect();
        for placed in placed {
            self.account(slot, &placed, times);
        }
    }

    fn account(&mut self, slot: usize, placed: &Placed, times: i64) {
        let template = &placed.template;
        self.requested[slot].add(&template.requests, times);
        self.scoring_cpu[slot] += template.scoring_cpu * times;
        self.scoring_memory[slot] += template.scoring_memory * times;
        self.pods[slot] = self.pods[slot].saturating_add_signed(times as i32);
        for port in &template.ports {
            if times > 0 {
                self.ports[slot].push(port.clone());
            } else if let Some(at) = self.ports[slot].iter().position(|p| p == port) {
                self.ports[slot].swap_remove(at);
            }
        }
        if let Some(owner) = &placed.owner {
            let zone = self.zones[slot];
            let counts = self.owners.entry(owner.clone()).or_default();
            counts.count(slot, zone, times);
            if counts.is_empty() {
                self.owners.remove(owner);
            }
        }
    }

    fn touch(&mut self, slot: usize) {
        self.revision += 1;
        if self.log.len() == LOG {
            self.log.pop_front();
        }
        self.log.push_back(slot);
    }
}
