//! Spreads the pods of one owner over nodes and zones.
//!
//! Unlike the other scores this one does not depend on the template but on where the pods of the
//! same controller are, so it is not kept per template: it is made afresh for every pod, from the
//! few nodes that have some.

use crate::framework::MAX_SCORE;
use crate::snapshot::{OwnerCounts, Snapshot};

/// Where the pods of one owner are, as scores.
#[derive(Debug)]
pub struct OwnerSpread<'s> {
    counts: &'s OwnerCounts,
    /// What a node gets for having so many of the pods.
    by_count: Vec<i64>,
    /// What a node gets for its zone; nothing if there is only one.
    by_zone: Vec<i64>,
}

impl<'s> OwnerSpread<'s> {
    /// `None` if there are no pods of the owner yet, and then all nodes are equal.
    pub fn of(owner: Option<&str>, snapshot: &'s Snapshot) -> Option<OwnerSpread<'s>> {
        let counts = snapshot.owner_counts(owner?)?;
        let share = |count: u32, most: u32| match most {
            0 => MAX_SCORE,
            most => i64::from(most - count) * MAX_SCORE / i64::from(most),
        };
        let most = counts.most_in_a_slot();
        let by_count = (0..=most).map(|count| share(count, most)).collect();
        let zones = if snapshot.zone_count() < 2 { 0 } else { snapshot.zone_count() as u32 };
        let most = counts.most_in_a_zone();
        let by_zone = (0..zones).map(|zone| share(counts.in_zone(zone), most)).collect();
        Some(OwnerSpread { counts, by_count, by_zone })
    }

    /// What the node in this slot gets.
    pub fn of_slot(&self, slot: usize, zone: u32) -> i64 {
        self.score(self.counts.in_slot(slot), zone)
    }

    /// Adds the scores, times their weight, to the totals of all slots.
    pub fn add_to(&self, totals: &mut [i32], weight: i64, snapshot: &Snapshot) {
        // What there is by zone and count, as a table: thousands of nodes are looked up in it.
        let width = self.by_count.len();
        let zones = snapshot.zone_count() as u32;
        let cell = |zone: u32, count: usize| (weight * self.score(count as u32, zone)) as i32;
        let table: Vec<i32> = (0..zones).flat_map(|zone| (0..width).map(move |count| cell(zone, count))).collect();
        let by_zone: Vec<i32> = table.iter().step_by(width.max(1)).copied().collect();
        for (total, zone) in totals.iter_mut().zip(&snapshot.zones) {
            *total += by_zone[*zone as usize];
        }
        for (slot, count) in self.counts.slots() {
            let zone = snapshot.zones[slot] as usize;
            totals[slot] += table[zone * width + count as usize] - by_zone[zone];
        }
    }

    /// A third for the node, two thirds for the zone, if there is more than one.
    fn score(&self, count: u32, zone: u32) -> i64 {
        let node = self.by_count.get(count as usize).copied().unwrap_or(0);
        match self.by_zone.get(zone as usize) {
            Some(zone) => (node + 2 * zone) / 3,
            None => node,
        }
    }
}
