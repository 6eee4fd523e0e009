//! The chains there is one of, and the jumps that lead from the kernel's own chains into ours.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::names::{ChainName, Names};
use super::rule::{MarkBit, Match, Rule, Target, single};
use super::{Chain, Facts, Table};
use crate::services::Protocol;

/// A packet whose connection must leave with this node's address.
pub const MASQUERADE: MarkBit = MarkBit(0x10_0000);
/// A packet to a Service that nobody serves.
pub const REJECT: MarkBit = MarkBit(0x20_0000);
/// A packet to a Service that nobody serves *here*, where its policy keeps it here.
pub const DROP: MarkBit = MarkBit(0x40_0000);

/// Ranks: chains are written leaves first. Nodes of the dispatch trees lie between `TREE` and `ENTRY`, the
/// longest prefix first.
pub mod rank {
    /// Jumps nowhere.
    pub const LEAF: u8 = 0;
    /// Jumps to leaves.
    pub const EXTERNAL: u8 = 1;
    /// The lowest node of a dispatch tree.
    pub const TREE: u8 = 2;
    /// Jumps to trees.
    pub const NODE_PORTS: u8 = 40;
    /// Packets come in here.
    pub const ENTRY: u8 = 41;
}

/// A rule in one of the kernel's own chains that leads into one of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseJump {
    /// The table.
    pub table: Table,
    /// The kernel's chain.
    pub base: &'static str,
    /// The rule.
    pub rule: Rule,
}

/// The names of the chains there is one of.
#[derive(Clone, Debug)]
pub struct Fixed {
    /// Dispatch by address, then by NodePort.
    pub services: ChainName,
    /// Dispatch by NodePort.
    pub node_ports: ChainName,
    /// Masquerades.
    pub postrouting: ChainName,
    /// A Pod that reaches itself through a Service.
    pub hairpin: ChainName,
    /// Sends what nobody serves away.
    pub firewall: ChainName,
    /// Lets Pods' packets pass.
    pub forward: ChainName,
}

impl Fixed {
    /// The fixed chains of one cluster.
    pub fn new(names: &Names) -> Fixed {
        Fixed {
            services: names.fixed("SERVICES"),
            node_ports: names.fixed("NODEPORTS"),
            postrouting: names.fixed("POSTROUTING"),
            hairpin: names.fixed("HAIRPIN"),
            firewall: names.fixed("FIREWALL"),
            forward: names.fixed("FORWARD"),
        }
    }

    /// The jumps into them. Only a connection's first packet need pass FIREWALL: marks are set by the nat
    /// table, which no later packet sees.
    pub fn jumps(&self) -> Vec<BaseJump> {
        let jump = |table, base, rule: Rule| BaseJump { table, base, rule };
        let new = || Match::State { states: "NEW", not: false };
        let firewall = || Rule::jump(&self.firewall).when(new()).saying("skiff: Services without endpoints");
        vec![
            jump(Table::Filter, "INPUT", firewall()),
            jump(Table::Filter, "FORWARD", Rule::jump(&self.forward).saying("skiff: Pods")),
            // Inserted after, so in front of it: a REJECT must come before an ACCEPT.
            jump(Table::Filter, "FORWARD", firewall()),
            jump(Table::Filter, "OUTPUT", firewall()),
            jump(Table::Nat, "POSTROUTING", Rule::jump(&self.postrouting).saying("skiff: masquerade")),
            jump(Table::Nat, "PREROUTING", Rule::jump(&self.services).saying("skiff: Services")),
            jump(Table::Nat, "OUTPUT", Rule::jump(&self.services).saying("skiff: Services")),
        ]
    }

    /// How SERVICES goes on behind the addresses: a NodePort is on any address of this node but loopback,
    /// which the kernel would not route to a Pod anyway (`route_localnet` stays off).
    pub fn to_node_ports(&self, facts: &Facts) -> Vec<Rule> {
        let here = || Rule::jump(&self.node_ports).when(Match::ToThisNode);
        if facts.node_port_addresses.is_empty() {
            return vec![here().not_to(loopback())];
        }
        facts.node_port_addresses.iter().map(|net| here().to_net(net.trunc())).collect()
    }

    /// The chain POSTROUTING.
    pub fn postrouting_chain(&self, facts: &Facts) -> Chain {
        let marked = || Match::Mark { bit: MASQUERADE, not: false };
        let egress = facts.pod_cidr.unwrap_or(facts.cluster_cidr);
        let dnat = Match::State { states: "DNAT", not: false };
        let rules = vec![
            // A Pod that reaches itself stays within this node's Pods.
            Rule::jump(&self.hairpin).from_net(egress.trunc()).to_net(egress.trunc()).when(dnat),
            Rule::to(Target::Masquerade)
                .from_net(egress.trunc())
                .not_to(facts.cluster_cidr.trunc())
                .saying("Pods to the outside"),
            Rule::to(Target::Return).when(Match::Mark { bit: MASQUERADE, not: true }),
            // The mark goes before the packet does: encapsulated (VXLAN), it would come by here again.
            Rule::to(Target::ClearMark(MASQUERADE)).when(marked()),
            Rule::to(Target::Masquerade),
        ];
        Chain::new(rank::ENTRY, rules)
    }

    /// The chain HAIRPIN: a Pod that reaches itself through a Service must not see its own address as the
    /// client's, or it would answer itself directly, past the translation.
    pub fn hairpin_chain(pods: impl Iterator<Item = Ipv4Addr>) -> Chain {
        let rule = |pod| Rule::to(Target::Masquerade).from_net(single(pod)).to_net(single(pod));
        Chain::new(rank::LEAF, pods.map(rule).collect::<Vec<_>>())
    }

    /// The chain FIREWALL.
    pub fn firewall_chain() -> Chain {
        let marked = |bit| Match::Mark { bit, not: false };
        let answer = Match::State { states: "RELATED,ESTABLISHED,DNAT", not: true };
        let rules = vec![
            Rule::to(Target::Reset).over(Protocol::Tcp).when(marked(REJECT)).saying("no endpoints"),
            Rule::to(Target::Reject).when(marked(REJECT)).saying("no endpoints"),
            Rule::to(Target::Drop).when(marked(DROP)).saying("no endpoints on this node"),
            // Where somebody switched route_localnet on, no stranger reaches what listens on loopback.
            Rule::to(Target::Drop).not_from(loopback()).to_net(loopback()).when(answer).saying("martians"),
        ];
        Chain::new(rank::ENTRY, rules)
    }

    /// The chain FORWARD: others (Docker among them) drop by default what is merely passing through.
    pub fn forward_chain(facts: &Facts) -> Chain {
        let accept = || Rule::to(Target::Accept);
        let rules = vec![
            // A late TCP packet that conntrack cannot place would pass untranslated, and its answer, a reset,
            // would kill a healthy connection.
            Rule::to(Target::Drop).over(Protocol::Tcp).when(Match::State { states: "INVALID", not: false }),
            accept().when(Match::Mark { bit: MASQUERADE, not: false }),
            accept().from_net(facts.cluster_cidr.trunc()),
            accept().to_net(facts.cluster_cidr.trunc()),
            accept().when(Match::State { states: "RELATED,ESTABLISHED", not: false }),
        ];
        Chain::new(rank::ENTRY, rules)
    }
}

fn loopback() -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8)
}
