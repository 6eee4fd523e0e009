//! Names of chains. A name follows from what the chain stands for, never from when it was made, so that a
//! restarted proxy finds its own chains again; and it begins with the cluster's prefix, so that two clusters
//! could share one node's tables.
//!
//! What they look like, for the prefix `SK7Q2MA`:
//!
//! ```text
//! SK7Q2MA-SERVICES              where packets come in
//! SK7Q2MA-10.96.16.0/20         Services whose address begins with these 20 bits
//! SK7Q2MA-tcp-30720/8           NodePorts that begin with these 8 bits
//! SK7Q2MA-SVC-ABCDEFGHIJKLMNOP  one port of one Service (a hash: names can be longer than a chain's)
//! ```

use std::fmt;
use std::net::Ipv4Addr;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::services::{Backend, Protocol, ServiceName, ServicePort};

/// The longest name iptables takes.
pub const LONGEST_NAME: usize = 28;

/// The name of a chain in one of the tables. Cheap to clone: rules that jump to it share it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChainName(Arc<str>);

impl ChainName {
    /// A name as found in a table or a rule.
    pub fn new(text: &str) -> ChainName {
        ChainName(text.into())
    }

    /// The name itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ChainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ChainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Makes the names of one cluster's chains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    prefix: String,
}

impl Names {
    /// Names for the cluster called `cluster`.
    pub fn for_cluster(cluster: &str) -> Names {
        Names { prefix: format!("SK{}", hash(5, [cluster])) }
    }

    /// What every name of this cluster begins with, the dash included.
    pub fn owns(&self, chain: &str) -> bool {
        chain.strip_prefix(self.prefix.as_str()).is_some_and(|rest| rest.starts_with('-'))
    }

    /// The cluster's prefix, without the dash.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// A chain there is one of.
    pub fn fixed(&self, what: &str) -> ChainName {
        self.name(what)
    }

    /// Services whose cluster address lies in `net/len`.
    pub fn addresses(&self, net: Ipv4Addr, len: u8) -> ChainName {
        self.name(&format!("{net}/{len}"))
    }

    /// NodePorts that begin with the first `len` bits of `first`.
    pub fn ports(&self, protocol: Protocol, first: u16, len: u8) -> ChainName {
        self.name(&format!("{protocol}-{first}/{len}"))
    }

    /// One port of one Service; `role` tells its chains apart.
    pub fn service(&self, role: &str, name: &ServiceName, port: &ServicePort) -> ChainName {
        let hash = hash(16, service_parts(name, port));
        self.name(&format!("{role}-{hash}"))
    }

    /// The `recent` list that remembers which clients `backend` serves.
    pub fn affinity(&self, name: &ServiceName, port: &ServicePort, backend: &Backend) -> Box<str> {
        let [a, b, c, d] = service_parts(name, port);
        format!("{}-{}", self.prefix, hash(16, [a, b, c, d, &backend.to_string()])).into()
    }

    fn name(&self, rest: &str) -> ChainName {
        let name = format!("{}-{rest}", self.prefix);
        debug_assert!(name.len() <= LONGEST_NAME, "{name} is too long");
        ChainName::new(&name)
    }
}

fn service_parts<'a>(name: &'a ServiceName, port: &'a ServicePort) -> [&'a str; 4] {
    [&name.namespace, &name.name, &port.name, port.protocol.as_str()]
}

/// The first `len` letters of a cryptographic hash in base 32. Cryptographic because names of Services are
/// chosen by users, who could otherwise aim at somebody else's chain.
fn hash<'a>(len: usize, parts: impl IntoIterator<Item = &'a str>) -> String {
    const LETTERS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let mut digest = Sha256::new();
    for part in parts {
        digest.update(part.as_bytes());
        digest.update([0]); // no name holds a NUL, so parts cannot run together
    }
    let bytes = digest.finalize();
    (0..len)
        .map(|i| {
            let bit = i * 5;
            let pair = u16::from(bytes[bit / 8]) << 8 | u16::from(bytes[bit / 8 + 1]);
            let five = pair >> (11 - bit % 8) & 31;
            char::from(LETTERS[usize::from(five)])
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(name: &str) -> ServicePort {
        ServicePort { name: name.into(), protocol: Protocol::Tcp, port: 80, node_port: None }
    }

    #[test]
    fn every_kind_of_name_fits() {
        let names = Names::for_cluster("a-cluster-with-quite-a-long-name");
        let service = ServiceName::new("n".repeat(63), "s".repeat(63));
        for name in [
            names.fixed("POSTROUTING"),
            names.addresses([255, 255, 255, 240].into(), 28),
            names.ports(Protocol::Udp, 65520, 12),
            names.service("SVC", &service, &port(&"p".repeat(63))),
        ] {
            assert!(name.as_str().len() <= LONGEST_NAME, "{name}");
            assert!(names.owns(name.as_str()), "{name}");
        }
    }

    #[test]
    fn another_cluster_owns_none_of_them() {
        let (one, two) = (Names::for_cluster("one"), Names::for_cluster("two"));
        assert!(!two.owns(one.fixed("SERVICES").as_str()));
        assert!(!one.owns("KUBE-SERVICES"));
        assert!(!one.owns(&format!("{}X-SERVICES", one.prefix())));
    }

    #[test]
    fn parts_of_a_name_do_not_run_together() {
        let names = Names::for_cluster("skiff");
        let one = names.service("SVC", &ServiceName::new("a", "bc"), &port("d"));
        let two = names.service("SVC", &ServiceName::new("ab", "c"), &port("d"));
        assert_ne!(one, two);
    }
}
