//! Which Pods a quota with scopes is for.

use crate::corev1::{Pod, PodAffinityTerm, PodSpec, ResourceQuota, ScopedResourceSelectorRequirement};

/// Whether a quota is for this Pod: all its scopes match.
pub fn matches(quota: &ResourceQuota, pod: &Pod) -> bool {
    let plain = quota.spec.scopes.iter().all(|scope| is_in(scope, pod));
    let selector = quota.spec.scope_selector.as_deref();
    plain && selector.is_none_or(|s| s.match_expressions.iter().all(|expression| fits(expression, pod)))
}

fn fits(expression: &ScopedResourceSelectorRequirement, pod: &Pod) -> bool {
    if expression.scope_name != "PriorityClass" {
        return is_in(&expression.scope_name, pod);
    }
    let class = pod.spec.priority_class_name.as_str();
    let named = || expression.values.iter().any(|value| value == class);
    match expression.operator.as_str() {
        "In" => named(),
        "NotIn" => !named(),
        "DoesNotExist" => class.is_empty(),
        _ => !class.is_empty(),
    }
}

fn is_in(scope: &str, pod: &Pod) -> bool {
    let spec = &pod.spec;
    match scope {
        "Terminating" => spec.active_deadline_seconds.is_some_and(|seconds| seconds >= 0),
        "NotTerminating" => spec.active_deadline_seconds.is_none_or(|seconds| seconds < 0),
        "BestEffort" => is_best_effort(spec),
        "NotBestEffort" => !is_best_effort(spec),
        "PriorityClass" => !spec.priority_class_name.is_empty(),
        "CrossNamespacePodAffinity" => looks_elsewhere(spec),
        _ => false,
    }
}

/// Whether no container asks for any processor time or memory.
pub fn is_best_effort(spec: &PodSpec) -> bool {
    let mut asked = spec
        .containers
        .iter()
        .chain(&spec.init_containers)
        .flat_map(|container| container.resources.requests.iter().chain(&container.resources.limits));
    !asked.any(|(name, amount)| matches!(name.as_str(), "cpu" | "memory") && !amount.is_zero())
}

/// Whether its affinity looks at Pods of other namespaces.
fn looks_elsewhere(spec: &PodSpec) -> bool {
    let elsewhere = |term: &PodAffinityTerm| !term.namespaces.is_empty() || term.namespace_selector.is_some();
    let Some(affinity) = spec.affinity.as_deref() else { return false };
    let near = affinity.pod_affinity.as_deref().map(|a| {
        let preferred = a.preferred_during_scheduling_ignored_during_execution.iter().map(|w| &w.pod_affinity_term);
        a.required_during_scheduling_ignored_during_execution.iter().chain(preferred).any(elsewhere)
    });
    let far = affinity.pod_anti_affinity.as_deref().map(|a| {
        let preferred = a.preferred_during_scheduling_ignored_during_execution.iter().map(|w| &w.pod_affinity_term);
        a.required_during_scheduling_ignored_during_execution.iter().chain(preferred).any(elsewhere)
    });
    near.unwrap_or(false) || far.unwrap_or(false)
}
