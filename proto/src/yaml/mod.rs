//! YAML as Kubernetes reads it: YAML 1.1 scalars told apart by whether they are quoted, duplicates
//! and positions kept, into a value tree that the same deserialiser reads as JSON.
//!
//! A document is refused before it is built when it is too long, too deep, or grows by aliases.

mod read;
mod scalar;
mod tree;
mod write;

pub use read::{Limits, YamlError, parse_documents};
pub(crate) use tree::TreeError;
pub use tree::{Document, Node, Tree};
pub use write::write;

#[cfg(test)]
mod tests;
