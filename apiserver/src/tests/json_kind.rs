//! A kind without a Rust struct, added while the server runs: its objects are JSON under a Schema made by hand, and go
//! through everything that built-in kinds go through.

use super::*;
use crate::resources::{JsonKind, Resource};
use pb::patch_request::Type as Patch;
use pb::watch_event::Type as Event;
use skiff_proto::Schema;
use skiff_proto::schema::{Field, Merge, Object, Shape, Type};
use std::sync::Arc;

const BACKUPS: &str = "example.com/v1:backups:default";
const ONE: &str = "example.com/v1:backups:default/nightly";

fn schema() -> Arc<Schema> {
    let object = |name: &'static str, fields: Vec<Field>| Object {
        name: name.into(),
        description: "".into(),
        fields: fields.into(),
        open: false,
        atomic: false,
    };
    let mut targets = Field::new("targets", Shape::List, Type::Object(2));
    targets.merge = Merge::List;
    targets.merge_key = "name".into();
    let objects = vec![
        object(
            "Backup",
            vec![
                Field::new("spec", Shape::Single, Type::Object(1)),
                Field::new("status", Shape::Single, Type::Object(3)),
            ],
        ),
        object(
            "BackupSpec",
            vec![
                Field::new("keep", Shape::Single, Type::Integer),
                Field::new("replicas", Shape::Single, Type::Integer),
                targets,
            ],
        ),
        object(
            "Target",
            vec![Field::new("name", Shape::Single, Type::String), Field::new("path", Shape::Single, Type::String)],
        ),
        object("BackupStatus", vec![Field::new("done", Shape::Single, Type::Integer)]),
    ];
    Arc::new(Schema::new(objects, 0).expect("a sound Schema"))
}

fn backups() -> Resource {
    Resource {
        group: "example.com".into(),
        version: "v1".into(),
        resource: "backups".into(),
        kind: "Backup".into(),
        singular: "backup".into(),
        short_names: vec!["bk".into()],
        categories: Vec::new(),
        namespaced: true,
        subresources: vec!["status".into()],
        schema: schema(),
        strategy: Box::new(JsonKind {
            api_version: "example.com/v1".into(),
            kind: "Backup".into(),
            schema: schema(),
            has_status: true,
        }),
        time_to_live: None,
        stored_as: None,
        cached: Default::default(),
    }
}

fn backup() -> Value {
    json!({
        "apiVersion": "example.com/v1",
        "kind": "Backup",
        "metadata": {"name": "nightly", "labels": {"tier": "gold"}},
        "spec": {"keep": 3, "targets": [{"name": "a", "path": "/a"}, {"name": "b", "path": "/b"}]},
        "status": {"done": 99},
    })
}

#[test]
fn a_kind_without_a_struct_goes_all_the_way() {
    with_server(|server| async move {
        let admin = server.admin();
        assert_eq!(admin.create(BACKUPS, backup()).await.expect_err("not known yet").reason(), "NotFound");
        server.handle.registry().add_resource(backups());
        let mut events =
            admin.watch(pb::WatchRequest { r#ref: Some(at(BACKUPS)), ..Default::default() }).await.expect("a watch");

        let made = admin.create(BACKUPS, backup()).await.expect("made");
        assert_eq!(
            (&made["kind"], &made["apiVersion"], &made["status"]),
            (&json!("Backup"), &json!("example.com/v1"), &Value::Null)
        );
        assert_eq!(made["metadata"]["generation"], 1);
        assert!(made["metadata"]["uid"].is_string());
        assert_eq!(admin.get(ONE).await.expect("there"), made);
        assert_eq!(admin.create(BACKUPS, backup()).await.expect_err("taken").reason(), "AlreadyExists");
        assert_eq!(admin.names(BACKUPS, "tier=gold", "metadata.name=nightly").await.expect("listed"), ["nightly"]);
        assert!(admin.names(BACKUPS, "tier=lead", "").await.expect("listed").is_empty());

        let strategic = json!({"spec": {"targets": [{"name": "b", "path": "/bb"}]}});
        let patched = admin.patch(ONE, Patch::Strategic, strategic).await.expect("patched");
        assert_eq!(patched["spec"]["targets"], json!([{"name": "a", "path": "/a"}, {"name": "b", "path": "/bb"}]));
        assert_eq!(patched["metadata"]["generation"], 2);
        let status = admin
            .merge("example.com/v1:backups:default/nightly/status", json!({"status": {"done": 1}, "spec": {"keep": 9}}))
            .await
            .expect("status");
        assert_eq!(
            (&status["status"]["done"], &status["spec"]["keep"], &status["metadata"]["generation"]),
            (&json!(1), &json!(3), &json!(2))
        );
        let mut main = status.clone();
        main["status"]["done"] = json!(5);
        main["spec"]["keep"] = json!(4);
        let main = admin.update(ONE, &main).await.expect("updated");
        assert_eq!((&main["status"]["done"], &main["spec"]["keep"]), (&json!(1), &json!(4)));
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
fn its_schema_is_held_against_its_objects() {
    with_server(|server| async move {
        let admin = server.admin();
        server.handle.registry().add_resource(backups());
        let strict = |object: Value| pb::CreateRequest {
            r#ref: Some(at(BACKUPS)),
            object: object.to_string().into_bytes().into(),
            field_validation: "Strict".into(),
            ..Default::default()
        };
        let mut unknown = backup();
        unknown["spec"]["kep"] = json!(1);
        let refused = admin.create_with(strict(unknown.clone())).await.expect_err("unknown");
        assert!(refused.message().contains("unknown field \"spec.kep\""), "{}", refused.message());
        let made = admin.create(BACKUPS, unknown).await.expect("made, with a warning");
        assert!(
            made["spec"]["kep"].is_null() && made["_warnings"][0].as_str().is_some_and(|w| w.contains("spec.kep")),
            "{made}"
        );
        let mut wrong = backup();
        wrong["metadata"]["name"] = json!("Wrong Name");
        wrong["spec"]["keep"] = json!("three");
        wrong["spec"]["targets"] = json!({"name": "a"});
        let refused = admin.create(BACKUPS, wrong).await.expect_err("wrong types");
        assert_eq!(refused.reason(), "Invalid");
        for words in [
            "metadata.name: Invalid value",
            "spec.keep: Invalid value: \"three\": must be of type integer",
            "spec.targets: Invalid value",
        ] {
            assert!(refused.message().contains(words), "{words}: {}", refused.message());
        }
        let partial = pb::ListRequest { r#ref: Some(at(BACKUPS)), metadata_only: true, ..Default::default() };
        let page = admin.page(partial).await.expect("listed");
        let item: Value = serde_json::from_slice(&page.items[0]).expect("JSON");
        assert_eq!((name(&item).as_str(), &item["spec"]), ("nightly", &Value::Null));
        // Nothing in protobuf can be made of it: JSON is what comes.
        let raw = pb::GetRequest { r#ref: Some(at(ONE)), ..Default::default() };
        let reply = admin.grpc.clone().get(raw).await.expect("read").into_inner();
        assert_eq!(reply.content_type, JSON);
    });
}

#[test]
fn objects_stored_before_their_kind_was_known_are_served() {
    Simulation::new(4).run(|sim: Sim| async move {
        let server = Server::start(&sim, options()).await;
        server.handle.registry().add_resource(backups());
        let made = server.admin().create(BACKUPS, backup()).await.expect("made");
        server.handle.stop().await;
        let server = Server::start(&sim, options()).await;
        assert_eq!(server.admin().get(ONE).await.expect_err("not known").reason(), "NotFound");
        server.handle.registry().add_resource(backups());
        assert_eq!(server.admin().get(ONE).await.expect("there"), made);
    });
}
