//! Walks virtual packets through tables: what the rules *mean*, whatever their text.
//!
//! A packet is the first one of a connection, since only that meets the nat table. Where a rule matches at random,
//! the walk takes both ways and weighs them, so the result is every possible outcome with its share.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use crate::apply::fake::Tables;
use crate::rules::parse::NotOurs;
use crate::rules::rule::{MarkBit, Match, Rule, Side, Target};
use crate::rules::{ChainName, Table};
use crate::services::{Backend, Protocol};

/// Where a packet comes into the node's stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// From a link: another machine, or a Pod.
    Link,
    /// From a process in the node's own network.
    Node,
}

/// The first packet of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Where it comes in.
    pub from: From,
    /// Its source.
    pub source: Ipv4Addr,
    /// Its destination.
    pub destination: Ipv4Addr,
    /// Its destination port.
    pub port: u16,
    /// Its protocol.
    pub protocol: Protocol,
}

/// What becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// It goes on to where it is addressed by then.
    Delivered,
    /// Thrown away in silence.
    Dropped,
    /// Thrown away, and the sender is told.
    Rejected,
}

/// One possible end of a walk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What becomes of the packet.
    pub verdict: Verdict,
    /// Where it is addressed at the end.
    pub to: Backend,
    /// Whether it leaves with the node's address.
    pub masqueraded: bool,
    /// How deep chains were nested at most, the kernel's own included.
    pub depth: usize,
    /// How many rules were looked at.
    pub looked_at: usize,
    /// The chains it passed, in order, for people.
    pub chains: Vec<ChainName>,
    /// Lists of recent clients that it was put on.
    pub remembered_on: BTreeSet<String>,
}

/// A node's tables, read for walking.
pub struct Node {
    chains: BTreeMap<(Table, String), Vec<Rule>>,
    addresses: Vec<Ipv4Addr>,
    /// Lists of recent clients with the clients on them.
    pub recent: BTreeSet<(String, Ipv4Addr)>,
}

/// A walk under way.
#[derive(Clone)]
struct Walk {
    share: f64,
    stack: Vec<(String, usize)>,
    mark: u32,
    translated: bool,
    out: Outcome,
}

/// How one table's walk ended.
enum End {
    Passed,
    Stopped(Verdict),
}

impl Node {
    /// Reads tables of a node that has these addresses (loopback is understood). Rules of others in the kernel's
    /// own chains are passed over.
    pub fn new(tables: &Tables, addresses: &[Ipv4Addr]) -> Result<Node, NotOurs> {
        let mut chains = BTreeMap::new();
        for table in Table::ALL {
            for (name, rules) in tables.table(table) {
                let own = name.contains('-');
                let parsed = rules.iter().map(|text| text.parse::<Rule>()).filter(|rule| own || rule.is_ok());
                chains.insert((table, name.clone()), parsed.collect::<Result<Vec<_>, _>>()?);
            }
        }
        Ok(Node { chains, addresses: addresses.to_vec(), recent: BTreeSet::new() })
    }

    /// Every possible end of the packet's walk, with its share of one.
    pub fn walk(&self, packet: &Packet) -> Vec<(f64, Outcome)> {
        let to = Backend { address: packet.destination, port: packet.port };
        let start = Walk {
            share: 1.0,
            stack: Vec::new(),
            mark: 0,
            translated: false,
            out: Outcome {
                verdict: Verdict::Delivered,
                to,
                masqueraded: false,
                depth: 0,
                looked_at: 0,
                chains: Vec::new(),
                remembered_on: BTreeSet::new(),
            },
        };
        let enter = match packet.from {
            From::Link => "PREROUTING",
            From::Node => "OUTPUT",
        };
        let mut ends = Vec::new();
        for walk in self.pass(Table::Nat, enter, packet, start, &mut ends) {
            let here = self.is_here(walk.out.to.address);
            let filter = match (packet.from, here) {
                (From::Node, _) => "OUTPUT",
                (From::Link, true) => "INPUT",
                (From::Link, false) => "FORWARD",
            };
            for walk in self.pass(Table::Filter, filter, packet, walk, &mut ends) {
                if filter == "INPUT" {
                    ends.push((walk.share, walk.out));
                    continue;
                }
                let left = self.pass(Table::Nat, "POSTROUTING", packet, walk, &mut ends);
                ends.extend(left.into_iter().map(|walk| (walk.share, walk.out)));
            }
        }
        ends
    }

    /// Takes a walk through one chain of the kernel's; those that are stopped there go to `ends`.
    fn pass(&self, table: Table, base: &str, packet: &Packet, walk: Walk, ends: &mut Vec<(f64, Outcome)>) -> Vec<Walk> {
        let mut passed = Vec::new();
        let mut open = vec![Walk { stack: vec![(base.to_owned(), 0)], ..walk }];
        while let Some(mut walk) = open.pop() {
            match self.run(table, packet, &mut walk, &mut open) {
                End::Passed => passed.push(walk),
                End::Stopped(verdict) => {
                    walk.out.verdict = verdict;
                    ends.push((walk.share, walk.out));
                }
            }
        }
        passed
    }

    fn run(&self, table: Table, packet: &Packet, walk: &mut Walk, open: &mut Vec<Walk>) -> End {
        loop {
            walk.out.depth = walk.out.depth.max(walk.stack.len());
            let Some((chain, next)) = walk.stack.last_mut() else {
                return End::Passed;
            };
            let rules = self.chains.get(&(table, chain.clone()));
            let Some(rule) = rules.and_then(|rules| rules.get(*next)) else {
                walk.stack.pop();
                continue;
            };
            *next += 1;
            walk.out.looked_at += 1;
            if !self.matches(rule, packet, walk, open) {
                continue;
            }
            match &rule.target {
                Target::Jump(to) => {
                    walk.out.chains.push(to.clone());
                    walk.stack.push((to.to_string(), 0));
                }
                Target::Return => drop(walk.stack.pop()),
                Target::SetMark(MarkBit(bit)) => walk.mark |= bit,
                Target::ClearMark(MarkBit(bit)) => walk.mark &= !bit,
                Target::Dnat(backend) => {
                    walk.out.to = *backend;
                    walk.translated = true;
                    return End::Passed;
                }
                Target::Masquerade => {
                    walk.out.masqueraded = true;
                    return End::Passed;
                }
                Target::Accept => return End::Passed,
                Target::Drop => return End::Stopped(Verdict::Dropped),
                Target::Reject | Target::Reset => return End::Stopped(Verdict::Rejected),
            }
        }
    }

    /// Whether the rule matches; if that is a matter of chance, the other way is left in `open`.
    fn matches(&self, rule: &Rule, packet: &Packet, walk: &mut Walk, open: &mut Vec<Walk>) -> bool {
        let to = walk.out.to;
        let inside = |side: Option<Side>, address| side.is_none_or(|Side { net, not }| net.contains(&address) != not);
        let plain = inside(rule.source, packet.source)
            && inside(rule.destination, to.address)
            && rule.protocol.is_none_or(|protocol| protocol == packet.protocol)
            && rule.ports.is_none_or(|(first, last)| (first..=last).contains(&to.port));
        plain && rule.matches.iter().all(|condition| self.holds(condition, packet, walk, open))
    }

    fn holds(&self, condition: &Match, packet: &Packet, walk: &mut Walk, open: &mut Vec<Walk>) -> bool {
        match condition {
            Match::Comment(_) => true,
            Match::Mark { bit, not } => (walk.mark & bit.0 == bit.0) != *not,
            Match::ToThisNode => self.is_here(walk.out.to.address),
            Match::FromThisNode => self.is_here(packet.source),
            Match::State { states, not } => {
                let any = states.split(',').any(|state| match state {
                    "NEW" => true,
                    "DNAT" => walk.translated,
                    _ => false,
                });
                any != *not
            }
            Match::Chance(of_2_31) => {
                let chance = f64::from(*of_2_31) / f64::from(1u32 << 31);
                open.push(Walk { share: walk.share * (1.0 - chance), ..walk.clone() });
                walk.share *= chance;
                true
            }
            Match::SeenRecently { list, .. } => self.recent.contains(&(list.to_string(), packet.source)),
            Match::Remember { list } => {
                walk.out.remembered_on.insert(list.to_string());
                true
            }
        }
    }

    fn is_here(&self, address: Ipv4Addr) -> bool {
        address.is_loopback() || self.addresses.contains(&address)
    }
}
