//! Objects by their types, by discovery and as metadata: made, listed, changed in every way, deleted.

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Node, Secret, Service};
use kube::api::{
    Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams, Preconditions, VersionMatch,
    WatchEvent, WatchParams,
};
use kube::core::{GroupVersionKind, PartialObjectMetaExt};
use kube::discovery::{Discovery, Scope, verbs};
use kube::{Client, ResourceExt};
use serde_json::json;

use super::{SPACE, map, maps, refused, value, within};

/// Version and health, as text and typed.
pub async fn the_server(client: &Client) {
    let version = client.apiserver_version().await.unwrap();
    assert_eq!((version.major.as_str(), version.minor.as_str()), ("1", "36"));
    for path in ["/readyz", "/livez", "/healthz"] {
        let request = http::Request::get(path).body(vec![]).unwrap();
        assert_eq!(client.request_text(request).await.unwrap(), "ok", "{path}");
    }
    let nodes = Api::<Node>::all(client.clone()).list(&ListParams::default()).await.unwrap();
    assert_eq!(nodes.items.len(), 1);
}

/// Both kinds of discovery say the same.
pub async fn discovery(client: &Client) {
    let old = Discovery::new(client.clone()).run().await.unwrap();
    let new = Discovery::new(client.clone()).run_aggregated().await.unwrap();
    let told = |discovery: &Discovery| -> Vec<String> {
        let groups = discovery.groups_alphabetical();
        let kinds = groups.iter().flat_map(|group| group.resources_by_stability());
        let told = kinds.map(|(kind, can)| format!("{kind:?} {:?} {:?}", can.scope, verbs_of(&can)));
        let mut told: Vec<String> = told.collect();
        told.sort();
        told
    };
    assert_eq!(told(&old), told(&new));
    let gvk = GroupVersionKind::gvk("apps", "v1", "Deployment");
    for discovery in [&old, &new] {
        let (kind, capabilities) = discovery.resolve_gvk(&gvk).expect("there are Deployments");
        assert_eq!((kind.plural.as_str(), capabilities.scope.clone()), ("deployments", Scope::Namespaced));
        assert!(capabilities.supports_operation(verbs::WATCH));
        let mut parts: Vec<&str> = capabilities.subresources.iter().map(|(part, _)| part.plural.as_str()).collect();
        parts.sort();
        assert_eq!(parts, ["scale", "status"]);
    }
    let (pinned, _) = kube::discovery::pinned_kind(client, &gvk).await.unwrap();
    assert_eq!(pinned.api_version, "apps/v1");
}

fn verbs_of(capabilities: &kube::discovery::ApiCapabilities) -> Vec<&String> {
    let mut all: Vec<&String> = capabilities.operations.iter().collect();
    all.sort();
    all
}

/// Created, read, replaced, deleted; the refusals of each.
pub async fn plain(client: &Client) {
    let maps = maps(client);
    let post = PostParams::default();
    let made = maps.create(&post, &map("plain", "one")).await.unwrap();
    let again = refused(maps.create(&post, &map("plain", "one")).await, 409, "AlreadyExists");
    assert_eq!(again.details.as_ref().map(|details| details.name.as_str()), Some("plain"));
    let mut changed = made.clone();
    changed.data.as_mut().unwrap().insert("value".into(), "two".into());
    let replaced = maps.replace("plain", &post, &changed).await.unwrap();
    assert_eq!(value(&replaced), "two");
    assert!(refused(maps.replace("plain", &post, &changed).await, 409, "Conflict").is_conflict());
    assert_eq!(maps.get_opt("none").await.unwrap().map(|map| map.name_any()), None);
    let wrong = map("Not A Name", "");
    let invalid = refused(maps.create(&post, &wrong).await, 422, "Invalid");
    assert_eq!(invalid.details.as_ref().unwrap().causes[0].field, "metadata.name");
    let mut entry = maps.entry("entry").await.unwrap().or_insert(|| map("entry", "made"));
    entry.commit(&post).await.unwrap();
    let entry = maps.entry("entry").await.unwrap().and_modify(|map| map.data = None);
    entry.or_insert(|| unreachable!("it is there")).commit(&post).await.unwrap();
    assert_eq!(maps.get("entry").await.unwrap().data, None);
    let dry = PostParams { dry_run: true, ..Default::default() };
    maps.create(&dry, &map("dry", "")).await.unwrap();
    assert!(maps.get_opt("dry").await.unwrap().is_none());
    let other = Preconditions { uid: Some("another".into()), ..Default::default() };
    refused(maps.delete("plain", &DeleteParams::default().preconditions(other)).await, 409, "Conflict");
    let gone = maps.delete("plain", &DeleteParams::default()).await.unwrap();
    assert_eq!(gone.left().map(|map| map.name_any()), Some("plain".into()), "what it was when it went");
    refused(maps.get("plain").await, 404, "NotFound");

    let secret = json!({"metadata": {"generateName": "word-"}, "stringData": {"word": "open"}});
    let secrets: Api<Secret> = Api::namespaced(client.clone(), SPACE);
    let secret = secrets.create(&post, &serde_json::from_value(secret).unwrap()).await.unwrap();
    assert!(secret.name_any().starts_with("word-"));
    assert_eq!(secret.data.unwrap()["word"].0, b"open");
    let service = json!({"metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}});
    let services: Api<Service> = Api::namespaced(client.clone(), SPACE);
    let service = services.create(&post, &serde_json::from_value(service).unwrap()).await.unwrap();
    assert!(service.spec.unwrap().cluster_ip.is_some_and(|address| address.starts_with("10.")));
}

/// A list in pieces is one list: of one revision, whole, in order. Then the collection is deleted.
pub async fn chunks(client: &Client) {
    let maps = maps(client);
    for i in 0..7 {
        let mut one = map(&format!("chunk-{i}"), &i.to_string());
        one.labels_mut().insert("chunk".into(), "yes".into());
        maps.create(&PostParams::default(), &one).await.unwrap();
    }
    let chunked = ListParams::default().labels("chunk=yes").limit(3);
    let first = maps.list(&chunked).await.unwrap();
    maps.delete("chunk-6", &DeleteParams::default()).await.unwrap();
    let mut names: Vec<String> = first.iter().map(ResourceExt::name_any).collect();
    let mut page = first.clone();
    while let Some(token) = page.metadata.continue_.take().filter(|token| !token.is_empty()) {
        page = maps.list(&chunked.clone().continue_token(&token)).await.unwrap();
        assert_eq!(page.metadata.resource_version, first.metadata.resource_version);
        names.extend(page.iter().map(ResourceExt::name_any));
    }
    assert_eq!(names, (0..7).map(|i| format!("chunk-{i}")).collect::<Vec<_>>(), "also the one deleted meanwhile");
    let then = first.metadata.resource_version.clone().unwrap();
    let exact = ListParams::default().labels("chunk=yes").at(&then).matching(VersionMatch::Exact);
    assert_eq!(maps.list(&exact).await.unwrap().items.len(), 7);
    let gone =
        maps.delete_collection(&DeleteParams::default(), &ListParams::default().labels("chunk=yes")).await.unwrap();
    assert_eq!(gone.left().map(|list| list.items.len()), Some(6));
    assert_eq!(maps.list(&ListParams::default().labels("chunk=yes")).await.unwrap().items.len(), 0);
    raw_watch(&maps, &then).await;
}

/// What happened since, as the plain watch tells it.
async fn raw_watch(maps: &Api<ConfigMap>, since: &str) {
    let parameters = WatchParams::default().labels("chunk=yes").timeout(20);
    let events = maps.watch(&parameters, since).await.unwrap().take(7);
    let events: Vec<WatchEvent<ConfigMap>> = within("seven deletions", events.try_collect()).await.unwrap();
    let mut gone: Vec<String> = events
        .iter()
        .map(|event| match event {
            WatchEvent::Deleted(map) => map.name_any(),
            other => panic!("only deletions since {since}: {other:?}"),
        })
        .collect();
    assert_eq!(gone[0], "chunk-6", "first the one that was deleted first");
    gone.sort();
    assert_eq!(gone, (0..7).map(|i| format!("chunk-{i}")).collect::<Vec<_>>());
}

/// Merge, strategic merge and JSON patch.
pub async fn patches(client: &Client) {
    let maps = maps(client);
    maps.create(&PostParams::default(), &map("patched", "one")).await.unwrap();
    let with = PatchParams::default();
    let merged = maps.patch("patched", &with, &Patch::Merge(json!({"data": {"value": null, "a": "b"}}))).await.unwrap();
    assert_eq!(json!(merged.data), json!({"a": "b"}));
    let strategic = Patch::Strategic(json!({"metadata": {"labels": {"x": "y"}}, "data": {"c": "d"}}));
    assert_eq!(json!(maps.patch("patched", &with, &strategic).await.unwrap().data), json!({"a": "b", "c": "d"}));
    let steps = json!([{"op": "test", "path": "/data/a", "value": "b"}, {"op": "remove", "path": "/data/a"}]);
    let steps = Patch::Json::<()>(serde_json::from_value(steps).unwrap());
    assert_eq!(json!(maps.patch("patched", &with, &steps).await.unwrap().data), json!({"c": "d"}));
    refused(maps.patch("patched", &with, &steps).await, 422, "Invalid");
    refused(maps.patch("none", &with, &strategic).await, 404, "NotFound");
}

/// Server-side apply: made, refused with whom it conflicts, forced, given up.
pub async fn applied(client: &Client) {
    let maps = maps(client);
    let document = |value: &str| {
        Patch::Apply(
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "applied"}, "data": {"value": value}}),
        )
    };
    maps.patch("applied", &PatchParams::apply("one"), &document("1")).await.unwrap();
    let status = refused(maps.patch("applied", &PatchParams::apply("two"), &document("2")).await, 409, "Conflict");
    let cause = &status.details.as_ref().unwrap().causes[0];
    assert_eq!((cause.reason.as_str(), cause.field.as_str()), ("FieldManagerConflict", ".data.value"));
    let forced = maps.patch("applied", &PatchParams::apply("two").force(), &document("2")).await.unwrap();
    assert_eq!(value(&forced), "2");
    let owner = forced.managed_fields().iter().find(|entry| entry.manager.as_deref() == Some("two")).unwrap();
    assert_eq!(owner.operation.as_deref(), Some("Apply"));
    let nothing = Patch::Apply(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "applied"}}));
    let given_up = maps.patch("applied", &PatchParams::apply("two"), &nothing).await.unwrap();
    assert_eq!(given_up.data, None, "what nobody applies any more goes");
    let strict = PatchParams::apply("two").validation_strict();
    let wrong = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "applied"}, "dada": {}});
    let error = maps.patch("applied", &strict, &Patch::Apply(wrong)).await.unwrap_err().to_string();
    assert!(error.contains("dada"), "{error}");
}

/// Objects of which only the metadata is asked for.
pub async fn metadata(client: &Client) {
    let maps = maps(client);
    maps.create(&PostParams::default(), &map("known", "a long text")).await.unwrap();
    let one = maps.get_metadata("known").await.unwrap();
    assert_eq!(one.types.as_ref().unwrap().kind, "PartialObjectMetadata");
    assert_eq!(one.labels()["of"], "kube-rs");
    let all = maps.list_metadata(&ListParams::default().labels("of=kube-rs")).await.unwrap();
    assert!(all.iter().any(|map| map.name_any() == "known"));
    let labelled =
        kube::core::ObjectMeta { labels: Some([("more".into(), "yes".into())].into()), ..Default::default() };
    let labelled = labelled.into_request_partial::<ConfigMap>();
    let patched = maps.patch_metadata("known", &PatchParams::apply("labeller"), &Patch::Apply(labelled)).await.unwrap();
    assert_eq!(patched.labels()["more"], "yes");
    assert_eq!(value(&maps.get("known").await.unwrap()), "a long text");
}

/// Kinds that the program does not know, as discovery tells them.
pub async fn dynamic(client: &Client) {
    let discovery = Discovery::new(client.clone()).filter(&["apps", ""]).run_aggregated().await.unwrap();
    let (kind, _) = discovery.resolve_gvk(&GroupVersionKind::gvk("", "v1", "ConfigMap")).unwrap();
    let maps: Api<DynamicObject> = Api::namespaced_with(client.clone(), SPACE, &kind);
    let object = DynamicObject::new("dynamic", &kind).within(SPACE).data(json!({"data": {"a": "1"}}));
    let made = maps.create(&PostParams::default(), &object).await.unwrap();
    assert_eq!(made.data["data"]["a"], "1");
    maps.patch("dynamic", &PatchParams::default(), &Patch::Merge(json!({"data": {"a": "2"}}))).await.unwrap();
    assert_eq!(maps.get("dynamic").await.unwrap().data["data"]["a"], "2");
    maps.delete("dynamic", &DeleteParams::foreground()).await.unwrap();
    // Everything that can be listed at all can be listed as such.
    for group in discovery.groups() {
        for (kind, capabilities) in group.recommended_resources() {
            if capabilities.supports_operation(verbs::LIST) {
                let all: Api<DynamicObject> = Api::all_with(client.clone(), &kind);
                let list = all.list(&ListParams::default()).await.unwrap_or_else(|e| panic!("{}: {e}", kind.kind));
                assert!(list.metadata.resource_version.is_some(), "{}", kind.kind);
            }
        }
    }
}

/// What has a door of its own: scale and status.
pub async fn subresources(client: &Client) {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), SPACE);
    let labels = json!({"app": "scaled"});
    let container = json!({"name": "main", "image": "skiff/demo", "args": ["sleep"]});
    let template = json!({"metadata": {"labels": labels}, "spec": {"containers": [container]}});
    let spec = json!({"replicas": 0, "selector": {"matchLabels": labels}, "template": template});
    let object = json!({"metadata": {"name": "scaled"}, "spec": spec, "status": {"replicas": 9}});
    let made = deployments.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap();
    assert_eq!(made.status.unwrap_or_default().replicas, None, "a status is nothing that is asked for");
    let mut scale = deployments.get_scale("scaled").await.unwrap();
    assert_eq!(scale.spec.as_ref().unwrap().replicas.unwrap_or(0), 0);
    let paused = Patch::Merge(json!({"spec": {"paused": true}}));
    deployments.patch("scaled", &PatchParams::default(), &paused).await.unwrap();
    let more = Patch::Merge(json!({"spec": {"replicas": 2}}));
    let scaled = deployments.patch_scale("scaled", &PatchParams::default(), &more).await.unwrap();
    assert_eq!(scaled.spec.unwrap().replicas, Some(2));
    scale.spec.as_mut().unwrap().replicas = Some(1);
    refused(deployments.replace_scale("scaled", &PostParams::default(), &scale).await, 409, "Conflict");
    let condition = json!({"type": "Checked", "status": "True", "reason": "Seen", "message": "by kube-rs"});
    let status = Patch::Merge(json!({"spec": {"replicas": 5}, "status": {"conditions": [condition]}}));
    let marked = deployments.patch_status("scaled", &PatchParams::default(), &status).await.unwrap();
    assert_eq!(marked.spec.as_ref().unwrap().replicas, Some(2), "the status's door leaves the rest alone");
    assert_eq!(deployments.get_status("scaled").await.unwrap().name_any(), "scaled");
    deployments.delete("scaled", &DeleteParams::background()).await.unwrap();
}
