//! Which addresses for which node's pods.
//!
//! All nodes are one key: who hands out the only copies of something has to see all of them at once.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use ipnet::Ipv4Net;
use skiff_client::driver::Plan;

use crate::nodes::NodeView;

/// What there is to know.
#[derive(Clone, Debug)]
pub struct Observed {
    /// All pods' addresses.
    pub cluster: Ipv4Net,
    /// The size of a node's part.
    pub mask: u8,
    /// All nodes, each with the revision it was read at.
    pub nodes: Vec<(Arc<NodeView>, u64)>,
    /// What we tried to give to which node (by uid), if we don't know yet whether it got it.
    pub promised: BTreeMap<String, Ipv4Net>,
}

/// What can be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Give a node its part.
    Assign {
        /// The node.
        node: String,
        /// Its uid.
        uid: String,
        /// The revision at which it had none.
        revision: u64,
        /// What it gets.
        cidr: Ipv4Net,
    },
    /// Tell that there is none left.
    Exhausted {
        /// The node that gets none.
        node: String,
        /// Its uid.
        uid: String,
    },
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Assign { node, cidr, .. } => write!(f, "give {cidr} to node {node}"),
            Action::Exhausted { node, .. } => write!(f, "tell that no addresses are left for node {node}"),
        }
    }
}

/// The plan: every node without a part gets the first free one; first come, first served.
pub fn plan(observed: &Observed) -> Plan<Action> {
    let mut plan = Plan::nothing();
    // What somebody gave a node by hand counts too, whatever its size.
    let mut taken: Vec<Ipv4Net> = observed.nodes.iter().filter_map(|(n, _)| n.pod_cidr.parse().ok()).collect();
    taken.extend(observed.promised.values());
    let exact: BTreeSet<Ipv4Net> = taken.iter().copied().filter(|t| t.prefix_len() == observed.mask).collect();
    let odd: Vec<Ipv4Net> = taken.into_iter().filter(|t| t.prefix_len() != observed.mask).collect();
    let is_free = |net: &Ipv4Net| !exact.contains(net) && !odd.iter().any(|o| o.contains(net) || net.contains(o));
    let parts = observed.cluster.subnets(observed.mask).ok();
    let mut free = parts.into_iter().flatten().filter(is_free);

    let mut waiting: Vec<_> = observed.nodes.iter().filter(|(n, _)| n.pod_cidr.is_empty() && !n.deleting).collect();
    waiting.sort_by(|(a, _), (b, _)| (a.created, &a.name).cmp(&(b.created, &b.name)));
    for (node, revision) in waiting {
        let (name, uid) = (node.name.clone(), node.uid.clone());
        match observed.promised.get(&uid).copied().or_else(|| free.next()) {
            Some(cidr) => {
                let assign = Action::Assign { node: name, uid, revision: *revision, cidr };
                plan.step(assign, "it has no pod addresses yet");
            }
            None => {
                plan.step(Action::Exhausted { node: name, uid }, format!("all of {} is taken", observed.cluster));
            }
        }
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, cidr: &str, created: i64) -> (Arc<NodeView>, u64) {
        let node = NodeView {
            name: name.into(),
            uid: format!("uid-{name}"),
            pod_cidr: cidr.into(),
            created,
            ..NodeView::default()
        };
        (Arc::new(node), 7)
    }

    fn assigned(nodes: Vec<(Arc<NodeView>, u64)>, promised: &[(&str, &str)]) -> Vec<String> {
        let promised = promised.iter().map(|(uid, cidr)| (uid.to_string(), cidr.parse().unwrap())).collect();
        let cluster = "10.244.0.0/22".parse().unwrap();
        let plan = plan(&Observed { cluster, mask: 24, nodes, promised });
        plan.steps.iter().map(|s| s.action.to_string()).collect()
    }

    #[test]
    fn the_first_free_parts_go_to_the_oldest_nodes() {
        let nodes = vec![node("a", "10.244.1.0/24", 1), node("b", "", 3), node("c", "", 2)];
        assert_eq!(assigned(nodes, &[]), ["give 10.244.0.0/24 to node c", "give 10.244.2.0/24 to node b"]);
    }

    #[test]
    fn what_was_promised_goes_to_nobody_else() {
        let nodes = vec![node("a", "", 1), node("b", "", 2)];
        let promised = [("uid-b", "10.244.0.0/24")];
        assert_eq!(assigned(nodes, &promised), ["give 10.244.1.0/24 to node a", "give 10.244.0.0/24 to node b"]);
    }

    #[test]
    fn parts_given_by_hand_are_respected_and_running_out_is_told() {
        let nodes = vec![node("a", "10.244.0.0/23", 1), node("b", "", 2), node("c", "", 3), node("d", "", 4)];
        assert_eq!(
            assigned(nodes, &[]),
            [
                "give 10.244.2.0/24 to node b",
                "give 10.244.3.0/24 to node c",
                "tell that no addresses are left for node d"
            ]
        );
    }
}
