//! What the rules mean: virtual packets walked through tables that the rules were restored into.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::batch::{Sizes, batches};
use super::diff::{diff, of_changed};
use super::*;
use crate::apply::fake::Tables;
use crate::packet::{From, Node, Outcome, Packet, Verdict};
use crate::services::{Backend, PortView, ServiceName, ServicePort, ServiceView};

const SIZES: Sizes = Sizes {
    limit: 1_500,
    together: true,
};
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
    last.iter()
        .map(|(node, last)| Backend {
            address: [10, 244, *node, *last].into(),
            port: 8080,
        })
        .collect()
}

fn service(
    name: &str,
    ip: [u8; 4],
    port: u16,
    node_port: Option<u16>,
    eps: &[(u8, u8)],
) -> ServiceView {
    let cluster = backends(eps);
    let local: Vec<_> = cluster
        .iter()
        .filter(|b| b.address.octets()[2] == 0)
        .copied()
        .collect();
    let here = local.iter().map(|b| b.address).collect();
    let port = ServicePort {
        name: "http".into(),
        protocol: Protocol::Tcp,
        port,
        node_port,
    };
    ServiceView {
        name: ServiceName::new("default", name),
        cluster_ip: Some(ip.into()),
        affinity_seconds: None,
        internal_local: false,
        external_local: false,
        ports: vec![PortView {
            port,
            cluster,
            local,
            here,
        }],
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
    Packet {
        from,
        source,
        destination: destination.into(),
        port,
        protocol: Protocol::Tcp,
    }
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
    shares
        .into_iter()
        .map(|(words, share)| (words, (share * 100.0).round() as u32))
        .collect()
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
    check(
        &node,
        &packet(From::Link, FAR_POD, IP, 80),
        &[(here, 50), (there, 50)],
    );
    let (here_m, there_m) = (
        format!("{here} masqueraded"),
        format!("{there} masqueraded"),
    );
    check(
        &node,
        &packet(From::Node, NODE, IP, 80),
        &[(&here_m, 50), (&there_m, 50)],
    );
    check(
        &node,
        &packet(From::Link, OUTSIDE, IP, 80),
        &[(&here_m, 50), (&there_m, 50)],
    );
}

#[test]
fn a_pod_that_reaches_itself_is_masqueraded() {
    let node = node_of(&[service("web", IP, 80, None, &[(0, 2), (0, 3)])]);
    let itself = packet(From::Link, [10, 244, 0, 2].into(), IP, 80);
    check(
        &node,
        &itself,
        &[("10.244.0.2:8080 masqueraded", 50), ("10.244.0.3:8080", 50)],
    );
}

#[test]
fn what_is_no_service_passes_untouched() {
    let node = node_of(&[service("web", IP, 80, Some(30080), &[(0, 2)])]);
    for (destination, port) in [
        ([10, 96, 0, 10], 81),
        ([10, 96, 0, 11], 80),
        ([10, 244, 1, 7], 80),
    ] {
        let wanted = format!("{}:{port}", Ipv4Addr::from(destination));
        check(
            &node,
            &packet(From::Link, FAR_POD, destination, port),
            &[(&wanted, 100)],
        );
    }
    // Loopback is no NodePort address.
    let loopback = Ipv4Addr::LOCALHOST;
    check(
        &node,
        &packet(From::Node, loopback, loopback, 30080),
        &[("127.0.0.1:30080", 100)],
    );
    let udp = Packet {
        protocol: Protocol::Udp,
        ..packet(From::Link, FAR_POD, IP, 80)
    };
    check(&node, &udp, &[("10.96.0.10:80", 100)]);
}

#[test]
fn a_service_without_endpoints_rejects_on_every_door() {
    let node = node_of(&[service("web", IP, 80, Some(30080), &[])]);
    for from in [
        packet(From::Link, FAR_POD, IP, 80),
        packet(From::Node, NODE, IP, 80),
    ] {
        check(&node, &from, &[("Rejected", 100)]);
    }
    check(
        &node,
        &packet(From::Link, OUTSIDE, NODE, 30080),
        &[("Rejected", 100)],
    );
    check(
        &node,
        &packet(From::Node, NODE, NODE, 30080),
        &[("Rejected", 100)],
    );
}

#[test]
fn a_node_port_answers_on_the_nodes_addresses() {
    let node = node_of(&[service("web", IP, 80, Some(30080), &[(1, 2)])]);
    let there = "10.244.1.2:8080 masqueraded";
    check(
        &node,
        &packet(From::Link, OUTSIDE, NODE, 30080),
        &[(there, 100)],
    );
    check(
        &node,
        &packet(From::Link, FAR_POD, NODE, 30080),
        &[(there, 100)],
    );
    check(
        &node,
        &packet(From::Link, OUTSIDE, [10, 89, 0, 3], 30080),
        &[("10.89.0.3:30080", 100)],
    );
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
    check(
        &node,
        &packet(From::Link, OUTSIDE, NODE, 30080),
        &[("10.244.1.2:8080 masqueraded", 100)],
    );
    check(
        &node,
        &packet(From::Link, OUTSIDE, other, 30080),
        &[("172.16.0.2:30080", 100)],
    );
}

#[test]
fn external_traffic_policy_local_keeps_the_client_and_stays_here() {
    let mut view = service("web", IP, 80, Some(30080), &[(0, 2), (1, 2)]);
    view.external_local = true;
    let node = node_of(&[view]);
    check(
        &node,
        &packet(From::Link, OUTSIDE, NODE, 30080),
        &[("10.244.0.2:8080", 100)],
    );
    // Pods and the node itself are not from outside.
    let both = &[("10.244.0.2:8080", 50), ("10.244.1.2:8080", 50)];
    check(&node, &packet(From::Link, FAR_POD, NODE, 30080), both);
    let both = &[
        ("10.244.0.2:8080 masqueraded", 50),
        ("10.244.1.2:8080 masqueraded", 50),
    ];
    check(&node, &packet(From::Node, NODE, NODE, 30080), both);

    let mut view = service("web", IP, 80, Some(30080), &[(1, 2)]);
    view.external_local = true;
    let node = node_of(&[view]);
    check(
        &node,
        &packet(From::Link, OUTSIDE, NODE, 30080),
        &[("Dropped", 100)],
    );
    check(
        &node,
        &packet(From::Link, FAR_POD, NODE, 30080),
        &[("10.244.1.2:8080", 100)],
    );
}

#[test]
fn internal_traffic_policy_local_stays_here() {
    let mut view = service("web", IP, 80, Some(30080), &[(0, 2), (1, 2)]);
    view.internal_local = true;
    let node = node_of(&[view]);
    check(
        &node,
        &packet(From::Link, FAR_POD, IP, 80),
        &[("10.244.0.2:8080", 100)],
    );
    let both = &[
        ("10.244.0.2:8080 masqueraded", 50),
        ("10.244.1.2:8080 masqueraded", 50),
    ];
    check(&node, &packet(From::Link, OUTSIDE, NODE, 30080), both);

    let mut view = service("web", IP, 80, None, &[(1, 2)]);
    view.internal_local = true;
    check(
        &node_of(&[view]),
        &packet(From::Link, FAR_POD, IP, 80),
        &[("Dropped", 100)],
    );
}

#[test]
fn pods_leave_the_cluster_with_the_nodes_address() {
    let node = node_of(&[]);
    let pod = Ipv4Addr::new(10, 244, 0, 2);
    check(
        &node,
        &packet(From::Link, pod, OUTSIDE, 443),
        &[("192.0.2.7:443 masqueraded", 100)],
    );
    check(
        &node,
        &packet(From::Link, pod, FAR_POD, 443),
        &[("10.244.9.9:443", 100)],
    );
    check(
        &node,
        &packet(From::Link, OUTSIDE, pod, 443),
        &[("10.244.0.2:443", 100)],
    );
    check(
        &node,
        &packet(From::Node, NODE, OUTSIDE, 443),
        &[("192.0.2.7:443", 100)],
    );
}

#[test]
fn strangers_do_not_reach_loopback() {
    let node = node_of(&[]);
    check(
        &node,
        &packet(From::Link, OUTSIDE, [127, 0, 0, 1], 10250),
        &[("Dropped", 100)],
    );
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
        node.recent = end
            .remembered_on
            .iter()
            .map(|list| (list.clone(), FAR_POD))
            .collect();
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
    check(
        &node,
        &packet(From::Link, FAR_POD, IP, 53),
        &[("10.244.0.2:8080", 100)],
    );
    let udp = Packet {
        protocol: Protocol::Udp,
        ..packet(From::Link, FAR_POD, IP, 53)
    };
    check(&node, &udp, &[("10.244.0.3:8080", 100)]);
    check(
        &node,
        &packet(From::Link, FAR_POD, IP, 1013),
        &[("10.244.0.2:2013", 100)],
    );
}

#[test]
fn ten_thousand_services_are_a_dozen_chains_deep_at_most() {
    let address =
        |i: u32| Ipv4Addr::from(u32::from_be_bytes([10, 96, 0, 0]) | (i * 40_503 % 65_536));
    let views: Vec<_> = (0..10_000u32)
        .map(|i| {
            let node_port = (i < 2_767).then_some(30_000 + i as u16);
            service(
                &format!("s{i}"),
                address(i).octets(),
                80,
                node_port,
                &[(0, (i % 250) as u8), (1, 7)],
            )
        })
        .collect();
    let node = node_of(&views);
    let (mut deepest, mut most) = (0, 0);
    for (i, view) in views.iter().enumerate().step_by(97) {
        let mut ways = vec![packet(From::Link, FAR_POD, address(i as u32), 80)];
        ways.extend(
            view.ports[0]
                .port
                .node_port
                .map(|port| packet(From::Link, OUTSIDE, NODE, port)),
        );
        for way in ways {
            for (_, end) in node.walk(&way) {
                assert!(
                    view.ports[0].cluster.contains(&end.to),
                    "{way:?} ended at {}",
                    end.to
                );
                deepest = deepest.max(end.depth);
                most = most.max(end.looked_at);
            }
        }
    }
    assert!(deepest <= 12, "{deepest} chains deep");
    assert!(most <= 100, "{most} rules looked at");
}

#[test]
fn conversations_with_a_lost_endpoint_are_forgotten() {
    let mut model = Model::new(facts());
    let udp = |eps: &[(u8, u8)]| {
        let mut view = service("dns", IP, 53, Some(30053), eps);
        view.ports[0].port.protocol = Protocol::Udp;
        view
    };
    let mut step = |view: Option<ServiceView>| -> Vec<String> {
        model.set(&ServiceName::new("default", "dns"), view);
        let stale: Vec<_> = model.stale_flows().iter().cloned().collect();
        model.forgotten(&stale);
        assert!(model.stale_flows().is_empty());
        stale.iter().map(ToString::to_string).collect()
    };
    assert!(step(Some(udp(&[]))).is_empty());
    assert_eq!(
        step(Some(udp(&[(0, 2), (1, 2)]))),
        ["udp NodePort 30053", "udp 10.96.0.10:53"]
    );
    let gone = [
        "udp NodePort 30053 -> 10.244.0.2",
        "udp 10.96.0.10:53 -> 10.244.0.2",
    ];
    assert_eq!(step(Some(udp(&[(1, 2)]))), gone);
    let gone = [
        "udp NodePort 30053 -> 10.244.1.2",
        "udp 10.96.0.10:53 -> 10.244.1.2",
    ];
    assert_eq!(step(None), gone);
}

#[test]
fn one_endpoint_more_rewrites_one_chain() {
    let views: Vec<_> = (1..200u8)
        .map(|i| service(&format!("s{i}"), [10, 96, i, 1], 80, None, &[(1, i)]))
        .collect();
    let mut model = model_of(&views);
    model.differing([]);
    model.set(
        &views[7].name,
        Some(service("s8", [10, 96, 8, 1], 80, None, &[(1, 8), (1, 250)])),
    );
    model.refresh();
    assert_eq!(model.changed().len(), 1, "{:?}", model.changed());
    let more = service("new", [10, 96, 77, 9], 80, None, &[(1, 9)]);
    model.differing([]);
    model.set(&more.name.clone(), Some(more));
    model.refresh();
    assert!(model.changed().len() <= 6, "{:?}", model.changed());
}

#[test]
fn tampering_is_found_and_put_right() {
    type Tamper = fn(&mut Tables);
    let tampers: [(&str, Tamper); 7] = [
        ("everything is flushed", |t| *t = Tables::default()),
        ("a jump is lost", |t| {
            t.nat.get_mut("PREROUTING").expect("there").clear()
        }),
        ("a jump is doubled", |t| {
            let chain = t.nat.get_mut("OUTPUT").expect("there");
            chain.extend(chain.clone());
        }),
        ("a rule is lost", |t| drop(dispatch(t).pop())),
        ("a rule is put in front", |t| {
            dispatch(t).insert(0, "-j ACCEPT".into())
        }),
        ("rules change places", |t| dispatch(t).reverse()),
        ("a chain is left from before", |t| {
            t.nat.insert("SKZZZZZ-OTHER".into(), Vec::new());
            let prefix = Names::for_cluster("skiff").prefix().to_owned();
            t.nat
                .insert(format!("{prefix}-SVC-OLD"), vec!["-j RETURN".into()]);
        }),
    ];
    fn dispatch(tables: &mut Tables) -> &mut Vec<String> {
        let name = Names::for_cluster("skiff").fixed("SERVICES");
        tables
            .nat
            .get_mut(name.as_str())
            .expect("the chain is there")
    }
    let model = model_of(&[service("web", IP, 80, Some(30080), &[(0, 2)])]);
    let mut good = Tables::default();
    good.nat
        .get_mut("PREROUTING")
        .expect("there")
        .push("-i eth9 -j DOCKER".into()); // somebody else's
    sync(&mut good, &model);
    for (what, tamper) in tampers {
        let mut tables = good.clone();
        tamper(&mut tables);
        assert_ne!(tables, good, "{what}");
        sync(&mut tables, &model);
        assert_eq!(differing(&tables, &model), Difference::default(), "{what}");
        let ends =
            Node::new(&tables, &[NODE])
                .expect("rules")
                .walk(&packet(From::Link, FAR_POD, IP, 80));
        assert_eq!(
            shares(&ends),
            BTreeMap::from([("10.244.0.2:8080".to_owned(), 100)]),
            "{what}"
        );
    }
}

#[test]
fn a_restart_changes_nothing() {
    let views = [
        service("web", IP, 80, Some(30080), &[(0, 2)]),
        service("none", [10, 96, 3, 4], 80, None, &[]),
    ];
    let mut tables = Tables::default();
    assert!(sync(&mut tables, &model_of(&views)) > 0);
    assert_eq!(sync(&mut tables, &model_of(&views)), 0);
}

#[test]
fn a_chain_that_others_lead_to_holds_up_only_its_own_removal() {
    let mut model = model_of(&[service("web", IP, 80, None, &[(0, 2)])]);
    let mut tables = Tables::default();
    sync(&mut tables, &model);
    let mut chains = model
        .rule_set()
        .chains
        .keys()
        .map(|(_, name)| name.to_string());
    let chain = chains.find(|name| name.contains("SVC")).expect("one");
    drop(chains);
    tables
        .nat
        .get_mut("INPUT")
        .expect("there")
        .push(format!("-j {chain}"));
    model.set(&ServiceName::new("default", "web"), None);
    model.refresh();
    let difference = of_changed(model.rule_set(), model.changed().keys());
    let apart = Sizes {
        together: false,
        ..SIZES
    };
    let results: Vec<bool> = batches(model.rule_set(), &difference, apart)
        .iter()
        .map(|batch| tables.restore(&batch.text).is_ok())
        .collect();
    assert_eq!(results, [true, false]);
}

/// A small world in which Services collide, share addresses and have any number of endpoints.
fn any_service() -> impl Strategy<Value = (u8, Option<ServiceView>)> {
    let eps = proptest::collection::btree_set((0u8..2, 1u8..5), 0..4);
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    (
        0u8..12,
        0u8..5,
        79u16..82,
        proptest::option::of(30_000u16..30_040),
        eps,
        flags,
        0u8..5,
    )
        .prop_map(
            |(id, block, port, node_port, eps, (udp, affinity, internal, external), gone)| {
                let ip = [10, 96 + block / 4, block * 16, id.wrapping_mul(37)];
                let eps: Vec<_> = eps.into_iter().collect();
                let mut view = service(&format!("s{id}"), ip, port, node_port, &eps);
                view.affinity_seconds = affinity.then_some(60);
                view.internal_local = internal;
                view.external_local = external;
                if udp {
                    view.ports[0].port.protocol = Protocol::Udp;
                }
                (id, (gone > 0).then_some(view))
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Kept current step by step, the rule set is what it would be if built anew; and small restores that name
    /// only changed chains lead the kernel there, through states that all make sense.
    #[test]
    fn step_by_step_is_the_same_as_anew(
        steps in proptest::collection::vec(proptest::collection::vec(any_service(), 1..4), 1..8),
        limit in 1usize..40, together: bool,
    ) {
        let mut model = Model::new(facts());
        let mut tables = Tables::default();
        sync(&mut tables, &model);
        model.differing([]);
        let mut last: BTreeMap<u8, ServiceView> = BTreeMap::new();
        for step in steps {
            for (id, view) in step {
                match &view {
                    Some(view) => last.insert(id, view.clone()),
                    None => last.remove(&id),
                };
                model.set(&ServiceName::new("default", format!("s{id}")), view);
            }
            model.refresh();
            let difference = of_changed(model.rule_set(), model.changed().keys());
            for batch in batches(model.rule_set(), &difference, Sizes { limit, together }) {
                if let Err(error) = tables.restore(&batch.text) {
                    panic!("{error}\n{}", batch.text);
                }
            }
            model.differing([]);
            let views: Vec<_> = last.values().cloned().collect();
            let anew = model_of(&views);
            prop_assert_eq!(model.rule_set(), anew.rule_set());
            prop_assert_eq!(differing(&tables, &model), Difference::default());
        }
    }

    /// Every Service and port reaches exactly its endpoints, each with the same share, also while another change
    /// is half applied.
    #[test]
    fn packets_reach_their_endpoints_at_every_step_of_a_change(
        before in proptest::collection::vec(any_service(), 0..12),
        change in any_service(),
    ) {
        let services: BTreeMap<u8, ServiceView> =
            before.into_iter().filter_map(|(id, view)| Some((id, view?))).collect();
        let mut views: Vec<_> = services.into_values().collect();
        views.retain(|view| view.name.name != format!("s{}", change.0));
        // No two of them on one address and port, as the API server has it.
        let mut seen = std::collections::BTreeSet::new();
        let mut first = |v: &ServiceView| seen.insert((v.cluster_ip, v.ports[0].port.protocol, v.ports[0].port.port));
        let changed = change.1.filter(&mut first);
        views.retain(first);
        let mut model = model_of(&views);
        let mut tables = Tables::default();
        sync(&mut tables, &model);
        model.differing([]);
        model.set(&ServiceName::new("default", format!("s{}", change.0)), changed);
        model.refresh();
        let difference = of_changed(model.rule_set(), model.changed().keys());
        let one_by_one = Sizes { limit: 1, together: false };
        let mut restores = batches(model.rule_set(), &difference, one_by_one).into_iter();
        loop {
            let node = Node::new(&tables, &[NODE]).expect("our own rules");
            for view in &views {
                let port = &view.ports[0];
                let mut way = packet(From::Link, FAR_POD, view.cluster_ip.expect("it has one"), port.port.port);
                way.protocol = port.port.protocol;
                let wanted: &[Backend] = if view.internal_local { &port.local } else { &port.cluster };
                let got = shares(&node.walk(&way));
                if wanted.is_empty() {
                    let verdict = if port.cluster.is_empty() { "Rejected" } else { "Dropped" };
                    prop_assert_eq!(got, BTreeMap::from([(verdict.to_owned(), 100)]));
                } else {
                    let share = (100.0 / wanted.len() as f64).round() as u32;
                    let wanted = wanted.iter().map(|b| (b.to_string(), share)).collect();
                    prop_assert_eq!(got, wanted, "{}", view.name);
                }
            }
            match restores.next() {
                Some(batch) => prop_assert_eq!(tables.restore(&batch.text), Ok(())),
                None => break,
            }
        }
    }

    /// Whatever somebody did to the tables, one sync puts them right.
    #[test]
    fn from_any_state_to_the_wanted_one(
        before in proptest::collection::vec(any_service(), 0..8),
        after in proptest::collection::vec(any_service(), 0..8),
    ) {
        let views = |list: Vec<(u8, Option<ServiceView>)>| -> Vec<ServiceView> {
            let map: BTreeMap<u8, _> = list.into_iter().filter_map(|(id, view)| Some((id, view?))).collect();
            map.into_values().collect()
        };
        let mut tables = Tables::default();
        sync(&mut tables, &model_of(&views(before)));
        let model = model_of(&views(after));
        sync(&mut tables, &model);
        prop_assert_eq!(differing(&tables, &model), Difference::default());
    }
}
