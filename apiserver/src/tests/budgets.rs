//! PodDisruptionBudgets: what they let go, and that no more is given than there is.

use super::*;

const BUDGETS: &str = "policy/v1:poddisruptionbudgets:default";

/// A Pod of the app that runs and is ready.
async fn running(admin: &Client, name: &str) {
    let mut pod = pod(name);
    pod["metadata"]["labels"] = json!({"app": "web"});
    admin.create("v1:pods:default", pod).await.expect("made");
    let target = json!({"metadata": {"name": name}, "target": {"kind": "Node", "name": "node-1"}});
    admin.create(&format!("v1:pods:default/{name}/binding"), target).await.expect("bound");
    let ready = json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
    admin.merge(&format!("v1:pods:default/{name}/status"), ready).await.expect("it runs");
}

/// A budget as its controller leaves it.
async fn budget(server: &Server, name: &str, allowed: i32) {
    let selector = json!({"matchLabels": {"app": "web"}});
    let budget = json!({"metadata": {"name": name}, "spec": {"minAvailable": 1, "selector": selector}});
    server.admin().create(BUDGETS, budget).await.expect("made");
    let status = json!({"status": {
        "observedGeneration": 1, "disruptionsAllowed": allowed,
        "currentHealthy": 1 + allowed, "desiredHealthy": 1, "expectedPods": 1 + allowed,
    }});
    let controllers = server.client("system:kube-controller-manager", &[]);
    controllers.merge(&format!("{BUDGETS}/{name}/status"), status).await.expect("counted");
}

async fn evict(admin: &Client, name: &str) -> Answer {
    admin.create(&format!("v1:pods:default/{name}/eviction"), json!({"metadata": {"name": name}})).await
}

#[test]
fn a_budget_is_charged_for_what_it_lets_go_and_then_refuses() {
    with_server(|server| async move {
        let admin = server.admin();
        running(&admin, "a").await;
        running(&admin, "b").await;
        budget(&server, "web", 1).await;
        let path = format!("{BUDGETS}/web");

        let dry = json!({"metadata": {"name": "a"}, "deleteOptions": {"dryRun": ["All"]}});
        admin.create("v1:pods:default/a/eviction", dry).await.expect("it would be");
        let other = json!({"metadata": {"name": "a"}, "deleteOptions": {"preconditions": {"uid": "another"}}});
        admin.create("v1:pods:default/a/eviction", other).await.expect_err("not the one that was meant");
        assert_eq!(admin.get(&path).await.expect("there")["status"]["disruptionsAllowed"], 1, "nothing has gone");

        evict(&admin, "a").await.expect("there is one to give");
        let charged = admin.get(&path).await.expect("there");
        assert_eq!(charged["status"]["disruptionsAllowed"], 0);
        assert!(charged["status"]["disruptedPods"]["a"].is_string(), "{charged}");
        // What goes already is not charged for twice.
        evict(&admin, "a").await.expect("it goes already");

        let refused = evict(&admin, "b").await.expect_err("the last one");
        assert_eq!((refused.status.code, refused.reason()), (429, "TooManyRequests"));
        let words = "Cannot evict pod b as it would violate the pod's disruption budget: \
                     the disruption budget web needs 1 healthy pods and has 2 currently";
        assert_eq!(refused.message(), words);
        let details = refused.status.details.as_ref().expect("details");
        assert_eq!((details.retry_after_seconds, details.causes[0].reason.as_str()), (10, "DisruptionBudget"));
        assert!(admin.get("v1:pods:default/b").await.expect("there")["metadata"]["deletionTimestamp"].is_null());

        // A delete does not ask.
        admin.delete("v1:pods:default/b").await.expect("deleted");
    });
}

#[test]
fn of_many_evictions_at_once_as_many_are_granted_as_there_are_to_give() {
    in_many_worlds(|server| async move {
        let admin = server.admin();
        let names: Vec<String> = (0..6).map(|i| format!("p{i}")).collect();
        for name in &names {
            running(&admin, name).await;
        }
        budget(&server, "web", 2).await;
        let all = futures::future::join_all(names.iter().map(|name| evict(&admin, name))).await;
        assert_eq!(all.iter().filter(|answer| answer.is_ok()).count(), 2);
    });
}

#[test]
fn two_budgets_for_one_pod_are_an_error_in_words_and_a_pod_that_waits_is_free() {
    with_server(|server| async move {
        let admin = server.admin();
        running(&admin, "a").await;
        budget(&server, "one", 1).await;
        budget(&server, "two", 1).await;
        let refused = evict(&admin, "a").await.expect_err("two budgets");
        assert!(refused.message().contains("more than one PodDisruptionBudget (one, two)"), "{}", refused.message());
        let mut waiting = pod("waiting");
        waiting["metadata"]["labels"] = json!({"app": "web"});
        admin.create("v1:pods:default", waiting).await.expect("made");
        evict(&admin, "waiting").await.expect("it runs nowhere");
    });
}

#[test]
fn a_budget_that_makes_no_sense_is_refused() {
    with_server(|server| async move {
        let admin = server.admin();
        for (spec, words) in [
            (json!({"minAvailable": 1, "maxUnavailable": 1}), "spec.maxUnavailable: Forbidden"),
            (json!({"minAvailable": "all"}), "spec.minAvailable: Invalid value: \"all\""),
            (json!({"maxUnavailable": "101%"}), "must not be greater than 100%"),
            (json!({"maxUnavailable": -1}), "must be greater than or equal to 0"),
            (json!({"unhealthyPodEvictionPolicy": "Never"}), "spec.unhealthyPodEvictionPolicy: Unsupported value"),
        ] {
            let made = admin.create(BUDGETS, json!({"metadata": {"name": "x"}, "spec": spec})).await;
            let refused = made.expect_err(words);
            assert!(refused.message().contains(words), "{}", refused.message());
        }
    });
}
