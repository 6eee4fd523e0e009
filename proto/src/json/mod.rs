//! Kubernetes' JSON. The build writes, per message, which key is which field; the loops stand here.
//! Reading tells unknown and duplicate fields with their full paths, also below fields that JSON
//! inlines, and where a value has the wrong type.

mod field;
mod message;
mod path;
mod problem;
mod scalars;
mod schema_or;

pub use problem::{DecodeError, Problem, Strictness};

pub(crate) use field::{Field, Out, read_value};
pub(crate) use message::{Message, TypeMeta, deserialize, read_message, serialize, write_message};
pub(crate) use path::{Context, Path};

use serde_json::Value;

/// The largest document that is read unless a caller says otherwise: what Kubernetes takes as well.
pub const MAX_BYTES: usize = 3 * 1024 * 1024;

/// What the crate can read from and write to JSON: every message of the API.
pub trait Json: Message {}
impl<T: Message> Json for T {}

/// Reads one document. Unknown and duplicate fields are an error, a list beside the result, or
/// nothing, as `strictness` says. At most [`MAX_BYTES`] long and 128 levels deep.
pub fn decode<T: Json>(bytes: &[u8], strictness: Strictness) -> Result<(T, Vec<Problem>), DecodeError> {
    if bytes.len() > MAX_BYTES {
        return Err(DecodeError::too_large(bytes.len(), MAX_BYTES));
    }
    let mut source = serde_json::Deserializer::from_slice(bytes);
    let context = Context::new(strictness);
    let read = read_message(&mut source, &Path::root(&context)).and_then(|v| source.end().map(|()| v));
    context.finish(read.map_err(|e| (e.to_string(), e.line(), e.column())))
}

/// Reads a value that was parsed or merged before. A tree keeps no duplicates, so none are told.
pub fn decode_value<T: Json>(value: &Value, strictness: Strictness) -> Result<(T, Vec<Problem>), DecodeError> {
    let context = Context::new(strictness);
    let read = read_message(value, &Path::root(&context));
    context.finish(read.map_err(|e: serde_json::Error| (e.to_string(), 0, 0)))
}

/// Reads a tree that was parsed from YAML: duplicates are still in it, and errors know their line.
pub(crate) fn decode_tree<T: Json>(
    node: &crate::yaml::Node,
    strictness: Strictness,
) -> Result<(T, Vec<Problem>), DecodeError> {
    let context = Context::new(strictness);
    let read = read_message(node, &Path::root(&context));
    context.finish(read.map_err(|e: crate::yaml::TreeError| (e.message, e.line, e.column)))
}

/// Writes one document, kinds with `apiVersion` and `kind`.
pub fn encode<T: Json>(message: &T) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    let mut writer = serde_json::Serializer::new(&mut out);
    // Writing into memory cannot fail, and no field's writer does.
    serialize(message, &mut writer).expect("messages always have JSON");
    out
}

/// The same as a value tree, in the order of the fields.
pub fn encode_value<T: Json>(message: &T) -> Value {
    serialize(message, serde_json::value::Serializer).expect("messages always have JSON")
}

// What build/json_side.rs makes of the messages.
include!(concat!(env!("OUT_DIR"), "/json.rs"));

#[cfg(test)]
mod tests;
