//! The whole rule set, kept current one Service at a time.
//!
//! What a Service adds follows from its view alone, so a change is: take away what the old view added, add what
//! the new one does, and look again at the dispatch nodes above the addresses and ports whose entries changed.
//! Work is in proportion to the change, and the result is the same as if all had been built anew (a property
//! test holds it to that).

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::base::{Fixed, rank};
use super::names::{ChainName, Names};
use super::rule::{Match, Rule, single};
use super::service::{Contribution, Entry, contribution, stale_flows};
use super::tree::{Branch, Prefix, Tree, last_offset};
use super::{Chain, Facts, RuleSet, StaleFlow, Table};
use crate::services::{Protocol, ServiceName, ServiceView};

/// A width of the keys of a dispatch tree.
const ADDRESS_BITS: u8 = 32;
const PORT_BITS: u8 = 16;

/// The rule set and what it is made from.
#[derive(Debug)]
pub struct Model {
    facts: Facts,
    names: Names,
    fixed: Fixed,
    services: BTreeMap<ServiceName, ServiceView>,
    addresses: Tree<Entry>,
    tcp_ports: Tree<Entry>,
    udp_ports: Tree<Entry>,
    /// This node's Pods behind Services, with the number of Service ports that each is behind.
    here: BTreeMap<Ipv4Addr, usize>,
    rule_set: RuleSet,
    /// Chains that are not in the kernel as they should be, with the number of the change that made them so.
    changed: BTreeMap<(Table, ChainName), u64>,
    changes: u64,
    stale: BTreeSet<StaleFlow>,
    touched: Touched,
}

/// Keys of the dispatch trees whose nodes are to be looked at again.
#[derive(Debug, Default)]
struct Touched {
    addresses: BTreeSet<u32>,
    ports: BTreeSet<(Protocol, u32)>,
    here: bool,
}

impl Model {
    /// The rules of a node that knows no Service yet.
    pub fn new(facts: Facts) -> Model {
        let names = Names::for_cluster(&facts.cluster);
        let fixed = Fixed::new(&names);
        let rule_set = RuleSet { chains: BTreeMap::new(), jumps: fixed.jumps() };
        let mut model = Model {
            facts,
            names,
            fixed,
            services: BTreeMap::new(),
            addresses: Tree::new(ADDRESS_BITS),
            tcp_ports: Tree::new(PORT_BITS),
            udp_ports: Tree::new(PORT_BITS),
            here: BTreeMap::new(),
            rule_set,
            changed: BTreeMap::new(),
            changes: 0,
            stale: BTreeSet::new(),
            touched: Touched::default(),
        };
        model.fixed_chains();
        model
    }

    /// All that should be in the kernel, as of the last [`Model::refresh`].
    pub fn rule_set(&self) -> &RuleSet {
        &self.rule_set
    }

    /// How this cluster's chains are named.
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// What it is made for.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// The Services it knows.
    pub fn services(&self) -> impl Iterator<Item = &ServiceView> {
        self.services.values()
    }

    /// The chains that are a Service's own.
    pub fn chains_of(&self, name: &ServiceName) -> Vec<ChainName> {
        let Some(view) = self.services.get(name) else { return Vec::new() };
        contribution(view, &self.names, &self.facts).chains.into_iter().map(|(chain, _)| chain).collect()
    }

    /// Chains that must be written or removed, each with the number of the change that made it so.
    pub fn changed(&self) -> &BTreeMap<(Table, ChainName), u64> {
        &self.changed
    }

    /// Takes note that a chain is in the kernel as it was at this change. If it has changed again since, it stays
    /// on the list.
    pub fn written(&mut self, chain: &(Table, ChainName), change: u64) {
        if self.changed.get(chain) == Some(&change) {
            self.changed.remove(chain);
        }
    }

    /// Takes note that these chains are what differs from the kernel, and no other.
    pub fn differing(&mut self, chains: impl IntoIterator<Item = (Table, ChainName)>) {
        self.changes += 1;
        self.changed = chains.into_iter().map(|chain| (chain, self.changes)).collect();
    }

    /// UDP conversations that must be forgotten once the rules are in place.
    pub fn stale_flows(&self) -> &BTreeSet<StaleFlow> {
        &self.stale
    }

    /// Takes note that these have been forgotten.
    pub fn forgotten(&mut self, flows: &[StaleFlow]) {
        for flow in flows {
            self.stale.remove(flow);
        }
    }

    /// Puts `view` in place of what was known of the Service; `None`: there is no such Service any more.
    /// Dispatch follows with the next [`Model::refresh`], once for many Services. Whether anything is other than before.
    pub fn set(&mut self, name: &ServiceName, view: Option<ServiceView>) -> bool {
        let old = self.services.remove(name);
        let other = old != view;
        if other {
            self.stale.extend(stale_flows(old.as_ref(), view.as_ref()));
            let add_of = |view: &Option<ServiceView>| {
                view.as_ref().map(|view| contribution(view, &self.names, &self.facts)).unwrap_or_default()
            };
            let (before, after) = (add_of(&old), add_of(&view));
            self.swap_entries(&before, &after);
            self.swap_pods(&before, &after);
            self.swap_chains(&before, after.chains);
        }
        if let Some(view) = view {
            self.services.insert(name.clone(), view);
        }
        other
    }

    fn swap_chains(&mut self, before: &Contribution, after: Vec<(ChainName, Chain)>) {
        for (name, _) in &before.chains {
            if !after.iter().any(|(other, _)| other == name) {
                self.put(Table::Nat, name.clone(), None);
            }
        }
        for (name, chain) in after {
            self.put(Table::Nat, name, Some(chain));
        }
    }

    fn swap_entries(&mut self, before: &Contribution, after: &Contribution) {
        if before.addresses != after.addresses {
            for (address, entry) in &before.addresses {
                take_out(&mut self.addresses, u32::from(*address), entry);
            }
            for (address, entry) in &after.addresses {
                put_in(&mut self.addresses, u32::from(*address), entry);
            }
            let both = before.addresses.iter().chain(&after.addresses);
            self.touched.addresses.extend(both.map(|(address, _)| u32::from(*address)));
        }
        if before.node_ports != after.node_ports {
            for entry in &before.node_ports {
                take_out(self.port_tree(entry.protocol), u32::from(entry.port), entry);
            }
            for entry in &after.node_ports {
                put_in(self.port_tree(entry.protocol), u32::from(entry.port), entry);
            }
            for entry in before.node_ports.iter().chain(&after.node_ports) {
                self.touched.ports.insert((entry.protocol, u32::from(entry.port)));
            }
        }
    }

    fn port_tree(&mut self, protocol: Protocol) -> &mut Tree<Entry> {
        match protocol {
            Protocol::Tcp => &mut self.tcp_ports,
            Protocol::Udp => &mut self.udp_ports,
        }
    }

    fn swap_pods(&mut self, before: &Contribution, after: &Contribution) {
        if before.here == after.here {
            return;
        }
        for pod in &after.here {
            let count = self.here.entry(*pod).or_default();
            *count += 1;
            self.touched.here |= *count == 1;
        }
        for pod in &before.here {
            if let Some(count) = self.here.get_mut(pod) {
                *count -= 1;
                if *count == 0 {
                    self.here.remove(pod);
                    self.touched.here = true;
                }
            }
        }
    }

    /// Makes dispatch follow the Services: looks again at every node above what they touched.
    pub fn refresh(&mut self) {
        let touched = mem::take(&mut self.touched);
        self.refresh_above(Dispatch::Addresses, touched.addresses.iter().copied());
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let keys = touched.ports.iter().filter(|(p, _)| *p == protocol).map(|(_, key)| *key);
            self.refresh_above(Dispatch::Ports(protocol), keys);
        }
        if !touched.addresses.is_empty() {
            self.put(Table::Nat, self.fixed.services.clone(), Some(self.services_chain()));
        }
        if !touched.ports.is_empty() {
            self.put(Table::Nat, self.fixed.node_ports.clone(), Some(self.node_ports_chain()));
        }
        if touched.here {
            let chain = Fixed::hairpin_chain(self.here.keys().copied());
            self.put(Table::Nat, self.fixed.hairpin.clone(), Some(chain));
        }
    }

    fn refresh_above(&mut self, dispatch: Dispatch, keys: impl Iterator<Item = u32>) {
        let tree = self.tree(dispatch);
        let (mut there, mut possible) = (BTreeSet::new(), BTreeSet::new());
        for key in keys {
            there.extend(tree.path(key));
            possible.extend(tree.possible_nodes(key));
        }
        // The root is no chain of its own but part of a fixed one.
        possible.remove(&Tree::<Entry>::ROOT);
        for node in possible {
            let chain = there
                .contains(&node)
                .then(|| Chain::new(rank::TREE + ADDRESS_BITS - node.len, self.node_rules(dispatch, node)));
            self.put(Table::Nat, self.node_name(dispatch, node), chain);
        }
    }

    fn tree(&self, dispatch: Dispatch) -> &Tree<Entry> {
        match dispatch {
            Dispatch::Addresses => &self.addresses,
            Dispatch::Ports(Protocol::Tcp) => &self.tcp_ports,
            Dispatch::Ports(Protocol::Udp) => &self.udp_ports,
        }
    }

    fn node_name(&self, dispatch: Dispatch, node: Prefix) -> ChainName {
        match dispatch {
            Dispatch::Addresses => self.names.addresses(Ipv4Addr::from(node.bits), node.len),
            Dispatch::Ports(protocol) => self.names.ports(protocol, node.bits as u16, node.len),
        }
    }

    fn node_rules(&self, dispatch: Dispatch, node: Prefix) -> Vec<Rule> {
        let mut rules = Vec::new();
        for branch in self.tree(dispatch).branches(node) {
            match branch {
                Branch::Node(next) => {
                    let jump = Rule::jump(&self.node_name(dispatch, next));
                    rules.push(match dispatch {
                        Dispatch::Addresses => jump.to_net(address_net(next)),
                        Dispatch::Ports(protocol) => {
                            let last = next.bits | last_offset(next.len, PORT_BITS);
                            jump.to_ports(protocol, next.bits as u16, last as u16)
                        }
                    });
                }
                Branch::Key(key, entries) => rules.extend(entries.iter().map(|entry| {
                    let rule = Rule::to(entry.leads.target()).when(Match::Comment(entry.words.clone()));
                    let rule = rule.to_ports(entry.protocol, entry.port, entry.port);
                    match dispatch {
                        Dispatch::Addresses => rule.to_net(single(Ipv4Addr::from(key))),
                        Dispatch::Ports(_) => rule,
                    }
                })),
            }
        }
        rules
    }

    fn fixed_chains(&mut self) {
        let fixed = self.fixed.clone();
        self.put(Table::Nat, fixed.hairpin, Some(Fixed::hairpin_chain([].into_iter())));
        self.put(Table::Nat, fixed.node_ports, Some(self.node_ports_chain()));
        self.put(Table::Nat, fixed.services, Some(self.services_chain()));
        self.put(Table::Nat, fixed.postrouting, Some(self.fixed.postrouting_chain(&self.facts)));
        self.put(Table::Filter, fixed.firewall, Some(Fixed::firewall_chain()));
        self.put(Table::Filter, fixed.forward, Some(Fixed::forward_chain(&self.facts)));
    }

    fn services_chain(&self) -> Chain {
        let mut rules = self.node_rules(Dispatch::Addresses, Tree::<Entry>::ROOT);
        rules.extend(self.fixed.to_node_ports(&self.facts));
        Chain::new(rank::ENTRY, rules)
    }

    fn node_ports_chain(&self) -> Chain {
        let mut rules = self.node_rules(Dispatch::Ports(Protocol::Tcp), Tree::<Entry>::ROOT);
        rules.extend(self.node_rules(Dispatch::Ports(Protocol::Udp), Tree::<Entry>::ROOT));
        Chain::new(rank::NODE_PORTS, rules)
    }

    /// Puts a chain into the rule set, or takes it out, and remembers it as changed if it is.
    fn put(&mut self, table: Table, name: ChainName, chain: Option<Chain>) {
        let key = (table, name);
        let same = self.rule_set.chains.get(&key) == chain.as_ref();
        if same {
            return;
        }
        match chain {
            Some(chain) => self.rule_set.chains.insert(key.clone(), chain),
            None => self.rule_set.chains.remove(&key),
        };
        self.changes += 1;
        self.changed.insert(key, self.changes);
    }
}

/// Which dispatch tree.
#[derive(Clone, Copy)]
enum Dispatch {
    Addresses,
    Ports(Protocol),
}

fn address_net(node: Prefix) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::from(node.bits), node.len)
}

/// Entries stand in their own order, whichever came first, so that the rules follow from the Services alone.
fn put_in(tree: &mut Tree<Entry>, key: u32, entry: &Entry) {
    let entries = tree.entries(key);
    let at = entries.partition_point(|other| other < entry);
    entries.reserve_exact(1); // nearly all have one entry
    entries.insert(at, entry.clone());
}

fn take_out(tree: &mut Tree<Entry>, key: u32, entry: &Entry) {
    let entries = tree.entries(key);
    if let Ok(at) = entries.binary_search(entry) {
        entries.remove(at);
    }
    tree.tidy(key);
}
