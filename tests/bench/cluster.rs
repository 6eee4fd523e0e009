//! The cluster that is measured, made by the real `skiff up` and removed at the end.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use skiff_client::{Client, ClientConfig};
use skiff_world::World;

/// Which store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// The embedded one.
    Embedded,
    /// A real etcd server, on the same disk.
    Etcd,
}

/// A running cluster.
pub struct Cluster {
    home: tempfile::TempDir,
    etcd: Option<Child>,
    /// How long `skiff up` took.
    pub took: Duration,
    /// Which store it is on.
    pub store: Store,
    /// etcd's address.
    pub etcd_url: Option<String>,
}

const NAME: &str = "bench";

impl Cluster {
    /// `skiff up`.
    pub fn up(store: Store, nodes: u32) -> Result<Cluster> {
        let home = tempfile::Builder::new().prefix("skiff-bench-").tempdir()?;
        let (mut etcd, mut etcd_url) = (None, None);
        if store == Store::Etcd {
            let (child, url) = start_etcd(&home.path().join("etcd"))?;
            etcd = Some(child);
            etcd_url = Some(url);
        }
        let mut cluster = Cluster { home, etcd, took: Duration::ZERO, store, etcd_url };
        let began = Instant::now();
        let mut command = cluster.skiff();
        command.args(["up", "--name", NAME, "--nodes", &nodes.to_string()]);
        if let Some(url) = &cluster.etcd_url {
            command.args(["--store", &format!("etcd={url}")]);
        }
        let output = command.output().context("run skiff up")?;
        if !output.status.success() {
            bail!("skiff up: {}", String::from_utf8_lossy(&output.stderr));
        }
        cluster.took = began.elapsed();
        Ok(cluster)
    }

    /// The `skiff` command with this cluster's home.
    pub fn skiff(&self) -> Command {
        let mut command = Command::new(binary("skiff"));
        command.arg("--home").arg(self.home.path());
        command
    }

    /// The cluster's name.
    pub fn name(&self) -> &'static str {
        NAME
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.home.path().join("clusters").join(NAME).join("admin.kubeconfig")
    }

    /// An administrator's client of its own connection.
    pub fn client(&self) -> Result<Client> {
        let (config, _) = ClientConfig::from_kubeconfig(&self.kubeconfig(), None)?;
        Ok(Client::new(&World::real("bench"), config)?)
    }

    /// The process id of one of the cluster's processes.
    pub fn pid(&self, process: &str) -> Result<i32> {
        let lock = self.home.path().join("clusters").join(NAME).join("run").join(format!("{process}.lock"));
        let text = std::fs::read_to_string(&lock).with_context(|| format!("read {}", lock.display()))?;
        text.trim().parse().with_context(|| format!("{}: no process id", lock.display()))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = self.skiff().args(["down", "--purge", "--name", NAME]).output();
        if let Some(mut etcd) = self.etcd.take() {
            let _ = etcd.kill();
            let _ = etcd.wait();
        }
    }
}

/// A new etcd server, and its address.
pub fn start_etcd(dir: &std::path::Path) -> Result<(Child, String)> {
    let port = || -> Result<u16> { Ok(std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port()) };
    let (client, peer) = (port()?, port()?);
    let url = format!("http://127.0.0.1:{client}");
    let peer_url = format!("http://127.0.0.1:{peer}");
    let child = Command::new("etcd")
        .args(["--name", NAME, "--log-level", "error", "--listen-client-urls", &url, "--advertise-client-urls", &url])
        .args(["--listen-peer-urls", &peer_url, "--initial-advertise-peer-urls", &peer_url])
        .args(["--initial-cluster", &format!("{NAME}={peer_url}")])
        .arg("--data-dir")
        .arg(dir)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("start etcd (apt-get install etcd-server)")?;
    for _ in 0..200 {
        if std::net::TcpStream::connect(("127.0.0.1", client)).is_ok() {
            return Ok((child, url));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    bail!("etcd does not answer")
}

/// One of our binaries: in $SKIFF_BIN, or beside this one.
pub fn binary(name: &str) -> PathBuf {
    if let Some(dir) = std::env::var_os("SKIFF_BIN") {
        return PathBuf::from(dir).join(name);
    }
    let own = std::env::current_exe().unwrap_or_default();
    own.with_file_name(name)
}

/// The machine in a few words.
pub fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{cores} cores, Linux {}", kernel.trim())
}
