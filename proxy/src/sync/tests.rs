//! Tables kept right through changes, failures, restarts and tampering, against the fake.

use std::sync::Arc;
use std::time::Duration;

use skiff_world::World;

use super::{Action, Observed, Tables, cleanup};
use crate::apply::FakeApplier;
use crate::apply::fake;
use crate::rules::Facts;
use crate::services::{Backend, PortView, Protocol, ServiceName, ServicePort, ServiceView};

fn facts(cluster: &str) -> Facts {
    Facts {
        cluster: cluster.into(),
        node: "n1".into(),
        cluster_cidr: "10.244.0.0/16".parse().expect("a network"),
        pod_cidr: None,
        node_port_addresses: Vec::new(),
    }
}

fn tables(applier: &Arc<FakeApplier>, cluster: &str) -> Tables {
    Tables::new(&World::real("test"), applier.clone(), facts(cluster), Duration::from_secs(30))
}

fn view(n: u8, endpoints: u8, protocol: Protocol) -> (ServiceName, ServiceView) {
    let name = ServiceName::new("default", format!("s{n}"));
    let cluster = (0..endpoints).map(|e| Backend { address: [10, 244, n, e].into(), port: 80 }).collect();
    let port = ServicePort { name: String::new(), protocol, port: 80, node_port: None };
    let view = ServiceView {
        name: name.clone(),
        cluster_ip: Some([10, 96, 0, n].into()),
        affinity_seconds: None,
        internal_local: false,
        external_local: false,
        ports: vec![PortView { port, cluster, local: Vec::new(), here: Vec::new() }],
    };
    (name, view)
}

fn fill(tables: &Tables, count: u8, endpoints: u8) {
    for n in 0..count {
        let (name, view) = view(n, endpoints, Protocol::Tcp);
        tables.set(&name, Some(view));
    }
}

async fn written(applier: &Arc<FakeApplier>, cluster: &str, count: u8, endpoints: u8) -> Tables {
    let tables = tables(applier, cluster);
    fill(&tables, count, endpoints);
    tables.settle().await.expect("nothing fails");
    tables
}

#[tokio::test]
async fn the_first_sync_reads_writes_and_is_done() {
    let applier = Arc::new(FakeApplier::new(10));
    let tables = written(&applier, "skiff", 20, 2).await;
    assert!(applier.take_restores().len() > 4, "in batches");
    assert!(tables.settle().await.expect("nothing fails").is_empty());
    assert_eq!(tables.read_back().await.expect("nothing fails").differing, 0);
}

#[tokio::test]
async fn a_restart_writes_nothing() {
    let applier = Arc::new(FakeApplier::default());
    written(&applier, "skiff", 20, 2).await;
    applier.take_restores();
    let again = written(&applier, "skiff", 20, 2).await;
    assert!(applier.take_restores().is_empty());
    drop(again);
    written(&applier, "skiff", 19, 2).await;
    let restores = applier.take_restores();
    assert_eq!(restores.len(), 1, "{restores:?}");
    assert!(restores[0].lines().count() < 30, "{}", restores[0]);
}

#[tokio::test]
async fn a_change_writes_its_own_chain_alone() {
    let applier = Arc::new(FakeApplier::default());
    let tables = written(&applier, "skiff", 20, 2).await;
    applier.take_restores();
    let (name, more) = view(7, 3, Protocol::Tcp);
    tables.set(&name, Some(more));
    tables.settle().await.expect("nothing fails");
    let restores = applier.take_restores();
    assert_eq!(restores.len(), 1);
    assert_eq!(restores[0].matches("\n:").count(), 1, "{}", restores[0]);
    assert_eq!(tables.read_back().await.expect("nothing fails").differing, 0);
}

#[tokio::test]
async fn after_a_failure_it_reads_back_and_converges() {
    for failing in 1..6 {
        let applier = Arc::new(FakeApplier::new(10));
        let tables = tables(&applier, "skiff");
        fill(&tables, 20, 2);
        applier.fail_next(failing);
        let mut failures = 0;
        while tables.settle().await.is_err() {
            failures += 1;
            assert!(matches!(tables.observe(), Observed::Unread { .. }));
        }
        assert_eq!(failures, failing);
        assert_eq!(tables.read_back().await.expect("nothing fails").differing, 0);
    }
}

#[tokio::test]
async fn what_changes_while_it_is_written_is_written_again() {
    let applier = Arc::new(FakeApplier::default());
    let tables = written(&applier, "skiff", 3, 2).await;
    let (name, more) = view(1, 3, Protocol::Tcp);
    tables.set(&name, Some(more));
    let steps = super::plan(&tables.observe()).steps;
    let (name, most) = view(1, 4, Protocol::Tcp);
    tables.set(&name, Some(most));
    for step in steps {
        tables.act(&step.action).await.expect("nothing fails");
    }
    tables.settle().await.expect("nothing fails");
    assert_eq!(tables.read_back().await.expect("nothing fails").differing, 0);
}

#[tokio::test]
async fn tampering_is_put_right_without_touching_the_rest() {
    let applier = Arc::new(FakeApplier::default());
    let tables = written(&applier, "skiff", 20, 2).await;
    let good = applier.tables();
    applier.take_restores();
    applier.tamper(|tables| {
        tables.nat.get_mut("PREROUTING").expect("there").clear();
        let chain = tables.nat.iter_mut().find(|(name, _)| name.contains("-SVC-")).expect("there").1;
        chain.insert(0, "-j DROP".into());
    });
    tables.distrust();
    tables.settle().await.expect("nothing fails");
    assert_eq!(applier.tables(), good);
    let restores = applier.take_restores();
    assert_eq!(restores.len(), 1);
    assert_eq!(restores[0].matches("\n:").count(), 1, "{}", restores[0]);

    applier.tamper(|tables| *tables = fake::Tables::default());
    tables.distrust();
    tables.settle().await.expect("nothing fails");
    assert_eq!(applier.tables(), good);
}

#[tokio::test(start_paused = true)]
async fn tables_are_looked_at_from_time_to_time() {
    let applier = Arc::new(FakeApplier::default());
    let tables = written(&applier, "skiff", 2, 2).await;
    let good = applier.tables();
    applier.tamper(|tables| tables.nat.get_mut("OUTPUT").expect("there").clear());
    tokio::time::advance(Duration::from_secs(29)).await;
    assert!(tables.settle().await.expect("nothing fails").is_empty());
    tokio::time::advance(Duration::from_secs(2)).await;
    tables.settle().await.expect("nothing fails");
    assert_eq!(applier.tables(), good);
}

#[tokio::test]
async fn stale_conversations_are_forgotten_after_the_rules_are_in_place() {
    let applier = Arc::new(FakeApplier::default());
    let tables = tables(&applier, "skiff");
    let (name, two) = view(1, 2, Protocol::Udp);
    tables.set(&name, Some(two));
    tables.settle().await.expect("nothing fails");
    applier.take_forgotten();
    tables.set(&name, Some(view(1, 1, Protocol::Udp).1));
    let actions = tables.settle().await.expect("nothing fails");
    assert!(matches!(&actions[..], [Action::Restore { .. }, Action::Forget(_)]), "{actions:?}");
    let gone: Vec<_> = applier.take_forgotten().iter().map(ToString::to_string).collect();
    assert_eq!(gone, ["udp 10.96.0.1:80 -> 10.244.1.1"]);
}

#[tokio::test]
async fn cleanup_leaves_others_alone() {
    let applier = Arc::new(FakeApplier::new(10));
    applier.tamper(|tables| tables.nat.get_mut("PREROUTING").expect("there").push("-i eth9 -j DOCKER".into()));
    written(&applier, "one", 5, 2).await;
    let one = applier.tables();
    written(&applier, "two", 20, 2).await;
    cleanup(&*applier, "two").await.expect("nothing fails");
    assert_eq!(applier.tables(), one);
    cleanup(&*applier, "one").await.expect("nothing fails");
    let mut before = fake::Tables::default();
    before.nat.get_mut("PREROUTING").expect("there").push("-i eth9 -j DOCKER".into());
    assert_eq!(applier.tables(), before);
}
