//! Starting components: what each of them needs to know, taken from the cluster's spec and folder.
//!
//! Parts that share a process talk over in-memory pipes, each with an identity of its own, which is
//! also how the simulation joins them; across processes they speak mutual TLS.

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use skiff_apiserver as apiserver;
use skiff_client::{Client, ClientConfig, Controls, TlsFiles};
use skiff_kubelet::network::real::RealNetwork;
use skiff_kubelet::node::object::Capacity;
use skiff_kubelet::runtime::docker::{DockerOptions, DockerRuntime};
use skiff_kubelet::volumes::Memory;
use skiff_kubelet::volumes::files::DnsSettings;
use skiff_proxy::{Iptables, IptablesOptions};
use skiff_world::{Address, Identity, World, tls};
use tokio::signal::unix::{SignalKind, signal};

use crate::layout::Layout;
use crate::pki;
use crate::spec::{ClusterSpec, StoreSpec};

/// A component, as a process may run several of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The API server, with the store.
    Apiserver,
    /// All controllers.
    Controllers,
    /// The scheduler.
    Scheduler,
    /// A node's kubelet.
    Kubelet,
    /// A node's proxy.
    Proxy,
}

/// The pipe on which an API server takes the other parts of its process.
const PIPE: &str = "apiserver";

type Running = Pin<Box<dyn Future<Output = Result<()>> + Send>>;

/// Runs `parts` until SIGTERM or SIGINT, or until one of them fails.
pub async fn run(layout: &Layout, spec: &ClusterSpec, node: Option<&str>, parts: &[Part]) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let world = World::real("skiff");
    let mut running: Vec<Running> = vec![];
    for part in parts {
        let shared = parts.contains(&Part::Apiserver);
        let one = start(layout, spec, node, *part, shared, &world).await?;
        running.push(Box::pin(one));
    }
    let ended = tokio::select! {
        biased;
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        why = world.stopped() => bail!("stopped: {why:?}"),
        (ended, _, _) = futures::future::select_all(running) => match ended {
            Ok(()) => bail!("a component ended by itself"),
            Err(e) => Err(e),
        },
    };
    world.stop().await;
    ended
}

/// Starts one part; what is returned ends when the part does.
async fn start(
    layout: &Layout,
    spec: &ClusterSpec,
    node: Option<&str>,
    part: Part,
    shared: bool,
    world: &World,
) -> Result<Running> {
    let own = |component: &str, user: &str| {
        let identity = shared.then(|| Identity::new(user, &[]));
        world.child(component, identity)
    };
    Ok(match part {
        Part::Apiserver => start_apiserver(layout, spec, world.child("apiserver", None)).await?,
        Part::Controllers => {
            let world = own("controllers", "system:kube-controller-manager");
            let client = client(layout, spec, &world, "controllers", shared)?;
            let options = skiff_controllers::Options {
                identity: format!("{}-controllers", layout.name()),
                cluster_cidr: spec.pod_network,
                node_mask: 24,
                node_grace: Duration::from_secs(spec.node_grace_seconds),
                root_ca: Some(std::fs::read_to_string(pki::ca(layout)).context("read the cluster's authority")?),
            };
            Box::pin(endless(skiff_controllers::run(world, client, options)))
        }
        Part::Scheduler => {
            let world = own("scheduler", "system:kube-scheduler");
            let client = client(layout, spec, &world, "scheduler", shared)?;
            let options = skiff_scheduler::Options { identity: format!("{}-scheduler", layout.name()) };
            Box::pin(endless(skiff_scheduler::run(world, client, options)))
        }
        Part::Kubelet => start_kubelet(layout, spec, node.context("a kubelet needs a node")?, world)?,
        Part::Proxy => start_proxy(layout, spec, node.context("a proxy needs a node")?, world)?,
    })
}

/// A component that never ends, as one that may.
async fn endless(component: impl Future<Output = ()>) -> Result<()> {
    component.await;
    Ok(())
}

async fn start_apiserver(layout: &Layout, spec: &ClusterSpec, world: World) -> Result<Running> {
    let store = match &spec.store {
        StoreSpec::Embedded => apiserver::StoreOptions::Embedded(apiserver::EmbeddedOptions::new(layout.store())),
        StoreSpec::Etcd(endpoints) => apiserver::StoreOptions::Etcd { endpoints: endpoints.clone(), tls: None },
    };
    let listen = vec![Address::Tcp(format!("{}:{}", spec.host_address(), spec.port)), Address::Pipe(PIPE.to_owned())];
    let mut options = apiserver::Options::new(listen, store);
    let own = pki::files(layout, "apiserver");
    options.tls = Some(tls::Files { ca: pki::ca(layout), identity: Some((own.cert, own.key)) });
    options.service_cidr = spec.service_network;
    options.cluster_name = spec.name.clone();
    options.recorder_dir = Some(layout.recorder());
    options.audit =
        Some(apiserver::audit::AuditOptions::new(spec.audit_log.clone().unwrap_or_else(|| layout.audit_log())));
    options.advertise = vec![(spec.host_address().into(), spec.port)];
    options.lost_node_tolerance = Duration::from_secs(spec.lost_node_tolerance_seconds);
    let key = pki::service_accounts(layout);
    let read = |path: &Path| std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()));
    options.service_accounts = Some(apiserver::ServiceAccounts {
        issuer: apiserver::ISSUER.to_owned(),
        private_key: read(&key.private)?,
        public_keys: read(&key.public)?,
    });
    options.event_ttl = Duration::from_secs(spec.event_ttl_seconds);
    let handle = apiserver::run(world, options).await.context("start the API server")?;
    tracing::info!("the API server listens on https://{}:{}", spec.host_address(), spec.port);
    Ok(Box::pin(async move { handle.stopping().await.context("run the API server") }))
}

/// A client of this cluster's API server with the identity called `name`: over the process's own
/// pipe, or over TLS.
fn client(layout: &Layout, spec: &ClusterSpec, world: &World, name: &str, shared: bool) -> Result<Client> {
    let agent = format!("skiff-{name}/{}", env!("CARGO_PKG_VERSION"));
    let config = if shared {
        ClientConfig::pipe(PIPE, &agent)
    } else {
        let own = pki::files(layout, name);
        ClientConfig {
            servers: vec![Address::Tcp(format!("{}:{}", spec.host_address(), spec.port))],
            tls: Some(TlsFiles::new(pki::ca(layout), own.cert, own.key)),
            token: None,
            user_agent: agent,
            impersonate: None,
        }
    };
    Client::new(world, config).with_context(|| format!("set up the client of {name}"))
}

fn start_proxy(layout: &Layout, spec: &ClusterSpec, node: &str, world: &World) -> Result<Running> {
    let world = world.child("proxy", None);
    let client = client(layout, spec, &world, &format!("proxy-{node}"), false)?;
    let directory = layout.node(node);
    std::fs::create_dir_all(&directory).with_context(|| format!("create {}", directory.display()))?;
    // A lock a node: nodes on one machine would otherwise wait for each other.
    let applier = Arc::new(Iptables::new(IptablesOptions::new(directory.join("xtables.lock"))));
    let mut options = skiff_proxy::Options::new(layout.name(), node, spec.pod_network, applier);
    options.effects_file = Some(directory.join("effects-proxy"));
    Ok(Box::pin(endless(skiff_proxy::run(world, client, options))))
}

fn start_kubelet(layout: &Layout, spec: &ClusterSpec, node: &str, world: &World) -> Result<Running> {
    let world = world.child("kubelet", None);
    let client = client(layout, spec, &world, &format!("kubelet-{node}"), false)?;
    let directory = layout.node(node);
    std::fs::create_dir_all(&directory).with_context(|| format!("create {}", directory.display()))?;
    let number = spec.nodes().find(|(_, name)| name == node).map_or(1, |(number, _)| number);
    let docker = DockerOptions { socket: docker_socket()?, cluster: layout.name().to_owned(), node: node.to_owned() };
    let zone = spec.zone(number).map(|zone| ("topology.kubernetes.io/zone".to_owned(), zone.to_owned()));
    let options = skiff_kubelet::Options {
        cluster: layout.name().to_owned(),
        node_name: node.to_owned(),
        address: Some(spec.node_address(number).into()),
        runtime: Arc::new(DockerRuntime::new(&world, docker)),
        network: Arc::new(RealNetwork::new(&world, layout.name(), node, &directory)),
        directory,
        memory: Memory::Tmpfs,
        dns: DnsSettings {
            cluster_dns: vec![],
            cluster_domain: "cluster.local".to_owned(),
            node_resolv_conf: std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default(),
        },
        labels: zone.into_iter().collect(),
        taints: vec![],
        // All nodes share this machine.
        capacity: Capacity::of_machine(spec.nodes),
        machine: skiff_kubelet::node::object::machine(),
        controls: Controls::new(),
    };
    Ok(Box::pin(endless(skiff_kubelet::run(world, client, options))))
}

/// Where Docker listens, unless DOCKER_HOST says otherwise.
const DOCKER_SOCKET: &str = "/var/run/docker.sock";

fn docker_socket() -> Result<std::path::PathBuf> {
    match std::env::var("DOCKER_HOST") {
        Err(_) => Ok(Path::new(DOCKER_SOCKET).to_owned()),
        Ok(host) => match host.strip_prefix("unix://") {
            Some(path) => Ok(Path::new(path).to_owned()),
            None => {
                bail!("DOCKER_HOST={host}: a kubelet drives the Docker Engine of its own machine; give unix://PATH")
            }
        },
    }
}
