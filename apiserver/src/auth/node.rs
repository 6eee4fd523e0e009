//! What a node may read: what the Pods bound to it need, and nothing of others.
//!
//! Nodes, Services and EndpointSlices are open to every node (routes and environment variables are made of them). Pods
//! must be selected by `spec.nodeName` or be its own. A ConfigMap, Secret or ServiceAccount must be named by one of its
//! Pods; a list or watch of them must ask for one by name.

use super::rbac::{self, Asked};
use super::rules::NODE;
use crate::cache::{Cache, ListOptions};
use crate::registry::{ApiError, ApiResult, Operation, Request};
use crate::resources::{Table, Typed};
use skiff_proto::corev1::{Pod, PodSpec};
use skiff_proto::rbacv1::PolicyRule;
use std::sync::{Arc, LazyLock};

/// What a node may do at all, each rule with the namespace that it ends at.
static RULES: LazyLock<Vec<(Option<&'static str>, PolicyRule)>> =
    LazyLock::new(|| NODE.iter().map(|rule| (rule.namespace, rule.policy())).collect());

/// Whether a node may do something at all.
pub fn allows(asked: &Asked<'_>) -> bool {
    let here = |only: &Option<&str>| only.is_none_or(|only| only == asked.namespace);
    RULES.iter().any(|(only, rule)| here(only) && rbac::allows(rule, asked))
}

/// What a node may do in a namespace.
pub fn rules(namespace: &str) -> impl Iterator<Item = PolicyRule> {
    RULES.iter().filter(move |(only, _)| only.is_none_or(|only| only == namespace)).map(|(_, rule)| rule.clone())
}

/// Refuses a node's read of what its Pods do not need.
pub fn narrow(cache: &Cache, table: &Table, node: &str, request: &Request) -> ApiResult<()> {
    if request.is_write() {
        return Ok(());
    }
    let refuse = |why: &str| Err(ApiError::forbidden(&request.resource, &request.name, format!("node {node:?} {why}")));
    // The one object a request is about, if it is about one.
    let wanted = Some(request.object_name()).filter(|name| !name.is_empty());
    match request.resource.resource.as_str() {
        "pods" => {
            let own = selects_own_pods(request.field_selector(), node)
                || matches!(request.operation, Operation::Get) && is_own_pod(cache, table, node, request);
            if own { Ok(()) } else { refuse("may only read Pods bound to itself; select them by spec.nodeName") }
        }
        "leases" if wanted != Some(node) => refuse("may only read its own Lease"),
        kind @ ("configmaps" | "secrets" | "serviceaccounts") => {
            let Some(name) = wanted else {
                return refuse("may only read one object of this kind at a time; select it by metadata.name");
            };
            let needed = pods_of(cache, table, node, &request.namespace).iter().any(|pod| names(&pod.spec, kind, name));
            if needed { Ok(()) } else { refuse("may only read what a Pod bound to it refers to") }
        }
        _ => Ok(()),
    }
}

fn selects_own_pods(selector: &str, node: &str) -> bool {
    let mut parts = selector.split(',');
    parts
        .any(|part| part.trim().strip_prefix("spec.nodeName=").is_some_and(|name| name.trim_start_matches('=') == node))
}

fn is_own_pod(cache: &Cache, table: &Table, node: &str, request: &Request) -> bool {
    let Some(resource) = table.get("", "v1", "pods") else { return false };
    let entry = cache.get(resource.cached(), &request.namespace, &request.name);
    entry.is_some_and(|entry| entry.field("spec.nodeName") == Some(node))
}

/// The Pods bound to a node in a namespace.
fn pods_of(cache: &Cache, table: &Table, node: &str, namespace: &str) -> Vec<Pod> {
    let Some(resource) = table.get("", "v1", "pods") else { return Vec::new() };
    let mut pods = Vec::new();
    let bound_to = node.to_string();
    let options = ListOptions {
        namespace: namespace.into(),
        filter: Some(Arc::new(move |entry| entry.field("spec.nodeName") == Some(bound_to.as_str()))),
        ..Default::default()
    };
    let Ok(page) = cache.list(resource.cached(), &options) else { return Vec::new() };
    for entry in page.entries {
        let decoded = resource.strategy.decode(entry.stored(), entry.content_type().as_str());
        if let Some(Typed(pod)) = decoded.ok().as_ref().and_then(|d| d.object.as_any().downcast_ref::<Typed<Pod>>()) {
            pods.push(pod.clone());
        }
    }
    pods
}

/// Whether a Pod refers to an object.
fn names(spec: &PodSpec, kind: &str, name: &str) -> bool {
    if kind == "serviceaccounts" {
        return spec.service_account_name == name;
    }
    let secrets = kind == "secrets";
    let in_containers = spec.init_containers.iter().chain(&spec.containers).any(|c| {
        let from = c.env_from.iter().any(|from| {
            if secrets {
                from.secret_ref.as_ref().is_some_and(|r| r.local_object_reference.name == name)
            } else {
                from.config_map_ref.as_ref().is_some_and(|r| r.local_object_reference.name == name)
            }
        });
        let vars = c.env.iter().filter_map(|var| var.value_from.as_ref()).any(|source| {
            if secrets {
                source.secret_key_ref.as_ref().is_some_and(|r| r.local_object_reference.name == name)
            } else {
                source.config_map_key_ref.as_ref().is_some_and(|r| r.local_object_reference.name == name)
            }
        });
        from || vars
    });
    let in_volumes = spec.volumes.iter().map(|v| &v.volume_source).any(|source| {
        let projected = source.projected.iter().flat_map(|p| &p.sources);
        if secrets {
            source.secret.as_ref().is_some_and(|s| s.secret_name == name)
                || projected
                    .into_iter()
                    .filter_map(|p| p.secret.as_ref())
                    .any(|s| s.local_object_reference.name == name)
        } else {
            source.config_map.as_ref().is_some_and(|c| c.local_object_reference.name == name)
                || projected
                    .into_iter()
                    .filter_map(|p| p.config_map.as_ref())
                    .any(|c| c.local_object_reference.name == name)
        }
    });
    let pulls = secrets && spec.image_pull_secrets.iter().any(|s| s.name == name);
    in_containers || in_volumes || pulls
}
