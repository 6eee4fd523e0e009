//! Nobody gives away what they do not hold: a role is written only by whoever holds all that it gives, or may `escalate`
//! it; a binding only by whoever holds all that its role gives, or may `bind` that role.

use super::rbac::{Asked, GROUP, missing};
use super::{Authorizer, is_admin, people, rules};
use crate::registry::{ApiError, ApiResult, Request};
use crate::resources::{Object, Typed};
use skiff_proto::metav1::ObjectMeta;
use skiff_proto::rbacv1::{ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef};
use skiff_proto::{Kind, metav1};
use skiff_world::Identity;

/// Refuses a write of a role or binding that gives away more than its writer holds.
pub fn check(authorizer: &Authorizer, request: &Request, new: &dyn Object, old: Option<&dyn Object>) -> ApiResult<()> {
    let resource = &request.resource;
    if resource.group != GROUP || is_admin(&request.identity) || old.is_some_and(|old| gives_the_same(new, old)) {
        return Ok(());
    }
    let writer = Writer { authorizer, request, namespace: &new.meta().namespace, name: &new.meta().name };
    if let Some(role) = typed::<Role>(new) {
        return writer.write_role("roles", &role.rules);
    }
    if let Some(role) = typed::<ClusterRole>(new) {
        let was_sum = old.and_then(typed::<ClusterRole>).is_some_and(|old| old.aggregation_rule.is_some());
        if role.aggregation_rule.is_none() && !was_sum {
            return writer.write_role("clusterroles", &role.rules);
        }
        // What the sum will be, nobody knows: only who holds everything holds it for sure.
        let everything: Vec<PolicyRule> = people::CLUSTER_ADMIN.iter().map(rules::Rule::policy).collect();
        return writer.write_role("clusterroles", &everything).map_err(|_| {
            ApiError::forbidden(resource, writer.name, "must have cluster-admin privileges to use the aggregationRule")
        });
    }
    if let Some(binding) = typed::<RoleBinding>(new) {
        return writer.bind(&binding.role_ref);
    }
    if let Some(binding) = typed::<ClusterRoleBinding>(new) {
        return writer.bind(&binding.role_ref);
    }
    Ok(())
}

fn typed<K: Kind>(object: &dyn Object) -> Option<&K> {
    object.as_any().downcast_ref::<Typed<K>>().map(|typed| &typed.0)
}

/// Whether a change is one of bookkeeping only, as garbage collection makes them. Labels count: by them a role becomes
/// part of others.
fn gives_the_same(new: &dyn Object, old: &dyn Object) -> bool {
    fn same<K: Kind + PartialEq>(new: &dyn Object, old: &dyn Object) -> Option<bool> {
        let bare = |object: &K| {
            let meta = object.metadata();
            let kept = ObjectMeta {
                labels: meta.labels.clone(),
                annotations: meta.annotations.clone(),
                ..metav1::ObjectMeta::default()
            };
            let mut bare = object.clone();
            *bare.metadata_mut() = kept;
            bare
        };
        Some(bare(typed::<K>(new)?) == bare(typed::<K>(old)?))
    }
    let of_roles = same::<Role>(new, old).or_else(|| same::<ClusterRole>(new, old));
    let of_all = of_roles.or_else(|| same::<RoleBinding>(new, old)).or_else(|| same::<ClusterRoleBinding>(new, old));
    of_all.unwrap_or(false)
}

/// Who writes what.
struct Writer<'a> {
    authorizer: &'a Authorizer,
    request: &'a Request,
    namespace: &'a str,
    name: &'a str,
}

impl Writer<'_> {
    fn may(&self, verb: &str, resource: &str, name: &str) -> bool {
        let asked = Asked { verb, group: GROUP, resource, subresource: "", namespace: self.namespace, name };
        self.authorizer.decide(&self.request.identity, &asked).is_some()
    }

    fn write_role(&self, resource: &str, rules: &[PolicyRule]) -> ApiResult<()> {
        if self.may("escalate", resource, self.name) {
            return Ok(());
        }
        self.holds(rules)
    }

    fn bind(&self, role: &RoleRef) -> ApiResult<()> {
        let (resource, namespace) = match role.kind.as_str() {
            "ClusterRole" => ("clusterroles", ""),
            _ => ("roles", self.namespace),
        };
        if self.may("bind", resource, &role.name) {
            return Ok(());
        }
        let Some(rules) = self.authorizer.role(namespace, &role.name) else {
            return Err(ApiError::forbidden(
                &self.request.resource,
                self.name,
                format!(
                    "{resource}.{GROUP} {:?} not found: what it gives is not known, and only who may `bind` it may bind it",
                    role.name
                ),
            ));
        };
        self.holds(&rules)
    }

    /// Refuses what is not held, and says what.
    fn holds(&self, wanted: &[PolicyRule]) -> ApiResult<()> {
        let identity = &self.request.identity;
        let held = self.authorizer.rules(identity, self.namespace);
        let lacking: Vec<String> =
            wanted.iter().flat_map(|rule| missing(&held, rule)).map(|rule| shown(&rule)).collect();
        if lacking.is_empty() {
            return Ok(());
        }
        let why = format!(
            "{} is attempting to grant RBAC permissions not currently held:\n{}",
            whoever(identity),
            lacking.join("\n")
        );
        Err(ApiError::forbidden(&self.request.resource, self.name, why))
    }
}

fn whoever(identity: &Identity) -> String {
    format!("user {:?} (groups={})", identity.user, quoted(&identity.groups))
}

fn quoted(list: &[String]) -> String {
    let words: Vec<String> = list.iter().map(|word| format!("{word:?}")).collect();
    format!("[{}]", words.join(" "))
}

fn shown(rule: &PolicyRule) -> String {
    let parts = [
        ("APIGroups", &rule.api_groups),
        ("Resources", &rule.resources),
        ("ResourceNames", &rule.resource_names),
        ("NonResourceURLs", &rule.non_resource_urls),
        ("Verbs", &rule.verbs),
    ];
    let parts: Vec<String> = parts
        .iter()
        .filter(|(_, list)| !list.is_empty())
        .map(|(title, list)| format!("{title}:{}", quoted(list)))
        .collect();
    format!("{{{}}}", parts.join(", "))
}
