//! Objects as expressions see them: typed by the schema, fields under names that are identifiers.

use crate::custom::structural::{Kind, Node};
use cel::Value;
use cel::objects::{Key, Map};
use std::sync::Arc;

/// Words of the language, which no field can be called.
const WORDS: &[&str] = &[
    "true",
    "false",
    "null",
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

/// A field's name in an expression, as Kubernetes writes it: `__dash__` for what no identifier may have.
pub fn escaped(name: &str) -> String {
    if WORDS.contains(&name) {
        return format!("__{name}__");
    }
    name.replace("__", "__underscores__").replace('.', "__dot__").replace('-', "__dash__").replace('/', "__slash__")
}

/// The property that an expression means by a name.
pub fn property<'n>(node: &'n Node, name: &str) -> Option<(&'n String, &'n Node)> {
    let plain = node.properties.get_key_value(name).filter(|(known, _)| escaped(known) == name);
    plain.or_else(|| node.properties.iter().find(|(known, _)| escaped(known) == name))
}

/// A value. What the schema does not name is not seen; of the metadata only the name.
pub fn of(node: &Node, value: &serde_json::Value, is_root: bool) -> Value {
    use serde_json::Value as Json;
    match value {
        Json::Null => Value::Null,
        Json::Bool(b) => Value::Bool(*b),
        Json::Number(n) if node.kind == Some(Kind::Number) => Value::Float(n.as_f64().unwrap_or(0.0)),
        Json::Number(n) => match n.as_i64() {
            Some(n) => Value::Int(n),
            None => Value::Float(n.as_f64().unwrap_or(0.0)),
        },
        Json::String(text) => Value::String(Arc::new(text.clone())),
        Json::Array(items) => {
            let free = Node::default();
            let inner = node.items.as_deref().unwrap_or(&free);
            Value::List(Arc::new(items.iter().map(|item| of(inner, item, false)).collect()))
        }
        Json::Object(map) => {
            let mut entries: Vec<(Key, Value)> = Vec::with_capacity(map.len());
            for (name, inner) in map {
                if let Some(schema) = node.properties.get(name).filter(|_| !inner.is_null()) {
                    entries.push((Key::from(escaped(name)), of(schema, inner, false)));
                } else if let Some(schema) = &node.values {
                    entries.push((Key::from(name.clone()), of(schema, inner, false)));
                } else if is_root || node.embedded {
                    entries.extend(of_every_object(name, inner).map(|seen| (Key::from(name.clone()), seen)));
                }
            }
            Value::Map(Map { map: Arc::new(entries.into_iter().collect()) })
        }
    }
}

fn of_every_object(name: &str, value: &serde_json::Value) -> Option<Value> {
    match (name, value) {
        ("apiVersion" | "kind", serde_json::Value::String(text)) => Some(Value::from(text.as_str())),
        ("metadata", serde_json::Value::Object(metadata)) => {
            let seen = ["name", "generateName"]
                .into_iter()
                .filter_map(|name| Some((Key::from(name.to_owned()), Value::from(metadata.get(name)?.as_str()?))));
            Some(Value::Map(Map { map: Arc::new(seen.collect()) }))
        }
        _ => None,
    }
}
