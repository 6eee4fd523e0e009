//! A PodDisruptionBudget between a drain and the Pods of a node.

use crate::cluster::{Cluster, eventually};
use crate::web::Web;

/// The names of the Pods on a node.
fn on(cluster: &Cluster, node: &str) -> Vec<String> {
    let pods = cluster.pods("app=web");
    let here = pods.iter().filter(|p| p["spec"]["nodeName"] == node);
    here.map(|p| p["metadata"]["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_drain_takes_no_more_than_a_budget_gives() {
    let cluster = Cluster::up_with("budgets", &["--nodes", "2"]);
    // Both Pods on one node, and another node for them to go to.
    cluster.ctl(&["cordon", "node-2"]);
    cluster.apply(&Web::new(2).probed().yaml());
    cluster.ctl(&["rollout", "status", "deployment/web", "--timeout", "60s"]);
    cluster.ctl(&["uncordon", "node-2"]);
    cluster.apply(
        "apiVersion: policy/v1\nkind: PodDisruptionBudget\nmetadata: {name: web}\n\
         spec: {minAvailable: 2, selector: {matchLabels: {app: web}}}\n",
    );
    let counted = |healthy: i64, allowed: i64| {
        let status = cluster.get(&["pdb", "web"]).remove(0)["status"].clone();
        let is = |field: &str, n: i64| status[field] == n;
        (is("currentHealthy", healthy) && is("disruptionsAllowed", allowed) && is("expectedPods", 2)).then_some(())
    };
    eventually("the budget is counted", || counted(2, 0));

    let before = on(&cluster, "node-1");
    assert_eq!(before.len(), 2);
    let impossible = cluster.refused(&["drain", "node-1", "--timeout", "3s"]);
    let why = "the disruption budget web needs 2 healthy pods and has 2 currently";
    assert!(impossible.contains(why) && impossible.contains("unable to drain node \"node-1\""), "{impossible}");
    assert_eq!(on(&cluster, "node-1"), before, "none of them has gone");

    // One may be missing: they go one after the other.
    cluster.ctl(&["patch", "pdb", "web", "-p", r#"{"spec": {"minAvailable": 1}}"#]);
    let row = cluster.ctl(&["get", "pdb", "web"]);
    let titles = "NAME   MIN AVAILABLE   MAX UNAVAILABLE   ALLOWED DISRUPTIONS   AGE";
    assert!(row.starts_with(titles) && row.contains("web    1               N/A"), "{row}");
    let drained = cluster.ctl(&["drain", "node-1", "--timeout", "90s"]);
    assert!(drained.contains("node/node-1 drained"), "{drained}");
    assert_eq!(on(&cluster, "node-1"), Vec::<String>::new());
    eventually("the others are there", || counted(2, 1));
}
