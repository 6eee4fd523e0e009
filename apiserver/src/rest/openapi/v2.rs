//! OpenAPI v2, for clients from before 1.27: the definitions of all version 3 documents in one, and of the paths as much
//! as those clients look at (which kinds can be patched, with which options). They ask for it in protobuf.

use bytes::Bytes;
use prost::Message;
use serde_json::{Map, Value, json};

/// The document in both forms.
pub struct Document {
    /// As JSON.
    pub json: Bytes,
    /// As protobuf, in the messages of the gnostic project.
    pub protobuf: Bytes,
}

/// Makes the document of those of version 3.
pub fn make<'d>(documents: impl Iterator<Item = &'d Bytes>) -> Document {
    let (mut definitions, mut paths) = (Map::new(), Map::new());
    for document in documents {
        // Our own text.
        let Ok(tree) = serde_json::from_slice::<Value>(document) else { continue };
        for (name, schema) in tree["components"]["schemas"].as_object().into_iter().flatten() {
            definitions.insert(name.clone(), definition(schema));
        }
        for (path, item) in tree["paths"].as_object().into_iter().flatten() {
            let patch = &item["patch"];
            if patch.is_object() {
                let kept = ["operationId", "parameters", "x-kubernetes-action", "x-kubernetes-group-version-kind"];
                let mut operation: Map<String, Value> =
                    kept.iter().map(|key| ((*key).to_string(), patch[*key].clone())).collect();
                operation.insert("responses".into(), json!({"200": {"description": "OK"}}));
                paths.insert(path.clone(), json!({"patch": operation}));
            }
        }
    }
    let info = json!({"title": "Skiff", "version": format!("v{}", crate::VERSION)});
    let protobuf = pb::Document {
        swagger: "2.0".into(),
        info: Some(pb::Info { title: "Skiff".into(), version: format!("v{}", crate::VERSION) }),
        paths: Some(pb::Paths { path: paths.iter().map(|(name, item)| path_item(name, item)).collect() }),
        definitions: Some(named(&definitions)),
    };
    let json = json!({"swagger": "2.0", "info": info, "paths": paths, "definitions": definitions});
    Document { json: json.to_string().into(), protobuf: protobuf.encode_to_vec().into() }
}

/// A schema of version 3 as one of version 2.
fn definition(schema: &Value) -> Value {
    let Some(map) = schema.as_object() else { return schema.clone() };
    let mut out = Map::new();
    for (key, value) in map {
        match key.as_str() {
            // One of several types: text stands for all of them.
            "oneOf" if !map.contains_key("type") && !map.contains_key("x-kubernetes-int-or-string") => {
                out.insert("type".into(), "string".into());
            }
            // Version 2 has no words for alternatives.
            "oneOf" | "anyOf" | "not" | "nullable" => {}
            "allOf" if value.pointer("/0/$ref").is_none() => {}
            "allOf" => {
                if let Some(Value::Object(reference)) = value.get(0).map(definition) {
                    out.extend(reference);
                }
            }
            "$ref" => {
                let name = value.as_str().unwrap_or_default().replace("#/components/schemas/", "#/definitions/");
                out.insert("$ref".into(), name.into());
            }
            "properties" => {
                let properties = value.as_object().into_iter().flatten();
                let properties: Map<String, Value> = properties.map(|(k, v)| (k.clone(), definition(v))).collect();
                out.insert(key.clone(), properties.into());
            }
            "items" | "additionalProperties" => drop(out.insert(key.clone(), definition(value))),
            _ => drop(out.insert(key.clone(), value.clone())),
        }
    }
    out.into()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_string()
}

fn named(schemas: &Map<String, Value>) -> pb::NamedSchemas {
    let one = |(name, value): (&String, &Value)| pb::NamedSchema { name: name.clone(), value: Some(schema(value)) };
    pb::NamedSchemas { all: schemas.iter().map(one).collect() }
}

fn schema(tree: &Value) -> pb::Schema {
    let list = |value: &Value| value.as_array().into_iter().flatten().map(text).collect();
    pb::Schema {
        reference: text(&tree["$ref"]),
        format: text(&tree["format"]),
        description: text(&tree["description"]),
        required: list(&tree["required"]),
        additional_properties: tree
            .get("additionalProperties")
            .map(|inner| Box::new(pb::AdditionalProperties { schema: Some(Box::new(schema(inner))) })),
        kind: tree.get("type").map(|kind| pb::TypeItem { value: vec![text(kind)] }),
        items: tree.get("items").map(|inner| pb::Items { schema: vec![schema(inner)] }),
        properties: tree.get("properties").and_then(Value::as_object).map(named),
        vendor_extension: extensions(tree),
    }
}

/// What begins with `x-`; each value is YAML, which JSON is.
fn extensions(tree: &Value) -> Vec<pb::NamedAny> {
    let all = tree.as_object().into_iter().flatten().filter(|(key, _)| key.starts_with("x-"));
    all.map(|(key, value)| pb::NamedAny { name: key.clone(), value: Some(pb::Any { yaml: value.to_string() }) })
        .collect()
}

fn path_item(name: &str, item: &Value) -> pb::NamedPathItem {
    let patch = &item["patch"];
    let parameters = patch["parameters"].as_array().into_iter().flatten();
    let parameters = parameters.map(|parameter| {
        let query = pb::QueryParameter { place: "query".into(), name: text(&parameter["name"]) };
        let non_body = pb::NonBodyParameter { query: Some(query) };
        pb::ParametersItem { parameter: Some(pb::Parameter { non_body: Some(non_body) }) }
    });
    let operation = pb::Operation {
        operation_id: text(&patch["operationId"]),
        parameters: parameters.collect(),
        vendor_extension: extensions(patch),
    };
    pb::NamedPathItem { name: name.into(), value: Some(pb::PathItem { patch: Some(operation) }) }
}

/// The messages of openapi.v2, as far as they are filled in; the numbers are the gnostic project's.
mod pb {
    use prost::Message;

    #[derive(Clone, PartialEq, Message)]
    pub struct Document {
        #[prost(string, tag = "1")]
        pub swagger: String,
        #[prost(message, optional, tag = "2")]
        pub info: Option<Info>,
        #[prost(message, optional, tag = "8")]
        pub paths: Option<Paths>,
        #[prost(message, optional, tag = "9")]
        pub definitions: Option<NamedSchemas>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub struct Info {
        #[prost(string, tag = "1")]
        pub title: String,
        #[prost(string, tag = "2")]
        pub version: String,
    }

    #[derive(Clone, PartialEq, Message)]
    pub struct Paths {
        #[prost(message, repeated, tag = "2")]
        pub path: Vec<NamedPathItem>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub struct NamedPathItem {
        #[prost(string, tag = "1")]
        pub name: String,
        #[prost(message, optional, tag = "2")]
        pub value: Option<PathItem>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub struct PathItem {
        #[prost(message, optional, tag = "8")]
        pub patch: Option<Operation>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub struct Operation {
        #[prost(string, tag = "5")]
        pub operation_id: String,
        #[prost(message, repeated, tag = "8")]
        pub parameters: Vec<ParametersItem>,
        #[prost(message, repeated, tag = "13")]
        pub vendor_extension: Vec<NamedAny>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub struct ParametersItem {
        #[prost(message, optional, tag = "1")]
        pub parameter: Option<Parameter>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub struct Parameter {
        #[prost(message, optional, tag = "2")]
        pub non_body: Option<NonBodyParameter>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub struct NonBodyParameter {
        #[prost(message, optional, tag = "3")]
        pub query: Option<QueryParameter>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub struct QueryParameter {
        #[prost(string, tag = "2")]
        pub place: String,
        #[prost(string, tag = "4")]
        pub name: String,
    }

    #[derive(Clone, PartialEq, Message)]
    pub struct NamedSchemas {
        #[prost(message, repeated, tag = "1")]
        pub all: Vec<NamedSchema>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub struct NamedSchema {
        #[prost(string, tag = "1")]
        pub name: String,
        #[prost(message, optional, tag = "2")]
        pub value: Option<Schema>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub struct Schema {
        #[prost(string, tag = "1")]
        pub reference: String,
        #[prost(string, tag = "2")]
        pub format: String,
        #[prost(string, tag = "4")]
        pub description: String,
        #[prost(string, repeated, tag = "19")]
        pub required: Vec<String>,
        #[prost(message, optional, boxed, tag = "21")]
        pub additional_properties: Option<Box<AdditionalProperties>>,
        #[prost(message, optional, tag = "22")]
        pub kind: Option<TypeItem>,
        #[prost(message, optional, tag = "23")]
        pub items: Option<Items>,
        #[prost(message, optional, tag = "25")]
        pub properties: Option<NamedSchemas>,
        #[prost(message, repeated, tag = "31")]
        pub vendor_extension: Vec<NamedAny>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub struct AdditionalProperties {
        #[prost(message, optional, boxed, tag = "1")]
        pub schema: Option<Box<Schema>>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub struct TypeItem {
        #[prost(string, repeated, tag = "1")]
        pub value: Vec<String>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub struct Items {
        #[prost(message, repeated, tag = "1")]
        pub schema: Vec<Schema>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub struct NamedAny {
        #[prost(string, tag = "1")]
        pub name: String,
        #[prost(message, optional, tag = "2")]
        pub value: Option<Any>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub struct Any {
        #[prost(string, tag = "2")]
        pub yaml: String,
    }
}
