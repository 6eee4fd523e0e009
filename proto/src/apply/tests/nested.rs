//! Lists and maps in lists and maps, as custom resources may have them: who owns what of them.

use super::*;
use crate::apiextensionsv1::JsonSchemaProps;

/// Groups with ports, routes by zone, settings by zone and name, and things that are owned as a whole.
fn schema() -> Schema {
    let text = json!({"type": "string"});
    let ports = json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["port", "protocol"],
        "items": {"type": "object", "required": ["port"], "properties": {
            "port": {"type": "integer"}, "protocol": {"type": "string", "default": "TCP"}, "name": text}}});
    let routes = json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["path"],
        "items": {"type": "object", "properties": {"path": text, "to": text}}});
    let whole = json!({"type": "object", "x-kubernetes-map-type": "atomic", "properties": {"a": text, "b": text}});
    let of_each = |value: &Value| json!({"type": "object", "additionalProperties": value});
    let group = json!({"type": "object", "properties": {
        "name": text,
        "ports": ports,
        "tags": {"type": "array", "x-kubernetes-list-type": "set", "items": text},
    }});
    let definition = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
        "groups": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"], "items": group},
        "routes": of_each(&routes),
        "settings": of_each(&of_each(&text)),
        "deep": of_each(&of_each(&routes)),
        "sets": of_each(&json!({"type": "array", "x-kubernetes-list-type": "set", "items": text})),
        "plain": of_each(&json!({"type": "array", "items": text})),
        "wholes": of_each(&whole),
        "kept": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["a"], "items": whole},
    }}}});
    let read = crate::json::decode_value::<JsonSchemaProps>(&definition, crate::json::Strictness::Warn);
    let (definition, problems) = read.unwrap();
    assert_eq!(problems, []);
    Schema::of_definition("Web", &definition)
}

fn spec(of: Value) -> Value {
    json!({ "spec": of })
}

#[test]
fn what_is_nested_is_named_as_its_own_definition_says() {
    for (document, wanted) in [
        (
            json!({"groups": [{"name": "g", "ports": [{"port": 1}], "tags": ["x"]}]}),
            json!({"f:groups": {"k:{\"name\":\"g\"}": {
                ".": {}, "f:name": {},
                "f:ports": {"k:{\"port\":1,\"protocol\":\"TCP\"}": {".": {}, "f:port": {}}},
                "f:tags": {"v:\"x\"": {}},
            }}}),
        ),
        (
            json!({"routes": {"eu": [{"path": "/a", "to": "b"}]}}),
            json!({"f:routes": {"f:eu": {".": {}, "k:{\"path\":\"/a\"}": {".": {}, "f:path": {}, "f:to": {}}}}}),
        ),
        (json!({"settings": {"eu": {"x": "1"}}}), json!({"f:settings": {"f:eu": {".": {}, "f:x": {}}}})),
        (
            json!({"deep": {"eu": {"n": [{"path": "/a"}]}}}),
            json!({"f:deep": {"f:eu": {".": {}, "f:n": {".": {}, "k:{\"path\":\"/a\"}": {".": {}, "f:path": {}}}}}}),
        ),
        (json!({"sets": {"eu": ["x"]}}), json!({"f:sets": {"f:eu": {".": {}, "v:\"x\"": {}}}})),
        (json!({"plain": {"eu": ["x"]}}), json!({"f:plain": {"f:eu": {}}})),
        (json!({"wholes": {"eu": {"a": "1", "b": "2"}}}), json!({"f:wholes": {"f:eu": {}}})),
        (json!({"kept": [{"a": "1", "b": "2"}]}), json!({"f:kept": {"k:{\"a\":\"1\"}": {}}})),
    ] {
        let set = fields_of(&spec(document.clone()), &schema()).unwrap();
        assert_eq!(written(&set), json!({ "f:spec": wanted }), "{document}");
    }
    let twice = spec(json!({"routes": {"eu": [{"path": "/a"}, {"path": "/a"}]}}));
    let refused = fields_of(&twice, &schema()).unwrap_err().to_string();
    assert_eq!(refused, "spec.routes.eu[1]: Duplicate value: an item before it is [path=\"/a\"] too");
}

#[test]
fn what_is_nested_is_merged_and_taken_out_piece_by_piece() {
    for (there, wanted, merged) in [
        (
            json!({"groups": [{"name": "g", "ports": [{"port": 1, "name": "a"}], "tags": ["x"]}]}),
            json!({"groups": [{"name": "g", "ports": [{"port": 2}], "tags": ["y"]}]}),
            json!({"groups": [{"name": "g", "ports": [{"port": 1, "name": "a"}, {"port": 2}], "tags": ["x", "y"]}]}),
        ),
        (
            json!({"routes": {"eu": [{"path": "/a", "to": "b"}]}}),
            json!({"routes": {"eu": [{"path": "/c"}], "us": [{"path": "/a"}]}}),
            json!({"routes": {"eu": [{"path": "/a", "to": "b"}, {"path": "/c"}], "us": [{"path": "/a"}]}}),
        ),
        (
            json!({"settings": {"eu": {"x": "1"}}}),
            json!({"settings": {"eu": {"y": "2"}}}),
            json!({"settings": {"eu": {"x": "1", "y": "2"}}}),
        ),
        (
            json!({"deep": {"eu": {"n": [{"path": "/a"}]}}}),
            json!({"deep": {"eu": {"n": [{"path": "/b"}]}}}),
            json!({"deep": {"eu": {"n": [{"path": "/a"}, {"path": "/b"}]}}}),
        ),
        // What is owned as a whole is replaced as a whole.
        (json!({"plain": {"eu": ["x"]}}), json!({"plain": {"eu": ["y"]}}), json!({"plain": {"eu": ["y"]}})),
        (
            json!({"wholes": {"eu": {"a": "1"}}}),
            json!({"wholes": {"eu": {"b": "2"}}}),
            json!({"wholes": {"eu": {"b": "2"}}}),
        ),
    ] {
        let (schema, mut document) = (schema(), spec(there.clone()));
        merge(&mut document, &spec(wanted.clone()), &schema);
        assert_eq!(document, spec(merged), "{there} and {wanted}");
        // Without what the first one named, the second one's is left; what both named was never the first one's alone.
        let first = fields_of(&spec(there), &schema).unwrap();
        let second = fields_of(&spec(wanted.clone()), &schema).unwrap();
        remove(&mut document, &first.difference(&second), &schema);
        assert_eq!(document, spec(wanted), "what is left");
    }
}
