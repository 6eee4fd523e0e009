//! The strategy of a kind that has no Rust struct: its objects are JSON, guided by a Schema made at run time. What a
//! custom resource is stored as, and the proof that the registry needs nothing but the table.

use super::field_error::{Errors, Shown};
use super::object::{JsonObject, Object};
use super::strategy::{DecodeError, Decoded, Strategy};
use super::validation::NameRule;
use super::{JSON, YAML};
use crate::cache::{SelectableField, ToJson};
use crate::envelope::ContentType;
use serde_json::{Map, Value};
use skiff_proto::Schema;
use skiff_proto::json::Strictness;
use skiff_proto::metav1::ObjectMeta;
use skiff_proto::schema::{Field, Shape, Type};
use skiff_proto::yaml::Document;
use std::sync::Arc;

/// A kind known by its Schema.
pub struct JsonKind {
    /// `example.com/v1`.
    pub api_version: String,
    /// The kind's name.
    pub kind: String,
    /// Its fields.
    pub schema: Arc<Schema>,
    /// Whether `status` is a subresource, written apart from the rest.
    pub has_status: bool,
}

/// Reads one YAML document as a JSON tree; of duplicate keys the last one counts.
pub fn yaml_to_tree(bytes: &[u8]) -> Result<Value, DecodeError> {
    yaml_document(bytes).map(|document| document.to_json())
}

/// Reads a body that is one YAML document.
pub fn yaml_document(bytes: &[u8]) -> Result<Document, DecodeError> {
    let malformed = |what: String| DecodeError::Malformed(what);
    let text = std::str::from_utf8(bytes).map_err(|e| malformed(format!("the body is not UTF-8: {e}")))?;
    let mut documents =
        skiff_proto::yaml::parse_documents(text, &Default::default()).map_err(|e| malformed(e.to_string()))?;
    match (documents.pop(), documents.is_empty()) {
        (Some(document), true) => Ok(document),
        (Some(_), false) => Err(malformed("the body holds more than one YAML document".into())),
        (None, _) => Err(malformed("the body holds no YAML document".into())),
    }
}

impl JsonKind {
    fn of(object: &dyn Object) -> &JsonObject {
        object.as_any().downcast_ref().expect("a resource's objects are decoded by its own strategy")
    }

    fn of_mut(object: &mut dyn Object) -> &mut JsonObject {
        object.as_any_mut().downcast_mut().expect("a resource's objects are decoded by its own strategy")
    }

    fn desired(object: &JsonObject) -> Map<String, Value> {
        let mut rest = object.tree.clone();
        rest.shift_remove("status");
        rest
    }
}

impl Strategy for JsonKind {
    fn stored_as(&self) -> ContentType {
        ContentType::Json
    }

    fn decode(&self, bytes: &[u8], content_type: &str) -> Result<Decoded, DecodeError> {
        match content_type {
            JSON => {
                let tree = serde_json::from_slice(bytes).map_err(|e| DecodeError::Malformed(e.to_string()))?;
                self.decode_tree(tree)
            }
            YAML => self.decode_tree(yaml_to_tree(bytes)?),
            other => Err(DecodeError::ContentType(other.into())),
        }
    }

    fn json_of_stored(&self) -> ToJson {
        Arc::new(|bytes| Ok(bytes::Bytes::copy_from_slice(bytes)))
    }

    fn decode_tree(&self, tree: Value) -> Result<Decoded, DecodeError> {
        let Value::Object(mut tree) = tree else {
            return Err(DecodeError::Malformed("the body is not a JSON object".into()));
        };
        let meta = tree.shift_remove("metadata").unwrap_or_else(|| Value::Object(Map::new()));
        let (meta, problems) = skiff_proto::json::decode_value::<ObjectMeta>(&meta, Strictness::Warn)
            .map_err(|e| DecodeError::Malformed(format!("metadata.{e}")))?;
        let mut complaints: Vec<String> =
            problems.iter().map(|p| p.to_string().replacen('"', "\"metadata.", 1)).collect();
        let mut rest = Value::Object(tree);
        complaints.extend(self.schema.prune(&mut rest).iter().map(ToString::to_string));
        let Value::Object(mut tree) = rest else {
            return Err(DecodeError::Malformed("the body is not a JSON object".into()));
        };
        tree.insert("apiVersion".into(), self.api_version.clone().into());
        tree.insert("kind".into(), self.kind.clone().into());
        Ok(Decoded { object: Box::new(JsonObject { tree, meta }), complaints })
    }

    fn default(&self, _object: &mut dyn Object) {}

    fn prepare_for_create(&self, object: &mut dyn Object) {
        if self.has_status {
            Self::of_mut(object).tree.shift_remove("status");
        }
    }

    fn prepare_for_update(&self, new: &mut dyn Object, old: &dyn Object) {
        if !self.has_status {
            return;
        }
        let new = Self::of_mut(new);
        new.tree.shift_remove("status");
        if let Some(status) = Self::of(old).tree.get("status") {
            new.tree.insert("status".into(), status.clone());
        }
    }

    fn prepare_for_status_update(&self, new: &mut dyn Object, old: &dyn Object) {
        let new = Self::of_mut(new);
        let status = new.tree.shift_remove("status");
        new.tree = Self::desired(Self::of(old));
        if let Some(status) = status {
            new.tree.insert("status".into(), status);
        }
    }

    fn validate(&self, object: &dyn Object) -> Errors {
        let mut errors = Errors::new();
        for (name, value) in &Self::of(object).tree {
            if let Some(field) = self.schema.root().field(name) {
                field_type(&self.schema, field, value, name, 1, &mut errors);
            }
        }
        errors
    }

    fn validate_update(&self, _new: &dyn Object, _old: &dyn Object) -> Errors {
        Errors::new()
    }

    fn validate_status_update(&self, new: &dyn Object, _old: &dyn Object) -> Errors {
        self.validate(new)
    }

    fn desired_changed(&self, new: &dyn Object, old: &dyn Object) -> bool {
        Self::desired(Self::of(new)) != Self::desired(Self::of(old))
    }

    fn selectable(&self) -> Vec<SelectableField> {
        Vec::new()
    }

    fn warnings(&self, _object: &dyn Object) -> Vec<String> {
        Vec::new()
    }

    fn name_rule(&self) -> NameRule {
        super::validation::dns1123_subdomain
    }
}

impl Shown for Value {
    fn shown(&self) -> String {
        match self {
            Value::String(text) => text.shown(),
            other => other.to_string().chars().take(256).collect(),
        }
    }
}

/// Deeper objects are not looked into.
const MAX_DEPTH: usize = 64;

/// Checks a field's shape.
fn field_type(schema: &Schema, field: &Field, value: &Value, path: &str, depth: usize, errors: &mut Errors) {
    match (field.shape, value) {
        _ if depth > MAX_DEPTH => errors.forbidden(path, "nested too deeply"),
        (_, Value::Null) => {}
        (Shape::Single, value) => value_type(schema, field, value, path, depth, errors),
        (Shape::List, Value::Array(items)) => {
            for (i, item) in items.iter().enumerate() {
                value_type(schema, field, item, &format!("{path}[{i}]"), depth, errors);
            }
        }
        (Shape::Map, Value::Object(entries)) => {
            for (key, item) in entries {
                value_type(schema, field, item, &format!("{path}[{key}]"), depth, errors);
            }
        }
        (Shape::List, other) => wrong_type(other, path, "a list", errors),
        (Shape::Map, other) => wrong_type(other, path, "a map", errors),
    }
}

/// Checks one value's type.
fn value_type(schema: &Schema, field: &Field, value: &Value, path: &str, depth: usize, errors: &mut Errors) {
    let fits = match field.of {
        Type::Boolean => value.is_boolean(),
        Type::Integer => value.is_i64() || value.is_u64(),
        Type::Number => value.is_number(),
        Type::String | Type::Bytes => value.is_string(),
        Type::Time => value.as_str().is_some_and(|text| text.parse::<skiff_proto::Time>().is_ok()),
        Type::Quantity => {
            value.is_number() || value.as_str().is_some_and(|text| skiff_proto::Quantity::parse(text).is_ok())
        }
        Type::IntOrString => value.is_i64() || value.is_string(),
        Type::Any => true,
        Type::Object(index) => match value.as_object() {
            None => false,
            Some(map) => {
                for (name, value) in map {
                    if let Some(field) = schema.object(index).field(name) {
                        field_type(schema, field, value, &format!("{path}.{name}"), depth + 1, errors);
                    }
                }
                true
            }
        },
    };
    if !fits {
        wrong_type(value, path, &field.of.to_string(), errors);
    }
}

fn wrong_type(value: &Value, path: &str, wanted: &str, errors: &mut Errors) {
    errors.invalid(path, value, format!("must be of type {wanted}"));
}
