//! Checks that several kinds share, each a function from a value and its path to `Errors`.
//! A kind's own checks live beside its strategy.

mod ephemeral;
mod meta;
mod names;
mod pod_spec;
mod probes;
mod quantities;
mod selectors;
mod volumes;

pub use ephemeral::ephemeral_containers;
pub use meta::{NameRule, labels, object_meta, object_meta_update};
pub use names::*;
pub use pod_spec::{pod_spec, pod_template};
pub use quantities::{container_resource_name, resource_requirements};
pub use selectors::label_selector;
pub use volumes::sources as volume_sources;

use super::field_error::Errors;

/// A path one field deeper.
pub fn child(path: &str, field: &str) -> String {
    if path.is_empty() { field.to_string() } else { format!("{path}.{field}") }
}

/// A path to one item of a list.
pub fn index(path: &str, field: &str, at: usize) -> String {
    format!("{}[{at}]", child(path, field))
}

/// A path to one entry of a map.
pub fn key(path: &str, key: &str) -> String {
    format!("{path}[{key}]")
}

/// The words for a number that must not be negative.
pub const NON_NEGATIVE: &str = "must be greater than or equal to 0";

/// The words for a change of a field that may not change.
pub const IMMUTABLE: &str = "field is immutable";

/// A number that must not be negative.
pub fn non_negative(value: i64, path: impl Into<String>, errors: &mut Errors) {
    if value < 0 {
        errors.invalid(path, value, NON_NEGATIVE);
    }
}

/// A port number.
pub fn port(value: i64, path: impl Into<String>, errors: &mut Errors) {
    if !(1..=65535).contains(&value) {
        errors.invalid(path, value, "must be between 1 and 65535, inclusive");
    }
}

/// A port by number or name.
pub fn port_or_name(value: &skiff_proto::IntOrString, path: impl Into<String>, errors: &mut Errors) {
    match value {
        skiff_proto::IntOrString::Int(n) => port(i64::from(*n), path, errors),
        skiff_proto::IntOrString::Str(name) => {
            let path = path.into();
            for problem in names::port_name(name) {
                errors.invalid(path.clone(), name.as_str(), problem);
            }
        }
    }
}

/// One of an enumeration's values.
pub fn one_of(value: &str, supported: &[&str], path: impl Into<String>, errors: &mut Errors) {
    if !supported.contains(&value) {
        errors.not_supported(path, value, supported);
    }
}
