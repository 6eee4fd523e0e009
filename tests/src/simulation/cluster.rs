//! A whole cluster in one simulation: API server with its store on a simulated disk, controllers, scheduler, and nodes
//! with kubelet and proxy. The components are the real ones; what stands in for Docker and the kernel are their fakes.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ipnet::Ipv4Net;
use skiff_apiserver::{EmbeddedOptions, Retention, StoreOptions};
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

/// The machine of the API server, and the pipe it listens on.
pub const SERVER: &str = "server";

/// Where all Pods are.
const CLUSTER_CIDR: Ipv4Net = Ipv4Net::new_assert(std::net::Ipv4Addr::new(10, 244, 0, 0), 16);

/// How many Pods a node takes. Three nodes have room for all that the user ever wants, and not for much more.
pub const MOST_PODS: i64 = 14;

/// How long whoever watches over the components waits before starting one again that ended.
const RESTART: Duration = Duration::from_secs(1);

/// Something that can fail by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The API server.
    Server,
    /// All controllers.
    Controllers,
    /// The scheduler.
    Scheduler,
    /// A node's kubelet and proxy; its containers and rules go on without them.
    Node(usize),
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

/// A cluster in a simulation. Cheap to clone.
#[derive(Clone)]
pub struct Cluster {
    sim: Sim,
    retention: Retention,
    nodes: Arc<Vec<SimulatedNode>>,
    /// What is running. Troubles overlap: a part may be stopped twice, and is then started twice.
    up: Arc<Mutex<BTreeSet<Part>>>,
}

impl Cluster {
    /// A cluster of so many nodes, of which nothing runs yet.
    pub fn new(sim: &Sim, nodes: usize) -> Cluster {
        Cluster::with_retention(sim, nodes, Retention::default())
    }

    /// A cluster whose store keeps so much history.
    pub fn with_retention(sim: &Sim, nodes: usize, retention: Retention) -> Cluster {
        let node = |number: usize| {
            let name = format!("node-{}", number + 1);
            let kernel = sim.machine(&format!("{name} kernel")).world("kernel", None);
            SimulatedNode {
                engine: FakeRuntime::new(&kernel),
                network: FakeNetwork::new(&kernel),
                rules: Arc::new(FakeApplier::default()),
                name,
            }
        };
        Cluster { sim: sim.clone(), retention, nodes: Arc::new((0..nodes).map(node).collect()), up: Arc::default() }
    }

    /// The nodes.
    pub fn nodes(&self) -> &[SimulatedNode] {
        &self.nodes
    }

    /// All parts.
    pub fn parts(&self) -> Vec<Part> {
        let nodes = (0..self.nodes.len()).map(Part::Node);
        [Part::Server, Part::Controllers, Part::Scheduler].into_iter().chain(nodes).collect()
    }

    /// The machine on which a part runs.
    pub fn machine_of(&self, part: Part) -> String {
        match part {
            Part::Server => SERVER.to_owned(),
            Part::Controllers => "controllers".to_owned(),
            Part::Scheduler => "scheduler".to_owned(),
            Part::Node(node) => self.nodes[node].name.clone(),
        }
    }

    /// A client of the API server, for somebody on a machine of their own.
    pub fn client(&self, machine: &str, identity: Identity) -> (World, Client) {
        let world = self.sim.machine(machine).world(machine, Some(identity));
        let client = client_of(&world);
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
                let retention = self.retention;
                let identity = Identity::new("system:apiserver", &[]);
                supervise(&machine, "apiserver", identity, move |world| server(world, retention));
            }
            Part::Controllers => {
                let identity = Identity::new("system:kube-controller-manager", &[]);
                supervise(&machine, "controllers", identity, controllers);
            }
            Part::Scheduler => {
                supervise(&machine, "scheduler", Identity::new("system:kube-scheduler", &[]), scheduler);
            }
            Part::Node(number) => self.start_node(&machine, number),
        }
    }

    fn start_node(&self, machine: &Machine, number: usize) {
        let name = &self.nodes[number].name;
        let nodes = self.nodes.clone();
        let identity = Identity::new(&format!("system:node:{name}"), &["system:nodes"]);
        supervise(machine, "kubelet", identity, move |world| kubelet(world, nodes.clone(), number));
        let nodes = self.nodes.clone();
        let identity = Identity::new(&format!("system:kube-proxy:{name}"), &["system:node-proxier"]);
        supervise(machine, "proxy", identity, move |world| proxy(world, nodes.clone(), number));
    }

    /// Stops a part at once: with its machine's power, or killed.
    pub async fn stop(&self, part: Part, power: bool) {
        self.up().remove(&part);
        let machine = self.sim.machine(&self.machine_of(part));
        if power { machine.crash().await } else { machine.kill().await }
    }

    /// Fills the server's disk, or makes room again.
    pub fn fill_disk(&self, full: bool) {
        self.sim.trace(format_args!("disk of {SERVER} is {}", if full { "full" } else { "free again" }));
        self.sim.machine(SERVER).fill_disk(full);
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

fn client_of(world: &World) -> Client {
    let agent = format!("skiff-{}/simulated", world.component());
    Client::new(world, ClientConfig::pipe(SERVER, &agent)).expect("the configuration is a good one")
}

async fn server(world: World, retention: Retention) {
    let store = StoreOptions::Embedded(EmbeddedOptions { retention, ..EmbeddedOptions::new("/var/lib/skiff/store") });
    let options = skiff_apiserver::Options {
        advertise: vec![([10, 89, 0, 1].into(), 6443)],
        lost_node_tolerance: Duration::from_secs(60),
        recorder_dir: Some("/var/lib/skiff/recorder".into()),
        ..skiff_apiserver::Options::new(vec![Address::Pipe(SERVER.to_owned())], store)
    };
    let ended = match skiff_apiserver::run(world, options).await {
        Ok(handle) => handle.stopping().await,
        Err(error) => Err(error),
    };
    // As a process would: it is started again.
    if let Err(error) = ended {
        tracing::warn!(%error, "the API server ends");
    }
}

async fn controllers(world: World) {
    let client = client_of(&world);
    skiff_controllers::run(world, client, skiff_controllers::Options::default()).await;
}

async fn scheduler(world: World) {
    let client = client_of(&world);
    skiff_scheduler::run(world, client, skiff_scheduler::Options::default()).await;
}

async fn kubelet(world: World, nodes: Arc<Vec<SimulatedNode>>, number: usize) {
    let client = client_of(&world);
    let node = &nodes[number];
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
        capacity: Capacity { cpu_milli: 4_000, memory: 8 << 30, ephemeral_storage: 64 << 30, pods: MOST_PODS },
        machine: NodeSystemInfo::default(),
        controls: Controls::new(),
    };
    skiff_kubelet::run(world, client, options).await;
}

/// A node's address on the link that all nodes share.
fn address_of(number: usize) -> IpAddr {
    IpAddr::from([10, 89, 0, u8::try_from(number + 2).expect("a simulated cluster is small")])
}

async fn proxy(world: World, nodes: Arc<Vec<SimulatedNode>>, number: usize) {
    let client = client_of(&world);
    let node = &nodes[number];
    let options = skiff_proxy::Options::new("skiff", &node.name, CLUSTER_CIDR, node.rules.clone());
    skiff_proxy::run(world, client, options).await;
}
