//! Custom resources in a whole cluster: owned and owning, in namespaces that go, and gone with their definition whatever
//! fails meanwhile.

use std::borrow::Cow;
use std::time::Duration;

use serde_json::{Value, json};
use skiff_client::{DeleteOptions, ListOptions, Resource};
use skiff_proto::apiextensionsv1::CustomResourceDefinition;
use skiff_proto::corev1::{ConfigMap, Namespace};
use skiff_tests::simulation::cluster::{Cluster, Layout, Part};
use skiff_world::Identity;
use skiff_world::sim::{Faults, Simulation};

use crate::patience::{User, condition, until, with_cluster};

fn definitions() -> Resource {
    Resource::of::<CustomResourceDefinition>()
}

fn maps() -> Resource {
    Resource::of::<ConfigMap>()
}

fn boats() -> Resource {
    let words = ["example.com", "v1", "boats", "Boat"].map(Cow::Borrowed);
    let [group, version, resource, kind] = words;
    Resource { group, version, resource, kind, namespaced: true }
}

const NAME: &str = "boats.example.com";

fn definition() -> Value {
    json!({
        "metadata": {"name": NAME},
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": {"plural": "boats", "kind": "Boat"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                "type": "object", "properties": {"spec": {"type": "object", "properties": {"oars": {"type": "integer"}}}}}}}],
        },
    })
}

fn boat(name: &str, owners: &[Value]) -> Value {
    json!({
        "apiVersion": "example.com/v1", "kind": "Boat",
        "metadata": {"name": name, "ownerReferences": owners},
        "spec": {"oars": 4},
    })
}

fn owner(api_version: &str, kind: &str, object: &Value) -> Value {
    let meta = &object["metadata"];
    json!({"apiVersion": api_version, "kind": kind, "name": meta["name"], "uid": meta["uid"]})
}

async fn defined(user: &User) {
    user.create(definitions(), "", definition()).await;
    until!(user, "the kind is established", {
        let object = user.get(definitions(), "", NAME).await.expect("there");
        condition(&object, "Established").is_some_and(|(status, _)| status == "True")
    });
}

#[test]
fn custom_resources_own_and_are_owned_and_go_with_their_namespace() {
    with_cluster(1, |user| async move {
        defined(&user).await;
        let map = |name: &str, owners: &[Value]| json!({"metadata": {"name": name, "ownerReferences": owners}});
        // A boat owns a map; a map owns a boat; and a boat has two owners, one of which goes.
        let ship = user.create(boats(), "default", boat("ship", &[])).await;
        user.create(maps(), "default", map("of-ship", &[owner("example.com/v1", "Boat", &ship)])).await;
        let port = user.create(maps(), "default", map("port", &[])).await;
        user.create(boats(), "default", boat("in-port", &[owner("v1", "ConfigMap", &port)])).await;
        let both = [owner("v1", "ConfigMap", &port), owner("example.com/v1", "Boat", &ship)];
        user.create(boats(), "default", boat("of-both", &both)).await;
        user.delete(maps(), "default", "port", "Background").await;
        until!(user, "the owned boat is gone", user.get(boats(), "default", "in-port").await.is_none());
        until!(user, "the other one forgets the owner that is gone", {
            let left = user.get(boats(), "default", "of-both").await.expect("it has another owner");
            left["metadata"]["ownerReferences"] == json!([owner("example.com/v1", "Boat", &ship)])
        });
        user.delete(boats(), "default", "ship", "Background").await;
        until!(user, "all that the ship owned is gone", {
            user.get(maps(), "default", "of-ship").await.is_none() && user.list(boats(), "default").await.is_empty()
        });
        // A namespace takes them with it.
        user.create(Resource::of::<Namespace>(), "", json!({"metadata": {"name": "sea"}})).await;
        user.create(boats(), "sea", boat("lost", &[])).await;
        user.delete(Resource::of::<Namespace>(), "", "sea", "").await;
        until!(user, "the namespace is gone", user.get(Resource::of::<Namespace>(), "", "sea").await.is_none());
        assert!(user.list(boats(), "").await.is_empty());
        // The kind goes while a namespace waits for its objects; it holds nobody up.
        user.delete(definitions(), "", NAME, "").await;
        until!(user, "the definition is gone", user.get(definitions(), "", NAME).await.is_none());
        user.create(Resource::of::<Namespace>(), "", json!({"metadata": {"name": "land"}})).await;
        user.delete(Resource::of::<Namespace>(), "", "land", "").await;
        until!(user, "a namespace goes as ever", user.get(Resource::of::<Namespace>(), "", "land").await.is_none());
    });
}

/// Two servers on one store, one of which loses its power again and again, and controllers that die with it.
#[test]
fn a_definition_takes_all_its_objects_with_it_whatever_fails() {
    for seed in 1..=4 {
        Simulation::new(seed).faults(Faults::none()).time_limit(Duration::from_secs(4 * 3600)).run(|sim| async move {
            let cluster = Cluster::laid_out(&sim, 0, Layout { two_servers: true, ..Layout::default() });
            for part in cluster.parts() {
                cluster.start(part);
            }
            let (world, client) = cluster.client("user", Identity::new("kubernetes-admin", &["system:masters"]));
            let user = User { sim, world, client };
            until!(
                user,
                "the API server answers",
                user.api(definitions()).list("", &ListOptions::default()).await.is_ok()
            );
            for round in 0..3 {
                until!(user, "the definition is taken", {
                    user.api(definitions()).create("", &definition()).await.is_ok()
                        || user.api(definitions()).get("", NAME).await.is_ok()
                });
                let mut made = 0;
                while made < 20 {
                    let object = boat(&format!("boat-{made}"), &[]);
                    match user.api(boats()).create("default", &object).await {
                        Err(error) if !error.is_already_exists() => user.world.sleep(Duration::from_millis(200)).await,
                        _ => made += 1,
                    }
                }
                until!(user, "the definition is told to go", {
                    let gone = user.api(definitions()).delete("", NAME, &DeleteOptions::default()).await;
                    gone.is_ok()
                });
                let victim = if round % 2 == 0 { Part::Server } else { Part::Standby };
                cluster.stop(victim, true).await;
                cluster.stop(Part::Controllers, false).await;
                user.world.sleep(Duration::from_secs(2)).await;
                cluster.start(victim);
                cluster.start(Part::Controllers);
                until!(user, "the definition is gone", {
                    matches!(user.api(definitions()).get_opt("", NAME).await, Ok(None))
                });
                let left = user.api(boats()).list("default", &ListOptions::default()).await;
                assert!(left.is_err(), "seed {seed}: the kind is served no more");
            }
            // The same name again: nothing of what was is left in the store.
            user.api(definitions()).create("", &definition()).await.expect("taken");
            until!(
                user,
                "it is served again",
                user.api(boats()).list("default", &ListOptions::default()).await.is_ok()
            );
            assert!(user.list(boats(), "").await.is_empty(), "seed {seed}");
        });
    }
}
