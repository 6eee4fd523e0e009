//! The Schema of every message, as the literals of static data.

use std::fmt::Write;

use crate::model::{Field, Message, Model, Shape, Type};

/// What a CustomResourceDefinition says of a value.
const SCHEMA: &str = "k8s.io.apiextensions_apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";

/// The list of all objects, and which of them are the roots of which kinds.
pub fn generate(model: &Model) -> (String, String) {
    let place = |full_name: &str| {
        let found = model.messages.iter().position(|m| m.full_name == full_name);
        found.expect("every referenced message is in the model")
    };
    let mut objects = String::from("[\n");
    let mut kinds = String::from("[\n");
    for (i, message) in model.messages.iter().enumerate() {
        let mut fields = vec![];
        collect(model, message, &mut fields);
        let _ = writeln!(
            objects,
            "Object {{ name: Cow::Borrowed({:?}), description: Cow::Borrowed({:?}), open: false, atomic: {}, fields: Cow::Borrowed(&[",
            message.name, message.description, message.whole
        );
        for field in fields {
            let _ = writeln!(objects, "{},", literal(field, &place));
        }
        objects.push_str("]) },\n");
        if let Some(kind) = &message.kind {
            let _ = writeln!(kinds, "({:?}, {:?}, {:?}, {i}),", kind.group, kind.version, message.name);
        }
    }
    objects.push(']');
    kinds.push(']');
    (objects, kinds)
}

/// A message's fields, with those that JSON inlines in their place.
fn collect<'m>(model: &'m Model, message: &'m Message, into: &mut Vec<&'m Field>) {
    for field in &message.fields {
        match &field.ty {
            Type::Message(name) if field.inline => collect(model, model.message(name), into),
            _ => into.push(field),
        }
    }
}

fn literal(field: &Field, place: &dyn Fn(&str) -> usize) -> String {
    let shape = match field.shape {
        Shape::List => "List",
        Shape::Map => "Map",
        _ => "Single",
    };
    let of_schema = format!("Object({})", place(SCHEMA));
    let of = match &field.ty {
        Type::Scalar("Bool") => "Boolean".to_owned(),
        Type::Scalar("Int32" | "Int64") => "Integer".to_owned(),
        Type::Scalar("Bytes") => "Bytes".to_owned(),
        Type::Scalar("Double") => "Number".to_owned(),
        Type::Scalar(_) => "String".to_owned(),
        Type::Message(name) => format!("Object({})", place(name)),
        Type::HandWritten(rust) => match rust.rsplit("::").next() {
            Some("Time" | "MicroTime") => "Time",
            Some("Quantity") => "Quantity",
            Some("IntOrString") => "IntOrString",
            // A schema, or something shorter in its place.
            Some(name) if name.starts_with("SchemaOr") => &of_schema,
            _ => "Any",
        }
        .to_owned(),
    };
    let presence = match field.shape {
        _ if field.keep => "Always",
        Shape::Value => "Always",
        Shape::Optional | Shape::Boxed => "WhenSet",
        _ => "WhenNonZero",
    };
    let strategies: Vec<&str> = field.patch_strategy.split(',').collect();
    let merge = if strategies.contains(&"merge") && field.shape == Shape::List {
        "List"
    } else if strategies.contains(&"replace") {
        "Replace"
    } else {
        "Default"
    };
    let list = match field.list_type.as_str() {
        "set" => "Set",
        "map" => "Map",
        _ => "Atomic",
    };
    let keys: Vec<String> = field.list_map_keys.iter().map(|k| format!("Cow::Borrowed({k:?})")).collect();
    let keys = keys.join(", ");
    format!(
        "Field {{ name: Cow::Borrowed({:?}), description: Cow::Borrowed({:?}), shape: Shape::{shape}, of: Type::{of}, presence: Presence::{presence}, merge: Merge::{merge}, merge_key: Cow::Borrowed({:?}), list: ListType::{list}, list_map_keys: Cow::Borrowed(&[{keys}]), atomic: {}, retain_keys: {}, immutable: {}, default: Cow::Borrowed({:?}) }}",
        field.name,
        field.description,
        field.merge_key,
        field.atomic,
        strategies.contains(&"retainKeys"),
        field.immutable,
        field.default
    )
}
