//! The `Kind` of every message that stands alone.

use crate::model::Model;
use std::fmt::Write;

pub fn generate(model: &Model) -> String {
    let mut out = String::new();
    for message in &model.messages {
        let Some(kind) = &message.kind else { continue };
        let has_object_meta = message.fields.iter().any(|f| {
            f.name == "metadata" && matches!(&f.ty, crate::model::Type::Message(m) if m.ends_with(".ObjectMeta"))
        });
        if !has_object_meta {
            continue;
        }
        let _ = write!(
            out,
            "impl crate::Kind for {rust} {{\n\
             const GROUP: &'static str = {group:?};\n\
             const VERSION: &'static str = {version:?};\n\
             const API_VERSION: &'static str = {api_version:?};\n\
             const KIND: &'static str = {name:?};\n\
             const RESOURCE: &'static str = {resource:?};\n\
             const SINGULAR: &'static str = {singular:?};\n\
             const NAMESPACED: bool = {namespaced};\n\
             const SHORT_NAMES: &'static [&'static str] = &{shorts:?};\n\
             fn metadata(&self) -> &crate::metav1::ObjectMeta {{ &self.metadata }}\n\
             fn metadata_mut(&mut self) -> &mut crate::metav1::ObjectMeta {{ &mut self.metadata }}\n\
             }}\n",
            rust = message.rust,
            group = kind.group,
            version = kind.version,
            api_version = kind.api_version,
            name = message.name,
            resource = kind.resource,
            singular = kind.singular,
            namespaced = kind.namespaced,
            shorts = kind.short_names,
        );
    }
    out.push_str(&checks(model));
    out
}

/// For each kind, reading a document as it: for those who only learn at run time which it is.
fn checks(model: &Model) -> String {
    let mut out = String::from(
        "/// Reads a YAML document as the kind, and tells the unknown and duplicate fields.\n\
         pub(crate) fn check(group: &str, version: &str, kind: &str, document: &crate::yaml::Document) -> Option<Result<Vec<crate::json::Problem>, crate::json::DecodeError>> {\n\
         use crate::json::Strictness::Warn;\n\
         Some(match (group, version, kind) {\n",
    );
    for message in &model.messages {
        let Some(kind) = message.kind.as_ref().filter(|k| !k.resource.is_empty()) else { continue };
        let _ = writeln!(
            out,
            "({:?}, {:?}, {:?}) => document.decode::<{}>(Warn).map(|(_, problems)| problems),",
            kind.group, kind.version, message.name, message.rust
        );
    }
    out.push_str("_ => return None,\n})\n}\n");
    out
}
