//! Server-side apply on value trees, guided by the Schema: which fields a document names, what
//! changed between two documents, a document merged into another, fields taken out of one. Who owns
//! which fields is kept by the API server; here is no manager and no object.
//!
//! The meaning of a path follows Kubernetes' structured merge: items of a list are named by their
//! keys or values where the Schema says so, a list or object that is atomic is one field.

mod merge;
mod set;
mod text;
mod walk;

pub use merge::{merge, remove};
pub use set::{FieldSet, Step};
pub use text::BadFields;
pub use walk::{BadConfiguration, Changes, compare, fields_of};

#[cfg(test)]
mod tests;
