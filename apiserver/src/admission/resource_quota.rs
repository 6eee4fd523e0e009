//! ResourceQuota: a namespace gets no more than its quotas give. The last of the chain: nothing else may refuse what has
//! been charged.
//!
//! What an object counts for is charged to every quota that limits it, *in the same transaction* as the object's own
//! write: all of them or none, and none without the object. A quota that has changed meanwhile, because another server
//! charged it, lets the whole write be worked out again. So nothing leaks by a crash, and however many servers create at once, they never
//! give more than there is.
//!
//! Three things make this airtight, and the status true:
//!
//! - what makes a count larger has to change the quota; what makes it smaller (a Pod goes, or ends) does not. Whoever
//!   writes a quota's status has it counted here, from one revision of the cache no older than the quota, and written onto
//!   the very quota that was read. So a count may be too large for a moment, and never too small;
//! - a quota that has not been counted yet refuses what it limits, as in Kubernetes;
//! - the write that makes a quota also touches its namespace, on which every create stands: those that are under way
//!   and know nothing of the quota are worked out again.

use super::{Cluster, Facts, Plugin, Verb};
use crate::registry::{Also, ApiError, ApiResult, Beside};
use crate::resources::{Object, Typed};
use prost::Message;
use skiff_proto::Quantity;
use skiff_proto::corev1::{Namespace, Pod, ResourceQuota as Quota, ResourceQuotaStatus, Service};
use skiff_proto::quota::{self, Amounts};

pub struct ResourceQuota;

impl Plugin for ResourceQuota {
    /// Whoever has a quota counted has seen something go, perhaps through another server.
    fn needs_newest(&self, facts: &Facts<'_>) -> bool {
        facts.verb == Verb::Update && facts.subresource == "status" && facts.resource.kind == "ResourceQuota"
    }

    fn mutate(&self, facts: &Facts<'_>, new: &mut dyn Object) -> ApiResult<()> {
        let old = facts.old.and_then(|o| o.as_any().downcast_ref::<Typed<Quota>>());
        if let Some(Typed(old)) = old.filter(|_| self.needs_newest(facts))
            && let Some(Typed(quota)) = new.as_any_mut().downcast_mut::<Typed<Quota>>()
        {
            quota.status = counted(&facts.cluster, old)?;
        }
        Ok(())
    }

    fn check(&self, facts: &Facts<'_>, new: Option<&dyn Object>, beside: &mut Beside) -> ApiResult<()> {
        let Some(new) = new.filter(|_| facts.resource.namespaced && facts.subresource.is_empty()) else {
            return Ok(());
        };
        let namespace = new.meta().namespace.as_str();
        let before = match facts.verb {
            Verb::Create => None,
            // Of what is there already only these can come to count for more.
            Verb::Update if as_pod(new).is_some() || as_service(new).is_some() => facts.old,
            _ => return Ok(()),
        };
        for entry in facts.cluster.entries::<Quota>(namespace)? {
            let quota: Quota = super::cluster::decode(&entry)?;
            let refuse = |why| ApiError::forbidden(facts.resource, &new.meta().name, why);
            if let Some(pod) = as_pod(new).filter(|_| before.is_none()) {
                says_enough(&quota, pod).map_err(refuse)?;
            }
            let added = increase(facts, &quota, before, new);
            if added.is_empty() {
                continue;
            }
            let charged = charge(&quota, &added).map_err(refuse)?;
            let key = facts.cluster.resource::<Quota>()?.key(namespace, entry.name());
            beside.also.push(Also { key, object: charged.encode_to_vec().into(), revision: entry.mod_revision });
        }
        if facts.is(Verb::Create, "", "ResourceQuota")
            && let Some(entry) = facts.cluster.entry::<Namespace>("", namespace)?
        {
            let key = facts.cluster.resource::<Namespace>()?.key("", namespace);
            beside.also.push(Also { key, object: entry.stored().clone(), revision: entry.mod_revision });
        }
        Ok(())
    }
}

fn as_pod(object: &dyn Object) -> Option<&Pod> {
    object.as_any().downcast_ref::<Typed<Pod>>().map(|typed| &typed.0)
}

fn as_service(object: &dyn Object) -> Option<&Service> {
    object.as_any().downcast_ref::<Typed<Service>>().map(|typed| &typed.0)
}

/// What an object counts for in a quota.
fn usage(group: &str, resource: &str, quota: &Quota, object: &dyn Object) -> Amounts {
    let scoped = !quota.spec.scopes.is_empty() || quota.spec.scope_selector.is_some();
    let all = match (as_pod(object), as_service(object)) {
        (Some(pod), _) if quota::matches(quota, pod) => quota::of_pod(pod),
        (Some(_), _) => Amounts::new(),
        _ if scoped => Amounts::new(),
        (None, Some(service)) => quota::of_service(service),
        (None, None) => quota::of_object(group, resource),
    };
    quota::limited(&all, &quota.spec.hard).map(|(name, amount)| (name.clone(), *amount)).collect()
}

/// By how much a write makes what counts in a quota more.
fn increase(facts: &Facts<'_>, quota: &Quota, before: Option<&dyn Object>, new: &dyn Object) -> Amounts {
    let (group, resource) = (facts.resource.group.as_str(), facts.resource.resource.as_str());
    let mut added = usage(group, resource, quota, new);
    let had = before.map(|old| usage(group, resource, quota, old)).unwrap_or_default();
    for (name, amount) in &mut added {
        *amount -= had.get(name).copied().unwrap_or_default();
    }
    added.retain(|_, amount| *amount > Quantity::default());
    added
}

/// A Pod must say how much it asks for of what its quota limits.
fn says_enough(quota: &Quota, pod: &Pod) -> Result<(), String> {
    match quota::missing(&pod.spec, &quota.spec.hard).filter(|_| quota::matches(quota, pod)) {
        Some(missing) => Err(format!("failed quota: {}: must specify {missing}", quota.metadata.name)),
        None => Ok(()),
    }
}

/// The quota with what is added, or why it cannot be.
fn charge(quota: &Quota, added: &Amounts) -> Result<Quota, String> {
    let name = &quota.metadata.name;
    let (hard, used) = (&quota.status.hard, &quota.status.used);
    let unknown: Vec<&str> =
        added.keys().filter(|n| !hard.contains_key(*n) || !used.contains_key(*n)).map(String::as_str).collect();
    if !unknown.is_empty() {
        return Err(format!("status unknown for quota: {name}, resources: {}", unknown.join(",")));
    }
    let mut charged = quota.clone();
    quota::add(&mut charged.status.used, added);
    let exceeded: Vec<&String> = added.keys().filter(|n| charged.status.used[*n] > hard[*n]).collect();
    if exceeded.is_empty() {
        charged.metadata.resource_version.clear();
        return Ok(charged);
    }
    let of = |amounts: &Amounts| quota::print(exceeded.iter().map(|n| (*n, &amounts[*n])));
    Err(format!("exceeded quota: {name}, requested: {}, used: {}, limited: {}", of(added), of(used), of(hard)))
}

/// What a namespace has of what a quota limits, by the cache as it is now.
fn counted(cluster: &Cluster<'_>, quota: &Quota) -> ApiResult<ResourceQuotaStatus> {
    let namespace = quota.metadata.namespace.as_str();
    let hard = quota.spec.hard.clone();
    let mut used: Amounts = hard.keys().map(|name| (name.clone(), Quantity::default())).collect();
    let mut count = |usage: Amounts| {
        for (name, amount) in usage {
            *used.entry(name).or_default() += amount;
        }
    };
    let limits = |group: &str, resource: &str| quota::concerns(quota, group, resource);
    if limits("", "pods") {
        for pod in cluster.list::<Pod>(namespace)? {
            count(usage("", "pods", quota, &Typed(pod)));
        }
    }
    if limits("", "services") {
        for service in cluster.list::<Service>(namespace)? {
            count(usage("", "services", quota, &Typed(service)));
        }
    }
    for resource in cluster.namespaced() {
        let (group, plural) = (resource.group.as_str(), resource.resource.as_str());
        let counts_itself = group.is_empty() && matches!(plural, "pods" | "services");
        if counts_itself || !limits(group, plural) {
            continue;
        }
        let there = i64::try_from(cluster.count(&resource, namespace)?).unwrap_or(i64::MAX);
        for (name, _) in quota::limited(&quota::of_object(group, plural), &hard) {
            count(Amounts::from([(name.clone(), Quantity::from_value(there))]));
        }
    }
    Ok(ResourceQuotaStatus { hard, used })
}

#[cfg(test)]
mod tests {
    use super::*;
    use skiff_proto::corev1::Container;

    fn amounts(list: &[(&str, &str)]) -> Amounts {
        list.iter().map(|(name, amount)| ((*name).to_string(), amount.parse().expect("a quantity"))).collect()
    }

    fn quota(hard: &[(&str, &str)], used: &[(&str, &str)]) -> Quota {
        let mut quota = Quota::default();
        quota.metadata.name = "compute".into();
        quota.spec.hard = amounts(hard);
        quota.status = ResourceQuotaStatus { hard: amounts(hard), used: amounts(used) };
        quota
    }

    #[test]
    fn a_charge_is_granted_or_refused_in_kubernetes_words() {
        let hard = [("limits.cpu", "2"), ("pods", "3")];
        let counted = quota(&hard, &[("limits.cpu", "1500m"), ("pods", "2")]);
        let mut fresh = quota(&hard, &[]);
        fresh.status = ResourceQuotaStatus::default();
        let table = [
            (&counted, vec![("limits.cpu", "500m"), ("pods", "1")], Ok("limits.cpu=2,pods=3")),
            (&counted, vec![("pods", "1")], Ok("limits.cpu=1500m,pods=3")),
            (
                &counted,
                vec![("limits.cpu", "600m"), ("pods", "1")],
                Err(
                    "exceeded quota: compute, requested: limits.cpu=600m, used: limits.cpu=1500m, limited: limits.cpu=2",
                ),
            ),
            (
                &counted,
                vec![("limits.cpu", "1"), ("pods", "2")],
                Err("exceeded quota: compute, requested: limits.cpu=1,pods=2, used: limits.cpu=1500m,pods=2, \
                     limited: limits.cpu=2,pods=3"),
            ),
            (
                &fresh,
                vec![("limits.cpu", "1"), ("pods", "1")],
                Err("status unknown for quota: compute, resources: limits.cpu,pods"),
            ),
        ];
        for (quota, added, expected) in table {
            let charged = charge(quota, &amounts(&added)).map(|q| quota::print(&q.status.used));
            assert_eq!(charged.as_deref().map_err(String::as_str), expected);
        }
    }

    #[test]
    fn a_pod_has_to_say_what_its_quota_limits() {
        let mut pod = Pod::default();
        pod.spec.containers.push(Container { name: "app".into(), ..Container::default() });
        let mut quota = quota(&[("limits.cpu", "2")], &[("limits.cpu", "0")]);
        let refused = says_enough(&quota, &pod).expect_err("it says nothing");
        assert_eq!(refused, "failed quota: compute: must specify limits.cpu for: app");
        quota.spec.scopes = vec!["NotBestEffort".into()];
        says_enough(&quota, &pod).expect("the quota is not for it");
    }
}
