//! What kinds of objects there are, and what is particular to each.
//!
//! The registry, the cache and both faces know resources only by the `Table`, which is looked up at run time and may grow
//! while the server runs. A `Resource` has a name, a `Schema`, and a `Strategy`: defaults, validation, what a status
//! write may change, which fields can be selected. Built-in kinds have a file each under `kinds/`, written against their
//! Rust structs; a kind without one is stored as JSON and goes the same ways (`custom/`).

mod field_error;
mod kinds;
mod object;
mod pod_defaults;
mod strategy;
mod table;
pub mod validation;
mod warnings;

pub use field_error::{Errors, FieldError, FieldErrorKind, Shown};
pub use kinds::{
    EVENT_LIFE, SYSTEM_CLASSES, built_in, event_view, has_address, has_node_ports, take_ephemeral_containers,
};
pub use object::{JsonObject, Object, Typed};
pub use strategy::{DecodeError, Decoded, KindStrategy, Strategy, StrategyFor, yaml_document, yaml_to_tree};
pub use table::{Fields, Resource, ResourceId, Rows, Table, newer_version};

/// Kubernetes' protobuf, without its envelope.
pub const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
/// JSON.
pub const JSON: &str = "application/json";
/// YAML.
pub const YAML: &str = "application/yaml";
