//! Templates have a hash and a number. The hash names the ReplicaSet and marks its pods; the
//! number, in annotations, is what `rollout history` shows and `rollout undo` goes back to.

use prost::Message;
use skiff_client::driver::Plan;
use skiff_proto::appsv1::{Deployment, ReplicaSet, ReplicaSetSpec};
use skiff_proto::corev1::PodTemplateSpec;
use skiff_proto::metav1::{LabelSelector, ObjectMeta};

use super::changes::Changes;
use super::plan::{Action, Target};
use super::rollout::Rollout;
use crate::ownership::controller_reference;

/// The label that tells the pods of one template from those of another.
pub const HASH_LABEL: &str = "pod-template-hash";
/// Which revision a ReplicaSet is, and a Deployment is at.
pub const REVISION: &str = "deployment.kubernetes.io/revision";
/// Which revisions a ReplicaSet was before, if the Deployment came back to it.
const HISTORY: &str = "deployment.kubernetes.io/revision-history";
/// The Deployment's size when the ReplicaSet was last made to fit it.
pub const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
/// That, and maxSurge.
pub const MOST: &str = "deployment.kubernetes.io/max-replicas";
/// Annotations that are the Deployment's own, or the ReplicaSet's own.
const NOT_COPIED: [&str; 5] = ["kubectl.kubernetes.io/last-applied-configuration", REVISION, HISTORY, DESIRED, MOST];
/// What a Deployment keeps if it does not say.
const DEFAULT_HISTORY: i32 = 10;

/// The hash of a template, in letters that spell no words. It is stable: the same template has the
/// same hash on every machine and in every run; `collisions` gives another one.
pub fn template_hash(template: &PodTemplateSpec, collisions: i32) -> String {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut template = template.clone();
    template.metadata.labels.remove(HASH_LABEL);
    let mut bytes = template.encode_to_vec();
    if collisions > 0 {
        bytes.extend_from_slice(&collisions.to_le_bytes());
    }
    // FNV-1a, 64 bits folded to 48: ten letters.
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x100_0000_01b3));
    let mut rest = (hash ^ (hash >> 48)) & 0xffff_ffff_ffff;
    let base = LETTERS.len() as u64;
    let mut name = String::new();
    for _ in 0..10 {
        name.push(char::from(LETTERS[(rest % base) as usize]));
        rest /= base;
    }
    name
}

/// The name of the current template's ReplicaSet.
pub fn set_name(deployment: &Deployment) -> String {
    let hash = template_hash(&deployment.spec.template, deployment.status.collision_count.unwrap_or(0));
    format!("{}-{hash}", deployment.metadata.name)
}

/// The ReplicaSet of the current template.
pub fn new_set(rollout: &Rollout<'_>, size: i32) -> ReplicaSet {
    let deployment = rollout.deployment;
    let hash = template_hash(&deployment.spec.template, deployment.status.collision_count.unwrap_or(0));
    let mut template = deployment.spec.template.clone();
    template.metadata.labels.insert(HASH_LABEL.into(), hash.clone());
    let mut selector: LabelSelector = deployment.spec.selector.as_deref().cloned().unwrap_or_default();
    selector.match_labels.insert(HASH_LABEL.into(), hash.clone());
    let mut annotations = deployment.metadata.annotations.clone();
    annotations.retain(|key, _| !NOT_COPIED.contains(&key.as_str()));
    annotations.insert(REVISION.into(), next(rollout).to_string());
    annotations.insert(DESIRED.into(), rollout.wanted().to_string());
    annotations.insert(MOST.into(), (rollout.wanted().saturating_add(rollout.max_surge)).to_string());
    ReplicaSet {
        metadata: ObjectMeta {
            name: set_name(deployment),
            namespace: deployment.metadata.namespace.clone(),
            labels: template.metadata.labels.clone(),
            annotations,
            owner_references: vec![controller_reference("apps/v1", "Deployment", &deployment.metadata)],
            ..ObjectMeta::default()
        },
        spec: ReplicaSetSpec {
            replicas: Some(size),
            min_ready_seconds: deployment.spec.min_ready_seconds,
            selector: Some(Box::new(selector)),
            template,
        },
        ..ReplicaSet::default()
    }
}

/// A ReplicaSet's revision; 0 if it has none.
pub fn of_set(set: &ReplicaSet) -> u64 {
    set.metadata.annotations.get(REVISION).and_then(|r| r.parse().ok()).unwrap_or(0)
}

/// A Deployment's revision; 0 if it has none.
pub fn of_deployment(deployment: &Deployment) -> u64 {
    deployment.metadata.annotations.get(REVISION).and_then(|r| r.parse().ok()).unwrap_or(0)
}

/// The revision that the current template has: one more than all before.
pub fn next(rollout: &Rollout<'_>) -> u64 {
    let before = rollout.old.iter().map(|s| of_set(s)).max().unwrap_or(0);
    rollout.new.map_or(0, of_set).max(before + 1)
}

/// Marks the ReplicaSet of the current template with its revision, and with what users annotate the Deployment.
pub fn mark(rollout: &Rollout<'_>, changes: &mut Changes, plan: &mut Plan<Action>) {
    let (Some(new), deployment) = (rollout.new, rollout.deployment) else { return };
    let revision = next(rollout);
    let reason = "it is the current template's";
    let before = of_set(new);
    if before != revision {
        changes.annotate(new, REVISION, revision.to_string(), reason);
        if before > 0 {
            let earlier = new.metadata.annotations.get(HISTORY).map(|h| format!("{h},")).unwrap_or_default();
            changes.annotate(new, HISTORY, format!("{earlier}{before}"), reason);
        }
    }
    for (key, value) in &deployment.metadata.annotations {
        if !NOT_COPIED.contains(&key.as_str()) {
            changes.annotate(new, key, value.clone(), reason);
        }
    }
    changes.min_ready(new, deployment.spec.min_ready_seconds, reason);
    if of_deployment(deployment) != revision {
        plan.step(Action::SetRevision(revision), "the template is another one");
    }
}

/// Deletes the oldest of the old ReplicaSets that are empty, beyond what history shall keep.
pub fn tidy(rollout: &Rollout<'_>, plan: &mut Plan<Action>) {
    let keep = rollout.deployment.spec.revision_history_limit.unwrap_or(DEFAULT_HISTORY);
    let mut old: Vec<_> = rollout.old.iter().filter(|s| s.metadata.deletion_timestamp.is_none()).collect();
    old.sort_by_key(|s| of_set(s));
    let surplus = old.len().saturating_sub(usize::try_from(keep).unwrap_or(0));
    for set in old.into_iter().take(surplus) {
        let settled = set.metadata.generation <= set.status.observed_generation;
        if settled && Rollout::size(set) == 0 && set.status.replicas == 0 {
            plan.step(Action::Delete(Target::of(set)), format!("history keeps {keep} old replica sets"));
        }
    }
}
