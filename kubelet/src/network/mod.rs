//! The edge to the node's network: what the kubelet asks of it ([`Network`]).
//!
//! **The kubelet owns the network namespaces; containers only enter them.** A Pod's namespace is a file below the node's
//! directory that the kubelet made, with one end of a veth pair, an address and two routes in it. So it outlives every
//! container: lose pause, and the Pod comes back with the same address; kill the kubelet, and the files tell the next one
//! which addresses are taken.
//!
//! ```text
//!   node's namespace                                   the Pod's namespace
//!   ┌────────────────────────────────────────┐         ┌──────────────────────────────┐
//!   │ link to other nodes ── routes ── bridge│── veth ─│ eth0  10.244.1.5/32          │
//!   │                        10.244.1.1/24   │         │ default via 10.244.1.1       │
//!   └────────────────────────────────────────┘         └──────────────────────────────┘
//! ```
//!
//! A Pod's address is a /32: two Pods of one node talk through the node's routing, not around it over the bridge. So
//! every packet passes the node's Service rules and its connection tracking, answers are translated back, a Pod reaches
//! itself through its own Service, and no br_netfilter is needed.

pub mod addresses;
pub mod fake;
mod namespace;
mod netlink;
pub mod real;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use async_trait::async_trait;
use ipnet::Ipv4Net;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncWrite};

/// What the node's own part of the network is made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeNetwork {
    /// this node's share of the cluster's Pod addresses
    pub pod_cidr: Ipv4Net,
    /// the node's address: its link's MTU is the Pods'
    pub node_ip: Option<IpAddr>,
}

impl NodeNetwork {
    /// The bridge's address, the Pods' gateway: the first of the range.
    pub fn gateway(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.pod_cidr.network()) + 1)
    }
}

/// A Pod's place in the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodNetwork {
    /// its address
    pub ip: Ipv4Addr,
    /// the file that holds its namespace
    pub namespace: PathBuf,
}

/// What can go wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// The node's Pod CIDR has not been given yet.
    #[error("the node has no Pod CIDR yet; the node controller assigns it (spec.podCIDR)")]
    NotStarted,
    /// No address is free.
    #[error("no address left for the Pod: all {used} of {pod_cidr} are taken")]
    Exhausted {
        /// the range
        pod_cidr: Ipv4Net,
        /// how many are in use
        used: usize,
    },
    /// A step of the set-up failed.
    #[error("cannot {operation}: {reason}")]
    Failed {
        /// what was tried
        operation: String,
        /// the kernel's words
        reason: String,
    },
    /// The sandbox is not where it should be: nothing may join it.
    #[error("process {pid} of the sandbox is not in the Pod's network namespace but in {found}")]
    WrongNamespace {
        /// pause's
        pid: u32,
        /// what it is in
        found: String,
    },
}

impl NetworkError {
    /// An operation that failed, with why.
    pub fn failed(operation: impl Into<String>, reason: impl std::fmt::Display) -> NetworkError {
        NetworkError::Failed { operation: operation.into(), reason: reason.to_string() }
    }
}

/// A connection into a Pod.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}

/// The node's network, as the kubelet uses it. Everything may be repeated: what is there already stays.
#[async_trait]
pub trait Network: Send + Sync + 'static {
    /// Sets up the node's part: bridge, its address, forwarding.
    async fn start(&self, node: &NodeNetwork) -> Result<(), NetworkError>;
    /// The Pod's namespace with its address.
    async fn add(&self, pod_uid: &str) -> Result<PodNetwork, NetworkError>;
    /// Takes it all away again.
    async fn remove(&self, pod_uid: &str) -> Result<(), NetworkError>;
    /// Which Pods have something here, by uid; what an earlier kubelet set up, too.
    async fn pods(&self) -> Result<BTreeMap<String, PodNetwork>, NetworkError>;
    /// The file that holds the node's own namespace, for hostNetwork Pods.
    async fn node_namespace(&self) -> Result<PathBuf, NetworkError>;
    /// Makes sure that a process is in the namespace.
    async fn check(&self, namespace: &std::path::Path, pid: u32) -> Result<(), NetworkError>;
    /// The ways to other nodes' Pods: range to node address. Those of ours that are not named go.
    async fn routes(&self, routes: &BTreeMap<Ipv4Net, IpAddr>) -> Result<(), NetworkError>;
    /// Connects to a port on the Pod's (or, without a uid, the node's) loopback.
    async fn dial(&self, pod_uid: Option<&str>, port: u16) -> Result<Box<dyn ByteStream>, NetworkError>;
    /// Removes everything of the node's part that `start` made.
    async fn stop(&self) -> Result<(), NetworkError>;
}

/// A link name (15 characters at most) that differs for different inputs.
pub fn link_name(prefix: &str, parts: &[&str]) -> String {
    let digest = Sha256::digest(parts.join("\0").as_bytes());
    format!("{prefix}{}", &crate::images::archive::hex(&digest)[..15 - prefix.len().min(7)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_names_fit_and_differ() {
        let one = link_name("veth", &["a", "b"]);
        assert_eq!(one.len(), 15);
        assert_ne!(one, link_name("veth", &["ab", ""]));
        assert_eq!(one, link_name("veth", &["a", "b"]));
    }

    #[test]
    fn the_gateway_is_the_first_address() {
        let node = NodeNetwork { pod_cidr: "10.244.3.0/24".parse().expect("cidr"), node_ip: None };
        assert_eq!(node.gateway().to_string(), "10.244.3.1");
    }
}
