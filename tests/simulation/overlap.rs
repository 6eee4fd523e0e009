//! Two who could fight over the same Pods.

use std::time::Duration;

use serde_json::{Value, json};
use skiff_client::Resource;
use skiff_proto::appsv1::{Deployment, ReplicaSet};
use skiff_proto::corev1::Pod;

use crate::patience::{User, deployment, until, with_cluster};

/// Each Pod's controller, and that one's, by name.
async fn owners(user: &User) -> Vec<(String, String)> {
    let owner = |object: &Value| object["metadata"]["ownerReferences"][0]["name"].as_str().map(String::from);
    let sets = user.list(Resource::of::<ReplicaSet>(), "default").await;
    let pods = user.list(Resource::of::<Pod>(), "default").await;
    let of = |set: &str| sets.iter().find(|s| s["metadata"]["name"] == set).and_then(owner).unwrap_or_default();
    let mut owners: Vec<_> = pods.iter().filter_map(owner).map(|set| (of(&set), set)).collect();
    owners.sort();
    owners
}

/// One template, one selector, and so one hash: only the owner references tell whose a Pod is.
#[test]
fn deployments_with_the_same_labels_leave_each_other_alone() {
    with_cluster(2, |user| async move {
        for (name, replicas) in [("one", 2), ("two", 3)] {
            let mut same = deployment("web", replicas);
            same["metadata"]["name"] = json!(name);
            user.create(Resource::of::<Deployment>(), "default", same).await;
        }
        until!(user, "all five Pods exist", owners(&user).await.len() == 5);
        let before = owners(&user).await;
        let counted: Vec<&str> = before.iter().map(|(deployment, _)| deployment.as_str()).collect();
        assert_eq!(counted, ["one", "one", "two", "two", "two"]);
        user.world.sleep(Duration::from_secs(300)).await;
        assert_eq!(owners(&user).await, before, "nobody has taken anything from the other one");
        user.delete(Resource::of::<Deployment>(), "default", "one", "").await;
        until!(user, "its Pods are gone", owners(&user).await.len() <= 3);
        user.world.sleep(Duration::from_secs(300)).await;
        assert!(owners(&user).await.iter().all(|(deployment, _)| deployment == "two"));
        assert_eq!(owners(&user).await.len(), 3);
    });
}
