//! The story of a definition that becomes stricter while objects are there.

use super::*;

const NAME: &str = "crontabs.stable.example.com";

/// Puts other schemas into the definition, and waits until they are served.
async fn redefine(admin: &Client, change: impl Fn(&mut Value)) {
    let mut definition = admin.get(&one(NAME)).await.expect("there");
    change(&mut definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]);
    admin.update(&one(NAME), &definition).await.expect("redefined");
    // What is served is what discovery and dry runs say; the status shows nothing of it.
    let mut probe = crontab();
    probe["metadata"]["name"] = json!("probe");
    probe["spec"]["image"] = json!("Not Any More");
    let probe = |admin: Client| {
        let probe = probe.clone();
        async move { admin.create(TABS, probe).await }
    };
    while probe(admin.clone()).await.is_ok() {
        admin.delete("stable.example.com/v1:crontabs:default/probe").await.expect("gone again");
    }
}

#[test]
fn an_object_from_before_can_be_changed_and_mended_step_by_step() {
    with_server(|server| async move {
        let admin = server.admin();
        admin.define(definition()).await;
        let mut early = crontab();
        early["spec"]["image"] = json!("Not Any More");
        early["metadata"]["finalizers"] = json!(["example.com/hold"]);
        admin.create(TABS, early).await.expect("fine, then");
        redefine(&admin, |spec| {
            spec["properties"]["image"]["pattern"] = json!("^[a-z]+$");
            spec["properties"]["cronSpec"]["x-kubernetes-validations"] =
                json!([{"rule": "self.startsWith('1')", "message": "at one o'clock"}]);
        })
        .await;
        // Nobody could make it so now, but what is there may be touched beside what is wrong.
        let changed = admin.merge(ONE, json!({"spec": {"replicas": 4}})).await.expect("not about the image");
        assert_eq!((&changed["spec"]["replicas"], &changed["spec"]["image"]), (&json!(4), &json!("Not Any More")));
        admin.merge(&format!("{ONE}/status"), json!({"status": {"replicas": 4}})).await.expect("status");
        admin.merge(&format!("{ONE}/scale"), json!({"spec": {"replicas": 5}})).await.expect("scaled");
        let refused = admin.merge(ONE, json!({"spec": {"image": "Nor This"}})).await.expect_err("touched");
        assert!(refused.message().contains("spec.image: Invalid value"), "{}", refused.message());
        assert!(!refused.message().contains("cronSpec"), "{}", refused.message());
        let refused = admin.merge(ONE, json!({"spec": {"cronSpec": "2 * * * *"}})).await.expect_err("touched");
        assert!(refused.message().contains("spec.cronSpec: Invalid value: \"2 * * * *\": at one o'clock"));
        let mended = admin.merge(ONE, json!({"spec": {"image": "good"}})).await.expect("better");
        assert_eq!(mended["spec"]["cronSpec"], "0 3 * * *");
        admin.merge(ONE, json!({"metadata": {"finalizers": null}})).await.expect("let go");
        admin.delete(ONE).await.expect("gone");
        let refused = admin.create(TABS, crontab()).await.expect_err("new ones are held to all of it");
        assert!(refused.message().contains("at one o'clock"), "{}", refused.message());
    });
}
