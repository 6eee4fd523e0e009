//! ConfigMap and Secret: keys and bytes, that may be made unchangeable.

use crate::cache::FieldKind;
use crate::resources::field_error::Errors;
use crate::resources::strategy::{KindStrategy, SelectableFields};
use crate::resources::validation::{self, key};
use skiff_proto::corev1::{ConfigMap, Secret};

/// The most data one of them may hold.
const DATA_MAX: usize = 1024 * 1024;

const SEALED: &str = "field is immutable when `immutable` is set";

fn keys<'a>(names: impl Iterator<Item = &'a String>, path: &str, errors: &mut Errors) {
    for name in names {
        for problem in validation::config_key(name) {
            errors.invalid(key(path, name), name, problem);
        }
    }
}

pub struct ConfigMapStrategy;

impl KindStrategy for ConfigMapStrategy {
    type Kind = ConfigMap;

    fn validate(&self, map: &ConfigMap) -> Errors {
        let mut errors = Errors::new();
        keys(map.data.keys(), "data", &mut errors);
        keys(map.binary_data.keys(), "binaryData", &mut errors);
        for name in map.binary_data.keys().filter(|name| map.data.contains_key(*name)) {
            errors.invalid(key("data", name), name, "duplicate of key present in binaryData");
        }
        let size = map.data.values().map(String::len).sum::<usize>()
            + map.binary_data.values().map(|v| v.len()).sum::<usize>();
        if size > DATA_MAX {
            errors.too_long("", DATA_MAX);
        }
        errors
    }

    fn validate_update(&self, new: &ConfigMap, old: &ConfigMap) -> Errors {
        let mut errors = Errors::new();
        if old.immutable == Some(true) {
            if new.immutable != Some(true) {
                errors.forbidden("immutable", SEALED);
            }
            if new.data != old.data {
                errors.forbidden("data", SEALED);
            }
            if new.binary_data != old.binary_data {
                errors.forbidden("binaryData", SEALED);
            }
        }
        errors
    }
}

pub struct SecretStrategy;

/// Keys that Secrets of certain types must have.
fn required_keys(kind: &str) -> &'static [&'static str] {
    match kind {
        "kubernetes.io/tls" => &["tls.crt", "tls.key"],
        "kubernetes.io/dockerconfigjson" => &[".dockerconfigjson"],
        "kubernetes.io/dockercfg" => &[".dockercfg"],
        "kubernetes.io/ssh-auth" => &["ssh-privatekey"],
        _ => &[],
    }
}

impl KindStrategy for SecretStrategy {
    type Kind = Secret;
    const SELECTABLE: SelectableFields = &[("type", &[3], FieldKind::String)];

    fn default(&self, secret: &mut Secret) {
        if secret.r#type.is_empty() {
            secret.r#type = "Opaque".into();
        }
        // The write-only text goes where all data is.
        for (name, text) in std::mem::take(&mut secret.string_data) {
            secret.data.insert(name, text.into_bytes());
        }
    }

    fn validate(&self, secret: &Secret) -> Errors {
        let mut errors = Errors::new();
        keys(secret.data.keys(), "data", &mut errors);
        if secret.data.values().map(|v| v.len()).sum::<usize>() > DATA_MAX {
            errors.too_long("data", DATA_MAX);
        }
        for name in required_keys(&secret.r#type) {
            if !secret.data.contains_key(*name) {
                errors.required(key("data", name), "");
            }
        }
        if secret.r#type == "kubernetes.io/basic-auth"
            && !secret.data.contains_key("username")
            && !secret.data.contains_key("password")
        {
            errors.required("data[username]", "");
            errors.required("data[password]", "");
        }
        errors
    }

    fn validate_update(&self, new: &Secret, old: &Secret) -> Errors {
        let mut errors = Errors::new();
        if new.r#type != old.r#type {
            errors.invalid("type", &new.r#type, validation::IMMUTABLE);
        }
        if old.immutable == Some(true) {
            if new.immutable != Some(true) {
                errors.forbidden("immutable", SEALED);
            }
            if new.data != old.data {
                errors.forbidden("data", SEALED);
            }
        }
        errors
    }
}
