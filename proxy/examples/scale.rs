//! How long rules take at scale, on this machine's kernel: prints figures, asserts nothing.
//!
//! ```sh
//! cargo run -p skiff-proxy --example scale -- [services] [nft|legacy] [batch]     # as root
//! ```
//!
//! It makes a network namespace of its own and removes it at the end.
#![allow(clippy::disallowed_methods, reason = "it measures real time")]

use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use skiff_proxy::apply::{ApplyError, Iptables, IptablesOptions, RuleApplier};
use skiff_proxy::rules::{Facts, StaleFlow, Table};
use skiff_proxy::services::{Backend, PortView, Protocol, ServiceName, ServicePort, ServiceView};
use skiff_proxy::sync::Tables;
use skiff_world::World;

struct Namespace(String);

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

/// The real tables, with batches of another size.
struct Sized {
    inner: Iptables,
    limit: Option<usize>,
}

#[async_trait]
impl RuleApplier for Sized {
    async fn restore(&self, text: &str) -> Result<(), ApplyError> {
        self.inner.restore(text).await
    }
    async fn save(&self, table: Table) -> Result<String, ApplyError> {
        self.inner.save(table).await
    }
    async fn forget(&self, flows: &[StaleFlow]) -> Result<(), ApplyError> {
        self.inner.forget(flows).await
    }
    async fn batch_limit(&self) -> Result<usize, ApplyError> {
        match self.limit {
            Some(limit) => Ok(limit),
            None => self.inner.batch_limit().await,
        }
    }
}

fn view(n: u32, endpoints: u32) -> (ServiceName, ServiceView) {
    let name = ServiceName::new(format!("team-{}", n % 50), format!("service-{n}"));
    let address = |e: u32| Ipv4Addr::from(u32::from_be_bytes([10, 244, 0, 0]) | ((n * 7 + e) % 65_000 + 2));
    let cluster: Vec<_> = (0..endpoints).map(|e| Backend { address: address(e), port: 8080 }).collect();
    let port = ServicePort { name: "http".into(), protocol: Protocol::Tcp, port: 80, node_port: None };
    let view = ServiceView {
        name: name.clone(),
        cluster_ip: Some(Ipv4Addr::from(u32::from_be_bytes([10, 96, 0, 0]) | (n * 40_503 % 65_536))),
        affinity_seconds: None,
        internal_local: false,
        external_local: false,
        ports: vec![PortView { port, cluster, local: Vec::new(), here: Vec::new() }],
    };
    (name, view)
}

fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}

fn memory(when: &str) -> std::io::Result<()> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let figures = status.lines().filter(|line| line.starts_with("VmHWM") || line.starts_with("VmRSS"));
    let figures: Vec<String> = figures.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    println!("{:34} {}", format!("memory, {when}"), figures.join(", "));
    Ok(())
}

async fn repeated(what: &str, tables: &Tables, mut change: impl FnMut(u32)) -> Result<(), ApplyError> {
    let mut times = Vec::new();
    for round in 0..30 {
        let began = Instant::now();
        change(round);
        tables.settle().await?;
        times.push(began.elapsed());
    }
    times.sort();
    println!("{what:34} median {:>10}   worst of 30 {:>10}", milliseconds(times[15]), milliseconds(times[29]));
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let count: u32 = args.first().map_or(Ok(10_000), |n| n.parse())?;
    let backend = args.get(1).map_or("nft", String::as_str);
    let limit = args.get(2).map(|n| n.parse()).transpose()?;
    let namespace = Namespace(format!("skpx-scale-{}", std::process::id()));
    if !Command::new("ip").args(["netns", "add", &namespace.0]).status()?.success() {
        return Err("cannot make a network namespace: run as root".into());
    }
    // As a node's process does it: in before the runtime starts, and all children with it.
    nix::sched::setns(
        std::fs::File::open(format!("/run/netns/{}", namespace.0))?,
        nix::sched::CloneFlags::CLONE_NEWNET,
    )?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(measure(count, backend, limit, &namespace))
}

async fn measure(
    count: u32,
    backend: &str,
    limit: Option<usize>,
    namespace: &Namespace,
) -> Result<(), Box<dyn std::error::Error>> {
    let mut options = IptablesOptions::new(std::env::temp_dir().join(format!("{}.lock", namespace.0)));
    let lock_file = options.lock_file.clone();
    options.restore = format!("iptables-{backend}-restore").into();
    options.save = format!("iptables-{backend}-save").into();
    let facts = Facts {
        cluster: "scale".into(),
        node: "n1".into(),
        cluster_cidr: "10.244.0.0/16".parse()?,
        pod_cidr: None,
        node_port_addresses: Vec::new(),
    };
    let applier = Arc::new(Sized { inner: Iptables::new(options), limit });
    let tables = Tables::new(&World::real("scale"), applier, facts, Duration::from_secs(3600));

    let began = Instant::now();
    for n in 0..count {
        let (name, view) = view(n, 2);
        tables.set(&name, Some(view));
    }
    tables.size();
    let modelled = began.elapsed();
    memory("the rules as data")?;
    let actions = tables.settle().await?;
    let (chains, rules) = tables.size();
    println!("{count} Services with 2 endpoints on {backend}: {chains} chains, {rules} rules");
    println!("{:34} {}, in {} restores", "first sync", milliseconds(began.elapsed()), actions.len() - 1);
    println!("{:34} {}", "  of it, the rules as data", milliseconds(modelled));
    memory("after the first sync")?;
    let began = Instant::now();
    tables.read_back().await?;
    println!("{:34} {}", "check for tampering", milliseconds(began.elapsed()));
    repeated("one endpoint more or less", &tables, |round| {
        let (name, view) = view(777 % count, 1 + round % 2);
        tables.set(&name, Some(view));
    })
    .await?;
    repeated("one Service more or less", &tables, |round| {
        let (name, view) = view(count + 1, 2);
        tables.set(&name, (round % 2 == 0).then_some(view));
    })
    .await?;
    memory("at the end")?;
    let _ = std::fs::remove_file(lock_file);
    Ok(())
}
