//! Ways to the other nodes' Pods, in step with the Node objects.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::Ipv4Net;
use skiff_client::Project;
use skiff_proto::corev1::Node;

use super::internal_ip;

/// What is kept of each node.
pub struct NodeRoute;

/// Where a node's Pods are, and how to get there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    /// the node
    pub name: String,
    /// its Pods
    pub pod_cidr: Option<Ipv4Net>,
    /// its address
    pub via: Option<IpAddr>,
}

impl Project<Node> for NodeRoute {
    type Out = Way;

    fn project(node: &Node) -> Way {
        Way { name: node.metadata.name.clone(), pod_cidr: node.spec.pod_cidr.parse().ok(), via: internal_ip(node) }
    }
}

/// The routes that this node needs.
pub fn routes<'a>(own: &str, nodes: impl Iterator<Item = &'a Way>) -> BTreeMap<Ipv4Net, IpAddr> {
    nodes.filter(|way| way.name != own).filter_map(|way| way.pod_cidr.zip(way.via)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_but_its_own_and_the_unfinished() {
        let way = |name: &str, cidr: Option<&str>, via: Option<&str>| Way {
            name: name.into(),
            pod_cidr: cidr.map(|cidr| cidr.parse().expect("a range")),
            via: via.map(|via| via.parse().expect("an address")),
        };
        let nodes = [
            way("a", Some("10.244.0.0/24"), Some("10.89.0.2")),
            way("b", Some("10.244.1.0/24"), Some("10.89.0.3")),
            way("c", None, Some("10.89.0.4")),
            way("d", Some("10.244.3.0/24"), None),
        ];
        let got = routes("a", nodes.iter());
        let expected = ("10.244.1.0/24".parse().expect("a range"), "10.89.0.3".parse().expect("an address"));
        assert_eq!(got, BTreeMap::from([expected]));
    }
}
