//! Node: written by its kubelet; its status is kept on create, because a kubelet registers with one.

use crate::cache::FieldKind;
use crate::resources::field_error::Errors;
use crate::resources::strategy::{KindStrategy, SelectableFields};
use crate::resources::validation::{self, child, index, one_of};
use skiff_proto::corev1::Node;
use std::collections::BTreeSet;

pub struct NodeStrategy;

fn cidrs(node: &Node, errors: &mut Errors) {
    for (i, cidr) in node.spec.pod_cidrs.iter().enumerate() {
        if cidr.parse::<ipnet::IpNet>().is_err() {
            errors.invalid(
                index("spec", "podCIDRs", i),
                cidr,
                "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
            );
        }
    }
    let single = &node.spec.pod_cidr;
    if let Some(first) = node.spec.pod_cidrs.first().filter(|first| !single.is_empty() && *first != single) {
        errors.invalid("spec.podCIDRs[0]", first, "must match `spec.podCIDR`");
    }
}

impl KindStrategy for NodeStrategy {
    type Kind = Node;
    const SELECTABLE: SelectableFields = &[("spec.unschedulable", &[2, 4], FieldKind::Bool)];

    fn default(&self, node: &mut Node) {
        let spec = &mut node.spec;
        // The singular and the first of the plural are one field.
        if spec.pod_cidr.is_empty() {
            spec.pod_cidr = spec.pod_cidrs.first().cloned().unwrap_or_default();
        } else if spec.pod_cidrs.is_empty() {
            spec.pod_cidrs = vec![spec.pod_cidr.clone()];
        }
        if node.status.allocatable.is_empty() {
            node.status.allocatable = node.status.capacity.clone();
        }
    }

    fn prepare_for_update(&self, new: &mut Node, old: &Node) {
        new.status = old.status.clone();
    }

    fn take_status(&self, from: Node, onto: &mut Node) {
        onto.status = from.status;
    }

    fn validate(&self, node: &Node) -> Errors {
        let mut errors = Errors::new();
        cidrs(node, &mut errors);
        let mut seen = BTreeSet::new();
        for (i, taint) in node.spec.taints.iter().enumerate() {
            let path = index("spec", "taints", i);
            for problem in validation::qualified_name(&taint.key) {
                errors.invalid(child(&path, "key"), &taint.key, problem);
            }
            for problem in validation::label_value(&taint.value) {
                errors.invalid(child(&path, "value"), &taint.value, problem);
            }
            one_of(
                &taint.effect,
                &["NoSchedule", "PreferNoSchedule", "NoExecute"],
                child(&path, "effect"),
                &mut errors,
            );
            if !seen.insert((&taint.key, &taint.effect)) {
                errors.duplicate(path, format!("{}:{}", taint.key, taint.effect));
            }
        }
        errors
    }

    fn validate_update(&self, new: &Node, old: &Node) -> Errors {
        let mut errors = Errors::new();
        if !old.spec.pod_cidr.is_empty() && old.spec.pod_cidrs != new.spec.pod_cidrs {
            errors.forbidden("spec.podCIDRs", "node updates may not change podCIDR except from \"\" to valid");
        }
        if !old.spec.provider_id.is_empty() && old.spec.provider_id != new.spec.provider_id {
            errors.forbidden("spec.providerID", "node updates may not change providerID except from \"\" to valid");
        }
        errors
    }

    fn validate_status_update(&self, new: &Node, _old: &Node) -> Errors {
        let mut errors = Errors::new();
        for (field, list) in [("capacity", &new.status.capacity), ("allocatable", &new.status.allocatable)] {
            for (name, quantity) in list {
                if quantity.milli() < 0 {
                    errors.invalid(validation::key(&child("status", field), name), quantity, validation::NON_NEGATIVE);
                }
            }
        }
        let mut seen = BTreeSet::new();
        for (i, address) in new.status.addresses.iter().enumerate() {
            if !seen.insert((&address.r#type, &address.address)) {
                errors.duplicate(index("status", "addresses", i), format!("{}:{}", address.r#type, address.address));
            }
        }
        errors
    }
}
