//! JSON documents kept as their bytes.

use prost::bytes::{Buf, BufMut};
use prost::encoding::{self, DecodeContext, WireType};

macro_rules! raw_json {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, Default)]
        pub struct $name {
            /// The JSON text; empty stands for null.
            pub raw: Vec<u8>,
        }

        impl $name {
            /// From a JSON value.
            pub fn from_value(value: &serde_json::Value) -> $name {
                $name { raw: value.to_string().into_bytes() }
            }

            /// As a JSON value; null when there is nothing or the bytes are no JSON.
            pub fn value(&self) -> serde_json::Value {
                serde_json::from_slice(&self.raw).unwrap_or_default()
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&String::from_utf8_lossy(&self.raw))
            }
        }

        impl prost::Message for $name {
            fn encode_raw(&self, buf: &mut impl BufMut) {
                if !self.raw.is_empty() {
                    encoding::bytes::encode(1, &self.raw, buf);
                }
            }

            fn merge_field(
                &mut self,
                tag: u32,
                wire_type: WireType,
                buf: &mut impl Buf,
                ctx: DecodeContext,
            ) -> Result<(), prost::DecodeError> {
                match tag {
                    1 => encoding::bytes::merge(wire_type, &mut self.raw, buf, ctx),
                    _ => encoding::skip_field(wire_type, tag, buf, ctx),
                }
            }

            fn encoded_len(&self) -> usize {
                if self.raw.is_empty() { 0 } else { encoding::bytes::encoded_len(1, &self.raw) }
            }

            fn clear(&mut self) {
                self.raw.clear();
            }
        }
    };
}

raw_json! {
    /// The set of fields that a manager owns, in server-side apply's own JSON.
    FieldsV1
}
raw_json! {
    /// A document inside a document, whatever its kind.
    RawExtension
}
raw_json! {
    /// Any value: what a CustomResourceDefinition's schema fills in, lists or shows.
    Json
}
