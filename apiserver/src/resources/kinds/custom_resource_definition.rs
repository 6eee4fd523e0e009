//! CustomResourceDefinition: kinds that come and go while the server runs. `custom/` serves them.

use crate::custom::{CLEANUP, set_condition, structure};
use crate::resources::field_error::Errors;
use crate::resources::strategy::KindStrategy;
use crate::resources::validation::{self, one_of};
use skiff_proto::apiextensionsv1::{
    CustomResourceConversion, CustomResourceDefinition, CustomResourceDefinitionVersion, CustomResourceSubresourceScale,
};
use skiff_proto::jsonpath::JsonPath;

pub struct DefinitionStrategy;

const SCOPES: &[&str] = &["Cluster", "Namespaced"];
const COLUMN_TYPES: &[&str] = &["boolean", "date", "integer", "number", "string"];
const IMMUTABLE: &str = "field is immutable";

impl KindStrategy for DefinitionStrategy {
    type Kind = CustomResourceDefinition;
    const GENERATIONS: bool = true;
    const UNCONDITIONAL_UPDATE: bool = false;

    fn default(&self, object: &mut CustomResourceDefinition) {
        let spec = &mut object.spec;
        let names = &mut spec.names;
        if names.singular.is_empty() {
            names.singular = names.kind.to_lowercase();
        }
        if names.list_kind.is_empty() && !names.kind.is_empty() {
            names.list_kind = format!("{}List", names.kind);
        }
        spec.conversion.get_or_insert_with(|| {
            Box::new(CustomResourceConversion { strategy: "None".into(), ..Default::default() })
        });
    }

    fn prepare_for_create(&self, object: &mut CustomResourceDefinition) {
        object.status = Default::default();
        stored_version(object);
    }

    fn prepare_for_update(&self, new: &mut CustomResourceDefinition, old: &CustomResourceDefinition) {
        new.status = old.status.clone();
        stored_version(new);
    }

    fn take_status(&self, from: CustomResourceDefinition, onto: &mut CustomResourceDefinition) {
        onto.status = from.status;
    }

    fn validate(&self, object: &CustomResourceDefinition) -> Errors {
        let mut errors = Errors::new();
        let spec = &object.spec;
        if object.metadata.name != format!("{}.{}", spec.names.plural, spec.group) {
            errors.invalid("metadata.name", &object.metadata.name, "must be spec.names.plural+\".\"+spec.group");
        }
        if spec.group.is_empty() {
            errors.required("spec.group", "");
        } else {
            for why in validation::dns1123_subdomain(&spec.group) {
                errors.invalid("spec.group", &spec.group, why);
            }
            if !spec.group.contains('.') {
                errors.invalid("spec.group", &spec.group, "should be a domain with at least one dot");
            }
        }
        match spec.scope.as_str() {
            "" => errors.required("spec.scope", ""),
            scope => one_of(scope, SCOPES, "spec.scope", &mut errors),
        }
        if spec.preserve_unknown_fields {
            errors.invalid("spec.preserveUnknownFields", true, "must be false");
        }
        if let Some(conversion) = &spec.conversion {
            // A webhook would be asked for each object: there is nobody here who asks it.
            one_of(&conversion.strategy, &["None"], "spec.conversion.strategy", &mut errors);
        }
        names(object, &mut errors);
        versions(object, &mut errors);
        stored_versions(object, &mut errors);
        errors
    }

    fn validate_update(&self, new: &CustomResourceDefinition, old: &CustomResourceDefinition) -> Errors {
        let mut errors = Errors::new();
        let established = old.status.conditions.iter().any(|c| c.r#type == "Established" && c.status == "True");
        let mut fixed = |path: &str, new: &str, old: &str, holds: bool| {
            if holds && new != old {
                errors.invalid(path, new, IMMUTABLE);
            }
        };
        let (new, old) = (&new.spec, &old.spec);
        fixed("spec.group", &new.group, &old.group, true);
        fixed("spec.names.plural", &new.names.plural, &old.names.plural, true);
        fixed("spec.scope", &new.scope, &old.scope, established);
        fixed("spec.names.kind", &new.names.kind, &old.names.kind, established);
        errors
    }

    fn validate_status_update(&self, new: &CustomResourceDefinition, _old: &CustomResourceDefinition) -> Errors {
        let mut errors = Errors::new();
        stored_versions(new, &mut errors);
        errors
    }

    fn desired_changed(&self, new: &CustomResourceDefinition, old: &CustomResourceDefinition) -> bool {
        new.spec != old.spec
    }

    /// It stays until its objects are gone.
    fn begin_deletion(&self, object: &mut CustomResourceDefinition) {
        if !object.metadata.finalizers.iter().any(|f| f == CLEANUP) {
            object.metadata.finalizers.push(CLEANUP.into());
        }
        let now = object.metadata.deletion_timestamp.unwrap_or_default();
        let message = "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon";
        set_condition(&mut object.status, "Terminating", true, "InstanceDeletionPending", message, now);
    }
}

/// Objects may be stored in this version from now on.
fn stored_version(object: &mut CustomResourceDefinition) {
    let Some(version) = object.spec.versions.iter().find(|v| v.storage) else { return };
    if !object.status.stored_versions.contains(&version.name) {
        object.status.stored_versions.push(version.name.clone());
    }
}

fn stored_versions(object: &CustomResourceDefinition, errors: &mut Errors) {
    for (i, stored) in object.status.stored_versions.iter().enumerate() {
        if !object.spec.versions.iter().any(|v| &v.name == stored) {
            errors.invalid(format!("status.storedVersions[{i}]"), stored, "missing from spec.versions");
        }
    }
}

fn names(object: &CustomResourceDefinition, errors: &mut Errors) {
    let names = &object.spec.names;
    let lists = names.short_names.iter().enumerate().map(|(i, name)| (format!("shortNames[{i}]"), name.clone()));
    let categories = names.categories.iter().enumerate().map(|(i, name)| (format!("categories[{i}]"), name.clone()));
    let plain = [
        ("plural", names.plural.clone()),
        ("singular", names.singular.clone()),
        ("kind", names.kind.to_lowercase()),
        ("listKind", names.list_kind.to_lowercase()),
    ];
    for (field, name) in plain.into_iter().map(|(f, n)| (f.to_owned(), n)).chain(lists).chain(categories) {
        let path = format!("spec.names.{field}");
        if name.is_empty() {
            errors.required(path, "");
            continue;
        }
        for why in validation::dns1035_label(&name) {
            let why = if field.ends_with("ind") {
                format!("may have mixed case, but should otherwise match: {why}")
            } else {
                why
            };
            errors.invalid(path.clone(), &name, why);
        }
    }
    if !names.kind.is_empty() && names.kind == names.list_kind {
        errors.invalid("spec.names.listKind", &names.list_kind, "kind and listKind may not be the same");
    }
}

fn versions(object: &CustomResourceDefinition, errors: &mut Errors) {
    let versions = &object.spec.versions;
    let mut names: Vec<&str> = versions.iter().map(|v| v.name.as_str()).collect();
    if versions.iter().filter(|v| v.storage).count() != 1 {
        errors.invalid("spec.versions", names.join(","), "must have exactly one version marked as storage version");
    }
    names.sort_unstable();
    if names.windows(2).any(|pair| pair[0] == pair[1]) {
        errors.invalid("spec.versions", names.join(","), "must contain unique version names");
    }
    for (i, version) in versions.iter().enumerate() {
        one_version(version, &format!("spec.versions[{i}]"), errors);
    }
}

fn one_version(version: &CustomResourceDefinitionVersion, path: &str, errors: &mut Errors) {
    for why in validation::dns1035_label(&version.name) {
        errors.invalid(format!("{path}.name"), &version.name, why);
    }
    if version.deprecation_warning.is_some() && !version.deprecated {
        errors.invalid(
            format!("{path}.deprecationWarning"),
            version.deprecation_warning.clone().unwrap_or_default(),
            "can only be set for deprecated versions",
        );
    }
    let at = format!("{path}.schema.openAPIV3Schema");
    match version.schema.as_ref().and_then(|s| s.open_apiv3_schema.as_deref()) {
        Some(schema) => errors.append(structure::check(schema, &at)),
        None => errors.required(at, "schemas are required"),
    }
    for (i, column) in version.additional_printer_columns.iter().enumerate() {
        let at = format!("{path}.additionalPrinterColumns[{i}]");
        if column.name.is_empty() {
            errors.required(format!("{at}.name"), "");
        }
        match column.r#type.as_str() {
            "" => {
                let words = COLUMN_TYPES.join(",");
                errors.required(format!("{at}.type"), format!("must be one of {words}"));
            }
            kind => one_of(kind, COLUMN_TYPES, format!("{at}.type"), errors),
        }
        match JsonPath::parse(&column.json_path) {
            _ if column.json_path.is_empty() => errors.required(format!("{at}.jsonPath"), ""),
            Ok(_) if column.json_path.starts_with('.') || column.json_path.starts_with('{') => {}
            Ok(_) => errors.invalid(format!("{at}.jsonPath"), &column.json_path, "must begin with a dot"),
            Err(why) => errors.invalid(format!("{at}.jsonPath"), &column.json_path, why),
        }
    }
    for (i, field) in version.selectable_fields.iter().enumerate() {
        plain_path(&field.json_path, &[], format!("{path}.selectableFields[{i}].jsonPath"), errors);
    }
    if let Some(scale) = version.subresources.as_ref().and_then(|s| s.scale.as_ref()) {
        scale_paths(scale, &format!("{path}.subresources.scale"), errors);
    }
}

fn scale_paths(scale: &CustomResourceSubresourceScale, path: &str, errors: &mut Errors) {
    plain_path(&scale.spec_replicas_path, &[".spec."], format!("{path}.specReplicasPath"), errors);
    plain_path(&scale.status_replicas_path, &[".status."], format!("{path}.statusReplicasPath"), errors);
    if let Some(selector) = scale.label_selector_path.as_deref().filter(|path| !path.is_empty()) {
        plain_path(selector, &[".spec.", ".status."], format!("{path}.labelSelectorPath"), errors);
    }
}

/// A path of names alone, under one of some fields.
fn plain_path(value: &str, under: &[&str], path: String, errors: &mut Errors) {
    if value.is_empty() {
        errors.required(path, "");
    } else if value.contains(['[', ']', '{', '}', '*', '/']) || !value.starts_with('.') || value.contains("..") {
        errors.invalid(path, value, "must be a simple json path: names, each behind a dot");
    } else if !under.is_empty() && !under.iter().any(|u| value.starts_with(u)) {
        errors.invalid(
            path,
            value,
            format!("should be a json path under {}", under.join(" or ").replace(". ", " ").trim_end_matches('.')),
        );
    }
}
