//! Checks of resource quantities: requests, limits, and their names.

use super::{NON_NEGATIVE, child, key, names};
use crate::resources::field_error::{Errors, Shown};
use skiff_proto::{Quantity, corev1::ResourceRequirements};
use std::collections::BTreeMap;

impl Shown for Quantity {
    fn shown(&self) -> String {
        format!("\"{self}\"")
    }
}

/// Resources a container may ask for without a domain.
const STANDARD: &[&str] = &["cpu", "memory", "ephemeral-storage"];

fn is_huge_pages(name: &str) -> bool {
    name.starts_with("hugepages-")
}

/// May be requested without being limited, and limited above what is requested.
fn may_overcommit(name: &str) -> bool {
    STANDARD.contains(&name)
}

/// The name of a resource that a container may ask for.
pub fn container_resource_name(name: &str, path: &str, errors: &mut Errors) {
    for problem in names::qualified_name(name) {
        errors.invalid(path, name, problem);
    }
    if !name.contains('/') && !STANDARD.contains(&name) && !is_huge_pages(name) {
        errors.invalid(path, name, "must be a standard resource type or fully qualified");
    }
}

fn amounts(list: &BTreeMap<String, Quantity>, path: &str, errors: &mut Errors) {
    for (name, quantity) in list {
        let path = key(path, name);
        container_resource_name(name, &path, errors);
        if quantity.milli() < 0 {
            errors.invalid(path.clone(), quantity, NON_NEGATIVE);
        }
        let whole = may_overcommit(name) && name != "cpu";
        if !whole && name != "cpu" && quantity.milli() % 1000 != 0 {
            errors.invalid(path, quantity, "must be an integer");
        }
    }
}

/// A container's requests and limits.
pub fn resource_requirements(resources: &ResourceRequirements, path: &str) -> Errors {
    let mut errors = Errors::new();
    let (limits, requests) = (child(path, "limits"), child(path, "requests"));
    amounts(&resources.limits, &limits, &mut errors);
    amounts(&resources.requests, &requests, &mut errors);
    for (name, request) in &resources.requests {
        match resources.limits.get(name) {
            Some(limit) if !may_overcommit(name) && request != limit => {
                errors.invalid(requests.clone(), request, format!("must be equal to {name} limit of {limit}"));
            }
            Some(limit) if request > limit => {
                errors.invalid(
                    requests.clone(),
                    request,
                    format!("must be less than or equal to {name} limit of {limit}"),
                );
            }
            None if !may_overcommit(name) => {
                errors.required(limits.clone(), "Limit must be set for non overcommitable resources");
            }
            _ => {}
        }
    }
    errors
}
