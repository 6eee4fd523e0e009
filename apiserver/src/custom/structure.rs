//! Whether a schema is structural: each place has one type, and what stands beside it (allOf, anyOf, oneOf, not) only
//! narrows what is there. In Kubernetes' words.

use super::structural::{Kind, Node};
use crate::resources::Errors;
use skiff_proto::apiextensionsv1::JsonSchemaProps;

/// Where in the whole a schema stands.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    /// At its root.
    Root,
    /// As a field, `"for specified object fields"`.
    Field,
    /// As the item of a list.
    Item,
}

/// Everything wrong with the schema of a version.
pub fn check(schema: &JsonSchemaProps, path: &str) -> Errors {
    let mut errors = Errors::new();
    if !fits(schema, 0) {
        let most = super::structural::MAX_DEPTH;
        errors.forbidden(path, format!("a schema may not be deeper than {most} levels"));
        return errors;
    }
    place(schema, path, Place::Root, &mut errors);
    // Patterns and rules are compiled once to see whether they can be; a wrong structure would be told twice.
    if errors.is_empty() {
        let node = Node::compile(schema, path, &mut errors);
        defaults(&node, path, &mut errors);
    }
    errors
}

/// Whether it is no deeper than can be stored.
fn fits(schema: &JsonSchemaProps, depth: usize) -> bool {
    depth <= super::structural::MAX_DEPTH && inside(schema).all(|inner| fits(inner, depth + 1))
}

/// All schemas inside a schema.
fn inside(s: &JsonSchemaProps) -> impl Iterator<Item = &JsonSchemaProps> {
    let or_bool = [&s.additional_properties, &s.additional_items].into_iter().flatten();
    let items = s.items.iter().flat_map(|items| items.schema.as_deref().into_iter().chain(&items.each));
    let dependencies = s.dependencies.values().filter_map(|d| d.schema.as_deref());
    s.properties
        .values()
        .chain(s.pattern_properties.values())
        .chain(s.definitions.values())
        .chain(or_bool.filter_map(|one| one.schema.as_deref()))
        .chain(items)
        .chain(dependencies)
        .chain(s.all_of.iter().chain(&s.any_of).chain(&s.one_of))
        .chain(s.not.as_deref())
}

fn place(s: &JsonSchemaProps, path: &str, at: Place, errors: &mut Errors) {
    never(s, path, errors);
    of_type(s, path, at, errors);
    extensions(s, path, at, errors);
    let any = s.additional_properties.as_ref();
    if !s.properties.is_empty() && any.is_some() {
        errors.forbidden(
            format!("{path}.additionalProperties"),
            "additionalProperties and properties are mutual exclusive",
        );
    }
    if any.is_some_and(|any| !any.allows && any.schema.is_none()) {
        errors.forbidden(format!("{path}.additionalProperties"), "additionalProperties cannot be set to false");
    }
    for (name, inner) in &s.properties {
        let inner_path = format!("{path}.properties[{name}]");
        if at == Place::Root && ["apiVersion", "kind", "metadata"].contains(&name.as_str()) {
            of_every_object(name, inner, &inner_path, errors);
            continue;
        }
        place(inner, &inner_path, Place::Field, errors);
    }
    if let Some(inner) = any.and_then(|any| any.schema.as_deref()) {
        if at == Place::Root {
            errors.forbidden(format!("{path}.additionalProperties"), "must not be used at the root");
        }
        place(inner, &format!("{path}.additionalProperties"), Place::Field, errors);
    }
    if let Some(items) = &s.items {
        if !items.each.is_empty() {
            errors.forbidden(format!("{path}.items"), "items must be a schema object and not an array");
        }
        if let Some(inner) = &items.schema {
            place(inner, &format!("{path}.items"), Place::Item, errors);
        }
    }
    for (name, list) in [("allOf", &s.all_of), ("anyOf", &s.any_of), ("oneOf", &s.one_of)] {
        for (i, inner) in list.iter().enumerate() {
            beside(s, inner, &format!("{path}.{name}[{i}]"), s.x_int_or_string, errors);
        }
    }
    if let Some(inner) = &s.not {
        beside(s, inner, &format!("{path}.not"), false, errors);
    }
}

/// What Kubernetes' schemas never have.
fn never(s: &JsonSchemaProps, path: &str, errors: &mut Errors) {
    for (name, is_set) in [
        ("$ref", !s.r#ref.is_empty()),
        ("definitions", !s.definitions.is_empty()),
        ("dependencies", !s.dependencies.is_empty()),
        ("patternProperties", !s.pattern_properties.is_empty()),
        ("additionalItems", s.additional_items.is_some()),
        ("id", !s.id.is_empty()),
        ("$schema", !s.schema.is_empty()),
    ] {
        if is_set {
            errors.forbidden(format!("{path}.{name}"), format!("{name} is not supported"));
        }
    }
    if s.unique_items {
        errors.forbidden(
            format!("{path}.uniqueItems"),
            "uniqueItems cannot be set to true since the runtime complexity becomes quadratic",
        );
    }
    if s.x_preserve_unknown_fields == Some(false) {
        errors.invalid(format!("{path}.x-kubernetes-preserve-unknown-fields"), false, "must be true or undefined");
    }
}

fn of_type(s: &JsonSchemaProps, path: &str, at: Place, errors: &mut Errors) {
    let path_of_type = format!("{path}.type");
    match (s.r#type.as_str(), at) {
        ("object", Place::Root) => {}
        ("", Place::Root) => errors.required(path_of_type, "must not be empty at the root"),
        (other, Place::Root) => errors.invalid(path_of_type, other, "must be object at the root"),
        ("", _) if s.x_int_or_string || s.x_preserve_unknown_fields == Some(true) => {}
        ("", Place::Field) => errors.required(path_of_type, "must not be empty for specified object fields"),
        ("", Place::Item) => errors.required(path_of_type, "must not be empty for specified array items"),
        (_, _) if s.x_int_or_string => {
            errors.forbidden(path_of_type, "must be empty if x-kubernetes-int-or-string is true");
        }
        (name, _) if Kind::parse(name).is_none() => {
            errors.not_supported(path_of_type, name, &["array", "boolean", "integer", "number", "object", "string"]);
        }
        _ => {}
    }
    if s.r#type == "array" && s.items.is_none() {
        errors.required(format!("{path}.items"), "must be specified");
    }
}

fn extensions(s: &JsonSchemaProps, path: &str, at: Place, errors: &mut Errors) {
    if s.x_embedded_resource && (s.r#type != "object" || at == Place::Root) {
        errors.invalid(format!("{path}.type"), &s.r#type, "must be object if x-kubernetes-embedded-resource is true");
    }
    if s.x_embedded_resource && s.properties.is_empty() && s.x_preserve_unknown_fields != Some(true) {
        errors.required(
            format!("{path}.properties"),
            "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields",
        );
    }
    if let Some(list) = s.x_list_type.as_deref() {
        let at = format!("{path}.x-kubernetes-list-type");
        match list {
            "atomic" | "set" | "map" if s.r#type != "array" => {
                errors.invalid(
                    format!("{path}.type"),
                    &s.r#type,
                    "must be array if x-kubernetes-list-type is specified",
                );
            }
            "atomic" | "set" | "map" => {}
            other => errors.not_supported(at, other, &["atomic", "set", "map"]),
        }
    }
    if let Some(map) = s.x_map_type.as_deref() {
        let at = format!("{path}.x-kubernetes-map-type");
        match map {
            "atomic" | "granular" if s.r#type != "object" => {
                errors.invalid(
                    format!("{path}.type"),
                    &s.r#type,
                    "must be object if x-kubernetes-map-type is specified",
                );
            }
            "atomic" | "granular" => {}
            other => errors.not_supported(at, other, &["atomic", "granular"]),
        }
    }
    list_keys(s, path, errors);
}

/// The keys of a list of type map are simple fields of its items, there in each of them.
fn list_keys(s: &JsonSchemaProps, path: &str, errors: &mut Errors) {
    let is_map = s.x_list_type.as_deref() == Some("map");
    let at = format!("{path}.x-kubernetes-list-map-keys");
    if !is_map {
        if !s.x_list_map_keys.is_empty() {
            errors.required(
                format!("{path}.x-kubernetes-list-type"),
                "must be map if x-kubernetes-list-map-keys is non-empty",
            );
        }
        return;
    }
    if s.x_list_map_keys.is_empty() {
        errors.required(at, "must not be empty if x-kubernetes-list-type is map");
        return;
    }
    let Some(item) = s.items.as_ref().and_then(|items| items.schema.as_deref()) else { return };
    if item.r#type != "object" {
        errors.invalid(
            format!("{path}.items.type"),
            &item.r#type,
            "must be object if parent array's x-kubernetes-list-type is map",
        );
        return;
    }
    for (i, key) in s.x_list_map_keys.iter().enumerate() {
        let Some(field) = item.properties.get(key) else {
            errors.invalid(format!("{at}[{i}]"), key, "entries must all be names of item properties");
            continue;
        };
        if ["array", "object"].contains(&field.r#type.as_str()) {
            errors.invalid(
                format!("{path}.items.properties[{key}].type"),
                &field.r#type,
                "must be a scalar type if parent array's x-kubernetes-list-type is map",
            );
        }
        if field.default.is_none() && !item.required.contains(key) {
            errors.required(
                format!("{path}.items.properties[{key}].default"),
                "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property",
            );
        }
    }
}

/// What every object has may be narrowed a little: the name by its characters.
fn of_every_object(name: &str, s: &JsonSchemaProps, path: &str, errors: &mut Errors) {
    let wanted = if name == "metadata" { "object" } else { "string" };
    if s.r#type != wanted {
        errors.invalid(format!("{path}.type"), &s.r#type, format!("must be {wanted}"));
    }
    if name == "metadata" && s.properties.keys().any(|name| !["name", "generateName"].contains(&name.as_str())) {
        errors.forbidden(
            path,
            "must not specify anything other than name and generateName, but metadata is implicitly specified",
        );
    }
}

/// A schema beside another only narrows: what it names, the other names too, and it has no type of its own.
fn beside(main: &JsonSchemaProps, s: &JsonSchemaProps, path: &str, may_have_type: bool, errors: &mut Errors) {
    never(s, path, errors);
    for (name, is_set) in [
        ("type", !s.r#type.is_empty() && !may_have_type),
        ("description", !s.description.is_empty()),
        ("default", s.default.is_some()),
        ("additionalProperties", s.additional_properties.is_some()),
        ("nullable", s.nullable),
        ("title", !s.title.is_empty()),
        ("x-kubernetes-preserve-unknown-fields", s.x_preserve_unknown_fields.is_some()),
        ("x-kubernetes-embedded-resource", s.x_embedded_resource),
        ("x-kubernetes-int-or-string", s.x_int_or_string),
        ("x-kubernetes-list-type", s.x_list_type.is_some()),
        ("x-kubernetes-list-map-keys", !s.x_list_map_keys.is_empty()),
        ("x-kubernetes-map-type", s.x_map_type.is_some()),
    ] {
        if is_set {
            errors.forbidden(format!("{path}.{name}"), "must be empty to be structural");
        }
    }
    for (name, inner) in &s.properties {
        let at = format!("{path}.properties[{name}]");
        let value = main.additional_properties.as_ref().and_then(|any| any.schema.as_deref());
        match main.properties.get(name).or(value) {
            Some(outer) => beside(outer, inner, &at, outer.x_int_or_string, errors),
            None if main.x_preserve_unknown_fields == Some(true) => beside(main, inner, &at, true, errors),
            None => {
                let outer = path.split(".allOf[").next().unwrap_or(path);
                let outer = outer.split(".anyOf[").next().and_then(|p| p.split(".oneOf[").next()).unwrap_or(outer);
                let outer = outer.split(".not").next().unwrap_or(outer);
                errors.required(format!("{outer}.properties[{name}]"), format!("because it is defined in {at}"));
            }
        }
    }
    if let Some(inner) = s.items.as_ref().and_then(|items| items.schema.as_deref()) {
        let at = format!("{path}.items");
        match main.items.as_ref().and_then(|items| items.schema.as_deref()) {
            Some(outer) => beside(outer, inner, &at, outer.x_int_or_string, errors),
            None => errors.required(at, "must be specified outside of it too"),
        }
    }
    for (name, list) in [("allOf", &s.all_of), ("anyOf", &s.any_of), ("oneOf", &s.one_of)] {
        for (i, inner) in list.iter().enumerate() {
            beside(main, inner, &format!("{path}.{name}[{i}]"), may_have_type, errors);
        }
    }
    if let Some(inner) = &s.not {
        beside(main, inner, &format!("{path}.not"), may_have_type, errors);
    }
}

/// Every default is something that its own schema takes, whole and pruned.
fn defaults(node: &Node, path: &str, errors: &mut Errors) {
    if let Some(default) = &node.default {
        let at = format!("{path}.default");
        for error in super::check::check_value(node, default).into_vec() {
            errors.invalid(at.clone(), default.clone(), error.to_string());
        }
    }
    for (name, inner) in &node.properties {
        defaults(inner, &format!("{path}.properties[{name}]"), errors);
    }
    if let Some(inner) = &node.values {
        defaults(inner, &format!("{path}.additionalProperties"), errors);
    }
    if let Some(inner) = &node.items {
        defaults(inner, &format!("{path}.items"), errors);
    }
}
