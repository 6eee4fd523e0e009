//! Deletion in a whole cluster: what goes with what, in which order, and what stays.

use std::time::Duration;

use serde_json::{Value, json};
use skiff_client::driver::Reconciler;
use skiff_client::{ObjectKey, Patch, Resource};
use skiff_controllers::garbage::{self, plan::Action};
use skiff_controllers::inventory::{Inventory, ObjectId, OwnerView};
use skiff_proto::appsv1::{Deployment, ReplicaSet};
use skiff_proto::corev1::{ConfigMap, Event, Namespace, Pod};

use crate::patience::{User, condition, deployment, until, with_cluster};

fn maps() -> Resource {
    Resource::of::<ConfigMap>()
}

fn deployments() -> Resource {
    Resource::of::<Deployment>()
}

fn owner(map: &Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap", "blockOwnerDeletion": true,
        "name": map["metadata"]["name"], "uid": map["metadata"]["uid"],
    })
}

async fn map(user: &User, name: &str, owners: &[&Value]) -> Value {
    let owners: Vec<Value> = owners.iter().map(|o| owner(o)).collect();
    user.create(maps(), "default", json!({ "metadata": { "name": name, "ownerReferences": owners } })).await
}

async fn exists(user: &User, name: &str) -> bool {
    user.get(maps(), "default", name).await.is_some()
}

/// Long enough for anybody to do what they should not.
async fn a_while(user: &User) {
    user.world.sleep(Duration::from_secs(120)).await;
}

#[test]
fn an_orphaned_replica_set_lives_and_one_deleted_in_the_foreground_goes_last() {
    with_cluster(2, |user| async move {
        let (sets, pods) = (Resource::of::<ReplicaSet>(), Resource::of::<Pod>());
        user.create(deployments(), "default", deployment("web", 3)).await;
        until!(user, "three Pods exist", user.list(pods.clone(), "default").await.len() == 3);
        user.delete(deployments(), "default", "web", "Orphan").await;
        until!(user, "the Deployment is gone", user.get(deployments(), "default", "web").await.is_none());
        a_while(&user).await;
        let [set] = user.list(sets.clone(), "default").await.try_into().expect("one ReplicaSet");
        let name = set["metadata"]["name"].as_str().unwrap_or_default();
        assert_eq!(set["metadata"]["ownerReferences"], Value::Null, "nobody owns it");
        assert_eq!(user.list(pods.clone(), "default").await.len(), 3);

        user.delete(sets.clone(), "default", name, "Foreground").await;
        let set = user.get(sets.clone(), "default", name).await.expect("it waits for its Pods");
        assert_eq!(set["metadata"]["finalizers"], json!(["foregroundDeletion"]));
        until!(user, "the ReplicaSet is gone", user.get(sets.clone(), "default", name).await.is_none());
        assert_eq!(user.list(pods.clone(), "default").await.len(), 0, "its Pods went before it");
    });
}

#[test]
fn a_deployment_deleted_in_the_background_goes_first() {
    with_cluster(2, |user| async move {
        let (sets, pods) = (Resource::of::<ReplicaSet>(), Resource::of::<Pod>());
        user.create(deployments(), "default", deployment("web", 3)).await;
        until!(user, "three Pods exist", user.list(pods.clone(), "default").await.len() == 3);
        user.delete(deployments(), "default", "web", "").await;
        assert!(user.get(deployments(), "default", "web").await.is_none());
        until!(user, "all that it owned is gone", {
            user.list(sets.clone(), "default").await.is_empty() && user.list(pods.clone(), "default").await.is_empty()
        });
    });
}

#[test]
fn what_two_own_lives_until_both_are_gone() {
    with_cluster(1, |user| async move {
        let (a, b) = (map(&user, "a", &[]).await, map(&user, "b", &[]).await);
        map(&user, "child", &[&a, &b]).await;
        user.delete(maps(), "default", "a", "Foreground").await;
        until!(user, "the first is gone", !exists(&user, "a").await);
        a_while(&user).await;
        let child = user.get(maps(), "default", "child").await.expect("its other owner lives");
        assert_eq!(child["metadata"]["ownerReferences"], json!([owner(&b)]));
        user.delete(maps(), "default", "b", "Background").await;
        until!(user, "the child is gone", !exists(&user, "child").await);
    });
}

/// An inventory that is behind shows no owner; that must not cost the dependent.
#[test]
fn the_server_is_asked_before_anything_is_deleted() {
    with_cluster(1, |user| async move {
        let a = map(&user, "a", &[]).await;
        map(&user, "child", &[&a]).await;
        let inventory = Inventory::new(&user.world, &user.client, |_, _, _| {});
        inventory.discover().await.expect("the API server answers");
        let id = ObjectId { resource: maps(), key: ObjectKey::new("default", "child") };
        let item = inventory.get(&id).expect("it is listed");
        let controller = garbage::Controller::new(inventory, user.client.clone());
        let live = item.meta.owners[0].clone();
        let collect = |owner: OwnerView| Action::Collect { item: item.clone(), owners: vec![owner] };
        let refused = controller.act(&id, &collect(live.clone())).await.expect_err("its owner lives");
        assert_eq!(refused.to_string(), "ConfigMap a exists after all");
        assert!(exists(&user, "child").await);
        // One of the same name is another one.
        let earlier = OwnerView { uid: "an-earlier-one".into(), ..live };
        controller.act(&id, &collect(earlier)).await.expect("that owner is gone");
        assert!(!exists(&user, "child").await);
    });
}

/// What an inventory that is behind does not show would be collected with the owner.
#[test]
fn nobody_is_let_go_without_those_who_were_to_stay() {
    with_cluster(1, |user| async move {
        let held = json!({ "metadata": { "name": "a", "finalizers": ["orphan"] } });
        let a = user.create(maps(), "default", held).await;
        let inventory = Inventory::new(&user.world, &user.client, |_, _, _| {});
        inventory.discover().await.expect("the API server answers");
        let id = ObjectId { resource: maps(), key: ObjectKey::new("default", "a") };
        let item = inventory.get(&id).expect("it is listed");
        let controller = garbage::Controller::new(inventory, user.client.clone());
        map(&user, "child", &[&a]).await;
        let let_go = Action::RemoveFinalizer { item, finalizer: garbage::plan::ORPHAN };
        let refused = controller.act(&id, &let_go).await.expect_err("it has a dependent");
        let expected = "configmaps \"child\" still names configmaps default/a as an owner";
        assert_eq!(refused.to_string(), expected);
        user.delete(maps(), "default", "child", "Background").await;
        controller.act(&id, &let_go).await.expect("nobody names it any more");
        let a = user.get(maps(), "default", "a").await.expect("nobody deleted it");
        assert_eq!(a["metadata"]["finalizers"], Value::Null);
    });
}

#[test]
fn owners_in_a_circle_do_not_wait_for_each_other_for_ever() {
    with_cluster(1, |user| async move {
        let a = map(&user, "a", &[]).await;
        let b = map(&user, "b", &[&a]).await;
        let c = map(&user, "c", &[&b]).await;
        let back = Patch::Merge(json!({ "metadata": { "ownerReferences": [owner(&c)] } }));
        user.api(maps()).patch("default", "a", back, None).await.expect("a circle may be made");
        user.delete(maps(), "default", "a", "Foreground").await;
        until!(user, "all of the circle is gone", {
            !exists(&user, "a").await && !exists(&user, "b").await && !exists(&user, "c").await
        });
    });
}

#[test]
fn nobody_can_tell_that_the_owner_is_gone_of_what_is_in_no_namespace() {
    with_cluster(1, |user| async move {
        let a = map(&user, "a", &[]).await;
        let namespaces = Resource::of::<Namespace>();
        let owned = json!({ "metadata": { "name": "team", "ownerReferences": [owner(&a)] } });
        user.create(namespaces.clone(), "", owned).await;
        user.delete(maps(), "default", "a", "Background").await;
        a_while(&user).await;
        let team = user.get(namespaces, "", "team").await.expect("it is not deleted");
        assert_eq!(team["metadata"]["deletionTimestamp"], Value::Null);
    });
}

#[test]
fn a_namespace_says_what_keeps_it_and_leaves_nothing_behind() {
    with_cluster(2, |user| async move {
        let namespaces = || Resource::of::<Namespace>();
        user.create(namespaces(), "", json!({ "metadata": { "name": "team" } })).await;
        user.create(deployments(), "team", deployment("web", 2)).await;
        let held = json!({ "metadata": { "name": "held", "finalizers": ["example.com/hold"] } });
        user.create(maps(), "team", held).await;
        until!(user, "there are Events of its Pods", { !user.list(Resource::of::<Event>(), "team").await.is_empty() });
        user.delete(namespaces(), "", "team", "").await;
        until!(user, "it says that a finalizer keeps it, and nothing else", {
            let team = user.get(namespaces(), "", "team").await.expect("it is kept");
            let kept = condition(&team, "NamespaceFinalizersRemaining");
            kept == Some(("True".into(), "SomeFinalizersRemain".into()))
                && user.list(Resource::of::<Pod>(), "team").await.is_empty()
        });
        a_while(&user).await;
        let team = user.get(namespaces(), "", "team").await.expect("it is kept");
        let remains = condition(&team, "NamespaceContentRemaining");
        assert_eq!(remains, Some(("True".into(), "SomeResourcesRemain".into())));
        assert!(user.get(maps(), "team", "held").await.is_some());

        let free = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
        user.api(maps()).patch("team", "held", free, None).await.expect("let go");
        until!(user, "it is gone", user.get(namespaces(), "", "team").await.is_none());
        user.create(namespaces(), "", json!({ "metadata": { "name": "team" } })).await;
        assert_eq!(user.list(Resource::of::<Event>(), "team").await, Vec::<Value>::new(), "the Events are gone, too");
    });
}
