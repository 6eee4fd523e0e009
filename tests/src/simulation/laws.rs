//! What must hold at every revision, whatever goes wrong: read off the history that the witness wrote.

use std::collections::BTreeMap;

use skiff_proto::appsv1::{Deployment, ReplicaSet};
use skiff_proto::corev1::Pod;
use skiff_proto::metav1::ObjectMeta;

use super::user::Receipt;
use super::witness::{Object, Record};

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
    asked: BTreeMap<String, BTreeMap<i64, i32>>,
    /// The highest revision at which each key was seen, gone or not.
    seen: BTreeMap<Key, u64>,
}

/// Holds the laws against a history in the order of its revisions, and returns every breach.
pub fn breaches(history: &[Record], receipts: &[Receipt]) -> Vec<String> {
    let mut state = State::default();
    let mut breaches = Vec::new();
    for record in history {
        let before = state.objects.get(&key_of(record)).cloned();
        let mut found = Vec::new();
        found.extend(revisions_grow(record, &state));
        if let Some(before) = &before {
            found.extend(identity_stays(before, record));
        }
        state.take(record);
        if !record.gone {
            found.extend(one_controller(record.object.metadata()));
            if let Object::Pod(pod) = &record.object {
                let earlier = before.as_ref().and_then(|record| match &record.object {
                    Object::Pod(pod) => Some(pod),
                    _ => None,
                });
                found.extend(earlier.and_then(|earlier| bound_once(earlier, pod)));
                found.extend(address_is_its_own(pod, &state));
            }
            if let Object::ReplicaSet(set) = &record.object {
                found.extend(within_surge(set, before.as_ref(), &state));
            }
        }
        let (kind, namespace, name) = record.key();
        let place =
            format!("revision {} ({:.3} s): {kind} {namespace}/{name}", record.revision, record.at.as_secs_f64());
        breaches.extend(found.into_iter().map(|what| format!("{place}: {what}")));
    }
    breaches.extend(nothing_acknowledged_is_lost(history, receipts));
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
            asked.insert(deployment.metadata.generation, most_pods(deployment));
        }
        self.objects.insert(key, record.clone());
    }
}

/// How many Pods a Deployment may have at most, as it is written.
fn most_pods(deployment: &Deployment) -> i32 {
    let replicas = deployment.spec.replicas.unwrap_or(1);
    let rolling = deployment.spec.strategy.rolling_update.as_ref();
    let surge = rolling.and_then(|rolling| rolling.max_surge.clone());
    replicas + surge.map_or(0, |surge| surge.scaled(replicas, true).unwrap_or(replicas))
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

/// When a ReplicaSet is made larger, all of its Deployment's together stay within replicas and surge, as the Deployment
/// stood at the generation that its controller has confirmed to have seen, or at any later one.
fn within_surge(set: &ReplicaSet, before: Option<&Record>, state: &State) -> Option<String> {
    let size = |set: &ReplicaSet| set.spec.replicas.unwrap_or(1);
    let earlier = before.and_then(|record| match &record.object {
        Object::ReplicaSet(set) => Some(size(set)),
        _ => None,
    });
    if size(set) <= earlier.unwrap_or(0) {
        return None;
    }
    let uid = owner_uid(&set.metadata)?;
    let asked = state.asked.get(uid)?;
    let observed = state.objects.values().find_map(|record| match &record.object {
        Object::Deployment(d) if d.metadata.uid == uid => Some(d.status.observed_generation),
        _ => None,
    })?;
    let most = asked.range(observed.max(1)..).map(|(_, most)| *most).max()?;
    let sum: i32 = state
        .objects
        .values()
        .filter_map(|record| match &record.object {
            Object::ReplicaSet(other) if owner_uid(&other.metadata) == Some(uid) => Some(size(other)),
            _ => None,
        })
        .sum();
    (sum > most).then(|| format!("grew to {}, and all together to {sum}: more than {most}", size(set)))
}

/// Every write that the user was told of is in the history, unless it fell into a gap of the witness's.
fn nothing_acknowledged_is_lost(history: &[Record], receipts: &[Receipt]) -> Vec<String> {
    let mut breaches = Vec::new();
    for receipt in receipts {
        let versions = || {
            history.iter().filter(|record| {
                let metadata = record.object.metadata();
                record.object.kind() == receipt.kind && metadata.uid == receipt.uid
            })
        };
        let exactly = versions().any(|record| !record.gone && record.revision == receipt.revision);
        // A later list, or the end of an object that nobody saw begin, stands for what it missed.
        let gap = versions().find(|record| record.revision > receipt.revision).is_some_and(|record| record.listed);
        if !exactly && !gap {
            breaches.push(format!(
                "{} {} was acknowledged at revision {} and is not in the history",
                receipt.kind, receipt.name, receipt.revision
            ));
        }
    }
    breaches
}

#[cfg(test)]
#[path = "laws_tests.rs"]
mod tests;
