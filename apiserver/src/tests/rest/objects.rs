//! Objects and collections: verbs, options, refusals.

use super::*;

const PODS: &str = "/api/v1/namespaces/default/pods";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": {"of": "test"}}, "data": {"a": "1"}})
}

#[test]
fn an_objects_life() {
    with_server(|server| async move {
        let http = server.http();
        let made = http.post(MAPS, &map("m")).await;
        assert_eq!((made.code, made.content_type()), (201, "application/json"), "{}", made.text());
        let made = made.json();
        assert_eq!((&made["kind"], &made["apiVersion"]), (&json!("ConfigMap"), &json!("v1")));
        assert_eq!(http.post(MAPS, &map("m")).await.json()["reason"], "AlreadyExists");
        assert_eq!(http.get(&format!("{MAPS}/m")).await.json(), made);

        let yaml = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: of-yaml}\ndata: {mode: \"0644\"}\n";
        let read = http.ask("POST", MAPS, &["content-type: application/yaml"], yaml).await;
        assert_eq!((read.code, &read.json()["data"]["mode"]), (201, &json!("0644")));

        let mut newer = made.clone();
        newer["data"] = json!({"a": "2"});
        let put = http.ask("PUT", &format!("{MAPS}/m"), &[], newer.to_string()).await;
        assert_eq!((put.code, &put.json()["data"]["a"]), (200, &json!("2")));
        let stale = http.ask("PUT", &format!("{MAPS}/m"), &[], newer.to_string()).await;
        assert_eq!((stale.code, &stale.json()["reason"]), (409, &json!("Conflict")));

        for (kind, patch, wanted) in [
            ("merge-patch+json", json!({"data": {"b": "3"}}), json!({"a": "2", "b": "3"})),
            ("strategic-merge-patch+json", json!({"data": {"a": null}}), json!({"b": "3"})),
            ("json-patch+json", json!([{"op": "replace", "path": "/data/b", "value": "4"}]), json!({"b": "4"})),
        ] {
            let header = format!("content-type: application/{kind}");
            let patched = http.ask("PATCH", &format!("{MAPS}/m"), &[&header], patch.to_string()).await;
            assert_eq!((patched.code, &patched.json()["data"]), (200, &wanted), "{kind}");
        }

        let dry = http.ask("DELETE", &format!("{MAPS}/m?dryRun=All"), &[], "").await;
        assert_eq!(dry.code, 200);
        let other = json!({"kind": "DeleteOptions", "apiVersion": "apps/v1", "preconditions": {"uid": "another"}});
        assert_eq!(http.ask("DELETE", &format!("{MAPS}/m"), &[], other.to_string()).await.code, 409);
        let deleted = http.ask("DELETE", &format!("{MAPS}/m"), &[], "").await;
        assert_eq!((deleted.code, &deleted.json()["metadata"]["uid"]), (200, &made["metadata"]["uid"]));
        assert_eq!(http.get(&format!("{MAPS}/m")).await.code, 404);
    });
}

#[test]
fn a_propagation_policy_stands_in_the_query_or_in_the_body() {
    with_server(|server| async move {
        let http = server.http();
        for (name, query, body) in [
            ("a", "?propagationPolicy=Foreground", String::new()),
            ("b", "", json!({"propagationPolicy": "Foreground"}).to_string()),
            ("c", "?propagationPolicy=Background", json!({"propagationPolicy": "Foreground"}).to_string()),
        ] {
            http.post(MAPS, &map(name)).await;
            let deleted = http.ask("DELETE", &format!("{MAPS}/{name}{query}"), &[], body).await.json();
            assert_eq!(deleted["metadata"]["finalizers"], json!(["foregroundDeletion"]), "{name}: {deleted}");
        }
        let wrong = http.ask("DELETE", &format!("{MAPS}/a?propagationPolicy=Sideways"), &[], "").await;
        assert_eq!(wrong.code, 400);
    });
}

#[test]
fn unknown_fields_are_refused_told_or_dropped() {
    with_server(|server| async move {
        let http = server.http();
        let text = |name: &str| {
            format!(
                "{{\"metadata\":{{\"name\":\"{name}\"}},\"data\":{{}},\"dada\":1,\"immutable\":false,\"immutable\":false}}"
            )
        };
        let strict = http.ask("POST", &format!("{MAPS}?fieldValidation=Strict"), &[], text("a")).await;
        assert_eq!(strict.code, 400);
        let message = strict.json()["message"].as_str().unwrap_or_default().to_string();
        assert!(
            message.ends_with("strict decoding error: unknown field \"dada\", duplicate field \"immutable\""),
            "{message}"
        );
        let warned = http.ask("POST", MAPS, &[], text("b")).await;
        assert_eq!(warned.code, 201);
        assert_eq!(
            warned.warnings(),
            ["299 - \"unknown field \\\"dada\\\"\"", "299 - \"duplicate field \\\"immutable\\\"\""]
        );
        let ignored = http.ask("POST", &format!("{MAPS}?fieldValidation=Ignore"), &[], text("c")).await;
        assert_eq!((ignored.code, ignored.warnings().len()), (201, 0));
        let dry = http.ask("POST", &format!("{MAPS}?dryRun=All"), &[], map("d").to_string()).await;
        assert_eq!(dry.code, 201);
        assert_eq!(http.get(&format!("{MAPS}/d")).await.code, 404);
    });
}

#[test]
fn refusals_are_statuses() {
    with_server(|server| async move {
        let http = server.http();
        http.post(MAPS, &map("m")).await;
        let patch = "content-type: application/apply-patch+yaml";
        for (method, path, headers, body, code, reason, words) in [
            ("GET", "/api/v1/namespaces/default/pods/none", &[][..], "", 404, "NotFound", "pods \"none\" not found"),
            ("GET", "/api/v1/widgets", &[], "", 404, "NotFound", "could not find the requested resource"),
            ("GET", "/apis/example.com/v1/widgets", &[], "", 404, "NotFound", "could not find"),
            ("GET", "/nothing/here", &[], "", 404, "NotFound", "could not find the requested resource"),
            ("GET", "/api/v1/namespaces/default/configmaps/m/status", &[], "", 404, "NotFound", "no subresource"),
            ("POST", "/api/v1/pods", &[], "{}", 405, "MethodNotAllowed", "POST is not supported"),
            ("PUT", "/api/v1/namespaces/default/pods", &[], "{}", 405, "MethodNotAllowed", "PUT is not supported"),
            ("OPTIONS", "/api/v1/pods", &[], "", 405, "MethodNotAllowed", "OPTIONS"),
            ("GET", "/api/v1/pods", &["accept: text/html"], "", 406, "NotAcceptable", "application/json"),
            ("POST", MAPS, &["content-type: text/csv"], "a,b", 415, "UnsupportedMediaType", "text/csv"),
            (
                "PATCH",
                "/api/v1/namespaces/default/configmaps/m",
                &["content-type: text/csv"],
                "a",
                415,
                "UnsupportedMediaType",
                "strategic-merge",
            ),
            ("PATCH", "/api/v1/namespaces/default/configmaps/m", &[patch], "{}", 422, "Invalid", "fieldManager"),
            (
                "PATCH",
                "/api/v1/namespaces/default",
                &["content-type: application/json-patch+json"],
                "[{\"op\":\"test\",\"path\":\"/metadata/name\",\"value\":\"other\"}]",
                422,
                "Invalid",
                "cannot be applied",
            ),
            ("POST", MAPS, &[], "{", 400, "BadRequest", "cannot be handled as a ConfigMap"),
            ("POST", MAPS, &[], "{\"kind\":\"Secret\"}", 400, "BadRequest", "Secret"),
            ("POST", MAPS, &["content-type: application/vnd.kubernetes.protobuf"], "abc", 400, "BadRequest", "k8s"),
            (
                "POST",
                "/api/v1/namespaces/default/pods",
                &[],
                "{\"metadata\":{\"name\":\"x\"},\"spec\":{}}",
                422,
                "Invalid",
                "spec.containers: Required value",
            ),
            ("GET", "/api/v1/pods?labelSelector=a%20in", &[], "", 400, "BadRequest", "label selector"),
            (
                "GET",
                "/api/v1/pods?fieldSelector=spec.color%3Dred",
                &[],
                "",
                400,
                "BadRequest",
                "field label not supported",
            ),
            ("GET", "/api/v1/pods?resourceVersion=0&resourceVersionMatch=Exact", &[], "", 422, "Invalid", "Exact"),
            ("GET", "/api/v1/pods?resourceVersion=99999999", &[], "", 504, "Timeout", "Too large resource version"),
            ("GET", "/api/v1/pods?limit=many", &[], "", 400, "BadRequest", "limit"),
            ("GET", "/api/v1/pods?watch=1&sendInitialEvents=true", &[], "", 422, "Invalid", "NotOlderThan"),
            ("POST", "/api/v1/namespaces/default/configmaps?dryRun=Some", &[], "{}", 422, "Invalid", "dryRun"),
        ] {
            let got = http.ask(method, path, headers, body).await;
            let status = got.json();
            assert_eq!(
                (got.code, &status["kind"], &status["status"], &status["reason"], &status["code"]),
                (code, &json!("Status"), &json!("Failure"), &json!(reason), &json!(code)),
                "{method} {path}: {status}"
            );
            let message = status["message"].as_str().unwrap_or_default();
            assert!(message.contains(words), "{method} {path}: {message}");
        }
        let status = http.get(&format!("{PODS}/none")).await.json();
        assert_eq!(status["details"], json!({"name": "none", "kind": "pods"}));
    });
}

#[test]
fn identities_limits_and_rights_are_those_of_the_other_face() {
    let limits = Limits { body_bytes: 20_000, ..Limits::default() };
    with_limits(limits, |server| async move {
        let nobody = server.http_as(Identity::new("", &[]));
        assert_eq!(nobody.get("/api/v1/pods").await.code, 401);
        assert_eq!(nobody.get("/api").await.code, 401);
        assert_eq!(nobody.get("/version").await.code, 200);
        let someone = server.http_as(Identity::new("someone", &[]));
        assert_eq!(someone.get("/apis").await.code, 200);
        let refused = someone.get("/apis/apps/v1/namespaces/default/deployments").await;
        assert_eq!(
            refused.json()["message"],
            "deployments.apps is forbidden: User \"someone\" cannot list resource \"deployments\" in API group \"apps\" in the namespace \"default\""
        );
        let refused = someone.ask("DELETE", PODS, &[], "").await.json();
        assert!(refused["message"].as_str().unwrap_or_default().contains("cannot deletecollection resource \"pods\""));
        // A node reads only what is its own, here too.
        let node = server.http_as(Identity::new("system:node:n1", &["system:nodes"]));
        assert_eq!(node.get("/api/v1/pods").await.code, 403);
        assert_eq!(node.get("/api/v1/pods?fieldSelector=spec.nodeName%3Dn1").await.code, 200);
        let large = "x".repeat(30_000);
        let got = server.http().ask("POST", MAPS, &[], large).await;
        assert_eq!((got.code, &got.json()["reason"]), (413, &json!("RequestEntityTooLarge")));
    });
}

#[test]
fn lists_come_in_chunks_that_fit_together() {
    with_server(|server| async move {
        let http = server.http();
        for i in 0..5 {
            http.post(MAPS, &map(&format!("m{i}"))).await;
        }
        let list = http.get(&format!("{MAPS}?labelSelector=of%3Dtest")).await.json();
        assert_eq!((&list["kind"], &list["apiVersion"]), (&json!("ConfigMapList"), &json!("v1")));
        let all: Vec<String> = list["items"].as_array().expect("items").iter().map(name).collect();
        assert_eq!(all, ["m0", "m1", "m2", "m3", "m4"]);
        assert!(list["metadata"]["resourceVersion"].is_string() && list["metadata"].get("continue").is_none());

        let first = http.get(&format!("{MAPS}?limit=2")).await.json();
        assert_eq!(first["metadata"]["remainingItemCount"], 3);
        http.post(MAPS, &map("m11")).await;
        let mut seen: Vec<String> = first["items"].as_array().expect("items").iter().map(name).collect();
        let mut token = first["metadata"]["continue"].as_str().expect("more").to_string();
        while !token.is_empty() {
            let page = http.get(&format!("{MAPS}?limit=2&continue={token}")).await.json();
            assert_eq!(page["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
            seen.extend(page["items"].as_array().expect("items").iter().map(name));
            token = page["metadata"]["continue"].as_str().unwrap_or_default().to_string();
        }
        assert_eq!(seen, all, "as it was at the first page's revision");

        assert_eq!(http.get("/api/v1/namespaces/none/secrets").await.json()["items"], json!([]));
        let deleted = http.ask("DELETE", &format!("{MAPS}?labelSelector=of%3Dtest"), &[], "").await;
        assert_eq!((deleted.code, deleted.json()["items"].as_array().map(Vec::len)), (200, Some(6)));
        assert_eq!(http.get(&format!("{MAPS}?labelSelector=of%3Dtest")).await.json()["items"], json!([]));
    });
}

#[test]
fn subresources_answer_with_their_own_kinds() {
    with_server(|server| async move {
        let http = server.http();
        let deployments = "/apis/apps/v1/namespaces/default/deployments";
        assert_eq!(http.post(deployments, &deployment("web")).await.code, 201);
        let scale = http.get(&format!("{deployments}/web/scale")).await.json();
        assert_eq!((&scale["kind"], &scale["apiVersion"]), (&json!("Scale"), &json!("autoscaling/v1")));
        let patched = http
            .ask(
                "PATCH",
                &format!("{deployments}/web/scale"),
                &["content-type: application/merge-patch+json"],
                json!({"spec": {"replicas": 4}}).to_string(),
            )
            .await;
        assert_eq!((patched.code, &patched.json()["spec"]["replicas"]), (200, &json!(4)));
        let mut with_status = http.get(&format!("{deployments}/web")).await.json();
        with_status["status"]["replicas"] = json!(2);
        with_status["spec"]["replicas"] = json!(9);
        let put = http.ask("PUT", &format!("{deployments}/web/status"), &[], with_status.to_string()).await.json();
        assert_eq!((&put["status"]["replicas"], &put["spec"]["replicas"]), (&json!(2), &json!(4)));

        http.post(PODS, &pod("p")).await;
        let binding = json!({"target": {"kind": "Node", "name": "n1"}});
        let bound = http.post(&format!("{PODS}/p/binding"), &binding).await;
        assert_eq!((bound.code, &bound.json()["status"]), (201, &json!("Success")));
        let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"},
                              "deleteOptions": {"gracePeriodSeconds": 5}});
        let evicted = http.post(&format!("{PODS}/p/eviction"), &eviction).await;
        assert_eq!(evicted.code, 201, "{}", evicted.text());
        let going = http.get(&format!("{PODS}/p")).await.json();
        assert_eq!(going["metadata"]["deletionGracePeriodSeconds"], 5);
        let generated = http
            .post(
                PODS,
                &json!({"metadata": {"generateName": "g-"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}),
            )
            .await;
        assert!(name(&generated.json()).starts_with("g-"));
    });
}

#[test]
fn server_side_apply_makes_changes_and_refuses() {
    with_server(|server| async move {
        let http = server.http();
        let apply = async |query: &str, data: &str| {
            let path = format!("/api/v1/namespaces/default/configmaps/m?{query}");
            let body = format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: m}}\ndata: {{{data}}}\n");
            http.ask("PATCH", &path, &["content-type: application/apply-patch+yaml"], body).await
        };
        let made = apply("fieldManager=a", "x: \"1\"").await;
        assert_eq!((made.code, &made.json()["data"]), (201, &json!({"x": "1"})));
        assert_eq!(apply("fieldManager=a", "x: \"1\"").await.code, 200);
        let refused = apply("fieldManager=b&force=false", "x: \"2\"").await;
        let cause = json!([{"reason": "FieldManagerConflict", "message": "conflict with \"a\"", "field": ".data.x"}]);
        assert_eq!((refused.code, &refused.json()["details"]["causes"]), (409, &cause));
        let forced = apply("fieldManager=b&force=true", "x: \"2\"").await;
        assert_eq!((forced.code, &forced.json()["metadata"]["managedFields"][0]["manager"]), (200, &json!("b")));
        // Another write is known by the program that sent it.
        let path = "/api/v1/namespaces/default/configmaps/m";
        let headers = ["content-type: application/merge-patch+json", "user-agent: curl/8.0"];
        let patched = http.ask("PATCH", path, &headers, "{\"data\":{\"y\":\"1\"}}").await.json();
        assert_eq!(patched["metadata"]["managedFields"][1]["manager"], "curl");
        let forced = http.ask("PATCH", &format!("{path}?force=true"), &headers, "{}").await;
        assert_eq!((forced.code, forced.json()["reason"].as_str()), (422, Some("Invalid")));
    });
}
