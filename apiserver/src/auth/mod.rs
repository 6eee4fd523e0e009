//! Who is asking, and may they?
//!
//! An identity comes from a client certificate (user = common name, groups = organisations) or, inside one process, from
//! the pipe; no credentials means anonymous, who sees health and version only. What an identity may do is a table built
//! in per component (`rules`); a node's reads are narrowed further to what its Pods need (`node`), and its writes to its
//! own (`admission`).

mod node;
mod rules;

pub use rules::{Asked as Question, listed as rules_of};

use crate::cache::Cache;
use crate::registry::{ApiError, ApiResult, Request};
use crate::resources::{Resource, Table};
use skiff_world::Identity;

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

/// An identity that has been authenticated is in one more group.
pub fn authenticated(mut identity: Identity) -> Identity {
    if !identity.groups.iter().any(|g| g == AUTHENTICATED) {
        identity.groups.push(AUTHENTICATED.into());
    }
    identity
}

/// Whether this identity may do everything.
pub fn is_admin(identity: &Identity) -> bool {
    identity.user == "system:apiserver" || identity.groups.iter().any(|g| g == MASTERS)
}

/// Whether this identity may read measurements of the control plane; those of nodes are `nodes/metrics`.
pub fn may_read_metrics(identity: &Identity) -> bool {
    is_admin(identity) || identity.groups.iter().any(|g| g == MONITORING)
}

/// The node's name, if this is a node's identity.
pub fn node_name(identity: &Identity) -> Option<&str> {
    let name = identity.user.strip_prefix("system:node:")?;
    identity.groups.iter().any(|g| g == NODES).then_some(name)
}

/// Decides who may do what.
pub struct Authorizer {
    cache: Cache,
    table: Table,
}

impl Authorizer {
    /// An authoriser that looks nodes' Pods up in the cache.
    pub fn new(cache: Cache, table: Table) -> Self {
        Self { cache, table }
    }

    /// Lets a request through, or refuses it in words.
    pub fn authorize(&self, request: &Request) -> ApiResult<()> {
        let asked = rules::Asked {
            verb: request.verb(),
            group: &request.resource.group,
            resource: &request.resource.resource,
            subresource: &request.subresource,
            namespace: &request.namespace,
            name: &request.name,
        };
        self.allow(&request.identity, &asked, &request.resource)?;
        if let Some(node) = node_name(&request.identity) {
            node::narrow(&self.cache, &self.table, node, request)?;
        }
        Ok(())
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
    ) -> ApiResult<()> {
        let asked =
            rules::Asked { verb, group: &resource.group, resource: &resource.resource, subresource, namespace, name };
        self.allow(identity, &asked, resource)
    }

    /// Whether the tables let an identity do something; a node's own narrowing looks at the request itself and is not
    /// in them.
    pub fn may(&self, identity: &Identity, question: &Question<'_>) -> bool {
        rules::allows(identity, question)
    }

    fn allow(&self, identity: &Identity, asked: &rules::Asked<'_>, resource: &Resource) -> ApiResult<()> {
        if rules::allows(identity, asked) {
            return Ok(());
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
        Err(ApiError::forbidden(
            resource,
            asked.name,
            format!(
                "User {:?} cannot {} resource {what:?} in API group {:?} {place}",
                identity.user, asked.verb, asked.group
            ),
        ))
    }
}
