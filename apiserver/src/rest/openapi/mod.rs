//! OpenAPI v3, made from the Schemas of the table: an index, and a document per group version. kubectl validates,
//! merges and explains by it. `v2` makes the one document that older clients want of them.

mod v2;

use super::media::{self, Encoding};
use super::respond::{self, Answer};
use super::{OK, nothing_here};
use crate::registry::ApiResult;
use crate::resources::{Resource, Rows, Table};
use bytes::Bytes;
use http::HeaderMap;
use serde_json::{Map, Value, json};
use skiff_proto::apiextensionsv1::JsonSchemaProps;
use skiff_proto::schema::{self, Field, ListType, Merge, Object, Presence, Schema, Shape, Type};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// The documents, made when they are first asked for, and made anew when the table has grown.
#[derive(Default)]
pub struct Documents(Mutex<Option<Made>>);

#[derive(Clone)]
struct Made {
    rows: Rows,
    /// By path: `api/v1`, `apis/apps/v1`.
    documents: Arc<BTreeMap<String, OneDocument>>,
    v2: Arc<OnceLock<v2::Document>>,
}

/// One document, with the rows that it was made of and a hash of its text.
#[derive(Clone)]
struct OneDocument {
    of: Vec<Arc<Resource>>,
    text: Bytes,
    hash: u32,
}

/// The media type of OpenAPI v2 in protobuf.
const V2_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
/// As older clients ask for it. It is no media type (an `@` may not stand there), so they cannot read it in an answer.
const V2_ASKED: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";

impl Documents {
    /// `/openapi/v3`.
    pub fn index(&self, table: &Table) -> Answer {
        let paths: Map<String, Value> = self
            .made(table)
            .documents
            .iter()
            .map(|(path, one)| {
                let url = format!("/openapi/v3/{path}?hash={:08X}", one.hash);
                (path.clone(), json!({ "serverRelativeURL": url }))
            })
            .collect();
        respond::tree(OK, Encoding::Json, &json!({"paths": paths}))
    }

    /// `/openapi/v3/apis/apps/v1`.
    pub fn document(&self, table: &Table, path: &str) -> ApiResult<Answer> {
        match self.made(table).documents.get(path.trim_end_matches('/')) {
            Some(one) => Ok(respond::document(OK, crate::resources::JSON, one.text.clone())),
            None => Err(nothing_here(&format!("/openapi/v3/{path}"))),
        }
    }

    /// `/openapi/v2`.
    pub fn v2(&self, table: &Table, headers: &HeaderMap) -> Answer {
        let made = self.made(table);
        let document = made.v2.get_or_init(|| v2::make(made.documents.values().map(|one| &one.text)));
        match [V2_PROTOBUF, V2_ASKED].iter().any(|kind| media::takes(headers, kind)) {
            true => respond::document(OK, V2_PROTOBUF, document.protobuf.clone()),
            false => respond::document(OK, crate::resources::JSON, document.json.clone()),
        }
    }

    fn made(&self, table: &Table) -> Made {
        let rows = table.all();
        let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match made.as_ref().filter(|made| Arc::ptr_eq(&made.rows, &rows)) {
            Some(made) => made.clone(),
            None => {
                let before = made.as_ref().map(|made| made.documents.clone()).unwrap_or_default();
                let documents = Arc::new(make(&rows, &before));
                made.insert(Made { rows, documents, v2: Arc::default() }).clone()
            }
        }
    }
}

/// The documents of all groups. What has not changed is taken from those before.
fn make(rows: &Rows, before: &BTreeMap<String, OneDocument>) -> BTreeMap<String, OneDocument> {
    let mut groups: BTreeMap<String, Vec<Arc<Resource>>> = BTreeMap::new();
    for row in rows.values() {
        groups.entry(root(row)).or_default().push(row.clone());
    }
    let same = |a: &[Arc<Resource>], b: &[Arc<Resource>]| {
        a.len() == b.len() && a.iter().zip(b).all(|(a, b)| Arc::ptr_eq(a, b))
    };
    let made = |(path, of): (String, Vec<Arc<Resource>>)| {
        if let Some(known) = before.get(&path).filter(|known| same(&known.of, &of)) {
            return (path, known.clone());
        }
        let text = Bytes::from(document(&path, &of).to_string());
        let hash = crc32fast::hash(&text);
        (path, OneDocument { of, text, hash })
    };
    groups.into_iter().map(made).collect()
}

/// `api/v1`, `apis/apps/v1`.
fn root(row: &Resource) -> String {
    if row.group.is_empty() { format!("api/{}", row.version) } else { format!("apis/{}/{}", row.group, row.version) }
}

fn document(root: &str, rows: &[Arc<Resource>]) -> Value {
    let mut components = Components::default();
    let mut paths = Map::new();
    for row in rows {
        let name = components.kind(row);
        let collection = match row.namespaced {
            true => format!("/{root}/namespaces/{{namespace}}/{}", row.resource),
            false => format!("/{root}/{}", row.resource),
        };
        paths.insert(format!("{collection}/{{name}}"), object_paths(row, &name));
        paths.insert(collection, collection_paths(row, &name));
    }
    json!({
        "openapi": "3.0.0",
        "info": {"title": "Skiff", "version": format!("v{}", crate::VERSION)},
        "paths": paths,
        "components": {"schemas": components.schemas},
    })
}

fn operation(row: &Resource, action: &str, id: &str, body: Option<Value>, parameters: &[&str], answer: &str) -> Value {
    let parameters: Vec<Value> = parameters
        .iter()
        .map(|name| json!({"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": true}}))
        .collect();
    let mut operation = json!({
        "operationId": format!("{id}{}{}", capital(&row.version), row.kind),
        "parameters": parameters,
        "responses": {"200": {"description": "OK", "content": {"application/json": {"schema": reference(answer)}}}},
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": {"group": row.group, "version": row.version, "kind": row.kind},
    });
    if let Some(content) = body {
        operation["requestBody"] = json!({"required": true, "content": content});
    }
    operation
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

const WRITING: &[&str] = &["dryRun", "fieldManager", "fieldValidation"];
const LISTING: &[&str] = &[
    "allowWatchBookmarks",
    "continue",
    "fieldSelector",
    "labelSelector",
    "limit",
    "resourceVersion",
    "resourceVersionMatch",
    "sendInitialEvents",
    "timeoutSeconds",
    "watch",
];
const DELETING: &[&str] = &["dryRun", "gracePeriodSeconds", "orphanDependents", "propagationPolicy"];

fn object_paths(row: &Resource, name: &str) -> Value {
    let whole = || json!({"application/json": {"schema": reference(name)}});
    // The content types say which patches there are.
    let patch: Map<String, Value> = ["json-patch+json", "merge-patch+json", "strategic-merge-patch+json"]
        .iter()
        .filter(|kind| !(row.is_custom() && kind.starts_with("strategic")))
        .map(|kind| (format!("application/{kind}"), json!({"schema": {"type": "object"}})))
        .collect();
    json!({
        "get": operation(row, "get", "read", None, &[], name),
        "put": operation(row, "put", "replace", Some(whole()), WRITING, name),
        "patch": operation(row, "patch", "patch", Some(patch.into()), WRITING, name),
        "delete": operation(row, "delete", "delete", None, DELETING, name),
    })
}

fn collection_paths(row: &Resource, name: &str) -> Value {
    let whole = json!({"application/json": {"schema": reference(name)}});
    json!({
        "get": operation(row, "list", "list", None, LISTING, name),
        "post": operation(row, "post", "create", Some(whole), WRITING, name),
        "delete": operation(row, "deletecollection", "deletecollection", None, LISTING, name),
    })
}

fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

/// The schemas of one document, each object once.
#[derive(Default)]
struct Components {
    schemas: Map<String, Value>,
    names: BTreeSet<String>,
}

impl Components {
    /// Adds a kind and everything inside it; its name.
    fn kind(&mut self, row: &Resource) -> String {
        let root = if row.is_custom() { row.kind.as_str() } else { &row.schema().root().name };
        let name = full_name(row, root);
        self.names.insert(name.clone());
        let mut schema = match row.strategy.definition() {
            Some(definition) => self.custom(row, &definition.schema()),
            None => self.object(row, row.schema(), row.schema().root()),
        };
        let text = |description: &str| json!({"type": "string", "description": description});
        if let Some(properties) = schema["properties"].as_object_mut() {
            properties
                .insert("apiVersion".into(), text("The group and version of the API that the object is written for."));
            properties.insert("kind".into(), text("What kind of object this is."));
        }
        schema["x-kubernetes-group-version-kind"] =
            json!([{"group": row.group, "version": row.version, "kind": row.kind}]);
        self.schemas.insert(name.clone(), schema);
        name
    }

    /// A custom resource as its definition describes it, with the metadata of every object.
    fn custom(&mut self, row: &Resource, definition: &JsonSchemaProps) -> Value {
        let mut out = skiff_proto::json::encode_value(definition);
        if !out["properties"].is_object() {
            out["properties"] = json!({});
        }
        let shared = schema::for_kind("", "v1", "ConfigMap");
        if let Some((shared, metadata)) = shared.as_ref().and_then(|s| Some((s, s.field_at(&["metadata"])?))) {
            out["properties"]["metadata"] = self.field(row, shared, metadata);
        }
        out
    }

    fn object(&mut self, row: &Resource, schema: &Schema, object: &Object) -> Value {
        let mut properties = Map::new();
        let mut required = vec![];
        for field in object.fields.iter() {
            if field.presence == Presence::Always && matches!(field.of, Type::String) && field.shape == Shape::Single {
                required.push(field.name.clone());
            }
            properties.insert(field.name.to_string(), self.field(row, schema, field));
        }
        let mut out = json!({"type": "object", "description": object.description, "properties": properties});
        if !required.is_empty() {
            out["required"] = json!(required);
        }
        if object.open {
            out["x-kubernetes-preserve-unknown-fields"] = true.into();
        }
        out
    }

    fn field(&mut self, row: &Resource, schema: &Schema, field: &Field) -> Value {
        let one = self.value(row, schema, field);
        let mut out = match field.shape {
            Shape::Single => one,
            Shape::List => json!({"type": "array", "items": one}),
            Shape::Map => json!({"type": "object", "additionalProperties": one}),
        };
        let Some(map) = out.as_object_mut() else { return out };
        if !field.description.is_empty() {
            map.insert("description".into(), field.description.as_ref().into());
        }
        let strategy = match (field.merge, field.retain_keys) {
            (Merge::List, true) => "merge,retainKeys",
            (Merge::List, false) => "merge",
            (Merge::Replace, _) => "replace",
            (Merge::Default, true) => "retainKeys",
            (Merge::Default, false) => "",
        };
        if !strategy.is_empty() {
            map.insert("x-kubernetes-patch-strategy".into(), strategy.into());
        }
        if !field.merge_key.is_empty() {
            map.insert("x-kubernetes-patch-merge-key".into(), field.merge_key.as_ref().into());
        }
        match (field.shape, field.list) {
            (Shape::List, ListType::Map) => {
                map.insert("x-kubernetes-list-type".into(), "map".into());
                map.insert("x-kubernetes-list-map-keys".into(), json!(field.list_map_keys));
            }
            (Shape::List, ListType::Set) => {
                map.insert("x-kubernetes-list-type".into(), "set".into());
            }
            (Shape::List, ListType::Atomic) => {
                map.insert("x-kubernetes-list-type".into(), "atomic".into());
            }
            _ if field.atomic => {
                map.insert("x-kubernetes-map-type".into(), "atomic".into());
            }
            _ => {}
        }
        out
    }

    /// One value of a field.
    fn value(&mut self, row: &Resource, schema: &Schema, field: &Field) -> Value {
        match field.of {
            Type::Boolean => json!({"type": "boolean"}),
            Type::Integer => json!({"type": "integer", "format": "int64"}),
            Type::Number => json!({"type": "number", "format": "double"}),
            Type::String => json!({"type": "string"}),
            Type::Bytes => json!({"type": "string", "format": "byte"}),
            Type::Time => json!({"type": "string", "format": "date-time"}),
            Type::Quantity => json!({"oneOf": [{"type": "string"}, {"type": "number"}]}),
            Type::IntOrString => json!({"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]}),
            // No built-in kind has lists in lists; custom resources show their own schema.
            Type::Any | Type::Nested(_) => json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true}),
            Type::Object(index) => {
                let object = schema.object(index);
                let name = full_name(row, &object.name);
                // Named before it is made: objects may hold themselves.
                if self.names.insert(name.clone()) {
                    let made = self.object(row, schema, object);
                    self.schemas.insert(name.clone(), made);
                }
                json!({"allOf": [reference(&name)]})
            }
        }
    }
}

/// `io.k8s.api.apps.v1.Deployment`. What all groups share stands with the machinery.
fn full_name(row: &Resource, name: &str) -> String {
    const SHARED: &[&str] = &[
        "ObjectMeta",
        "OwnerReference",
        "ManagedFieldsEntry",
        "LabelSelector",
        "LabelSelectorRequirement",
        "Condition",
    ];
    if SHARED.contains(&name) {
        return format!("io.k8s.apimachinery.pkg.apis.meta.v1.{name}");
    }
    let group = match row.group.as_str() {
        "" => "io.k8s.api.core".to_string(),
        group => match group.strip_suffix(".k8s.io") {
            Some(short) => format!("io.k8s.api.{short}"),
            None if group.contains('.') => group.split('.').rev().collect::<Vec<_>>().join("."),
            None => format!("io.k8s.api.{group}"),
        },
    };
    format!("{group}.{}.{name}", row.version)
}
