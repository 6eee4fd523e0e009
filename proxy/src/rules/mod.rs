//! From Services to rules, purely: no kernel, no clock, no client.
//!
//! A packet's way through the chains (names without the cluster's prefix):
//!
//! ```text
//! nat PREROUTING, OUTPUT -> SERVICES -> 10.96.0.0/16 -> ... -> SVC-x    marks what must be masqueraded,
//!                                \                              |       picks an endpoint at random, DNAT
//!                                 \                             ^
//!                                  -> NODEPORTS -> tcp-30720/8 -> EXT-x
//! filter FORWARD, INPUT, OUTPUT -> FIREWALL   what was marked REJECT or DROP on the way ends here
//! filter FORWARD                -> FORWARD    Pods' packets may pass
//! nat POSTROUTING               -> POSTROUTING -> HAIRPIN   masquerade
//! ```
//!
//! | file | what it holds |
//! |---|---|
//! | `rule.rs`, `parse.rs` | a rule as data, its text, and back |
//! | `names.rs` | names of chains |
//! | `tree.rs` | dispatch over addresses and ports |
//! | `service.rs` | the chains of one Service |
//! | `base.rs` | the chains there is one of, and the jumps from the kernel's own chains |
//! | `model.rs` | the whole rule set, kept current one Service at a time |
//! | `diff.rs`, `batch.rs` | what differs from what is there, and in which restores it is put right |

pub mod base;
pub mod batch;
pub mod diff;
pub mod model;
pub mod names;
pub mod parse;
pub mod rule;
pub mod service;
pub mod tree;

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;
use std::sync::Arc;

use ipnet::Ipv4Net;

pub use base::BaseJump;
pub use batch::{Batch, Sizes};
pub use diff::{Difference, Present};
pub use model::Model;
pub use names::{ChainName, Names};
pub use rule::{Match, Rule, Target};

use crate::services::Protocol;

/// What rules depend on beside the Services.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The cluster's name: it gives the chains their prefix.
    pub cluster: String,
    /// This node's name: endpoints that name it are local.
    pub node: String,
    /// Where all Pods of the cluster are.
    pub cluster_cidr: Ipv4Net,
    /// Where this node's Pods are, if known: only their packets are masqueraded on the way out.
    pub pod_cidr: Option<Ipv4Net>,
    /// On which of this node's addresses NodePorts answer; empty: on all but loopback.
    pub node_port_addresses: Vec<Ipv4Net>,
}

/// The two tables that the proxy writes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// Where packets are let through or not.
    Filter,
    /// Where a connection's addresses are chosen.
    Nat,
}

impl Table {
    /// Both.
    pub const ALL: [Table; 2] = [Table::Filter, Table::Nat];

    /// As iptables spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Table::Filter => "filter",
            Table::Nat => "nat",
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A chain of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Chains are written in ascending rank: one that is jumped to before one that jumps.
    pub rank: u8,
    /// Its rules in order; shared, since plans carry them.
    pub rules: Arc<[Rule]>,
}

impl Chain {
    /// A chain of these rules.
    pub fn new(rank: u8, rules: impl Into<Arc<[Rule]>>) -> Chain {
        Chain { rank, rules: rules.into() }
    }
}

/// All that should be in the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleSet {
    /// Our chains.
    pub chains: BTreeMap<(Table, ChainName), Chain>,
    /// Rules in the kernel's own chains that lead into ours.
    pub jumps: Vec<BaseJump>,
}

impl RuleSet {
    /// How many rules there are in our own chains.
    pub fn rule_count(&self) -> usize {
        self.chains.values().map(|chain| chain.rules.len()).sum()
    }
}

/// A UDP conversation that conntrack may still send where it no longer belongs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StaleFlow {
    /// The address it was begun to; none: any, it came to a NodePort.
    pub address: Option<Ipv4Addr>,
    /// The port it was begun to.
    pub port: u16,
    /// The endpoint it is sent to; none: whatever it is sent to, it was begun before there was an endpoint.
    pub endpoint: Option<Ipv4Addr>,
}

impl StaleFlow {
    /// The protocol: a TCP connection ends by itself, a UDP one never does while packets come.
    pub const PROTOCOL: Protocol = Protocol::Udp;
}

impl fmt::Display for StaleFlow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(address) => write!(f, "udp {address}:{}", self.port)?,
            None => write!(f, "udp NodePort {}", self.port)?,
        }
        match self.endpoint {
            Some(endpoint) => write!(f, " -> {endpoint}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
