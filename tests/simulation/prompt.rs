//! How soon things happen where nothing goes wrong: nobody waits for the next look at a clock.

use std::time::Duration;

use skiff_client::Resource;
use skiff_proto::appsv1::Deployment;
use skiff_proto::corev1::Pod;

use crate::patience::{condition, deployment, until, with_cluster};

/// From the user through three controllers, the scheduler and the kubelet, and back to the Deployment's status.
const SOON: Duration = Duration::from_secs(5);

#[test]
fn what_is_asked_for_is_there_within_seconds() {
    with_cluster(2, |user| async move {
        let began = user.world.now();
        user.create(Resource::of::<Deployment>(), "default", deployment("web", 3)).await;
        until!(user, "three Pods are ready", {
            let pods = user.list(Resource::of::<Pod>(), "default").await;
            let ready = |p: &&serde_json::Value| condition(p, "Ready").is_some_and(|(status, _)| status == "True");
            pods.iter().filter(ready).count() == 3
        });
        until!(user, "the Deployment says so", {
            let web = user.get(Resource::of::<Deployment>(), "default", "web").await.expect("it is there");
            web["status"]["availableReplicas"] == 3
        });
        let took = user.world.now() - began;
        assert!(took < SOON, "it took {took:?}");
    });
}
