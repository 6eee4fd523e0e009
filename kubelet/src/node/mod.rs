//! This node at the API: its Node object ([`object`]), its heartbeat ([`heartbeat`]), and the network that the cluster
//! gives it ([`routes`]).

pub mod heartbeat;
pub mod object;
pub mod routes;

use std::net::IpAddr;

use skiff_proto::corev1::Node;

/// A node's address for other nodes.
pub fn internal_ip(node: &Node) -> Option<IpAddr> {
    let address = node.status.addresses.iter().find(|address| address.r#type == "InternalIP");
    address.and_then(|address| address.address.parse().ok())
}
