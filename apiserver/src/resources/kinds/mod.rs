//! The built-in kinds: a file each, and the list of them that fills the table.

mod configs;
mod custom_resource_definition;
mod deployment;
mod disruption_budget;
mod endpoint_slice;
mod endpoints;
mod event;
mod lease;
mod limit_range;
mod namespace;
mod node;
mod pod;
mod priority_class;
mod rbac;
mod replica_set;
mod resource_quota;
mod service;
mod service_account;
#[cfg(test)]
mod tests;

pub use pod::take_ephemeral_containers;
pub use priority_class::SYSTEM_CLASSES;
pub use service::{has_address, has_node_ports};

use super::strategy::{KindStrategy, StrategyFor};
use super::table::{Fields, Resource, Table};
use skiff_proto::{Kind, schema};
use std::time::Duration;

/// How long an Event is kept after its last write, unless the server is told otherwise.
pub const EVENT_LIFE: Duration = Duration::from_secs(3600);

fn row<S: KindStrategy>(strategy: S, subresources: &[&str], categories: &[&str]) -> Resource {
    let strings = |list: &[&str]| list.iter().map(|s| (*s).to_string()).collect::<Vec<_>>();
    Resource {
        group: S::Kind::GROUP.into(),
        version: S::Kind::VERSION.into(),
        resource: S::Kind::RESOURCE.into(),
        kind: S::Kind::KIND.into(),
        singular: S::Kind::SINGULAR.into(),
        short_names: strings(S::Kind::SHORT_NAMES),
        categories: strings(categories),
        namespaced: S::Kind::NAMESPACED,
        subresources: strings(subresources),
        fields: Fields::BuiltIn(
            schema::for_kind(S::Kind::GROUP, S::Kind::VERSION, S::Kind::KIND)
                .expect("every built-in kind has a Schema made from its descriptor")
                .into(),
        ),
        strategy: Box::new(StrategyFor::new(strategy)),
        time_to_live: None,
        stored_as: None,
        cached: Default::default(),
    }
}

/// The Events as another group has them: another resource for whoever asks and for what they may do, the same objects.
pub fn event_view(core: &Resource, group: &str) -> Resource {
    Resource {
        group: group.into(),
        stored_as: Some((core.group.clone(), core.resource.clone())),
        time_to_live: core.time_to_live,
        cached: core.cached.clone(),
        short_names: Vec::new(),
        ..row(event::EventStrategy, &[], &[])
    }
}

/// The table with every built-in kind. Events are kept so long after their last write.
pub fn built_in(event_life: Duration) -> Table {
    let table = Table::new();
    for resource in [
        row(namespace::NamespaceStrategy, &["status", "finalize"], &[]),
        row(node::NodeStrategy, &["status"], &[]),
        row(pod::PodStrategy, &["status", "binding", "ephemeralcontainers", "eviction"], &["all"]),
        row(service::ServiceStrategy, &["status"], &["all"]),
        row(endpoints::EndpointsStrategy, &[], &[]),
        row(configs::ConfigMapStrategy, &[], &[]),
        row(configs::SecretStrategy, &[], &[]),
        row(service_account::ServiceAccountStrategy, &["token"], &[]),
        Resource { time_to_live: Some(event_life), ..row(event::EventStrategy, &[], &[]) },
        row(deployment::DeploymentStrategy, &["status", "scale"], &["all"]),
        row(replica_set::ReplicaSetStrategy, &["status", "scale"], &["all"]),
        row(endpoint_slice::EndpointSliceStrategy, &[], &[]),
        row(disruption_budget::DisruptionBudgetStrategy, &["status"], &[]),
        row(limit_range::LimitRangeStrategy, &[], &[]),
        row(resource_quota::ResourceQuotaStrategy, &["status"], &[]),
        row(priority_class::PriorityClassStrategy, &[], &[]),
        row(lease::LeaseStrategy, &[], &[]),
        row(custom_resource_definition::DefinitionStrategy, &["status"], &["api-extensions"]),
        row(rbac::RoleStrategy, &[], &[]),
        row(rbac::ClusterRoleStrategy, &[], &[]),
        row(rbac::RoleBindingStrategy, &[], &[]),
        row(rbac::ClusterRoleBindingStrategy, &[], &[]),
    ] {
        table.add(resource);
    }
    table
}
