//! The `Kind` of every message that stands alone.

use crate::model::Model;
use std::fmt::Write;

pub fn generate(model: &Model) -> String {
    let mut out = String::new();
    for message in &model.messages {
        let Some(kind) = &message.kind else { continue };
        let has_object_meta = message.fields.iter().any(|f| {
            f.name == "metadata"
                && matches!(&f.ty, crate::model::Type::Message(m) if m.ends_with(".ObjectMeta"))
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
    out
}
