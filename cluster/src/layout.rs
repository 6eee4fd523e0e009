//! Where a cluster keeps its files: every path is derived from SKIFF_HOME and the cluster's name,
//! so that two clusters never meet and `skiff down` knows all there is.

use std::path::{Path, PathBuf};

/// The paths of one cluster below SKIFF_HOME.
#[derive(Clone, Debug)]
pub struct Layout {
    home: PathBuf,
    name: String,
}

/// Where SKIFF_HOME points when it is not set.
pub const DEFAULT_HOME: &str = "/var/lib/skiff";

/// The cluster that commands mean when `--name` is not given.
pub const DEFAULT_CLUSTER: &str = "skiff";

impl Layout {
    /// The layout of the cluster `name` below `home`.
    pub fn new(home: &Path, name: &str) -> Layout {
        Layout { home: home.to_owned(), name: name.to_owned() }
    }

    /// The cluster's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `$SKIFF_HOME`.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// The folder that holds everything of this cluster.
    pub fn dir(&self) -> PathBuf {
        self.home.join("clusters").join(&self.name)
    }

    /// What the cluster is meant to be: [`crate::spec::ClusterSpec`] as YAML.
    pub fn spec(&self) -> PathBuf {
        self.dir().join("cluster.yaml")
    }

    /// Certificates and keys; 0700.
    pub fn pki(&self) -> PathBuf {
        self.dir().join("pki")
    }

    /// The embedded store's folder.
    pub fn store(&self) -> PathBuf {
        self.dir().join("store")
    }

    /// The recorder's segments.
    pub fn recorder(&self) -> PathBuf {
        self.dir().join("recorder")
    }

    /// The audit log, unless the cluster has it elsewhere.
    pub fn audit_log(&self) -> PathBuf {
        self.dir().join("audit").join("audit.log")
    }

    /// What one process writes to its standard output and error.
    pub fn log(&self, process: &str) -> PathBuf {
        self.dir().join("logs").join(format!("{process}.log"))
    }

    /// Held, locked, by the process for as long as it lives; contains its process id.
    pub fn lock(&self, process: &str) -> PathBuf {
        self.dir().join("run").join(format!("{process}.lock"))
    }

    /// The folder of one node: volumes, namespaces, its iptables lock.
    pub fn node(&self, node: &str) -> PathBuf {
        self.dir().join("nodes").join(node)
    }

    /// The administrator's kubeconfig. The default cluster's lies directly in SKIFF_HOME, where
    /// `skiffctl` finds it by itself.
    pub fn admin_kubeconfig(&self) -> PathBuf {
        if self.name == DEFAULT_CLUSTER {
            self.home.join("admin.kubeconfig")
        } else {
            self.dir().join("admin.kubeconfig")
        }
    }

    /// The network namespace that is the test host of `node`.
    pub fn namespace(&self, node: &str) -> String {
        format!("{}{node}", self.namespace_prefix())
    }

    /// The network namespace that holds the bridge which joins the test hosts.
    pub fn switch_namespace(&self) -> String {
        format!("{}switch", self.namespace_prefix())
    }

    /// What the names of all this cluster's network namespaces begin with.
    pub fn namespace_prefix(&self) -> String {
        format!("skiff.{}.", self.name)
    }

    /// The host's leg into the cluster's network: at most 15 bytes, as the kernel demands, so the
    /// cluster's name is hashed into it.
    pub fn host_link(&self) -> String {
        format!("skf{:08x}", crc32fast::hash(self.name.as_bytes()))
    }
}

/// Says what is wrong with a cluster's name, if anything: it becomes part of file, namespace and
/// container names.
pub fn check_name(name: &str) -> Result<(), String> {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    if name.is_empty() || name.len() > 30 {
        return Err(format!("cluster name {name:?}: must have 1 to 30 characters"));
    }
    if !name.chars().all(inner) || !edge(name.chars().next()) || !edge(name.chars().last()) {
        return Err(format!(
            "cluster name {name:?}: must consist of lower case letters, digits and '-', and begin and end with a letter or a digit"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_names_fit_the_kernel_and_differ() {
        let one = Layout::new(Path::new("/h"), "one").host_link();
        let two = Layout::new(Path::new("/h"), "two").host_link();
        assert!(one.len() <= 15);
        assert_ne!(one, two);
    }

    #[test]
    fn only_the_default_cluster_owns_the_kubeconfig_in_home() {
        let home = Path::new("/h");
        assert_eq!(Layout::new(home, "skiff").admin_kubeconfig(), Path::new("/h/admin.kubeconfig"));
        assert_eq!(Layout::new(home, "b").admin_kubeconfig(), Path::new("/h/clusters/b/admin.kubeconfig"));
    }

    #[test]
    fn names_are_checked() {
        for good in ["skiff", "a", "a-1", "0x"] {
            assert_eq!(check_name(good), Ok(()), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a/b", "a.b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }
}
