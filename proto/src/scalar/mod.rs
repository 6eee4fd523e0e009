//! The hand-written types: those that JSON writes as one value and protobuf as a small message.

mod int_or_string;
mod quantity;
mod raw;
mod schema_or;
mod time;

pub use int_or_string::{IntOrString, NotAPercentage};
pub use quantity::{BadQuantity, Quantity};
pub use raw::{FieldsV1, Json, RawExtension};
pub use schema_or::{SchemaOrArray, SchemaOrBool, SchemaOrNames};
pub use time::{BadTime, MicroTime, Time};
