//! Namespace: deleted in two steps. Deleting marks it Terminating; it goes when its `spec.finalizers` are gone, which
//! a controller takes away (`/finalize`) once nothing is left inside.

use crate::cache::FieldKind;
use crate::resources::field_error::Errors;
use crate::resources::strategy::{KindStrategy, SelectableFields};
use crate::resources::validation::{self, NameRule, child, index};
use skiff_proto::corev1::Namespace;

/// The finalizer every namespace begins with.
pub const FINALIZER: &str = "kubernetes";

pub struct NamespaceStrategy;

impl KindStrategy for NamespaceStrategy {
    type Kind = Namespace;
    const SELECTABLE: SelectableFields = &[("status.phase", &[3, 1], FieldKind::String)];

    fn default(&self, ns: &mut Namespace) {
        // Every namespace can be selected by its name.
        ns.metadata.labels.insert("kubernetes.io/metadata.name".into(), ns.metadata.name.clone());
    }

    fn prepare_for_create(&self, ns: &mut Namespace) {
        ns.status = Default::default();
        ns.status.phase = "Active".into();
        if !ns.spec.finalizers.iter().any(|f| f == FINALIZER) {
            ns.spec.finalizers.push(FINALIZER.into());
        }
    }

    fn prepare_for_update(&self, new: &mut Namespace, old: &Namespace) {
        new.status = old.status.clone();
        new.spec.finalizers = old.spec.finalizers.clone();
    }

    fn take_status(&self, from: Namespace, onto: &mut Namespace) {
        onto.status = from.status;
    }

    fn validate(&self, ns: &Namespace) -> Errors {
        let mut errors = Errors::new();
        for (i, finalizer) in ns.spec.finalizers.iter().enumerate() {
            for problem in validation::qualified_name(finalizer) {
                errors.invalid(index("spec", "finalizers", i), finalizer, problem);
            }
        }
        errors
    }

    fn validate_status_update(&self, new: &Namespace, _old: &Namespace) -> Errors {
        let mut errors = Errors::new();
        let path = child("status", "phase");
        let deleting = new.metadata.deletion_timestamp.is_some();
        if !deleting && new.status.phase != "Active" {
            errors.invalid(path, &new.status.phase, "may only be 'Active' if `deletionTimestamp` is empty");
        } else if deleting && new.status.phase != "Terminating" {
            errors.invalid(path, &new.status.phase, "may only be 'Terminating' if `deletionTimestamp` is not empty");
        }
        errors
    }

    fn name_rule(&self) -> NameRule {
        validation::dns1123_label
    }

    fn begin_deletion(&self, ns: &mut Namespace) {
        ns.status.phase = "Terminating".into();
    }

    fn is_held(&self, ns: &Namespace) -> bool {
        !ns.spec.finalizers.is_empty()
    }
}
