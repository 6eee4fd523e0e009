//! Deleting: grace, finalizers, namespaces; binding and evicting Pods.

use super::*;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const PODS: &str = "v1:pods:default";

async fn bound(admin: &Client, name: &str) {
    admin.create(PODS, pod(name)).await.expect("made");
    let binding = json!({"metadata": {"name": name}, "target": {"kind": "Node", "name": "node-1"}});
    admin.create(&format!("v1:pods:default/{name}/binding"), binding).await.expect("bound");
}

fn delete(path: &str, grace: Option<i64>) -> pb::DeleteRequest {
    pb::DeleteRequest { r#ref: Some(at(path)), grace_period_seconds: grace, ..Default::default() }
}

#[test]
fn a_pod_is_bound_once() {
    with_server(|server| async move {
        let admin = server.admin();
        bound(&admin, "a").await;
        let pod = admin.get("v1:pods:default/a").await.expect("there");
        assert_eq!(pod["spec"]["nodeName"], "node-1");
        assert_eq!(pod["status"]["conditions"][0]["type"], "PodScheduled");
        assert_eq!(admin.names(PODS, "", "spec.nodeName=node-1").await.expect("listed"), ["a"]);
        let again = json!({"target": {"name": "node-2"}});
        let refused = admin.create("v1:pods:default/a/binding", again).await.expect_err("bound");
        assert_eq!(refused.reason(), "Conflict");
        assert!(refused.message().contains("is already assigned to node \"node-1\""), "{}", refused.message());
    });
}

#[test]
fn a_pod_that_runs_takes_its_leave_and_one_that_does_not_goes_at_once() {
    with_server(|server| async move {
        let admin = server.admin();
        admin.create(PODS, pod("unbound")).await.expect("made");
        assert_eq!(admin.delete("v1:pods:default/unbound").await.expect("deleted")["_deleted"], true);
        bound(&admin, "a").await;
        let deleting = admin.delete("v1:pods:default/a").await.expect("deleting");
        assert_eq!(deleting["_deleted"], Value::Null);
        assert_eq!(deleting["metadata"]["deletionGracePeriodSeconds"], 30);
        let longer = admin.delete_with(delete("v1:pods:default/a", Some(60))).await.expect("still deleting");
        assert_eq!(longer["metadata"], deleting["metadata"]);
        let shorter = admin.delete_with(delete("v1:pods:default/a", Some(5))).await.expect("sooner");
        assert_eq!(shorter["metadata"]["deletionGracePeriodSeconds"], 5);
        // The kubelet is done.
        let gone = server.node("node-1").delete_with(delete("v1:pods:default/a", Some(0))).await.expect("gone");
        assert_eq!(gone["_deleted"], true);
        assert_eq!(admin.get("v1:pods:default/a").await.expect_err("gone").reason(), "NotFound");
    });
}

#[test]
fn a_deleting_pod_is_not_bound() {
    with_server(|server| async move {
        let admin = server.admin();
        let mut held = pod("a");
        held["metadata"]["finalizers"] = json!(["example.com/hold"]);
        admin.create(PODS, held).await.expect("made");
        admin.delete("v1:pods:default/a").await.expect("deleting");
        let refused =
            admin.create("v1:pods:default/a/binding", json!({"target": {"name": "n"}})).await.expect_err("deleting");
        assert!(refused.message().contains("is being deleted"), "{}", refused.message());
    });
}

#[test]
fn finalizers_hold_and_the_last_one_lets_go() {
    with_server(|server| async move {
        let admin = server.admin();
        let map = json!({"metadata": {"name": "m", "finalizers": ["example.com/a", "example.com/b"]}});
        admin.create("v1:configmaps:default", map).await.expect("made");
        let deleting = admin.delete("v1:configmaps:default/m").await.expect("deleting");
        assert!(deleting["metadata"]["deletionTimestamp"].is_string());
        let one = admin
            .merge("v1:configmaps:default/m", json!({"metadata": {"finalizers": ["example.com/b"]}}))
            .await
            .expect("one less");
        assert_eq!(one["_deleted"], Value::Null);
        let more = json!({"metadata": {"finalizers": ["example.com/b", "example.com/c"]}});
        let refused = admin.merge("v1:configmaps:default/m", more).await.expect_err("no new ones");
        assert!(refused.message().contains("no new finalizers can be added"), "{}", refused.message());
        let last =
            admin.merge("v1:configmaps:default/m", json!({"metadata": {"finalizers": null}})).await.expect("gone");
        assert_eq!(last["_deleted"], true);
        assert_eq!(admin.get("v1:configmaps:default/m").await.expect_err("gone").reason(), "NotFound");
    });
}

#[test]
fn propagation_policies_become_finalizers_and_preconditions_hold() {
    with_server(|server| async move {
        let admin = server.admin();
        let path = "apps/v1:deployments:default/web";
        let made = admin.create("apps/v1:deployments:default", deployment("web")).await.expect("made");
        let with = |f: fn(&mut pb::DeleteRequest)| {
            let mut m = delete(path, None);
            f(&mut m);
            m
        };
        let wrong = admin.delete_with(with(|m| m.precondition_uid = "x".into())).await.expect_err("another");
        assert_eq!(wrong.reason(), "Conflict");
        assert!(wrong.message().contains("UID in precondition: x"), "{}", wrong.message());
        let wrong = admin.delete_with(with(|m| m.precondition_resource_version = "1".into())).await.expect_err("old");
        assert_eq!(wrong.reason(), "Conflict");
        assert_eq!(
            admin.delete_with(with(|m| m.propagation_policy = "Sideways".into())).await.expect_err("no").status.code,
            400
        );
        let mut m = delete(path, None);
        m.precondition_uid = made["metadata"]["uid"].as_str().expect("a uid").into();
        m.propagation_policy = "Foreground".into();
        let deleting = admin.delete_with(m).await.expect("deleting");
        assert_eq!(deleting["metadata"]["finalizers"], json!(["foregroundDeletion"]));
        assert_eq!(deleting["metadata"]["generation"], 2);
    });
}

#[test]
fn a_namespace_closes_then_goes_when_it_is_finalized() {
    with_server(|server| async move {
        let admin = server.admin();
        let ns = admin.create("v1:namespaces:", json!({"metadata": {"name": "team"}})).await.expect("made");
        assert_eq!(ns["spec"]["finalizers"], json!(["kubernetes"]));
        assert_eq!(ns["status"]["phase"], "Active");
        admin.create("v1:configmaps:team", json!({"metadata": {"name": "m"}})).await.expect("made");
        let closing = admin.delete("v1:namespaces:/team").await.expect("closing");
        assert_eq!((&closing["status"]["phase"], &closing["_deleted"]), (&json!("Terminating"), &Value::Null));
        let refused =
            admin.create("v1:configmaps:team", json!({"metadata": {"name": "late"}})).await.expect_err("closed");
        assert_eq!(refused.reason(), "Forbidden");
        assert!(refused.message().contains("because it is being terminated"), "{}", refused.message());
        let missing =
            admin.create("v1:configmaps:nowhere", json!({"metadata": {"name": "m"}})).await.expect_err("missing");
        assert_eq!((missing.reason(), missing.message()), ("NotFound", "namespaces \"nowhere\" not found"));
        admin.delete("v1:configmaps:team/m").await.expect("deletes go on");
        let gone = admin
            .update("v1:namespaces:/team/finalize", &json!({"metadata": {"name": "team"}, "spec": {}}))
            .await
            .expect("finalized");
        assert_eq!(gone["_deleted"], true);
        assert_eq!(admin.get("v1:namespaces:/team").await.expect_err("gone").reason(), "NotFound");
    });
}

#[test]
fn namespaces_without_which_nothing_works_stay() {
    with_server(|server| async move {
        let refused = server.admin().delete("v1:namespaces:/kube-system").await.expect_err("immortal");
        assert_eq!(refused.reason(), "Forbidden");
        assert!(refused.message().contains("this namespace may not be deleted"), "{}", refused.message());
    });
}

#[test]
fn a_name_is_free_as_soon_as_its_delete_is_answered() {
    in_many_worlds(|server| async move {
        let admin = server.admin();
        for i in 0..20 {
            let map = json!({"metadata": {"name": "m"}, "data": {"i": i.to_string()}});
            let made = admin.create("v1:configmaps:default", map).await.expect("free");
            let mut m = delete("v1:configmaps:default/m", None);
            m.precondition_resource_version = revision(&made).to_string();
            admin.delete_with(m).await.expect("just made");
        }
    });
}

#[test]
fn nothing_lands_in_a_namespace_that_is_being_deleted_at_that_moment() {
    in_many_worlds(|server| async move {
        let admin = server.admin();
        admin.create("v1:namespaces:", json!({"metadata": {"name": "team"}})).await.expect("made");
        let creates = (0..40).map(|i| {
            let client = admin.clone();
            async move { client.create("v1:configmaps:team", json!({"metadata": {"name": format!("m{i}")}})).await }
        });
        let closing = async { admin.delete("v1:namespaces:/team").await.expect("closing") };
        let (made, closing) = futures::join!(futures::future::join_all(creates), closing);
        for map in made.into_iter().flatten() {
            assert!(revision(&map) < revision(&closing), "an object was made after the namespace was closed");
        }
    });
}

#[test]
fn an_eviction_deletes_with_grace() {
    with_server(|server| async move {
        let admin = server.admin();
        bound(&admin, "a").await;
        let eviction = json!({"metadata": {"name": "a"}, "deleteOptions": {"gracePeriodSeconds": 7}});
        let status = admin.create("v1:pods:default/a/eviction", eviction).await.expect("evicted");
        assert_eq!((&status["kind"], &status["status"]), (&json!("Status"), &json!("Success")));
        assert_eq!(admin.get("v1:pods:default/a").await.expect("there")["metadata"]["deletionGracePeriodSeconds"], 7);
    });
}

#[test]
fn an_eviction_is_of_the_pod_that_was_meant() {
    with_server(|server| async move {
        let admin = server.admin();
        bound(&admin, "a").await;
        let path = "v1:pods:default/a/eviction";
        let evict = |preconditions: Value| json!({"metadata": {"name": "a"}, "deleteOptions": {"preconditions": preconditions}});
        let uid = admin.get("v1:pods:default/a").await.expect("there")["metadata"]["uid"].clone();
        for preconditions in [json!({"uid": "another"}), json!({"uid": uid, "resourceVersion": "1"})] {
            let refused = admin.create(path, evict(preconditions)).await.expect_err("not the one that was meant");
            assert_eq!(refused.reason(), "Conflict", "{}", refused.message());
        }
        let dry = json!({"metadata": {"name": "a"}, "deleteOptions": {"dryRun": ["All"]}});
        admin.create(path, dry).await.expect("it would be");
        let other = admin.create(path, json!({"metadata": {"name": "b"}})).await.expect_err("two names");
        assert_eq!(other.status.code, 400, "{}", other.message());
        let pod = admin.get("v1:pods:default/a").await.expect("there");
        assert_eq!(pod["metadata"]["deletionTimestamp"], Value::Null, "nothing of this has evicted it");
        admin.create(path, evict(json!({"uid": uid}))).await.expect("evicted");
        let pod = admin.get("v1:pods:default/a").await.expect("there");
        assert_eq!(pod["metadata"]["deletionGracePeriodSeconds"], 30);
    });
}

#[test]
fn what_was_acknowledged_survives_a_crash() {
    for seed in 1..=4 {
        Simulation::new(seed).run(|sim: Sim| async move {
            let server = Server::start(&sim, options()).await;
            let acknowledged = Arc::new(Mutex::new(Vec::new()));
            let client_machine = sim.machine("client").world("writer", Some(Identity::new("w", &["system:masters"])));
            for writer in 0..4 {
                let (client, acknowledged) = (server.admin(), acknowledged.clone());
                client_machine.spawn("writer", async move {
                    for i in 0..40 {
                        let map = json!({"metadata": {"name": format!("m{writer}-{i}")}});
                        match client.create("v1:configmaps:default", map).await {
                            Ok(made) => acknowledged.lock().expect("one thread").push(made),
                            Err(_) => return,
                        }
                    }
                });
            }
            server.world.sleep(Duration::from_millis(20 + sim.random_below(60))).await;
            server.machine.crash().await;
            let server = Server::start(&sim, options()).await;
            let admin = server.admin();
            let all = acknowledged.lock().expect("one thread").clone();
            assert!(!all.is_empty(), "nothing was written before the crash");
            for made in all {
                let path = format!("v1:configmaps:default/{}", name(&made));
                assert_eq!(admin.get(&path).await.expect("acknowledged, so there"), made);
            }
        });
    }
}
