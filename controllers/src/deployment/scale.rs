//! The Deployment's size was changed: its ReplicaSets follow, in proportion if a rollout is under way.
//!
//! Proportion spreads the risk: if a rollout to a broken template is half way through when
//! somebody doubles the size, half of the new pods are of the old, working template.

use skiff_proto::appsv1::ReplicaSet;

use super::changes::Changes;
use super::revisions::{DESIRED, MOST};
use super::rollout::Rollout;

/// Whether some ReplicaSet was made to fit another size.
pub fn is_due(rollout: &Rollout<'_>) -> bool {
    let active = rollout.all().filter(|s| Rollout::size(s) > 0);
    active.filter_map(|s| annotation(s, DESIRED)).any(|desired| desired != rollout.wanted())
}

/// Plans the new sizes.
pub fn plan(rollout: &Rollout<'_>, changes: &mut Changes) {
    const REASON: &str = "the deployment was resized";
    if let Some(only) = active_or_latest(rollout) {
        return changes.resize(rollout, only, rollout.wanted(), REASON);
    }
    if let Some(new) = rollout.new.filter(|new| is_saturated(rollout, new)) {
        for old in rollout.old.iter().filter(|s| Rollout::size(s) > 0) {
            changes.resize(rollout, old, 0, "the new replica set has all replicas");
        }
        return changes.remember_size(rollout, new, REASON);
    }
    if rollout.recreates() {
        return;
    }
    for (set, size) in proportional(rollout) {
        changes.resize(rollout, set, size, REASON);
    }
}

/// The only ReplicaSet that has pods; if none has, the newest.
fn active_or_latest<'a>(rollout: &Rollout<'a>) -> Option<&'a ReplicaSet> {
    let active: Vec<&ReplicaSet> = rollout.all().filter(|s| Rollout::size(s) > 0).collect();
    match active.as_slice() {
        [] => rollout.new.or(rollout.old.last().copied()),
        [only] => Some(only),
        _ => None,
    }
}

/// It was made to fit the current size, and all of it is available.
fn is_saturated(rollout: &Rollout<'_>, set: &ReplicaSet) -> bool {
    let wanted = rollout.wanted();
    annotation(set, DESIRED) == Some(wanted) && Rollout::size(set) == wanted && set.status.available_replicas == wanted
}

/// What each ReplicaSet that has pods gets of the change; what rounding leaves goes to the largest.
fn proportional<'a>(rollout: &Rollout<'a>) -> Vec<(&'a ReplicaSet, i32)> {
    let mut active: Vec<&ReplicaSet> = rollout.all().filter(|s| Rollout::size(s) > 0).collect();
    let total: i32 = active.iter().map(|s| Rollout::size(s)).sum();
    let change = rollout.most() - total;
    // `active` goes from old to new. The largest gets most; among equals the newer grows and the older shrinks.
    if change > 0 {
        active.reverse();
    }
    active.sort_by_key(|s| -Rollout::size(s));

    let mut left = change;
    let mut sizes: Vec<(&ReplicaSet, i32)> = Vec::new();
    for set in active {
        let share = if left == 0 { 0 } else { share(rollout, set) };
        let share = if change > 0 { share.clamp(0, left.max(0)) } else { share.clamp(left.min(0), 0) };
        left -= share;
        sizes.push((set, Rollout::size(set) + share));
    }
    if let Some((_, size)) = sizes.first_mut() {
        *size = (*size + left).max(0);
    }
    sizes
}

/// By how much a ReplicaSet would change if all kept their part of the whole.
fn share(rollout: &Rollout<'_>, set: &ReplicaSet) -> i32 {
    let size = Rollout::size(set);
    if rollout.wanted() == 0 {
        return -size;
    }
    let before = annotation(set, MOST).filter(|m| *m > 0).unwrap_or(rollout.deployment.status.replicas);
    if before <= 0 {
        return 0;
    }
    let (size, most, before) = (i64::from(size), i64::from(rollout.most()), i64::from(before));
    let rounded = (2 * size * most + before) / (2 * before);
    i32::try_from(rounded - size).unwrap_or(0)
}

fn annotation(set: &ReplicaSet, key: &str) -> Option<i32> {
    set.metadata.annotations.get(key)?.parse().ok()
}
