//! Sets, their text, and what apply makes of documents: tables, and properties over generated Deployments.

mod nested;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::FieldsV1;
use crate::schema::{Schema, for_kind};

fn deployment() -> Schema {
    for_kind("apps", "v1", "Deployment").unwrap()
}

fn written(set: &FieldSet) -> Value {
    set.to_fields_v1().value()
}

fn read(value: &Value) -> FieldSet {
    FieldSet::from_fields_v1(&FieldsV1::from_value(value)).unwrap()
}

#[test]
fn a_document_names_its_fields() {
    let document = json!({
        "metadata": {"labels": {"app": "web"}, "finalizers": ["a/b"], "creationTimestamp": null},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"spec": {"containers": [
                {"name": "web", "args": ["a", "b"], "ports": [{"containerPort": 80}], "resources": {}},
            ]}},
        },
    });
    let set = fields_of(&document, &deployment()).unwrap();
    assert_eq!(
        written(&set),
        json!({
            "f:metadata": {"f:finalizers": {"v:\"a/b\"": {}}, "f:labels": {"f:app": {}}},
            "f:spec": {
                "f:replicas": {},
                "f:selector": {},
                "f:template": {"f:spec": {"f:containers": {"k:{\"name\":\"web\"}": {
                    ".": {},
                    "f:args": {},
                    "f:name": {},
                    "f:ports": {"k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}},
                    "f:resources": {},
                }}}},
            },
        })
    );
    assert_eq!(read(&written(&set)), set);
    let paths = set.paths();
    assert!(paths.contains(&".spec.template.spec.containers[name=\"web\"].args".to_owned()), "{paths:?}");
    assert!(paths.contains(&".metadata.finalizers[=\"a/b\"]".to_owned()), "{paths:?}");
}

#[test]
fn a_document_that_names_an_item_twice_or_not_at_all_is_refused() {
    let with = |items: Value| json!({"spec": {"template": {"spec": {"containers": items}}}});
    let told = |items| fields_of(&with(items), &deployment()).unwrap_err().to_string();
    assert_eq!(
        told(json!([{"name": "a"}, {"name": "a"}])),
        "spec.template.spec.containers[1]: Duplicate value: an item before it is [name=\"a\"] too"
    );
    assert_eq!(
        told(json!([{"image": "a"}])),
        "spec.template.spec.containers: an item lacks the fields that identify it"
    );
}

#[test]
fn text_that_is_no_set_is_refused() {
    for text in ["[]", "{\"f:a\": 1}", "{\"a\": {}}", "{\"k:x\": {}}", "{\"i:-1\": {}}", "{\"v:\": {}}", "{"] {
        let fields = FieldsV1 { raw: text.as_bytes().to_vec() };
        assert!(FieldSet::from_fields_v1(&fields).is_err(), "{text}");
    }
    let deep = format!("{}{}", "{\"f:a\":".repeat(100_000), "{}");
    assert!(FieldSet::from_fields_v1(&FieldsV1 { raw: deep.into_bytes() }).is_err());
    // Foreign writers may order keys as they like.
    let foreign = read(&json!({"f:ports": {"k:{\"protocol\":\"TCP\",\"containerPort\":80}": {}}}));
    assert_eq!(written(&foreign), json!({"f:ports": {"k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {}}}));
}

#[test]
fn sets_are_sets() {
    let a = read(&json!({"f:x": {".": {}, "f:y": {}}, "f:z": {"f:w": {}}}));
    let b = read(&json!({"f:x": {}, "f:z": {"f:w": {}, "f:v": {}}}));
    assert_eq!(written(&a.union(&b)), json!({"f:x": {".": {}, "f:y": {}}, "f:z": {"f:v": {}, "f:w": {}}}));
    assert_eq!(written(&a.intersection(&b)), json!({"f:x": {}, "f:z": {"f:w": {}}}));
    assert_eq!(written(&a.difference(&b)), json!({"f:x": {"f:y": {}}}));
    assert_eq!(written(&a.recursive_difference(&b)), json!({}));
    assert_eq!(written(&b.difference(&a)), json!({"f:z": {"f:v": {}}}));
    assert_eq!(written(&b.with_parents()), json!({"f:x": {}, "f:z": {".": {}, "f:v": {}, "f:w": {}}}));
}

#[test]
fn changes_are_told_field_by_field() {
    let old = json!({"spec": {
        "replicas": 1, "paused": true,
        "template": {"spec": {"containers": [{"name": "a", "image": "1"}, {"name": "b"}]}},
    }});
    let new = json!({
        "metadata": {"labels": {"x": "y"}},
        "spec": {
            "replicas": 2,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}},
            "template": {"spec": {"containers": [{"name": "c"}, {"name": "a", "image": "2"}]}},
        },
    });
    let changes = compare(&old, &new, &deployment());
    let containers = |inside: Value| json!({"f:template": {"f:spec": {"f:containers": inside}}});
    let mut added = containers(json!({"k:{\"name\":\"c\"}": {".": {}, "f:name": {}}}));
    // The map and the pointer are there now and were not; spec.strategy and metadata are always there.
    added["f:strategy"] = json!({"f:rollingUpdate": {".": {}, "f:maxSurge": {}}, "f:type": {}});
    assert_eq!(written(&changes.added), json!({"f:metadata": {"f:labels": {".": {}, "f:x": {}}}, "f:spec": added}));
    let mut modified = containers(json!({"k:{\"name\":\"a\"}": {"f:image": {}}}));
    modified["f:replicas"] = json!({});
    assert_eq!(written(&changes.modified), json!({"f:spec": modified}));
    let mut removed = containers(json!({"k:{\"name\":\"b\"}": {".": {}, "f:name": {}}}));
    removed["f:paused"] = json!({});
    assert_eq!(written(&changes.removed), json!({"f:spec": removed}));
    assert!(compare(&new, &new, &deployment()).is_empty());
}

#[test]
fn merging_keeps_what_others_set_and_takes_the_order_that_is_wanted() {
    let mut document = json!({"spec": {"template": {"spec": {"containers": [
        {"name": "a", "image": "1", "tty": true}, {"name": "other"}, {"name": "b", "args": ["x"]},
    ]}}}});
    let wanted = json!({"metadata": {"labels": {"l": "1"}, "annotations": null}, "spec": {"template": {"spec": {"containers": [
        {"name": "b", "args": ["y", "z"]}, {"name": "new"}, {"name": "a", "image": "2"},
    ]}}}});
    merge(&mut document, &wanted, &deployment());
    assert_eq!(
        document,
        json!({
            "spec": {"template": {"spec": {"containers": [
                {"name": "other"}, {"name": "b", "args": ["y", "z"]}, {"name": "new"},
                {"name": "a", "image": "2", "tty": true},
            ]}}},
            "metadata": {"labels": {"l": "1"}},
        })
    );
}

#[test]
fn removing_takes_items_whole_and_leaves_the_parts_that_are_always_there() {
    let mut document = json!({
        "metadata": {"name": "web", "labels": {"a": "1"}},
        "spec": {"replicas": 1, "template": {"spec": {"containers": [{"name": "a", "tty": true}, {"name": "b"}]}}},
    });
    let fields = read(&json!({
        "f:metadata": {".": {}, "f:labels": {".": {}, "f:a": {}}},
        "f:spec": {".": {}, "f:template": {"f:spec": {"f:containers": {"k:{\"name\":\"a\"}": {".": {}, "f:name": {}}}}}},
    }));
    remove(&mut document, &fields, &deployment());
    assert_eq!(
        document,
        json!({
            "metadata": {"name": "web"},
            "spec": {"replicas": 1, "template": {"spec": {"containers": [{"name": "b"}]}}},
        })
    );
}

#[test]
fn what_the_schema_does_not_know_is_taken_apart_by_its_objects() {
    let schema = Schema::new(
        vec![crate::schema::Object {
            name: "Any".into(),
            description: "".into(),
            fields: vec![].into(),
            open: true,
            atomic: false,
        }],
        0,
    )
    .unwrap();
    let document = json!({"metadata": {"finalizers": ["a"]}, "spec": {"deep": {"list": [1, 2]}}});
    assert_eq!(
        written(&fields_of(&document, &schema).unwrap()),
        json!({
            "f:metadata": {"f:finalizers": {"v:\"a\"": {}}},
            "f:spec": {"f:deep": {".": {}, "f:list": {}}},
        })
    );
}

fn containers() -> impl Strategy<Value = Value> {
    let container =
        ("[a-d]", proptest::option::of("[x-z]"), proptest::option::of(80u16..83)).prop_map(|(name, image, port)| {
            let mut container = json!({"name": name});
            if let Some(image) = image {
                container["image"] = json!(image);
            }
            if let Some(port) = port {
                container["ports"] = json!([{"containerPort": port}]);
            }
            container
        });
    proptest::collection::vec(container, 0..4).prop_map(|mut list| {
        list.sort_by_key(|c| c["name"].to_string());
        list.dedup_by_key(|c| c["name"].to_string());
        Value::Array(list)
    })
}

fn documents() -> impl Strategy<Value = Value> {
    let labels = proptest::collection::btree_map("[a-c]", "[0-2]", 0..3);
    (labels, proptest::option::of(0..3), containers()).prop_map(|(labels, replicas, containers)| {
        let mut document =
            json!({"metadata": {"labels": labels}, "spec": {"template": {"spec": {"containers": containers}}}});
        if let Some(replicas) = replicas {
            document["spec"]["replicas"] = json!(replicas);
        }
        document
    })
}

proptest! {
    #[test]
    fn a_merge_holds_what_was_wanted_and_changes_nothing_else(live in documents(), wanted in documents()) {
        let schema = deployment();
        let named = fields_of(&wanted, &schema).unwrap();
        let mut merged = live.clone();
        merge(&mut merged, &wanted, &schema);
        let changes = compare(&live, &merged, &schema);
        // An empty list or map that was named may become an absent or longer one: fields around the named are allowed.
        let allowed = named.with_parents();
        prop_assert!(changes.modified.difference(&allowed).is_empty(), "{:?}", changes.modified.paths());
        prop_assert!(changes.removed.difference(&allowed).is_empty(), "{:?}", changes.removed.paths());
        let mut again = merged.clone();
        merge(&mut again, &wanted, &schema);
        prop_assert_eq!(&again, &merged, "a second merge changes nothing");
    }

    #[test]
    fn sets_survive_their_text_and_laws(a in documents(), b in documents()) {
        let schema = deployment();
        let (a, b) = (fields_of(&a, &schema).unwrap(), fields_of(&b, &schema).unwrap());
        prop_assert_eq!(&FieldSet::from_fields_v1(&a.to_fields_v1()).unwrap(), &a);
        prop_assert_eq!(a.union(&b), b.union(&a));
        prop_assert_eq!(a.difference(&b).union(&a.intersection(&b)), a.clone());
        prop_assert!(a.difference(&b).intersection(&b).is_empty());
    }

    #[test]
    fn what_is_removed_is_no_longer_there(live in documents()) {
        let schema = deployment();
        let all = fields_of(&live, &schema).unwrap();
        let mut rest = live.clone();
        remove(&mut rest, &all, &schema);
        let left = fields_of(&rest, &schema).unwrap();
        prop_assert!(left.intersection(&all).paths().iter().all(|p| p.ends_with("containers") || p.ends_with("labels")), "{:?}", left.paths());
    }
}
