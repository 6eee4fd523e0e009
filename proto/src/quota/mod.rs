//! What objects count for in a ResourceQuota: pure, and the same for who charges it (the API server) and who shows it.
//!
//! An object has a *usage*: amounts by the names that quotas use. A quota limits some of these names (`hard`), perhaps
//! only for some Pods (scopes). Kubernetes' rules, read off its behaviour:
//!
//! - every object counts one for `count/RESOURCE.GROUP`; some of the core group also have an older name (`configmaps`);
//! - a Service counts for `services.nodeports` and `services.loadbalancers` too;
//! - a Pod counts for `pods` and for what it asks for until it has ended; for `count/pods` as long as it is there.

mod pod;
mod scopes;

pub use pod::{limits as pod_limits, missing, requests as pod_requests};
pub use scopes::{is_best_effort, matches};

use crate::Quantity;
use crate::corev1::{Pod, ResourceQuota, Service};
use std::collections::BTreeMap;

/// Amounts by name.
pub type Amounts = BTreeMap<String, Quantity>;

/// Resources of the core group that have a name in quotas beside `count/...`.
const OLD_NAMES: &[&str] =
    &["configmaps", "persistentvolumeclaims", "replicationcontrollers", "resourcequotas", "secrets", "services"];

/// The name under which the objects of a resource are counted: `count/deployments.apps`.
pub fn count_name(group: &str, resource: &str) -> String {
    if group.is_empty() { format!("count/{resource}") } else { format!("count/{resource}.{group}") }
}

fn one() -> Quantity {
    Quantity::from_value(1)
}

/// What any object but a Pod or a Service counts for, by its resource alone.
pub fn of_object(group: &str, resource: &str) -> Amounts {
    let mut usage = Amounts::from([(count_name(group, resource), one())]);
    if group.is_empty() && OLD_NAMES.contains(&resource) {
        usage.insert(resource.into(), one());
    }
    usage
}

/// What a Service counts for.
pub fn of_service(service: &Service) -> Amounts {
    let spec = &service.spec;
    let mut usage = of_object("", "services");
    let ports = i64::try_from(spec.ports.len()).unwrap_or(i64::MAX);
    match spec.r#type.as_str() {
        "NodePort" => {
            usage.insert("services.nodeports".into(), Quantity::from_value(ports));
        }
        "LoadBalancer" => {
            // One without node ports of its own counts those that it asks for by number.
            let allocates = spec.allocate_load_balancer_node_ports != Some(false);
            let asked = spec.ports.iter().filter(|port| port.node_port != 0).count();
            let ports = if allocates { ports } else { i64::try_from(asked).unwrap_or(i64::MAX) };
            usage.insert("services.nodeports".into(), Quantity::from_value(ports));
            usage.insert("services.loadbalancers".into(), one());
        }
        _ => {}
    }
    usage
}

/// What a Pod counts for.
pub fn of_pod(pod: &Pod) -> Amounts {
    let mut usage = of_object("", "pods");
    if !matches!(pod.status.phase.as_str(), "Succeeded" | "Failed") {
        usage.insert("pods".into(), one());
        usage.append(&mut pod::usage(&pod.spec));
    }
    usage
}

/// Of what an object counts for, the part that a quota limits.
pub fn limited<'a>(usage: &'a Amounts, hard: &Amounts) -> impl Iterator<Item = (&'a String, &'a Quantity)> {
    usage.iter().filter(|(name, _)| hard.contains_key(*name))
}

/// Whether a quota limits anything that objects of a resource may count for.
pub fn concerns(quota: &ResourceQuota, group: &str, resource: &str) -> bool {
    let scoped = !quota.spec.scopes.is_empty() || quota.spec.scope_selector.is_some();
    let hard = &quota.spec.hard;
    match (group, resource) {
        ("", "pods") => hard.keys().any(|name| is_of_pods(name)),
        _ if scoped => false,
        ("", "services") => hard.keys().any(|name| name.starts_with("services") || name == "count/services"),
        _ => of_object(group, resource).keys().any(|name| hard.contains_key(name)),
    }
}

/// Whether it is Pods that count under a name.
pub fn is_of_pods(name: &str) -> bool {
    matches!(name, "pods" | "count/pods") || is_compute(name)
}

/// Whether a name is of what Pods ask for.
pub fn is_compute(name: &str) -> bool {
    let asked = name.strip_prefix("requests.").or_else(|| name.strip_prefix("limits."));
    match asked {
        // Claims count for storage, not Pods.
        Some("storage") => false,
        Some(_) => true,
        None => matches!(name, "cpu" | "memory" | "ephemeral-storage") || name.starts_with("hugepages-"),
    }
}

/// Whether a Service's usage or an object count must be a whole number.
pub fn is_whole(name: &str) -> bool {
    !is_compute(name) || name.contains('/')
}

/// Adds amounts.
pub fn add(to: &mut Amounts, usage: &Amounts) {
    for (name, amount) in usage {
        *to.entry(name.clone()).or_default() += *amount;
    }
}

/// Amounts as Kubernetes' refusals write them: `limits.cpu=1,pods=2`.
pub fn print<'a>(amounts: impl IntoIterator<Item = (&'a String, &'a Quantity)>) -> String {
    let parts: Vec<String> = amounts.into_iter().map(|(name, amount)| format!("{name}={amount}")).collect();
    parts.join(",")
}

#[cfg(test)]
mod tests;
