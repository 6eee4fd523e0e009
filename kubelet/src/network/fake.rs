//! A network for the simulation: a table of addresses. It outlives the kubelet, as the kernel's does.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use ipnet::Ipv4Net;
use skiff_world::World;

use super::addresses::next_free;
use super::{ByteStream, Network, NetworkError, NodeNetwork, PodNetwork};

#[derive(Default)]
struct State {
    node: Option<NodeNetwork>,
    taken: BTreeMap<Ipv4Addr, String>,
    last: Option<Ipv4Addr>,
    routes: BTreeMap<Ipv4Net, IpAddr>,
}

/// The network of one simulated machine. Clones are the same one.
#[derive(Clone)]
pub struct FakeNetwork {
    machine: World,
    state: Arc<Mutex<State>>,
}

impl FakeNetwork {
    /// A network without Pods.
    pub fn new(machine: &World) -> FakeNetwork {
        FakeNetwork { machine: machine.clone(), state: Arc::default() }
    }

    /// Who has which address.
    pub fn taken(&self) -> BTreeMap<Ipv4Addr, String> {
        self.lock().taken.clone()
    }

    /// The ways to other nodes' Pods.
    pub fn current_routes(&self) -> BTreeMap<Ipv4Net, IpAddr> {
        self.lock().routes.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    async fn takes(&self, most_ms: u64) {
        let spread = self.machine.random_below(most_ms);
        self.machine.sleep(Duration::from_millis(1 + spread)).await;
    }
}

fn namespace(pod_uid: &str) -> PathBuf {
    Path::new("/fake/netns").join(pod_uid)
}

#[async_trait]
impl Network for FakeNetwork {
    async fn start(&self, node: &NodeNetwork) -> Result<(), NetworkError> {
        self.takes(10).await;
        self.lock().node = Some(node.clone());
        Ok(())
    }

    async fn add(&self, pod_uid: &str) -> Result<PodNetwork, NetworkError> {
        self.takes(20).await;
        let mut state = self.lock();
        let node = state.node.clone().ok_or(NetworkError::NotStarted)?;
        let owned = state.taken.iter().find(|(_, uid)| *uid == pod_uid).map(|(ip, _)| *ip);
        let ip = match owned.or_else(|| next_free(node.pod_cidr, &state.taken, state.last)) {
            Some(ip) => ip,
            None => {
                return Err(NetworkError::Exhausted { pod_cidr: node.pod_cidr, used: state.taken.len() });
            }
        };
        if owned.is_none() {
            state.taken.insert(ip, pod_uid.to_string());
            state.last = Some(ip);
        }
        Ok(PodNetwork { ip, namespace: namespace(pod_uid) })
    }

    async fn remove(&self, pod_uid: &str) -> Result<(), NetworkError> {
        self.takes(20).await;
        self.lock().taken.retain(|_, uid| uid != pod_uid);
        Ok(())
    }

    async fn pods(&self) -> Result<BTreeMap<String, PodNetwork>, NetworkError> {
        let taken = self.taken();
        Ok(taken.into_iter().map(|(ip, uid)| (uid.clone(), PodNetwork { ip, namespace: namespace(&uid) })).collect())
    }

    async fn node_namespace(&self) -> Result<PathBuf, NetworkError> {
        Ok(PathBuf::from("/fake/node.netns"))
    }

    async fn check(&self, _namespace: &Path, _pid: u32) -> Result<(), NetworkError> {
        Ok(())
    }

    async fn routes(&self, routes: &BTreeMap<Ipv4Net, IpAddr>) -> Result<(), NetworkError> {
        self.takes(10).await;
        self.lock().routes = routes.clone();
        Ok(())
    }

    async fn dial(&self, _pod_uid: Option<&str>, port: u16) -> Result<Box<dyn ByteStream>, NetworkError> {
        Err(NetworkError::failed(format!("connect to port {port} of the Pod"), "nothing listens in the simulation"))
    }

    async fn stop(&self) -> Result<(), NetworkError> {
        let mut state = self.lock();
        state.node = None;
        state.routes.clear();
        Ok(())
    }
}
