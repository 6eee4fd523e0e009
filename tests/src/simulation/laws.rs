//! What must hold at every revision, whatever goes wrong: read off the history that the witness wrote. Every breach
//! begins with the name of its law.

use std::collections::BTreeMap;

use skiff_proto::appsv1::{Deployment, ReplicaSet};
use skiff_proto::corev1::Pod;
use skiff_proto::metav1::ObjectMeta;

use super::cluster::{CPU_MILLI, MOST_PODS};
use super::user::Receipt;
use super::witness::{Gap, Object, Record};

/// No revision of an object comes after a later one; nor does anything of it go back.
pub const REVISIONS: &str = "revisions only grow";
/// At most one controller owns an object.
pub const CONTROLLER: &str = "one controller per object";
/// A Pod is bound once, and ends once.
pub const BOUND: &str = "no Pod is bound twice";
/// No two Pods have one address.
pub const ADDRESS: &str = "an address is one Pod's";
/// No node has more Pods than it takes.
pub const ROOM: &str = "no node is overcommitted";
/// A Deployment's ReplicaSets want no more Pods than replicas and maxSurge.
pub const SURGE: &str = "never more than maxSurge above";
/// They keep as many available as replicas less maxUnavailable.
pub const UNAVAILABLE: &str = "never more than maxUnavailable below";
/// What a user was told to be written is in the history.
pub const ACKNOWLEDGED: &str = "no acknowledged write is lost";

type Key = (&'static str, String, String);

fn key_of(record: &Record) -> Key {
    let (kind, namespace, name) = record.key();
    (kind, namespace.to_owned(), name.to_owned())
}

/// The state at one revision, as far as the history tells.
#[derive(Default)]
struct State {
    objects: BTreeMap<Key, Record>,
    /// What each Deployment asked for, by uid and generation.
    asked: BTreeMap<String, BTreeMap<i64, Bounds>>,
    /// The most available Pods that each ReplicaSet ever reported, by uid.
    available: BTreeMap<String, i32>,
    /// The highest revision at which each key was seen, gone or not.
    seen: BTreeMap<Key, u64>,
}

/// How many Pods a Deployment may have at most, and how many have to be available at least, as it is written.
#[derive(Clone, Copy)]
struct Bounds {
    most: i32,
    least: i32,
}

/// Holds the laws against a history in the order of its revisions, and returns every breach. In the gaps nobody looked.
pub fn breaches(history: &[Record], receipts: &[Receipt], gaps: &[Gap]) -> Vec<String> {
    let mut state = State::default();
    let mut breaches = Vec::new();
    for record in history {
        let before = state.objects.get(&key_of(record)).cloned();
        let mut found = Vec::new();
        let mut find = |law, what: Option<String>| found.extend(what.map(|what| (law, what)));
        find(REVISIONS, revisions_grow(record, &state));
        if let Some(before) = &before {
            find(REVISIONS, identity_stays(before, record));
        }
        state.take(record);
        if !record.gone {
            find(CONTROLLER, one_controller(record.object.metadata()));
            if let Object::Pod(pod) = &record.object {
                let earlier = before.as_ref().and_then(|record| match &record.object {
                    Object::Pod(pod) => Some(pod),
                    _ => None,
                });
                find(BOUND, earlier.and_then(|earlier| bound_once(earlier, pod)));
                find(ADDRESS, address_is_its_own(pod, &state));
                find(ROOM, node_has_room(pod, &state));
            }
            // What the Deployment asked for meanwhile is known only where nothing was missed.
            let unknown =
                gaps.iter().any(|gap| ["Deployment", "ReplicaSet"].iter().any(|kind| gap.hides(kind, record.revision)));
            if let Object::ReplicaSet(set) = &record.object
                && !unknown
            {
                find(SURGE, within_surge(set, before.as_ref(), &state));
                find(UNAVAILABLE, enough_stay(set, before.as_ref(), &state));
            }
        }
        let (kind, namespace, name) = record.key();
        let place =
            format!("revision {} ({:.3} s): {kind} {namespace}/{name}", record.revision, record.at.as_secs_f64());
        breaches.extend(found.into_iter().map(|(law, what)| format!("{law}: {place}: {what}")));
    }
    breaches.extend(nothing_acknowledged_is_lost(history, receipts, gaps));
    breaches
}

impl State {
    fn take(&mut self, record: &Record) {
        let key = key_of(record);
        let seen = self.seen.entry(key.clone()).or_default();
        *seen = (*seen).max(record.revision);
        if record.gone {
            self.objects.remove(&key);
            return;
        }
        if let Object::Deployment(deployment) = &record.object {
            let asked = self.asked.entry(deployment.metadata.uid.clone()).or_default();
            let generation = deployment.metadata.generation;
            if record.listed && generation > 1 {
                // What the generation before asked for may have been missed.
                asked.entry(generation - 1).or_insert(Bounds { most: i32::MAX, least: i32::MIN });
            }
            asked.insert(generation, bounds(deployment));
        }
        if let Object::ReplicaSet(set) = &record.object {
            let best = self.available.entry(set.metadata.uid.clone()).or_default();
            *best = (*best).max(set.status.available_replicas);
        }
        self.objects.insert(key, record.clone());
    }
}

fn bounds(deployment: &Deployment) -> Bounds {
    let replicas = deployment.spec.replicas.unwrap_or(1);
    let rolling = deployment.spec.strategy.rolling_update.clone().unwrap_or_default();
    let surge = rolling.max_surge.map_or(0, |surge| surge.scaled(replicas, true).unwrap_or(replicas));
    let unavailable = rolling.max_unavailable.map_or(0, |most| most.scaled(replicas, false).unwrap_or(replicas));
    Bounds { most: replicas + surge, least: replicas - unavailable }
}

fn revisions_grow(record: &Record, state: &State) -> Option<String> {
    let written = &record.object.metadata().resource_version;
    if !record.gone && *written != record.revision.to_string() {
        return Some(format!("its resourceVersion is {written}"));
    }
    let seen = state.seen.get(&key_of(record)).copied().unwrap_or_default();
    // A list tells again what a watch has told.
    let grows = record.revision > seen || (record.listed && record.revision == seen);
    (!grows).then(|| format!("came after revision {seen}"))
}

fn identity_stays(before: &Record, record: &Record) -> Option<String> {
    let (old, new) = (before.object.metadata(), record.object.metadata());
    if record.listed && old.uid != new.uid {
        // Its end and its successor's beginning fell into a gap.
        return None;
    }
    if old.uid != new.uid {
        return Some(format!("was {} and is {} without having been deleted", old.uid, new.uid));
    }
    if old.deletion_timestamp.is_some() && new.deletion_timestamp.is_none() {
        return Some("its deletion was taken back".to_owned());
    }
    (new.generation < old.generation).then(|| format!("generation {} after {}", new.generation, old.generation))
}

fn one_controller(metadata: &ObjectMeta) -> Option<String> {
    let controllers = metadata.owner_references.iter().filter(|owner| owner.controller == Some(true)).count();
    (controllers > 1).then(|| format!("{controllers} controllers own it"))
}

fn bound_once(before: &Pod, pod: &Pod) -> Option<String> {
    let (old, new) = (&before.spec.node_name, &pod.spec.node_name);
    if before.metadata.uid == pod.metadata.uid && !old.is_empty() && old != new {
        return Some(format!("was bound to {old}, then to {new:?}"));
    }
    let ended = |pod: &Pod| ["Succeeded", "Failed"].contains(&pod.status.phase.as_str());
    (before.metadata.uid == pod.metadata.uid && ended(before) && before.status.phase != pod.status.phase)
        .then(|| format!("was {} and is {}", before.status.phase, pod.status.phase))
}

fn is_live(pod: &Pod) -> bool {
    !["Succeeded", "Failed"].contains(&pod.status.phase.as_str())
}

fn address_is_its_own(pod: &Pod, state: &State) -> Option<String> {
    if pod.status.pod_ip.is_empty() || pod.spec.host_network || !is_live(pod) {
        return None;
    }
    state.objects.values().find_map(|record| match &record.object {
        Object::Pod(other) if other.metadata.uid != pod.metadata.uid && is_live(other) => (!other.spec.host_network
            && other.status.pod_ip == pod.status.pod_ip)
            .then(|| format!("has the address {} of {}", pod.status.pod_ip, other.metadata.name)),
        _ => None,
    })
}

fn owner_uid(metadata: &ObjectMeta) -> Option<&str> {
    let owner = metadata.owner_references.iter().find(|owner| owner.controller == Some(true))?;
    Some(&owner.uid)
}

/// No node is given more Pods than it takes, nor more than it has.
fn node_has_room(pod: &Pod, state: &State) -> Option<String> {
    let node = &pod.spec.node_name;
    if node.is_empty() || !is_live(pod) {
        return None;
    }
    let there = || {
        state.objects.values().filter_map(|record| match &record.object {
            Object::Pod(other) if other.spec.node_name == *node && is_live(other) => Some(other),
            _ => None,
        })
    };
    let count = i64::try_from(there().count()).unwrap_or(i64::MAX);
    if count > MOST_PODS {
        return Some(format!("is one of {count} on {node}, which takes {MOST_PODS}"));
    }
    let asked: i128 = there().map(cpu_milli).sum();
    (asked > CPU_MILLI.into()).then(|| format!("is one of those that ask {asked}m of {node}, which has {CPU_MILLI}m"))
}

/// The processor time that a Pod asks for.
fn cpu_milli(pod: &Pod) -> i128 {
    let asked = pod.spec.containers.iter().filter_map(|container| container.resources.requests.get("cpu"));
    asked.map(|quantity| quantity.milli()).sum()
}

/// When a ReplicaSet is made smaller, enough Pods stay that were available when it was last heard of them: as many as
/// its Deployment wants, less those that may be unavailable. Pods that are not available may go.
fn enough_stay(set: &ReplicaSet, before: Option<&Record>, state: &State) -> Option<String> {
    let Object::ReplicaSet(earlier) = &before?.object else { return None };
    if replicas(set) >= replicas(earlier) || replicas(set) >= earlier.status.available_replicas {
        return None;
    }
    let (uid, asked) = asked_of(set, state)?;
    let least = asked.iter().map(|bounds| bounds.least).min()?;
    let ever = |set: &ReplicaSet| state.available.get(&set.metadata.uid).copied().unwrap_or_default();
    let stay: i32 = owned_by(uid, state).map(|other| replicas(other).min(ever(other))).sum();
    (stay < least).then(|| {
        let (from, to) = (replicas(earlier), replicas(set));
        format!("shrank from {from} to {to}, which leaves {stay} that ever were available: less than {least}")
    })
}

fn replicas(set: &ReplicaSet) -> i32 {
    set.spec.replicas.unwrap_or(1)
}

/// The ReplicaSets of a Deployment.
fn owned_by<'a>(uid: &'a str, state: &'a State) -> impl Iterator<Item = &'a ReplicaSet> {
    state.objects.values().filter_map(move |record| match &record.object {
        Object::ReplicaSet(set) if owner_uid(&set.metadata) == Some(uid) => Some(set),
        _ => None,
    })
}

/// The uid of a ReplicaSet's Deployment, and what that asked for at the generation that its controller has confirmed to
/// have seen, and at any later one.
fn asked_of<'a>(set: &'a ReplicaSet, state: &State) -> Option<(&'a str, Vec<Bounds>)> {
    let uid = owner_uid(&set.metadata)?;
    let observed = state.objects.values().find_map(|record| match &record.object {
        Object::Deployment(d) if d.metadata.uid == uid => Some(d.status.observed_generation),
        _ => None,
    })?;
    Some((uid, state.asked.get(uid)?.range(observed.max(1)..).map(|(_, bounds)| *bounds).collect()))
}

/// When a ReplicaSet is made larger, all of its Deployment's together stay within replicas and surge.
fn within_surge(set: &ReplicaSet, before: Option<&Record>, state: &State) -> Option<String> {
    let earlier = before.and_then(|record| match &record.object {
        Object::ReplicaSet(set) => Some(replicas(set)),
        _ => None,
    });
    if replicas(set) <= earlier.unwrap_or(0) {
        return None;
    }
    let (uid, asked) = asked_of(set, state)?;
    let most = asked.iter().map(|bounds| bounds.most).max()?;
    let sum: i32 = owned_by(uid, state).map(replicas).sum();
    (sum > most).then(|| format!("grew to {}, and all together to {sum}: more than {most}", replicas(set)))
}

/// Every write that the user was told of is in the history, unless it fell into a gap of the witness's.
fn nothing_acknowledged_is_lost(history: &[Record], receipts: &[Receipt], gaps: &[Gap]) -> Vec<String> {
    let lost = |receipt: &&Receipt| {
        let seen = history.iter().any(|record| {
            let uid = &record.object.metadata().uid;
            record.object.kind() == receipt.kind
                && *uid == receipt.uid
                && !record.gone
                && record.revision == receipt.revision
        });
        !seen && !gaps.iter().any(|gap| gap.hides(receipt.kind, receipt.revision))
    };
    let words = |receipt: &Receipt| {
        let Receipt { kind, name, revision, .. } = receipt;
        format!("{ACKNOWLEDGED}: {kind} {name} was acknowledged at revision {revision} and is not in the history")
    };
    receipts.iter().filter(lost).map(words).collect()
}

#[cfg(test)]
#[path = "laws_tests.rs"]
mod tests;
