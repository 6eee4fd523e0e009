//! What JSON means for the API's messages.

use super::*;
use crate::appsv1::Deployment;
use crate::corev1::{Pod, Secret, Service};
use crate::metav1::{DeleteOptions, Status};
use crate::policyv1::Eviction;
use crate::{IntOrString, Kind, Quantity};
use serde_json::json;

fn strict<T: Json>(value: serde_json::Value) -> Result<T, DecodeError> {
    decode(value.to_string().as_bytes(), Strictness::Strict).map(|(v, _)| v)
}

fn problems<T: Json>(text: &str) -> Vec<String> {
    let (_, problems) = decode::<T>(text.as_bytes(), Strictness::Warn).unwrap();
    problems.iter().map(Problem::to_string).collect()
}

#[test]
fn reads_what_it_writes() {
    let document = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "web", "labels": {"app": "web"}, "creationTimestamp": "2026-01-31T15:04:05Z"},
        "spec": {
            "volumes": [{"name": "data", "emptyDir": {"medium": "Memory", "sizeLimit": "1536Mi"}}],
            "containers": [{
                "name": "c", "image": "skiff/demo",
                "env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "cm", "key": "k"}}}],
                "resources": {"limits": {"cpu": "1500m"}},
                "livenessProbe": {"httpGet": {"port": "http"}, "periodSeconds": 5},
            }],
            "terminationGracePeriodSeconds": 0,
        },
        "status": {},
    });
    let pod: Pod = strict(document.clone()).unwrap();
    assert_eq!(pod.spec.containers[0].resources.limits["cpu"], Quantity::from_milli(1500));
    assert_eq!(pod.spec.termination_grace_period_seconds, Some(0));
    assert_eq!(encode_value(&pod), document);
    let keys: Vec<&String> = document.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["apiVersion", "kind", "metadata", "spec", "status"]);
}

#[test]
fn three_kinds_of_presence() {
    let pod: Pod = strict(
        json!({"spec": {"containers": [{"name": "c", "securityContext": {"runAsUser": 0}}], "hostNetwork": false}}),
    )
    .unwrap();
    let written = encode_value(&pod);
    // A pointer to zero stays, a zero that is omitted goes, a zero that is always written comes.
    assert_eq!(written["spec"]["containers"][0]["securityContext"], json!({"runAsUser": 0}));
    assert_eq!(written["spec"].get("hostNetwork"), None);
    assert_eq!(written["spec"]["containers"][0]["resources"], json!({}));
    assert_eq!(encode_value(&Pod::default())["spec"]["containers"], json!([]));
}

#[test]
fn unknown_fields_have_full_paths() {
    let found = problems::<Pod>(
        r#"{"spec": {"volumes": [{"name": "a", "emptyDir": {"mediumm": "Memory"}}, {"emptyDri": {}}],
            "containers": [{"livenessProbe": {"httpGet": {"prot": 1}, "tcp": {}}}]}, "metadata": {"label": {}}, "x": 1}"#,
    );
    assert_eq!(
        found,
        [
            r#"unknown field "spec.volumes[0].emptyDir.mediumm""#,
            r#"unknown field "spec.volumes[1].emptyDri""#,
            r#"unknown field "spec.containers[0].livenessProbe.httpGet.prot""#,
            r#"unknown field "spec.containers[0].livenessProbe.tcp""#,
            r#"unknown field "metadata.label""#,
            r#"unknown field "x""#,
        ]
    );
}

#[test]
fn a_misspelling_is_answered_with_the_right_name() {
    let error = strict::<Pod>(json!({"spec": {"volumes": [{"emptyDir": {"mediumm": "Memory"}}]}})).unwrap_err();
    assert_eq!(error.to_string(), r#"strict decoding error: unknown field "spec.volumes[0].emptyDir.mediumm""#);
    assert!(error.problems[0].advice().ends_with(r#"(did you mean "medium"?)"#));
    let (_, found) = decode::<Deployment>(br#"{"spec": {"replica": 1, "zzz": 1}}"#, Strictness::Warn).unwrap();
    assert!(found[0].advice().contains(r#""replicas""#));
    assert_eq!(found[1].advice(), found[1].to_string());
}

#[test]
fn duplicates_are_told_and_the_last_counts() {
    let text = r#"{"kind": "Pod", "kind": "Pod", "metadata": {"name": "a", "name": "b", "labels": {"x": "1", "x": "2"}, "annotations": {"e.x/y": "1", "e.x/y": "2"}},
        "spec": {"volumes": [{"emptyDir": {}, "name": "v", "emptyDir": null}]}}"#;
    let found = problems::<Pod>(text);
    assert_eq!(
        found,
        [
            r#"duplicate field "kind""#,
            r#"duplicate field "metadata.name""#,
            r#"duplicate field "metadata.labels.x""#,
            r#"duplicate field "metadata.annotations[e.x/y]""#,
            r#"duplicate field "spec.volumes[0].emptyDir""#,
        ]
    );
    let (pod, _) = decode::<Pod>(text.as_bytes(), Strictness::Ignore).unwrap();
    assert_eq!((pod.metadata.name.as_str(), pod.metadata.labels["x"].as_str()), ("b", "2"));
}

#[test]
fn wrong_types_name_field_and_expectation() {
    for (document, path, expected) in [
        (json!({"spec": {"replicas": "three"}}), "spec.replicas", "a whole number from"),
        (json!({"spec": {"replicas": 1.5}}), "spec.replicas", "a whole number from"),
        (json!({"spec": {"replicas": 3000000000u64}}), "spec.replicas", "a whole number from"),
        (json!({"spec": {"paused": "yes"}}), "spec.paused", "true or false"),
        (json!({"spec": {"template": {"spec": {"containers": {}}}}}), "spec.template.spec.containers", "a list"),
        (
            json!({"spec": {"template": {"spec": {"containers": [{"env": [{"name": "A"}, {"value": 8080}]}]}}}}),
            "spec.template.spec.containers[0].env[1].value",
            "a text",
        ),
        (
            json!({"spec": {"template": {"spec": {"containers": [{"resources": {"limits": {"memory": "1 Gi"}}}]}}}}),
            "spec.template.spec.containers[0].resources.limits.memory",
            "is not a quantity",
        ),
        (json!({"metadata": {"labels": {"a": true}}}), "metadata.labels.a", "a text"),
        (json!({"metadata": []}), "metadata", "an object"),
        (json!({"metadata": {"creationTimestamp": "yesterday"}}), "metadata.creationTimestamp", "is not a time"),
        (json!({"kind": "Pod"}), "kind", r#""Deployment" is expected"#),
        (json!({"apiVersion": "extensions/v1beta1"}), "apiVersion", r#""apps/v1" is expected"#),
        (json!([]), "", "an object"),
    ] {
        let error = strict::<Deployment>(document.clone()).unwrap_err();
        assert_eq!(error.path, path, "{document}");
        assert!(error.message.contains(expected), "{document}: {error}");
        assert!(error.line == 1 && !error.message.contains("at line"), "{error}");
        let error = decode_value::<Deployment>(&document, Strictness::Strict).unwrap_err();
        assert_eq!(error.path, path, "{document} as a tree");
    }
}

#[test]
fn null_is_the_default_everywhere() {
    let pod: Pod = strict(json!({"metadata": null, "spec": {"containers": null, "hostNetwork": null, "priority": null, "nodeSelector": {"a": null}, "volumes": [null]}})).unwrap();
    assert_eq!(pod.spec.volumes.len(), 1);
    assert_eq!(pod.spec.node_selector["a"], "");
    assert_eq!((pod.spec.containers.len(), pod.spec.priority), (0, None));
}

#[test]
fn values_of_two_types() {
    let service: Service =
        strict(json!({"spec": {"ports": [{"port": 80, "targetPort": "http"}, {"port": 81, "targetPort": 8081}]}}))
            .unwrap();
    assert_eq!(service.spec.ports[0].target_port, IntOrString::from("http"));
    assert_eq!(service.spec.ports[1].target_port, IntOrString::Int(8081));
    let secret: Secret = strict(json!({"data": {"a": "aGVs\nbG8="}})).unwrap();
    assert_eq!(secret.data["a"], b"hello");
    assert!(strict::<Secret>(json!({"data": {"a": "?"}})).unwrap_err().to_string().starts_with("data.a: not base64"));
}

#[test]
fn kinds_inside_kinds() {
    let eviction: Eviction = strict(json!({"apiVersion": "policy/v1", "kind": "Eviction", "deleteOptions": {"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 3}})).unwrap();
    assert_eq!(eviction.delete_options.as_ref().unwrap().grace_period_seconds, Some(3));
    assert_eq!(encode_value(&eviction)["deleteOptions"], json!({"gracePeriodSeconds": 3}));
    strict::<DeleteOptions>(json!({"apiVersion": "policy/v1", "kind": "DeleteOptions"})).unwrap();
    assert_eq!(encode_value(&Status::default())["apiVersion"], "v1");
}

#[test]
fn managed_fields_keep_their_json() {
    let document = json!({"managedFields": [{"manager": "kubectl", "fieldsType": "FieldsV1", "fieldsV1": {"f:metadata": {"f:labels": {".": {}}}}}]});
    let pod: Pod = strict(json!({"metadata": document})).unwrap();
    assert_eq!(encode_value(&pod)["metadata"], document);
}

#[test]
fn depth_and_size_are_limited() {
    let deep = format!("{}{}", r#"{"metadata": {"managedFields": [{"fieldsV1": "#, "[".repeat(100_000));
    let error = decode::<Pod>(deep.as_bytes(), Strictness::Warn).unwrap_err();
    assert!(error.message.contains("recursion limit"), "{error}");
    let long = vec![b' '; MAX_BYTES + 1];
    assert!(decode::<Pod>(&long, Strictness::Warn).unwrap_err().message.contains("more than the"));
}

#[test]
fn serde_is_the_same() {
    let pod: Pod = serde_json::from_str(r#"{"kind": "Pod", "metadata": {"name": "a"}, "unknown": 1}"#).unwrap();
    assert_eq!(serde_json::to_value(&pod).unwrap(), encode_value(&pod));
    assert!(serde_json::from_str::<Pod>(r#"{"kind": "Node"}"#).is_err());
    assert_eq!(serde_json::from_slice::<Pod>(&encode(&pod)).unwrap(), pod);
    assert_eq!((Pod::API_VERSION, Deployment::API_VERSION, Pod::RESOURCE), ("v1", "apps/v1", "pods"));
}

#[test]
fn many_problems_do_not_fill_memory() {
    let text = format!("{{{}}}", (0..10_000).map(|i| format!("\"x{i}\":1")).collect::<Vec<_>>().join(","));
    assert_eq!(problems::<Pod>(&text).len(), 100);
}
