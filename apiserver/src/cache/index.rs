//! What the cache knows of an object beside its bytes: uid, labels and the fields that selectors may name.
//!
//! It is read off the encoded bytes, field by field, without decoding the object: an ordinary Pod decoded takes 20 times
//! the memory it has on the wire.

use prost::encoding::{WireType, decode_key, decode_varint};
use serde_json::Value;

use crate::envelope::ContentType;

/// Reads an object's index.
pub trait Indexer: Send + Sync + 'static {
    /// The names of the selectable fields beside metadata.name and metadata.namespace, in the order of `Meta::fields`.
    fn fields(&self) -> &[String];

    /// Reads the index off an object as it is stored.
    fn index(&self, object: &[u8], content_type: ContentType) -> Result<Meta, IndexError>;
}

/// An object that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the object cannot be indexed: {0}")]
pub struct IndexError(pub String);

/// The index of one object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Meta {
    /// metadata.uid.
    pub uid: Box<str>,
    /// Keys and values, one after the other, sorted by key.
    pub labels: Packed,
    /// The values of the indexer's fields, in its order.
    pub fields: Packed,
}

/// A list of strings in one allocation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Packed(Box<str>, Box<[u32]>);

impl Packed {
    /// The strings, in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        (0..self.1.len()).filter_map(|index| self.get(index))
    }

    /// One of them.
    pub fn get(&self, index: usize) -> Option<&str> {
        let end = *self.1.get(index)? as usize;
        let start = index.checked_sub(1).and_then(|before| self.1.get(before)).map_or(0, |start| *start as usize);
        self.0.get(start..end)
    }
}

impl<S: AsRef<str>> FromIterator<S> for Packed {
    fn from_iter<I: IntoIterator<Item = S>>(strings: I) -> Packed {
        let (mut text, mut ends) = (String::new(), Vec::new());
        for string in strings {
            text.push_str(string.as_ref());
            ends.push(text.len() as u32);
        }
        Packed(text.into_boxed_str(), ends.into_boxed_slice())
    }
}

/// How a selectable field's value is written in a selector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldKind {
    /// As it is; absent is "".
    String,
    /// "true" or "false"; absent is "false".
    Bool,
    /// Decimal; absent is "0".
    Int,
}

/// A field that selectors may name.
#[derive(Debug, Clone)]
pub struct SelectableField {
    /// Its path in JSON, "spec.nodeName".
    pub path: String,
    /// The same path in protobuf field numbers. Empty where the objects are JSON.
    pub numbers: Vec<u32>,
    /// What it holds.
    pub kind: FieldKind,
}

impl SelectableField {
    /// A field by both of its paths.
    pub fn new(path: &str, numbers: &[u32], kind: FieldKind) -> SelectableField {
        SelectableField { path: path.to_owned(), numbers: numbers.to_vec(), kind }
    }
}

/// Reads metadata and a list of fields, from protobuf and from JSON.
#[derive(Debug, Clone, Default)]
pub struct FieldIndexer {
    fields: Vec<SelectableField>,
    names: Vec<String>,
}

impl FieldIndexer {
    /// An indexer of these fields.
    pub fn new(fields: Vec<SelectableField>) -> FieldIndexer {
        let names = fields.iter().map(|field| field.path.clone()).collect();
        FieldIndexer { fields, names }
    }
}

impl Indexer for FieldIndexer {
    fn fields(&self) -> &[String] {
        &self.names
    }

    fn index(&self, object: &[u8], content_type: ContentType) -> Result<Meta, IndexError> {
        match content_type {
            ContentType::Protobuf => self.index_protobuf(object),
            ContentType::Json => self.index_json(object),
        }
    }
}

/// ObjectMeta's place in every object, and what we read of it.
const METADATA: u32 = 1;
const UID: u32 = 5;
const LABELS: u32 = 11;

impl FieldIndexer {
    fn index_protobuf(&self, object: &[u8]) -> Result<Meta, IndexError> {
        let mut uid = String::new();
        let mut labels = std::collections::BTreeMap::new();
        walk(object, &mut |number, value| {
            if let (METADATA, Wire::Bytes(metadata)) = (number, value) {
                walk(metadata, &mut |number, value| {
                    match (number, value) {
                        (UID, Wire::Bytes(bytes)) => uid = text(bytes)?.to_owned(),
                        (LABELS, Wire::Bytes(pair)) => {
                            let (key, value) = read_pair(pair)?;
                            labels.insert(key, value);
                        }
                        _ => {}
                    }
                    Ok(())
                })?;
            }
            Ok(())
        })?;
        let fields: Result<Vec<String>, IndexError> = self.fields.iter().map(|field| field.read(object)).collect();
        Ok(Meta {
            uid: uid.into_boxed_str(),
            labels: labels.into_iter().flat_map(|(key, value)| [key, value]).collect(),
            fields: fields?.into_iter().collect(),
        })
    }

    fn index_json(&self, object: &[u8]) -> Result<Meta, IndexError> {
        let object: Value = serde_json::from_slice(object).map_err(|error| IndexError(error.to_string()))?;
        let metadata = &object["metadata"];
        let mut labels: Vec<(&str, &str)> = metadata["labels"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(key, value)| (key.as_str(), value.as_str().unwrap_or_default()))
            .collect();
        labels.sort_unstable();
        let read = |field: &SelectableField| {
            let found = field.path.split('.').try_fold(&object, |value, name| value.get(name));
            match found {
                Some(Value::String(text)) => text.clone(),
                Some(value @ (Value::Bool(_) | Value::Number(_))) => value.to_string(),
                _ => field.kind.absent().to_owned(),
            }
        };
        Ok(Meta {
            uid: metadata["uid"].as_str().unwrap_or_default().into(),
            labels: labels.into_iter().flat_map(|(key, value)| [key, value]).collect(),
            fields: self.fields.iter().map(read).collect(),
        })
    }
}

impl FieldKind {
    fn absent(self) -> &'static str {
        match self {
            FieldKind::String => "",
            FieldKind::Bool => "false",
            FieldKind::Int => "0",
        }
    }
}

impl SelectableField {
    fn read(&self, object: &[u8]) -> Result<String, IndexError> {
        let mut found = None;
        descend(object, &self.numbers, &mut |value| {
            found = Some(match (self.kind, value) {
                (FieldKind::String, Wire::Bytes(bytes)) => text(bytes)?.to_owned(),
                (FieldKind::Bool, Wire::Varint(number)) => (number != 0).to_string(),
                (FieldKind::Int, Wire::Varint(number)) => (number as i64).to_string(),
                _ => return Err(IndexError(format!("{} is of another type", self.path))),
            });
            Ok(())
        })?;
        Ok(found.unwrap_or_else(|| self.kind.absent().to_owned()))
    }
}

/// A field's value on the wire.
#[derive(Clone, Copy)]
enum Wire<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
    /// Fixed-size numbers, which no index needs.
    Other,
}

type Visit<'v, 'a> = &'v mut dyn FnMut(u32, Wire<'a>) -> Result<(), IndexError>;

/// Calls `visit` for every value at the end of the path; a message that comes twice is merged, as decoders do.
fn descend<'a>(
    message: &'a [u8],
    path: &[u32],
    visit: &mut dyn FnMut(Wire<'a>) -> Result<(), IndexError>,
) -> Result<(), IndexError> {
    let Some((first, rest)) = path.split_first() else { return Ok(()) };
    walk(message, &mut |number, value| match (number == *first, rest.is_empty(), value) {
        (true, true, value) => visit(value),
        (true, false, Wire::Bytes(inner)) => descend(inner, rest, visit),
        _ => Ok(()),
    })
}

/// Calls `visit` for every field of a message.
fn walk<'a>(mut rest: &'a [u8], visit: Visit<'_, 'a>) -> Result<(), IndexError> {
    let cut = || IndexError("the message is cut short".into());
    while !rest.is_empty() {
        let (number, wire_type) = decode_key(&mut rest).map_err(|error| IndexError(error.to_string()))?;
        let varint = |rest: &mut &[u8]| decode_varint(rest).map_err(|error| IndexError(error.to_string()));
        let value = match wire_type {
            WireType::Varint => Wire::Varint(varint(&mut rest)?),
            WireType::LengthDelimited => {
                let len = usize::try_from(varint(&mut rest)?).map_err(|_| cut())?;
                let (bytes, after) = rest.split_at_checked(len).ok_or_else(cut)?;
                rest = after;
                Wire::Bytes(bytes)
            }
            WireType::ThirtyTwoBit => skip(&mut rest, 4).ok_or_else(cut)?,
            WireType::SixtyFourBit => skip(&mut rest, 8).ok_or_else(cut)?,
            WireType::StartGroup | WireType::EndGroup => return Err(IndexError("groups are not Kubernetes'".into())),
        };
        visit(number, value)?;
    }
    Ok(())
}

fn skip(rest: &mut &[u8], len: usize) -> Option<Wire<'static>> {
    *rest = rest.get(len..)?;
    Some(Wire::Other)
}

fn text(bytes: &[u8]) -> Result<&str, IndexError> {
    std::str::from_utf8(bytes).map_err(|_| IndexError("a string is not UTF-8".into()))
}

/// A map's entry: key is field 1, value field 2.
fn read_pair(pair: &[u8]) -> Result<(&str, &str), IndexError> {
    let (mut key, mut value) = ("", "");
    walk(pair, &mut |number, wire| {
        match (number, wire) {
            (1, Wire::Bytes(bytes)) => key = text(bytes)?,
            (2, Wire::Bytes(bytes)) => value = text(bytes)?,
            _ => {}
        }
        Ok(())
    })?;
    Ok((key, value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use prost::Message;
    use std::collections::BTreeMap;

    #[derive(Clone, PartialEq, Message)]
    struct Metadata {
        #[prost(string, tag = "1")]
        name: String,
        #[prost(string, tag = "5")]
        uid: String,
        #[prost(btree_map = "string, string", tag = "11")]
        labels: BTreeMap<String, String>,
    }

    #[derive(Clone, PartialEq, Message)]
    struct Spec {
        #[prost(double, tag = "1")]
        weight: f64,
        #[prost(string, tag = "10")]
        node_name: String,
        #[prost(bool, tag = "11")]
        host_network: bool,
        #[prost(int32, tag = "12")]
        replicas: i32,
    }

    #[derive(Clone, PartialEq, Message)]
    struct Object {
        #[prost(message, optional, tag = "1")]
        metadata: Option<Metadata>,
        #[prost(message, optional, tag = "2")]
        spec: Option<Spec>,
    }

    fn indexer() -> FieldIndexer {
        FieldIndexer::new(vec![
            SelectableField::new("spec.nodeName", &[2, 10], FieldKind::String),
            SelectableField::new("spec.hostNetwork", &[2, 11], FieldKind::Bool),
            SelectableField::new("spec.replicas", &[2, 12], FieldKind::Int),
        ])
    }

    proptest! {
        #[test]
        fn protobuf_and_json_give_the_same_index(
            uid in "[a-z0-9-]{0,8}",
            labels in proptest::collection::btree_map("[a-z]{0,3}", "[a-zé]{0,4}", 0..5),
            node_name in "[a-z]{0,5}",
            host_network: bool,
            replicas: i32,
        ) {
            let json = serde_json::json!({
                "metadata": {"name": "x", "uid": uid, "labels": labels},
                "spec": {"nodeName": node_name, "hostNetwork": host_network, "replicas": replicas},
            });
            let metadata = Metadata { name: "x".into(), uid: uid.clone(), labels: labels.clone() };
            let spec = Spec { weight: 0.5, node_name: node_name.clone(), host_network, replicas };
            let object = Object { metadata: Some(metadata), spec: Some(spec) }.encode_to_vec();
            let meta = indexer().index(&object, ContentType::Protobuf).unwrap();
            prop_assert_eq!(&meta, &indexer().index(json.to_string().as_bytes(), ContentType::Json).unwrap());
            prop_assert_eq!(&*meta.uid, uid.as_str());
            let pairs: Vec<&str> = labels.iter().flat_map(|(key, value)| [key.as_str(), value.as_str()]).collect();
            prop_assert_eq!(meta.labels.iter().collect::<Vec<_>>(), pairs);
            let fields = [node_name, host_network.to_string(), replicas.to_string()];
            prop_assert_eq!(meta.fields.iter().collect::<Vec<_>>(), fields);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = indexer().index(&bytes, ContentType::Protobuf);
            let _ = indexer().index(&bytes, ContentType::Json);
        }
    }

    #[test]
    fn absent_fields_have_their_zero() {
        for (object, content_type) in [(&b""[..], ContentType::Protobuf), (b"{}", ContentType::Json)] {
            let meta = indexer().index(object, content_type).unwrap();
            assert_eq!(meta.fields.iter().collect::<Vec<_>>(), ["", "false", "0"]);
            assert_eq!((&*meta.uid, meta.labels.iter().count()), ("", 0));
        }
    }
}
