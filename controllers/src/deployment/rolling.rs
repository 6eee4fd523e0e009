//! RollingUpdate: the new ReplicaSet grows and the old ones shrink, within maxSurge and maxUnavailable.
//!
//! Both are bounds on what may be, whatever the pods do in the meantime: never more than
//! `wanted + maxSurge` pods are asked for, and none that is available is given up while fewer
//! than `wanted - maxUnavailable` others are.

use skiff_proto::appsv1::ReplicaSet;

use super::changes::Changes;
use super::rollout::Rollout;

/// How large the new ReplicaSet is made at first.
pub fn first_size(rollout: &Rollout<'_>) -> i32 {
    if rollout.recreates() { rollout.wanted() } else { grown(rollout, 0) }
}

/// The next move: grow the new one, or else shrink the old ones.
pub fn plan(rollout: &Rollout<'_>, changes: &mut Changes) {
    let Some(new) = rollout.new else { return };
    let (size, wanted) = (Rollout::size(new), rollout.wanted());
    if size > wanted {
        return changes.resize(rollout, new, wanted, "there are more than wanted");
    }
    let grown = grown(rollout, size);
    if grown > size {
        return changes.resize(rollout, new, grown, "rolling update: room for more of the new");
    }
    shrink_old(rollout, new, changes);
}

fn grown(rollout: &Rollout<'_>, size: i32) -> i32 {
    let room = (rollout.most() - rollout.total()).max(0);
    size + room.min(rollout.wanted() - size).max(0)
}

fn shrink_old(rollout: &Rollout<'_>, new: &ReplicaSet, changes: &mut Changes) {
    let mut sizes: Vec<(&ReplicaSet, i32)> =
        rollout.old.iter().filter(|s| Rollout::size(s) > 0).map(|s| (*s, Rollout::size(s))).collect();
    if sizes.is_empty() {
        return;
    }
    // What may go in all, if every pod of the new one that is not available yet were to stay so.
    let new_unavailable = Rollout::size(new) - Rollout::available(new);
    let mut spare = rollout.total() - rollout.least() - new_unavailable;
    // First what is of no use: pods of the old ones that are not available.
    for (set, size) in &mut sizes {
        let broken = (*size - Rollout::available(set)).clamp(0, spare.max(0));
        *size -= broken;
        spare -= broken;
    }
    // Then what is, as far as enough others are available.
    let available: i32 = rollout.all().map(Rollout::available).sum();
    let mut spare = spare.min(available - rollout.least());
    for (_, size) in &mut sizes {
        let gone = (*size).clamp(0, spare.max(0));
        *size -= gone;
        spare -= gone;
    }
    for (set, size) in sizes.into_iter().filter(|(set, size)| Rollout::size(set) != *size) {
        changes.resize(rollout, set, size, "rolling update: enough others are available");
    }
}
