//! A whole cluster in one simulation: API server with its store on a simulated disk, controllers, scheduler, and nodes
//! with kubelet and proxy. The components are the real ones; what stands in for Docker and the kernel are their fakes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::Future;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ipnet::Ipv4Net;
use skiff_apiserver::store::Store;
use skiff_apiserver::store::embedded::Embedded;
use skiff_apiserver::{EmbeddedOptions, Retention, ServiceAccounts, StoreOptions};
use skiff_client::{Client, ClientConfig, Controls};
use skiff_kubelet::network::fake::FakeNetwork;
use skiff_kubelet::node::object::Capacity;
use skiff_kubelet::runtime::fake::FakeRuntime;
use skiff_kubelet::volumes::Memory;
use skiff_kubelet::volumes::files::DnsSettings;
use skiff_proto::corev1::NodeSystemInfo;
use skiff_proxy::apply::fake::FakeApplier;
use skiff_world::sim::{Machine, Sim};
use skiff_world::{Address, Identity, World};

use super::weather::{Place, Weather, Weathered};

/// The machine of the API server, and the pipe it listens on.
pub const SERVER: &str = "server";

/// The machine of the second API server, and the pipe it listens on.
pub const STANDBY: &str = "standby";

/// The machine of the store, where the servers don't have it themselves.
const STORE: &str = "etcd";

/// Where all Pods are.
const CLUSTER_CIDR: Ipv4Net = Ipv4Net::new_assert(std::net::Ipv4Addr::new(10, 244, 0, 0), 16);

/// How many Pods a node takes. Three nodes have room for all that the user ever wants, and not for much more.
pub const MOST_PODS: i64 = 10;

/// The processor time that a node has.
pub const CPU_MILLI: i64 = 4_000;

/// How long whoever watches over the components waits before starting one again that ended.
const RESTART: Duration = Duration::from_secs(1);

/// Something that can fail by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The API server.
    Server,
    /// The second one.
    Standby,
    /// The store that two servers share.
    Store,
    /// All controllers.
    Controllers,
    /// The scheduler.
    Scheduler,
    /// A node's kubelet and proxy; its containers and rules go on without them.
    Node(usize),
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Part::Server => f.write_str(SERVER),
            Part::Standby => f.write_str(STANDBY),
            Part::Store => f.write_str(STORE),
            Part::Controllers => f.write_str("controllers"),
            Part::Scheduler => f.write_str("scheduler"),
            Part::Node(number) => write!(f, "node-{}", number + 1),
        }
    }
}

/// A node, as far as it outlives its agent.
pub struct SimulatedNode {
    /// Its name.
    pub name: String,
    /// In place of Docker.
    pub engine: FakeRuntime,
    /// In place of namespaces, links and routes.
    pub network: FakeNetwork,
    /// In place of iptables.
    pub rules: Arc<FakeApplier>,
}

/// How a cluster is made.
#[derive(Clone, Copy, Debug, Default)]
pub struct Layout {
    /// How much history the store keeps.
    pub retention: Retention,
    /// Two API servers on one store, which is on a machine of its own; else one that has its store with it.
    pub two_servers: bool,
}

/// A cluster in a simulation. Cheap to clone.
#[derive(Clone)]
pub struct Cluster {
    sim: Sim,
    layout: Layout,
    /// The shared store, while it runs.
    place: Place,
    weathers: [Weather; 2],
    /// The key of tokens, which all API servers of a cluster have.
    service_accounts: ServiceAccounts,
    nodes: Arc<Vec<SimulatedNode>>,
    /// What is running. Troubles overlap: a part may be stopped twice, and is then started twice.
    up: Arc<Mutex<BTreeSet<Part>>>,
}

impl Cluster {
    /// A cluster of so many nodes, of which nothing runs yet.
    pub fn new(sim: &Sim, nodes: usize) -> Cluster {
        Cluster::laid_out(sim, nodes, Layout::default())
    }

    /// A cluster that is made in a certain way.
    pub fn laid_out(sim: &Sim, nodes: usize, layout: Layout) -> Cluster {
        let node = |number: usize| {
            let name = Part::Node(number).to_string();
            let kernel = sim.machine(&format!("{name} kernel")).world("kernel", None);
            SimulatedNode {
                engine: FakeRuntime::new(&kernel),
                network: FakeNetwork::new(&kernel),
                rules: Arc::new(FakeApplier::default()),
                name,
            }
        };
        let nodes = Arc::new((0..nodes).map(node).collect());
        let (place, weathers, up) = (Place::default(), Default::default(), Arc::default());
        let service_accounts = ServiceAccounts::generate().expect("a key can be made");
        Cluster { sim: sim.clone(), layout, place, weathers, service_accounts, nodes, up }
    }

    /// The nodes.
    pub fn nodes(&self) -> &[SimulatedNode] {
        &self.nodes
    }

    /// All parts.
    pub fn parts(&self) -> Vec<Part> {
        let nodes = (0..self.nodes.len()).map(Part::Node);
        let shared: &[Part] = if self.layout.two_servers { &[Part::Store, Part::Standby] } else { &[] };
        let parts = shared.iter().copied().chain([Part::Server, Part::Controllers, Part::Scheduler]);
        parts.chain(nodes).collect()
    }

    /// The machines of the API servers.
    pub fn servers(&self) -> &'static [&'static str] {
        if self.layout.two_servers { &[SERVER, STANDBY] } else { &[SERVER] }
    }

    /// What the store is like for the servers, in the same order.
    pub fn weathers(&self) -> &[Weather] {
        &self.weathers[..self.servers().len()]
    }

    /// The machine on which a part runs.
    pub fn machine_of(&self, part: Part) -> String {
        part.to_string()
    }

    /// A client of the API server, for somebody on a machine of their own.
    pub fn client(&self, machine: &str, identity: Identity) -> (World, Client) {
        let world = self.sim.machine(machine).world(machine, Some(identity));
        let client = client_of(&world, self.servers());
        (world, client)
    }

    /// A client of one API server only.
    pub fn client_of_server(&self, machine: &str, identity: Identity, server: &str) -> (World, Client) {
        let world = self.sim.machine(machine).world(machine, Some(identity));
        let client = client_of(&world, &[server]);
        (world, client)
    }

    fn up(&self) -> MutexGuard<'_, BTreeSet<Part>> {
        self.up.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a part, or starts it again after it was stopped; nothing happens if it is up.
    pub fn start(&self, part: Part) {
        if !self.up().insert(part) {
            return;
        }
        self.sim.trace(format_args!("start {}", self.machine_of(part)));
        let machine = self.sim.machine(&self.machine_of(part));
        match part {
            Part::Server => {
                let (cluster, identity) = (self.clone(), Identity::new("system:apiserver", &[]));
                supervise(&machine, "apiserver", identity, move |world| server(world, cluster.clone(), 0));
            }
            Part::Standby => {
                let (cluster, identity) = (self.clone(), Identity::new("system:apiserver", &[]));
                supervise(&machine, "apiserver", identity, move |world| server(world, cluster.clone(), 1));
            }
            Part::Store => {
                let (place, retention) = (self.place.clone(), self.layout.retention);
                let identity = Identity::new("etcd", &[]);
                supervise(&machine, "etcd", identity, move |world| keep_store(world, place.clone(), retention));
            }
            Part::Controllers => {
                let identity = Identity::new("system:kube-controller-manager", &[]);
                let servers = self.servers();
                supervise(&machine, "controllers", identity, move |world| controllers(world, servers));
            }
            Part::Scheduler => {
                let (servers, identity) = (self.servers(), Identity::new("system:kube-scheduler", &[]));
                supervise(&machine, "scheduler", identity, move |world| scheduler(world, servers));
            }
            Part::Node(number) => self.start_node(&machine, number),
        }
    }

    fn start_node(&self, machine: &Machine, number: usize) {
        let name = &self.nodes[number].name;
        let cluster = self.clone();
        let identity = Identity::new(&format!("system:node:{name}"), &["system:nodes"]);
        supervise(machine, "kubelet", identity, move |world| kubelet(world, cluster.clone(), number));
        let cluster = self.clone();
        let identity = Identity::new(&format!("system:kube-proxy:{name}"), &["system:node-proxier"]);
        supervise(machine, "proxy", identity, move |world| proxy(world, cluster.clone(), number));
    }

    /// Stops a part at once: with its machine's power, or killed.
    pub async fn stop(&self, part: Part, power: bool) {
        self.up().remove(&part);
        let machine = self.sim.machine(&self.machine_of(part));
        if part == Part::Store {
            *self.place.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
        if power { machine.crash().await } else { machine.kill().await }
    }

    /// Fills the store's disk, or makes room again.
    pub fn fill_disk(&self, full: bool) {
        let machine = if self.layout.two_servers { STORE } else { SERVER };
        self.sim.trace(format_args!("disk of {machine} is {}", if full { "full" } else { "free again" }));
        self.sim.machine(machine).fill_disk(full);
    }

    /// Ends one of the containers that run on a node, if there is one.
    pub fn end_a_container(&self, node: usize, draw: u64) {
        let node = &self.nodes[node];
        let running: Vec<_> = node.engine.all().into_iter().filter(|container| container.is_running()).collect();
        if running.is_empty() {
            return;
        }
        let container = &running[(draw % running.len() as u64) as usize];
        self.sim.trace(format_args!("{} of {} ends", container.identity.container, container.identity.pod_name));
        node.engine.end(&container.id, 1);
    }

    /// Ends every container on a node.
    pub fn end_all_containers(&self, node: usize) {
        let node = &self.nodes[node];
        self.sim.trace(format_args!("every container on {} ends", node.name));
        for container in node.engine.all() {
            node.engine.end(&container.id, 137);
        }
    }

    /// Removes every container of a node; addresses and files of its Pods stay.
    pub fn remove_all_containers(&self, node: usize) {
        let node = &self.nodes[node];
        self.sim.trace(format_args!("every container on {} is removed", node.name));
        node.engine.remove_all();
    }
}

/// Runs a component in a World of its own, again and again, as long as its machine is up.
fn supervise<R, F>(machine: &Machine, component: &'static str, identity: Identity, run: R)
where
    R: Fn(World) -> F + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let supervisor = machine.world("supervisor", None);
    let (machine, inside) = (machine.clone(), supervisor.clone());
    supervisor.spawn("supervise", async move {
        loop {
            let world = machine.world(component, Some(identity.clone()));
            world.spawn("component", run(world.clone())).join().await;
            world.stop().await;
            inside.sleep(RESTART).await;
        }
    });
}

fn client_of(world: &World, servers: &[&str]) -> Client {
    let agent = format!("skiff-{}/simulated", world.component());
    let servers = servers.iter().map(|server| Address::Pipe((*server).to_owned())).collect();
    let config = ClientConfig { servers, ..ClientConfig::pipe(SERVER, &agent) };
    Client::new(world, config).expect("the configuration is a good one")
}

fn store_options(retention: Retention) -> EmbeddedOptions {
    EmbeddedOptions { retention, ..EmbeddedOptions::new("/var/lib/skiff/store") }
}

/// The store that two servers share, until it ends.
async fn keep_store(world: World, place: Place, retention: Retention) {
    let at = |store| *place.lock().unwrap_or_else(PoisonError::into_inner) = store;
    let store = match Embedded::open(&world, store_options(retention)).await {
        Ok(store) => Arc::new(store),
        Err(error) => return tracing::warn!(%error, "the store cannot be opened"),
    };
    at(Some(store.clone()));
    // A watch of nothing: its end is the store's.
    if let Ok(mut end) = store.watch(b"/nothing", store.head().await.unwrap_or(1)).await {
        while let Some(Ok(_)) = end.next().await {}
    }
    at(None);
}

/// One of the API servers, by its place among them.
async fn server(world: World, cluster: Cluster, number: usize) {
    let (name, weather) = (cluster.servers()[number], cluster.weathers()[number].clone());
    let embedded = store_options(cluster.layout.retention);
    let options = skiff_apiserver::Options {
        advertise: vec![([10, 89, 0, 1].into(), 6443)],
        lost_node_tolerance: Duration::from_secs(60),
        recorder_dir: Some("/var/lib/skiff/recorder".into()),
        service_accounts: Some(cluster.service_accounts.clone()),
        ..skiff_apiserver::Options::new(vec![Address::Pipe(name.to_owned())], StoreOptions::Embedded(embedded.clone()))
    };
    let store = if cluster.layout.two_servers {
        Weathered::apart(&world, cluster.place.clone(), weather)
    } else {
        match Embedded::open(&world, embedded).await {
            Ok(store) => Weathered::own(&world, Arc::new(store), weather),
            Err(error) => return tracing::warn!(%error, "the store cannot be opened"),
        }
    };
    let ended = match skiff_apiserver::run_on(world, options, Arc::new(store)).await {
        Ok(handle) => handle.stopping().await,
        Err(error) => Err(error),
    };
    // As a process would: it is started again.
    if let Err(error) = ended {
        tracing::warn!(%error, "the API server ends");
    }
}

async fn controllers(world: World, servers: &'static [&'static str]) {
    let client = client_of(&world, servers);
    let root_ca = Some("the certificate of the simulated authority".into());
    skiff_controllers::run(world, client, skiff_controllers::Options { root_ca, ..Default::default() }).await;
}

async fn scheduler(world: World, servers: &'static [&'static str]) {
    let client = client_of(&world, servers);
    skiff_scheduler::run(world, client, skiff_scheduler::Options::default()).await;
}

async fn kubelet(world: World, cluster: Cluster, number: usize) {
    let client = client_of(&world, cluster.servers());
    let node = &cluster.nodes[number];
    let options = skiff_kubelet::Options {
        cluster: "skiff".into(),
        node_name: node.name.clone(),
        address: Some(address_of(number)),
        directory: "/var/lib/kubelet".into(),
        runtime: Arc::new(node.engine.clone()),
        network: Arc::new(node.network.clone()),
        memory: Memory::Directory,
        dns: DnsSettings::default(),
        labels: BTreeMap::new(),
        taints: Vec::new(),
        capacity: Capacity { cpu_milli: CPU_MILLI, memory: 8 << 30, ephemeral_storage: 64 << 30, pods: MOST_PODS },
        machine: NodeSystemInfo::default(),
        controls: Controls::new(),
    };
    skiff_kubelet::run(world, client, options).await;
}

/// A node's address on the link that all nodes share.
fn address_of(number: usize) -> IpAddr {
    IpAddr::from([10, 89, 0, u8::try_from(number + 2).expect("a simulated cluster is small")])
}

async fn proxy(world: World, cluster: Cluster, number: usize) {
    let client = client_of(&world, cluster.servers());
    let node = &cluster.nodes[number];
    let options = skiff_proxy::Options::new("skiff", &node.name, CLUSTER_CIDR, node.rules.clone());
    skiff_proxy::run(world, client, options).await;
}
