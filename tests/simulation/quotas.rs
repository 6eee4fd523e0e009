//! Quotas: never more than they give, whatever goes wrong, and what they say is true once it is quiet.

use std::time::Duration;

use serde_json::{Value, json};
use skiff_client::{DeleteOptions, DynamicApi, ListOptions, Patch, Resource};
use skiff_proto::appsv1::{Deployment, ReplicaSet};
use skiff_proto::corev1::{ConfigMap, Event, Pod, ResourceQuota};
use skiff_tests::simulation::cluster::{Cluster, Layout};
use skiff_tests::simulation::draws::Draws;
use skiff_tests::simulation::mix::Mix;
use skiff_tests::simulation::{Size, trouble};
use skiff_world::sim::{Faults, Simulation};
use skiff_world::{Identity, World};

use crate::patience::{User, condition, deployment, until, with_cluster};

/// How many ConfigMaps there may be; one of them the cluster makes itself.
const MOST: usize = 4;
/// How many people create and delete at once, and how often each.
const PEOPLE: u64 = 4;
const ACTS: usize = 40;

fn quota(hard: Value) -> Value {
    json!({ "metadata": { "name": "all" }, "spec": { "hard": hard } })
}

/// Somebody who creates and deletes as chance will have it, and looks each time that there is no more than there may be.
async fn busy(world: World, maps: DynamicApi, number: u64, seed: u64) -> usize {
    let mut draws = Draws::new(seed, number);
    let mut refused = 0;
    for _ in 0..ACTS {
        world.sleep(Duration::from_millis(draws.below(1_500))).await;
        let name = format!("m{}", draws.below(8));
        if draws.below(3) == 0 {
            // Whether it was there, or a server to ask, does not matter.
            let _ = maps.delete("default", &name, &DeleteOptions::default()).await;
        } else if let Err(error) = maps.create("default", &json!({ "metadata": { "name": name } })).await {
            refused += usize::from(error.to_string().contains("exceeded quota"));
        }
        if let Ok(all) = maps.list("default", &ListOptions::default()).await {
            assert!(all.items.len() <= MOST, "{} of {MOST}", all.items.len());
        }
    }
    refused
}

#[test]
fn a_quota_is_never_exceeded_and_is_true_when_it_is_quiet() {
    let mut refused = 0;
    for seed in 0..6 {
        let simulation = Simulation::new(seed).faults(Faults::default()).time_limit(Duration::from_secs(4 * 3600));
        let run = simulation.attempt(move |sim| async move {
            let two_servers = seed % 2 == 1;
            let cluster = Cluster::laid_out(&sim, 1, Layout { two_servers, ..Layout::default() });
            for part in cluster.parts() {
                cluster.start(part);
            }
            let admin = || Identity::new("kubernetes-admin", &["system:masters"]);
            let (world, client) = cluster.client("user", admin());
            let user = User { sim: sim.clone(), world, client };
            let quotas = || user.api(Resource::of::<ResourceQuota>());
            let hard = quota(json!({ "configmaps": MOST.to_string(), "count/configmaps": "9" }));
            until!(user, "the quota is made", quotas().create("default", &hard).await.is_ok());
            let mix = Mix::whole(Size { nodes: 1, troubles: 6, ..Size::default() });
            let troubles = trouble::of_seed(seed, &mix, two_servers);
            let people = (0..PEOPLE).map(|number| {
                let (world, client) = cluster.client(&format!("person-{number}"), admin());
                busy(world, DynamicApi::of(&client, Resource::of::<ConfigMap>()), number, seed)
            });
            let (refused, ()) =
                tokio::join!(futures::future::join_all(people), trouble::make(&cluster, &sim, &troubles));
            sim.calm();
            until!(user, "what the quota says is what there is", {
                let all = user.api(Resource::of::<ConfigMap>()).list("default", &ListOptions::default()).await;
                let quota = quotas().get_opt("default", "all").await;
                match (all, quota) {
                    (Ok(all), Ok(Some(quota))) => {
                        let there = json!(all.items.len().to_string());
                        let used = &quota["status"]["used"];
                        used["configmaps"] == there && used["count/configmaps"] == there
                    }
                    _ => false,
                }
            });
            refused.into_iter().sum::<usize>()
        });
        refused += run.value.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    }
    assert!(refused > 20, "only {refused} were refused: hardly anything was tried");
}

/// The names of the running Pods of an app.
async fn pods_of(user: &User, app: &str) -> usize {
    let pods = user.list(Resource::of::<Pod>(), "default").await;
    pods.iter().filter(|pod| pod["metadata"]["labels"]["app"] == app).count()
}

#[test]
fn whoever_finds_no_room_says_so_and_goes_on_when_there_is() {
    with_cluster(1, |user| async move {
        let soon = Duration::from_secs(5);
        let quotas = Resource::of::<ResourceQuota>();
        user.create(quotas.clone(), "default", quota(json!({ "pods": "3" }))).await;
        until!(user, "it is counted", {
            let quota = user.get(quotas.clone(), "default", "all").await.expect("it is there");
            quota["status"]["used"]["pods"] == "0"
        });
        user.create(Resource::of::<Deployment>(), "default", deployment("first", 2)).await;
        until!(user, "the first have room", pods_of(&user, "first").await == 2);
        user.create(Resource::of::<Deployment>(), "default", deployment("second", 3)).await;
        until!(user, "it is said that there is no room", {
            let sets = user.list(Resource::of::<ReplicaSet>(), "default").await;
            let failed = Some(("True".to_string(), "FailedCreate".to_string()));
            sets.iter().filter(|set| condition(set, "ReplicaFailure") == failed).count() == 1
        });
        until!(user, "an Event tells it", {
            let events = user.list(Resource::of::<Event>(), "default").await;
            events.iter().any(|event| {
                let message = event["message"].as_str().unwrap_or_default();
                event["reason"] == "FailedCreate"
                    && message.contains("exceeded quota: all, requested: pods=1, used: pods=3")
            })
        });
        // By now the next try by itself is minutes away.
        user.world.sleep(Duration::from_secs(600)).await;
        assert_eq!(pods_of(&user, "second").await, 1);

        let began = user.world.now();
        let scale = Patch::Merge(json!({ "spec": { "replicas": 1 } }));
        user.api(Resource::of::<Deployment>()).patch("default", "first", scale, None).await.expect("scaled");
        until!(user, "what the one gave up the other has", pods_of(&user, "second").await == 2);
        let gone = user.world.now() - began;
        let more = Patch::Merge(json!({ "spec": { "hard": { "pods": "4" } } }));
        user.api(quotas.clone()).patch("default", "all", more, None).await.expect("raised");
        let began = user.world.now();
        until!(user, "the last one has room", pods_of(&user, "second").await == 3);
        let took = user.world.now() - began;
        // A Pod may take its leave for half a minute.
        assert!(took < soon && gone < soon + Duration::from_secs(30), "{took:?} and {gone:?}");
        until!(user, "nothing fails any more", {
            let sets = user.list(Resource::of::<ReplicaSet>(), "default").await;
            sets.iter().all(|set| condition(set, "ReplicaFailure").is_none())
        });
        let quota = user.get(quotas.clone(), "default", "all").await.expect("it is there");
        assert_eq!(quota["status"]["used"], json!({ "pods": "4" }));
    });
}
