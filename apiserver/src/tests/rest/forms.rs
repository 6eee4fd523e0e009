//! The forms in which things are told: discovery, Tables, metadata alone, protobuf, OpenAPI, reviews.

use super::*;
use skiff_proto::{Kind, corev1};

const PODS: &str = "/api/v1/namespaces/default/pods";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

/// Kubernetes' envelope, made by hand: what is tested must not test itself.
pub fn seal(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
    let field = |number: u8, bytes: &[u8]| {
        let mut out = vec![number << 3 | 2];
        prost::encoding::encode_varint(bytes.len() as u64, &mut out);
        out.extend_from_slice(bytes);
        out
    };
    let meta = [field(1, api_version.as_bytes()), field(2, kind.as_bytes())].concat();
    [b"k8s\0".to_vec(), field(1, &meta), field(2, raw), field(3, b""), field(4, b"")].concat()
}

/// What is in an envelope.
fn open(sealed: &[u8]) -> (String, Vec<u8>) {
    #[derive(Clone, PartialEq, Message)]
    struct Unknown {
        #[prost(bytes = "vec", tag = "1")]
        meta: Vec<u8>,
        #[prost(bytes = "vec", tag = "2")]
        raw: Vec<u8>,
    }
    let inside = sealed.strip_prefix(b"k8s\0").expect("the magic bytes");
    let unknown = Unknown::decode(inside).expect("an envelope");
    (String::from_utf8_lossy(&unknown.meta).into_owned(), unknown.raw)
}

#[test]
fn protobuf_goes_in_and_comes_out_in_its_envelope() {
    with_server(|server| async move {
        let http = server.http();
        let mut sent = corev1::Pod::default();
        sent.metadata.name = "p".into();
        sent.spec.containers = vec![corev1::Container { name: "c".into(), image: "i".into(), ..Default::default() }];
        // Go writes a time that is not set as an empty one.
        let mut raw = vec![0x0a, 2, 0x42, 0];
        raw.extend(sent.encode_to_vec());
        let headers = [format!("content-type: {PROTOBUF}"), format!("accept: {PROTOBUF},application/json")];
        let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
        let made = http.ask("POST", PODS, &headers, seal("v1", "Pod", &raw)).await;
        assert_eq!((made.code, made.content_type()), (201, PROTOBUF), "{}", made.text());
        let (meta, raw) = open(&made.body);
        assert!(meta.contains("v1") && meta.contains("Pod"));
        let pod = corev1::Pod::decode(raw.as_slice()).expect("a Pod");
        assert!(pod.metadata.creation_timestamp.is_some() && !pod.metadata.resource_version.is_empty());
        let json = http.get(&format!("{PODS}/p")).await.json();
        assert_eq!(json["metadata"]["uid"], pod.metadata().uid.as_str());

        let other = http.ask("POST", PODS, &headers, seal("v1", "Service", &[])).await;
        assert_eq!(other.code, 400);

        #[derive(Clone, PartialEq, Message)]
        struct PodList {
            #[prost(message, required, tag = "1")]
            metadata: metav1::ListMeta,
            #[prost(message, repeated, tag = "2")]
            items: Vec<corev1::Pod>,
        }
        let list = http.ask("GET", PODS, &headers[1..], "").await;
        let (meta, raw) = open(&list.body);
        let list = PodList::decode(raw.as_slice()).expect("a list");
        assert!(meta.contains("PodList") && !list.metadata.resource_version.is_empty());
        assert_eq!(list.items, std::slice::from_ref(&pod));

        let mut body = http.send("GET", &format!("{PODS}?watch=1"), &headers[1..], "").await;
        assert_eq!(body.headers()["content-type"], "application/vnd.kubernetes.protobuf;stream=watch");
        let frame = body.body_mut().frame().await.expect("a frame").expect("no error").into_data().expect("data");
        assert_eq!(frame[..4], u32::try_from(frame.len() - 4).expect("small").to_be_bytes());
        assert_eq!(frame[4..11], *b"\x0a\x05ADDED");

        // An action on an object and its options are protobuf too.
        let options = metav1::DeleteOptions { grace_period_seconds: Some(0), ..Default::default() };
        let sealed = seal("v1", "DeleteOptions", &options.encode_to_vec());
        let gone = http.ask("DELETE", &format!("{PODS}/p"), &headers, sealed).await;
        assert_eq!(gone.code, 200);
        assert_eq!(http.get(&format!("{PODS}/p")).await.code, 404);
    });
}

#[test]
fn refusals_and_answers_to_actions_have_the_form_that_was_asked_for() {
    with_server(|server| async move {
        let http = server.http();
        let protobuf = format!("accept: {PROTOBUF},application/json");
        let got = http.ask("GET", &format!("{PODS}/none"), &[&protobuf], "").await;
        assert_eq!((got.code, got.content_type()), (404, PROTOBUF), "{}", got.text());
        let (meta, raw) = open(&got.body);
        let status = metav1::Status::decode(raw.as_slice()).expect("a Status");
        assert!(meta.contains("v1") && meta.contains("Status"), "{meta}");
        assert_eq!((status.reason.as_str(), status.code), ("NotFound", 404));
        let got = http.ask("GET", &format!("{PODS}/none"), &["accept: application/yaml"], "").await;
        assert_eq!((got.code, got.content_type()), (404, "application/yaml"));
        assert!(got.text().contains("\nreason: NotFound\n"), "{}", got.text());
        let stranger = server.http_as(Identity::new("stranger", &[]));
        let got = stranger.ask("GET", PODS, &[&protobuf], "").await;
        assert_eq!((got.code, got.content_type()), (403, PROTOBUF));

        let template =
            json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
        let spec = json!({"replicas": 2, "selector": {"matchLabels": {"a": "b"}}, "template": template});
        let sets = "/apis/apps/v1/namespaces/default/replicasets";
        http.post(sets, &json!({"metadata": {"name": "r"}, "spec": spec})).await;
        let got = http.ask("GET", &format!("{sets}/r/scale"), &[&protobuf], "").await;
        assert_eq!(got.content_type(), PROTOBUF, "{}", got.text());
        let (meta, raw) = open(&got.body);
        let scale = skiff_proto::autoscalingv1::Scale::decode(raw.as_slice()).expect("a Scale");
        assert!(meta.contains("autoscaling/v1") && meta.contains("Scale"), "{meta}");
        assert_eq!((scale.spec.replicas, scale.status.selector.as_str()), (2, "a=b"));

        http.post(PODS, &pod("p")).await;
        let binding = json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}}).to_string();
        let got = http.ask("POST", &format!("{PODS}/p/binding"), &[&protobuf], binding).await;
        let (meta, raw) = open(&got.body);
        assert!(got.code == 201 && meta.contains("Status"), "{} {meta}", got.code);
        assert_eq!(metav1::Status::decode(raw.as_slice()).expect("a Status").status, "Success");
    });
}

#[test]
fn yaml_is_read_as_strictly_as_json_and_tables_are_written_in_it() {
    with_server(|server| async move {
        let http = server.http();
        let json = r#"{"metadata":{"name":"p"},"spec":{"containers":[{"name":"c","image":"i","image":"j","imagee":"k"}],"nodeName":"a","nodeName":"b"}}"#;
        let yaml = "metadata: {name: p}\nspec:\n  containers:\n  - {name: c, image: i, image: j, imagee: k}\n  nodeName: a\n  nodeName: b\n";
        let mut answers = vec![];
        for (kind, body) in [("json", json), ("yaml", yaml)] {
            let content_type = format!("content-type: application/{kind}");
            let got = http.ask("POST", &format!("{PODS}?fieldValidation=Strict"), &[&content_type], body).await;
            assert_eq!(got.code, 400, "{}", got.text());
            answers.push(got.json()["message"].as_str().unwrap_or_default().to_string());
            let got = http.ask("POST", &format!("{PODS}?dryRun=All"), &[&content_type], body).await;
            assert_eq!((got.code, got.warnings().len()), (201, 3), "{:?}", got.warnings());
        }
        assert_eq!(answers[0], answers[1]);
        for part in [
            "duplicate field \"spec.containers[0].image\"",
            "unknown field \"spec.containers[0].imagee\"",
            "duplicate field \"spec.nodeName\"",
        ] {
            assert!(answers[1].contains(part), "{part}: {}", answers[1]);
        }
        http.post(PODS, &pod("p")).await;
        let table = "accept: application/yaml;as=Table;v=v1;g=meta.k8s.io";
        let got = http.ask("GET", PODS, &[table], "").await;
        assert_eq!(got.content_type(), "application/yaml");
        assert!(got.text().contains("kind: Table\n"), "{}", got.text());
    });
}

#[test]
fn tables_have_kubectls_columns() {
    with_server(|server| async move {
        let http = server.http();
        http.post(PODS, &pod("p")).await;
        let accept = "accept: application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        let table = http.ask("GET", PODS, &[accept], "").await.json();
        let columns = table["columnDefinitions"].as_array().expect("columns");
        let titles: Vec<String> =
            columns.iter().map(|c| format!("{}{}", c["name"].as_str().unwrap_or_default(), c["priority"])).collect();
        assert_eq!(
            titles,
            ["Name0", "Ready0", "Status0", "Restarts0", "Age0", "IP1", "Node1", "Nominated Node1", "Readiness Gates1"]
        );
        let row = &table["rows"][0];
        assert_eq!(row["cells"], json!(["p", "0/1", "Pending", "0", "0s", "<none>", "<none>", "<none>", "<none>"]));
        assert_eq!(
            (&row["object"]["kind"], &row["object"]["metadata"]["name"]),
            (&json!("PartialObjectMetadata"), &json!("p"))
        );
        assert!(row["object"].get("spec").is_none());
        let one = http.ask("GET", &format!("{PODS}/p?includeObject=Object"), &[accept], "").await.json();
        assert_eq!((&one["apiVersion"], &one["rows"][0]["object"]["kind"]), (&json!("meta.k8s.io/v1"), &json!("Pod")));
        let metadata = "accept: application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";
        let list = http.ask("GET", PODS, &[metadata], "").await.json();
        assert_eq!(
            (&list["kind"], &list["items"][0]["kind"]),
            (&json!("PartialObjectMetadataList"), &json!("PartialObjectMetadata"))
        );
        assert!(list["items"][0].get("spec").is_none());
        let yaml = http.ask("GET", &format!("{PODS}/p"), &["accept: application/yaml"], "").await;
        assert!(yaml.text().starts_with("apiVersion: v1\nkind: Pod\n"), "{}", yaml.text());
    });
}

#[test]
fn discovery_is_told_in_all_three_forms() {
    with_server(|server| async move {
        let http = server.http();
        let paths = http.get("/").await.json();
        assert!(paths["paths"].as_array().expect("paths").contains(&json!("/apis/apps/v1")), "{paths}");
        assert_eq!(http.get("/api").await.json()["versions"], json!(["v1"]));
        // The Python client ends paths with a slash.
        let version = http.get("/version").await.json();
        assert_eq!(http.get("/version/").await.json(), version);
        for needed in ["major", "minor", "gitVersion", "gitCommit", "buildDate", "goVersion", "compiler", "platform"] {
            assert!(version[needed].is_string(), "{needed}: {version}");
        }
        let groups = http.get("/apis").await.json();
        let names: Vec<&str> =
            groups["groups"].as_array().expect("groups").iter().filter_map(|g| g["name"].as_str()).collect();
        assert_eq!(
            names,
            [
                "apiextensions.k8s.io",
                "apps",
                "authentication.k8s.io",
                "authorization.k8s.io",
                "coordination.k8s.io",
                "discovery.k8s.io",
                "events.k8s.io",
                "policy",
                "rbac.authorization.k8s.io",
                "scheduling.k8s.io"
            ]
        );
        assert_eq!(http.get("/apis/apps/").await.json()["preferredVersion"]["groupVersion"], "apps/v1");
        let core = http.get("/api/v1").await.json();
        let eviction = core["resources"].as_array().expect("resources").iter().find(|r| r["name"] == "pods/eviction");
        let eviction = eviction.expect("drain looks for it");
        assert_eq!(
            (&eviction["kind"], &eviction["group"], &eviction["version"]),
            (&json!("Eviction"), &json!("policy"), &json!("v1"))
        );
        for version in ["v2", "v2beta1"] {
            let accept = format!(
                "accept: application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList,application/json"
            );
            let got = http.ask("GET", "/apis", &[&accept], "").await;
            assert_eq!(
                got.content_type(),
                format!("application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList")
            );
            let list = got.json();
            let apps = list["items"]
                .as_array()
                .expect("items")
                .iter()
                .find(|g| g["metadata"]["name"] == "apps")
                .expect("apps");
            let deployments = &apps["versions"][0]["resources"][0];
            assert_eq!(
                (&deployments["resource"], &deployments["scope"]),
                (&json!("deployments"), &json!("Namespaced"))
            );
            assert_eq!(
                deployments["subresources"][0]["responseKind"],
                json!({"group": "autoscaling", "version": "v1", "kind": "Scale"})
            );
        }
        assert_eq!(http.get("/apis/none").await.code, 404);
        assert_eq!(http.get("/api/v2").await.code, 404);
    });
}

#[test]
fn openapi_says_what_kubectl_validates_merges_and_explains_by() {
    with_server(|server| async move {
        let http = server.http();
        let index = http.get("/openapi/v3").await.json();
        let url = index["paths"]["api/v1"]["serverRelativeURL"].as_str().expect("an address").to_string();
        assert!(url.starts_with("/openapi/v3/api/v1?hash="), "{url}");
        let core = http.get(&url).await.json();
        let patch = &core["paths"]["/api/v1/namespaces/{namespace}/pods/{name}"]["patch"];
        assert_eq!(patch["x-kubernetes-group-version-kind"], json!({"group": "", "version": "v1", "kind": "Pod"}));
        assert!(patch["parameters"].as_array().expect("parameters").iter().any(|p| p["name"] == "fieldValidation"));
        assert!(patch["requestBody"]["content"].get("application/strategic-merge-patch+json").is_some());
        let schemas = core["components"]["schemas"].as_object().expect("schemas");
        let containers = &schemas["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
        assert_eq!(
            (&containers["x-kubernetes-patch-strategy"], &containers["x-kubernetes-patch-merge-key"]),
            (&json!("merge"), &json!("name"))
        );
        // Every reference leads somewhere.
        let text = core.to_string();
        for part in text.split("#/components/schemas/").skip(1) {
            let name = part.split('"').next().unwrap_or_default();
            assert!(schemas.contains_key(name), "{name}");
        }
        // The same for older clients, in one document.
        let old = http.get("/openapi/v2").await.json();
        let definitions = old["definitions"].as_object().expect("definitions");
        let limits = &definitions["io.k8s.api.core.v1.ResourceRequirements"]["properties"]["limits"];
        assert_eq!(limits["additionalProperties"], json!({"type": "string"}));
        let template = &definitions["io.k8s.api.apps.v1.DeploymentSpec"]["properties"]["template"];
        assert_eq!(template["$ref"], "#/definitions/io.k8s.api.apps.v1.PodTemplateSpec");
        for part in old.to_string().split("#/definitions/").skip(1) {
            let name = part.split('"').next().unwrap_or_default();
            assert!(definitions.contains_key(name), "{name}");
        }
        for asked in ["v2@v1.0", "v2.v1.0"] {
            let accept = format!("accept: application/com.github.proto-openapi.spec.{asked}+protobuf");
            let got = http.ask("GET", "/openapi/v2", &[&accept], "").await;
            assert_eq!(got.content_type(), "application/com.github.proto-openapi.spec.v2.v1.0+protobuf");
            assert!(got.body.starts_with(b"\x0a\x032.0"));
        }
    });
}

#[test]
fn reviews_say_what_the_tables_allow() {
    with_server(|server| async move {
        let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
        let scheduler = server.http_as(Identity::new("system:kube-scheduler", &[]));
        let ask =
            |verb: &str, resource: &str| json!({"spec": {"resourceAttributes": {"verb": verb, "resource": resource}}});
        for (who, verb, resource, allowed) in [
            (&server.http(), "delete", "secrets", true),
            (&scheduler, "list", "pods", true),
            (&scheduler, "list", "secrets", false),
        ] {
            let got = who.post(path, &ask(verb, resource)).await;
            assert_eq!((got.code, &got.json()["status"]["allowed"]), (201, &json!(allowed)), "{verb} {resource}");
        }
        // kubectl sends these in protobuf.
        let attributes = [&[0x12, 3][..], b"get", &[0x2a, 4], b"pods"].concat();
        let spec = [&[0x0a, u8::try_from(attributes.len()).expect("small")][..], &attributes].concat();
        let raw = [&[0x12, u8::try_from(spec.len()).expect("small")][..], &spec].concat();
        let sealed = seal("authorization.k8s.io/v1", "SelfSubjectAccessReview", &raw);
        let header = format!("content-type: {PROTOBUF}");
        let got = scheduler.ask("POST", path, &[&header], sealed).await.json();
        assert_eq!(
            (&got["spec"]["resourceAttributes"]["resource"], &got["status"]["allowed"]),
            (&json!("pods"), &json!(true))
        );
        let words = r#"RBAC: allowed by ClusterRoleBinding "system:kube-scheduler" of ClusterRole "system:kube-scheduler" to User "system:kube-scheduler""#;
        assert_eq!(got["status"]["reason"], words);

        let me = scheduler.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", &json!({})).await.json();
        assert_eq!(
            me["status"]["userInfo"],
            json!({"username": "system:kube-scheduler", "groups": ["system:authenticated"]})
        );
        let rules = scheduler
            .post("/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", &json!({"spec": {"namespace": "default"}}))
            .await
            .json();
        let rules = rules["status"]["resourceRules"].as_array().expect("rules").clone();
        assert!(rules.iter().any(|r| r["resources"] == json!(["pods/binding"]) && r["verbs"] == json!(["create"])));
        assert!(!rules.iter().any(|r| r["resources"] == json!(["leases"])), "its Lease is in kube-system");
        assert_eq!(server.http_as(Identity::new("", &[])).post(path, &ask("get", "pods")).await.code, 401);
    });
}

/// What recorders of controllers do: they look for the group, and write there, in protobuf or JSON; all see one Event.
#[test]
fn events_are_in_a_group_of_their_own_too() {
    with_server(|server| async move {
        let http = server.http();
        let group = http.get("/apis/events.k8s.io/v1").await.json();
        assert_eq!(group["resources"][0]["name"], "events", "{group}");
        let place = "/apis/events.k8s.io/v1/namespaces/default/events";
        let event = json!({
            "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "a", "namespace": "default"},
            "eventTime": "2026-01-02T03:04:05.000006Z", "reportingController": "test", "reportingInstance": "test-0",
            "action": "Looking", "reason": "Seen", "type": "Normal", "note": "a note",
            "regarding": {"kind": "Pod", "namespace": "default", "name": "p"},
        });
        let made = http.post(place, &event).await;
        assert_eq!(made.code, 201, "{}", made.text());
        let made = made.json();
        assert_eq!((&made["apiVersion"], &made["note"]), (&json!("events.k8s.io/v1"), &json!("a note")));
        let core = http.get("/api/v1/namespaces/default/events/a").await.json();
        assert_eq!((&core["message"], &core["involvedObject"]["name"]), (&json!("a note"), &json!("p")));

        // The same again is a series: a patch, as client-go's recorder sends it.
        let series =
            json!({"series": {"count": 2, "lastObservedTime": "2026-01-02T03:05:05.000000Z"}, "note": "again"});
        let strategic = ["content-type: application/strategic-merge-patch+json"];
        let patched = http.ask("PATCH", &format!("{place}/a"), &strategic, series.to_string()).await.json();
        assert_eq!((&patched["series"]["count"], &patched["note"]), (&json!(2), &json!("again")));

        let selected =
            http.get(&format!("{place}?fieldSelector=regarding.name%3Dp%2Cregarding.kind%3DPod")).await.json();
        assert_eq!((&selected["kind"], &selected["items"][0]["note"]), (&json!("EventList"), &json!("again")));
        let none = http.get(&format!("{place}?fieldSelector=regarding.name%3Dq")).await.json();
        assert_eq!(none["items"], json!([]));
        let all = http.get("/apis/events.k8s.io/v1/events").await.json();
        assert_eq!(all["items"].as_array().map(Vec::len), Some(1));

        // Protobuf, as client-go writes it, in this group's numbers: name and namespace, and note (10).
        let raw = [&[0x0a, 12, 0x0a, 1, b'b', 0x1a, 7][..], b"default", &[0x52, 2], b"hi"].concat();
        let headers = [format!("content-type: {PROTOBUF}"), format!("accept: {PROTOBUF}")];
        let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
        let made = http.ask("POST", place, &headers, seal("events.k8s.io/v1", "Event", &raw)).await;
        assert_eq!(made.code, 201, "{}", made.text());
        let (meta, raw) = open(&made.body);
        assert!(meta.contains("events.k8s.io/v1"), "{meta}");
        assert!(raw.windows(4).any(|bytes| bytes == [0x52, 2, b'h', b'i']), "the note has its number: {raw:?}");
        assert_eq!(http.get("/api/v1/namespaces/default/events/b").await.json()["message"], "hi");
        let mut body = http.send("GET", &format!("{place}?watch=1&fieldSelector=metadata.name%3Db"), &[], "").await;
        let frame = body.body_mut().frame().await.expect("a frame").expect("no error").into_data().expect("data");
        let told: Value = serde_json::from_slice(&frame).expect("an event");
        assert_eq!((&told["type"], &told["object"]["note"]), (&json!("ADDED"), &json!("hi")));
        assert_eq!(http.ask("DELETE", &format!("{place}/b"), &[], "").await.json()["note"], "hi");
        let missing = http.get(&format!("{place}/b")).await;
        assert!(missing.text().contains("events.events.k8s.io \\\"b\\\" not found"), "{}", missing.text());
    });
}
