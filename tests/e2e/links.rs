//! A node's link is cut, and comes back.

use std::process::Command;

use serde_json::json;

use crate::cluster::{Cluster, eventually, http_get};
use crate::web::Web;

fn workload() -> String {
    let given_up = |key: &str| json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 2});
    let lost = ["node.kubernetes.io/unreachable", "node.kubernetes.io/not-ready"].map(given_up);
    Web::new(3).on_port(30082).pod(json!({"tolerations": lost})).yaml()
}

fn link(cluster: &Cluster, node: &str, state: &str) {
    let switch = format!("skiff.{}.switch", cluster.name());
    let status = Command::new("ip").args(["-n", &switch, "link", "set", node, state]).status().unwrap();
    assert!(status.success());
}

fn ready(cluster: &Cluster, node: &str) -> bool {
    let node = cluster.get(&["node", node]).remove(0);
    node["status"]["conditions"]
        .as_array()
        .is_some_and(|c| c.iter().any(|c| c["type"] == "Ready" && c["status"] == "True"))
}

/// How many Pods that are meant to live run on each of the other nodes.
fn live_elsewhere(cluster: &Cluster, lost: &str) -> usize {
    cluster
        .pods("app=web")
        .iter()
        .filter(|p| p["spec"]["nodeName"] != lost && p["status"]["phase"] == "Running")
        .count()
}

#[test]
fn a_lost_node_is_replaced_and_comes_back_clean() {
    let cluster = Cluster::up_with("links", &["--nodes", "3", "--node-grace", "15"]);
    cluster.apply(&workload());
    cluster.ctl(&["rollout", "status", "deployment/web", "--timeout", "90s"]);
    let addresses = cluster.node_addresses();
    let front = format!("{}:30082", addresses[0]);
    eventually("the Service answers", || http_get(&front, "/plain").ok());

    link(&cluster, "node-3", "down");
    eventually("the node is NotReady", || (!ready(&cluster, "node-3")).then_some(()));
    eventually("its Pods are replaced elsewhere", || (live_elsewhere(&cluster, "node-3") == 3).then_some(()));
    eventually("the Service sends to live Pods only", || {
        (0..12).all(|_| http_get(&front, "/plain").is_ok()).then_some(())
    });

    link(&cluster, "node-3", "up");
    eventually("the node is Ready again", || ready(&cluster, "node-3").then_some(()));
    eventually("one copy of each, and no leftovers", || {
        let pods = cluster.get(&["pods", "-l", "app=web"]);
        // A pause and an app container a Pod, and a holder a node.
        let containers = cluster.containers().len();
        let holders = containers.checked_sub(2 * pods.len())?;
        (pods.len() == 3 && holders <= 3).then_some(())
    });
    let answers = (0..12).filter(|_| http_get(&format!("{}:30082", addresses[2]), "/plain").is_ok()).count();
    assert_eq!(answers, 12, "the node that was lost forwards again");
}
