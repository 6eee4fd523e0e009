//! ResourceQuota: how much a namespace may have. `admission/resource_quota.rs` charges it and counts what it has.

use crate::resources::field_error::Errors;
use crate::resources::strategy::KindStrategy;
use crate::resources::validation::{IMMUTABLE, NON_NEGATIVE, child, index, key, one_of, qualified_name};
use skiff_proto::Quantity;
use skiff_proto::corev1::{ResourceQuota, ResourceQuotaSpec, ScopedResourceSelectorRequirement};
use skiff_proto::quota::{is_compute, is_of_pods, is_whole};
use std::collections::BTreeMap;

/// What can be limited without a domain and without `count/`.
const STANDARD: &[&str] = &[
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.storage",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "persistentvolumeclaims",
    "configmaps",
    "services.nodeports",
    "services.loadbalancers",
];
const SCOPES: &[&str] =
    &["Terminating", "NotTerminating", "BestEffort", "NotBestEffort", "PriorityClass", "CrossNamespacePodAffinity"];
const OPERATORS: &[&str] = &["In", "NotIn", "Exists", "DoesNotExist"];

pub struct ResourceQuotaStrategy;

impl KindStrategy for ResourceQuotaStrategy {
    type Kind = ResourceQuota;

    fn prepare_for_create(&self, quota: &mut ResourceQuota) {
        quota.status = Default::default();
    }

    fn prepare_for_update(&self, new: &mut ResourceQuota, old: &ResourceQuota) {
        new.status = old.status.clone();
    }

    fn take_status(&self, from: ResourceQuota, onto: &mut ResourceQuota) {
        onto.status = from.status;
    }

    fn validate(&self, quota: &ResourceQuota) -> Errors {
        let mut errors = Errors::new();
        amounts(&quota.spec.hard, "spec.hard", &mut errors);
        scopes(&quota.spec, &mut errors);
        errors
    }

    fn validate_update(&self, new: &ResourceQuota, old: &ResourceQuota) -> Errors {
        let mut errors = Errors::new();
        if new.spec.scopes != old.spec.scopes {
            errors.invalid("spec.scopes", new.spec.scopes.join(","), IMMUTABLE);
        }
        if new.spec.scope_selector != old.spec.scope_selector {
            errors.forbidden("spec.scopeSelector", IMMUTABLE);
        }
        errors
    }

    fn validate_status_update(&self, new: &ResourceQuota, _old: &ResourceQuota) -> Errors {
        let mut errors = Errors::new();
        amounts(&new.status.hard, "status.hard", &mut errors);
        amounts(&new.status.used, "status.used", &mut errors);
        errors
    }
}

fn amounts(list: &BTreeMap<String, Quantity>, path: &str, errors: &mut Errors) {
    for (name, amount) in list {
        let at = key(path, name);
        for problem in qualified_name(name) {
            errors.invalid(at.clone(), name, problem);
        }
        let huge_pages = ["hugepages-", "requests.hugepages-"].iter().any(|prefix| name.starts_with(prefix));
        if !name.contains('/') && !STANDARD.contains(&name.as_str()) && !huge_pages {
            errors.invalid(at.clone(), name, "must be a standard resource for quota");
        }
        if amount.is_negative() {
            errors.invalid(at.clone(), amount, NON_NEGATIVE);
        }
        if is_whole(name) && amount.milli() % 1000 != 0 {
            errors.invalid(at, amount, "must be an integer");
        }
    }
}

fn scopes(spec: &ResourceQuotaSpec, errors: &mut Errors) {
    let all = || spec.scopes.join(",");
    for scope in &spec.scopes {
        if !SCOPES.contains(&scope.as_str()) {
            errors.invalid("spec.scopes", all(), "unsupported scope");
        }
        fits(scope, "spec.scopes", spec, errors);
    }
    for (one, other) in [("BestEffort", "NotBestEffort"), ("Terminating", "NotTerminating")] {
        let has = |name: &str| spec.scopes.iter().any(|scope| scope == name);
        if has(one) && has(other) {
            errors.invalid("spec.scopes", all(), "conflicting scopes");
        }
    }
    for (at, expression) in spec.scope_selector.iter().flat_map(|s| s.match_expressions.iter().enumerate()) {
        let path = index("spec.scopeSelector", "matchExpressions", at);
        one_of(&expression.scope_name, SCOPES, child(&path, "scopeName"), errors);
        one_of(&expression.operator, OPERATORS, child(&path, "operator"), errors);
        fits(&expression.scope_name, &child(&path, "scopeName"), spec, errors);
        values(expression, &path, errors);
    }
}

/// A scope chooses Pods: what is limited must be of Pods.
fn fits(scope: &str, path: &str, spec: &ResourceQuotaSpec, errors: &mut Errors) {
    for name in spec.hard.keys() {
        let known = match scope {
            // A Pod of this kind asks for nothing that could be limited.
            "BestEffort" => !is_compute(name) && is_of_pods(name),
            _ => is_of_pods(name),
        };
        if !known {
            errors.invalid(path, scope, format!("unsupported scope applied to resource {name:?}"));
        }
    }
}

fn values(expression: &ScopedResourceSelectorRequirement, path: &str, errors: &mut Errors) {
    let (empty, at) = (expression.values.is_empty(), child(path, "values"));
    match expression.operator.as_str() {
        "In" | "NotIn" if empty => {
            errors.required(at, "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector");
        }
        "Exists" | "DoesNotExist" if !empty => {
            let words = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector";
            errors.invalid(at, expression.values.join(","), words);
        }
        _ => {}
    }
    if expression.scope_name != "PriorityClass" && expression.operator != "Exists" {
        let words = format!("must be 'Exists' for the scope {}", expression.scope_name);
        errors.invalid(child(path, "operator"), &expression.operator, words);
    }
}
