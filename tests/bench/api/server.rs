//! The server that is measured: `skiff server` (API server, controllers and scheduler in one process) without nodes.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use skiff_client::ClientConfig;
use skiff_world::Address;

use crate::cluster::{Store, binary, start_etcd};

const NAME: &str = "bench-api";

/// A running server.
pub struct Server {
    home: tempfile::TempDir,
    process: Child,
    etcd: Option<Child>,
    /// etcd's address, if that is the store.
    pub etcd_url: Option<String>,
    /// How an administrator reaches it.
    pub config: ClientConfig,
    /// Its host and port.
    pub address: String,
}

/// What a process has used up to a moment.
#[derive(Clone, Copy)]
pub struct Spent {
    /// User and system time.
    pub cpu: Duration,
    /// Times that a thread of it gave its processor away, or had it taken.
    pub switches: u64,
}

impl Spent {
    /// What this process has used so far.
    pub fn of(pid: u32) -> Result<Spent> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let fields: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks: u64 = [11, 12].iter().filter_map(|at| fields.get(*at)?.parse::<u64>().ok()).sum();
        let mut switches = 0;
        for thread in std::fs::read_dir(format!("/proc/{pid}/task"))? {
            let status = std::fs::read_to_string(thread?.path().join("status")).unwrap_or_default();
            let counts = status.lines().filter(|line| line.contains("ctxt_switches"));
            switches += counts.filter_map(|line| line.split_whitespace().last()?.parse::<u64>().ok()).sum::<u64>();
        }
        // The kernel's clock tick is 100 a second on every Linux that is met.
        Ok(Spent { cpu: Duration::from_millis(ticks * 10), switches })
    }

    /// What was used since then.
    pub fn since(self, before: Spent) -> Spent {
        Spent { cpu: self.cpu - before.cpu, switches: self.switches.saturating_sub(before.switches) }
    }
}

impl Server {
    /// Starts a new, empty one.
    pub async fn start(store: Store) -> Result<Server> {
        let home = tempfile::Builder::new().prefix("skiff-bench-").tempdir()?;
        let (mut etcd, mut etcd_url) = (None, None);
        if store == Store::Etcd {
            let (child, url) = start_etcd(&home.path().join("etcd"))?;
            etcd = Some(child);
            etcd_url = Some(url);
        }
        let skiff = |verb: &str| {
            let mut command = Command::new(binary("skiff"));
            command.arg("--home").arg(home.path()).args([verb, "--name", NAME]);
            command
        };
        let mut pki = skiff("pki");
        pki.args(["--nodes", "1"]);
        if let Some(url) = &etcd_url {
            pki.args(["--store", &format!("etcd={url}")]);
        }
        for mut command in [pki, skiff("hosts")] {
            let output = command.output().context("run skiff")?;
            if !output.status.success() {
                bail!("{command:?}: {}", String::from_utf8_lossy(&output.stderr));
            }
        }
        let log = std::fs::File::create(home.path().join("server.log"))?;
        let process = skiff("server").stdout(Stdio::null()).stderr(log).spawn().context("start the server")?;
        let kubeconfig = home.path().join("clusters").join(NAME).join("admin.kubeconfig");
        let (config, _) = ClientConfig::from_kubeconfig(&kubeconfig, None)?;
        let Some(Address::Tcp(address)) = config.servers.first().cloned() else { bail!("no address to call") };
        let server = Server { home, process, etcd, etcd_url, config, address };
        server.wait().await?;
        Ok(server)
    }

    async fn wait(&self) -> Result<()> {
        let began = Instant::now();
        while tokio::net::TcpStream::connect(&self.address).await.is_err() {
            anyhow::ensure!(began.elapsed() < Duration::from_secs(20), "the server does not answer");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // Until the controllers have made what every cluster has.
        tokio::time::sleep(Duration::from_secs(2)).await;
        Ok(())
    }

    /// Writes a file into its home, which goes with it.
    pub fn file(&self, name: &str, text: &[u8]) -> Result<PathBuf> {
        let path = self.home.path().join(name);
        std::fs::write(&path, text)?;
        Ok(path)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Its proportional set size, in KiB.
    pub fn pss(&self) -> Result<f64> {
        Ok(crate::memory::pss(i32::try_from(self.pid())?)? as f64)
    }

    /// What it has used so far.
    pub fn spent(&self) -> Result<Spent> {
        Spent::of(self.pid())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.process.id().to_string()).status();
        let _ = self.process.wait();
        let mut down = Command::new(binary("skiff"));
        let _ = down.arg("--home").arg(self.home.path()).args(["down", "--purge", "--name", NAME]).output();
        if let Some(mut etcd) = self.etcd.take() {
            let _ = etcd.kill();
            let _ = etcd.wait();
        }
    }
}
