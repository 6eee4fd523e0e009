//! Spreads the pods of one owner over nodes and zones.
//!
//! Unlike the other scores this one does not depend on the template but on where the pods of the
//! same controller are, so it is not kept per template: it is made afresh for every pod, from the
//! few nodes that have some.

use std::collections::BTreeMap;

use crate::framework::MAX_SCORE;
use crate::snapshot::Snapshot;

/// Where the pods of one owner are.
#[derive(Debug, Default, PartialEq)]
pub struct OwnerSpread {
    nodes: BTreeMap<usize, u32>,
    most_on_a_node: u32,
    zones: Vec<u32>,
    most_in_a_zone: u32,
}

impl OwnerSpread {
    /// Counts them; `None` if there are none yet, and then all nodes are equal.
    pub fn of(owner: Option<&str>, snapshot: &Snapshot) -> Option<OwnerSpread> {
        let nodes = snapshot.owner_counts(owner?)?.clone();
        let mut zones = vec![0; snapshot.zone_count()];
        for (slot, count) in &nodes {
            zones[snapshot.zones[*slot] as usize] += count;
        }
        let most_on_a_node = nodes.values().copied().max().unwrap_or(0);
        let most_in_a_zone = zones.iter().copied().max().unwrap_or(0);
        Some(OwnerSpread { nodes, most_on_a_node, zones, most_in_a_zone })
    }

    /// What a node in this zone gets if it has none of the pods.
    pub fn of_zone(&self, zone: u32) -> i64 {
        self.score(0, zone)
    }

    /// What the node in this slot gets.
    pub fn of_slot(&self, slot: usize, zone: u32) -> i64 {
        self.score(self.nodes.get(&slot).copied().unwrap_or(0), zone)
    }

    /// The slots that have some of the pods.
    pub fn slots(&self) -> impl Iterator<Item = usize> + '_ {
        self.nodes.keys().copied()
    }

    /// A third for the node, two thirds for the zone, if there is more than one.
    fn score(&self, here: u32, zone: u32) -> i64 {
        let share = |count: u32, most: u32| match most {
            0 => MAX_SCORE,
            most => i64::from(most - count) * MAX_SCORE / i64::from(most),
        };
        let node = share(here, self.most_on_a_node);
        if self.zones.len() < 2 {
            return node;
        }
        let zone = share(self.zones.get(zone as usize).copied().unwrap_or(0), self.most_in_a_zone);
        (node + 2 * zone) / 3
    }
}
