//! The caches that all controllers read: one informer per kind, started once, shared.

use std::collections::BTreeMap;

use skiff_client::{Change, Client, Informer, ObjectKey, Store, Whole};
use skiff_proto::appsv1::{Deployment, ReplicaSet};
use skiff_proto::coordinationv1::Lease;
use skiff_proto::corev1::{Endpoints, Namespace, Node, Pod, ResourceQuota, Service};
use skiff_proto::discoveryv1::EndpointSlice;
use skiff_proto::policyv1::PodDisruptionBudget;
use skiff_proto::rbacv1::ClusterRole;
use skiff_world::World;

use crate::endpointslice;
use crate::nodelifecycle::LEASE_NAMESPACE;
use crate::nodes::{Heartbeat, LeaseProjection, NodeProjection, NodeView};
use crate::ownership::Owner;
use crate::pods::{PodProjection, PodView};

/// Index: by the uid of the controller.
pub const OWNER: &str = "owner";
/// Index: what has no controller, by namespace.
pub const ORPHANS: &str = "orphans";
/// Index of pods: by the node they are bound to.
pub const NODE: &str = "node";
/// Index of pods: by each of their labels.
pub const LABEL: &str = "label";
/// Index of Services: by the first pair of their selector.
pub const SELECTOR: &str = "selector";
/// Index of EndpointSlices that we made: by their Service.
pub const SERVICE: &str = "service";

/// The caches; clones are the same.
#[derive(Clone, Debug)]
pub struct Caches {
    /// Namespaces.
    pub namespaces: Store<Namespace>,
    /// Nodes.
    pub nodes: Store<NodeView>,
    /// The Leases of nodes.
    pub leases: Store<Heartbeat>,
    /// PodDisruptionBudgets.
    pub budgets: Store<PodDisruptionBudget>,
    /// ClusterRoles.
    pub cluster_roles: Store<ClusterRole>,
    /// Deployments.
    pub deployments: Store<Deployment>,
    /// ReplicaSets.
    pub replica_sets: Store<ReplicaSet>,
    /// ResourceQuotas.
    pub quotas: Store<ResourceQuota>,
    /// Services.
    pub services: Store<Service>,
    /// EndpointSlices.
    pub slices: Store<EndpointSlice>,
    /// Endpoints.
    pub endpoints: Store<Endpoints>,
    /// Pods.
    pub pods: Store<PodView>,
}

/// Who hears of changes. Each gets the caches that were started before its own.
pub trait Listener: Clone + Send + Sync + 'static {
    /// A namespace changed.
    fn namespace(&self, change: &Change<Namespace>);
    /// A Node changed.
    fn node(&self, slices: &Store<EndpointSlice>, change: &Change<NodeView>);
    /// A node's Lease changed.
    fn lease(&self, nodes: &Store<NodeView>, change: &Change<Heartbeat>);
    /// A PodDisruptionBudget changed.
    fn budget(&self, change: &Change<PodDisruptionBudget>);
    /// A ClusterRole changed.
    fn cluster_role(&self, change: &Change<ClusterRole>);
    /// A Deployment changed.
    fn deployment(&self, budgets: &Store<PodDisruptionBudget>, change: &Change<Deployment>);
    /// A ReplicaSet changed.
    fn replica_set(
        &self,
        deployments: &Store<Deployment>,
        budgets: &Store<PodDisruptionBudget>,
        change: &Change<ReplicaSet>,
    );
    /// A ResourceQuota changed.
    fn quota(&self, sets: &Store<ReplicaSet>, deployments: &Store<Deployment>, change: &Change<ResourceQuota>);
    /// A Service changed.
    fn service(&self, quotas: &Store<ResourceQuota>, change: &Change<Service>);
    /// An EndpointSlice changed.
    fn slice(&self, change: &Change<EndpointSlice>);
    /// Endpoints changed.
    fn endpoints(&self, change: &Change<Endpoints>);
    /// A pod changed.
    fn pod(
        &self,
        sets: &Store<ReplicaSet>,
        budgets: &Store<PodDisruptionBudget>,
        services: &Store<Service>,
        nodes: &Store<NodeView>,
        quotas: &Store<ResourceQuota>,
        change: &Change<PodView>,
    );
}

impl Caches {
    /// Starts all informers, those that others look things up in first.
    pub fn start(world: &World, client: &Client, listener: impl Listener) -> Caches {
        let l = listener.clone();
        let namespaces = Informer::<Namespace, Whole>::of(client).run(world, move |c| l.namespace(&c));
        let l = listener.clone();
        let budgets = Informer::<PodDisruptionBudget, Whole>::of(client).run(world, move |c| l.budget(&c));
        let l = listener.clone();
        let cluster_roles = Informer::<ClusterRole, Whole>::of(client).run(world, move |c| l.cluster_role(&c));
        let (l, of) = (listener.clone(), budgets.clone());
        let deployments = Informer::<Deployment, Whole>::of(client).run(world, move |c| l.deployment(&of, &c));
        let (l, found, of) = (listener.clone(), deployments.clone(), budgets.clone());
        let replica_sets = Informer::<ReplicaSet, Whole>::of(client)
            .index(OWNER, |_, set: &ReplicaSet| Owner::of(&set.metadata).map(|o| o.uid).into_iter().collect())
            .index(ORPHANS, |key, set: &ReplicaSet| orphan_of(key, Owner::of(&set.metadata).is_none()))
            .run(world, move |c| l.replica_set(&found, &of, &c));
        let (l, sets, of) = (listener.clone(), replica_sets.clone(), deployments.clone());
        let quotas = Informer::<ResourceQuota, Whole>::of(client).run(world, move |c| l.quota(&sets, &of, &c));
        let (l, of) = (listener.clone(), quotas.clone());
        let services = Informer::<Service, Whole>::of(client)
            .index(SELECTOR, |key, s: &Service| label_values(&key.namespace, &s.spec.selector).take(1).collect())
            .run(world, move |c| l.service(&of, &c));
        let l = listener.clone();
        let slices = Informer::<EndpointSlice, Whole>::of(client)
            .index(SERVICE, |_, s: &EndpointSlice| {
                endpointslice::service_of(s).map(|k| k.to_string()).into_iter().collect()
            })
            .run(world, move |c| l.slice(&c));
        let l = listener.clone();
        let endpoints = Informer::<Endpoints, Whole>::of(client).run(world, move |c| l.endpoints(&c));
        let (l, found) = (listener.clone(), slices.clone());
        let nodes = Informer::<Node, NodeProjection>::of(client).run(world, move |c| l.node(&found, &c));
        let (l, found) = (listener.clone(), nodes.clone());
        let leases = Informer::<Lease, LeaseProjection>::of(client)
            .namespace(LEASE_NAMESPACE)
            .run(world, move |c| l.lease(&found, &c));
        let (sets, of) = (replica_sets.clone(), budgets.clone());
        let (found, at, quota) = (services.clone(), nodes.clone(), quotas.clone());
        let pods = Informer::<Pod, PodProjection>::of(client)
            .index(OWNER, |_, pod: &PodView| pod.owner.iter().map(|o| o.uid.clone()).collect())
            .index(ORPHANS, |key, pod: &PodView| orphan_of(key, pod.owner.is_none()))
            .index(NODE, |_, pod: &PodView| Some(pod.node.clone()).into_iter().filter(|n| !n.is_empty()).collect())
            .index(LABEL, |key, pod: &PodView| label_values(&key.namespace, &pod.labels).collect())
            .run(world, move |c| listener.pod(&sets, &of, &found, &at, &quota, &c));
        Caches {
            namespaces,
            nodes,
            leases,
            budgets,
            cluster_roles,
            deployments,
            replica_sets,
            quotas,
            services,
            slices,
            endpoints,
            pods,
        }
    }

    /// Waits until all have their first list.
    pub async fn synced(&self) {
        self.namespaces.synced().await;
        self.budgets.synced().await;
        self.cluster_roles.synced().await;
        self.deployments.synced().await;
        self.replica_sets.synced().await;
        self.quotas.synced().await;
        self.services.synced().await;
        self.slices.synced().await;
        self.endpoints.synced().await;
        self.nodes.synced().await;
        self.leases.synced().await;
        self.pods.synced().await;
    }
}

fn orphan_of(key: &ObjectKey, orphan: bool) -> Vec<String> {
    if orphan { vec![key.namespace.clone()] } else { Vec::new() }
}

/// Labels, or a selector's pairs, as values of an index.
pub fn label_values<'a>(namespace: &'a str, labels: &'a BTreeMap<String, String>) -> impl Iterator<Item = String> + 'a {
    labels.iter().map(move |(key, value)| format!("{namespace}/{key}={value}"))
}
