//! A server whose cache is behind its store.

use std::time::Duration;

use skiff_client::{Api, ListOptions, Patch};
use skiff_proto::corev1::ConfigMap;
use skiff_proto::metav1::ObjectMeta;
use skiff_tests::simulation::cluster::{Cluster, Part};
use skiff_world::Identity;
use skiff_world::sim::{Faults, Simulation};

#[test]
fn a_list_shows_what_was_written_before_it() {
    let limited = Simulation::new(1).faults(Faults::none()).time_limit(Duration::from_secs(600));
    limited.run(|sim| async move {
        let cluster = Cluster::new(&sim, 1);
        cluster.start(Part::Server);
        let (world, client) = cluster.client("user", Identity::new("kubernetes-admin", &["system:masters"]));
        let maps = Api::<ConfigMap>::new(&client);
        let listed = async || maps.list("default", &ListOptions::default()).await;
        while listed().await.is_err() {
            world.sleep(Duration::from_millis(100)).await;
        }
        cluster.weathers()[0].late(Duration::from_millis(900));
        for number in 1..=10 {
            let metadata = ObjectMeta { name: format!("m{number}"), namespace: "default".into(), ..Default::default() };
            maps.create(&ConfigMap { metadata, ..ConfigMap::default() }).await.expect("it is made");
            assert_eq!(listed().await.expect("a list").items.len(), number);
        }
    });
}

/// What would change nothing of what the cache shows may change what is stored.
#[test]
fn a_change_back_to_what_was_is_written() {
    let limited = Simulation::new(2).faults(Faults::none()).time_limit(Duration::from_secs(600));
    limited.run(|sim| async move {
        let cluster = Cluster::new(&sim, 1);
        cluster.start(Part::Server);
        let (world, client) = cluster.client("user", Identity::new("kubernetes-admin", &["system:masters"]));
        let maps = Api::<ConfigMap>::new(&client);
        let metadata = ObjectMeta { name: "m".into(), namespace: "default".into(), ..Default::default() };
        let first = ConfigMap { metadata, data: [("value".into(), "0".into())].into(), ..ConfigMap::default() };
        while maps.create(&first).await.is_err() {
            world.sleep(Duration::from_millis(100)).await;
        }
        cluster.weathers()[0].late(Duration::from_millis(900));
        for turn in 1..=10 {
            for value in ["1", "0"] {
                let patch = Patch::Merge(serde_json::json!({"data": {"value": value}}));
                maps.patch("default", "m", patch, None).await.expect("it is patched");
            }
            assert_eq!(maps.get("default", "m").await.expect("it is there").data["value"], "0", "turn {turn}");
        }
    });
}
