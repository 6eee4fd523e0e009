//! Tables of changes to objects that are wrong by a definition that became stricter: what was not touched does not fail.

use super::{broken, check, node, object, ruled, words};
use serde_json::{Value, json};

/// What a change is refused for, by schema and rules.
fn refused(of: &Value, old: Value, new: Value) -> Vec<String> {
    let found = words(check::check(&node(of.clone()), &object(new.clone()), Some(&object(old.clone()))));
    if found.is_empty() { broken(of.clone(), new, Some(old)) } else { found }
}

fn paths(found: &[String]) -> Vec<&str> {
    found.iter().map(|words| words.split(": ").next().unwrap_or_default()).collect()
}

#[test]
fn what_did_not_change_does_not_fail_a_change() {
    let short = json!({"type": "string", "maxLength": 2});
    let pair = json!({"type": "object", "properties": {"x": short, "y": short}, "required": ["x"]});
    let list = |kind: Option<&str>| {
        let item = json!({"type": "object", "properties": {"name": {"type": "string"}, "x": short}});
        let mut list = json!({"type": "array", "items": item, "maxItems": 2});
        if let Some(kind) = kind {
            list["x-kubernetes-list-type"] = json!(kind);
            list["x-kubernetes-list-map-keys"] = json!(["name"]);
        }
        list
    };
    let map = json!({"type": "object", "additionalProperties": short});
    for (of, old, new, wanted) in [
        (&pair, json!({"x": "long", "y": "a"}), json!({"x": "long", "y": "b"}), &[][..]),
        (&pair, json!({"x": "long", "y": "a"}), json!({"x": "longer", "y": "a"}), &["a.x"]),
        (&pair, json!({"x": "long", "y": "long"}), json!({"x": "a", "y": "long"}), &[]),
        // What is required is required of the whole, and that changed.
        (&pair, json!({"y": "a"}), json!({"y": "b"}), &["a.x"]),
        (&pair, json!({"y": "a"}), json!({"y": "a"}), &[]),
        // What comes anew was never taken.
        (&pair, json!({"x": "a"}), json!({"x": "a", "y": "long"}), &["a.y"]),
        (&map, json!({"k": "long"}), json!({"k": "long", "l": "a"}), &[]),
        (&map, json!({"k": "long"}), json!({"l": "long"}), &["a.l"]),
        // Items with keys are the same by them, wherever they stand; others are not the same one by one.
        (
            &list(Some("map")),
            json!([{"name": "a", "x": "long"}, {"name": "b", "x": "1"}]),
            json!([{"name": "b", "x": "2"}, {"name": "a", "x": "long"}]),
            &[],
        ),
        (&list(Some("map")), json!([{"name": "a", "x": "long"}]), json!([{"name": "b", "x": "long"}]), &["a[0].x"]),
        (&list(None), json!([{"x": "long"}]), json!([{"x": "long"}]), &[]),
        (&list(None), json!([{"x": "long"}]), json!([{"x": "long"}, {"x": "a"}]), &["a[0].x"]),
        (&list(None), json!([{}, {}, {}]), json!([{}, {}, {}, {}]), &["a"]),
    ] {
        let found = refused(of, old.clone(), new.clone());
        assert_eq!(paths(&found), wanted, "{of}\n{old}\n{new}");
    }
    // What stands beside a schema sees all of what changed.
    let either = json!({"type": "object", "properties": {"x": {"type": "string"}, "y": {"type": "string"}},
        "anyOf": [{"properties": {"x": {"maxLength": 2}}}]});
    assert_eq!(refused(&either, json!({"x": "long"}), json!({"x": "long"})), Vec::<String>::new());
    assert!(!refused(&either, json!({"x": "long"}), json!({"x": "long", "y": "a"})).is_empty());
}

#[test]
fn rules_are_asked_of_what_changed_and_rules_of_changes_always() {
    let short = ruled(json!({"type": "string"}), json!({"rule": "self.size() < 3"}));
    let inside = json!({"type": "object", "properties": {"x": short, "y": short}});
    let outside = ruled(inside.clone(), json!({"rule": "self.x != self.y"}));
    let list = json!({"type": "array", "items": short});
    // It says of no change at all that it holds.
    let never = |of: Value| ruled(of, json!({"rule": "self != oldSelf"}));
    let optional = ruled(json!({"type": "string"}), json!({"rule": "!oldSelf.hasValue()", "optionalOldSelf": true}));
    let deep = json!({"type": "object", "properties": {"x": never(json!({"type": "string"}))}});
    for (of, old, new, wanted) in [
        (&inside, json!({"x": "long", "y": "a"}), json!({"x": "long", "y": "b"}), &[][..]),
        (&inside, json!({"x": "long", "y": "a"}), json!({"x": "longer", "y": "a"}), &["a.x"]),
        (&outside, json!({"x": "a", "y": "a"}), json!({"x": "a", "y": "a"}), &[]),
        (&outside, json!({"x": "a", "y": "b"}), json!({"x": "b", "y": "b"}), &["a"]),
        // Of a list that is as it was, each item is.
        (&list, json!(["long", "a"]), json!(["long", "a"]), &[]),
        (&list, json!(["long", "a"]), json!(["long", "b"]), &["a[0]"]),
        (&never(json!({"type": "string"})), json!("a"), json!("a"), &["a"]),
        (&deep, json!({"x": "a"}), json!({"x": "a"}), &["a.x"]),
        (&optional, json!("a"), json!("a"), &["a"]),
    ] {
        let found = refused(of, old.clone(), new.clone());
        assert_eq!(paths(&found), wanted, "{of}\n{old}\n{new}");
    }
}

#[test]
fn metadata_may_change_whatever_the_rest_is() {
    let whole = json!({"type": "object", "required": ["b"], "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
        "x-kubernetes-validations": [{"rule": "has(self.b)"}]});
    let (schema, _) = skiff_proto::json::decode_value(&whole, skiff_proto::json::Strictness::Warn).expect("a schema");
    let node = super::Node::compile(&schema, "", &mut super::Errors::new());
    let of = |a: i32, held: &str| {
        let object = json!({"a": a, "metadata": {"name": "n", "finalizers": [held]}});
        object.as_object().expect("an object").clone()
    };
    let (old, free, other) = (of(1, "held"), of(1, ""), of(2, "held"));
    assert!(check::check(&node, &free, Some(&old)).is_empty());
    assert!(super::rules::broken(&node, &free, Some(&old)).is_empty());
    assert_eq!(words(check::check(&node, &other, Some(&old))), ["b: Required value"]);
    assert_eq!(words(super::rules::broken(&node, &other, Some(&old))).len(), 1);
}
