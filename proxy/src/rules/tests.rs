//! What the rules mean: virtual packets walked through tables that the rules were restored into.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use super::batch::{Sizes, batches};
use super::diff::{diff, of_changed};
use super::*;
use crate::apply::fake::Tables;
use crate::packet::{From, Node, Outcome, Packet, Verdict};
use crate::services::{Backend, PortView, ServiceName, ServicePort, ServiceView};

mod changes;
mod properties;

const SIZES: Sizes = Sizes { limit: 1_500, together: true };
/// The node's own address, a Pod elsewhere, and somebody outside.
const NODE: Ipv4Addr = Ipv4Addr::new(10, 89, 0, 2);
const FAR_POD: Ipv4Addr = Ipv4Addr::new(10, 244, 9, 9);
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);

fn facts() -> Facts {
    Facts {
        cluster: "skiff".into(),
        node: "n1".into(),
        cluster_cidr: "10.244.0.0/16".parse().expect("a network"),
        pod_cidr: Some("10.244.0.0/24".parse().expect("a network")),
        node_port_addresses: Vec::new(),
    }
}

/// Endpoints on this node are 10.244.0.x; elsewhere 10.244.1.x.
fn backends(last: &[(u8, u8)]) -> Vec<Backend> {
    last.iter().map(|(node, last)| Backend { address: [10, 244, *node, *last].into(), port: 8080 }).collect()
}

fn service(name: &str, ip: [u8; 4], port: u16, node_port: Option<u16>, eps: &[(u8, u8)]) -> ServiceView {
    let cluster = backends(eps);
    let local: Vec<_> = cluster.iter().filter(|b| b.address.octets()[2] == 0).copied().collect();
    let here = local.iter().map(|b| b.address).collect();
    let port = ServicePort { name: "http".into(), protocol: Protocol::Tcp, port, node_port };
    ServiceView {
        name: ServiceName::new("default", name),
        cluster_ip: Some(ip.into()),
        affinity_seconds: None,
        internal_local: false,
        external_local: false,
        ports: vec![PortView { port, cluster, local, here }],
    }
}

fn model_of(views: &[ServiceView]) -> Model {
    let mut model = Model::new(facts());
    for view in views {
        model.set(&view.name, Some(view.clone()));
    }
    model.refresh();
    model
}

/// What differs between tables and what the model wants.
fn differing(tables: &Tables, model: &Model) -> Difference {
    let saved = Table::ALL.map(|table| (table, tables.save(table)));
    let mut present = Present::default();
    for (table, text) in &saved {
        present.read(*table, text, model.names());
    }
    diff(model.rule_set(), &present)
}

/// Brings tables to what the model wants, by reading them back first.
fn sync(tables: &mut Tables, model: &Model) -> usize {
    let batches = batches(model.rule_set(), &differing(tables, model), SIZES);
    for batch in &batches {
        tables.restore(&batch.text).expect("a restore");
    }
    batches.len()
}

fn node_of(views: &[ServiceView]) -> Node {
    let mut tables = Tables::default();
    sync(&mut tables, &model_of(views));
    Node::new(&tables, &[NODE]).expect("our own rules")
}

fn packet(from: From, source: Ipv4Addr, destination: impl Into<Ipv4Addr>, port: u16) -> Packet {
    Packet { from, source, destination: destination.into(), port, protocol: Protocol::Tcp }
}

/// The outcomes as (share in percent, where to), and whether all are masqueraded.
fn shares(ends: &[(f64, Outcome)]) -> BTreeMap<String, u32> {
    let mut shares: BTreeMap<String, f64> = BTreeMap::new();
    for (share, end) in ends {
        let masqueraded = if end.masqueraded { " masqueraded" } else { "" };
        let words = match end.verdict {
            Verdict::Delivered => format!("{}{masqueraded}", end.to),
            other => format!("{other:?}"),
        };
        *shares.entry(words).or_default() += share;
    }
    shares.into_iter().map(|(words, share)| (words, (share * 100.0).round() as u32)).collect()
}

fn check(node: &Node, packet: &Packet, wanted: &[(&str, u32)]) {
    let got = shares(&node.walk(packet));
    let wanted: BTreeMap<String, u32> = wanted.iter().map(|(w, s)| ((*w).to_owned(), *s)).collect();
    assert_eq!(got, wanted, "{packet:?}");
}

const IP: [u8; 4] = [10, 96, 0, 10];

#[test]
fn who_reaches_a_cluster_address_and_how() {
    let node = node_of(&[service("web", IP, 80, None, &[(0, 2), (1, 2)])]);
    let (here, there) = ("10.244.0.2:8080", "10.244.1.2:8080");
    check(&node, &packet(From::Link, FAR_POD, IP, 80), &[(here, 50), (there, 50)]);
    let (here_m, there_m) = (format!("{here} masqueraded"), format!("{there} masqueraded"));
    check(&node, &packet(From::Node, NODE, IP, 80), &[(&here_m, 50), (&there_m, 50)]);
    check(&node, &packet(From::Link, OUTSIDE, IP, 80), &[(&here_m, 50), (&there_m, 50)]);
}

#[test]
fn a_pod_that_reaches_itself_is_masqueraded() {
    let node = node_of(&[service("web", IP, 80, None, &[(0, 2), (0, 3)])]);
    let itself = packet(From::Link, [10, 244, 0, 2].into(), IP, 80);
    check(&node, &itself, &[("10.244.0.2:8080 masqueraded", 50), ("10.244.0.3:8080", 50)]);
}

#[test]
fn what_is_no_service_passes_untouched() {
    let node = node_of(&[service("web", IP, 80, Some(30080), &[(0, 2)])]);
    for (destination, port) in [([10, 96, 0, 10], 81), ([10, 96, 0, 11], 80), ([10, 244, 1, 7], 80)] {
        let wanted = format!("{}:{port}", Ipv4Addr::from(destination));
        check(&node, &packet(From::Link, FAR_POD, destination, port), &[(&wanted, 100)]);
    }
    // Loopback is no NodePort address.
    let loopback = Ipv4Addr::LOCALHOST;
    check(&node, &packet(From::Node, loopback, loopback, 30080), &[("127.0.0.1:30080", 100)]);
    let udp = Packet { protocol: Protocol::Udp, ..packet(From::Link, FAR_POD, IP, 80) };
    check(&node, &udp, &[("10.96.0.10:80", 100)]);
}

#[test]
fn a_service_without_endpoints_rejects_on_every_door() {
    let node = node_of(&[service("web", IP, 80, Some(30080), &[])]);
    for from in [packet(From::Link, FAR_POD, IP, 80), packet(From::Node, NODE, IP, 80)] {
        check(&node, &from, &[("Rejected", 100)]);
    }
    check(&node, &packet(From::Link, OUTSIDE, NODE, 30080), &[("Rejected", 100)]);
    check(&node, &packet(From::Node, NODE, NODE, 30080), &[("Rejected", 100)]);
}

#[test]
fn a_node_port_answers_on_the_nodes_addresses() {
    let node = node_of(&[service("web", IP, 80, Some(30080), &[(1, 2)])]);
    let there = "10.244.1.2:8080 masqueraded";
    check(&node, &packet(From::Link, OUTSIDE, NODE, 30080), &[(there, 100)]);
    check(&node, &packet(From::Link, FAR_POD, NODE, 30080), &[(there, 100)]);
    check(&node, &packet(From::Link, OUTSIDE, [10, 89, 0, 3], 30080), &[("10.89.0.3:30080", 100)]);
}

#[test]
fn node_ports_can_be_kept_to_some_addresses() {
    let mut facts = facts();
    facts.node_port_addresses = vec!["10.89.0.0/24".parse().expect("a network")];
    let mut model = Model::new(facts);
    let view = service("web", IP, 80, Some(30080), &[(1, 2)]);
    model.set(&view.name.clone(), Some(view));
    model.refresh();
    let mut tables = Tables::default();
    sync(&mut tables, &model);
    let other: Ipv4Addr = [172, 16, 0, 2].into();
    let node = Node::new(&tables, &[NODE, other]).expect("our own rules");
    check(&node, &packet(From::Link, OUTSIDE, NODE, 30080), &[("10.244.1.2:8080 masqueraded", 100)]);
    check(&node, &packet(From::Link, OUTSIDE, other, 30080), &[("172.16.0.2:30080", 100)]);
}

#[test]
fn external_traffic_policy_local_keeps_the_client_and_stays_here() {
    let mut view = service("web", IP, 80, Some(30080), &[(0, 2), (1, 2)]);
    view.external_local = true;
    let node = node_of(&[view]);
    check(&node, &packet(From::Link, OUTSIDE, NODE, 30080), &[("10.244.0.2:8080", 100)]);
    // Pods and the node itself are not from outside.
    let both = &[("10.244.0.2:8080", 50), ("10.244.1.2:8080", 50)];
    check(&node, &packet(From::Link, FAR_POD, NODE, 30080), both);
    let both = &[("10.244.0.2:8080 masqueraded", 50), ("10.244.1.2:8080 masqueraded", 50)];
    check(&node, &packet(From::Node, NODE, NODE, 30080), both);

    let mut view = service("web", IP, 80, Some(30080), &[(1, 2)]);
    view.external_local = true;
    let node = node_of(&[view]);
    check(&node, &packet(From::Link, OUTSIDE, NODE, 30080), &[("Dropped", 100)]);
    check(&node, &packet(From::Link, FAR_POD, NODE, 30080), &[("10.244.1.2:8080", 100)]);
}

#[test]
fn internal_traffic_policy_local_stays_here() {
    let mut view = service("web", IP, 80, Some(30080), &[(0, 2), (1, 2)]);
    view.internal_local = true;
    let node = node_of(&[view]);
    check(&node, &packet(From::Link, FAR_POD, IP, 80), &[("10.244.0.2:8080", 100)]);
    let both = &[("10.244.0.2:8080 masqueraded", 50), ("10.244.1.2:8080 masqueraded", 50)];
    check(&node, &packet(From::Link, OUTSIDE, NODE, 30080), both);

    let mut view = service("web", IP, 80, None, &[(1, 2)]);
    view.internal_local = true;
    check(&node_of(&[view]), &packet(From::Link, FAR_POD, IP, 80), &[("Dropped", 100)]);
}

#[test]
fn pods_leave_the_cluster_with_the_nodes_address() {
    let node = node_of(&[]);
    let pod = Ipv4Addr::new(10, 244, 0, 2);
    check(&node, &packet(From::Link, pod, OUTSIDE, 443), &[("192.0.2.7:443 masqueraded", 100)]);
    check(&node, &packet(From::Link, pod, FAR_POD, 443), &[("10.244.9.9:443", 100)]);
    check(&node, &packet(From::Link, OUTSIDE, pod, 443), &[("10.244.0.2:443", 100)]);
    check(&node, &packet(From::Node, NODE, OUTSIDE, 443), &[("192.0.2.7:443", 100)]);
}

#[test]
fn strangers_do_not_reach_loopback() {
    let node = node_of(&[]);
    check(&node, &packet(From::Link, OUTSIDE, [127, 0, 0, 1], 10250), &[("Dropped", 100)]);
}

#[test]
fn a_remembered_client_goes_where_it_went_before() {
    let mut view = service("web", IP, 80, Some(30080), &[(0, 2), (1, 2), (1, 3)]);
    view.affinity_seconds = Some(600);
    let mut node = node_of(&[view]);
    let first = packet(From::Link, FAR_POD, IP, 80);
    let thirds: Vec<_> = shares(&node.walk(&first)).into_values().collect();
    assert_eq!(thirds, [33, 33, 33]);
    for (_, end) in node.walk(&first) {
        assert_eq!(end.remembered_on.len(), 1, "one list for one endpoint");
        node.recent = end.remembered_on.iter().map(|list| (list.clone(), FAR_POD)).collect();
        check(&node, &first, &[(&end.to.to_string(), 100)]);
        // By its NodePort, too: it is the same client of the same Service.
        let again = packet(From::Link, FAR_POD, NODE, 30080);
        check(&node, &again, &[(&format!("{} masqueraded", end.to), 100)]);
    }
}

#[test]
fn several_ports_and_protocols_of_one_address_are_told_apart() {
    let mut dns = service("dns", IP, 53, None, &[(0, 2)]);
    let mut udp = dns.ports[0].clone();
    udp.port.protocol = Protocol::Udp;
    udp.port.name = "dns-udp".into();
    udp.cluster = backends(&[(0, 3)]);
    dns.ports.push(udp);
    for n in 0..20 {
        let mut more = dns.ports[0].clone();
        more.port.name = format!("p{n}");
        more.port.port = 1000 + n;
        more.cluster[0].port = 2000 + n;
        dns.ports.push(more);
    }
    let node = node_of(&[dns]);
    check(&node, &packet(From::Link, FAR_POD, IP, 53), &[("10.244.0.2:8080", 100)]);
    let udp = Packet { protocol: Protocol::Udp, ..packet(From::Link, FAR_POD, IP, 53) };
    check(&node, &udp, &[("10.244.0.3:8080", 100)]);
    check(&node, &packet(From::Link, FAR_POD, IP, 1013), &[("10.244.0.2:2013", 100)]);
}

#[test]
fn ten_thousand_services_are_a_dozen_chains_deep_at_most() {
    let address = |i: u32| Ipv4Addr::from(u32::from_be_bytes([10, 96, 0, 0]) | (i * 40_503 % 65_536));
    let views: Vec<_> = (0..10_000u32)
        .map(|i| {
            let node_port = (i < 2_767).then_some(30_000 + i as u16);
            service(&format!("s{i}"), address(i).octets(), 80, node_port, &[(0, (i % 250) as u8), (1, 7)])
        })
        .collect();
    let node = node_of(&views);
    let (mut deepest, mut most) = (0, 0);
    for (i, view) in views.iter().enumerate().step_by(97) {
        let mut ways = vec![packet(From::Link, FAR_POD, address(i as u32), 80)];
        ways.extend(view.ports[0].port.node_port.map(|port| packet(From::Link, OUTSIDE, NODE, port)));
        for way in ways {
            for (_, end) in node.walk(&way) {
                assert!(view.ports[0].cluster.contains(&end.to), "{way:?} ended at {}", end.to);
                deepest = deepest.max(end.depth);
                most = most.max(end.looked_at);
            }
        }
    }
    assert!(deepest <= 12, "{deepest} chains deep");
    assert!(most <= 100, "{most} rules looked at");
}
