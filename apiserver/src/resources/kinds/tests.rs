//! One table per kind: a good object, one thing changed at a time, and what validation says of it.

use crate::resources::{EVENT_LIFE, Strategy, StrategyFor, built_in};
use serde_json::{Value, json};

/// Decodes, completes and checks an object; the errors in words.
fn errors(strategy: &dyn Strategy, tree: &Value) -> Vec<String> {
    let mut object = strategy.decode_tree(tree.clone()).unwrap_or_else(|e| panic!("{e}: {tree}")).object;
    strategy.default(object.as_mut());
    strategy.validate(object.as_ref()).into_vec().iter().map(ToString::to_string).collect()
}

/// What an update says.
fn update_errors(strategy: &dyn Strategy, old: &Value, new: &Value) -> Vec<String> {
    let read = |tree: &Value| {
        let mut object = strategy.decode_tree(tree.clone()).unwrap_or_else(|e| panic!("{e}: {tree}")).object;
        strategy.default(object.as_mut());
        object
    };
    let (old, mut new) = (read(old), read(new));
    strategy.prepare_for_update(new.as_mut(), old.as_ref());
    strategy.validate_update(new.as_ref(), old.as_ref()).into_vec().iter().map(ToString::to_string).collect()
}

/// The tree with one value set, null taking it away. Paths are JSON pointers; missing parents are made.
fn with(tree: &Value, path: &str, value: Value) -> Value {
    let mut out = tree.clone();
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    let (last, parents) = parts.split_last().expect("a path");
    let mut at = &mut out;
    for part in parents {
        at = match part.parse::<usize>() {
            Ok(i) => &mut at[i],
            Err(_) => &mut at[*part],
        };
    }
    match (last.parse::<usize>(), at) {
        (Ok(i), Value::Array(list)) if i == list.len() => list.push(value),
        (Ok(i), at) => at[i] = value,
        (Err(_), at) if value.is_null() => drop(at.as_object_mut().and_then(|map| map.shift_remove(*last))),
        (Err(_), at) => at[*last] = value,
    }
    out
}

/// Each change must bring exactly one error, with these words in it.
fn each_is_refused(strategy: &dyn Strategy, good: &Value, table: &[(&str, Value, &str)]) {
    assert_eq!(errors(strategy, good), Vec::<String>::new(), "the good object");
    for (path, value, words) in table {
        let found = errors(strategy, &with(good, path, value.clone()));
        assert!(found.len() == 1 && found[0].contains(words), "{path} = {value}: wanted {words:?}, found {found:#?}");
    }
}

/// Each change must be accepted.
fn each_is_accepted(strategy: &dyn Strategy, good: &Value, table: &[(&str, Value)]) {
    for (path, value) in table {
        assert_eq!(errors(strategy, &with(good, path, value.clone())), Vec::<String>::new(), "{path} = {value}");
    }
}

fn pods() -> impl Strategy {
    StrategyFor::new(super::pod::PodStrategy)
}

fn pod() -> Value {
    json!({
        "metadata": {"name": "a", "namespace": "default"},
        "spec": {
            "containers": [{
                "name": "main",
                "image": "demo:1",
                "ports": [{"name": "http", "containerPort": 80}],
                "env": [{"name": "A", "value": "b"}],
                "resources": {"requests": {"cpu": "100m"}, "limits": {"cpu": "200m"}},
                "readinessProbe": {"httpGet": {"port": "http"}},
                "volumeMounts": [{"name": "v", "mountPath": "/v"}],
            }],
            "volumes": [{"name": "v", "emptyDir": {}}],
            "tolerations": [{"key": "k", "operator": "Exists"}],
        },
    })
}

#[test]
fn pods_are_refused_for_one_reason_each() {
    let c = |field: &str| format!("/spec/containers/0/{field}");
    let table: Vec<(String, Value, &str)> = vec![
        ("/spec/containers".into(), json!([]), "spec.containers: Required value"),
        (c("name"), json!(""), "spec.containers[0].name: Required value"),
        (c("name"), json!("A_b"), "spec.containers[0].name: Invalid value: \"A_b\": a lowercase RFC 1123 label"),
        (c("image"), json!(""), "spec.containers[0].image: Required value"),
        (c("image"), json!(" x"), "must not have leading or trailing whitespace"),
        (c("imagePullPolicy"), json!("Often"), "supported values: \"Always\", \"IfNotPresent\", \"Never\""),
        (
            c("ports/1"),
            json!({"name": "http", "containerPort": 81}),
            "spec.containers[0].ports[1].name: Duplicate value: \"http\"",
        ),
        (c("ports/0/containerPort"), json!(65536), "Invalid value: 65536: must be between 1 and 65535, inclusive"),
        (c("ports/0/containerPort"), json!(0), "spec.containers[0].ports[0].containerPort: Required value"),
        (c("ports/0/protocol"), json!("http"), "spec.containers[0].ports[0].protocol: Unsupported value: \"http\""),
        (c("env/0/name"), json!("A=B"), "spec.containers[0].env[0].name: Invalid value"),
        (c("env/0"), json!({"name": "A", "valueFrom": {}}), "must specify one of"),
        (
            c("env/0"),
            json!({"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "spec.x"}}}),
            "fieldPath: Unsupported value: \"spec.x\"",
        ),
        (
            c("env/0"),
            json!({"name": "A", "valueFrom": {"secretKeyRef": {"name": "s"}}}),
            "secretKeyRef.key: Required value",
        ),
        (
            c("resources/requests/cpu"),
            json!("300m"),
            "Invalid value: \"300m\": must be less than or equal to cpu limit of 200m",
        ),
        (c("resources/requests/memory"), json!("-1"), "must be greater than or equal to 0"),
        (
            c("readinessProbe"),
            json!({}),
            "spec.containers[0].readinessProbe: Required value: must specify a handler type",
        ),
        (c("readinessProbe/exec"), json!({"command": ["x"]}), "may not specify more than 1 handler type"),
        (
            c("readinessProbe/periodSeconds"),
            json!(-1),
            "readinessProbe.periodSeconds: Invalid value: -1: must be greater than or equal to 0",
        ),
        (
            c("livenessProbe"),
            json!({"tcpSocket": {"port": 1}, "successThreshold": 2}),
            "livenessProbe.successThreshold: Invalid value: 2: must be 1",
        ),
        (c("volumeMounts/0/name"), json!("w"), "spec.containers[0].volumeMounts[0].name: Not found: \"w\""),
        (
            c("volumeMounts/1"),
            json!({"name": "v", "mountPath": "/v"}),
            "volumeMounts[1].mountPath: Invalid value: \"/v\": must be unique",
        ),
        (c("volumeMounts/0/subPath"), json!("../etc"), "subPath: Invalid value: \"../etc\": must not contain '..'"),
        (c("volumeMounts/0/subPath"), json!("/etc"), "must be a relative path"),
        (
            "/spec/containers/1".into(),
            json!({"name": "main", "image": "x"}),
            "spec.containers[1].name: Duplicate value: \"main\"",
        ),
        (
            "/spec/volumes/1".into(),
            json!({"name": "v", "emptyDir": {}}),
            "spec.volumes[1].name: Duplicate value: \"v\"",
        ),
        ("/spec/volumes/0/hostPath".into(), json!({"path": "/x"}), "may not specify more than 1 volume type"),
        (
            "/spec/volumes/0".into(),
            json!({"name": "v", "secret": {}}),
            "spec.volumes[0].secret.secretName: Required value",
        ),
        (
            "/spec/volumes/0".into(),
            json!({"name": "v", "secret": {"secretName": "s", "defaultMode": 512}}),
            "must be a number between 0 and 0777 (octal)",
        ),
        (
            "/spec/volumes/0".into(),
            json!({"name": "v", "configMap": {"name": "c", "items": [{"key": "k", "path": "../x"}]}}),
            "must not contain '..'",
        ),
        (
            "/spec/restartPolicy".into(),
            json!("Sometimes"),
            "spec.restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"OnFailure\", \"Never\"",
        ),
        ("/spec/dnsPolicy".into(), json!("None"), "must provide at least one DNS nameserver"),
        ("/spec/terminationGracePeriodSeconds".into(), json!(-1), "must be greater than or equal to 0"),
        ("/spec/activeDeadlineSeconds".into(), json!(0), "must be between 1 and 2147483647"),
        ("/spec/hostname".into(), json!("a.b"), "spec.hostname: Invalid value"),
        ("/spec/nodeSelector".into(), json!({"-": "x"}), "spec.nodeSelector: Invalid value"),
        ("/spec/tolerations/0/operator".into(), json!("Maybe"), "supported values: \"Equal\", \"Exists\""),
        (
            "/spec/tolerations/0/tolerationSeconds".into(),
            json!(5),
            "effect must be 'NoExecute' when `tolerationSeconds` is set",
        ),
        (
            "/spec/affinity".into(),
            json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}}}),
            "must have at least one node selector term",
        ),
        (
            "/spec/affinity".into(),
            json!({"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 0, "preference": {}}]}}),
            "must be in the range 1-100",
        ),
    ];
    let borrowed: Vec<(&str, Value, &str)> = table.iter().map(|(p, v, w)| (p.as_str(), v.clone(), *w)).collect();
    each_is_refused(&pods(), &pod(), &borrowed);
    let bananas = errors(&pods(), &with(&pod(), "/spec/containers/0/resources/limits/bananas", json!("1")));
    assert!(bananas[0].contains("must be a standard resource type or fully qualified"), "{bananas:?}");
}

#[test]
fn unusual_pods_are_accepted() {
    each_is_accepted(
        &pods(),
        &pod(),
        &[
            ("/spec/hostNetwork", json!(true)),
            ("/spec/tolerations/0", json!({"operator": "Exists"})),
            (
                "/spec/containers/0/env/0",
                json!({"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['x']"}}}),
            ),
            ("/spec/initContainers", json!([{"name": "first", "image": "x"}])),
            ("/spec/terminationGracePeriodSeconds", json!(0)),
            ("/spec/containers/0/resources/limits/example.com~1gpu", Value::Null),
            ("/spec/volumes/0", json!({"name": "v"})),
        ],
    );
}

#[test]
fn of_a_pod_only_a_few_fields_change() {
    let old = pod();
    for (path, value) in [
        ("/spec/containers/0/image", json!("demo:2")),
        ("/spec/activeDeadlineSeconds", json!(60)),
        ("/spec/tolerations/1", json!({"key": "other", "operator": "Exists"})),
    ] {
        assert_eq!(update_errors(&pods(), &old, &with(&old, path, value)), Vec::<String>::new(), "{path}");
    }
    for (path, value, words) in [
        ("/spec/nodeName", json!("n"), "spec: Forbidden: pod updates may not change fields other than"),
        ("/spec/containers/0/env/0/value", json!("c"), "spec: Forbidden: pod updates may not change fields other than"),
        ("/spec/containers/1", json!({"name": "b", "image": "x"}), "pod updates may not add or remove containers"),
        ("/spec/tolerations/0/key", json!("other"), "existing toleration can not be modified"),
        ("/spec/restartPolicy", json!("Never"), "spec: Forbidden"),
    ] {
        let found = update_errors(&pods(), &old, &with(&old, path, value));
        assert!(found.len() == 1 && found[0].contains(words), "{path}: {found:#?}");
    }
    let running = with(&old, "/spec/activeDeadlineSeconds", json!(60));
    let longer = update_errors(&pods(), &running, &with(&old, "/spec/activeDeadlineSeconds", json!(61)));
    assert!(longer.len() == 1 && longer[0].contains("must be less than or equal to previous value"), "{longer:#?}");
}

#[test]
fn quality_of_service_follows_from_requests_and_limits() {
    let class = |resources: Value| {
        let strategy = pods();
        let tree = with(&pod(), "/spec/containers/0/resources", resources);
        let mut object = strategy.decode_tree(tree).expect("a Pod").object;
        strategy.default(object.as_mut());
        strategy.prepare_for_create(object.as_mut());
        object.to_json()["status"]["qosClass"].clone()
    };
    assert_eq!(class(json!({})), "BestEffort");
    assert_eq!(class(json!({"requests": {"cpu": "1"}})), "Burstable");
    assert_eq!(class(json!({"limits": {"cpu": "1", "memory": "1Mi"}})), "Guaranteed");
    assert_eq!(class(json!({"requests": {"cpu": "500m"}, "limits": {"cpu": "1", "memory": "1Mi"}})), "Burstable");
}

fn deployment() -> Value {
    json!({
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "main", "image": "demo:1"}]},
            },
        },
    })
}

#[test]
fn deployments_and_replica_sets() {
    let deployments = StrategyFor::new(super::deployment::DeploymentStrategy);
    let shared = [
        ("/spec/replicas", json!(-1), "spec.replicas: Invalid value: -1: must be greater than or equal to 0"),
        ("/spec/minReadySeconds", json!(-1), "spec.minReadySeconds: Invalid value: -1"),
        ("/spec/selector", Value::Null, "spec.selector: Required value"),
        ("/spec/selector", json!({}), "empty selector is invalid"),
        ("/spec/selector/matchLabels/app", json!("other"), "`selector` does not match template `labels`"),
        (
            "/spec/selector/matchExpressions",
            json!([{"key": "app", "operator": "Near"}]),
            "not a valid selector operator",
        ),
        (
            "/spec/template/spec/restartPolicy",
            json!("Never"),
            "spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\"",
        ),
        ("/spec/template/spec/containers/0/image", json!(""), "spec.template.spec.containers[0].image: Required value"),
        ("/spec/template/metadata/labels/app", json!("a b"), "spec.template.metadata.labels"),
    ];
    let own = [
        (
            "/spec/strategy",
            json!({"type": "Blue"}),
            "spec.strategy.type: Unsupported value: \"Blue\": supported values: \"Recreate\", \"RollingUpdate\"",
        ),
        (
            "/spec/strategy",
            json!({"type": "Recreate", "rollingUpdate": {}}),
            "may not be specified when strategy `type` is 'Recreate'",
        ),
        (
            "/spec/strategy",
            json!({"rollingUpdate": {"maxSurge": 0, "maxUnavailable": "0%"}}),
            "may not be 0 when `maxSurge` is 0",
        ),
        ("/spec/strategy", json!({"rollingUpdate": {"maxSurge": "many"}}), "a valid percent string must be"),
        ("/spec/strategy", json!({"rollingUpdate": {"maxUnavailable": "101%"}}), "must not be greater than 100%"),
        ("/spec/progressDeadlineSeconds", json!(0), "must be greater than minReadySeconds"),
        ("/spec/revisionHistoryLimit", json!(-1), "spec.revisionHistoryLimit: Invalid value: -1"),
    ];
    // A label that is no label also does not match the selector.
    let (single, double): (Vec<_>, Vec<_>) =
        shared.into_iter().partition(|(path, ..)| !path.ends_with("/metadata/labels/app"));
    each_is_refused(&deployments, &deployment(), &single);
    each_is_refused(&deployments, &deployment(), &own);
    each_is_refused(&StrategyFor::new(super::replica_set::ReplicaSetStrategy), &deployment(), &single);
    for (path, value, words) in double {
        assert!(errors(&deployments, &with(&deployment(), path, value)).iter().any(|e| e.contains(words)));
    }
    let moved = with(
        &with(&deployment(), "/spec/selector/matchLabels/tier", json!("x")),
        "/spec/template/metadata/labels/tier",
        json!("x"),
    );
    let found = update_errors(&deployments, &deployment(), &moved);
    assert!(found.len() == 1 && found[0].contains("field is immutable"), "{found:?}");
}

#[test]
fn configs_that_are_sealed_stay_as_they_are() {
    let maps = StrategyFor::new(super::configs::ConfigMapStrategy);
    let sealed = json!({"metadata": {"name": "m"}, "immutable": true, "data": {"a": "b"}});
    assert_eq!(
        update_errors(&maps, &sealed, &with(&sealed, "/metadata/labels", json!({"x": "y"}))),
        Vec::<String>::new()
    );
    assert!(
        update_errors(&maps, &sealed, &with(&sealed, "/data/a", json!("c")))[0]
            .contains("data: Forbidden: field is immutable when `immutable` is set")
    );
    assert!(
        update_errors(&maps, &sealed, &with(&sealed, "/immutable", json!(false)))[0].contains("immutable: Forbidden")
    );
    each_is_refused(
        &maps,
        &json!({"data": {"a": "b"}}),
        &[
            ("/data/a b", json!("x"), "data[a b]: Invalid value"),
            ("/binaryData", json!({"a": "eA=="}), "duplicate of key present in binaryData"),
            ("/data/a", json!("x".repeat(1 << 20) + "y"), "Too long"),
        ],
    );
    let secrets = StrategyFor::new(super::configs::SecretStrategy);
    each_is_refused(
        &secrets,
        &json!({"type": "kubernetes.io/tls", "data": {"tls.crt": "eA==", "tls.key": "eA=="}}),
        &[("/data/tls.key", Value::Null, "data[tls.key]: Required value")],
    );
    let mut secret = secrets.decode_tree(json!({"stringData": {"a": "b"}})).expect("a Secret").object;
    secrets.default(secret.as_mut());
    assert_eq!(secret.to_json()["data"]["a"], "Yg==");
    assert_eq!(secret.to_json()["type"], "Opaque");
    let typed = json!({"type": "a/b"});
    assert!(update_errors(&secrets, &typed, &json!({"type": "c/d"}))[0].contains("field is immutable"));
}

#[test]
fn nodes_slices_and_leases() {
    let nodes = StrategyFor::new(super::node::NodeStrategy);
    let node = json!({"spec": {"taints": [{"key": "k", "effect": "NoSchedule"}], "podCIDR": "10.244.1.0/24"}});
    each_is_refused(
        &nodes,
        &node,
        &[
            ("/spec/taints/0/effect", json!("Never"), "spec.taints[0].effect: Unsupported value: \"Never\""),
            (
                "/spec/taints/1",
                json!({"key": "k", "effect": "NoSchedule"}),
                "spec.taints[1]: Duplicate value: \"k:NoSchedule\"",
            ),
            ("/spec/podCIDR", json!("10.244.1.0"), "must be a valid CIDR value"),
        ],
    );
    assert!(
        update_errors(&nodes, &node, &with(&node, "/spec/podCIDR", json!("10.244.2.0/24")))[0]
            .contains("except from \"\" to valid")
    );
    let slices = StrategyFor::new(super::endpoint_slice::EndpointSliceStrategy);
    let slice = json!({"addressType": "IPv4", "endpoints": [{"addresses": ["10.1.2.3"]}], "ports": [{"port": 80}]});
    each_is_refused(
        &slices,
        &slice,
        &[
            ("/addressType", json!(""), "addressType: Required value"),
            (
                "/endpoints/0/addresses",
                json!(["127.0.0.1"]),
                "endpoints[0].addresses[0]: Invalid value: \"127.0.0.1\": may not be in the loopback range",
            ),
            ("/endpoints/0/addresses", json!(["169.254.169.254"]), "may not be in the link-local range"),
            ("/endpoints/0/addresses", json!([]), "must contain at least 1 address"),
            ("/ports/1", json!({"port": 81}), "ports[1].name: Duplicate value: \"\""),
            ("/ports/0/port", json!(0), "ports[0].port: Invalid value: 0"),
        ],
    );
    each_is_refused(
        &StrategyFor::new(super::lease::LeaseStrategy),
        &json!({"spec": {"leaseDurationSeconds": 40}}),
        &[
            ("/spec/leaseDurationSeconds", json!(0), "must be greater than 0"),
            ("/spec/leaseTransitions", json!(-1), "must be greater than or equal to 0"),
        ],
    );
}

#[test]
fn completing_a_completed_object_changes_nothing() {
    for (group, version, resource, tree) in [
        ("", "v1", "pods", pod()),
        ("apps", "v1", "deployments", deployment()),
        ("apps", "v1", "replicasets", deployment()),
        (
            "",
            "v1",
            "services",
            json!({"spec": {"type": "LoadBalancer", "sessionAffinity": "ClientIP", "ports": [{"port": 80}]}}),
        ),
        ("", "v1", "secrets", json!({"stringData": {"a": "b"}})),
        ("", "v1", "nodes", json!({"spec": {"podCIDRs": ["10.244.1.0/24"]}, "status": {"capacity": {"cpu": "1"}}})),
        ("discovery.k8s.io", "v1", "endpointslices", json!({"addressType": "IPv4", "ports": [{"port": 80}]})),
    ] {
        let row = built_in(EVENT_LIFE).get(group, version, resource).expect("a built-in kind");
        let mut object = row.strategy.decode_tree(tree).expect("decoded").object;
        row.strategy.default(object.as_mut());
        let once = object.to_json();
        row.strategy.default(object.as_mut());
        assert_eq!(object.to_json(), once, "{resource}");
        // What is stored reads back as the same.
        let stored = object.encode();
        let back = row.strategy.decode(&stored, row.strategy.stored_as().as_str()).expect("stored").object;
        assert_eq!(back.to_json(), once, "{resource}");
    }
}
