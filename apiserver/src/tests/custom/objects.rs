//! Objects of custom resources: written, merged, filled in, checked, shown in several versions.

use super::*;

#[test]
fn objects_go_all_the_way() {
    with_server(|server| async move {
        let admin = server.admin();
        admin.define(definition()).await;
        let mut events =
            admin.watch(pb::WatchRequest { r#ref: Some(at(TABS)), ..Default::default() }).await.expect("a watch");
        let made = admin.create(TABS, crontab()).await.expect("made");
        assert_eq!(
            (&made["kind"], &made["status"], &made["metadata"]["generation"]),
            (&json!("CronTab"), &Value::Null, &json!(1))
        );
        assert_eq!(made["spec"]["replicas"], 1, "filled in");
        assert_eq!(admin.get(ONE).await.expect("there"), made);
        assert_eq!(admin.create(TABS, crontab()).await.expect_err("taken").reason(), "AlreadyExists");
        assert_eq!(admin.names(TABS, "tier=gold", "metadata.name=nightly").await.expect("listed"), ["nightly"]);
        assert!(admin.names(TABS, "tier=lead", "").await.expect("listed").is_empty());
        let refused = admin.patch(ONE, Patch::Strategic, json!({})).await.expect_err("nobody knows how");
        assert_eq!(refused.reason(), "UnsupportedMediaType");
        let json_patch = json!([{"op": "replace", "path": "/spec/ports/1/port", "value": 7}]);
        let patched = admin.patch(ONE, Patch::Json, json_patch).await.expect("patched");
        assert_eq!((&patched["spec"]["ports"][1]["port"], &patched["metadata"]["generation"]), (&json!(7), &json!(2)));
        let status = admin
            .merge(&format!("{ONE}/status"), json!({"status": {"replicas": 1}, "spec": {"replicas": 9}}))
            .await
            .expect("status");
        assert_eq!(
            (&status["status"]["replicas"], &status["spec"]["replicas"], &status["metadata"]["generation"]),
            (&json!(1), &json!(1), &json!(2))
        );
        let mut main = status.clone();
        main["status"]["replicas"] = json!(5);
        main["spec"]["replicas"] = json!(4);
        let main = admin.update(ONE, &main).await.expect("updated");
        assert_eq!((&main["status"]["replicas"], &main["spec"]["replicas"]), (&json!(1), &json!(4)));
        assert_eq!(admin.update(ONE, &made).await.expect_err("stale").reason(), "Conflict");
        let held = admin.merge(ONE, json!({"metadata": {"finalizers": ["example.com/x"]}})).await.expect("held");
        let deleting = admin.delete(ONE).await.expect("deleting");
        assert!(deleting["metadata"]["deletionTimestamp"].is_string() && revision(&deleting) > revision(&held));
        let gone = admin.merge(ONE, json!({"metadata": {"finalizers": null}})).await.expect("gone");
        assert_eq!(gone["_deleted"], true);
        let mut kinds = Vec::new();
        while kinds.last() != Some(&Event::Deleted) {
            let event = events.message().await.expect("no error").expect("an event");
            kinds.push(event.r#type());
            if kinds.len() == 1 {
                assert_eq!(serde_json::from_slice::<Value>(&event.object).expect("JSON"), made);
            }
        }
        assert_eq!(kinds[0], Event::Added);
    });
}

#[test]
fn the_schema_is_held_against_the_objects_all_errors_at_once() {
    with_server(|server| async move {
        let admin = server.admin();
        admin.define(definition()).await;
        let strict = |object: Value| pb::CreateRequest {
            r#ref: Some(at(TABS)),
            object: object.to_string().into_bytes().into(),
            field_validation: "Strict".into(),
            ..Default::default()
        };
        let mut unknown = crontab();
        unknown["spec"]["imag"] = json!(1);
        let refused = admin.create_with(strict(unknown.clone())).await.expect_err("unknown");
        assert!(refused.message().contains("unknown field \"spec.imag\""), "{}", refused.message());
        let made = admin.create(TABS, unknown).await.expect("made, with a warning");
        assert!(
            made["spec"]["imag"].is_null() && made["_warnings"][0].as_str().is_some_and(|w| w.contains("spec.imag"))
        );
        let mut wrong = crontab();
        wrong["metadata"]["name"] = json!("Wrong Name");
        wrong["spec"] = json!({"cronSpec": "* * * *", "replicas": 11, "suspended": "yes", "ports": [{"name": "a"}, {"name": "a", "port": true}]});
        let refused = admin.create(TABS, wrong).await.expect_err("wrong");
        assert_eq!(refused.reason(), "Invalid");
        for words in [
            "metadata.name: Invalid value",
            "spec.image: Required value",
            "spec.cronSpec: Invalid value: \"* * * *\": spec.cronSpec in body should match '^(\\d+|\\*)(/\\d+)?(\\s+(\\d+|\\*)(/\\d+)?){4}$'",
            "spec.replicas: Invalid value: 11: spec.replicas in body should be less than or equal to 10",
            "spec.suspended: Invalid value: \"string\": spec.suspended in body must be of type boolean: \"string\"",
            "spec.ports[1].port: Invalid value: \"boolean\"",
            "spec.ports[1]: Duplicate value: {\"name\":\"a\"}",
        ] {
            assert!(refused.message().contains(words), "{words}\n{}", refused.message());
        }
        let partial = pb::ListRequest { r#ref: Some(at(TABS)), metadata_only: true, ..Default::default() };
        let page = admin.page(partial).await.expect("listed");
        let item: Value = serde_json::from_slice(&page.items[0]).expect("JSON");
        assert_eq!((name(&item).as_str(), &item["spec"]), ("nightly", &Value::Null));
    });
}

#[test]
fn versions_share_objects_and_old_objects_learn_new_defaults() {
    with_server(|server| async move {
        let admin = server.admin();
        let made = admin.define(definition()).await;
        admin.create(TABS, crontab()).await.expect("made");
        // A second version becomes the one that is stored; the first gets a field with a default.
        let mut changed = made.clone();
        let mut second = changed["spec"]["versions"][0].clone();
        second["name"] = json!("v2");
        changed["spec"]["versions"][0]["storage"] = json!(false);
        for version in [&mut changed["spec"]["versions"][0], &mut second] {
            version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["zone"] =
                json!({"type": "string", "default": "here"});
        }
        changed["spec"]["versions"].as_array_mut().expect("a list").push(second);
        let definition = admin.update(&one("crontabs.stable.example.com"), &changed).await.expect("changed");
        assert_eq!(definition["status"]["storedVersions"], json!(["v1", "v2"]));
        let two = "stable.example.com/v2:crontabs:default/nightly";
        let shown = loop {
            match admin.get(two).await {
                Ok(shown) => break shown,
                // The status shows nothing of it: served is what discovery says.
                Err(refused) => assert_eq!(refused.reason(), "NotFound"),
            }
        };
        assert_eq!((&shown["apiVersion"], &shown["spec"]["zone"]), (&json!("stable.example.com/v2"), &json!("here")));
        let first = admin.get(ONE).await.expect("there");
        assert_eq!((&first["apiVersion"], &first["spec"]["zone"]), (&json!("stable.example.com/v1"), &json!("here")));
        assert_eq!(revision(&first), revision(&shown));
        let written = admin.merge(ONE, json!({"spec": {"replicas": 2}})).await.expect("written");
        assert_eq!(written["apiVersion"], "stable.example.com/v1");
        assert_eq!(admin.get(two).await.expect("there")["spec"]["replicas"], 2);
        let wrong = admin.update(two, &written).await.expect_err("of another version");
        assert!(wrong.message().contains("apiVersion"), "{}", wrong.message());
        // A version that objects are stored in may not go.
        let mut without = definition.clone();
        without["spec"]["versions"].as_array_mut().expect("a list").remove(0);
        without["metadata"]["resourceVersion"] =
            admin.get(&one("crontabs.stable.example.com")).await.expect("there")["metadata"]["resourceVersion"].clone();
        let refused = admin.update(&one("crontabs.stable.example.com"), &without).await.expect_err("needed");
        assert!(
            refused.message().contains("status.storedVersions[0]: Invalid value: \"v1\": missing from spec.versions"),
            "{}",
            refused.message()
        );
    });
}

#[test]
fn apply_owns_fields_and_items_by_their_keys() {
    with_server(|server| async move {
        let admin = server.admin();
        admin.define(definition()).await;
        let document = |ports: Value| {
            json!({
                "apiVersion": "stable.example.com/v1", "kind": "CronTab", "metadata": {"name": "nightly"},
                "spec": {"cronSpec": "0 3 * * *", "image": "demo", "ports": ports},
            })
        };
        admin.apply(ONE, "a", false, document(json!([{"name": "x", "port": 1}]))).await.expect("made");
        let other = json!({
            "apiVersion": "stable.example.com/v1", "kind": "CronTab", "metadata": {"name": "nightly"},
            "spec": {"ports": [{"name": "y", "port": 2}]},
        });
        let both = admin.apply(ONE, "b", false, other.clone()).await.expect("merged");
        assert_eq!(both["spec"]["ports"], json!([{"name": "x", "port": 1}, {"name": "y", "port": 2}]));
        let mut rival = other;
        rival["spec"]["ports"][0] = json!({"name": "x", "port": 3});
        let refused = admin.apply(ONE, "b", false, rival).await.expect_err("owned by a");
        assert!(refused.message().contains(".spec.ports[name=\"x\"].port"), "{}", refused.message());
        let less = admin.apply(ONE, "a", false, document(json!([]))).await.expect("less");
        assert_eq!(less["spec"]["ports"], json!([{"name": "y", "port": 2}]));
    });
}

#[test]
fn a_scale_stands_where_the_definition_says() {
    with_server(|server| async move {
        let admin = server.admin();
        let mut definition = definition();
        let version = &mut definition["spec"]["versions"][0];
        version["subresources"]["scale"]["specReplicasPath"] = json!(".spec.size.wanted");
        version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["size"] =
            json!({"type": "object", "properties": {"wanted": {"type": "integer", "maximum": 5}}});
        admin.define(definition).await;
        admin.create(TABS, crontab()).await.expect("made");
        let status = json!({"status": {"replicas": 2, "selector": "a=b"}});
        admin.merge(&format!("{ONE}/status"), status).await.expect("status");
        let scale = admin.get(&format!("{ONE}/scale")).await.expect("a Scale");
        assert_eq!((&scale["kind"], &scale["spec"]["replicas"]), (&json!("Scale"), &Value::Null));
        assert_eq!(scale["status"], json!({"replicas": 2, "selector": "a=b"}));
        admin.merge(&format!("{ONE}/scale"), json!({"spec": {"replicas": 3}})).await.expect("scaled");
        assert_eq!(admin.get(ONE).await.expect("there")["spec"]["size"]["wanted"], 3);
        let refused =
            admin.merge(&format!("{ONE}/scale"), json!({"spec": {"replicas": 9}})).await.expect_err("too many");
        assert!(refused.message().contains("spec.size.wanted"), "{}", refused.message());
    });
}
