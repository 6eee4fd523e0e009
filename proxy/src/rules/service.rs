//! The chains of one Service, and where dispatch leads to them.
//!
//! Each port has at most three chains: `SVC` (any endpoint), `LOC` (endpoints on this node, for
//! `internalTrafficPolicy: Local`) and `EXT` (what comes to its NodePort). There is none per endpoint: an
//! endpoint is one rule, two with affinity.

use std::net::Ipv4Addr;
use std::sync::Arc;

use skiff_world::mutants::{Mutant, is_awake};

use super::base::{DROP, MASQUERADE, REJECT, rank};
use super::names::{ChainName, Names};
use super::rule::{Match, Rule, Target, comment};
use super::{Chain, Facts, StaleFlow};
use crate::services::{Backend, PortView, Protocol, ServiceView};

/// One entry under an address or a port of the dispatch trees.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// The protocol.
    pub protocol: Protocol,
    /// The port of the Service, or the NodePort.
    pub port: u16,
    /// Which Service and port, for people; orders Services that claim the same, too.
    pub words: Arc<str>,
    /// Where it leads.
    pub leads: Leads,
}

/// Where an entry leads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Leads {
    /// To a chain of the Service.
    To(ChainName),
    /// Nobody serves it anywhere: told so.
    Reject,
    /// Nobody serves it here, and its policy keeps it here: dropped, so that a load balancer tries elsewhere.
    Drop,
}

impl Leads {
    /// As a rule's target.
    pub fn target(&self) -> Target {
        match self {
            Leads::To(chain) => Target::Jump(chain.clone()),
            Leads::Reject => Target::SetMark(REJECT),
            Leads::Drop => Target::SetMark(DROP),
        }
    }
}

/// What one Service adds to the rule set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contribution {
    /// Its own chains, in the nat table.
    pub chains: Vec<(ChainName, Chain)>,
    /// Its entries by address.
    pub addresses: Vec<(Ipv4Addr, Entry)>,
    /// Its entries by NodePort.
    pub node_ports: Vec<Entry>,
    /// This node's Pods behind it.
    pub here: Vec<Ipv4Addr>,
}

/// What `view` adds to the rule set.
pub fn contribution(view: &ServiceView, names: &Names, facts: &Facts) -> Contribution {
    let mut all = Contribution::default();
    let left_out = |port: &PortView| is_awake(Mutant::TcpOnly) && port.port.protocol != Protocol::Tcp;
    for port in view.ports.iter().filter(|port| !left_out(port)) {
        let any = names.service("SVC", &view.name, &port.port);
        PortRules { view, port, names, facts, any }.add_to(&mut all);
        all.here.extend(&port.here);
    }
    all
}

/// UDP conversations that the step from `old` to `new` leaves behind: those with an endpoint that is gone,
/// and those begun while there was none.
pub fn stale_flows(old: Option<&ServiceView>, new: Option<&ServiceView>) -> Vec<StaleFlow> {
    let ports = |view| Option::<&ServiceView>::into_iter(view).flat_map(|view| &view.ports);
    let udp = |port: &&PortView| port.port.protocol == Protocol::Udp;
    let mut stale = Vec::new();
    if is_awake(Mutant::StaleConversations) {
        return stale;
    }
    for port in ports(old).filter(udp) {
        let still = ports(new).find(|p| p.port == port.port);
        let gone = |b: &&Backend| !still.is_some_and(|p| p.cluster.contains(b));
        for endpoint in port.cluster.iter().filter(gone) {
            push_flows(&mut stale, old.and_then(|view| view.cluster_ip), port, Some(endpoint.address));
        }
    }
    for port in ports(new).filter(udp).filter(|p| !p.cluster.is_empty()) {
        let before = ports(old).find(|p| p.port == port.port);
        if before.is_none_or(|p| p.cluster.is_empty()) {
            push_flows(&mut stale, new.and_then(|view| view.cluster_ip), port, None);
        }
    }
    stale
}

fn push_flows(flows: &mut Vec<StaleFlow>, cluster_ip: Option<Ipv4Addr>, port: &PortView, endpoint: Option<Ipv4Addr>) {
    if cluster_ip.is_some() {
        flows.push(StaleFlow { address: cluster_ip, port: port.port.port, endpoint });
    }
    if let Some(node_port) = port.port.node_port {
        flows.push(StaleFlow { address: None, port: node_port, endpoint });
    }
}

/// One port of a Service, on its way to rules.
struct PortRules<'a> {
    view: &'a ServiceView,
    port: &'a PortView,
    names: &'a Names,
    facts: &'a Facts,
    /// The chain that leads to any endpoint: made once, for all who jump there share the name.
    any: ChainName,
}

impl PortRules<'_> {
    fn add_to(&self, all: &mut Contribution) {
        let cluster_used =
            (self.view.cluster_ip.is_some() && !self.view.internal_local) || self.port.port.node_port.is_some();
        if cluster_used && !self.port.cluster.is_empty() {
            all.chains.push((self.any.clone(), self.marking(&self.port.cluster)));
        }
        if let Some(address) = self.view.cluster_ip {
            let leads = self.cluster_ip_leads(&mut all.chains);
            if is_awake(Mutant::NoReject) && leads == Leads::Reject {
                return;
            }
            all.addresses.push((address, self.entry(self.port.port.port, leads)));
        }
        if let Some(node_port) = self.port.port.node_port {
            // With a Local policy the chain is there even if nobody serves here: Pods and the node itself
            // are not from outside, and go to any endpoint.
            let leads = if self.port.cluster.is_empty() {
                Leads::Reject
            } else {
                let name = self.name("EXT");
                all.chains.push((name.clone(), self.external()));
                Leads::To(name)
            };
            all.node_ports.push(self.entry(node_port, leads));
        }
    }

    /// Where the cluster address leads, given who serves it.
    fn cluster_ip_leads(&self, chains: &mut Vec<(ChainName, Chain)>) -> Leads {
        if self.port.cluster.is_empty() {
            return Leads::Reject;
        }
        if !self.view.internal_local {
            return Leads::To(self.any.clone());
        }
        if self.port.local.is_empty() {
            return Leads::Drop;
        }
        let name = self.name("LOC");
        chains.push((name.clone(), self.marking(&self.port.local)));
        Leads::To(name)
    }

    /// A chain for packets to the cluster address: whoever is not a Pod must get the answer back through
    /// this node.
    fn marking(&self, backends: &[Backend]) -> Chain {
        let cidr = self.facts.cluster_cidr.trunc();
        let mut rules = vec![Rule::to(Target::SetMark(MASQUERADE)).not_from(cidr)];
        self.share_out(backends, &mut rules);
        Chain::new(rank::LEAF, rules)
    }

    /// The chain for packets to the NodePort.
    fn external(&self) -> Chain {
        let to_any = Rule::jump(&self.any);
        if !self.view.external_local {
            // The answer must come back through this node, wherever the endpoint is.
            let rules = vec![Rule::to(Target::SetMark(MASQUERADE)), to_any];
            return Chain::new(rank::EXTERNAL, rules);
        }
        let cidr = self.facts.cluster_cidr.trunc();
        let mut rules = vec![
            to_any.clone().from_net(cidr).saying("Pods are not from outside"),
            Rule::to(Target::SetMark(MASQUERADE)).when(Match::FromThisNode),
            to_any.when(Match::FromThisNode).saying("nor is this node"),
        ];
        if self.port.local.is_empty() {
            rules.push(Rule::to(Target::SetMark(DROP)));
        } else {
            // No masquerade: that the client's address is kept is what the policy is for.
            self.share_out(&self.port.local, &mut rules);
        }
        Chain::new(rank::EXTERNAL, rules)
    }

    /// Shares connections out evenly. With affinity, a client that is remembered goes where it went before.
    fn share_out(&self, backends: &[Backend], rules: &mut Vec<Rule>) {
        let protocol = self.port.port.protocol;
        let list = |backend: &Backend| self.names.affinity(&self.view.name, &self.port.port, backend);
        let to = |backend: &Backend| Rule::to(Target::Dnat(*backend)).over(protocol);
        if let Some(seconds) = self.view.affinity_seconds {
            rules.extend(
                backends.iter().map(|backend| to(backend).when(Match::SeenRecently { list: list(backend), seconds })),
            );
        }
        for (at, backend) in backends.iter().enumerate() {
            let mut rule = to(backend);
            let left = (backends.len() - at) as u32;
            if left > 1 {
                rule = rule.when(Match::Chance(one_in(left)));
            }
            if self.view.affinity_seconds.is_some() {
                rule = rule.when(Match::Remember { list: list(backend) });
            }
            rules.push(rule);
        }
    }

    fn entry(&self, port: u16, leads: Leads) -> Entry {
        let mut words = self.view.name.to_string();
        if !self.port.port.name.is_empty() {
            words.push(':');
            words.push_str(&self.port.port.name);
        }
        Entry { protocol: self.port.port.protocol, port, words: comment(&words), leads }
    }

    fn name(&self, role: &str) -> ChainName {
        self.names.service(role, &self.view.name, &self.port.port)
    }
}

/// One in `n` as a share of 2^31, rounded.
fn one_in(n: u32) -> u32 {
    let (whole, n) = (1u64 << 31, u64::from(n));
    ((whole + n / 2) / n) as u32
}
