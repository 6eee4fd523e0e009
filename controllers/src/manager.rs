//! The list of controllers, and what wakes which.

use std::sync::Arc;

use skiff_client::queue::QueueKey;
use skiff_client::{
    ActError, Change, Client, Controls, EventRecorder, ObjectKey, Reconciler, Resource, Store, Trigger, WorkQueue,
    driver,
};
use skiff_proto::appsv1::{Deployment, ReplicaSet};
use skiff_proto::corev1::{Endpoints, Namespace, ResourceQuota, Service};
use skiff_proto::discoveryv1::EndpointSlice;
use skiff_proto::policyv1::PodDisruptionBudget;
use skiff_proto::rbacv1::ClusterRole;
use skiff_world::World;

use crate::Options;
use crate::caches::{Caches, Listener};
use crate::inventory::{Inventory, MetaView, ObjectId};
use crate::nodelifecycle::{Heartbeats, Turns};
use crate::nodes::{Heartbeat, NodeView};
use crate::pods::PodView;
use crate::{
    aggregation, deployment, disruption, endpoints, endpointslice, garbage, metrics, namespace, namespacedefaults,
    nodecidr, nodelifecycle, replicaset, resourcequota,
};

/// How many keys of one controller are worked on at a time.
const WORKERS: usize = 4;

/// Runs all controllers, until the future is dropped.
pub async fn run(
    world: &World,
    client: &Client,
    controls: &Controls,
    nodes: &metrics::Nodes,
    options: &Options,
) -> Result<(), ActError> {
    let queues = Queues::new(world, controls);
    let caches = Caches::start(world, client, queues.clone());
    let certificates = namespacedefaults::follow(world, client, &queues.defaults);
    caches.synced().await;
    certificates.synced().await;
    nodes.set(Some(caches.nodes.clone()));
    let (q, namespaces, quotas) = (queues.clone(), caches.namespaces.clone(), caches.quotas.clone());
    let inventory = Inventory::new(world, client, move |inventory, resource, change| {
        q.object(inventory, &namespaces, &quotas, resource, change);
    });
    inventory.discover().await?;
    // What changed while the inventory was not complete may have been judged by half of it.
    for id in inventory.all() {
        queues.garbage.add(id, Trigger::Start("the first look at everything".into()));
    }
    for key in caches.namespaces.keys() {
        queues.namespaces.add(key, Trigger::Start("the first look at everything".into()));
    }

    let events = EventRecorder::new(world, client, "kube-controller-manager", "");
    let (w, c, e) = (|| world.clone(), || client.clone(), || events.clone());
    let caches = || caches.clone();
    let inventory = || inventory.clone();
    let deployments = deployment::Controller::new(caches(), c(), e());
    let replica_sets = replicaset::Controller::new(caches(), c(), e());
    let slices = endpointslice::Controller::new(caches(), c());
    let endpoints = endpoints::Controller::new(caches(), c());
    let quotas = resourcequota::Controller::new(caches(), queues.due.clone(), c());
    let budgets = disruption::Controller::new(caches(), c());
    let sums = aggregation::Controller::new(caches(), c());
    let garbage = garbage::Controller::new(inventory(), c());
    let namespaces = namespace::Controller::new(caches(), inventory(), c());
    let defaults =
        namespacedefaults::Controller::new(caches(), inventory(), certificates, c(), options.root_ca.clone());
    let watch = (queues.heartbeats.clone(), queues.turns.clone());
    let lifecycle = nodelifecycle::Controller::new(w(), caches(), c(), e(), watch, options.node_grace);
    let cidrs = nodecidr::Controller::new(caches(), c(), e(), options.cluster_cidr, options.node_mask);

    let watched = inventory();
    futures::join!(
        drive(world, controls, deployments, &queues.deployments, WORKERS),
        drive(world, controls, replica_sets, &queues.replica_sets, WORKERS),
        drive(world, controls, slices, &queues.slices, WORKERS),
        drive(world, controls, endpoints, &queues.endpoints, WORKERS),
        drive(world, controls, quotas, &queues.quotas, WORKERS),
        drive(world, controls, budgets, &queues.budgets, WORKERS),
        drive(world, controls, sums, &queues.sums, 1),
        drive(world, controls, garbage, &queues.garbage, WORKERS),
        drive(world, controls, namespaces, &queues.namespaces, 1),
        drive(world, controls, defaults, &queues.defaults, 1),
        drive(world, controls, lifecycle, &queues.nodes, WORKERS),
        drive(world, controls, cidrs, &queues.cidrs, 1),
        discover_new(world, &watched),
    );
    Ok(())
}

async fn drive<R: Reconciler>(
    world: &World,
    controls: &Controls,
    controller: R,
    queue: &WorkQueue<R::Key>,
    workers: usize,
) where
    R::Key: QueueKey,
{
    driver::run(world.clone(), Arc::new(controller), queue.clone(), controls.gate(R::NAME), workers).await;
}

/// How soon the server is asked again which resources there are, where it did not answer.
const ASK_AGAIN: std::time::Duration = std::time::Duration::from_secs(1);

/// Resources come and go while we run, with their definitions.
async fn discover_new(world: &World, inventory: &Arc<Inventory>) {
    let changed = Arc::new(tokio::sync::Notify::new());
    let told = changed.clone();
    let _definitions = inventory.on_definitions(move || told.notify_one());
    loop {
        changed.notified().await;
        while let Err(error) = inventory.discover().await {
            tracing::warn!(%error, "cannot ask which resources there are; asking again");
            world.sleep(ASK_AGAIN).await;
        }
    }
}

/// The work queues of all controllers: this is what wakes which.
#[derive(Clone)]
struct Queues {
    world: World,
    deployments: WorkQueue<ObjectKey>,
    replica_sets: WorkQueue<ObjectKey>,
    slices: WorkQueue<ObjectKey>,
    endpoints: WorkQueue<ObjectKey>,
    budgets: WorkQueue<ObjectKey>,
    sums: WorkQueue<ObjectKey>,
    known_sums: Arc<aggregation::Sums>,
    quotas: WorkQueue<ObjectKey>,
    garbage: WorkQueue<ObjectId>,
    namespaces: WorkQueue<ObjectKey>,
    defaults: WorkQueue<ObjectKey>,
    nodes: WorkQueue<ObjectKey>,
    cidrs: WorkQueue<String>,
    heartbeats: Arc<Heartbeats>,
    turns: Arc<Turns>,
    due: Arc<resourcequota::Due>,
}

impl Queues {
    fn new(world: &World, controls: &Controls) -> Queues {
        Queues {
            world: world.clone(),
            deployments: controls.queue(world, deployment::Controller::NAME),
            replica_sets: controls.queue(world, replicaset::Controller::NAME),
            slices: controls.queue(world, endpointslice::Controller::NAME),
            endpoints: controls.queue(world, endpoints::Controller::NAME),
            budgets: controls.queue(world, disruption::Controller::NAME),
            sums: controls.queue(world, aggregation::Controller::NAME),
            known_sums: Arc::default(),
            quotas: controls.queue(world, resourcequota::Controller::NAME),
            garbage: controls.queue(world, garbage::Controller::NAME),
            namespaces: controls.queue(world, namespace::Controller::NAME),
            defaults: controls.queue(world, namespacedefaults::Controller::NAME),
            nodes: controls.queue(world, nodelifecycle::Controller::NAME),
            cidrs: controls.queue(world, nodecidr::Controller::NAME),
            heartbeats: Arc::default(),
            turns: Arc::default(),
            due: Arc::default(),
        }
    }

    /// Any object of any resource changed.
    fn object(
        &self,
        all: &Inventory,
        namespaces: &Store<Namespace>,
        quotas: &Store<ResourceQuota>,
        resource: &Resource,
        change: &Change<MetaView>,
    ) {
        resourcequota::object_changed(&self.quotas, &self.due, quotas, resource, change);
        garbage::object_changed(&self.garbage, all, resource, change);
        namespace::object_changed(&self.namespaces, namespaces, change);
        namespacedefaults::object_changed(&self.defaults, namespaces, resource, change);
    }
}

impl Listener for Queues {
    fn namespace(&self, change: &Change<Namespace>) {
        namespace::namespace_changed(&self.namespaces, change);
        namespacedefaults::namespace_changed(&self.defaults, change);
    }

    fn node(&self, slices: &Store<EndpointSlice>, change: &Change<NodeView>) {
        nodelifecycle::node_changed(&self.nodes, &self.heartbeats, &self.turns, &self.world, change);
        nodecidr::node_changed(&self.cidrs, change);
        endpointslice::node_changed(&self.slices, slices, change);
    }

    fn lease(&self, nodes: &Store<NodeView>, change: &Change<Heartbeat>) {
        nodelifecycle::lease_changed(&self.nodes, &self.heartbeats, nodes, &self.world, change);
    }

    fn budget(&self, change: &Change<PodDisruptionBudget>) {
        disruption::budget_changed(&self.budgets, change);
    }

    fn cluster_role(&self, change: &Change<ClusterRole>) {
        aggregation::role_changed(&self.sums, &self.known_sums, change);
    }

    fn deployment(&self, budgets: &Store<PodDisruptionBudget>, change: &Change<Deployment>) {
        disruption::deployment_changed(&self.budgets, budgets, change);
        deployment::deployment_changed(&self.deployments, change);
    }

    fn replica_set(
        &self,
        deployments: &Store<Deployment>,
        budgets: &Store<PodDisruptionBudget>,
        change: &Change<ReplicaSet>,
    ) {
        disruption::set_changed(&self.budgets, budgets, change);
        replicaset::set_changed(&self.replica_sets, change);
        deployment::set_changed(&self.deployments, deployments, change);
    }

    fn quota(&self, sets: &Store<ReplicaSet>, deployments: &Store<Deployment>, change: &Change<ResourceQuota>) {
        resourcequota::quota_changed(&self.quotas, &self.due, change);
        replicaset::quota_changed(&self.replica_sets, sets, change);
        deployment::quota_changed(&self.deployments, deployments, change);
    }

    fn service(&self, quotas: &Store<ResourceQuota>, change: &Change<Service>) {
        resourcequota::service_changed(&self.quotas, &self.due, quotas, change);
        endpointslice::service_changed(&self.slices, change);
        endpoints::service_changed(&self.endpoints, change);
    }

    fn slice(&self, change: &Change<EndpointSlice>) {
        endpointslice::slice_changed(&self.slices, change);
        endpoints::slice_changed(&self.endpoints, change);
    }

    fn endpoints(&self, change: &Change<Endpoints>) {
        endpoints::endpoints_changed(&self.endpoints, change);
    }

    fn pod(
        &self,
        sets: &Store<ReplicaSet>,
        budgets: &Store<PodDisruptionBudget>,
        services: &Store<Service>,
        nodes: &Store<NodeView>,
        quotas: &Store<ResourceQuota>,
        change: &Change<PodView>,
    ) {
        resourcequota::pod_changed(&self.quotas, &self.due, quotas, change);
        disruption::pod_changed(&self.budgets, budgets, change);
        replicaset::pod_changed(&self.replica_sets, sets, change);
        deployment::pod_changed(&self.deployments, sets, change);
        endpointslice::pod_changed(&self.slices, services, change);
        nodelifecycle::pod_changed(&self.nodes, nodes, change);
    }
}
