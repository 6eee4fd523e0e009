//! LimitRanger: gives containers the limits and requests that their namespace has for those that say nothing, and holds
//! Pods to the bounds of its LimitRanges.

use super::{Facts, Plugin, Verb};
use crate::registry::{ApiError, ApiResult, Beside};
use crate::resources::{Object, Typed};
use skiff_proto::Quantity;
use skiff_proto::corev1::{Container, LimitRange, LimitRangeItem, Pod};
use skiff_proto::quota::{Amounts, pod_limits, pod_requests};
use std::collections::BTreeMap;

/// Says what was filled in.
const ANNOTATION: &str = "kubernetes.io/limit-ranger";

pub struct LimitRanger;

impl Plugin for LimitRanger {
    fn mutate(&self, facts: &Facts<'_>, new: &mut dyn Object) -> ApiResult<()> {
        // What a Pod asks for does not change later.
        if facts.is(Verb::Create, "", "Pod")
            && let Some(Typed(pod)) = new.as_any_mut().downcast_mut::<Typed<Pod>>()
        {
            for range in facts.cluster.list::<LimitRange>(&pod.metadata.namespace)? {
                fill_in(pod, &range);
            }
        }
        Ok(())
    }

    fn check(&self, facts: &Facts<'_>, new: Option<&dyn Object>, _beside: &mut Beside) -> ApiResult<()> {
        if !facts.is(Verb::Create, "", "Pod") {
            return Ok(());
        }
        let Some(Typed(pod)) = new.and_then(|o| o.as_any().downcast_ref::<Typed<Pod>>()) else { return Ok(()) };
        for range in facts.cluster.list::<LimitRange>(&pod.metadata.namespace)? {
            let found = exceeded(pod, &range);
            let why = match found.as_slice() {
                [] => continue,
                [one] => one.clone(),
                many => format!("[{}]", many.join(", ")),
            };
            return Err(ApiError::forbidden(facts.resource, &pod.metadata.name, why));
        }
        Ok(())
    }
}

/// Gives containers what the range has for those that say nothing, and notes it down.
fn fill_in(pod: &mut Pod, range: &LimitRange) {
    let (mut requests, mut limits) = (Amounts::new(), Amounts::new());
    for item in range.spec.limits.iter().filter(|item| item.r#type == "Container") {
        requests.extend(item.default_request.clone());
        limits.extend(item.default.clone());
    }
    let mut notes = Vec::new();
    let spec = &mut pod.spec;
    let containers = spec.containers.iter_mut().map(|container| ("container", container));
    let initial = spec.init_containers.iter_mut().map(|container| ("init container", container));
    for (what, Container { name, resources, .. }) in containers.chain(initial) {
        for (asked, defaults, kind) in
            [(&mut resources.requests, &requests, "request"), (&mut resources.limits, &limits, "limit")]
        {
            let set = add_missing(asked, defaults);
            if !set.is_empty() {
                notes.push(format!("{} {kind} for {what} {name}", set.join(", ")));
            }
        }
    }
    if !notes.is_empty() {
        let note = format!("LimitRanger plugin set: {}", notes.join("; "));
        pod.metadata.annotations.insert(ANNOTATION.into(), note);
    }
}

fn add_missing<'a>(asked: &mut BTreeMap<String, Quantity>, defaults: &'a Amounts) -> Vec<&'a str> {
    let missing: Vec<_> = defaults.iter().filter(|(name, _)| !asked.contains_key(*name)).collect();
    for (name, amount) in &missing {
        asked.insert((*name).clone(), **amount);
    }
    missing.into_iter().map(|(name, _)| name.as_str()).collect()
}

/// Everything in which a Pod goes beyond a range.
fn exceeded(pod: &Pod, range: &LimitRange) -> Vec<String> {
    let mut found = Vec::new();
    for item in &range.spec.limits {
        match item.r#type.as_str() {
            "Container" => {
                for container in pod.spec.containers.iter().chain(&pod.spec.init_containers) {
                    bounds(item, &container.resources.requests, &container.resources.limits, &mut found);
                }
            }
            "Pod" => bounds(item, &pod_requests(&pod.spec), &pod_limits(&pod.spec), &mut found),
            _ => {}
        }
    }
    found
}

fn bounds(item: &LimitRangeItem, requests: &Amounts, limits: &Amounts, found: &mut Vec<String>) {
    let kind = &item.r#type;
    for (name, least) in &item.min {
        let words = format!("minimum {name} usage per {kind} is {least}");
        match (requests.get(name), limits.get(name)) {
            (None, _) => found.push(format!("{words}.  No request is specified")),
            (Some(request), _) if request < least => found.push(format!("{words}, but request is {request}")),
            (_, Some(limit)) if limit < least => found.push(format!("{words}, but limit is {limit}")),
            _ => {}
        }
    }
    for (name, most) in &item.max {
        let words = format!("maximum {name} usage per {kind} is {most}");
        match (requests.get(name), limits.get(name)) {
            (_, None) => found.push(format!("{words}.  No limit is specified")),
            (_, Some(limit)) if limit > most => found.push(format!("{words}, but limit is {limit}")),
            (Some(request), _) if request > most => found.push(format!("{words}, but request is {request}")),
            _ => {}
        }
    }
    for (name, most) in &item.max_limit_request_ratio {
        let words = format!("{name} max limit to request ratio per {kind} is {most}");
        let asked = |amounts: &Amounts| amounts.get(name).copied().filter(|amount| !amount.is_zero());
        match (asked(requests), asked(limits)) {
            (None, _) => found.push(format!("{words}, but no request is specified or request is 0")),
            (_, None) => found.push(format!("{words}, but no limit is specified or limit is 0")),
            (Some(request), Some(limit)) => {
                let ratio = limit.milli() as f64 / request.milli() as f64;
                if ratio > most.milli() as f64 / 1000.0 {
                    found.push(format!("{words}, but provided ratio is {ratio:.6}"));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn amounts(list: &[(&str, &str)]) -> Amounts {
        list.iter().map(|(name, amount)| ((*name).to_string(), amount.parse().expect("a quantity"))).collect()
    }

    fn pod(requests: &[(&str, &str)], limits: &[(&str, &str)]) -> Pod {
        let mut container = Container { name: "app".into(), ..Container::default() };
        container.resources.requests = amounts(requests);
        container.resources.limits = amounts(limits);
        let mut pod = Pod::default();
        pod.spec.containers = vec![container];
        pod
    }

    fn range(item: LimitRangeItem) -> LimitRange {
        let mut range = LimitRange::default();
        range.spec.limits.push(item);
        range
    }

    fn of(kind: &str) -> LimitRangeItem {
        LimitRangeItem { r#type: kind.into(), ..LimitRangeItem::default() }
    }

    #[test]
    fn what_is_not_said_is_filled_in_and_noted() {
        let range = range(LimitRangeItem {
            default: amounts(&[("cpu", "500m"), ("memory", "1Gi")]),
            default_request: amounts(&[("cpu", "250m"), ("memory", "512Mi")]),
            ..of("Container")
        });
        let mut pod = pod(&[("cpu", "1")], &[]);
        pod.spec.init_containers = vec![Container { name: "first".into(), ..Container::default() }];
        for _ in 0..2 {
            fill_in(&mut pod, &range);
        }
        let resources = &pod.spec.containers[0].resources;
        assert_eq!(resources.requests, amounts(&[("cpu", "1"), ("memory", "512Mi")]));
        assert_eq!(resources.limits, amounts(&[("cpu", "500m"), ("memory", "1Gi")]));
        let note = "LimitRanger plugin set: memory request for container app; cpu, memory limit for container app; \
                    cpu, memory request for init container first; cpu, memory limit for init container first";
        assert_eq!(pod.metadata.annotations[ANNOTATION], note);
    }

    #[test]
    fn every_bound_that_is_broken_is_told() {
        let cpu = |amount: &'static str| [("cpu", amount)];
        let min = LimitRangeItem { min: amounts(&cpu("200m")), ..of("Container") };
        let max = LimitRangeItem { max: amounts(&cpu("1")), ..of("Container") };
        let ratio = LimitRangeItem { max_limit_request_ratio: amounts(&cpu("2")), ..of("Container") };
        let none: &[(&str, &str)] = &[];
        let table = [
            (&min, none, none, "minimum cpu usage per Container is 200m.  No request is specified"),
            (&min, &cpu("100m")[..], none, "minimum cpu usage per Container is 200m, but request is 100m"),
            (&min, &cpu("200m"), &cpu("100m"), "minimum cpu usage per Container is 200m, but limit is 100m"),
            (&min, &cpu("200m"), none, ""),
            (&max, none, none, "maximum cpu usage per Container is 1.  No limit is specified"),
            (&max, none, &cpu("2"), "maximum cpu usage per Container is 1, but limit is 2"),
            (&max, &cpu("2"), &cpu("1"), "maximum cpu usage per Container is 1, but request is 2"),
            (&max, &cpu("1"), &cpu("1"), ""),
            (
                &ratio,
                none,
                &cpu("1"),
                "cpu max limit to request ratio per Container is 2, but no request is specified or request is 0",
            ),
            (
                &ratio,
                &cpu("1"),
                none,
                "cpu max limit to request ratio per Container is 2, but no limit is specified or limit is 0",
            ),
            (
                &ratio,
                &cpu("1"),
                &cpu("3"),
                "cpu max limit to request ratio per Container is 2, but provided ratio is 3.000000",
            ),
            (&ratio, &cpu("1"), &cpu("2"), ""),
        ];
        for (item, requests, limits, words) in table {
            assert_eq!(exceeded(&pod(requests, limits), &range(item.clone())).join(", "), words);
        }
        // A Pod is the sum of its containers.
        let mut two = pod(&cpu("600m"), &cpu("600m"));
        two.spec.containers.push(two.spec.containers[0].clone());
        let most = LimitRangeItem { max: amounts(&cpu("1")), ..of("Pod") };
        assert_eq!(exceeded(&two, &range(most)), ["maximum cpu usage per Pod is 1, but limit is 1200m"]);
    }
}
