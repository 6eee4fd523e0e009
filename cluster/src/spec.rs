//! What a cluster is meant to be, as one small YAML file in the cluster's folder: `skiff up`
//! writes it, every process of the cluster reads it.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use crate::layout::Layout;

/// The whole cluster: names, ranges, store. Everything else is derived.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClusterSpec {
    /// The cluster's name; see [`crate::layout::check_name`].
    pub name: String,
    /// How many nodes: `node-1` to `node-N`.
    pub nodes: u32,
    /// Zones given to the nodes in turn, as the label `topology.kubernetes.io/zone`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub zones: Vec<String>,
    /// Where objects are kept.
    pub store: StoreSpec,
    /// The network that joins the nodes; its first address is the host's, and the API server's.
    pub node_network: Ipv4Net,
    /// The range that Pods' addresses come from; each node gets a /24 of it.
    pub pod_network: Ipv4Net,
    /// The range that Services' addresses come from; its first one is the API server's.
    pub service_network: Ipv4Net,
    /// The API server's TCP port.
    pub port: u16,
    /// Seconds without a heartbeat until a node counts as NotReady.
    #[serde(default = "default_node_grace")]
    pub node_grace_seconds: u64,
    /// Seconds that a Pod stays on a node that is lost, if it does not say.
    #[serde(default = "default_lost_node_tolerance")]
    pub lost_node_tolerance_seconds: u64,
    /// Seconds that Events are kept after their last write.
    #[serde(default = "default_event_ttl")]
    pub event_ttl_seconds: u64,
    /// Where the audit log is, if not in the cluster's folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit_log: Option<PathBuf>,
}

fn default_node_grace() -> u64 {
    40
}

fn default_lost_node_tolerance() -> u64 {
    300
}

fn default_event_ttl() -> u64 {
    3600
}

/// The store behind the API server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum StoreSpec {
    /// Files in the cluster's folder.
    Embedded,
    /// An etcd cluster, by its client URLs.
    Etcd(Vec<String>),
}

impl std::str::FromStr for StoreSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "embedded" {
            return Ok(StoreSpec::Embedded);
        }
        let urls = text
            .strip_prefix("etcd=")
            .ok_or_else(|| format!("--store {text:?}: expected `embedded` or `etcd=URL[,URL...]`"))?;
        let urls: Vec<String> = urls.split(',').map(str::to_owned).collect();
        match urls.iter().find(|u| !u.starts_with("http://") && !u.starts_with("https://")) {
            Some(url) => Err(format!("--store: {url:?} is not a URL that begins with http:// or https://")),
            None => Ok(StoreSpec::Etcd(urls)),
        }
    }
}

impl std::fmt::Display for StoreSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            StoreSpec::Embedded => f.write_str("embedded"),
            StoreSpec::Etcd(urls) => write!(f, "etcd={}", urls.join(",")),
        }
    }
}

impl ClusterSpec {
    /// A new cluster whose ranges avoid all of `taken` (the host's routes and the other clusters).
    pub fn choose(
        name: &str,
        nodes: u32,
        zones: Vec<String>,
        store: StoreSpec,
        taken: &[Ipv4Net],
    ) -> Result<ClusterSpec, String> {
        let free = |what: &str, candidates: Vec<Ipv4Net>| {
            candidates.into_iter().find(|c| !taken.iter().any(|t| overlaps(c, t))).ok_or_else(|| {
                format!("no free address range for the cluster's {what}: all candidates overlap routes of this host")
            })
        };
        Ok(ClusterSpec {
            name: name.to_owned(),
            nodes,
            zones,
            store,
            node_network: free("nodes", ranges([10, 89, 0, 0], 24))?,
            pod_network: free("pods", ranges([10, 244, 0, 0], 16))?,
            service_network: free("services", ranges([10, 96, 0, 0], 16))?,
            port: 6443,
            node_grace_seconds: default_node_grace(),
            lost_node_tolerance_seconds: default_lost_node_tolerance(),
            event_ttl_seconds: default_event_ttl(),
            audit_log: None,
        })
    }

    /// All its ranges: of nodes, of Pods, of Services.
    pub fn networks(&self) -> [Ipv4Net; 3] {
        [self.node_network, self.pod_network, self.service_network]
    }

    /// The host's address in the node network, where the API server listens.
    pub fn host_address(&self) -> Ipv4Addr {
        nth(self.node_network, 1)
    }

    /// The address of node number `index`, counted from 1.
    pub fn node_address(&self, index: u32) -> Ipv4Addr {
        nth(self.node_network, 10 + index)
    }

    /// The Service default/kubernetes.
    pub fn kubernetes_service(&self) -> Ipv4Addr {
        nth(self.service_network, 1)
    }

    /// The nodes' names with their numbers.
    pub fn nodes(&self) -> impl Iterator<Item = (u32, String)> + use<> {
        (1..=self.nodes).map(|n| (n, format!("node-{n}")))
    }

    /// The zone of node number `index`, if the cluster has zones.
    pub fn zone(&self, index: u32) -> Option<&str> {
        let count = u32::try_from(self.zones.len()).ok().filter(|c| *c > 0)?;
        self.zones.get(((index - 1) % count) as usize).map(String::as_str)
    }

    /// The spec of a cluster that has to be there.
    pub fn existing(layout: &Layout) -> anyhow::Result<ClusterSpec> {
        let name = layout.name();
        ClusterSpec::read(layout)?.ok_or_else(|| {
            anyhow::anyhow!("there is no cluster {name:?}: `skiff up --name {name}` makes it (by hand: `skiff pki`)")
        })
    }

    /// Reads the spec of the cluster at `layout`; `None` when there is no such cluster.
    pub fn read(layout: &Layout) -> anyhow::Result<Option<ClusterSpec>> {
        let path = layout.spec();
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => anyhow::bail!("read {}: {e}", path.display()),
        };
        serde_yaml::from_str(&text).map(Some).map_err(|e| {
            anyhow::anyhow!("{}: {e}; mend it, or remove the cluster with `skiff down --purge`", path.display())
        })
    }
}

/// The `n`th address of a range.
fn nth(net: Ipv4Net, n: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(net.network()).wrapping_add(n))
}

fn overlaps(a: &Ipv4Net, b: &Ipv4Net) -> bool {
    a.contains(&b.network()) || b.contains(&a.network())
}

/// Up to ten ranges of the same size, side by side, beginning at `first`.
fn ranges(first: [u8; 4], prefix: u8) -> Vec<Ipv4Net> {
    let base = u32::from(Ipv4Addr::from(first));
    let size = 1u32 << (32 - prefix);
    (0..10).filter_map(|i| Ipv4Net::new(Ipv4Addr::from(base + i * size), prefix).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_avoid_what_is_taken() {
        let taken = ["10.89.0.0/24".parse().unwrap(), "10.244.0.0/15".parse().unwrap()];
        let spec = ClusterSpec::choose("b", 1, vec![], StoreSpec::Embedded, &taken).unwrap();
        assert_eq!(spec.node_network.to_string(), "10.89.1.0/24");
        assert_eq!(spec.pod_network.to_string(), "10.246.0.0/16");
        assert_eq!(spec.service_network.to_string(), "10.96.0.0/16");
        assert_eq!(spec.host_address().to_string(), "10.89.1.1");
        assert_eq!(spec.kubernetes_service().to_string(), "10.96.0.1");
    }

    #[test]
    fn a_full_host_is_an_error_in_words() {
        let everything = ["0.0.0.0/0".parse().unwrap()];
        let error = ClusterSpec::choose("b", 1, vec![], StoreSpec::Embedded, &everything).unwrap_err();
        assert!(error.contains("no free address range"), "{error}");
    }

    #[test]
    fn zones_go_round() {
        let mut spec = ClusterSpec::choose("b", 3, vec!["a".into(), "b".into()], StoreSpec::Embedded, &[]).unwrap();
        assert_eq!([1, 2, 3].map(|n| spec.zone(n)), [Some("a"), Some("b"), Some("a")]);
        spec.zones.clear();
        assert_eq!(spec.zone(1), None);
    }

    #[test]
    fn stores_parse() {
        assert_eq!("embedded".parse(), Ok(StoreSpec::Embedded));
        assert_eq!(
            "etcd=http://a:1,http://b:2".parse(),
            Ok(StoreSpec::Etcd(vec!["http://a:1".into(), "http://b:2".into()]))
        );
        assert!("etcd=a:1".parse::<StoreSpec>().is_err());
        assert!("etcd".parse::<StoreSpec>().is_err());
    }
}
