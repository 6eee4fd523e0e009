//! Event: what happened to an object; kept for an hour after its last write.

use crate::cache::FieldKind;
use crate::resources::field_error::Errors;
use crate::resources::strategy::{KindStrategy, SelectableFields};
use skiff_proto::corev1::Event;

pub struct EventStrategy;

impl KindStrategy for EventStrategy {
    type Kind = Event;
    const SELECTABLE: SelectableFields = &[
        ("involvedObject.kind", &[2, 1], FieldKind::String),
        ("involvedObject.namespace", &[2, 2], FieldKind::String),
        ("involvedObject.name", &[2, 3], FieldKind::String),
        ("involvedObject.uid", &[2, 4], FieldKind::String),
        ("involvedObject.apiVersion", &[2, 5], FieldKind::String),
        ("involvedObject.resourceVersion", &[2, 6], FieldKind::String),
        ("involvedObject.fieldPath", &[2, 7], FieldKind::String),
        ("reason", &[3], FieldKind::String),
        ("reportingComponent", &[14], FieldKind::String),
        ("source", &[5, 1], FieldKind::String),
        ("type", &[9], FieldKind::String),
    ];

    fn validate(&self, event: &Event) -> Errors {
        let mut errors = Errors::new();
        let involved = &event.involved_object.namespace;
        // Events about cluster-scoped objects live in namespace default.
        let home = if involved.is_empty() { "default" } else { involved };
        if event.metadata.namespace != home && !(involved.is_empty() && event.metadata.namespace == "kube-system") {
            errors.invalid("involvedObject.namespace", involved, "does not match event.namespace");
        }
        if event.message.len() > 1024 {
            errors.too_long("message", 1024);
        }
        if event.reason.len() > 128 {
            errors.too_long("reason", 128);
        }
        errors
    }
}
