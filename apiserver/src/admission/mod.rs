//! Admission: what is filled in or refused beyond a kind's own rules, because of who asks or where it goes. One chain of
//! plugins, a file each, named and ordered as Kubernetes' are.
//!
//! A plugin has up to two steps. `mutate` fills in, before the kind's own validation; `check` refuses, after it, and may
//! say what the write stands on and what is written beside it, in the same transaction. Both see the request's facts,
//! the old and the new object, and the cluster as the cache shows it; neither waits nor writes. What they decide is a
//! pure function beside them.
//!
//! The cache may be a moment behind. So a refusal only counts once the cache has caught up: the registry lets it, and asks
//! the chain again (`registry/admit.rs`). A step must therefore bear being run twice on the same object. For the same
//! reason whatever is refused by something that others may change meanwhile has to be compared in the transaction.

mod cluster;
mod default_tolerations;
mod limit_ranger;
mod namespace_lifecycle;
mod node_restriction;
mod node_taint;
mod priority;
mod resource_quota;
pub mod service_account;

pub use cluster::Cluster;

use crate::registry::{ApiResult, Beside, Settings};
use crate::resources::{Object, Resource};
use skiff_world::Identity;

/// The plugins, in the order in which they are asked.
const CHAIN: &[&dyn Plugin] = &[
    &namespace_lifecycle::NamespaceLifecycle,
    &limit_ranger::LimitRanger,
    &service_account::ServiceAccount,
    &node_restriction::NodeRestriction,
    &node_taint::TaintNodesByCondition,
    &priority::Priority,
    &default_tolerations::DefaultTolerationSeconds,
    &resource_quota::ResourceQuota,
];

/// One link of the chain.
pub trait Plugin: Sync {
    /// Whether its steps stand on the newest state of the cluster, and the cache has to catch up before them.
    fn needs_newest(&self, _facts: &Facts<'_>) -> bool {
        false
    }

    /// Fills in what a cluster gives an object that is created or updated.
    fn mutate(&self, _facts: &Facts<'_>, _new: &mut dyn Object) -> ApiResult<()> {
        Ok(())
    }

    /// Refuses what may not be. `new` is absent for a delete.
    fn check(&self, _facts: &Facts<'_>, _new: Option<&dyn Object>, _beside: &mut Beside) -> ApiResult<()> {
        Ok(())
    }
}

/// What happens to the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// It is made.
    Create,
    /// It is changed: by an update, a patch, an apply, or through a subresource.
    Update,
    /// It goes, or begins to.
    Delete,
}

/// A request as plugins see it.
#[derive(Clone, Copy)]
pub struct Facts<'a> {
    /// Who asks.
    pub identity: &'a Identity,
    /// What happens.
    pub verb: Verb,
    /// To an object of which resource.
    pub resource: &'a Resource,
    /// Through which subresource; usually `""`.
    pub subresource: &'a str,
    /// The name as the request has it; that of a new object stands in the object.
    pub name: &'a str,
    /// The object as it was; absent for a create.
    pub old: Option<&'a dyn Object>,
    /// What the cache shows of the cluster.
    pub cluster: Cluster<'a>,
    /// What the server was told about the cluster.
    pub settings: &'a Settings,
}

impl Facts<'_> {
    /// Whether the object itself is written, of this kind and not through a subresource.
    pub fn is(&self, verb: Verb, group: &str, kind: &str) -> bool {
        self.verb == verb && self.subresource.is_empty() && self.resource.kind == kind && self.resource.group == group
    }
}

/// Whether the cache has to catch up before the chain is asked.
pub fn needs_newest(facts: &Facts<'_>) -> bool {
    CHAIN.iter().any(|plugin| plugin.needs_newest(facts))
}

/// Lets every plugin fill in what it has to.
pub fn mutate(facts: &Facts<'_>, new: &mut dyn Object) -> ApiResult<()> {
    CHAIN.iter().try_for_each(|plugin| plugin.mutate(facts, new))
}

/// Asks every plugin, and collects what the write stands on.
pub fn check(facts: &Facts<'_>, new: Option<&dyn Object>) -> ApiResult<Beside> {
    let mut beside = Beside::default();
    CHAIN.iter().try_for_each(|plugin| plugin.check(facts, new, &mut beside))?;
    Ok(beside)
}
