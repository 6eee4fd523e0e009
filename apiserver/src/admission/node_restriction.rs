//! NodeRestriction: what a node may write, beyond the table of `auth::rules`: its own Node and Lease, the status and the end of the Pods
//! bound to it, and Events about what happens on it. No owner references
//! (but a Lease's, to its own Node), never another node's.

use super::{Facts, Plugin, Verb};
use crate::registry::{ApiError, ApiResult, Beside};
use crate::resources::{Object, Typed};
use skiff_proto::corev1::{Event, Node, Pod};
use skiff_proto::metav1::OwnerReference;

/// Labels that only the cluster's administrators put on nodes, so that Pods can be kept away from a node that lies.
const RESERVED_LABELS: &str = "node-restriction.kubernetes.io/";
const LEASES: &str = "kube-node-lease";

pub struct NodeRestriction;

impl Plugin for NodeRestriction {
    fn check(&self, facts: &Facts<'_>, new: Option<&dyn Object>, _beside: &mut Beside) -> ApiResult<()> {
        crate::auth::node_name(facts.identity).map_or(Ok(()), |node| its_own(node, facts, new))
    }
}

/// Refuses a node's write of anything that is not its own.
fn its_own(node: &str, facts: &Facts<'_>, new: Option<&dyn Object>) -> ApiResult<()> {
    let (resource, old) = (facts.resource, facts.old);
    let refuse = |why: String| Err(ApiError::forbidden(resource, facts.name, format!("node {node:?} {why}")));
    if let Some(object) = new {
        let before = old.map(|o| o.meta().owner_references.as_slice()).unwrap_or_default();
        let now = object.meta().owner_references.as_slice();
        // A Lease may go with its Node; nothing else may be made to go with anything.
        let its_node = |owner: &OwnerReference| owner.kind == "Node" && owner.api_version == "v1" && owner.name == node;
        if now != before && !(resource.resource == "leases" && now.iter().all(its_node)) {
            return refuse("may not set or change metadata.ownerReferences".into());
        }
    }
    let object = new.or(old);
    match resource.resource.as_str() {
        "nodes" => own_node(node, new, old).or_else(refuse),
        "leases" => match object.map(|o| o.meta()) {
            Some(meta) if meta.namespace == LEASES && meta.name == node => Ok(()),
            _ => refuse(format!("may only write its own Lease, {LEASES}/{node}")),
        },
        "pods" => own_pod(node, facts).or_else(refuse),
        "events" => match object.and_then(|o| o.as_any().downcast_ref::<Typed<Event>>()) {
            Some(Typed(event)) if [node, ""].contains(&event.source.host.as_str()) => Ok(()),
            _ => refuse("may only write Events whose source.host is itself".into()),
        },
        _ => Ok(()),
    }
}

fn own_node(node: &str, new: Option<&dyn Object>, old: Option<&dyn Object>) -> Result<(), String> {
    let name = new.or(old).map(|o| o.meta().name.as_str()).unwrap_or_default();
    if name != node {
        return Err(format!("may only write its own Node, not {name:?}"));
    }
    let Some(new) = new else { return Err("may not delete its Node".into()) };
    let labels = |object: &dyn Object| {
        let reserved = object.meta().labels.iter().filter(|(key, _)| key.contains(RESERVED_LABELS));
        reserved.map(|(k, v)| (k.clone(), v.clone())).collect::<Vec<_>>()
    };
    if labels(new) != old.map(labels).unwrap_or_default() {
        return Err(format!("may not set or change labels under {RESERVED_LABELS}"));
    }
    let spec = |object: &dyn Object| object.as_any().downcast_ref::<Typed<Node>>().map(|typed| typed.0.spec.clone());
    if let (Some(new), Some(Some(old))) = (spec(new), old.map(spec)) {
        if new.taints != old.taints {
            return Err("may not change its own taints".into());
        }
        if new.pod_cidrs != old.pod_cidrs || new.pod_cidr != old.pod_cidr {
            return Err("may not change its own podCIDR".into());
        }
    }
    Ok(())
}

fn own_pod(node: &str, facts: &Facts<'_>) -> Result<(), String> {
    let Some(Typed(pod)) = facts.old.and_then(|o| o.as_any().downcast_ref::<Typed<Pod>>()) else {
        return Err("may not create Pods".into());
    };
    if pod.spec.node_name != node {
        return Err(format!("may only write Pods bound to itself; this one is bound to {:?}", pod.spec.node_name));
    }
    match (facts.verb, facts.subresource) {
        (Verb::Delete, "") | (_, "status" | "eviction") => Ok(()),
        _ => Err("may only write the status of its Pods, and delete them".into()),
    }
}
