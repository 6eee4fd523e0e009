//! The tree that a YAML document becomes: order, duplicates and positions kept, and readable by
//! serde like JSON.

use serde::de::{self, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::json::{self, DecodeError, Json, Problem, Strictness};

/// One document.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// Its contents.
    pub root: Node,
}

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// The value.
    pub tree: Tree,
    /// The line, from 1.
    pub line: usize,
    /// The column, from 1.
    pub column: usize,
}

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub enum Tree {
    /// nothing
    Null,
    /// true or false
    Bool(bool),
    /// a whole number
    Int(i64),
    /// a whole number beyond `i64`
    UInt(u64),
    /// a number
    Float(f64),
    /// text
    Text(String),
    /// a list
    List(Vec<Node>),
    /// a map in the order of the text, with duplicates
    Map(Vec<(String, Node)>),
}

impl Document {
    /// The document as JSON; of duplicate keys the last one counts.
    pub fn to_json(&self) -> Value {
        self.root.to_json()
    }

    /// Whether there is nothing in it, as behind a last `---`.
    pub fn is_empty(&self) -> bool {
        self.root.tree == Tree::Null
    }

    /// Reads it as a built-in kind, and tells the unknown and duplicate fields; `None` for other kinds.
    pub fn check(&self, group: &str, version: &str, kind: &str) -> Option<Result<Vec<Problem>, DecodeError>> {
        crate::kinds::check(group, version, kind, self)
    }

    /// Reads it as a message, as [`json::decode`] does.
    pub fn decode<T: Json>(&self, strictness: Strictness) -> Result<(T, Vec<Problem>), DecodeError> {
        json::decode_tree(&self.root, strictness)
    }
}

impl Node {
    /// The value as JSON.
    pub fn to_json(&self) -> Value {
        match &self.tree {
            Tree::Null => Value::Null,
            Tree::Bool(b) => Value::from(*b),
            Tree::Int(n) => Value::from(*n),
            Tree::UInt(n) => Value::from(*n),
            Tree::Float(f) => Value::from(*f),
            Tree::Text(s) => Value::from(s.as_str()),
            Tree::List(items) => items.iter().map(Node::to_json).collect(),
            Tree::Map(entries) => {
                Value::Object(entries.iter().map(|(k, v)| (k.clone(), v.to_json())).collect::<Map<_, _>>())
            }
        }
    }

    /// The value of a key, the last one of duplicates.
    pub fn get(&self, key: &str) -> Option<&Node> {
        match &self.tree {
            Tree::Map(entries) => entries.iter().rev().find(|(k, _)| k == key).map(|(_, v)| v),
            _ => None,
        }
    }
}

/// Why a tree cannot be read as what it should be.
#[derive(Debug)]
pub struct TreeError {
    pub(crate) message: String,
    pub(crate) line: usize,
    pub(crate) column: usize,
}

impl TreeError {
    fn at(mut self, node: &Node) -> TreeError {
        // The innermost position is the exact one.
        if self.line == 0 {
            (self.line, self.column) = (node.line, node.column);
        }
        self
    }
}

impl std::fmt::Display for TreeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for TreeError {}

impl de::Error for TreeError {
    fn custom<T: std::fmt::Display>(message: T) -> TreeError {
        TreeError { message: message.to_string(), line: 0, column: 0 }
    }
}

impl<'de> Deserializer<'de> for &'de Node {
    type Error = TreeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TreeError> {
        let value = match &self.tree {
            Tree::Null => visitor.visit_unit(),
            Tree::Bool(b) => visitor.visit_bool(*b),
            Tree::Int(n) => visitor.visit_i64(*n),
            Tree::UInt(n) => visitor.visit_u64(*n),
            Tree::Float(f) => visitor.visit_f64(*f),
            Tree::Text(s) => visitor.visit_borrowed_str(s),
            Tree::List(items) => visitor.visit_seq(Items(items.iter())),
            Tree::Map(entries) => visitor.visit_map(Entries { entries: entries.iter(), value: None }),
        };
        value.map_err(|e| e.at(self))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TreeError> {
        match self.tree {
            Tree::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, TreeError> {
        visitor.visit_newtype_struct(self)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

struct Items<'de>(std::slice::Iter<'de, Node>);

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = TreeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, TreeError> {
        self.0.next().map(|node| seed.deserialize(node)).transpose()
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.0.len())
    }
}

struct Entries<'de> {
    entries: std::slice::Iter<'de, (String, Node)>,
    value: Option<&'de Node>,
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = TreeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, TreeError> {
        let Some((key, value)) = self.entries.next() else { return Ok(None) };
        self.value = Some(value);
        seed.deserialize(key.as_str().into_deserializer()).map(Some).map_err(|e: TreeError| e.at(value))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, TreeError> {
        match self.value.take() {
            Some(value) => seed.deserialize(value),
            None => Err(de::Error::custom("a value was asked for before its key")),
        }
    }
}
