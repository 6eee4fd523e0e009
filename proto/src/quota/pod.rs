//! What a Pod asks for: its containers run together; its init containers one after the other, beside the sidecars that
//! were started before them.

use super::Amounts;
use crate::Quantity;
use crate::corev1::{Container, PodSpec};
use std::collections::{BTreeMap, BTreeSet};

/// Resources that every container must say something about where a quota limits them.
const MUST_SAY: &[&str] = &["cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"];

/// All that a Pod requests.
pub fn requests(spec: &PodSpec) -> Amounts {
    together(spec, |container| &container.resources.requests, true)
}

/// All that limits a Pod.
pub fn limits(spec: &PodSpec) -> Amounts {
    together(spec, |container| &container.resources.limits, false)
}

fn together(spec: &PodSpec, of: impl Fn(&Container) -> &BTreeMap<String, Quantity>, bare: bool) -> Amounts {
    let is_sidecar = |container: &Container| container.restart_policy.as_deref() == Some("Always");
    let (mut running, mut sidecars, mut starting) = (Amounts::new(), Amounts::new(), Amounts::new());
    for container in &spec.containers {
        super::add(&mut running, of(container));
    }
    for container in &spec.init_containers {
        let mut now = sidecars.clone();
        super::add(&mut now, of(container));
        if is_sidecar(container) {
            sidecars = now.clone();
        }
        raise(&mut starting, &now);
    }
    super::add(&mut running, &sidecars);
    raise(&mut running, &starting);
    // What the runtime itself takes is part of a limit only where there is one.
    for (name, overhead) in &spec.overhead {
        if bare || running.contains_key(name) {
            *running.entry(name.clone()).or_default() += *overhead;
        }
    }
    running
}

fn raise(to: &mut Amounts, at_least: &Amounts) {
    for (name, amount) in at_least {
        let held = to.entry(name.clone()).or_insert(*amount);
        *held = (*held).max(*amount);
    }
}

/// What Pods of a spec count for beside their number.
pub(super) fn usage(spec: &PodSpec) -> Amounts {
    named(&requests(spec), &limits(spec))
}

/// Requests and limits under the names that quotas use. A resource with a domain has its request alone, and a request
/// without a domain also goes by its bare name.
fn named(requests: &Amounts, limits: &Amounts) -> Amounts {
    let mut usage = Amounts::new();
    for (name, amount) in requests {
        usage.insert(format!("requests.{name}"), *amount);
        if !name.contains('/') {
            usage.insert(name.clone(), *amount);
        }
    }
    for (name, amount) in limits.iter().filter(|(name, _)| !name.contains('/')) {
        usage.insert(format!("limits.{name}"), *amount);
    }
    usage
}

/// What a quota obliges containers to say and they do not, with the containers: `limits.cpu for: app,log`.
pub fn missing(spec: &PodSpec, hard: &Amounts) -> Option<String> {
    let required: Vec<&str> = MUST_SAY.iter().copied().filter(|name| hard.contains_key(*name)).collect();
    let mut missing: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for container in spec.containers.iter().chain(&spec.init_containers) {
        let said = named(&container.resources.requests, &container.resources.limits);
        for name in required.iter().filter(|name| !said.contains_key(**name)) {
            missing.entry(name).or_default().insert(&container.name);
        }
    }
    let words = |(name, containers): (&&str, &BTreeSet<&str>)| {
        format!("{name} for: {}", containers.iter().copied().collect::<Vec<_>>().join(","))
    };
    (!missing.is_empty()).then(|| missing.iter().map(words).collect::<Vec<_>>().join("; "))
}
