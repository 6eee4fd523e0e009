//! Role, ClusterRole and their bindings: who may do what. What a writer may give away at all is `auth/escalation.rs`.

use crate::resources::field_error::Errors;
use crate::resources::strategy::KindStrategy;
use crate::resources::validation::{self, NameRule, child, index, one_of};
use skiff_proto::rbacv1::{ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject};

/// The API group of roles, and of the subjects that are not objects.
const GROUP: &str = "rbac.authorization.k8s.io";

/// One rule of a role: something to do, and something to do it to.
fn rule(rule: &PolicyRule, namespaced: bool, path: &str, errors: &mut Errors) {
    if rule.verbs.is_empty() {
        errors.required(child(path, "verbs"), "verbs must contain at least one value");
    }
    if !rule.non_resource_urls.is_empty() {
        if namespaced {
            let why = "namespaced rules cannot apply to non-resource URLs";
            errors.invalid(child(path, "nonResourceURLs"), rule.non_resource_urls.join(", "), why);
        }
        if !(rule.api_groups.is_empty() && rule.resources.is_empty() && rule.resource_names.is_empty()) {
            let why = "rules cannot apply to both regular resources and non-resource URLs";
            errors.invalid(child(path, "nonResourceURLs"), rule.non_resource_urls.join(", "), why);
        }
        return;
    }
    if rule.api_groups.is_empty() {
        errors.required(child(path, "apiGroups"), "resource rules must supply at least one api group");
    }
    if rule.resources.is_empty() {
        errors.required(child(path, "resources"), "resource rules must supply at least one resource");
    }
}

fn rules(list: &[PolicyRule], namespaced: bool) -> Errors {
    let mut errors = Errors::new();
    for (at, one) in list.iter().enumerate() {
        rule(one, namespaced, &index("", "rules", at), &mut errors);
    }
    errors
}

/// Entries that match nothing, though they look as if they did.
fn warnings(list: &[PolicyRule]) -> Vec<String> {
    let entries = list.iter().enumerate().flat_map(|(at, rule)| rule.resources.iter().map(move |entry| (at, entry)));
    let words = entries.filter(|(_, entry)| entry.ends_with("/*")).map(|(at, entry)| {
        format!("rules[{at}].resources: {entry:?} matches nothing: name each subresource, or use \"*\" for everything")
    });
    words.collect()
}

fn role_ref(role: &RoleRef, kinds: &[&str]) -> Errors {
    let mut errors = Errors::new();
    if role.api_group != GROUP {
        errors.not_supported("roleRef.apiGroup", role.api_group.as_str(), &[GROUP]);
    }
    one_of(&role.kind, kinds, "roleRef.kind", &mut errors);
    if role.name.is_empty() {
        errors.required("roleRef.name", "");
    }
    for problem in validation::path_segment(&role.name) {
        errors.invalid("roleRef.name", role.name.as_str(), problem);
    }
    errors
}

fn subject(subject: &Subject, path: &str, errors: &mut Errors) {
    if subject.name.is_empty() {
        errors.required(child(path, "name"), "");
    }
    match subject.kind.as_str() {
        "ServiceAccount" => {
            if !subject.name.is_empty() {
                for problem in validation::dns1123_subdomain(&subject.name) {
                    errors.invalid(child(path, "name"), subject.name.as_str(), problem);
                }
            }
            if !subject.api_group.is_empty() {
                errors.not_supported(child(path, "apiGroup"), subject.api_group.as_str(), &[""]);
            }
            if subject.namespace.is_empty() {
                errors.required(child(path, "namespace"), "");
            }
        }
        "User" | "Group" => {
            if subject.api_group != GROUP {
                errors.not_supported(child(path, "apiGroup"), subject.api_group.as_str(), &[GROUP]);
            }
        }
        other => errors.not_supported(child(path, "kind"), other, &["ServiceAccount", "User", "Group"]),
    }
}

fn subjects(list: &[Subject], errors: &mut Errors) {
    for (at, one) in list.iter().enumerate() {
        subject(one, &index("", "subjects", at), errors);
    }
}

fn same_role(new: &RoleRef, old: &RoleRef) -> Errors {
    let mut errors = Errors::new();
    if new != old {
        let role = format!("{}/{}", new.kind, new.name);
        errors.invalid("roleRef", role, "cannot change roleRef");
    }
    errors
}

/// Users and groups are of one API group, a role of the same, where nothing is said.
fn fill_in(role: &mut RoleRef, subjects: &mut [Subject]) {
    if role.api_group.is_empty() {
        role.api_group = GROUP.into();
    }
    for subject in subjects {
        if subject.api_group.is_empty() && matches!(subject.kind.as_str(), "User" | "Group") {
            subject.api_group = GROUP.into();
        }
    }
}

pub struct RoleStrategy;

impl KindStrategy for RoleStrategy {
    type Kind = Role;

    fn validate(&self, role: &Role) -> Errors {
        rules(&role.rules, true)
    }

    fn warnings(&self, role: &Role) -> Vec<String> {
        warnings(&role.rules)
    }

    fn name_rule(&self) -> NameRule {
        validation::path_segment
    }
}

pub struct ClusterRoleStrategy;

impl KindStrategy for ClusterRoleStrategy {
    type Kind = ClusterRole;

    fn validate(&self, role: &ClusterRole) -> Errors {
        let mut errors = rules(&role.rules, false);
        if let Some(aggregation) = &role.aggregation_rule {
            let path = "aggregationRule";
            if aggregation.cluster_role_selectors.is_empty() {
                errors.required(
                    child(path, "clusterRoleSelectors"),
                    "at least one clusterRoleSelector required if aggregationRule is non-nil",
                );
            }
            for (at, selector) in aggregation.cluster_role_selectors.iter().enumerate() {
                errors.append(validation::label_selector(selector, &index(path, "clusterRoleSelectors", at)));
            }
        }
        errors
    }

    fn warnings(&self, role: &ClusterRole) -> Vec<String> {
        warnings(&role.rules)
    }

    fn name_rule(&self) -> NameRule {
        validation::path_segment
    }
}

pub struct RoleBindingStrategy;

impl KindStrategy for RoleBindingStrategy {
    type Kind = RoleBinding;

    fn default(&self, binding: &mut RoleBinding) {
        fill_in(&mut binding.role_ref, &mut binding.subjects);
    }

    fn validate(&self, binding: &RoleBinding) -> Errors {
        let mut errors = role_ref(&binding.role_ref, &["Role", "ClusterRole"]);
        subjects(&binding.subjects, &mut errors);
        errors
    }

    fn validate_update(&self, new: &RoleBinding, old: &RoleBinding) -> Errors {
        same_role(&new.role_ref, &old.role_ref)
    }

    fn name_rule(&self) -> NameRule {
        validation::path_segment
    }
}

pub struct ClusterRoleBindingStrategy;

impl KindStrategy for ClusterRoleBindingStrategy {
    type Kind = ClusterRoleBinding;

    fn default(&self, binding: &mut ClusterRoleBinding) {
        fill_in(&mut binding.role_ref, &mut binding.subjects);
    }

    fn validate(&self, binding: &ClusterRoleBinding) -> Errors {
        let mut errors = role_ref(&binding.role_ref, &["ClusterRole"]);
        subjects(&binding.subjects, &mut errors);
        errors
    }

    fn validate_update(&self, new: &ClusterRoleBinding, old: &ClusterRoleBinding) -> Errors {
        same_role(&new.role_ref, &old.role_ref)
    }

    fn name_rule(&self) -> NameRule {
        validation::path_segment
    }
}
