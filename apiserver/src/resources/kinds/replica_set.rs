//! ReplicaSet.

use super::deployment::{selector_and_template, shown_selector};
use crate::cache::FieldKind;
use crate::resources::field_error::Errors;
use crate::resources::strategy::{KindStrategy, SelectableFields};
use crate::resources::validation::{self, child, non_negative};
use crate::resources::{pod_defaults, warnings};
use skiff_proto::appsv1::ReplicaSet;

pub struct ReplicaSetStrategy;

impl KindStrategy for ReplicaSetStrategy {
    type Kind = ReplicaSet;
    const GENERATIONS: bool = true;
    const SELECTABLE: SelectableFields = &[("status.replicas", &[3, 1], FieldKind::Int)];

    fn default(&self, rs: &mut ReplicaSet) {
        rs.spec.replicas.get_or_insert(1);
        pod_defaults::pod_spec(&mut rs.spec.template.spec);
    }

    fn prepare_for_create(&self, rs: &mut ReplicaSet) {
        rs.status = Default::default();
    }

    fn prepare_for_update(&self, new: &mut ReplicaSet, old: &ReplicaSet) {
        new.status = old.status.clone();
    }

    fn take_status(&self, from: ReplicaSet, onto: &mut ReplicaSet) {
        onto.status = from.status;
    }

    fn validate(&self, rs: &ReplicaSet) -> Errors {
        let mut errors = Errors::new();
        non_negative(i64::from(rs.spec.replicas.unwrap_or(1)), "spec.replicas", &mut errors);
        non_negative(i64::from(rs.spec.min_ready_seconds), "spec.minReadySeconds", &mut errors);
        errors.append(selector_and_template(rs.spec.selector.as_deref(), &rs.spec.template));
        errors
    }

    fn validate_update(&self, new: &ReplicaSet, old: &ReplicaSet) -> Errors {
        let mut errors = Errors::new();
        if new.spec.selector != old.spec.selector {
            errors.invalid("spec.selector", shown_selector(new.spec.selector.as_deref()), validation::IMMUTABLE);
        }
        errors
    }

    fn validate_status_update(&self, new: &ReplicaSet, _old: &ReplicaSet) -> Errors {
        let mut errors = Errors::new();
        let status = &new.status;
        for (field, value) in [
            ("observedGeneration", status.observed_generation),
            ("replicas", i64::from(status.replicas)),
            ("fullyLabeledReplicas", i64::from(status.fully_labeled_replicas)),
            ("readyReplicas", i64::from(status.ready_replicas)),
            ("availableReplicas", i64::from(status.available_replicas)),
        ] {
            non_negative(value, child("status", field), &mut errors);
        }
        for (field, value) in [
            ("fullyLabeledReplicas", status.fully_labeled_replicas),
            ("readyReplicas", status.ready_replicas),
            ("availableReplicas", status.available_replicas),
        ] {
            if value > status.replicas {
                errors.invalid(child("status", field), value, "cannot be greater than status.replicas");
            }
        }
        errors
    }

    fn desired_changed(&self, new: &ReplicaSet, old: &ReplicaSet) -> bool {
        new.spec != old.spec
    }

    fn warnings(&self, rs: &ReplicaSet) -> Vec<String> {
        warnings::pod_spec(&rs.spec.template.spec, "spec.template.spec")
    }
}
