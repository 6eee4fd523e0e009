//! An object in the registry's hands: a decoded struct of a built-in kind, or a JSON tree of any other.

use serde_json::Value;
use skiff_proto::metav1::ObjectMeta;
use skiff_proto::{Kind, json};
use std::any::Any;
use std::sync::Arc;

/// What the registry needs of any object: its metadata, its forms, a copy.
pub trait Object: Any + Send + Sync {
    /// The metadata.
    fn meta(&self) -> &ObjectMeta;
    /// The metadata, to change.
    fn meta_mut(&mut self) -> &mut ObjectMeta;
    /// The stored form.
    fn encode(&self) -> Vec<u8>;
    /// The JSON form, with kind and apiVersion.
    fn to_json(&self) -> Value;
    /// The JSON form as it is sent.
    fn json_bytes(&self) -> Vec<u8> {
        self.to_json().to_string().into_bytes()
    }
    /// A copy.
    fn copy(&self) -> Box<dyn Object>;
    /// The concrete type, for strategies.
    fn as_any(&self) -> &dyn Any;
    /// The concrete type, for strategies.
    fn as_any_mut(&mut self) -> &mut dyn Any;
}

/// An object of a kind that has a Rust struct.
pub struct Typed<K: Kind>(pub K);

impl<K: Kind> Object for Typed<K> {
    fn meta(&self) -> &ObjectMeta {
        self.0.metadata()
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.0.metadata_mut()
    }

    fn encode(&self) -> Vec<u8> {
        self.0.encode_to_vec()
    }

    fn to_json(&self) -> Value {
        json::encode_value(&self.0)
    }

    fn json_bytes(&self) -> Vec<u8> {
        json::encode(&self.0)
    }

    fn copy(&self) -> Box<dyn Object> {
        Box::new(Typed(self.0.clone()))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}

/// An object of a kind known by its Schema only. The metadata is kept decoded; the tree holds the rest.
pub struct JsonObject {
    /// The tree without `metadata`.
    pub tree: serde_json::Map<String, Value>,
    /// The metadata.
    pub meta: ObjectMeta,
    /// The apiVersion under which it is stored.
    pub stored_as: Arc<str>,
}

impl Object for JsonObject {
    fn meta(&self) -> &ObjectMeta {
        &self.meta
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.meta
    }

    fn encode(&self) -> Vec<u8> {
        let mut stored = self.to_json();
        stored["apiVersion"] = Value::from(&*self.stored_as);
        stored.to_string().into_bytes()
    }

    fn to_json(&self) -> Value {
        let mut out = serde_json::Map::new();
        for key in ["apiVersion", "kind"] {
            if let Some(value) = self.tree.get(key) {
                out.insert(key.into(), value.clone());
            }
        }
        out.insert("metadata".into(), json::encode_value(&self.meta));
        for (key, value) in &self.tree {
            out.entry(key.clone()).or_insert_with(|| value.clone());
        }
        Value::Object(out)
    }

    fn copy(&self) -> Box<dyn Object> {
        Box::new(JsonObject { tree: self.tree.clone(), meta: self.meta.clone(), stored_as: self.stored_as.clone() })
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}
