//! Server-side apply through the whole server: who owns what, who may take it, and what goes when nobody names it.

use super::*;

const WEB: &str = "apps/v1:deployments:default/web";
const MAP: &str = "v1:configmaps:default/map";

fn web(spec: Value) -> Value {
    let mut document = deployment("web");
    document["apiVersion"] = json!("apps/v1");
    document["kind"] = json!("Deployment");
    for (name, value) in spec.as_object().into_iter().flatten() {
        document["spec"][name] = value.clone();
    }
    document
}

fn map(data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "map"}, "data": data})
}

/// `manager operation subresource: fields`, a line per manager.
fn managers(object: &Value) -> Vec<String> {
    let line = |m: &Value| {
        let say = |name: &str| m[name].as_str().unwrap_or_default().to_owned();
        format!("{} {} {}: {}", say("manager"), say("operation"), say("subresource"), m["fieldsV1"])
    };
    object["metadata"]["managedFields"].as_array().into_iter().flatten().map(line).collect()
}

#[test]
fn an_apply_makes_the_object_and_owns_what_it_named() {
    with_server(|server| async move {
        let admin = server.admin();
        let made = admin.apply(MAP, "cd", false, map(json!({"a": "1"}))).await.expect("applied");
        assert_eq!(made["_created"], true);
        assert_eq!(managers(&made), ["cd Apply : {\"f:data\":{\"f:a\":{}}}"]);
        let again = admin.apply(MAP, "cd", false, map(json!({"a": "1"}))).await.expect("applied");
        assert_eq!(revision(&again), revision(&made), "nothing changed, so nothing was written");
        assert_eq!(again["_created"], Value::Null);
        let changed = admin.apply(MAP, "cd", false, map(json!({"b": "2"}))).await.expect("applied");
        assert_eq!(changed["data"], json!({"b": "2"}), "what is no longer applied goes");
        assert_eq!(
            admin.get(MAP).await.expect("there")["metadata"]["managedFields"],
            changed["metadata"]["managedFields"]
        );
    });
}

#[test]
fn two_appliers_share_what_they_agree_on_and_conflict_where_they_do_not() {
    with_server(|server| async move {
        let admin = server.admin();
        admin.apply(WEB, "a", false, web(json!({"replicas": 2}))).await.expect("applied");
        let refused = admin
            .apply(WEB, "b", false, web(json!({"replicas": 3, "minReadySeconds": 1})))
            .await
            .expect_err("a conflict");
        assert_eq!((refused.status.code, refused.reason()), (409, "Conflict"));
        assert_eq!(refused.message(), "Apply failed with 1 conflict: conflict with \"a\": .spec.replicas");
        let cause = &refused.status.details.as_ref().expect("details").causes[0];
        assert_eq!(
            (cause.reason.as_str(), cause.message.as_str(), cause.field.as_str()),
            ("FieldManagerConflict", "conflict with \"a\"", ".spec.replicas")
        );
        let forced = admin.apply(WEB, "b", true, web(json!({"replicas": 3}))).await.expect("by force");
        assert_eq!(forced["spec"]["replicas"], 3);
        assert!(!managers(&forced)[0].contains("f:replicas"), "{:?}", managers(&forced));
        // What b no longer applies stays as long as a owns it; what only b owned gets its default.
        let left = admin.apply(WEB, "b", false, web(json!({}))).await.expect("applied");
        assert_eq!((&left["spec"]["replicas"], &left["spec"]["template"]), (&json!(1), &forced["spec"]["template"]));
    });
}

#[test]
fn other_writes_take_the_fields_they_change() {
    with_server(|server| async move {
        let admin = server.admin();
        admin.apply(WEB, "cd", false, web(json!({"replicas": 2}))).await.expect("applied");
        admin.merge(&format!("{WEB}/scale"), json!({"spec": {"replicas": 5}})).await.expect("scaled");
        let status = json!({"status": {"replicas": 5}});
        let now = admin.merge(&format!("{WEB}/status"), status).await.expect("status");
        let told = managers(&now);
        assert_eq!(told.len(), 3, "{told:?}");
        assert!(told.contains(&"kubernetes-admin Update : {\"f:spec\":{\"f:replicas\":{}}}".to_owned()), "{told:?}");
        assert!(
            told.contains(&"kubernetes-admin Update status: {\"f:status\":{\"f:replicas\":{}}}".to_owned()),
            "{told:?}"
        );
        let refused = admin.apply(WEB, "cd", false, web(json!({"replicas": 2}))).await.expect_err("scaled by another");
        assert!(
            refused.message().contains("conflict with \"kubernetes-admin\" using apps/v1 at "),
            "{}",
            refused.message()
        );
        let kept = admin.apply(WEB, "cd", false, web(json!({}))).await.expect("applied");
        assert_eq!(kept["spec"]["replicas"], 5, "another owns it");
    });
}

#[test]
fn an_object_that_was_never_applied_carries_no_managers_until_it_is() {
    with_server(|server| async move {
        let admin = server.admin();
        let made = admin.create("v1:configmaps:default", map(json!({"a": "1", "b": "1"}))).await.expect("made");
        assert_eq!(managers(&made), Vec::<String>::new());
        let refused = admin.apply(MAP, "cd", false, map(json!({"a": "2"}))).await.expect_err("not its own");
        assert!(
            refused
                .message()
                .starts_with("Apply failed with 1 conflict: conflict with \"before-first-apply\" using v1"),
            "{}",
            refused.message()
        );
        let now = admin.apply(MAP, "cd", false, map(json!({"a": "1"}))).await.expect("agreed");
        assert_eq!(managers(&now).len(), 2);
        assert_eq!(now["data"], json!({"a": "1", "b": "1"}));
        // Clearing them is one empty entry, as in Kubernetes.
        let cleared = admin.merge(MAP, json!({"metadata": {"managedFields": [{}]}})).await.expect("cleared");
        assert_eq!(managers(&cleared), Vec::<String>::new());
    });
}

#[test]
fn what_the_client_itself_applied_before_is_no_conflict() {
    with_server(|server| async move {
        let admin = server.admin();
        let mut before = map(json!({"a": "1"}));
        let last = before.to_string();
        before["metadata"]["annotations"] = json!({"kubectl.kubernetes.io/last-applied-configuration": last});
        admin.create("v1:configmaps:default", before).await.expect("made");
        admin.apply(MAP, "cd", false, map(json!({"a": "2"}))).await.expect_err("of another client");
        let now = admin.apply(MAP, "kubectl", false, map(json!({"a": "2"}))).await.expect("its own");
        assert_eq!(now["data"], json!({"a": "2"}));
        // skiffctl takes over what stood there before, and nothing that others are known to hold.
        admin
            .create("v1:configmaps:default", json!({"metadata": {"name": "old"}, "data": {"a": "1"}}))
            .await
            .expect("made");
        let old = |value: &str| {
            let mut object = map(json!({ "a": value }));
            object["metadata"]["name"] = json!("old");
            object
        };
        let path = "v1:configmaps:default/old";
        admin.apply(path, "skiffctl", false, old("2")).await.expect("nobody's");
        admin.apply(path, "cd", true, old("3")).await.expect("by force");
        admin.apply(path, "skiffctl", false, old("4")).await.expect_err("another's");
    });
}

#[test]
fn items_of_lists_have_owners_of_their_own() {
    with_server(|server| async move {
        let admin = server.admin();
        let with = |containers: Value| json!({"template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": containers}}});
        let main = json!([{"name": "main", "image": "demo:1", "ports": [{"containerPort": 80}]}]);
        admin.apply(WEB, "cd", false, web(with(main.clone()))).await.expect("applied");
        let sidecar = json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
            "spec": {"template": {"spec": {"containers": [{"name": "proxy", "image": "demo:2"}]}}},
        });
        let both = admin.apply(WEB, "mesh", false, sidecar).await.expect("applied");
        let names = |object: &Value| -> Vec<String> {
            let containers = object["spec"]["template"]["spec"]["containers"].as_array().cloned().unwrap_or_default();
            containers.iter().map(|c| c["name"].as_str().unwrap_or_default().to_owned()).collect()
        };
        assert_eq!(names(&both), ["main", "proxy"]);
        assert_eq!(both["spec"]["template"]["spec"]["containers"][0]["ports"][0]["protocol"], "TCP");
        let again = admin.apply(WEB, "cd", false, web(with(main))).await.expect("applied");
        assert_eq!(revision(&again), revision(&both), "the default of the port's key is no change");
        let gone = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}});
        let one = admin.apply(WEB, "mesh", false, gone).await.expect("applied");
        assert_eq!(names(&one), ["main"], "with everything that was defaulted in it");
    });
}

#[test]
fn a_document_that_cannot_be_applied_is_refused_in_words() {
    with_server(|server| async move {
        let admin = server.admin();
        let told = |answer: Answer| {
            let refused = answer.expect_err("refused");
            (refused.status.code, refused.message().to_owned())
        };
        let (code, words) = told(admin.apply(MAP, "", false, map(json!({}))).await);
        assert!(code == 422 && words.contains("fieldManager"), "{code} {words}");
        let (code, words) = told(admin.apply(MAP, "cd", false, web(json!({}))).await);
        assert!(code == 400 && words.contains("\"Deployment\""), "{code} {words}");
        let mut sent = map(json!({}));
        sent["metadata"]["managedFields"] = json!([{"manager": "x"}]);
        assert_eq!(told(admin.apply(MAP, "cd", false, sent).await), (400, "metadata.managedFields must be nil".into()));
        let mut other = map(json!({}));
        other["metadata"]["name"] = json!("other");
        let (code, words) = told(admin.apply(MAP, "cd", false, other).await);
        assert!(code == 400 && words.contains("other"), "{code} {words}");
        let mut old = map(json!({"a": "1"}));
        old["metadata"]["resourceVersion"] = json!("1");
        let (code, words) = told(admin.apply(MAP, "cd", false, old.clone()).await);
        assert!(code == 409, "{code} {words}");
        admin.apply(MAP, "cd", false, map(json!({"a": "1"}))).await.expect("applied");
        let (code, _) = told(admin.apply(MAP, "cd", false, old).await);
        assert_eq!(code, 409, "an old revision");
        let (code, words) = told(admin.apply(&format!("{WEB}/status"), "cd", false, web(json!({}))).await);
        assert!(code == 404, "a status is not made: {code} {words}");
    });
}

#[test]
fn appliers_at_once_lose_nothing() {
    in_many_worlds(|server| async move {
        let apply = |name: &'static str| {
            let admin = server.admin();
            async move { admin.apply(MAP, name, false, map(json!({ name: "1" }))).await.expect("applied") }
        };
        futures::join!(apply("a"), apply("b"), apply("c"));
        let now = server.admin().get(MAP).await.expect("there");
        assert_eq!(now["data"], json!({"a": "1", "b": "1", "c": "1"}));
        assert_eq!(managers(&now).len(), 3);
    });
}
