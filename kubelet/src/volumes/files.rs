//! resolv.conf, hosts and hostname of a Pod. Docker writes none of them for a container that joins another's network.

use std::path::Path;

use skiff_proto::corev1::Pod;
use skiff_world::Disk;

use super::{VolumeError, disk};

/// The longest hostname Linux takes.
const HOSTNAME_MAX: usize = 63;

/// How names are looked up on this node.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct DnsSettings {
    /// the cluster's DNS; empty: there is none, Pods use the node's
    pub cluster_dns: Vec<String>,
    /// "cluster.local"
    pub cluster_domain: String,
    /// the node's own resolv.conf, as text
    pub node_resolv_conf: String,
}

/// The three files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Etc {
    /// name servers
    pub resolv_conf: String,
    /// names without a server
    pub hosts: String,
    /// the Pod's own name
    pub hostname: String,
}

impl Etc {
    /// What a Pod's say.
    pub fn of(pod: &Pod, ip: &str, dns: &DnsSettings) -> Etc {
        let name = hostname(pod);
        Etc { resolv_conf: resolv_conf(pod, dns), hosts: hosts(pod, ip, &name, dns), hostname: format!("{name}\n") }
    }

    /// Writes them, before any container has them mounted: a running one keeps the file that it was started with.
    pub(super) fn write(&self, directory: &Disk, at: &Path) -> Result<(), VolumeError> {
        for (name, text) in [("resolv.conf", &self.resolv_conf), ("hosts", &self.hosts), ("hostname", &self.hostname)] {
            let path = at.join(name);
            if directory.read(&path).is_ok_and(|there| there == text.as_bytes()) {
                continue;
            }
            directory.write_volatile(&path, text.as_bytes(), 0o644).map_err(|error| disk("write", &path, error))?;
        }
        Ok(())
    }
}

/// spec.hostname, or the Pod's name, as far as it fits.
pub fn hostname(pod: &Pod) -> String {
    let name = if pod.spec.hostname.is_empty() { &pod.metadata.name } else { &pod.spec.hostname };
    let cut = &name[..name.len().min(HOSTNAME_MAX)];
    cut.trim_end_matches(['-', '.']).to_string()
}

fn hosts(pod: &Pod, ip: &str, name: &str, dns: &DnsSettings) -> String {
    let mut text = String::from("# Written by the kubelet.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost\n");
    if !ip.is_empty() {
        let full = if pod.spec.subdomain.is_empty() {
            String::new()
        } else {
            format!("{name}.{}.{}.svc.{}\t", pod.spec.subdomain, pod.metadata.namespace, dns.cluster_domain)
        };
        text.push_str(&format!("{ip}\t{full}{name}\n"));
    }
    for alias in &pod.spec.host_aliases {
        text.push_str(&format!("{}\t{}\n", alias.ip, alias.hostnames.join("\t")));
    }
    text
}

fn resolv_conf(pod: &Pod, dns: &DnsSettings) -> String {
    let cluster = match pod.spec.dns_policy.as_str() {
        "Default" | "None" => false,
        "ClusterFirst" | "" => !pod.spec.host_network,
        _ => true,
    };
    let (mut servers, mut searches, mut options) = (Vec::new(), Vec::new(), Vec::new());
    if pod.spec.dns_policy != "None" {
        let node = parse(&dns.node_resolv_conf);
        if cluster && !dns.cluster_dns.is_empty() {
            let domain = &dns.cluster_domain;
            servers = dns.cluster_dns.clone();
            searches =
                vec![format!("{}.svc.{domain}", pod.metadata.namespace), format!("svc.{domain}"), domain.clone()];
            searches.extend(node.1);
            options.push("ndots:5".to_string());
        } else {
            (servers, searches, options) = node;
        }
    }
    if let Some(own) = &pod.spec.dns_config {
        servers.extend(own.nameservers.iter().cloned());
        searches.extend(own.searches.iter().cloned());
        options.extend(own.options.iter().map(|option| match &option.value {
            Some(value) => format!("{}:{value}", option.name),
            None => option.name.clone(),
        }));
    }
    let mut text = String::new();
    for server in servers {
        text.push_str(&format!("nameserver {server}\n"));
    }
    if !searches.is_empty() {
        text.push_str(&format!("search {}\n", searches.join(" ")));
    }
    if !options.is_empty() {
        text.push_str(&format!("options {}\n", options.join(" ")));
    }
    text
}

/// Servers, searches and options of a resolv.conf.
fn parse(text: &str) -> (Vec<String>, Vec<String>, Vec<String>) {
    let (mut servers, mut searches, mut options) = (Vec::new(), Vec::new(), Vec::new());
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => servers.extend(words.next().map(String::from)),
            Some("search" | "domain") => searches = words.map(String::from).collect(),
            Some("options") => options.extend(words.map(String::from)),
            _ => {}
        }
    }
    (servers, searches, options)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(policy: &str) -> Pod {
        let mut pod = Pod::default();
        pod.metadata.name = "web-0".into();
        pod.metadata.namespace = "shop".into();
        pod.spec.dns_policy = policy.into();
        pod
    }

    fn dns() -> DnsSettings {
        DnsSettings {
            cluster_dns: vec!["10.96.0.10".into()],
            cluster_domain: "cluster.local".into(),
            node_resolv_conf: "# c\nnameserver 9.9.9.9\nsearch example.org\noptions timeout:1\n".into(),
        }
    }

    #[test]
    fn names_are_looked_up_by_policy() {
        let cluster = "nameserver 10.96.0.10\nsearch shop.svc.cluster.local svc.cluster.local cluster.local example.org\noptions ndots:5\n";
        let node = "nameserver 9.9.9.9\nsearch example.org\noptions timeout:1\n";
        let mut host = pod("ClusterFirst");
        host.spec.host_network = true;
        for (pod, expected) in [
            (pod(""), cluster),
            (pod("ClusterFirst"), cluster),
            (pod("Default"), node),
            (host, node),
            (pod("None"), ""),
        ] {
            assert_eq!(Etc::of(&pod, "", &dns()).resolv_conf, expected, "{}", pod.spec.dns_policy);
        }
        let without = DnsSettings { cluster_dns: Vec::new(), ..dns() };
        assert_eq!(Etc::of(&pod(""), "", &without).resolv_conf, node, "no cluster DNS: the node's");
    }

    #[test]
    fn hosts_name_the_pod() {
        let mut pod = pod("");
        pod.spec.subdomain = "db".into();
        let etc = Etc::of(&pod, "10.244.1.5", &dns());
        assert!(etc.hosts.contains("10.244.1.5\tweb-0.db.shop.svc.cluster.local\tweb-0\n"), "{}", etc.hosts);
        assert_eq!(etc.hostname, "web-0\n");
    }

    #[test]
    fn long_names_are_cut_where_a_name_may_end() {
        let mut pod = pod("");
        pod.metadata.name = format!("{}-tail", "a".repeat(62));
        assert_eq!(hostname(&pod), "a".repeat(62));
    }
}
