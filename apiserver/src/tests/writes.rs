//! Creating, updating, patching: what is filled in, what is refused, what is isolated, and that nothing is lost.

use super::*;
use pb::patch_request::Type;

const PODS: &str = "v1:pods:default";
const DEPLOYMENTS: &str = "apps/v1:deployments:default";

#[test]
fn a_created_object_is_completed_and_reads_back_the_same() {
    with_server(|server| async move {
        let admin = server.admin();
        let made = admin.create(DEPLOYMENTS, deployment("web")).await.expect("created");
        assert_eq!(made["kind"], "Deployment");
        assert_eq!(made["metadata"]["generation"], 1);
        assert!(made["metadata"]["uid"].is_string() && made["metadata"]["creationTimestamp"].is_string());
        let spec = &made["spec"];
        assert_eq!(spec["replicas"], 1);
        assert_eq!(
            spec["strategy"],
            json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}})
        );
        assert_eq!((&spec["revisionHistoryLimit"], &spec["progressDeadlineSeconds"]), (&json!(10), &json!(600)));
        assert_eq!(spec["template"]["spec"]["containers"][0]["imagePullPolicy"], "IfNotPresent");
        assert_eq!(admin.get("apps/v1:deployments:default/web").await.expect("there"), made);
    });
}

#[test]
fn every_kind_can_be_created_listed_and_deleted() {
    with_server(|server| async move {
        let admin = server.admin();
        let meta = json!({"metadata": {"name": "x"}});
        for (path, object) in [
            ("v1:namespaces:", meta.clone()),
            ("v1:nodes:", meta.clone()),
            ("v1:pods:default", pod("x")),
            ("v1:services:default", json!({"metadata": {"name": "x"}, "spec": {"ports": [{"port": 80}]}})),
            ("v1:endpoints:default", meta.clone()),
            ("v1:configmaps:default", meta.clone()),
            ("v1:secrets:default", meta.clone()),
            ("v1:serviceaccounts:default", meta.clone()),
            ("v1:events:default", json!({"metadata": {"name": "x"}, "involvedObject": {"namespace": "default"}})),
            ("apps/v1:deployments:default", deployment("x")),
            ("apps/v1:replicasets:default", deployment("x")),
            ("discovery.k8s.io/v1:endpointslices:default", json!({"metadata": {"name": "x"}, "addressType": "IPv4"})),
            ("coordination.k8s.io/v1:leases:default", meta.clone()),
        ] {
            let made = admin.create(path, object).await.unwrap_or_else(|e| panic!("{path}: {e:?}"));
            assert!(admin.names(path, "", "").await.expect("listed").contains(&name(&made)), "{path}");
            let one = format!("{path}/x");
            assert_eq!(admin.get(&one).await.expect("read"), made, "{path}");
            admin.delete(&one).await.unwrap_or_else(|e| panic!("{path}: {e:?}"));
        }
    });
}

#[test]
fn all_errors_of_an_object_come_at_once_in_kubernetes_words() {
    with_server(|server| async move {
        let admin = server.admin();
        let mut bad = deployment("web");
        bad["spec"]["replicas"] = json!(-1);
        bad["spec"]["template"]["spec"]["containers"][0] = json!({"name": "Main", "ports": [{"containerPort": 70000}]});
        bad["spec"]["template"]["metadata"]["labels"] = json!({"app": "other"});
        let refused = admin.create(DEPLOYMENTS, bad).await.expect_err("refused");
        assert_eq!((refused.reason(), refused.status.code), ("Invalid", 422));
        for part in [
            "Deployment.apps \"web\" is invalid: [",
            "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
            "spec.template.spec.containers[0].image: Required value",
            "spec.template.spec.containers[0].name: Invalid value: \"Main\"",
            "spec.template.spec.containers[0].ports[0].containerPort: Invalid value: 70000",
            "`selector` does not match template `labels`",
        ] {
            assert!(refused.message().contains(part), "missing {part:?} in {}", refused.message());
        }
        let details = refused.status.details.expect("details");
        assert!(details.causes.iter().any(|c| c.field == "spec.replicas" && c.reason == "FieldValueInvalid"));
        assert!(admin.get("apps/v1:deployments:default/web").await.is_err());
    });
}

#[test]
fn unknown_fields_are_refused_warned_of_or_dropped() {
    with_server(|server| async move {
        let admin = server.admin();
        for (validation, outcome) in [("Strict", "refused"), ("Warn", "warned"), ("Ignore", "dropped")] {
            let mut object = pod(outcome);
            object["spec"]["containers"][0]["imagee"] = json!("x");
            let answer = admin
                .create_with(pb::CreateRequest {
                    r#ref: Some(at(PODS)),
                    object: object.to_string().into_bytes().into(),
                    field_validation: validation.into(),
                    ..Default::default()
                })
                .await;
            let words = "unknown field \"spec.containers[0].imagee\"";
            match outcome {
                "refused" => {
                    let refused = answer.expect_err("strict");
                    assert_eq!(refused.reason(), "BadRequest");
                    assert!(refused.message().contains(words), "{}", refused.message());
                }
                "warned" => assert_eq!(answer.expect("made")["_warnings"], json!([words])),
                _ => assert_eq!(answer.expect("made")["_warnings"], Value::Null),
            }
        }
    });
}

#[test]
fn what_is_known_and_not_honoured_is_said() {
    with_server(|server| async move {
        let mut object = pod("a");
        object["spec"]["runtimeClassName"] = json!("gvisor");
        let made = server.admin().create(PODS, object).await.expect("made");
        assert!(made["_warnings"][0].as_str().is_some_and(|w| w.starts_with("spec.runtimeClassName: ")), "{made}");
    });
}

#[test]
fn a_status_write_leaves_the_spec_alone_and_the_other_way_round() {
    with_server(|server| async move {
        let admin = server.admin();
        let mut made = admin.create(DEPLOYMENTS, deployment("web")).await.expect("made");
        made["status"] = json!({"replicas": 3, "observedGeneration": 1});
        made["spec"]["replicas"] = json!(5);
        let by_status = admin.update("apps/v1:deployments:default/web/status", &made).await.expect("status");
        assert_eq!((&by_status["spec"]["replicas"], &by_status["status"]["replicas"]), (&json!(1), &json!(3)));
        assert_eq!(by_status["metadata"]["generation"], 1);
        let mut main = by_status.clone();
        main["status"] = json!({"replicas": 99});
        main["spec"]["replicas"] = json!(5);
        let by_main = admin.update("apps/v1:deployments:default/web", &main).await.expect("main");
        assert_eq!((&by_main["spec"]["replicas"], &by_main["status"]["replicas"]), (&json!(5), &json!(3)));
        assert_eq!(by_main["metadata"]["generation"], 2);
    });
}

#[test]
fn a_write_at_an_old_revision_is_a_conflict_and_changes_nothing() {
    with_server(|server| async move {
        let admin = server.admin();
        let first = admin.create(DEPLOYMENTS, deployment("web")).await.expect("made");
        let mut mine = first.clone();
        mine["spec"]["replicas"] = json!(2);
        let second = admin.update("apps/v1:deployments:default/web", &mine).await.expect("updated");
        assert!(revision(&second) > revision(&first));
        mine["spec"]["replicas"] = json!(3);
        let refused = admin.update("apps/v1:deployments:default/web", &mine).await.expect_err("stale");
        assert_eq!((refused.reason(), refused.grpc.code()), ("Conflict", tonic::Code::Aborted));
        assert!(
            refused.message().contains("the object has been modified; please apply your changes to the latest version")
        );
        assert_eq!(admin.get("apps/v1:deployments:default/web").await.expect("there"), second);
    });
}

#[test]
fn writing_the_same_again_writes_nothing() {
    with_server(|server| async move {
        let admin = server.admin();
        let made = admin.create(DEPLOYMENTS, deployment("web")).await.expect("made");
        let again = admin.update("apps/v1:deployments:default/web", &made).await.expect("updated");
        assert_eq!(revision(&made), revision(&again));
    });
}

#[test]
fn concurrent_compare_and_swap_writers_lose_nothing() {
    in_many_worlds(|server| async move {
        let admin = server.admin();
        admin
            .create("v1:configmaps:default", json!({"metadata": {"name": "count"}, "data": {"n": "0"}}))
            .await
            .expect("made");
        let mut writers = Vec::new();
        for writer in 0..8 {
            let client = server.client(&format!("writer-{writer}"), &["system:masters"]);
            writers.push(async move {
                for _ in 0..10 {
                    loop {
                        let mut map = client.get("v1:configmaps:default/count").await.expect("there");
                        let n: u64 = map["data"]["n"].as_str().and_then(|n| n.parse().ok()).expect("a number");
                        map["data"]["n"] = json!((n + 1).to_string());
                        match client.update("v1:configmaps:default/count", &map).await {
                            Ok(_) => break,
                            Err(refused) => assert_eq!(refused.reason(), "Conflict", "{refused:?}"),
                        }
                    }
                }
            });
        }
        futures::future::join_all(writers).await;
        let map = admin.get("v1:configmaps:default/count").await.expect("there");
        assert_eq!(map["data"]["n"], "80");
    });
}

#[test]
fn concurrent_patches_of_different_fields_all_hold() {
    in_many_worlds(|server| async move {
        let admin = server.admin();
        admin.create("v1:configmaps:default", json!({"metadata": {"name": "m"}})).await.expect("made");
        let patches = (0..30).map(|i| {
            let client = admin.clone();
            async move {
                client.merge("v1:configmaps:default/m", json!({"data": {format!("k{i}"): "v"}})).await.expect("patched")
            }
        });
        futures::future::join_all(patches).await;
        let map = admin.get("v1:configmaps:default/m").await.expect("there");
        assert_eq!(map["data"].as_object().expect("data").len(), 30);
    });
}

#[test]
fn json_merge_and_strategic_patches() {
    with_server(|server| async move {
        let admin = server.admin();
        admin.create(DEPLOYMENTS, deployment("web")).await.expect("made");
        let path = "apps/v1:deployments:default/web";
        let by_json = admin
            .patch(path, Type::Json, json!([{"op": "replace", "path": "/spec/replicas", "value": 4}]))
            .await
            .expect("json");
        assert_eq!(by_json["spec"]["replicas"], 4);
        let strategic = json!({"spec": {"template": {"spec": {"containers": [{"name": "main", "image": "demo:2"}]}}}});
        let by_strategy = admin.patch(path, Type::Strategic, strategic).await.expect("strategic");
        let container = &by_strategy["spec"]["template"]["spec"]["containers"][0];
        assert_eq!((&container["image"], &container["imagePullPolicy"]), (&json!("demo:2"), &json!("IfNotPresent")));
        let by_merge = admin
            .merge(path, json!({"metadata": {"labels": {"a": "b"}}, "spec": {"replicas": null}}))
            .await
            .expect("merge");
        assert_eq!((&by_merge["metadata"]["labels"]["a"], &by_merge["spec"]["replicas"]), (&json!("b"), &json!(1)));
        let test = admin.patch(path, Type::Json, json!([{"op": "test", "path": "/spec/replicas", "value": 9}])).await;
        assert_eq!(test.expect_err("the test fails").reason(), "Invalid");
        // How the first finalizer is added, and no second one over it: a test for null holds where nothing is.
        let first = json!([
            {"op": "test", "path": "/metadata/finalizers", "value": null},
            {"op": "add", "path": "/metadata/finalizers", "value": ["example.com/a"]},
        ]);
        let held = admin.patch(path, Type::Json, first.clone()).await.expect("nothing is there yet");
        assert_eq!(held["metadata"]["finalizers"], json!(["example.com/a"]));
        let again = admin.patch(path, Type::Json, first).await.expect_err("one is there now");
        assert_eq!(again.reason(), "Invalid");
        let nowhere = json!([{"op": "test", "path": "/spec/none/deeper", "value": null}]);
        assert!(admin.patch(path, Type::Json, nowhere).await.is_err(), "where there is no parent nothing can be asked");
    });
}

#[test]
fn a_dry_run_does_everything_but_write() {
    with_server(|server| async move {
        let admin = server.admin();
        let m = pb::CreateRequest {
            r#ref: Some(at(PODS)),
            object: pod("a").to_string().into_bytes().into(),
            dry_run: true,
            ..Default::default()
        };
        let made = admin.create_with(m).await.expect("made");
        assert_eq!(made["spec"]["restartPolicy"], "Always");
        assert_eq!(admin.get("v1:pods:default/a").await.expect_err("not there").reason(), "NotFound");
    });
}

#[test]
fn generated_names_differ_and_taken_names_are_refused() {
    with_server(|server| async move {
        let admin = server.admin();
        let mut object = pod("");
        object["metadata"] = json!({"generateName": "web-"});
        let first = admin.create(PODS, object.clone()).await.expect("made");
        let second = admin.create(PODS, object).await.expect("made");
        assert!(name(&first).starts_with("web-") && name(&first) != name(&second));
        let refused = admin.create(PODS, pod(&name(&first))).await.expect_err("taken");
        assert_eq!(refused.reason(), "AlreadyExists");
        assert_eq!(refused.message(), format!("pods {:?} already exists", name(&first)));
    });
}

#[test]
fn scale_changes_the_replicas_and_counts_a_generation() {
    with_server(|server| async move {
        let admin = server.admin();
        admin.create(DEPLOYMENTS, deployment("web")).await.expect("made");
        let path = "apps/v1:deployments:default/web/scale";
        let scale = admin.merge(path, json!({"spec": {"replicas": 7}})).await.expect("scaled");
        assert_eq!(
            (&scale["kind"], &scale["spec"]["replicas"], &scale["status"]["selector"]),
            (&json!("Scale"), &json!(7), &json!("app=web"))
        );
        let mut read = admin.get(path).await.expect("read");
        read["spec"]["replicas"] = json!(0);
        admin.update(path, &read).await.expect("scaled");
        let main = admin.get("apps/v1:deployments:default/web").await.expect("there");
        assert_eq!((&main["spec"]["replicas"], &main["metadata"]["generation"]), (&json!(0), &json!(3)));
        let refused = admin.update(path, &read).await.expect_err("stale");
        assert_eq!(refused.reason(), "Conflict");
        let negative = admin.merge(path, json!({"spec": {"replicas": -1}})).await.expect_err("negative");
        assert!(negative.message().contains("spec.replicas: Invalid value: -1"), "{}", negative.message());
    });
}

#[test]
fn an_object_too_large_for_the_store_is_refused_in_words() {
    with_server(|server| async move {
        let mut object = pod("a");
        object["spec"]["containers"][0]["args"] = json!(["x".repeat(1_600_000)]);
        let refused = server.admin().create(PODS, object).await.expect_err("too large");
        assert_eq!((refused.reason(), refused.status.code), ("RequestEntityTooLarge", 413));
        assert!(refused.message().contains("the object has"), "{}", refused.message());
    });
}

#[test]
fn a_body_over_the_limit_and_a_body_of_nonsense_are_refused() {
    with_limits(Limits { body_bytes: 10_000, ..Limits::default() }, |server| async move {
        let admin = server.admin();
        let big = json!({"metadata": {"name": "big"}, "data": {"x": "y".repeat(20_000)}});
        let refused = admin.create("v1:configmaps:default", big).await.expect_err("too large");
        assert_eq!((refused.reason(), refused.status.code), ("RequestEntityTooLarge", 413));
        let bad = |object: &str, content_type: &str| pb::CreateRequest {
            r#ref: Some(at(PODS)),
            object: object.as_bytes().to_vec().into(),
            content_type: content_type.into(),
            ..Default::default()
        };
        for (object, content_type, words) in [
            ("{", JSON, "cannot be handled as a Pod"),
            ("[]", JSON, "cannot be handled as a Pod"),
            (r#"{"kind":"Node"}"#, JSON, "kind"),
            (r#"{"spec":{"containers":"x"}}"#, JSON, "spec.containers"),
            ("\u{1}", "application/vnd.kubernetes.protobuf", "protobuf"),
            ("{}", "text/html", "text/html"),
        ] {
            let refused = admin.create_with(bad(object, content_type)).await.expect_err("nonsense");
            assert!(refused.message().contains(words), "{object}: {}", refused.message());
        }
    });
}
