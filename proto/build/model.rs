//! What the generators need to know of each message, read from the compiled descriptors.

use crate::naming;
use prost_reflect::{Cardinality, DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, Value};

/// Messages with a hand-written Rust type, and where it stands.
pub const HAND_WRITTEN: &[(&str, &str)] = &[
    ("k8s.io.apimachinery.pkg.apis.meta.v1.Time", "crate::scalar::Time"),
    ("k8s.io.apimachinery.pkg.apis.meta.v1.MicroTime", "crate::scalar::MicroTime"),
    ("k8s.io.apimachinery.pkg.apis.meta.v1.FieldsV1", "crate::scalar::FieldsV1"),
    ("k8s.io.apimachinery.pkg.api.resource.Quantity", "crate::scalar::Quantity"),
    ("k8s.io.apimachinery.pkg.util.intstr.IntOrString", "crate::scalar::IntOrString"),
    ("k8s.io.apimachinery.pkg.runtime.RawExtension", "crate::scalar::RawExtension"),
    ("k8s.io.apiextensions_apiserver.pkg.apis.apiextensions.v1.JSON", "crate::scalar::Json"),
    ("k8s.io.apiextensions_apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrArray", "crate::scalar::SchemaOrArray"),
    ("k8s.io.apiextensions_apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrBool", "crate::scalar::SchemaOrBool"),
    (
        "k8s.io.apiextensions_apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrStringArray",
        "crate::scalar::SchemaOrNames",
    ),
];

pub struct Model {
    pub messages: Vec<Message>,
}

pub struct Message {
    /// `k8s.io.api.core.v1.Pod`
    pub full_name: String,
    pub name: String,
    pub rust: String,
    pub description: String,
    pub kind: Option<KindFacts>,
    /// An apply replaces it as a whole.
    pub whole: bool,
    pub fields: Vec<Field>,
}

pub struct KindFacts {
    pub group: String,
    pub version: String,
    pub api_version: String,
    pub resource: String,
    pub singular: String,
    pub namespaced: bool,
    pub short_names: Vec<String>,
}

#[derive(Clone, Copy, PartialEq)]
pub enum Shape {
    /// A scalar that is always there.
    Plain,
    /// A Go pointer to a scalar, or any optional hand-written type.
    Optional,
    /// A Go pointer to a struct.
    Boxed,
    /// A Go struct by value.
    Value,
    List,
    Map,
}

pub enum Type {
    Scalar(&'static str),
    HandWritten(&'static str),
    Message(String),
}

pub struct Field {
    /// As in JSON.
    pub name: String,
    /// As in Rust, raw where it is a keyword.
    pub rust: String,
    pub shape: Shape,
    pub ty: Type,
    pub keep: bool,
    pub inline: bool,
    pub patch_strategy: String,
    pub merge_key: String,
    pub list_type: String,
    pub list_map_keys: Vec<String>,
    pub atomic: bool,
    pub immutable: bool,
    pub default: String,
    pub description: String,
}

impl Model {
    pub fn message(&self, full_name: &str) -> &Message {
        self.messages.iter().find(|m| m.full_name == full_name).expect("every referenced message is in the model")
    }
}

/// Whether the message has Kubernetes' JSON; our own service's messages have none.
pub fn is_kubernetes(full_name: &str) -> bool {
    full_name.starts_with("k8s.")
}

pub fn hand_written(full_name: &str) -> Option<&'static str> {
    HAND_WRITTEN.iter().find(|(name, _)| *name == full_name).map(|(_, rust)| *rust)
}

pub fn read(pool: &DescriptorPool) -> Result<Model, String> {
    let mut messages = Vec::new();
    for message in pool.all_messages() {
        let wanted = is_kubernetes(message.full_name()) && hand_written(message.full_name()).is_none();
        if wanted && !message.is_map_entry() {
            messages.push(read_message(pool, &message)?);
        }
    }
    Ok(Model { messages })
}

fn read_message(pool: &DescriptorPool, message: &MessageDescriptor) -> Result<Message, String> {
    // Declaration order, which is the order in JSON; `fields()` goes by number.
    let fields: Result<Vec<Field>, String> = message
        .descriptor_proto()
        .field
        .iter()
        .map(|f| message.get_field(f.number() as u32).expect("declared"))
        .map(|f| read_field(pool, &f))
        .collect();
    Ok(Message {
        full_name: message.full_name().to_owned(),
        name: message.name().to_owned(),
        rust: naming::rust_type(message.full_name()),
        description: comment(message.parent_file().file_descriptor_proto(), message.path()),
        kind: read_kind(pool, message)?,
        whole: matches!(option(pool, &message.options(), "skiff.whole"), Some(Value::Bool(true))),
        fields: fields?,
    })
}

fn read_kind(pool: &DescriptorPool, message: &MessageDescriptor) -> Result<Option<KindFacts>, String> {
    let options = message.options();
    let Some(Value::Message(facts)) = option(pool, &options, "skiff.kind") else {
        return Ok(None);
    };
    let Some(Value::Message(gv)) = option(pool, &message.parent_file().options(), "skiff.group_version") else {
        return Err(format!("{}: a kind's file needs (skiff.group_version)", message.full_name()));
    };
    let (group, version) = (text(&gv, "group"), text(&gv, "version"));
    let api_version = match text(&facts, "api_version") {
        own if !own.is_empty() => own,
        _ if group.is_empty() => version.clone(),
        _ => format!("{group}/{version}"),
    };
    let short_names = match facts.get_field_by_name("short_names").as_deref() {
        Some(Value::List(names)) => names.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    };
    let namespaced = facts.get_field_by_name("namespaced").and_then(|v| v.as_bool()).unwrap_or_default();
    let (resource, singular) = (text(&facts, "resource"), text(&facts, "singular"));
    Ok(Some(KindFacts { group, version, api_version, resource, singular, namespaced, short_names }))
}

fn read_field(pool: &DescriptorPool, field: &FieldDescriptor) -> Result<Field, String> {
    let options = field.options();
    let flag = |name| matches!(option(pool, &options, name), Some(Value::Bool(true)));
    let string = |name| match option(pool, &options, name) {
        Some(Value::String(s)) => s,
        _ => String::new(),
    };
    let list_map_keys = match option(pool, &options, "skiff.list_map_key") {
        Some(Value::List(keys)) => keys.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    };
    let kind = match field.kind() {
        Kind::Message(entry) if entry.is_map_entry() => entry.map_entry_value_field().kind(),
        kind => kind,
    };
    let ty = read_type(&kind).ok_or_else(|| format!("{}: Kubernetes has no {kind:?}", field.full_name()))?;
    let always = flag("skiff.always");
    let shape = match (&ty, field.cardinality()) {
        _ if field.is_map() => Shape::Map,
        (_, Cardinality::Repeated) => Shape::List,
        (Type::Message(_), _) if !always => Shape::Boxed,
        (Type::HandWritten(_), _) if !always => Shape::Optional,
        (Type::Scalar(_), _) if field.field_descriptor_proto().proto3_optional() => Shape::Optional,
        (Type::Scalar(_), _) => Shape::Plain,
        _ => Shape::Value,
    };
    Ok(Field {
        // The same, unless Kubernetes' JSON has a name that protobuf cannot have.
        name: field.json_name().to_owned(),
        rust: naming::rust_field(&naming::snake(field.name())),
        shape,
        ty,
        keep: flag("skiff.keep"),
        inline: flag("skiff.inline"),
        patch_strategy: string("skiff.patch_strategy"),
        merge_key: string("skiff.merge_key"),
        list_type: string("skiff.list_type"),
        list_map_keys,
        atomic: flag("skiff.atomic"),
        immutable: flag("skiff.immutable"),
        default: string("skiff.default"),
        description: comment(field.parent_message().parent_file().file_descriptor_proto(), field.path()),
    })
}

fn read_type(kind: &Kind) -> Option<Type> {
    Some(match kind {
        Kind::Bool => Type::Scalar("Bool"),
        Kind::Int32 => Type::Scalar("Int32"),
        Kind::Int64 => Type::Scalar("Int64"),
        Kind::Double => Type::Scalar("Double"),
        Kind::String => Type::Scalar("String"),
        Kind::Bytes => Type::Scalar("Bytes"),
        Kind::Message(m) => match hand_written(m.full_name()) {
            Some(rust) => Type::HandWritten(rust),
            None => Type::Message(m.full_name().to_owned()),
        },
        _ => return None,
    })
}

/// One of our options, if it is set.
fn option(pool: &DescriptorPool, options: &DynamicMessage, name: &str) -> Option<Value> {
    let extension = pool.get_extension_by_name(name)?;
    options.has_extension(&extension).then(|| options.get_extension(&extension).into_owned())
}

fn text(message: &DynamicMessage, field: &str) -> String {
    message.get_field_by_name(field).and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
}

/// The comment above the declaration at `path`, as one line.
fn comment(file: &prost_types::FileDescriptorProto, path: &[i32]) -> String {
    let locations = file.source_code_info.iter().flat_map(|info| &info.location);
    let found = locations.filter(|l| l.path == path).find_map(|l| l.leading_comments.clone());
    found.unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
}
