//! The kernel's network: namespaces, veth pairs, a bridge, addresses and routes, in the namespace that this process is in.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use ipnet::Ipv4Net;
use skiff_world::World;
use tokio::sync::OnceCell;

use super::addresses::Addresses;
use super::netlink::Netlink;
use super::{ByteStream, Network, NetworkError, NodeNetwork, PodNetwork, link_name, namespace};

/// Where no node address tells better.
const DEFAULT_MTU: u32 = 1400;
/// The Pod's end of the veth pair, as everywhere in Kubernetes.
const POD_LINK: &str = "eth0";
/// How long a connection into a Pod may take.
const DIAL_LIMIT: Duration = Duration::from_secs(10);

/// The kernel's network of the namespace that this process runs in.
pub struct RealNetwork {
    world: World,
    cluster: String,
    node: String,
    directory: PathBuf,
    netlink: OnceCell<Netlink>,
    addresses: Arc<Mutex<Option<Addresses>>>,
    started: Mutex<Option<Started>>,
    swept: AtomicBool,
}

#[derive(Clone, Debug)]
struct Started {
    node: NodeNetwork,
    bridge: u32,
    mtu: u32,
}

impl RealNetwork {
    /// For one node; `directory` is its own and keeps the namespaces' files and the addresses.
    pub fn new(world: &World, cluster: &str, node: &str, directory: &Path) -> RealNetwork {
        RealNetwork {
            world: world.clone(),
            cluster: cluster.to_string(),
            node: node.to_string(),
            directory: directory.to_path_buf(),
            netlink: OnceCell::new(),
            addresses: Arc::new(Mutex::new(None)),
            started: Mutex::new(None),
            swept: AtomicBool::new(false),
        }
    }

    /// The name of the node's bridge.
    pub fn bridge_name(&self) -> String {
        link_name("skbr", &[&self.cluster, &self.node])
    }

    fn veth_name(&self, pod_uid: &str) -> String {
        link_name("veth", &[&self.cluster, &self.node, pod_uid])
    }

    fn namespace_path(&self, pod_uid: &str) -> PathBuf {
        self.directory.join("netns").join(pod_uid)
    }

    async fn netlink(&self) -> Result<&Netlink, NetworkError> {
        self.netlink.get_or_try_init(|| Netlink::open(&self.world, None)).await
    }

    fn started(&self) -> Result<Started, NetworkError> {
        lock(&self.started).clone().ok_or(NetworkError::NotStarted)
    }

    /// Uses the address book on a thread where files may block.
    async fn with_addresses<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Addresses) -> Result<T, NetworkError> + Send + 'static,
    ) -> Result<T, NetworkError> {
        let (book, directory) = (self.addresses.clone(), self.directory.join("addresses"));
        let opened = move || {
            let mut book = lock(&book);
            let addresses = match book.take() {
                Some(addresses) => addresses,
                None => Addresses::open(&directory)?,
            };
            work(book.insert(addresses))
        };
        self.world.blocking(opened).await
    }

    /// Puts the Pod's end in order: loopback, address, routes.
    async fn configure_pod(&self, started: &Started, pod: &PodNetwork) -> Result<(), NetworkError> {
        let inside = Netlink::open(&self.world, Some(pod.namespace.clone())).await?;
        if let Some(loopback) = inside.index("lo").await? {
            inside.up(loopback, "lo").await?;
        }
        let link = inside.index(POD_LINK).await?;
        let link = link.ok_or_else(|| NetworkError::failed("find the Pod's eth0", "it is gone"))?;
        inside.address(link, pod.ip, 32).await?;
        inside.up(link, POD_LINK).await?;
        inside.pod_routes(link, started.node.gateway()).await
    }
}

#[async_trait]
impl Network for RealNetwork {
    async fn start(&self, node: &NodeNetwork) -> Result<(), NetworkError> {
        if lock(&self.started).as_ref().is_some_and(|started| started.node == *node) {
            return Ok(());
        }
        let netlink = self.netlink().await?;
        let mtu = match node.node_ip {
            Some(address) => netlink.mtu_at(address).await?.unwrap_or(DEFAULT_MTU),
            None => DEFAULT_MTU,
        };
        let name = self.bridge_name();
        let bridge = netlink.bridge(&name, mtu).await?;
        netlink.address(bridge, node.gateway(), node.pod_cidr.prefix_len()).await?;
        let directory = self.directory.clone();
        let prepare = move || -> Result<(), NetworkError> {
            let netns = directory.join("netns");
            fs::create_dir_all(&netns)
                .map_err(|error| NetworkError::failed(format!("make {}", netns.display()), error))?;
            sysctl("net/ipv4/ip_forward", "1")?;
            // Pods of one node talk through the bridge's address; the node must not tell them to take a short cut.
            sysctl("net/ipv4/conf/all/send_redirects", "0")?;
            sysctl(&format!("net/ipv4/conf/{name}/send_redirects"), "0")
        };
        self.world.blocking(prepare).await?;
        *lock(&self.started) = Some(Started { node: node.clone(), bridge, mtu });
        Ok(())
    }

    async fn add(&self, pod_uid: &str) -> Result<PodNetwork, NetworkError> {
        let started = self.started()?;
        let uid = pod_uid.to_string();
        let cidr = started.node.pod_cidr;
        let ip = self.with_addresses(move |addresses| addresses.take(cidr, &uid)).await?;
        let pod = PodNetwork { ip, namespace: self.namespace_path(pod_uid) };
        let path = pod.namespace.clone();
        let file = self
            .world
            .blocking(move || {
                namespace::make(&path)?;
                fs::File::open(&path).map_err(|error| NetworkError::failed(format!("open {}", path.display()), error))
            })
            .await?;
        let name = self.veth_name(pod_uid);
        let netlink = self.netlink().await?;
        if netlink.index(&name).await?.is_none() {
            netlink.veth(&name, POD_LINK, started.mtu, file.as_raw_fd(), started.bridge).await?;
        }
        match self.configure_pod(&started, &pod).await {
            Ok(()) => Ok(pod),
            Err(error) => {
                // Half a link is of no use to anybody: the next try makes a whole one.
                netlink.delete(&name).await?;
                Err(error)
            }
        }
    }

    async fn remove(&self, pod_uid: &str) -> Result<(), NetworkError> {
        self.netlink().await?.delete(&self.veth_name(pod_uid)).await?;
        let path = self.namespace_path(pod_uid);
        self.world.blocking(move || namespace::remove(&path)).await?;
        let uid = pod_uid.to_string();
        self.with_addresses(move |addresses| addresses.release(&uid)).await
    }

    async fn pods(&self) -> Result<BTreeMap<String, PodNetwork>, NetworkError> {
        let directory = self.directory.join("netns");
        // Files outlive a reboot, namespaces do not. Looked for once, before anything is made: later an address
        // without a namespace is one whose namespace is just being made.
        if !self.swept.swap(true, Ordering::SeqCst) {
            let taken = self.with_addresses(|addresses| Ok(addresses.all().clone())).await?;
            for uid in taken.into_values().filter(|uid| !namespace::exists(&directory.join(uid))) {
                self.remove(&uid).await?;
            }
        }
        let taken = self.with_addresses(|addresses| Ok(addresses.all().clone())).await?;
        let pod = |(ip, uid): (Ipv4Addr, String)| {
            let namespace = directory.join(&uid);
            (uid, PodNetwork { ip, namespace })
        };
        Ok(taken.into_iter().map(pod).collect())
    }

    async fn node_namespace(&self) -> Result<PathBuf, NetworkError> {
        let path = self.directory.join("node.netns");
        let bind = move || {
            fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))
                .map_err(|error| NetworkError::failed("make the network's directory", error))?;
            // What an earlier life of this node bound may be another namespace by now.
            if namespace::exists(&path) && namespace::check(&path, std::process::id()).is_err() {
                namespace::remove(&path)?;
            }
            if !namespace::exists(&path) {
                namespace::bind_current(&path)?;
            }
            Ok(path)
        };
        self.world.blocking(bind).await
    }

    async fn check(&self, namespace: &Path, pid: u32) -> Result<(), NetworkError> {
        namespace::check(namespace, pid)
    }

    async fn routes(&self, routes: &BTreeMap<Ipv4Net, IpAddr>) -> Result<(), NetworkError> {
        let netlink = self.netlink().await?;
        let present = netlink.node_routes().await?;
        for (range, _) in present.iter().filter(|(range, _)| !routes.contains_key(range)) {
            netlink.remove_node_route(*range).await?;
        }
        let mut failure = None;
        for (range, via) in routes {
            let IpAddr::V4(via) = via else { continue };
            if present.contains(&(*range, IpAddr::V4(*via))) {
                continue;
            }
            // One node that cannot be reached must not keep us from the others.
            if let Err(error) = netlink.set_node_route(*range, *via).await {
                failure = Some(error);
            }
        }
        failure.map_or(Ok(()), Err)
    }

    async fn dial(&self, pod_uid: Option<&str>, port: u16) -> Result<Box<dyn ByteStream>, NetworkError> {
        let path = pod_uid.map(|uid| self.namespace_path(uid));
        let connect = move || {
            let connect = || std::net::TcpStream::connect_timeout(&(Ipv4Addr::LOCALHOST, port).into(), DIAL_LIMIT);
            let stream = match path {
                Some(path) => namespace::inside(&path, connect)?,
                None => connect(),
            };
            stream
                .and_then(|stream| stream.set_nonblocking(true).map(|()| stream))
                .map_err(|error| NetworkError::failed(format!("connect to port {port} of the Pod"), error))
        };
        let stream = self.world.blocking(connect).await?;
        let stream = tokio::net::TcpStream::from_std(stream)
            .map_err(|error| NetworkError::failed("use the connection into the Pod", error))?;
        Ok(Box::new(stream))
    }

    async fn stop(&self) -> Result<(), NetworkError> {
        let netlink = self.netlink().await?;
        for (range, _) in netlink.node_routes().await? {
            netlink.remove_node_route(range).await?;
        }
        netlink.delete(&self.bridge_name()).await?;
        *lock(&self.started) = None;
        let path = self.directory.join("node.netns");
        self.world.blocking(move || namespace::remove(&path)).await
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic while it was held leaves plain data that is still whole.
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn sysctl(name: &str, value: &str) -> Result<(), NetworkError> {
    let path = format!("/proc/sys/{name}");
    if fs::read_to_string(&path).is_ok_and(|now| now.trim() == value) {
        return Ok(());
    }
    fs::write(&path, value).map_err(|error| NetworkError::failed(format!("set {path} to {value}"), error))
}
