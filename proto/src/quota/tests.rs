//! What objects count for, in tables.

use super::*;
use crate::corev1::{Container, ResourceQuota, ScopeSelector, ScopedResourceSelectorRequirement, ServicePort};

fn amounts(list: &[(&str, &str)]) -> Amounts {
    list.iter().map(|(name, amount)| ((*name).to_string(), Quantity::parse(amount).unwrap())).collect()
}

fn container(name: &str, requests: &[(&str, &str)], limits: &[(&str, &str)]) -> Container {
    let mut container = Container { name: name.into(), ..Container::default() };
    container.resources.requests = amounts(requests);
    container.resources.limits = amounts(limits);
    container
}

fn pod(containers: Vec<Container>) -> Pod {
    let mut pod = Pod::default();
    pod.spec.containers = containers;
    pod
}

fn printed(usage: &Amounts) -> String {
    print(usage)
}

#[test]
fn a_pod_counts_for_what_it_asks_for_until_it_has_ended() {
    let mut pod = pod(vec![
        container("a", &[("cpu", "100m"), ("example.com/gpu", "1")], &[("memory", "1Gi"), ("example.com/gpu", "1")]),
        container("b", &[("cpu", "1")], &[]),
    ]);
    let running = "count/pods=1,cpu=1100m,limits.memory=1Gi,pods=1,requests.cpu=1100m,requests.example.com/gpu=1";
    assert_eq!(printed(&of_pod(&pod)), running);
    for phase in ["Succeeded", "Failed"] {
        pod.status.phase = phase.into();
        assert_eq!(printed(&of_pod(&pod)), "count/pods=1");
    }
}

#[test]
fn init_containers_run_before_and_sidecars_beside() {
    let always = |mut c: Container| {
        c.restart_policy = Some("Always".into());
        c
    };
    let cpu = |amount| container("x", &[("cpu", amount)], &[]);
    // (init containers, containers) -> requests.cpu
    let table = [
        (vec![cpu("3")], vec![cpu("1"), cpu("1")], "3"),
        (vec![cpu("1")], vec![cpu("1"), cpu("1")], "2"),
        (vec![always(cpu("1"))], vec![cpu("1")], "2"),
        (vec![always(cpu("1")), cpu("3")], vec![cpu("1")], "4"),
        (vec![cpu("3"), always(cpu("1"))], vec![cpu("1")], "3"),
    ];
    for (init, containers, expected) in table {
        let mut pod = pod(containers);
        pod.spec.init_containers = init;
        assert_eq!(of_pod(&pod)["requests.cpu"].to_string(), expected);
        pod.spec.overhead = amounts(&[("cpu", "250m"), ("memory", "1Mi")]);
        let with = of_pod(&pod);
        assert_eq!(with["requests.cpu"], Quantity::parse(expected).unwrap() + Quantity::from_milli(250));
        assert!(!with.contains_key("limits.memory"), "no limit comes of overhead");
    }
}

#[test]
fn a_service_counts_for_its_node_ports() {
    let table = [
        ("ClusterIP", None, "count/services=1,services=1"),
        ("NodePort", None, "count/services=1,services=1,services.nodeports=2"),
        ("LoadBalancer", None, "count/services=1,services=1,services.loadbalancers=1,services.nodeports=2"),
        ("LoadBalancer", Some(false), "count/services=1,services=1,services.loadbalancers=1,services.nodeports=0"),
    ];
    for (kind, allocates, expected) in table {
        let mut service = Service::default();
        service.spec.r#type = kind.into();
        service.spec.allocate_load_balancer_node_ports = allocates;
        service.spec.ports = vec![ServicePort::default(), ServicePort::default()];
        assert_eq!(printed(&of_service(&service)), expected);
    }
    assert_eq!(printed(&of_object("", "secrets")), "count/secrets=1,secrets=1");
    assert_eq!(printed(&of_object("example.com", "secrets")), "count/secrets.example.com=1");
}

#[test]
fn scopes_choose_pods() {
    let best = pod(vec![container("a", &[], &[])]);
    let mut other = pod(vec![container("a", &[("cpu", "1")], &[])]);
    other.spec.active_deadline_seconds = Some(5);
    other.spec.priority_class_name = "high".into();
    let selector = |scope: &str, operator: &str, values: &[&str]| {
        let expression = ScopedResourceSelectorRequirement {
            scope_name: scope.into(),
            operator: operator.into(),
            values: values.iter().map(|v| (*v).to_string()).collect(),
        };
        Some(Box::new(ScopeSelector { match_expressions: vec![expression] }))
    };
    // (scopes, selector) -> whether it is for one, for the other
    let table = [
        (vec![], None, (true, true)),
        (vec!["BestEffort"], None, (true, false)),
        (vec!["NotBestEffort"], None, (false, true)),
        (vec!["Terminating"], None, (false, true)),
        (vec!["NotTerminating", "BestEffort"], None, (true, false)),
        (vec!["NotTerminating", "NotBestEffort"], None, (false, false)),
        (vec![], selector("PriorityClass", "In", &["low", "high"]), (false, true)),
        (vec![], selector("PriorityClass", "NotIn", &["high"]), (true, false)),
        (vec![], selector("PriorityClass", "Exists", &[]), (false, true)),
        (vec![], selector("PriorityClass", "DoesNotExist", &[]), (true, false)),
        (vec!["CrossNamespacePodAffinity"], None, (false, false)),
    ];
    for (scopes, selector, expected) in table {
        let mut quota = ResourceQuota::default();
        quota.spec.scopes = scopes.iter().map(|s| (*s).to_string()).collect();
        quota.spec.scope_selector = selector;
        assert_eq!((matches(&quota, &best), matches(&quota, &other)), expected, "{:?}", quota.spec);
    }
}

#[test]
fn what_a_quota_limits_has_to_be_said_by_every_container() {
    let hard =
        amounts(&[("limits.cpu", "1"), ("requests.memory", "1"), ("pods", "1"), ("limits.ephemeral-storage", "1")]);
    let said = container("said", &[("memory", "1")], &[("cpu", "1")]);
    let mut half = pod(vec![said.clone(), container("app", &[("memory", "1")], &[])]);
    half.spec.init_containers = vec![container("init", &[], &[])];
    let words = "limits.cpu for: app,init; requests.memory for: init";
    assert_eq!(missing(&half.spec, &hard).as_deref(), Some(words));
    assert_eq!(missing(&pod(vec![said]).spec, &hard), None);
}

#[test]
fn a_quota_concerns_the_resources_that_it_names() {
    let mut quota = ResourceQuota::default();
    quota.spec.hard = amounts(&[("limits.cpu", "1"), ("services.nodeports", "1"), ("count/widgets.example.com", "1")]);
    let concerned = |quota: &ResourceQuota| {
        [("", "pods"), ("", "services"), ("example.com", "widgets"), ("", "secrets"), ("apps", "pods")]
            .map(|(group, resource)| concerns(quota, group, resource))
    };
    assert_eq!(concerned(&quota), [true, true, true, false, false]);
    quota.spec.scopes = vec!["BestEffort".into()];
    assert_eq!(concerned(&quota), [true, false, false, false, false], "only Pods have scopes");
}
