//! Ephemeral containers: added by their own subresource, which lets nothing else through.

use super::*;

const POD: &str = "/api/v1/namespaces/default/pods/p";
const STRATEGIC: &[&str] = &["content-type: application/strategic-merge-patch+json"];

fn look(more: Value) -> Value {
    let mut container = json!({"name": "look", "image": "demo:1"});
    for (key, value) in more.as_object().expect("fields") {
        container[key] = value.clone();
    }
    json!({"spec": {"ephemeralContainers": [container]}})
}

#[test]
fn a_container_is_added_to_a_pod_and_nothing_else_comes_with_it() {
    with_server(|server| async move {
        let http = server.http();
        server.admin().create("v1:pods:default", pod("p")).await.expect("made");
        let mut patch = look(json!({"targetContainerName": "main", "stdin": true, "tty": true}));
        patch["metadata"] = json!({"labels": {"sneaked": "in"}});
        patch["spec"]["activeDeadlineSeconds"] = json!(5);
        let got = http.ask("PATCH", &format!("{POD}/ephemeralcontainers"), STRATEGIC, patch.to_string()).await;
        assert_eq!(got.code, 200, "{}", got.text());
        assert_eq!(got.warnings(), [""; 0], "it is honoured");
        let object = got.json();
        assert_eq!((&object["metadata"]["generation"], &object["metadata"]["labels"]), (&json!(2), &Value::Null));
        assert_eq!(object["spec"]["activeDeadlineSeconds"], Value::Null);
        let added = &object["spec"]["ephemeralContainers"][0];
        assert_eq!((&added["name"], &added["imagePullPolicy"]), (&json!("look"), &json!("IfNotPresent")));
        assert_eq!(http.get(&format!("{POD}/ephemeralcontainers")).await.json(), object);

        // Replacing works too, as long as what is there stays as it is.
        let mut more = object.clone();
        more["spec"]["ephemeralContainers"]
            .as_array_mut()
            .expect("a list")
            .push(json!({"name": "b", "image": "demo:1"}));
        let put = |tree: Value| {
            let text = tree.to_string();
            let http = server.http();
            async move {
                http.ask("PUT", &format!("{POD}/ephemeralcontainers"), &["content-type: application/json"], text).await
            }
        };
        let got = put(more).await;
        assert_eq!((got.code, got.json()["spec"]["ephemeralContainers"].as_array().map(Vec::len)), (200, Some(2)));
        let current = got.json();
        for (change, words) in [
            (json!([]), "existing ephemeral containers \\\"look\\\" may not be removed"),
            (
                json!([{"name": "look", "image": "other:1"}, current["spec"]["ephemeralContainers"][1]]),
                "\\\"look\\\" may not be changed",
            ),
        ] {
            let mut wrong = current.clone();
            wrong["spec"]["ephemeralContainers"] = change;
            let got = put(wrong).await;
            assert!(got.code == 422 && got.text().contains(words), "{words}: {}", got.text());
        }
        let stranger = server.http_as(Identity::new("stranger", &[]));
        assert_eq!(stranger.get(&format!("{POD}/ephemeralcontainers")).await.code, 403);
    });
}

#[test]
fn what_such_a_container_cannot_have_is_refused_and_so_is_another_way_in() {
    with_server(|server| async move {
        let http = server.http();
        server.admin().create("v1:pods:default", pod("p")).await.expect("made");
        for (more, words) in [
            (json!({"name": "main"}), "spec.ephemeralContainers[0].name: Duplicate value"),
            (json!({"name": "Bad_Name"}), "spec.ephemeralContainers[0].name: Invalid value"),
            (json!({"image": ""}), "spec.ephemeralContainers[0].image: Required value"),
            (json!({"targetContainerName": "none"}), "spec.ephemeralContainers[0].targetContainerName: Not found"),
            (
                json!({"ports": [{"containerPort": 1}]}),
                "spec.ephemeralContainers[0].ports: Forbidden: cannot be set for an Ephemeral Container",
            ),
            (json!({"livenessProbe": {"exec": {"command": ["a"]}}}), "livenessProbe: Forbidden"),
            (json!({"resources": {"limits": {"cpu": "1"}}}), "resources: Forbidden"),
            (json!({"lifecycle": {}}), "lifecycle: Forbidden"),
            (json!({"volumeMounts": [{"name": "none", "mountPath": "/x"}]}), "volumeMounts[0].name"),
        ] {
            let got = http.ask("PATCH", &format!("{POD}/ephemeralcontainers"), STRATEGIC, look(more).to_string()).await;
            let status = got.json();
            let message = status["message"].as_str().unwrap_or_default();
            assert!(got.code == 422 && message.contains(words), "{words}: {}", got.text());
        }
        let got = http.ask("PATCH", POD, STRATEGIC, look(json!({})).to_string()).await;
        assert_eq!(got.code, 422, "not by the Pod itself: {}", got.text());
        let mut born = pod("q");
        born["spec"]["ephemeralContainers"] = look(json!({}))["spec"]["ephemeralContainers"].take();
        let got = http.post("/api/v1/namespaces/default/pods", &born).await;
        assert!(got.code == 422 && got.text().contains("cannot be set on create"), "{}", got.text());
    });
}
