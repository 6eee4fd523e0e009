//! Tables of what schemas and rules make of objects.

mod changes;
mod functions;

use super::structural::Node;
use super::{check, prune, rules, structure};
use crate::resources::Errors;
use serde_json::{Map, Value, json};
use skiff_proto::apiextensionsv1::JsonSchemaProps;
use skiff_proto::json::{Strictness, decode_value};

fn schema(of: Value) -> JsonSchemaProps {
    let whole = json!({"type": "object", "properties": {"a": of, "b": {"type": "integer"}}});
    let (schema, problems) = decode_value(&whole, Strictness::Warn).unwrap_or_else(|e| panic!("{e}: {whole}"));
    assert_eq!(problems, [], "{whole}");
    schema
}

fn node(of: Value) -> Node {
    let mut errors = Errors::new();
    let node = Node::compile(&schema(of), "", &mut errors);
    assert!(errors.is_empty(), "{errors:?}");
    node
}

fn object(a: Value) -> Map<String, Value> {
    [("a".to_owned(), a)].into_iter().collect()
}

fn words(errors: Errors) -> Vec<String> {
    errors.into_vec().iter().map(ToString::to_string).collect()
}

/// What is wrong with a value by a schema.
fn wrong(of: Value, value: Value) -> Vec<String> {
    words(check::check(&node(of), &object(value), None))
}

#[test]
fn what_is_wrong_is_said_in_kubernetes_words() {
    let text = |more: Value| {
        let mut schema = json!({"type": "string"});
        schema.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        schema
    };
    for (of, value, wanted) in [
        (
            json!({"type": "string"}),
            json!(1),
            "a: Invalid value: \"integer\": a in body must be of type string: \"integer\"",
        ),
        (
            json!({"type": "string"}),
            json!(null),
            "a: Invalid value: \"null\": a in body must be of type string: \"null\"",
        ),
        (
            json!({"type": "integer"}),
            json!(1.5),
            "a: Invalid value: \"number\": a in body must be of type integer: \"number\"",
        ),
        (
            text(json!({"minLength": 2})),
            json!("é"),
            "a: Invalid value: \"é\": a in body should be at least 2 chars long",
        ),
        (text(json!({"maxLength": 1})), json!("ab"), "a: Too long: may not be more than 1 bytes"),
        (text(json!({"pattern": "^b"})), json!("ab"), "a: Invalid value: \"ab\": a in body should match '^b'"),
        (text(json!({"enum": ["x", "y"]})), json!("z"), "a: Unsupported value: \"z\": supported values: \"x\", \"y\""),
        (
            text(json!({"format": "ipv4"})),
            json!("1.2.3"),
            "a: Invalid value: \"1.2.3\": a in body must be of type ipv4: \"1.2.3\"",
        ),
        (
            json!({"type": "number", "maximum": 1, "exclusiveMaximum": true}),
            json!(1),
            "a: Invalid value: 1: a in body should be less than 1",
        ),
        (
            json!({"type": "number", "minimum": 0.5}),
            json!(0),
            "a: Invalid value: 0: a in body should be greater than or equal to 0.5",
        ),
        (
            json!({"type": "number", "multipleOf": 0.1}),
            json!(0.25),
            "a: Invalid value: 0.25: a in body should be a multiple of 0.1",
        ),
        (
            json!({"type": "integer", "format": "int32"}),
            json!(1i64 << 40),
            "a: Invalid value: 1099511627776: a in body must be of type int32: \"1099511627776\"",
        ),
        (
            json!({"type": "array", "items": {"type": "integer"}, "maxItems": 1}),
            json!([1, 2]),
            "a: Too many: 2: must have at most 1 items",
        ),
        (
            json!({"type": "array", "items": {"type": "integer"}, "minItems": 1}),
            json!([]),
            "a: Invalid value: \"array\": a in body should have at least 1 items",
        ),
        (
            json!({"type": "array", "items": {"type": "integer"}}),
            json!([1, "x"]),
            "a[1]: Invalid value: \"string\": a[1] in body must be of type integer: \"string\"",
        ),
        (
            json!({"type": "array", "items": {"type": "number"}, "x-kubernetes-list-type": "set"}),
            json!([1, 1.0]),
            "a[1]: Duplicate value: 1.0",
        ),
        (
            json!({"type": "object", "additionalProperties": {"type": "boolean"}}),
            json!({"x": 1}),
            "a.x: Invalid value: \"integer\": a.x in body must be of type boolean: \"integer\"",
        ),
        (
            json!({"type": "object", "properties": {"x": {"type": "string"}}, "required": ["x", "y"]}),
            json!({"x": "1"}),
            "a.y: Required value",
        ),
        (
            json!({"type": "object", "additionalProperties": {"type": "string"}, "minProperties": 1}),
            json!({}),
            "a: Invalid value: \"object\": a in body should have at least 1 properties",
        ),
        (
            json!({"x-kubernetes-int-or-string": true}),
            json!(true),
            "a: Invalid value: \"boolean\": a in body must be of type integer,string: \"boolean\"",
        ),
        (
            json!({"type": "integer", "not": {"enum": [3]}}),
            json!(3),
            "a: Invalid value: 3: \"a\" must not validate the schema (not)",
        ),
        (
            json!({"type": "integer", "oneOf": [{"minimum": 1}, {"maximum": 5}]}),
            json!(3),
            "a: Invalid value: 3: \"a\" must validate one and only one schema (oneOf). Found 2 valid alternatives",
        ),
        (
            json!({"type": "object", "properties": {"x": {"type": "string"}, "y": {"type": "string"}}, "oneOf": [{"required": ["x"]}, {"required": ["y"]}]}),
            json!({}),
            "a: Invalid value: \"object\": \"a\" must validate one and only one schema (oneOf). Found none valid",
        ),
        (
            json!({"type": "integer", "anyOf": [{"minimum": 10}, {"maximum": 1}]}),
            json!(5),
            "a: Invalid value: 5: \"a\" must validate at least one schema (anyOf)",
        ),
        (
            json!({"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true}),
            json!({"kind": "X"}),
            "a.apiVersion: Required value: must not be empty",
        ),
    ] {
        let found = wrong(of.clone(), value.clone());
        assert!(found.iter().any(|words| words == wanted), "{of} {value}\nwanted {wanted}\nfound  {found:#?}");
    }
}

#[test]
fn what_is_right_is_taken() {
    for (of, value) in [
        (json!({"type": "string", "nullable": true}), json!(null)),
        (json!({"type": "integer"}), json!(3.0)),
        (json!({"type": "number", "multipleOf": 0.1}), json!(0.3)),
        (json!({"type": "number", "enum": [1]}), json!(1.0)),
        (json!({"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]}), json!("25%")),
        (json!({"x-kubernetes-preserve-unknown-fields": true}), json!([{"x": null}])),
        (json!({"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"}), json!(["a", "b"])),
        (json!({"type": "object", "additionalProperties": true}), json!({"x": {"y": 1}})),
        (
            json!({"type": "object", "properties": {"x": {"type": "string"}}, "oneOf": [{"required": ["x"]}, {"not": {"required": ["x"]}}]}),
            json!({}),
        ),
    ] {
        assert_eq!(wrong(of.clone(), value.clone()), Vec::<String>::new(), "{of} {value}");
    }
}

#[test]
fn what_nobody_named_goes_and_what_is_absent_is_filled_in() {
    let inner = json!({"type": "object", "properties": {
        "size": {"type": "integer", "default": 3},
        "nothing": {"type": "string", "nullable": true, "default": "x"},
        "sub": {"type": "object", "default": {}, "properties": {"deep": {"type": "string", "default": "d"}}},
    }});
    let kept = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {"known": inner}});
    for (of, value, wanted, told) in [
        (
            inner.clone(),
            json!({"size": 1, "more": 2}),
            json!({"size": 1, "nothing": "x", "sub": {"deep": "d"}}),
            &["unknown field \"a.more\""][..],
        ),
        (
            inner.clone(),
            json!({"size": null, "nothing": null}),
            json!({"size": 3, "nothing": null, "sub": {"deep": "d"}}),
            &[],
        ),
        (
            json!({"type": "array", "items": inner}),
            json!([{"x": 1}]),
            json!([{"size": 3, "nothing": "x", "sub": {"deep": "d"}}]),
            &["unknown field \"a[0].x\""],
        ),
        (
            kept,
            json!({"free": {"x": 1}, "known": {"y": 1, "size": 2}}),
            json!({"free": {"x": 1}, "known": {"size": 2, "nothing": "x", "sub": {"deep": "d"}}}),
            &["unknown field \"a.known.y\""],
        ),
        (
            json!({"type": "object", "additionalProperties": {"type": "object", "properties": {"v": {"type": "string"}}}}),
            json!({"k": {"v": "1", "w": 2}}),
            json!({"k": {"v": "1"}}),
            &["unknown field \"a.k.w\""],
        ),
        (json!({"type": "object", "properties": {"n": {"type": "string"}}}), json!({"n": null}), json!({}), &[]),
        (
            json!({"type": "object", "x-kubernetes-embedded-resource": true, "properties": {"spec": {"type": "object"}}}),
            json!({"kind": "X", "metadata": {"name": "n"}, "spec": {"x": 1}, "y": 1}),
            json!({"kind": "X", "metadata": {"name": "n"}, "spec": {}}),
            &["unknown field \"a.spec.x\"", "unknown field \"a.y\""],
        ),
    ] {
        let node = node(of.clone());
        let mut object = object(value);
        let mut found: Vec<String> = prune::prune(&node, &mut object).iter().map(ToString::to_string).collect();
        found.sort();
        prune::default(&node, &mut object);
        assert_eq!(
            (&object["a"], found.as_slice()),
            (&wanted, told.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>().as_slice()),
            "{of}"
        );
    }
}

fn ruled(mut of: Value, rule: Value) -> Value {
    of["x-kubernetes-validations"] = json!([rule]);
    of
}

/// What rules say of a value, after another.
fn broken(of: Value, value: Value, old: Option<Value>) -> Vec<String> {
    words(rules::broken(&node(of), &object(value), old.map(object).as_ref()))
}

#[test]
fn rules_hold_or_say_what_is_wrong() {
    let int = || json!({"type": "integer"});
    let pair = || json!({"type": "object", "properties": {"min": {"type": "integer"}, "max": {"type": "integer"}, "x-y": {"type": "string"}, "tags": {"type": "array", "items": {"type": "string"}}}});
    let map = || json!({"type": "object", "additionalProperties": {"type": "integer"}});
    for (of, value, old, wanted) in [
        (ruled(int(), json!({"rule": "self > 2"})), json!(3), None, None),
        (ruled(int(), json!({"rule": "self > 2"})), json!(1), None, Some("a: Invalid value: 1: failed rule: self > 2")),
        (
            ruled(int(), json!({"rule": "self > 2", "message": "too small"})),
            json!(1),
            None,
            Some("a: Invalid value: 1: too small"),
        ),
        (
            ruled(int(), json!({"rule": "self > 2", "messageExpression": "'not ' + string(self)"})),
            json!(1),
            None,
            Some("a: Invalid value: 1: not 1"),
        ),
        (
            ruled(int(), json!({"rule": "self > 2", "message": "no", "reason": "FieldValueForbidden"})),
            json!(1),
            None,
            Some("a: Forbidden: no"),
        ),
        (
            ruled(pair(), json!({"rule": "self.min <= self.max", "fieldPath": ".max"})),
            json!({"min": 2, "max": 1}),
            None,
            Some("a.max: Invalid value: \"object\": failed rule: self.min <= self.max"),
        ),
        (ruled(pair(), json!({"rule": "!has(self.min) || self.min > 0"})), json!({}), None, None),
        (
            ruled(pair(), json!({"rule": "self.x__dash__y.startsWith('q')"})),
            json!({"x-y": "p"}),
            None,
            Some("a: Invalid value: \"object\": failed rule: self.x__dash__y.startsWith('q')"),
        ),
        (
            ruled(pair(), json!({"rule": "self.tags.all(t, t.size() < 3)"})),
            json!({"tags": ["ab", "abc"]}),
            None,
            Some("a: Invalid value: \"object\": failed rule: self.tags.all(t, t.size() < 3)"),
        ),
        (
            ruled(pair(), json!({"rule": "self.tags.exists_one(t, t.matches('^a+$'))"})),
            json!({"tags": ["aa", "b"]}),
            None,
            None,
        ),
        (ruled(pair(), json!({"rule": "self.min + 1 == self.max"})), json!({"min": 1, "max": 2}), None, None),
        (ruled(map(), json!({"rule": "self.all(k, self[k] > 0) && 'x' in self"})), json!({"x": 1, "y": 2}), None, None),
        (
            ruled(map(), json!({"rule": "self.all(k, self[k] > 1)"})),
            json!({"x": 1}),
            None,
            Some("a: Invalid value: \"object\": failed rule: self.all(k, self[k] > 1)"),
        ),
        (ruled(json!({"type": "number"}), json!({"rule": "self * 2.0 == 3.0"})), json!(1.5), None, None),
        (ruled(json!({"type": "number"}), json!({"rule": "self == 2.0"})), json!(2), None, None),
        // Of changes.
        (ruled(int(), json!({"rule": "self >= oldSelf"})), json!(1), None, None),
        (
            ruled(int(), json!({"rule": "self >= oldSelf"})),
            json!(1),
            Some(json!(2)),
            Some("a: Invalid value: 1: failed rule: self >= oldSelf"),
        ),
        (
            ruled(int(), json!({"rule": "self == oldSelf", "message": "field is immutable"})),
            json!(2),
            Some(json!(2)),
            None,
        ),
        (
            ruled(int(), json!({"rule": "oldSelf.hasValue() || self == 0", "optionalOldSelf": true})),
            json!(1),
            None,
            Some("a: Invalid value: 1: failed rule: oldSelf.hasValue() || self == 0"),
        ),
        (
            ruled(int(), json!({"rule": "oldSelf.hasValue() || self == 0", "optionalOldSelf": true})),
            json!(1),
            Some(json!(1)),
            None,
        ),
    ] {
        let found = broken(of.clone(), value, old);
        assert_eq!(found.first().map(String::as_str), wanted, "{of}");
    }
}

#[test]
fn items_are_the_same_by_their_keys_and_else_not_at_all() {
    let item = ruled(
        json!({"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}, "n": {"type": "integer"}}}),
        json!({"rule": "self.n >= oldSelf.n"}),
    );
    let atomic = json!({"type": "array", "items": item});
    let mut keyed = atomic.clone();
    keyed["x-kubernetes-list-type"] = json!("map");
    keyed["x-kubernetes-list-map-keys"] = json!(["name"]);
    let (old, new) = (json!([{"name": "x", "n": 5}]), json!([{"name": "y", "n": 1}, {"name": "x", "n": 4}]));
    assert_eq!(broken(atomic, new.clone(), Some(old.clone())), Vec::<String>::new());
    assert_eq!(broken(keyed, new, Some(old)), ["a[1]: Invalid value: \"object\": failed rule: self.n >= oldSelf.n"]);
}

#[test]
fn rules_that_cannot_be_are_refused_with_their_place() {
    let of = |rule: &str| {
        ruled(json!({"type": "object", "properties": {"n": {"type": "integer"}}}), json!({ "rule": rule }))
    };
    for (rule, wanted) in [
        ("self.n >", "compilation failed"),
        ("self.m > 1", "undefined field 'm'"),
        ("self.apiVersion == 'v1'", "undefined field 'apiVersion'"),
        ("other > 1", "undeclared reference to 'other'"),
        ("", "rule is not specified"),
    ] {
        let found = words(structure::check(&schema(of(rule)), "s"));
        let told = found
            .iter()
            .any(|w| w.starts_with("s.properties[a].x-kubernetes-validations[0].rule: ") && w.contains(wanted));
        assert!(told, "{rule}: {found:?}");
    }
}

#[test]
fn a_rule_cannot_run_for_ever() {
    let list = json!({"type": "array", "items": {"type": "integer"}});
    let of = ruled(list, json!({"rule": "self.all(x, self.all(y, self.all(z, x + y + z >= 0)))"}));
    let many: Vec<i32> = (0..2_000).collect();
    let found = broken(of.clone(), json!(many), None);
    assert!(found[0].contains("running out of cost budget"), "{found:?}");
    assert_eq!(broken(of, json!([1, 2, 3]), None), Vec::<String>::new());
}

#[test]
fn the_metadata_that_rules_see_is_the_name() {
    let whole = json!({"type": "object", "properties": {"a": {"type": "integer"}},
        "x-kubernetes-validations": [{"rule": "self.metadata.name.startsWith('x')", "message": "not so called"}]});
    let (schema, _) = decode_value::<JsonSchemaProps>(&whole, Strictness::Warn).expect("a schema");
    let node = Node::compile(&schema, "", &mut Errors::new());
    let named = |name: &str| json!({"metadata": {"name": name}, "a": 1}).as_object().expect("an object").clone();
    assert!(rules::broken(&node, &named("xy"), None).is_empty());
    assert_eq!(words(rules::broken(&node, &named("y"), None)), [": Invalid value: \"object\": not so called"]);
}
