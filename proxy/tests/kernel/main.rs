//! The rules in a real kernel, with real packets, in network namespaces of the test's own.
//!
//! What the fake tables and the virtual packets claim is held against iptables itself here, on both of its
//! backends. Needs root and iptables; says so and passes where either is missing.
#![allow(clippy::disallowed_methods, reason = "threads enter namespaces; a tokio task cannot")]

mod net;

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use net::{NODE, Network, OUTSIDE, PODS, ask};
use skiff_proxy::apply::{FakeApplier, Iptables, IptablesOptions, RuleApplier};
use skiff_proxy::rules::{Facts, Names, Present, Table};
use skiff_proxy::services::{Backend, PortView, Protocol, ServiceName, ServicePort, ServiceView};
use skiff_proxy::sync::{Action, Tables, cleanup};
use skiff_world::World;

const CLUSTER: &str = "kernel-test";
const IP: [u8; 4] = [10, 96, 0, 10];

/// A network, its node's tables, and where the lock file is.
struct Setup {
    network: Network,
    applier: Arc<Iptables>,
    backend: &'static str,
    _lock: tempfile::TempDir,
}

impl Setup {
    fn new(backend: &'static str) -> Option<Setup> {
        let there = Command::new(format!("iptables-{backend}-restore")).arg("--version").output().is_ok();
        if !nix::unistd::geteuid().is_root() || !there {
            eprintln!("skipped: needs root and iptables-{backend}");
            return None;
        }
        let network = Network::new();
        let lock = tempfile::tempdir().expect("a directory");
        let mut options = IptablesOptions::new(lock.path().join("xtables.lock"));
        options.restore = format!("iptables-{backend}-restore").into();
        options.save = format!("iptables-{backend}-save").into();
        options.enter = ["ip", "netns", "exec", &network.node.name].map(Into::into).into();
        Some(Setup { network, applier: Arc::new(Iptables::new(options)), backend, _lock: lock })
    }

    fn tables(&self) -> Tables {
        tables(self.applier.clone())
    }

    async fn synced(&self, views: &[ServiceView]) -> Tables {
        let tables = self.tables();
        for view in views {
            tables.set(&view.name, Some(view.clone()));
        }
        tables.settle().await.expect("the kernel takes the rules");
        tables
    }

    fn iptables(&self, args: &str) -> String {
        self.network.node.run(&format!("iptables-{} {args}", self.backend))
    }
}

fn tables(applier: Arc<dyn RuleApplier>) -> Tables {
    let facts = Facts {
        cluster: CLUSTER.into(),
        node: "n1".into(),
        cluster_cidr: "10.244.0.0/16".parse().expect("a network"),
        pod_cidr: Some("10.244.0.0/24".parse().expect("a network")),
        node_port_addresses: Vec::new(),
    };
    Tables::new(&World::real("test"), applier, facts, Duration::from_secs(3600))
}

/// A Service on port 80 with both protocols, served by these Pods on port 8080, all of them local.
fn service(last: u8, node_port: Option<u16>, pods: &[Ipv4Addr]) -> ServiceView {
    let backends: Vec<_> = pods.iter().map(|pod| Backend { address: *pod, port: 8080 }).collect();
    let port = |name: &str, protocol| PortView {
        port: ServicePort { name: name.into(), protocol, port: 80, node_port },
        cluster: backends.clone(),
        local: backends.clone(),
        here: pods.to_vec(),
    };
    ServiceView {
        name: ServiceName::new("default", format!("s{last}")),
        cluster_ip: Some([10, 96, 0, last].into()),
        affinity_seconds: None,
        internal_local: false,
        external_local: false,
        ports: vec![port("t", Protocol::Tcp), port("u", Protocol::Udp)],
    }
}

macro_rules! on_both_backends {
    ($($name:ident),* $(,)?) => {
        mod nft { $( #[tokio::test] async fn $name() { super::on("nft", super::$name).await; } )* }
        mod legacy { $( #[tokio::test] async fn $name() { super::on("legacy", super::$name).await; } )* }
    };
}

async fn on<F: Future<Output = ()>>(backend: &'static str, test: impl FnOnce(Setup) -> F) {
    if let Some(setup) = Setup::new(backend) {
        test(setup).await;
    }
}

on_both_backends!(
    everybody_reaches_a_cluster_address,
    a_node_port_answers,
    local_policy_keeps_the_client,
    nobody_there_is_said_at_once,
    a_pod_reaches_itself,
    affinity_holds,
    pods_reach_the_outside,
    udp_follows_its_endpoints,
    a_restart_changes_nothing,
    tampering_is_put_right,
    the_fake_agrees_with_the_kernel,
    cleanup_leaves_nothing,
);

async fn everybody_reaches_a_cluster_address(setup: Setup) {
    let net = &setup.network;
    let _servers = [net.pods[0].serve("zero", 8080), net.pods[1].serve("one", 8080)];
    setup.synced(&[service(10, None, &PODS)]).await;
    for (who, from) in [("a Pod", &net.pods[0]), ("the node", &net.node), ("a stranger", &net.outside)] {
        let answers: BTreeSet<String> = (0..40).map(|_| server(&from.get(IP, 80).expect(who))).collect();
        assert_eq!(answers.len(), 2, "{who} reached {answers:?} only");
        let udp: BTreeSet<String> = (0..40).map(|_| server(&ask(&from.udp(IP, 80)).expect(who))).collect();
        assert_eq!(udp.len(), 2, "{who} reached {udp:?} only, by UDP");
    }
}

fn server(answer: &str) -> String {
    answer.split(' ').next().unwrap_or_default().to_owned()
}

async fn a_node_port_answers(setup: Setup) {
    let net = &setup.network;
    let _server = net.pods[0].serve("zero", 8080);
    setup.synced(&[service(10, Some(30080), &PODS[..1])]).await;
    assert_eq!(net.outside.get(NODE, 30080).expect("an answer"), "zero to 10.244.0.1");
    assert_eq!(net.pods[1].get(NODE, 30080).expect("an answer"), "zero to 10.244.0.1");
    net.node.get(NODE, 30080).expect("an answer");
    assert!(ask(&net.outside.udp(NODE, 30080)).expect("an answer").starts_with("zero"));
    let refused = net.node.get(Ipv4Addr::LOCALHOST, 30080).expect_err("loopback is no NodePort address");
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
}

async fn local_policy_keeps_the_client(setup: Setup) {
    let net = &setup.network;
    let _server = net.pods[0].serve("zero", 8080);
    let mut view = service(10, Some(30080), &PODS[..1]);
    view.external_local = true;
    let tables = setup.synced(&[view.clone()]).await;
    let answer = net.outside.get(NODE, 30080).expect("an answer");
    assert_eq!(answer, format!("zero to {OUTSIDE}"));
    view.ports.iter_mut().for_each(|port| port.local.clear());
    tables.set(&view.name.clone(), Some(view));
    tables.settle().await.expect("the kernel takes the rules");
    let dropped = net.outside.get(NODE, 30080).expect_err("nobody serves here");
    assert_eq!(dropped.kind(), ErrorKind::TimedOut);
    net.pods[1].get(NODE, 30080).expect("Pods are not from outside");
}

async fn nobody_there_is_said_at_once(setup: Setup) {
    let net = &setup.network;
    setup.synced(&[service(10, Some(30080), &[])]).await;
    for (who, from) in [("a Pod", &net.pods[0]), ("the node", &net.node), ("a stranger", &net.outside)] {
        for _ in 0..20 {
            let refused = from.get(IP, 80).expect_err(who);
            assert_eq!(refused.kind(), ErrorKind::ConnectionRefused, "{who}");
        }
        let refused = ask(&from.udp(IP, 80)).expect_err(who);
        // The node itself cannot even send.
        assert!(
            matches!(refused.kind(), ErrorKind::ConnectionRefused | ErrorKind::PermissionDenied),
            "{who}: {refused}"
        );
        assert_eq!(from.get(NODE, 30080).expect_err(who).kind(), ErrorKind::ConnectionRefused, "{who}");
    }
}

async fn a_pod_reaches_itself(setup: Setup) {
    let net = &setup.network;
    let _server = net.pods[0].serve("zero", 8080);
    setup.synced(&[service(10, None, &PODS[..1])]).await;
    assert_eq!(net.pods[0].get(IP, 80).expect("an answer"), "zero to 10.244.0.1");
    assert_eq!(ask(&net.pods[0].udp(IP, 80)).expect("an answer"), "zero to 10.244.0.1");
    // Another Pod keeps its address.
    assert_eq!(net.pods[1].get(IP, 80).expect("an answer"), format!("zero to {}", PODS[1]));
}

async fn affinity_holds(setup: Setup) {
    let net = &setup.network;
    let _servers = [net.pods[0].serve("zero", 8080), net.pods[1].serve("one", 8080)];
    let mut view = service(10, Some(30080), &PODS);
    view.affinity_seconds = Some(600);
    let tables = setup.synced(&[view.clone()]).await;
    let first = server(&net.outside.get(IP, 80).expect("an answer"));
    for _ in 0..20 {
        assert_eq!(server(&net.outside.get(IP, 80).expect("an answer")), first);
        assert_eq!(server(&net.outside.get(NODE, 30080).expect("an answer")), first);
    }
    // A change of the Service's chain does not forget its clients.
    view.ports[0].cluster.push(Backend { address: [10, 244, 0, 9].into(), port: 8080 });
    tables.set(&view.name.clone(), Some(view));
    tables.settle().await.expect("the kernel takes the rules");
    for _ in 0..20 {
        assert_eq!(server(&net.outside.get(IP, 80).expect("an answer")), first);
    }
}

async fn pods_reach_the_outside(setup: Setup) {
    let net = &setup.network;
    let _servers = [net.outside.serve("outside", 443), net.pods[1].serve("one", 8080)];
    setup.synced(&[]).await;
    assert_eq!(net.pods[0].get(OUTSIDE, 443).expect("an answer"), format!("outside to {NODE}"));
    let direct = net.pods[0].get(PODS[1], 8080).expect("an answer");
    assert_eq!(direct, format!("one to {}", PODS[0]), "between Pods nothing is translated");
}

async fn udp_follows_its_endpoints(setup: Setup) {
    if Command::new("conntrack").arg("--version").output().is_err() {
        eprintln!("skipped: needs conntrack");
        return;
    }
    let net = &setup.network;
    let _servers = [net.pods[0].serve("zero", 8080), net.pods[1].serve("one", 8080)];
    let tables = setup.synced(&[service(10, Some(30080), &PODS[..1])]).await;
    // One client, one socket: one conversation for conntrack.
    let (inner, outer) = (net.pods[1].udp(IP, 80), net.outside.udp(NODE, 30080));
    assert_eq!(server(&ask(&inner).expect("an answer")), "zero");
    assert_eq!(server(&ask(&outer).expect("an answer")), "zero");
    let view = service(10, Some(30080), &PODS[1..]);
    tables.set(&view.name.clone(), Some(view));
    tables.settle().await.expect("the kernel takes the rules");
    assert_eq!(server(&ask(&outer).expect("an answer")), "one");
    assert_eq!(server(&ask(&inner).expect("an answer")), "one");
}

async fn a_restart_changes_nothing(setup: Setup) {
    let mut affine = service(11, Some(30081), &PODS);
    affine.affinity_seconds = Some(600);
    affine.external_local = true;
    affine.internal_local = true;
    let many: Vec<Ipv4Addr> = (2..9).map(|n| Ipv4Addr::new(10, 244, 0, n)).collect();
    let views = [service(10, Some(30080), &PODS), affine, service(12, None, &[]), service(77, None, &many)];
    let first = setup.synced(&views).await;
    assert_eq!(first.read_back().await.expect("a save").differing, 0, "our text is the kernel's text");
    let again = setup.tables();
    for view in &views {
        again.set(&view.name, Some(view.clone()));
    }
    let actions = again.settle().await.expect("the kernel takes the rules");
    let changes = actions.iter().filter(|action| matches!(action, Action::Restore { .. })).count();
    assert_eq!(changes, 0, "{actions:?}");
}

async fn tampering_is_put_right(setup: Setup) {
    let net = &setup.network;
    let _server = net.pods[0].serve("zero", 8080);
    let tables = setup.synced(&[service(10, None, &PODS[..1])]).await;
    let names = Names::for_cluster(CLUSTER);
    let entry = names.fixed("SERVICES");
    for tamper in [
        "-t nat -F".to_owned(),
        "-t nat -F PREROUTING".to_owned(),
        format!("-t nat -I {entry} -j RETURN"),
        format!("-t nat -I {entry} -m limit --limit 3/min -j RETURN"),
        format!("-t nat -F {entry}"),
    ] {
        setup.iptables(&tamper);
        assert!(net.pods[1].get(IP, 80).is_err(), "broken by {tamper}");
        tables.distrust();
        tables.settle().await.expect("the kernel takes the rules");
        net.pods[1].get(IP, 80).unwrap_or_else(|error| panic!("{error} after {tamper}"));
        assert_eq!(tables.read_back().await.expect("a save").differing, 0, "{tamper}");
    }
}

async fn the_fake_agrees_with_the_kernel(setup: Setup) {
    let fake = Arc::new(FakeApplier::default());
    let pretended = tables(fake.clone());
    let real = setup.tables();
    let names = Names::for_cluster(CLUSTER);
    let mut affine = service(11, Some(30081), &PODS);
    affine.affinity_seconds = Some(600);
    let mut local = service(12, Some(30082), &PODS);
    (local.internal_local, local.external_local) = (true, true);
    let steps = [
        vec![service(10, Some(30080), &PODS), affine, local],
        vec![service(10, None, &[]), service(200, Some(30090), &PODS[1..])],
        vec![service(11, None, &PODS[..1])],
    ];
    for views in steps {
        for view in views {
            pretended.set(&view.name, Some(view.clone()));
            real.set(&view.name.clone(), Some(view));
        }
        pretended.settle().await.expect("the fake takes the rules");
        real.settle().await.expect("the kernel takes the rules");
        let mut saved = Vec::new();
        for table in Table::ALL {
            let kernels = setup.applier.save(table).await.expect("a save");
            saved.push((table, kernels, fake.save(table).await.expect("a save")));
        }
        let (mut there, mut here) = (Present::default(), Present::default());
        for (table, kernels, fakes) in &saved {
            there.read(*table, kernels, &names);
            here.read(*table, fakes, &names);
        }
        there.jumps.sort();
        here.jumps.sort();
        assert_eq!(there, here);
    }
    let error = setup.applier.restore("*nat\n:A - [0:0]\n-A A -j NOWHERE\nCOMMIT\n").await.expect_err("no such chain");
    assert!(error.to_string().contains("NOWHERE"), "it says what: {error}");
}

async fn cleanup_leaves_nothing(setup: Setup) {
    setup.iptables("-t nat -A PREROUTING -p tcp --dport 1 -j ACCEPT");
    setup.iptables("-t filter -N THEIRS");
    let saved = || async {
        let mut text = String::new();
        for table in Table::ALL {
            text += &setup.applier.save(table).await.expect("a save");
        }
        let counted = |line: &str| line.split(" [").next().unwrap_or_default().to_owned();
        text.lines().filter(|line| !line.starts_with('#')).map(counted).collect::<Vec<_>>()
    };
    let before = saved().await;
    setup.synced(&[service(10, Some(30080), &PODS), service(11, None, &[])]).await;
    assert_ne!(saved().await, before);
    cleanup(&*setup.applier, CLUSTER).await.expect("the kernel takes it");
    assert_eq!(saved().await, before);
}
