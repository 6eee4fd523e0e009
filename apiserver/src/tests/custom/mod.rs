//! Custom resources through a whole server: definitions come and go, and their objects go through everything that
//! built-in kinds go through.

mod nested;
mod objects;
mod stricter;

use super::*;
use pb::patch_request::Type as Patch;
use pb::watch_event::Type as Event;

pub const DEFINITIONS: &str = "apiextensions.k8s.io/v1:customresourcedefinitions:";
pub const TABS: &str = "stable.example.com/v1:crontabs:default";
pub const ONE: &str = "stable.example.com/v1:crontabs:default/nightly";

/// The definition that people can apply.
pub fn definition() -> Value {
    let text = include_str!("../../../../examples/crontab/definition.yaml");
    crate::resources::yaml_to_tree(text.as_bytes()).expect("well-formed")
}

pub fn crontab() -> Value {
    json!({
        "apiVersion": "stable.example.com/v1",
        "kind": "CronTab",
        "metadata": {"name": "nightly", "labels": {"tier": "gold"}},
        "spec": {"cronSpec": "0 3 * * *", "image": "demo", "ports": [{"name": "a", "port": 1}, {"name": "b", "port": "b"}]},
        "status": {"replicas": 99},
    })
}

pub fn one(name: &str) -> String {
    format!("{DEFINITIONS}/{name}")
}

pub fn state<'v>(definition: &'v Value, kind: &str) -> (&'v str, &'v str) {
    let conditions = definition["status"]["conditions"].as_array().map_or(&[][..], Vec::as_slice);
    let found = conditions.iter().find(|c| c["type"] == kind);
    found.map_or(("", ""), |c| (c["status"].as_str().unwrap_or(""), c["reason"].as_str().unwrap_or("")))
}

impl Client {
    /// Makes a definition and waits until it is established, as its conditions tell.
    pub async fn define(&self, definition: Value) -> Value {
        let made = self.create(DEFINITIONS, definition).await.expect("a sound definition");
        self.until(&name(&made), |d| state(d, "Established").0 == "True").await
    }

    /// Follows a definition until it is as wanted.
    pub async fn until(&self, name: &str, is: impl Fn(&Value) -> bool) -> Value {
        let watched = pb::WatchRequest {
            r#ref: Some(at(DEFINITIONS)),
            field_selector: format!("metadata.name={name}"),
            ..Default::default()
        };
        let mut events = self.watch(watched).await.expect("a watch");
        loop {
            let event = events.message().await.expect("no error").expect("an event");
            let object: Value = serde_json::from_slice(&event.object).expect("JSON");
            if is(&object) {
                return object;
            }
        }
    }

    /// Waits until a definition is gone.
    pub async fn until_gone(&self, name: &str) {
        let watched = pb::WatchRequest {
            r#ref: Some(at(DEFINITIONS)),
            field_selector: format!("metadata.name={name}"),
            ..Default::default()
        };
        let mut events = self.watch(watched).await.expect("a watch");
        if self.get(&one(name)).await.is_err() {
            return;
        }
        while events.message().await.expect("no error").expect("an event").r#type() != Event::Deleted {}
    }
}

#[test]
fn a_kind_is_served_as_soon_as_it_says_so() {
    in_many_worlds(|server| async move {
        let admin = server.admin();
        assert_eq!(admin.create(TABS, crontab()).await.expect_err("not known yet").reason(), "NotFound");
        let made = admin.define(definition()).await;
        assert_eq!(state(&made, "NamesAccepted"), ("True", "NoConflicts"));
        assert_eq!(state(&made, "Established"), ("True", "InitialNamesAccepted"));
        assert_eq!(made["status"]["acceptedNames"]["listKind"], "CronTabList");
        assert_eq!(made["status"]["storedVersions"], json!(["v1"]));
        assert_eq!(
            (&made["spec"]["conversion"]["strategy"], &made["metadata"]["generation"]),
            (&json!("None"), &json!(1))
        );
        admin.create(TABS, crontab()).await.expect("served");
        let known = admin.grpc.clone().discover(pb::DiscoverRequest {}).await.expect("told").into_inner();
        let row = known.resources.iter().find(|r| r.resource == "crontabs").expect("in the table");
        assert!(row.custom && row.short_names == ["ct"] && row.subresources == ["status", "scale"]);
        assert_eq!(row.columns[0].name, "Schedule");
    });
}

#[test]
fn a_restarted_server_serves_what_it_finds() {
    Simulation::new(4).run(|sim: Sim| async move {
        let server = Server::start(&sim, options()).await;
        server.admin().define(definition()).await;
        let made = server.admin().create(TABS, crontab()).await.expect("made");
        server.handle.stop().await;
        let server = Server::start(&sim, options()).await;
        assert_eq!(server.admin().get(ONE).await.expect("there at once"), made);
    });
}

#[test]
fn a_definition_goes_after_its_objects_and_ends_their_watches() {
    in_many_worlds(|server| async move {
        let admin = server.admin();
        admin.define(definition()).await;
        let mut held = crontab();
        held["metadata"]["finalizers"] = json!(["example.com/hold"]);
        admin.create(TABS, held).await.expect("made");
        let mut other = crontab();
        other["metadata"]["name"] = json!("other");
        admin.create(TABS, other).await.expect("made");
        let mut events =
            admin.watch(pb::WatchRequest { r#ref: Some(at(TABS)), ..Default::default() }).await.expect("a watch");
        let name = "crontabs.stable.example.com";
        let going = admin.delete(&one(name)).await.expect("taken");
        assert_eq!(state(&going, "Terminating"), ("True", "InstanceDeletionPending"));
        assert_eq!(going["metadata"]["finalizers"], json!(["customresourcecleanup.apiextensions.k8s.io"]));
        let mut new = crontab();
        new["metadata"]["name"] = json!("new");
        assert_eq!(admin.create(TABS, new).await.expect_err("too late").reason(), "MethodNotAllowed");
        let mut seen = Vec::new();
        while seen.iter().filter(|(kind, _)| *kind == Event::Deleted).count() < 1 {
            let event = events.message().await.expect("no error").expect("an event");
            let object: Value = serde_json::from_slice(&event.object).expect("JSON");
            seen.push((event.r#type(), super::name(&object)));
        }
        assert!(seen.contains(&(Event::Deleted, "other".into())), "{seen:?}");
        assert!(admin.get(&one(name)).await.is_ok(), "one object is held, so the definition stays");
        admin.merge(ONE, json!({"metadata": {"finalizers": null}})).await.expect("let go");
        admin.until_gone(name).await;
        while let Some(event) = events.message().await.expect("it ends in good order") {
            assert_ne!(event.r#type(), Event::Error);
        }
        assert_eq!(admin.get(ONE).await.expect_err("gone").reason(), "NotFound");
        // The same names again: nothing is left of what was.
        admin.define(definition()).await;
        assert!(admin.names(TABS, "", "").await.expect("listed").is_empty());
    });
}

#[test]
fn names_that_are_taken_are_refused_until_they_are_free() {
    with_server(|server| async move {
        let admin = server.admin();
        admin.define(definition()).await;
        let mut rival = definition();
        rival["metadata"]["name"] = json!("cronjobs.stable.example.com");
        rival["spec"]["names"] =
            json!({"plural": "cronjobs", "singular": "cronjob", "kind": "CronTab", "shortNames": ["cj"]});
        admin.create(DEFINITIONS, rival).await.expect("taken");
        let name = "cronjobs.stable.example.com";
        let refused = admin.until(name, |d| state(d, "NamesAccepted").0 == "False").await;
        assert_eq!(state(&refused, "NamesAccepted"), ("False", "KindConflict"));
        assert_eq!(state(&refused, "Established"), ("False", "NotAccepted"));
        let there = "stable.example.com/v1:cronjobs:default";
        assert_eq!(admin.names(there, "", "").await.expect_err("not served").reason(), "NotFound");
        admin.delete(&one("crontabs.stable.example.com")).await.expect("taken");
        admin.until(name, |d| state(d, "Established").0 == "True").await;
        assert!(admin.names(there, "", "").await.expect("served").is_empty());
    });
}

#[test]
fn definitions_are_judged_in_kubernetes_words() {
    with_server(|server| async move {
        let admin = server.admin();
        let broken = |change: &dyn Fn(&mut Value)| {
            let mut definition = definition();
            change(&mut definition);
            definition
        };
        let schema = "/spec/versions/0/schema/openAPIV3Schema";
        let put = |path: &str, value: Value| {
            let path = path.to_owned();
            move |d: &mut Value| *d.pointer_mut(&path).unwrap_or_else(|| panic!("{path}")) = value.clone()
        };
        let spec = format!("{schema}/properties/spec");
        let at = "spec.versions[0].schema.openAPIV3Schema";
        for (change, words) in [
            (put("/metadata/name", json!("x.y.z")), "metadata.name: Invalid value: \"x.y.z\": must be spec.names.plural+\".\"+spec.group".to_owned()),
            (put("/spec/scope", json!("Everywhere")), "spec.scope: Unsupported value: \"Everywhere\": supported values: \"Cluster\", \"Namespaced\"".into()),
            (put("/spec/versions/0/storage", json!(false)), "must have exactly one version marked as storage version".into()),
            (put("/spec/names/kind", json!("Cron_Tab")), "spec.names.kind: Invalid value".into()),
            (put(&format!("{schema}/type"), json!("string")), format!("{at}.type: Invalid value: \"string\": must be object at the root")),
            (put(&format!("{spec}/properties/image"), json!({})), format!("{at}.properties[spec].properties[image].type: Required value: must not be empty for specified object fields")),
            (put(&format!("{spec}/properties/image"), json!({"type": "array"})), format!("{at}.properties[spec].properties[image].items: Required value: must be specified")),
            (put(&format!("{spec}/properties/image"), json!({"type": "string", "pattern": "("})), format!("{at}.properties[spec].properties[image].pattern: Invalid value: \"(\": must be a valid regular expression")),
            (put(&format!("{spec}/properties/image"), json!({"type": "string", "default": 3})), format!("{at}.properties[spec].properties[image].default: Invalid value: 3")),
            (put(&format!("{spec}/properties/image"), json!({"$ref": "#/a", "type": "string"})), format!("{at}.properties[spec].properties[image].$ref: Forbidden")),
            (put(&format!("{spec}/properties/image"), json!({"type": "string", "anyOf": [{"type": "string"}]})), format!("{at}.properties[spec].properties[image].anyOf[0].type: Forbidden: must be empty to be structural")),
            (put(&format!("{spec}/properties/ports/x-kubernetes-list-map-keys"), json!(["x"])), "entries must all be names of item properties".into()),
            (put("/spec/versions/0/additionalPrinterColumns/0/type", json!("text")), "spec.versions[0].additionalPrinterColumns[0].type: Unsupported value: \"text\"".into()),
            (put("/spec/versions/0/subresources/scale/specReplicasPath", json!(".status.x")), "spec.versions[0].subresources.scale.specReplicasPath: Invalid value: \".status.x\": should be a json path under .spec".into()),
            (put("/spec/versions/0/schema", json!({})), format!("{at}: Required value: schemas are required")),
        ] {
            let refused = admin.create(DEFINITIONS, broken(&change)).await.expect_err(&words);
            assert_eq!(refused.reason(), "Invalid", "{}", refused.message());
            assert!(refused.message().contains(&words), "{words}\n{}", refused.message());
        }
        let made = admin.define(definition()).await;
        for (path, value) in [("/spec/scope", json!("Cluster")), ("/spec/names/kind", json!("Other"))] {
            let mut changed = made.clone();
            *changed.pointer_mut(path).expect("there") = value;
            let refused = admin.update(&one("crontabs.stable.example.com"), &changed).await.expect_err("fixed");
            assert!(refused.message().contains("field is immutable"), "{}", refused.message());
        }
    });
}

#[test]
fn hostile_definitions_are_refused() {
    with_server(|server| async move {
        let admin = server.admin();
        let mut deep = json!({"type": "string"});
        for _ in 0..45 {
            deep = json!({"type": "object", "properties": {"a": deep}});
        }
        let mut definition = definition();
        definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"] = deep;
        let refused = admin.create(DEFINITIONS, definition).await.expect_err("too deep");
        assert!(refused.message().contains("may not be deeper than"), "{}", refused.message());
    });
}
