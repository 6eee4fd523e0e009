//! Nodes that are lost, one or many: who is given up, and who is not.

use std::time::Duration;

use serde_json::{Value, json};
use skiff_client::{Patch, Resource};
use skiff_proto::appsv1::Deployment;
use skiff_proto::corev1::{Node, Pod};

use crate::patience::{User, condition, deployment, until, with_cluster};

fn nodes() -> Resource {
    Resource::of::<Node>()
}

/// The taints of a node as `key:effect`, without the part that all keys have in common.
fn taints(node: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().replace("node.kubernetes.io/", "");
    let taints = node["spec"]["taints"].as_array().cloned().unwrap_or_default();
    taints.iter().map(|t| format!("{}:{}", text(&t["key"]), text(&t["effect"]))).collect()
}

async fn all_taints(user: &User) -> Vec<Vec<String>> {
    user.list(nodes(), "").await.iter().map(taints).collect()
}

/// How many nodes have a taint.
async fn tainted(user: &User, taint: &str) -> usize {
    all_taints(user).await.iter().filter(|taints| taints.iter().any(|t| t == taint)).count()
}

/// How many Pods that are not on their way out a node has.
async fn pods_on(user: &User, node: &str) -> usize {
    let pods = user.list(Resource::of::<Pod>(), "default").await;
    let there = |p: &&Value| p["spec"]["nodeName"] == node && p["metadata"]["deletionTimestamp"].is_null();
    pods.iter().filter(there).count()
}

#[test]
fn a_cordon_is_a_taint_and_goes_with_it() {
    with_cluster(1, |user| async move {
        let cordon = |on: bool| Patch::Merge(json!({ "spec": { "unschedulable": on } }));
        user.api(nodes()).patch("", "node-1", cordon(true), None).await.expect("cordoned");
        until!(user, "it is tainted", all_taints(&user).await == [["unschedulable:NoSchedule"]]);
        user.api(nodes()).patch("", "node-1", cordon(false), None).await.expect("uncordoned");
        until!(user, "it is not", tainted(&user, "unschedulable:NoSchedule").await == 0);
    });
}

#[test]
fn pods_leave_a_lost_node_when_their_toleration_ends() {
    with_cluster(3, |user| async move {
        let mut web = deployment("web", 3);
        web["spec"]["template"]["spec"]["tolerations"] = json!([
            { "key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5 },
        ]);
        user.create(Resource::of::<Deployment>(), "default", web).await;
        user.create(Resource::of::<Deployment>(), "default", deployment("patient", 3)).await;
        until!(user, "six Pods are ready, two on each node", {
            let pods = user.list(Resource::of::<Pod>(), "default").await;
            let ready = pods.iter().filter(|p| condition(p, "Ready").is_some_and(|(status, _)| status == "True"));
            ready.count() == 6 && pods_on(&user, "node-1").await == 2
        });
        user.sim.link_down("node-1");
        until!(user, "its Pods are not ready", {
            let pods = user.list(Resource::of::<Pod>(), "default").await;
            let mut lost = pods.iter().filter(|p| p["spec"]["nodeName"] == "node-1").peekable();
            lost.peek().is_some()
                && lost.all(|p| condition(p, "Ready") == Some(("False".into(), "NodeNotReady".into())))
        });
        until!(user, "it is given up", tainted(&user, "unreachable:NoExecute").await == 1);
        let began = user.world.now();
        until!(user, "the first Pod leaves", pods_on(&user, "node-1").await == 1);
        let first = (user.world.now() - began).as_secs();
        until!(user, "the second Pod leaves", pods_on(&user, "node-1").await == 0);
        let second = (user.world.now() - began).as_secs();
        // Those that don't say have a minute in simulated clusters. Times of taints are in whole seconds.
        assert!((4..=6).contains(&first) && (58..=62).contains(&second), "after {first} s and {second} s");
        user.sim.link_up("node-1");
        until!(user, "nothing of it is left", tainted(&user, "unreachable:NoSchedule").await == 0);
    });
}

#[test]
fn the_more_are_lost_the_fewer_are_given_up() {
    with_cluster(5, |user| async move {
        let (no_schedule, no_execute) = ("unreachable:NoSchedule", "unreachable:NoExecute");
        user.sim.link_down("node-1");
        until!(user, "one is given up", tainted(&user, no_execute).await == 1);
        for node in ["node-2", "node-3", "node-4"] {
            user.sim.link_down(node);
        }
        until!(user, "four are unreachable", tainted(&user, no_schedule).await == 4);
        user.world.sleep(Duration::from_secs(120)).await;
        let given_up = tainted(&user, no_execute).await;
        // Until three are known to be lost the zone is a good one, and one in ten seconds is given up.
        assert!((1..=2).contains(&given_up), "{given_up} of four are given up, though the zone may be what is lost");

        user.sim.link_down("node-5");
        until!(user, "all are unreachable", tainted(&user, no_schedule).await == 5);
        until!(user, "nobody is given up", tainted(&user, no_execute).await == 0);
        user.world.sleep(Duration::from_secs(120)).await;
        assert_eq!(tainted(&user, no_execute).await, 0, "if all are lost, we are");

        for node in 1..=5 {
            user.sim.link_up(&format!("node-{node}"));
        }
        until!(user, "all are back", all_taints(&user).await.iter().all(Vec::is_empty));
    });
}

#[test]
fn pods_of_a_node_that_was_deleted_are_replaced() {
    with_cluster(2, |user| async move {
        user.create(Resource::of::<Deployment>(), "default", deployment("web", 4)).await;
        until!(user, "both nodes have Pods", {
            pods_on(&user, "node-1").await == 2 && pods_on(&user, "node-2").await == 2
        });
        user.sim.link_down("node-1");
        user.delete(nodes(), "", "node-1", "").await;
        until!(user, "all Pods are on the other node", pods_on(&user, "node-2").await == 4);
        let pods = user.list(Resource::of::<Pod>(), "default").await;
        assert!(pods.iter().all(|p| p["spec"]["nodeName"] == "node-2"), "and none is left behind");
    });
}
