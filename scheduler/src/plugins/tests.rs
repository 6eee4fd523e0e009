//! What each plugin says, as tables.

use std::sync::Arc;

use crate::framework::{Filter, Profile, Score};
use crate::node::NodeInfo;
use crate::plugins::{affinity, balanced, fit, node_name, ports, taints, unschedulable};
use crate::snapshot::{Placed, Snapshot};
use crate::template::{HostPort, Operator, Requirement, Resources, Taint, Template, Term, Toleration};

fn node() -> NodeInfo {
    let labels = [("disk", "ssd"), ("cores", "16")].map(|(k, v)| (k.to_string(), v.to_string())).into();
    let allocatable = Resources { cpu: 4000, memory: 8000, ephemeral: 100, other: vec![("gpu".into(), 2)] };
    NodeInfo { name: "n1".into(), labels, allocatable, max_pods: 2, ..NodeInfo::default() }
}

fn on(node: NodeInfo, running: &[Template]) -> Snapshot {
    let mut snapshot = Snapshot::new();
    let name = node.name.clone();
    snapshot.set_node(Arc::new(node));
    for (i, template) in running.iter().enumerate() {
        let placed = Placed { node: name.clone(), template: Arc::new(template.clone()), owner: None };
        snapshot.place(&format!("pod-{i}").into(), placed);
    }
    snapshot
}

fn reasons(filter: &dyn Filter, pod: &Template, snapshot: &Snapshot) -> Vec<String> {
    let view = snapshot.view(0).unwrap();
    let reasons = filter.explain(pod, view);
    assert_eq!(filter.check(pod, view), reasons.is_empty(), "{}: check and explain disagree on {pod:?}", filter.name());
    reasons
}

fn raw(score: &dyn Score, pod: &Template, snapshot: &Snapshot) -> i64 {
    score.raw(pod, snapshot.view(0).unwrap())
}

fn asks(cpu: i64, memory: i64) -> Template {
    let requests = Resources { cpu, memory, ..Resources::default() };
    Template { requests, scoring_cpu: cpu, scoring_memory: memory, ..Template::default() }
}

fn toleration(key: &str, operator: &str, value: &str, effect: &str) -> Toleration {
    Toleration { key: key.into(), operator: operator.into(), value: value.into(), effect: effect.into() }
}

fn tolerating(tolerations: &[Toleration]) -> Template {
    Template { tolerations: tolerations.to_vec(), ..Template::default() }
}

#[test]
fn resources_fit_by_what_is_left() {
    let gpus =
        |n| Template { requests: Resources { other: vec![("gpu".into(), n)], ..Resources::default() }, ..asks(0, 0) };
    let table: [(&str, Template, &[Template], &[&str]); 8] = [
        ("an empty node", asks(4000, 8000), &[], &[]),
        ("too much of both", asks(4001, 8001), &[], &["Insufficient cpu", "Insufficient memory"]),
        ("exactly the rest", asks(1000, 100), &[asks(3000, 100)], &[]),
        ("more than the rest", asks(1001, 100), &[asks(3000, 100)], &["Insufficient cpu"]),
        ("nothing, on a node that is overcommitted", asks(0, 0), &[asks(9000, 0)], &[]),
        ("too many pods", asks(0, 0), &[asks(0, 0), asks(0, 0)], &["Too many pods"]),
        ("a device that is there", gpus(2), &[], &[]),
        ("a device that is taken", gpus(2), &[gpus(1)], &["Insufficient gpu"]),
    ];
    for (name, pod, running, expected) in table {
        assert_eq!(reasons(&fit::NodeResourcesFit, &pod, &on(node(), running)), expected, "{name}");
    }
}

#[test]
fn taints_need_a_toleration_of_key_value_and_effect() {
    let taint = |effect: &str| Taint { key: "team".into(), value: "blue".into(), effect: effect.into() };
    let no = "node(s) had untolerated taint {team: blue}";
    let table: [(&str, Toleration, bool); 9] = [
        ("NoSchedule", toleration("other", "Exists", "", ""), false),
        ("NoSchedule", toleration("team", "Exists", "", ""), true),
        ("NoSchedule", toleration("", "Exists", "", ""), true),
        ("NoSchedule", toleration("team", "Equal", "blue", "NoSchedule"), true),
        ("NoSchedule", toleration("team", "", "blue", ""), true),
        ("NoSchedule", toleration("team", "Equal", "red", ""), false),
        ("NoSchedule", toleration("team", "Exists", "", "NoExecute"), false),
        ("NoExecute", toleration("team", "Exists", "", "NoSchedule"), false),
        ("PreferNoSchedule", toleration("other", "Exists", "", ""), true),
    ];
    for (effect, toleration, fits) in table {
        let snapshot = on(NodeInfo { taints: vec![taint(effect)], ..node() }, &[]);
        let pod = tolerating(&[toleration]);
        let expected: &[&str] = if fits { &[] } else { &[no] };
        assert_eq!(reasons(&taints::TaintToleration, &pod, &snapshot), expected, "{effect}: {pod:?}");
    }
}

#[test]
fn taints_that_only_ask_are_counted() {
    let prefer = |key: &str| Taint { key: key.into(), value: String::new(), effect: "PreferNoSchedule".into() };
    let snapshot = on(NodeInfo { taints: vec![prefer("a"), prefer("b")], ..node() }, &[]);
    assert_eq!(raw(&taints::TaintToleration, &Template::default(), &snapshot), 2);
    assert_eq!(raw(&taints::TaintToleration, &tolerating(&[toleration("a", "Exists", "", "")]), &snapshot), 1);
}

#[test]
fn affinity_terms_are_any_of_and_their_requirements_all_of() {
    let r = |key: &str, operator: Operator, values: &[&str]| Requirement {
        key: key.into(),
        operator,
        values: values.iter().map(|v| v.to_string()).collect(),
    };
    let labels = |labels: Vec<Requirement>| Term { labels, fields: vec![] };
    let ssd = || r("disk", Operator::In, &["ssd", "nvme"]);
    let table: Vec<(&str, Vec<Term>, bool)> = vec![
        ("in", vec![labels(vec![ssd()])], true),
        ("not in, of another", vec![labels(vec![r("disk", Operator::NotIn, &["hdd"])])], true),
        ("not in, of a label that is missing", vec![labels(vec![r("x", Operator::NotIn, &["y"])])], true),
        ("exists", vec![labels(vec![r("disk", Operator::Exists, &[])])], true),
        ("does not exist", vec![labels(vec![r("disk", Operator::DoesNotExist, &[])])], false),
        ("greater", vec![labels(vec![r("cores", Operator::Gt, &["8"])])], true),
        ("less", vec![labels(vec![r("cores", Operator::Lt, &["8"])])], false),
        ("greater than what is no number", vec![labels(vec![r("disk", Operator::Gt, &["8"])])], false),
        ("all of a term", vec![labels(vec![ssd(), r("x", Operator::Exists, &[])])], false),
        ("any of the terms", vec![labels(vec![r("x", Operator::Exists, &[])]), labels(vec![ssd()])], true),
        ("an empty term", vec![labels(vec![])], false),
        ("no term", vec![], false),
        ("by name", vec![Term { labels: vec![], fields: vec![r("metadata.name", Operator::In, &["n1"])] }], true),
        (
            "by another name",
            vec![Term { labels: vec![], fields: vec![r("metadata.name", Operator::In, &["n2"])] }],
            false,
        ),
    ];
    for (name, required, fits) in table {
        let pod = Template { required: Some(required), ..Template::default() };
        assert_eq!(reasons(&affinity::NodeAffinity, &pod, &on(node(), &[])).is_empty(), fits, "{name}");
    }
    let preferring = Template { preferred: vec![(5, labels(vec![ssd()])), (3, labels(vec![]))], ..Template::default() };
    assert_eq!(raw(&affinity::NodeAffinity, &preferring, &on(node(), &[])), 5);
    let selecting =
        |value: &str| Template { node_selector: [("disk".into(), value.into())].into(), ..Template::default() };
    assert!(reasons(&affinity::NodeAffinity, &selecting("ssd"), &on(node(), &[])).is_empty());
    let no = "node(s) didn't match Pod's node affinity/selector";
    assert_eq!(reasons(&affinity::NodeAffinity, &selecting("hdd"), &on(node(), &[])), [no]);
}

#[test]
fn host_ports_clash_on_the_same_address_and_protocol() {
    let port = |port: i32, protocol: &str, ip: &str| HostPort { port, protocol: protocol.into(), ip: ip.into() };
    let taking = |port: HostPort| Template { ports: vec![port], ..Template::default() };
    let table = [
        (port(80, "TCP", "0.0.0.0"), false),
        (port(80, "TCP", "10.0.0.1"), false),
        (port(80, "UDP", "0.0.0.0"), true),
        (port(81, "TCP", "0.0.0.0"), true),
    ];
    for (wanted, fits) in table {
        let snapshot = on(node(), &[taking(port(80, "TCP", "0.0.0.0"))]);
        assert_eq!(reasons(&ports::NodePorts, &taking(wanted.clone()), &snapshot).is_empty(), fits, "{wanted:?}");
    }
    let snapshot = on(node(), &[taking(port(80, "TCP", "10.0.0.1"))]);
    assert!(reasons(&ports::NodePorts, &taking(port(80, "TCP", "10.0.0.2")), &snapshot).is_empty());
}

#[test]
fn a_cordoned_node_and_another_name() {
    let cordoned = on(NodeInfo { unschedulable: true, ..node() }, &[]);
    let no = ["node(s) were unschedulable"];
    assert_eq!(reasons(&unschedulable::NodeUnschedulable, &Template::default(), &cordoned), no);
    let daemon = tolerating(&[toleration("node.kubernetes.io/unschedulable", "Exists", "", "NoSchedule")]);
    assert!(reasons(&unschedulable::NodeUnschedulable, &daemon, &cordoned).is_empty());
    let named = |name: &str| Template { node_name: name.into(), ..Template::default() };
    assert!(reasons(&node_name::NodeName, &named("n1"), &on(node(), &[])).is_empty());
    assert!(!reasons(&node_name::NodeName, &named("n2"), &on(node(), &[])).is_empty());
}

#[test]
fn emptier_and_more_even_nodes_score_higher() {
    let empty = on(node(), &[]);
    let half = on(node(), &[asks(2000, 4000)]);
    let lopsided = on(node(), &[asks(4000, 0)]);
    let pod = asks(0, 0);
    assert_eq!(raw(&fit::NodeResourcesFit, &pod, &empty), 100);
    assert_eq!(raw(&fit::NodeResourcesFit, &pod, &half), 50);
    assert_eq!(raw(&balanced::BalancedAllocation, &pod, &half), 100);
    assert_eq!(raw(&balanced::BalancedAllocation, &pod, &lopsided), 50);
    // It would even out what is lopsided.
    assert_eq!(raw(&balanced::BalancedAllocation, &asks(0, 8000), &lopsided), 100);
}

#[test]
fn the_standard_profile_has_every_plugin_under_one_name() {
    let profile = Profile::standard();
    let names: Vec<_> = profile.filters.iter().map(|f| f.name()).collect();
    let unique: std::collections::BTreeSet<_> = names.iter().collect();
    assert_eq!(names.len(), unique.len(), "{names:?}");
    assert!(names.contains(&"NodeResourcesFit") && names.contains(&"TaintToleration"));
}
