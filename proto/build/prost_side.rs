//! The messages and the gRPC stubs, by prost and tonic.

use crate::model::{self, Model, Shape};
use crate::naming;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FileDescriptorSet};

pub fn generate(mut set: FileDescriptorSet, model: &Model) -> std::io::Result<()> {
    set.file.retain(|file| file.package().starts_with("k8s.") || file.package() == "skiff.v1");
    for file in set.file.iter_mut().filter(|file| model::is_kubernetes(file.package())) {
        let package = file.package().to_owned();
        for message in &mut file.message_type {
            prepare(&package, message, model);
        }
    }

    let mut config = tonic_prost_build::Config::new();
    config.btree_map(["."]);
    // Bodies are shared between watchers and answers, not copied.
    config.bytes([".skiff.v1"]);
    config.include_file("generated.rs");
    for (name, rust) in model::HAND_WRITTEN {
        config.extern_path(format!(".{name}"), *rust);
    }
    for message in &model.messages {
        for field in message.fields.iter().filter(|f| f.shape == Shape::Boxed) {
            config.boxed(format!(".{}.{}", message.full_name, naming::snake(&field.name)));
        }
    }
    tonic_prost_build::configure().build_transport(false).compile_fds_with_config(set, config)
}

/// Turns value structs into required fields, for which prost makes a plain `T`, and gives every
/// field the name that it shall have in Rust.
fn prepare(package: &str, message: &mut DescriptorProto, model: &Model) {
    let full_name = format!("{package}.{}", message.name());
    if model::hand_written(&full_name).is_some() {
        return;
    }
    let facts = model.message(&full_name);
    for (field, facts) in message.field.iter_mut().zip(&facts.fields) {
        if facts.shape == Shape::Value && field.r#type() == Type::Message {
            field.set_label(Label::Required);
        }
        field.name = Some(naming::snake(field.name()));
    }
}
