//! `skiff up`: from nothing, or from whatever is there, to a cluster whose nodes are all Ready.
//! Every step looks first and does only what is missing, so it may be repeated at any time.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use nix::sys::signal::Signal;
use skiff_client::{Api, Client, ClientConfig, ListOptions};
use skiff_proto::corev1::Node;
use skiff_world::World;

use crate::layout::Layout;
use crate::logging::{FORMAT, LogFormat};
use crate::machine::Machine;
use crate::say::say;
use crate::spec::{ClusterSpec, StoreSpec};
use crate::supervisor::{SUPERVISOR, open_log, programs};
use crate::{Named, hosts, pki, process};

/// What a cluster is to be. What is not given stays as the cluster has it.
#[derive(Args, Clone, Debug)]
pub struct Wanted {
    /// Which cluster.
    #[command(flatten)]
    pub cluster: Named,
    /// How many nodes [default for a new cluster: 3].
    #[arg(long)]
    pub nodes: Option<u32>,
    /// Zones, given to the nodes in turn: `a,b`.
    #[arg(long, value_delimiter = ',')]
    pub zones: Option<Vec<String>>,
    /// `embedded`, or `etcd=URL[,URL...]` [default for a new cluster: embedded].
    #[arg(long)]
    pub store: Option<StoreSpec>,
    /// Seconds without a heartbeat until a node counts as NotReady [default for a new cluster: 40].
    #[arg(long, value_name = "SECONDS")]
    pub node_grace: Option<u64>,
    /// Seconds that Pods which do not say stay on a node that is lost [default for a new cluster: 300].
    #[arg(long, value_name = "SECONDS")]
    pub lost_node_tolerance: Option<u64>,
    /// Seconds that Events are kept after their last write [default for a new cluster: 3600].
    #[arg(long, value_name = "SECONDS")]
    pub event_ttl: Option<u64>,
    /// Where the API server says who did what, as JSON lines [default: audit/audit.log in the cluster's folder].
    #[arg(long, value_name = "FILE")]
    pub audit_log: Option<PathBuf>,
}

/// What `skiff up` takes.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// What the cluster is to be.
    #[command(flatten)]
    pub wanted: Wanted,
    /// How long to wait for the nodes to be Ready, in seconds.
    #[arg(long, default_value_t = 120)]
    pub timeout: u64,
}

/// A cluster on one machine has at most this many nodes: their addresses come from one /24.
const MOST_NODES: u32 = 200;

/// Brings the cluster up and waits until its nodes are Ready.
pub async fn run(layout: Layout, options: Options, format: LogFormat) -> Result<()> {
    anyhow::ensure!(
        nix::unistd::geteuid().is_root(),
        "`skiff up` makes network namespaces and iptables rules: run it as root"
    );
    let world = World::real("up");
    let progress = Progress::new();

    progress.step("address ranges, settings, certificates");
    let spec = settle(&layout, &options.wanted, &world, &Machine::this(&layout))?;

    progress.step("hosts and links");
    hosts::ensure(&layout, &spec)?;

    progress.step("processes");
    start_supervisor(&world, &layout, format).await?;

    progress.step(&format!("waiting for {} nodes to be Ready", spec.nodes));
    let deadline = Duration::from_secs(options.timeout);
    if tokio::time::timeout(deadline, wait_for_nodes(&world, &layout, &spec, &progress)).await.is_err() {
        progress.end();
        bail!("after {} s not all nodes are Ready\n{}", options.timeout, what_is_wrong(&layout, &spec));
    }
    progress.end();
    print_next(&layout, &spec);
    Ok(())
}

/// Writes down what the cluster is to be, and makes the certificates and the administrator's kubeconfig for it.
/// Nobody else on the machine does that at the same time, so that no two clusters choose the same addresses.
pub fn settle(layout: &Layout, wanted: &Wanted, world: &World, machine: &Machine) -> Result<ClusterSpec> {
    let _turn = machine.turn()?;
    let spec = specify(layout, wanted, machine)?;
    let text = serde_yaml::to_string(&spec).context("write the cluster's spec")?;
    std::fs::create_dir_all(layout.dir()).with_context(|| format!("create {}", layout.dir().display()))?;
    pki::write_atomically(&layout.spec(), text.as_bytes(), 0o644)?;
    machine.enter(layout)?;
    pki::ensure(layout, &spec, world)?;
    pki::write_private(&layout.admin_kubeconfig(), pki::kubeconfig(layout, &spec)?.as_bytes())?;
    Ok(spec)
}

/// The cluster as it is to be: as it was, with what the options change; or a new one.
fn specify(layout: &Layout, options: &Wanted, machine: &Machine) -> Result<ClusterSpec> {
    let nodes = options.nodes;
    if let Some(n) = nodes {
        anyhow::ensure!((1..=MOST_NODES).contains(&n), "--nodes {n}: must be from 1 to {MOST_NODES}");
    }
    let mut spec = match ClusterSpec::read(layout)? {
        None => {
            let zones = options.zones.clone().unwrap_or_default();
            let store = options.store.clone().unwrap_or(StoreSpec::Embedded);
            let mut taken = hosts::taken_networks()?;
            taken.extend(machine.others(layout).iter().flat_map(ClusterSpec::networks));
            taken.extend(networks_of_other_clusters(layout));
            ClusterSpec::choose(layout.name(), nodes.unwrap_or(3), zones, store, &taken).map_err(anyhow::Error::msg)?
        }
        Some(mut spec) => {
            if let Some(n) = nodes {
                anyhow::ensure!(
                    n >= spec.nodes,
                    "the cluster has {} nodes; to have fewer, make it anew: `skiff down --purge --name {}`, then `skiff up`",
                    spec.nodes,
                    spec.name
                );
                spec.nodes = n;
            }
            if let Some(store) = &options.store {
                anyhow::ensure!(
                    *store == spec.store,
                    "the cluster's objects are in the store {}; a cluster cannot change its store: `skiff down --purge` first, or give this one another --name",
                    spec.store
                );
            }
            if let Some(zones) = &options.zones {
                spec.zones.clone_from(zones);
            }
            spec
        }
    };
    if let Some(grace) = options.node_grace {
        anyhow::ensure!(grace >= 15, "--node-grace {grace}: must be at least 15 seconds; nodes report every 10");
        spec.node_grace_seconds = grace;
    }
    if let Some(seconds) = options.lost_node_tolerance {
        spec.lost_node_tolerance_seconds = seconds;
    }
    if let Some(seconds) = options.event_ttl {
        anyhow::ensure!(seconds >= 10, "--event-ttl {seconds}: must be at least 10 seconds");
        spec.event_ttl_seconds = seconds;
    }
    if let Some(file) = &options.audit_log {
        // Its processes have other working directories.
        spec.audit_log = Some(std::path::absolute(file).with_context(|| format!("--audit-log {}", file.display()))?);
    }
    Ok(spec)
}

/// The ranges of clusters that do not run now but may again.
fn networks_of_other_clusters(layout: &Layout) -> Vec<ipnet::Ipv4Net> {
    let Ok(entries) = std::fs::read_dir(layout.home().join("clusters")) else { return vec![] };
    entries
        .filter_map(|e| e.ok()?.file_name().into_string().ok())
        .filter(|name| name != layout.name())
        .filter_map(|name| ClusterSpec::read(&Layout::new(layout.home(), &name)).ok().flatten())
        .flat_map(|spec| spec.networks())
        .collect()
}

/// Starts the supervisor, or has the running one read the spec again.
async fn start_supervisor(world: &World, layout: &Layout, format: LogFormat) -> Result<()> {
    let lock = layout.lock(SUPERVISOR);
    if process::signal(&lock, Signal::SIGHUP)? {
        return Ok(());
    }
    let log = layout.log(SUPERVISOR);
    let output = open_log(&log)?;
    let binary = std::env::current_exe().context("find the skiff binary")?;
    let mut child = std::process::Command::new(&binary)
        .arg("--home")
        .arg(layout.home())
        .args(["supervise", "--name", layout.name()])
        .env(FORMAT, format.as_str())
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .current_dir("/")
        .spawn()
        .with_context(|| format!("start {}", binary.display()))?;
    // It lives on without us; only a start that fails at once is ours to report.
    for _ in 0..100 {
        if process::holder(&lock)?.is_some() {
            return Ok(());
        }
        if let Some(status) = child.try_wait().context("look at the supervisor")? {
            bail!("the supervisor ended at once ({status}); see {}", log.display());
        }
        world.sleep(Duration::from_millis(20)).await;
    }
    bail!("the supervisor did not start within 2 s; see {}", log.display())
}

/// Watches the nodes until every one is Ready.
async fn wait_for_nodes(world: &World, layout: &Layout, spec: &ClusterSpec, progress: &Progress) {
    loop {
        let ready = ready_nodes(layout).await.unwrap_or_default();
        let missing: Vec<String> = spec.nodes().map(|(_, n)| n).filter(|n| !ready.contains(n)).collect();
        if missing.is_empty() {
            return;
        }
        progress.detail(&format!("{} of {} Ready; waiting for {}", ready.len(), spec.nodes, missing.join(", ")));
        world.sleep(Duration::from_millis(100)).await;
    }
}

/// The names of the nodes that are Ready now.
pub async fn ready_nodes(layout: &Layout) -> Result<Vec<String>> {
    let world = World::real("up");
    let (config, _) = ClientConfig::from_kubeconfig(&layout.admin_kubeconfig(), None)?;
    let client = Client::new(&world, config)?;
    let list =
        tokio::time::timeout(Duration::from_secs(3), Api::<Node>::new(&client).list("", &ListOptions::default()))
            .await
            .context("the API server does not answer")??;
    let ready = |node: &Node| node.status.conditions.iter().any(|c| c.r#type == "Ready" && c.status == "True");
    let names = list.items.iter().filter(|n| ready(n)).map(|n| n.metadata.name.clone()).collect();
    world.stop().await;
    Ok(names)
}

/// The processes that do not run, each with the last thing it said; or where to look.
fn what_is_wrong(layout: &Layout, spec: &ClusterSpec) -> String {
    let mut lines = vec![];
    for program in programs(layout, spec) {
        if process::holder(&layout.lock(&program.name)).is_ok_and(|h| h.is_none()) {
            let log = std::fs::read_to_string(layout.log(&program.name)).unwrap_or_default();
            lines.push(format!("{} does not run: {}", program.name, log.lines().last().unwrap_or("it said nothing")));
        }
    }
    lines.push(format!(
        "the logs are in {}; `skiff status --name {}` shows more",
        layout.dir().join("logs").display(),
        spec.name
    ));
    lines.join("\n")
}

fn print_next(layout: &Layout, spec: &ClusterSpec) {
    say!(
        "The cluster {:?} runs: {} nodes, API server https://{}:{}.",
        spec.name,
        spec.nodes,
        spec.host_address(),
        spec.port
    );
    let config = layout.admin_kubeconfig();
    if spec.name == crate::layout::DEFAULT_CLUSTER {
        say!("\n  skiffctl get nodes -o wide");
    } else {
        say!("\n  export KUBECONFIG={}", config.display());
        say!("  skiffctl get nodes -o wide");
    }
    say!("  skiffctl apply -f examples/guestbook.yaml");
    say!(
        "  skiff down{}",
        if spec.name == crate::layout::DEFAULT_CLUSTER { String::new() } else { format!(" --name {}", spec.name) }
    );
}

/// A spinner on a terminal; plain lines elsewhere.
struct Progress {
    bar: Option<ProgressBar>,
}

impl Progress {
    fn new() -> Progress {
        use std::io::IsTerminal;
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        Progress { bar }
    }

    fn step(&self, what: &str) {
        match &self.bar {
            Some(bar) => bar.set_message(what.to_owned()),
            None => eprintln!("{what}"),
        }
    }

    /// More about the current step; only where it can be overwritten.
    fn detail(&self, what: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(what.to_owned());
        }
    }

    fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clusters_in_different_folders_choose_different_addresses() {
        let dir = tempfile::tempdir().unwrap();
        let machine = Machine::at(&dir.path().join("run"));
        let cluster = Named { name: "x".to_owned() };
        let wanted = Wanted {
            audit_log: None,
            cluster,
            nodes: Some(1),
            zones: None,
            store: None,
            node_grace: None,
            lost_node_tolerance: None,
            event_ttl: None,
        };
        // Neither runs: all that is there of the first one are its files.
        let settled = |home: &str| {
            let layout = Layout::new(&dir.path().join(home), "x");
            settle(&layout, &wanted, &World::real("up-test"), &machine).unwrap()
        };
        let (one, two) = (settled("one"), settled("two"));
        for (a, b) in one.networks().into_iter().zip(two.networks()) {
            assert_ne!(a, b);
        }
        assert_eq!(settled("one").networks(), one.networks(), "what was chosen stays");
    }
}
