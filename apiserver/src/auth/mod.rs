//! Who is asking, and may they?
//!
//! An identity comes from a bearer token (`tokens`), else from a client certificate (user = common name, groups =
//! organisations) or, inside one process, from the pipe; no credentials means anonymous, who sees health and version
//! only. What an identity may do is the sum of three: administrators may everything (`MASTERS`), a node what its Pods need (`node`, and `admission` for what it
//! writes), and everybody, components too, what RBAC's objects give them (`rbac`). Nothing takes a right away.
//!
//! The roles and bindings that every cluster has are made from tables (`rules`, `people`, `defaults`) at each start.

mod defaults;
mod escalation;
mod impersonation;
mod node;
mod people;
mod rbac;
mod rules;
pub mod tokens;

pub use defaults::{Mend, Mendable, mend, objects as default_objects};
pub use escalation::check as check_escalation;
pub use impersonation::impersonated;
pub use rbac::{Asked, Bound};

use crate::cache::Cache;
use crate::registry::{ApiError, ApiResult, Request};
use crate::resources::{Resource, Table};
use rbac::{Index, Rights};
use skiff_proto::rbacv1::PolicyRule;
use skiff_world::Identity;
use std::fmt;

/// Administrators' group.
pub const MASTERS: &str = "system:masters";
/// Nodes' group.
pub const NODES: &str = "system:nodes";
/// Proxies' group.
pub const PROXIES: &str = "system:node-proxier";
/// Who may read measurements, and nothing else.
pub const MONITORING: &str = "system:monitoring";
/// Everybody who is somebody.
pub const AUTHENTICATED: &str = "system:authenticated";
/// Everybody else.
pub const UNAUTHENTICATED: &str = "system:unauthenticated";

/// An identity that has been authenticated is in one more group.
pub fn authenticated(mut identity: Identity) -> Identity {
    if !identity.groups.iter().any(|g| g == AUTHENTICATED) {
        identity.groups.push(AUTHENTICATED.into());
    }
    identity
}

/// Who has shown no credentials.
pub fn anonymous() -> Identity {
    Identity::new("system:anonymous", &[UNAUTHENTICATED])
}

/// Whether this identity may do everything.
pub fn is_admin(identity: &Identity) -> bool {
    identity.groups.iter().any(|g| g == MASTERS)
}

/// The node's name, if this is a node's identity.
pub fn node_name(identity: &Identity) -> Option<&str> {
    let name = identity.user.strip_prefix("system:node:")?;
    identity.groups.iter().any(|g| g == NODES).then_some(name)
}

/// Why something is allowed.
#[derive(Clone, Debug)]
pub enum Grant {
    /// The identity may do everything.
    Administrator,
    /// A node may, within what its Pods need.
    Node,
    /// A role that is bound to it says so.
    Role(Bound),
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Administrator => write!(f, "allowed to the group {MASTERS:?}, which may do everything"),
            Self::Node => f.write_str("allowed to a node, for what its Pods need"),
            Self::Role(bound) => bound.fmt(f),
        }
    }
}

/// Decides who may do what.
pub struct Authorizer {
    cache: Cache,
    table: Table,
    rights: Rights,
}

/// By what an identity may do something; a node's own narrowing looks at the request itself, and comes after.
fn decide(index: &Index, identity: &Identity, asked: &Asked<'_>) -> Option<Grant> {
    if is_admin(identity) {
        return Some(Grant::Administrator);
    }
    if node_name(identity).is_some() && node::allows(asked) {
        return Some(Grant::Node);
    }
    index.allows(identity, asked).map(Grant::Role)
}

impl Authorizer {
    /// An authoriser by the objects in a cache: roles, bindings, and nodes' Pods.
    pub fn new(cache: Cache, table: Table) -> Self {
        let rights = Rights::follow(&cache, &table);
        Self { cache, table, rights }
    }

    /// Lets a request through and says why, or refuses it in words.
    pub fn authorize(&self, request: &Request) -> ApiResult<Grant> {
        let (resource, identity) = (&request.resource, &request.identity);
        let asked = Asked {
            verb: request.verb(),
            group: &resource.group,
            resource: &resource.resource,
            subresource: &request.subresource,
            namespace: &request.namespace,
            name: request.object_name(),
        };
        let grant = self.allow(identity, &asked, resource)?;
        if let (Grant::Node, Some(node)) = (&grant, node_name(identity))
            && let Err(refused) = node::narrow(&self.cache, &self.table, node, request)
        {
            // What a node may not as a node, it may still as somebody that a role is bound to.
            let bound = self.rights.read().allows(identity, &within(&asked));
            return bound.map(Grant::Role).ok_or(refused);
        }
        Ok(grant)
    }

    /// Lets a stream to a component through: `pods/log`, `pods/exec`, `pods/portforward`, `nodes/proxy`.
    pub fn authorize_stream(
        &self,
        identity: &Identity,
        resource: &Resource,
        subresource: &str,
        verb: &'static str,
        namespace: &str,
        name: &str,
    ) -> ApiResult<Grant> {
        let asked = Asked { verb, group: &resource.group, resource: &resource.resource, subresource, namespace, name };
        self.allow(identity, &asked, resource)
    }

    /// Lets a question about rights through, or refuses it in words.
    pub fn authorize_review(&self, identity: &Identity, asked: &Asked<'_>) -> ApiResult<()> {
        match self.decide(identity, asked) {
            Some(_) => Ok(()),
            None => Err(ApiError::forbidden_here(format!(
                "{}.{} is forbidden: User {:?} cannot {} resource {:?} in API group {:?}",
                asked.resource, asked.group, identity.user, asked.verb, asked.resource, asked.group
            ))),
        }
    }

    /// Lets a request for a path that is no resource through, or refuses it in words.
    pub fn authorize_path(&self, identity: &Identity, verb: &str, path: &str) -> ApiResult<()> {
        match self.decide_path(identity, verb, path) {
            Some(_) => Ok(()),
            None => Err(ApiError::forbidden_here(format!(
                "forbidden: User {:?} cannot {verb} path {path:?}: {}",
                identity.user,
                self.why_not(identity, "")
            ))),
        }
    }

    /// By what an identity may do something to a resource; a node's own narrowing looks at the request itself and is not
    /// in it.
    pub fn decide(&self, identity: &Identity, asked: &Asked<'_>) -> Option<Grant> {
        decide(&self.rights.read(), identity, &within(asked))
    }

    /// By what an identity may do something to a path that is no resource.
    pub fn decide_path(&self, identity: &Identity, verb: &str, path: &str) -> Option<Grant> {
        if is_admin(identity) {
            return Some(Grant::Administrator);
        }
        self.rights.read().allows_path(identity, verb, path).map(Grant::Role)
    }

    /// Everything that an identity holds in a namespace.
    pub fn rules(&self, identity: &Identity, namespace: &str) -> Vec<PolicyRule> {
        let mut rules = Vec::new();
        if is_admin(identity) {
            rules.extend(people::CLUSTER_ADMIN.iter().map(rules::Rule::policy));
        }
        if node_name(identity).is_some() {
            rules.extend(node::rules(namespace));
        }
        rules.extend(self.rights.read().rules(identity, namespace));
        rules
    }

    /// What a role gives; `""` is where ClusterRoles are. `None`: there is no such role.
    pub fn role(&self, namespace: &str, name: &str) -> Option<Vec<PolicyRule>> {
        self.rights.read().role(namespace, name).map(<[PolicyRule]>::to_vec)
    }

    /// Why an identity may not do something here, in words: what is bound to it is not enough, or leads nowhere.
    pub fn why_not(&self, identity: &Identity, namespace: &str) -> String {
        match self.rights.read().dangling(identity, namespace) {
            none if none.is_empty() => "no role that is bound to the user or its groups allows it".into(),
            dangling => format!("RBAC: {}", dangling.join(", ")),
        }
    }

    fn allow(&self, identity: &Identity, asked: &Asked<'_>, resource: &Resource) -> ApiResult<Grant> {
        if let Some(grant) = self.decide(identity, asked) {
            return Ok(grant);
        }
        let what = if asked.subresource.is_empty() {
            asked.resource.to_string()
        } else {
            format!("{}/{}", asked.resource, asked.subresource)
        };
        let place = match (resource.namespaced, asked.namespace) {
            (false, _) | (true, "") => "at the cluster scope".to_string(),
            (true, namespace) => format!("in the namespace {namespace:?}"),
        };
        let dangling = self.rights.read().dangling(identity, asked.namespace);
        let why = if dangling.is_empty() { String::new() } else { format!(": RBAC: {}", dangling.join(", ")) };
        Err(ApiError::forbidden(
            resource,
            asked.name,
            format!(
                "User {:?} cannot {} resource {what:?} in API group {:?} {place}{why}",
                identity.user, asked.verb, asked.group
            ),
        ))
    }
}

/// A namespace, asked for by name, lies within itself: a RoleBinding in it may give it.
fn within<'a>(asked: &Asked<'a>) -> Asked<'a> {
    let itself = asked.group.is_empty() && asked.resource == "namespaces" && asked.namespace.is_empty();
    Asked { namespace: if itself { asked.name } else { asked.namespace }, ..*asked }
}

#[cfg(test)]
impl Index {
    /// The index of what every cluster has.
    fn of_defaults() -> Self {
        let (mut index, all) = (Self::default(), defaults::objects());
        for role in all.cluster_roles {
            index.set_role("", &role.metadata.name, Some(role.rules));
        }
        for role in all.roles {
            index.set_role(&role.metadata.namespace, &role.metadata.name, Some(role.rules));
        }
        let of_cluster = all.cluster_role_bindings.into_iter().map(|b| (b.metadata, b.role_ref, b.subjects));
        let of_namespaces = all.role_bindings.into_iter().map(|b| (b.metadata, b.role_ref, b.subjects));
        for (meta, role, subjects) in of_cluster.chain(of_namespaces) {
            index.set_binding(rbac::Binding { namespace: meta.namespace, name: meta.name, role, subjects });
        }
        index
    }
}
