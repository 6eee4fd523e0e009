//! What a namespace that is being deleted says about what keeps it: Kubernetes' conditions and reasons.

use std::collections::BTreeMap;

use skiff_proto::Time;
use skiff_proto::corev1::{Namespace, NamespaceCondition};

use super::plan::Observed;
use crate::inventory::Item;

/// The conditions that the namespace should have; others' stay as they are.
pub fn of(observed: &Observed, now: Time) -> Vec<NamespaceCondition> {
    let mut conditions = observed.namespace.status.conditions.clone();
    for (kind, answer, reason, message) in answers(observed) {
        let status = if answer { "True" } else { "False" };
        let old = find(&observed.namespace, kind);
        let since = old.filter(|c| c.status == status).map_or(Some(now), |c| c.last_transition_time);
        let condition = NamespaceCondition {
            r#type: kind.into(),
            status: status.into(),
            last_transition_time: since,
            reason: reason.into(),
            message,
        };
        match conditions.iter_mut().find(|c| c.r#type == kind) {
            Some(there) => *there = condition,
            None => conditions.push(condition),
        }
    }
    conditions
}

type Answer = (&'static str, bool, &'static str, String);

fn answers(observed: &Observed) -> [Answer; 3] {
    let failed = match &observed.failure {
        Some(why) => ("NamespaceDeletionContentFailure", true, "ContentDeletionFailed", why.clone()),
        None => {
            let message = "Everything that could be found has been deleted, or is on its way out.";
            ("NamespaceDeletionContentFailure", false, "ContentDeleted", message.into())
        }
    };
    let left = count(observed.contents.iter().map(|item| item.id.resource.to_string()));
    let remaining = if left.is_empty() {
        ("NamespaceContentRemaining", false, "ContentRemoved", "Nothing is left.".into())
    } else {
        ("NamespaceContentRemaining", true, "SomeResourcesRemain", format!("Still there: {}.", listed(&left)))
    };
    let held = count(observed.contents.iter().flat_map(|item: &Item| item.meta.finalizers.iter().cloned()));
    let finalizers = if held.is_empty() {
        let message = "No finalizer holds anything.";
        ("NamespaceFinalizersRemaining", false, "ContentHasNoFinalizers", message.into())
    } else {
        let message = format!("Held by finalizers, so that whoever set them can finish: {}.", listed(&held));
        ("NamespaceFinalizersRemaining", true, "SomeFinalizersRemain", message)
    };
    [failed, remaining, finalizers]
}

fn count(names: impl Iterator<Item = String>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for name in names {
        *counts.entry(name).or_default() += 1;
    }
    counts
}

fn listed(counts: &BTreeMap<String, usize>) -> String {
    counts.iter().map(|(name, count)| format!("{name} ({count})")).collect::<Vec<_>>().join(", ")
}

fn find<'a>(namespace: &'a Namespace, kind: &str) -> Option<&'a NamespaceCondition> {
    namespace.status.conditions.iter().find(|c| c.r#type == kind)
}
