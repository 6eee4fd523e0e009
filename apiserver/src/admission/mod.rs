//! Admission: what is filled in or refused beyond a kind's own rules, because of who asks or where it goes.

mod node_restriction;
mod nodes;
mod pods;

use crate::registry::{ApiResult, Request, Settings};
use crate::resources::{Object, Resource};

/// Fills in what a cluster gives every object of a kind.
pub fn mutate(resource: &Resource, object: &mut dyn Object, settings: &Settings) {
    match (resource.group.as_str(), resource.kind.as_str()) {
        ("", "Pod") => pods::fill_in(object, settings.lost_node_tolerance),
        ("", "Node") => nodes::fill_in(object),
        _ => {}
    }
}

/// Refuses what this identity may not write. `old` is absent for a create, `new` for a delete.
pub fn check(request: &Request, new: Option<&dyn Object>, old: Option<&dyn Object>) -> ApiResult<()> {
    if let Some(node) = crate::auth::node_name(&request.identity) {
        node_restriction::check(node, request, new, old)?;
    }
    Ok(())
}
