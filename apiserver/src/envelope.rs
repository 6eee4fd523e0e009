//! What the store holds for one key: the object's bytes, how they are encoded, and why they were written.
//!
//! It is `skiff.v1.Envelope` on the wire; reading cuts the object out of the stored bytes without copying. The object
//! lies there without its resourceVersion, which is only known when it is stored: [`with_resource_version`] appends it.

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use prost::encoding::{encode_varint, encoded_len_varint};

use crate::store::StoreError;

/// The newest envelope format we read, and the one we write.
const FORMAT: u32 = 1;

/// How an object's bytes are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ContentType {
    /// The bare message, as Kubernetes numbers it.
    Protobuf,
    /// A JSON document, for kinds without a Rust type.
    Json,
}

impl ContentType {
    /// The media type.
    pub fn as_str(self) -> &'static str {
        match self {
            ContentType::Protobuf => "application/vnd.kubernetes.protobuf",
            ContentType::Json => "application/json",
        }
    }

    fn parse(text: &[u8]) -> Option<ContentType> {
        [ContentType::Protobuf, ContentType::Json].into_iter().find(|known| known.as_str().as_bytes() == text)
    }
}

/// One stored value, taken apart; the parts share its memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// How the object is encoded.
    pub content_type: ContentType,
    /// The object without resourceVersion; empty in a tombstone.
    pub object: Bytes,
    /// An encoded `skiff.v1.Cause`; empty if there is none.
    pub cause: Bytes,
}

/// The same wire as `skiff.v1.Envelope`, with parts that can be cut out without copying or parsing.
#[derive(Clone, PartialEq, Message)]
struct Wire {
    #[prost(uint32, tag = "1")]
    format: u32,
    #[prost(bytes = "bytes", tag = "2")]
    content_type: Bytes,
    #[prost(bytes = "bytes", tag = "3")]
    object: Bytes,
    #[prost(bytes = "bytes", tag = "4")]
    cause: Bytes,
}

impl Envelope {
    /// The bytes to store.
    pub fn encode(&self) -> Bytes {
        let wire = Wire {
            format: FORMAT,
            content_type: Bytes::from_static(self.content_type.as_str().as_bytes()),
            object: self.object.clone(),
            cause: self.cause.clone(),
        };
        Bytes::from(wire.encode_to_vec())
    }

    /// Takes a stored value apart; `key` is for the error's words.
    pub fn decode(key: &[u8], value: &Bytes) -> Result<Envelope, StoreError> {
        let what = || String::from_utf8_lossy(key).into_owned();
        let wire = Wire::decode(value.clone())
            .map_err(|error| StoreError::Corrupt(format!("the value of {} is no envelope: {error}", what())))?;
        if wire.format > FORMAT {
            let what = format!("the value of {}", what());
            return Err(StoreError::NewerFormat { what, found: wire.format, known: FORMAT });
        }
        let content_type = ContentType::parse(&wire.content_type).ok_or_else(|| {
            let found = String::from_utf8_lossy(&wire.content_type).into_owned();
            StoreError::Corrupt(format!("the value of {} has the unknown content type {found:?}", what()))
        })?;
        Ok(Envelope { content_type, object: wire.object, cause: wire.cause })
    }
}

/// The object as clients see it.
pub fn with_resource_version(content_type: ContentType, object: &[u8], revision: u64) -> Bytes {
    match content_type {
        ContentType::Protobuf => protobuf_with_resource_version(object, revision),
        ContentType::Json => json_with_resource_version(object, revision),
    }
}

/// A second `metadata` (field 1) that holds only resourceVersion (field 6): decoders merge it into the first one.
fn protobuf_with_resource_version(object: &[u8], revision: u64) -> Bytes {
    const METADATA: u8 = 1 << 3 | 2;
    const RESOURCE_VERSION: u8 = 6 << 3 | 2;
    let digits = revision.to_string();
    let field_len = 1 + encoded_len_varint(digits.len() as u64) + digits.len();
    let mut out = BytesMut::with_capacity(object.len() + field_len + 4);
    out.put_slice(object);
    out.put_u8(METADATA);
    encode_varint(field_len as u64, &mut out);
    out.put_u8(RESOURCE_VERSION);
    encode_varint(digits.len() as u64, &mut out);
    out.put_slice(digits.as_bytes());
    out.freeze()
}

/// Splices resourceVersion in as the first member of `metadata`. A document without an object there stays as it is:
/// the registry stores none.
fn json_with_resource_version(object: &[u8], revision: u64) -> Bytes {
    let Some(at) = metadata_start(object) else { return Bytes::copy_from_slice(object) };
    let empty = object[at..].iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'}');
    let member = format!("\"resourceVersion\":\"{revision}\"{}", if empty { "" } else { "," });
    let mut out = BytesMut::with_capacity(object.len() + member.len());
    out.put_slice(&object[..at]);
    out.put_slice(member.as_bytes());
    out.put_slice(&object[at..]);
    out.freeze()
}

/// The offset just behind the brace that opens the top-level `metadata` object.
fn metadata_start(json: &[u8]) -> Option<usize> {
    let mut at = 0;
    let mut depth = 0_usize;
    let mut key: Option<&[u8]> = None;
    while let Some(byte) = json.get(at) {
        match byte {
            b'"' => {
                let end = string_end(json, at)?;
                key = (depth == 1).then(|| &json[at + 1..end - 1]);
                at = end;
                continue;
            }
            b'{' if depth == 1 && key == Some(b"metadata".as_slice()) => return Some(at + 1),
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.checked_sub(1)?,
            // Behind a comma the last string was a value, not a key.
            b',' => key = None,
            _ => {}
        }
        at += 1;
    }
    None
}

/// The offset behind the closing quote of the string that opens at `start`.
fn string_end(json: &[u8], start: usize) -> Option<usize> {
    let mut at = start + 1;
    loop {
        match json.get(at)? {
            b'\\' => at += 2,
            b'"' => return Some(at + 1),
            _ => at += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn envelope(content_type: ContentType) -> Envelope {
        Envelope { content_type, object: Bytes::from("an object"), cause: Bytes::from("why") }
    }

    #[test]
    fn an_envelope_reads_back_without_copying() {
        for content_type in [ContentType::Protobuf, ContentType::Json] {
            let stored = envelope(content_type).encode();
            let read = Envelope::decode(b"k", &stored).unwrap();
            assert_eq!(read, envelope(content_type));
            assert!(stored.as_ptr_range().contains(&read.object.as_ptr()), "the object was copied");
        }
    }

    #[test]
    fn newer_unknown_and_broken_envelopes_are_refused_in_words() {
        let wire = |format, content_type: &'static str| {
            let content_type = Bytes::from(content_type);
            Bytes::from(Wire { format, content_type, object: Bytes::new(), cause: Bytes::new() }.encode_to_vec())
        };
        for (value, words) in [
            (wire(2, "application/json"), "newer Skiff"),
            (wire(1, "text/plain"), "text/plain"),
            (Bytes::from_static(&[0xff, 0xff]), "no envelope"),
        ] {
            let error = Envelope::decode(b"/skiff/core/pods/a/b", &value).unwrap_err().to_string();
            assert!(error.contains(words) && error.contains("/skiff/core/pods/a/b"), "{error}");
        }
    }

    #[test]
    fn json_gets_its_revision_whatever_surrounds_metadata() {
        for object in [
            json!({"metadata": {"name": "a"}}),
            json!({"kind": "metadata", "metadata": {"labels": {"metadata": "}{"}}}),
            json!({"spec": {"metadata": {"x": 1}}, "a": [{"metadata": {}}], "metadata": {}}),
            json!({"a\"metadata": {}, "b": "\\\"", "metadata": {"name": "\u{e9}"}}),
        ] {
            for text in [object.to_string(), serde_json::to_string_pretty(&object).unwrap()] {
                let mut wanted = object.clone();
                wanted["metadata"]["resourceVersion"] = json!("42");
                let read: Value =
                    serde_json::from_slice(&with_resource_version(ContentType::Json, text.as_bytes(), 42)).unwrap();
                assert_eq!(read, wanted, "{text}");
            }
        }
    }

    #[test]
    fn json_without_metadata_stays_as_it_is() {
        for text in ["", "{", "[]", "{}", r#"{"metadata":null}"#, r#"{"metadata":"x","b":{}}"#, r#"{"metadata"#, "\"\\"]
        {
            assert_eq!(with_resource_version(ContentType::Json, text.as_bytes(), 1), text.as_bytes());
        }
    }

    #[test]
    fn protobuf_merges_the_appended_revision() {
        #[derive(Clone, PartialEq, Message)]
        struct Metadata {
            #[prost(string, tag = "1")]
            name: String,
            #[prost(string, tag = "6")]
            resource_version: String,
        }
        #[derive(Clone, PartialEq, Message)]
        struct Object {
            #[prost(message, optional, tag = "1")]
            metadata: Option<Metadata>,
            #[prost(string, tag = "2")]
            spec: String,
        }
        let metadata = Metadata { name: "web".into(), resource_version: String::new() };
        let stored = Object { metadata: Some(metadata), spec: "x".into() }.encode_to_vec();
        let read = Object::decode(with_resource_version(ContentType::Protobuf, &stored, u64::MAX)).unwrap();
        let metadata = Metadata { name: "web".into(), resource_version: u64::MAX.to_string() };
        assert_eq!(read, Object { metadata: Some(metadata), spec: "x".into() });
    }
}
