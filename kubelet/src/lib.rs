//! The kubelet: makes the Pods that are bound to its node real, and tells the API how they are.
//!
//! ```text
//!   Pods of this node (API) ──┐                       ┌──▶ runtime/   containers, by Docker
//!   events (runtime)  ────────┼─▶ queue ─▶ observe ─▶ plan ─▶ act ──▶ network/  namespaces, addresses, routes
//!   probes, timers  ──────────┘            (pods/)  (lifecycle/) └──▶ volumes/  files
//!                                                                 └──▶ status, by patch
//! ```
//!
//! - [`lifecycle`] decides, and is pure: a Pod's states are drawn there. [`pods`] observes and acts.
//! - [`runtime`] and [`network`] are the edges, each with a real and a simulated implementation.
//! - [`node`] keeps the Node object and its heartbeat; [`server`] answers logs, exec and port-forward through the tunnel.
//!
//! Nothing that must last is in memory: a kubelet that is killed and started again finds its containers by their labels,
//! its addresses by their files, and its Pods at the API; nothing that runs is touched.

pub mod config;
pub mod environment;
pub mod images;
pub mod lifecycle;
pub mod metrics;
pub mod network;
pub mod node;
pub mod pods;
pub mod probes;
pub mod runtime;
pub mod sandbox;
pub mod server;
pub mod status;
pub mod volumes;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use skiff_client::{Client, Controls, EventRecorder, Informer, ListOptions, Project, Whole, driver, tunnel};
use skiff_proto::corev1::{Node, NodeSystemInfo, Pod, Service, ServiceSpec, Taint};
use skiff_proto::metav1::ObjectMeta;
use skiff_proto::skiffv1::Hello;
use skiff_world::World;

use metrics::Metrics;
use network::Network;
use node::object::{Capacity, Facts};
use node::routes::{NodeRoute, routes};
use pods::{Pods, Shared};
use runtime::measured::Measured;
use runtime::{ContainerRuntime, RuntimeInfo};
use volumes::files::DnsSettings;
use volumes::{Memory, Volumes};

/// So many Pods are worked on at once. Most of the time is spent waiting for the engine.
const WORKERS: usize = 16;
/// Between two tries to reach an engine that is down, at the start.
const ENGINE_RETRY: Duration = Duration::from_secs(2);
/// After a failure to set routes.
const ROUTES_RETRY: Duration = Duration::from_secs(5);

/// What a kubelet is told.
pub struct Options {
    /// name of the cluster; part of every name on the machine
    pub cluster: String,
    /// name of the node; the kubelet's identity is `system:node:NAME`
    pub node_name: String,
    /// the node's address for other nodes; also whose link's MTU the Pods get
    pub address: Option<IpAddr>,
    /// the node's own directory: `pods/` is made in it
    pub directory: PathBuf,
    /// containers
    pub runtime: Arc<dyn ContainerRuntime>,
    /// namespaces, addresses, routes
    pub network: Arc<dyn Network>,
    /// where memory-backed volumes are: `Tmpfs`, or `Directory` in simulation
    pub memory: Memory,
    /// how Pods look up names
    pub dns: DnsSettings,
    /// the node's labels beside Kubernetes' own: zone, region, ...
    pub labels: BTreeMap<String, String>,
    /// the node's taints when it registers
    pub taints: Vec<Taint>,
    /// what the node has to give; [`Capacity::of_machine`] divides the machine
    pub capacity: Capacity,
    /// about the machine: [`node::object::machine`] for a real one
    pub machine: NodeSystemInfo,
    /// gates, queues and measurements
    pub controls: Controls,
}

impl Options {
    /// A real node that has the whole machine, without an address or a cluster DNS yet: what is true of most.
    pub fn new(
        cluster: &str,
        node_name: &str,
        directory: &Path,
        runtime: Arc<dyn ContainerRuntime>,
        network: Arc<dyn Network>,
    ) -> Options {
        Options {
            cluster: cluster.to_string(),
            node_name: node_name.to_string(),
            address: None,
            directory: directory.to_path_buf(),
            runtime,
            network,
            memory: Memory::Tmpfs,
            dns: DnsSettings { cluster_domain: "cluster.local".into(), ..DnsSettings::default() },
            labels: BTreeMap::new(),
            taints: Vec::new(),
            capacity: Capacity::of_machine(1),
            machine: node::object::machine(),
            controls: Controls::new(),
        }
    }

    /// A simulated node: its engine and network are fakes, and nothing is asked of the machine that runs the simulation.
    pub fn simulated(
        node_name: &str,
        address: IpAddr,
        runtime: &runtime::fake::FakeRuntime,
        network: &network::fake::FakeNetwork,
    ) -> Options {
        Options {
            cluster: "skiff".into(),
            node_name: node_name.to_string(),
            address: Some(address),
            directory: PathBuf::from("/var/lib/skiff/node"),
            runtime: Arc::new(runtime.clone()),
            network: Arc::new(network.clone()),
            memory: Memory::Directory,
            dns: DnsSettings::default(),
            labels: BTreeMap::new(),
            taints: Vec::new(),
            capacity: Capacity { cpu_milli: 4000, memory: 8 << 30, ephemeral_storage: 64 << 30, pods: 110 },
            machine: NodeSystemInfo::default(),
            controls: Controls::new(),
        }
    }
}

/// Runs the kubelet until its World is stopped. The process must be in the node's network namespace, and in the
/// container engine's mount namespace.
pub async fn run(world: World, client: Client, options: Options) {
    let Options { cluster, node_name, address, directory, runtime, network, memory, dns, .. } = options;
    let metrics = Metrics::new(&options.controls, &node_name);
    let runtime = Arc::new(Measured { runtime, world: world.clone(), metrics: metrics.clone() });
    options.controls.effects().keep_in(&world, &directory.join("effects-kubelet"));
    let shared = Arc::new(Shared {
        volumes: Volumes::new(&world, &directory, memory),
        events: EventRecorder::new(&world, &client, "kubelet", &node_name),
        effects: options.controls.effects(),
        metrics,
        world: world.clone(),
        cluster,
        node_name: node_name.clone(),
        runtime,
        network,
        dns,
    });
    let controls = options.controls;
    controls.expose(&world, &client);
    let queue = controls.queue(&world, "pods");
    let gate = controls.gate("pods");
    let pods = Pods::new(shared, &client, queue.clone());
    let running = metrics::Running(Arc::downgrade(&pods));
    controls.register(|registry| registry.register_collector(Box::new(running)));
    let facts = Facts {
        name: node_name.clone(),
        address,
        labels: options.labels,
        taints: options.taints,
        capacity: options.capacity,
        machine: node::object::with_runtime(&options.machine, &RuntimeInfo::default()),
    };
    world.spawn("node-status", node::heartbeat::keep_status(pods.clone(), client.clone(), facts));
    world.spawn("node-lease", node::heartbeat::renew_lease(pods.clone(), client.clone(), node_name.clone()));
    world.spawn("routes", keep_routes(pods.clone(), client.clone()));
    watch_api(&world, &client, &pods);

    let hello = Hello { component: "kubelet".into(), node: node_name, instance: world.uuid() };
    let server = Arc::new(server::Server { pods: pods.clone(), controls });
    let (tunnel_world, tunnel_client) = (world.clone(), client.clone());
    world.spawn("tunnel", async move { tunnel::serve(&tunnel_world, &tunnel_client, hello, server).await });

    // What runs already is adopted before anything is decided.
    while let Err(error) = pods.look_at_everything().await {
        tracing::warn!(%error, "waiting for the container engine");
        world.sleep(ENGINE_RETRY).await;
    }
    world.spawn("runtime-events", pods.clone().follow_runtime());
    driver::run(world, pods, queue, gate, WORKERS).await;
}

/// The Pods bound to this node, and all Services.
fn watch_api(world: &World, client: &Client, pods: &Arc<Pods>) {
    let services = Informer::<Service, ServiceAddress>::start(world, client, "", ListOptions::default(), |_| {});
    let own = ListOptions::fields(format!("spec.nodeName={}", pods.shared.node_name));
    let woken = pods.clone();
    let store = Informer::<Pod, Whole>::start(world, client, "", own, move |change| woken.changed(&change));
    // Each is set once, here, before the first worker starts.
    let _ = pods.services.set(services);
    let _ = pods.store.set(store);
}

/// Keeps the ways to other nodes' Pods, for ever.
async fn keep_routes(pods: Arc<Pods>, client: Client) {
    let world = pods.shared.world.clone();
    let changed = Arc::new(tokio::sync::Notify::new());
    let (tell, own) = (changed.clone(), pods.clone());
    let nodes = Informer::<Node, NodeRoute>::start(&world, &client, "", ListOptions::default(), move |change| {
        if change.latest().name == own.shared.node_name {
            own.node_changed.notify_one();
        }
        tell.notify_one();
    });
    nodes.synced().await;
    loop {
        let all = nodes.list();
        let wanted = routes(&pods.shared.node_name, all.iter().map(|way| &**way));
        match pods.shared.network.routes(&wanted).await {
            Ok(()) => changed.notified().await,
            Err(error) => {
                tracing::warn!(%error, "cannot set the routes to other nodes' Pods");
                world.sleep(ROUTES_RETRY).await;
            }
        }
    }
}

/// What environment variables need of a Service.
struct ServiceAddress;

impl Project<Service> for ServiceAddress {
    type Out = Service;

    fn project(service: &Service) -> Service {
        let metadata = &service.metadata;
        Service {
            metadata: ObjectMeta {
                name: metadata.name.clone(),
                namespace: metadata.namespace.clone(),
                ..ObjectMeta::default()
            },
            spec: ServiceSpec {
                cluster_ip: service.spec.cluster_ip.clone(),
                ports: service.spec.ports.clone(),
                ..ServiceSpec::default()
            },
            ..Service::default()
        }
    }
}
