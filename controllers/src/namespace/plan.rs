//! What to do about one namespace.
//!
//! A deleted namespace stays, Terminating, until everything in it is gone: every object of every
//! resource is deleted, those that make others first; then the namespace's finalizer is removed. What keeps it
//! meanwhile is said in its conditions (`conditions`).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use skiff_client::Resource;
use skiff_client::driver::Plan;
use skiff_proto::corev1::{Namespace, NamespaceCondition};

use super::conditions;
use crate::inventory::Item;

/// The finalizer in `spec.finalizers` that holds a namespace until we have emptied it.
pub const FINALIZER: &str = "kubernetes";
/// No more objects are deleted in one plan.
const BURST: usize = 500;
/// What is on its way out is looked at again after so long, should nothing be heard of it.
const PATIENCE: Duration = Duration::from_secs(15);

/// What there is to know about one namespace.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The namespace.
    pub namespace: Arc<Namespace>,
    /// Everything in it; only looked up if it is being deleted.
    pub contents: Vec<Item>,
    /// Resources whose objects are not in `contents`, though there may be some.
    pub unseen: Vec<Resource>,
    /// Why the last object could not be deleted, if it could not.
    pub failure: Option<String>,
}

/// What can be done about a namespace.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Delete one object.
    Delete(Item),
    /// Delete all there are of a resource, as the server lists them.
    Clear(Resource),
    /// Say what keeps the namespace.
    WriteConditions(Vec<NamespaceCondition>),
    /// Remove our finalizer, once the server confirms that the namespace is empty.
    Finalize,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Delete(item) => write!(f, "delete {}", item.id),
            Action::Clear(resource) => write!(f, "delete all {resource}"),
            Action::WriteConditions(conditions) => {
                let holds = conditions.iter().filter(|c| c.status == "True").map(|c| c.reason.as_str());
                write!(f, "write conditions: {}", holds.collect::<Vec<_>>().join(", "))
            }
            Action::Finalize => write!(f, "remove the finalizer if the namespace is empty"),
        }
    }
}

/// The plan.
pub fn plan(observed: &Observed, now: Timestamp) -> Plan<Action> {
    let mut plan = Plan::nothing();
    let namespace = &observed.namespace;
    plan.input(Resource::of::<Namespace>().object(&namespace.metadata));
    if namespace.metadata.deletion_timestamp.is_none() {
        return plan;
    }
    let conditions = conditions::of(observed, now.into());
    let write = (conditions != namespace.status.conditions).then_some(Action::WriteConditions(conditions));
    // A failure is said before the next try, which would most likely end the plan.
    let (first, last) = if observed.failure.is_some() { (write, None) } else { (None, write) };
    if let Some(write) = first {
        plan.step(write, "the last attempt failed");
    }
    let mut left: Vec<&Item> = observed.contents.iter().filter(|item| !item.meta.deleting).collect();
    left.sort_by_key(|item| rank(item));
    for item in left.iter().take(BURST) {
        plan.step(Action::Delete((*item).clone()), "its namespace is being deleted");
    }
    if !observed.contents.is_empty() {
        // What is deleted now may be gone at once: what stays is said with the next look.
        if let Some(write) = last.filter(|_| left.is_empty()) {
            plan.step(write, "something keeps the namespace");
        }
        plan.look_again_after(PATIENCE);
    } else if namespace.spec.finalizers.iter().any(|f| f == FINALIZER) {
        for resource in &observed.unseen {
            plan.step(Action::Clear(resource.clone()), "its namespace is being deleted");
        }
        plan.step(Action::Finalize, "nothing is left in it");
    }
    plan
}

/// Those that make others go first, or they would make them anew.
fn rank(item: &Item) -> u8 {
    match (item.id.resource.group.as_ref(), item.id.resource.resource.as_ref()) {
        ("apps", "deployments") => 0,
        ("apps" | "batch", _) => 1,
        ("", "services") => 2,
        ("", "pods") => 4,
        _ => 3,
    }
}
