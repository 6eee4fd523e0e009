//! Kubernetes' envelope around protobuf: four magic bytes and a message that says which kind is inside.

use crate::registry::{ApiError, ApiResult};
use bytes::{Bytes, BytesMut};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len, message};

/// The fields of the envelope and of a list.
const UNKNOWN_TYPE_META: u32 = 1;
const UNKNOWN_RAW: u32 = 2;
const LIST_METADATA: u32 = 1;
const LIST_ITEMS: u32 = 2;
/// What every body begins with.
const MAGIC: &[u8] = b"k8s\0";

#[derive(Clone, PartialEq, Message)]
struct TypeMeta {
    #[prost(string, tag = "1")]
    api_version: String,
    #[prost(string, tag = "2")]
    kind: String,
}

#[derive(Clone, PartialEq, Message)]
struct Unknown {
    #[prost(message, optional, tag = "1")]
    type_meta: Option<TypeMeta>,
    #[prost(bytes = "bytes", tag = "2")]
    raw: Bytes,
    #[prost(string, tag = "3")]
    content_encoding: String,
    #[prost(string, tag = "4")]
    content_type: String,
}

#[derive(Clone, PartialEq, Message)]
struct RawExtension {
    #[prost(bytes = "bytes", tag = "1")]
    raw: Bytes,
}

#[derive(Clone, PartialEq, Message)]
struct WatchEvent {
    #[prost(string, tag = "1")]
    kind: String,
    #[prost(message, optional, tag = "2")]
    object: Option<RawExtension>,
}

/// What came in an envelope.
pub struct Opened {
    /// `apps/v1`; may be empty.
    pub api_version: String,
    /// `Deployment`; may be empty.
    pub kind: String,
    /// The bare message.
    pub raw: Bytes,
}

/// Opens an envelope.
pub fn open(body: &Bytes) -> ApiResult<Opened> {
    let wrong = |why: String| ApiError::bad_request(format!("the body is not Kubernetes' protobuf: {why}"));
    let Some(inside) = body.strip_prefix(MAGIC).map(|rest| body.slice_ref(rest)) else {
        return Err(wrong("it does not begin with the bytes k8s\\0".into()));
    };
    let unknown = Unknown::decode(inside).map_err(|e| wrong(e.to_string()))?;
    if !unknown.content_encoding.is_empty() {
        return Err(wrong(format!("contentEncoding {:?} cannot be read", unknown.content_encoding)));
    }
    let meta = unknown.type_meta.unwrap_or_default();
    Ok(Opened { api_version: meta.api_version, kind: meta.kind, raw: unknown.raw })
}

/// Puts a bare message into an envelope.
pub fn seal(api_version: &str, kind: &str, raw: Bytes) -> Bytes {
    let unknown = Unknown {
        type_meta: Some(TypeMeta { api_version: api_version.into(), kind: kind.into() }),
        raw,
        ..Unknown::default()
    };
    let mut out = Vec::with_capacity(MAGIC.len() + unknown.encoded_len());
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&unknown.encode_to_vec());
    out.into()
}

/// The beginning of a sealed list of bare messages, up to its first item: every kind's list has the same shape. Each item
/// follows behind its own [`item_head`].
pub fn list_head(api_version: &str, kind: &str, metadata: &skiff_proto::metav1::ListMeta, items: &[Bytes]) -> Bytes {
    let type_meta = TypeMeta { api_version: api_version.into(), kind: kind.into() };
    let item = |item: &Bytes| key_len(LIST_ITEMS) + encoded_len_varint(item.len() as u64) + item.len();
    let meta = metadata.encoded_len();
    let raw = key_len(LIST_METADATA) + encoded_len_varint(meta as u64) + meta + items.iter().map(item).sum::<usize>();
    let mut out = Vec::with_capacity(256 + meta);
    out.extend_from_slice(MAGIC);
    message::encode(UNKNOWN_TYPE_META, &type_meta, &mut out);
    encode_key(UNKNOWN_RAW, WireType::LengthDelimited, &mut out);
    encode_varint(raw as u64, &mut out);
    message::encode(LIST_METADATA, metadata, &mut out);
    out.into()
}

/// What stands before an item of a list.
pub fn item_head(out: &mut BytesMut, item: &Bytes) {
    encode_key(LIST_ITEMS, WireType::LengthDelimited, out);
    encode_varint(item.len() as u64, out);
}

/// One frame of a watch: its length, and an event around a sealed object.
pub fn frame(kind: &str, sealed: Bytes) -> Bytes {
    let event = WatchEvent { kind: kind.into(), object: Some(RawExtension { raw: sealed }) }.encode_to_vec();
    let mut out = Vec::with_capacity(4 + event.len());
    out.extend_from_slice(&u32::try_from(event.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(&event);
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_again_and_what_is_not_is_refused() {
        let sealed = seal("apps/v1", "Deployment", Bytes::from_static(b"raw"));
        assert!(sealed.starts_with(b"k8s\0\x0a"));
        let opened = open(&sealed).expect("sealed");
        assert_eq!(
            (opened.api_version.as_str(), opened.kind.as_str(), &opened.raw[..]),
            ("apps/v1", "Deployment", &b"raw"[..])
        );
        for bad in [&b""[..], b"{}", b"k8s\0\xff", b"k8s"] {
            assert_eq!(open(&Bytes::from_static(bad)).err().map(|e| e.code()), Some(400), "{bad:?}");
        }
    }

    #[test]
    fn a_list_in_pieces_is_one_message() {
        #[derive(Clone, PartialEq, Message)]
        struct List {
            #[prost(message, optional, tag = "1")]
            metadata: Option<skiff_proto::metav1::ListMeta>,
            #[prost(bytes = "bytes", repeated, tag = "2")]
            items: Vec<Bytes>,
        }
        for count in [0, 1, 300] {
            let metadata = skiff_proto::metav1::ListMeta { resource_version: "7".into(), ..Default::default() };
            let items: Vec<Bytes> = (0..count).map(|i| Bytes::from("x".repeat(i))).collect();
            let mut whole = BytesMut::from(&list_head("v1", "PodList", &metadata, &items)[..]);
            for item in &items {
                item_head(&mut whole, item);
                whole.extend_from_slice(item);
            }
            let opened = open(&whole.freeze()).expect("sealed");
            assert_eq!((opened.api_version.as_str(), opened.kind.as_str()), ("v1", "PodList"));
            let wanted = List { metadata: Some(metadata), items };
            assert_eq!(List::decode(opened.raw).expect("a list"), wanted);
        }
    }

    #[test]
    fn a_frame_says_how_long_it_is() {
        let frame = frame("ADDED", Bytes::from_static(b"x"));
        assert_eq!(u32::from_be_bytes([frame[0], frame[1], frame[2], frame[3]]) as usize, frame.len() - 4);
    }
}
