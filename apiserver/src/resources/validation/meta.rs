//! Checks of ObjectMeta, on create and on update.

use super::{IMMUTABLE, child, names};
use crate::resources::field_error::Errors;
use skiff_proto::metav1::{ObjectMeta, OwnerReference};
use std::collections::BTreeMap;

/// Keys and values of all annotations together.
const ANNOTATIONS_MAX: usize = 256 * 1024;
/// Finalizers that need no domain.
const PLAIN_FINALIZERS: &[&str] = &["foregroundDeletion", "orphan", "kubernetes"];

/// A rule for the names of a kind.
pub type NameRule = fn(&str) -> names::Problems;

/// Checks metadata as created or after an update.
pub fn object_meta(meta: &ObjectMeta, namespaced: bool, rule: NameRule) -> Errors {
    let mut errors = Errors::new();
    if meta.name.is_empty() {
        errors.required("metadata.name", "name or generateName is required");
    } else {
        for problem in rule(&meta.name) {
            errors.invalid("metadata.name", &meta.name, problem);
        }
        for problem in names::path_segment(&meta.name) {
            errors.invalid("metadata.name", &meta.name, problem);
        }
    }
    if namespaced {
        if meta.namespace.is_empty() {
            errors.required("metadata.namespace", "");
        } else {
            for problem in names::dns1123_label(&meta.namespace) {
                errors.invalid("metadata.namespace", &meta.namespace, problem);
            }
        }
    } else if !meta.namespace.is_empty() {
        errors.forbidden("metadata.namespace", "not allowed on this type");
    }
    errors.append(labels(&meta.labels, "metadata.labels"));
    annotations(&meta.annotations, &mut errors);
    owner_references(&meta.owner_references, &mut errors);
    finalizers(&meta.finalizers, &mut errors);
    errors
}

/// A set of labels.
pub fn labels(labels: &BTreeMap<String, String>, path: &str) -> Errors {
    let mut errors = Errors::new();
    for (key, value) in labels {
        for problem in names::qualified_name(key) {
            errors.invalid(path, key, problem);
        }
        for problem in names::label_value(value) {
            errors.invalid(path, value, problem);
        }
    }
    errors
}

fn annotations(annotations: &BTreeMap<String, String>, errors: &mut Errors) {
    let mut total = 0;
    for (key, value) in annotations {
        // Keys of annotations are compared without regard to case.
        for problem in names::qualified_name(&key.to_ascii_lowercase()) {
            errors.invalid("metadata.annotations", key, problem);
        }
        total += key.len() + value.len();
    }
    if total > ANNOTATIONS_MAX {
        errors.too_long("metadata.annotations", ANNOTATIONS_MAX);
    }
}

fn owner_references(owners: &[OwnerReference], errors: &mut Errors) {
    let mut controller: Option<&OwnerReference> = None;
    for (i, owner) in owners.iter().enumerate() {
        let path = super::index("metadata", "ownerReferences", i);
        if owner.api_version.is_empty() || owner.api_version.matches('/').count() > 1 {
            errors.invalid(child(&path, "apiVersion"), &owner.api_version, "version must not be empty");
        }
        for (field, value) in [("kind", &owner.kind), ("name", &owner.name), ("uid", &owner.uid)] {
            if value.is_empty() {
                errors.invalid(child(&path, field), value, format!("{field} must not be empty"));
            }
        }
        if owner.kind == "Event" && owner.api_version == "v1" {
            errors.invalid(path.clone(), &owner.kind, "is disallowed from being an owner");
        }
        if owner.controller == Some(true) {
            match controller {
                None => controller = Some(owner),
                Some(first) => errors.invalid(
                    "metadata.ownerReferences",
                    &owner.name,
                    format!(
                        "Only one reference can have Controller set to true. Found \"true\" in references for {}/{} and {}/{}",
                        first.kind, first.name, owner.kind, owner.name
                    ),
                ),
            }
        }
    }
}

fn finalizers(finalizers: &[String], errors: &mut Errors) {
    for name in finalizers {
        for problem in names::qualified_name(name) {
            errors.invalid("metadata.finalizers", name, problem);
        }
        if !name.contains('/') && !PLAIN_FINALIZERS.contains(&name.as_str()) {
            errors.invalid(
                "metadata.finalizers",
                name,
                "name is neither a standard finalizer name nor is it fully qualified",
            );
        }
    }
    if finalizers.iter().any(|f| f == "orphan") && finalizers.iter().any(|f| f == "foregroundDeletion") {
        errors.invalid(
            "metadata.finalizers",
            finalizers.join(","),
            "finalizer orphan and foregroundDeletion cannot be both set",
        );
    }
}

/// What an update may not change. Server-owned fields were copied from the old object before.
pub fn object_meta_update(new: &ObjectMeta, old: &ObjectMeta) -> Errors {
    let mut errors = Errors::new();
    for (path, new, old) in
        [("metadata.name", &new.name, &old.name), ("metadata.namespace", &new.namespace, &old.namespace)]
    {
        if new != old {
            errors.invalid(path, new, IMMUTABLE);
        }
    }
    if old.deletion_timestamp.is_some() {
        let added: Vec<&str> =
            new.finalizers.iter().filter(|f| !old.finalizers.contains(f)).map(String::as_str).collect();
        if !added.is_empty() {
            errors.forbidden(
                "metadata.finalizers",
                format!(
                    "no new finalizers can be added if the object is being deleted, found new finalizers {added:?}"
                ),
            );
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(meta: ObjectMeta, namespaced: bool) -> Vec<String> {
        object_meta(&meta, namespaced, names::dns1123_subdomain).into_vec().iter().map(ToString::to_string).collect()
    }

    fn named(name: &str) -> ObjectMeta {
        ObjectMeta { name: name.into(), namespace: "default".into(), ..Default::default() }
    }

    #[test]
    fn every_error_of_metadata_is_reported() {
        let mut meta = named("Bad_Name");
        meta.labels.insert("-x".into(), "a b".into());
        meta.annotations.insert("big".into(), "x".repeat(ANNOTATIONS_MAX));
        meta.finalizers = vec!["mine".into()];
        meta.owner_references = vec![OwnerReference::default()];
        let all = found(meta, true).join("\n");
        for part in [
            "metadata.name: Invalid value: \"Bad_Name\"",
            "metadata.labels: Invalid value: \"-x\"",
            "metadata.labels: Invalid value: \"a b\"",
            "metadata.annotations: Too long",
            "metadata.finalizers: Invalid value: \"mine\"",
            "metadata.ownerReferences[0].uid: Invalid value: \"\": uid must not be empty",
        ] {
            assert!(all.contains(part), "missing {part:?} in\n{all}");
        }
    }

    #[test]
    fn two_controllers_are_refused() {
        let owner = OwnerReference {
            api_version: "apps/v1".into(),
            kind: "ReplicaSet".into(),
            name: "a".into(),
            uid: "1".into(),
            controller: Some(true),
            ..Default::default()
        };
        let mut meta = named("a");
        meta.owner_references = vec![owner.clone(), owner];
        assert!(found(meta, true)[0].contains("Only one reference can have Controller set to true"));
    }

    #[test]
    fn a_namespace_is_required_or_forbidden() {
        assert!(found(named("a"), true).is_empty());
        assert!(found(named("a"), false)[0].contains("metadata.namespace: Forbidden"));
    }

    #[test]
    fn names_do_not_change_and_finalizers_are_not_added_while_deleting() {
        let mut old = named("a");
        old.deletion_timestamp = Some(skiff_proto::Time::from_unix(1));
        let mut new = named("b");
        new.finalizers = vec!["example.com/x".into()];
        assert_eq!(object_meta_update(&new, &old).into_vec().len(), 2);
    }
}
