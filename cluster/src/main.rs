//! `skiff`: every component as a subcommand, and the commands that run a whole cluster of them on
//! one machine.

mod by_hand;
mod components;
mod down;
mod hosts;
mod layout;
mod logging;
mod machine;
mod pki;
mod process;
mod say;
mod spec;
mod status;
mod supervisor;
mod up;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};

use components::Part;
use layout::{DEFAULT_CLUSTER, DEFAULT_HOME, Layout};
use skiff_world::World;

/// Kubernetes in miniature: a cluster on one machine, and each of its components.
#[derive(Parser)]
#[command(name = "skiff", version)]
struct Cli {
    /// Where clusters keep their files.
    #[arg(long, global = true, env = "SKIFF_HOME", default_value = DEFAULT_HOME)]
    home: PathBuf,
    /// What the components' log lines look like; `skiff up` hands it on to those it starts.
    #[arg(long, global = true, env = logging::FORMAT, value_enum, default_value_t)]
    log_format: logging::LogFormat,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a cluster on this machine: a control plane and nodes in network namespaces.
    Up(up::Options),
    /// Stop the cluster and remove containers, namespaces, links, mounts and cgroups.
    Down(down::Options),
    /// Say what runs.
    Status(Named),
    /// By hand, first: choose address ranges, make the certificates and the administrator's kubeconfig.
    Pki(up::Wanted),
    /// By hand, second: make the nodes' network namespaces and join them.
    Hosts(Named),
    /// The control plane in one process: API server, controllers, scheduler.
    Server(Serving),
    /// A node in one process: kubelet and proxy.
    Agent(OnNode),
    /// The API server alone.
    Apiserver(Serving),
    /// The controllers alone.
    Controllers(Named),
    /// The scheduler alone.
    Scheduler(Named),
    /// One node's kubelet alone.
    Kubelet(OnNode),
    /// One node's proxy alone.
    Proxy(OnNode),
    /// Keep the cluster's processes alive; `skiff up` starts this.
    #[command(hide = true)]
    Supervise(Named),
}

/// Which cluster.
#[derive(Args, Clone, Debug)]
pub struct Named {
    /// The cluster's name.
    #[arg(long, default_value = DEFAULT_CLUSTER)]
    pub name: String,
}

/// Which cluster, for a process that serves its API.
#[derive(Args, Clone, Debug)]
struct Serving {
    #[command(flatten)]
    cluster: Named,
    /// Where it says who did what, as JSON lines [default: as the cluster has it].
    #[arg(long, value_name = "FILE")]
    audit_log: Option<PathBuf>,
}

/// Which node of which cluster.
#[derive(Args, Clone, Debug)]
struct OnNode {
    #[command(flatten)]
    cluster: Named,
    /// The node's name.
    #[arg(long)]
    node: String,
}

fn main() -> ExitCode {
    match dispatch(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("skiff: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(cli: Cli) -> Result<()> {
    let layout = |named: &Named| -> Result<Layout> {
        layout::check_name(&named.name).map_err(anyhow::Error::msg)?;
        Ok(Layout::new(&cli.home, &named.name))
    };
    let format = cli.log_format;
    match cli.command {
        Command::Up(options) => short(up::run(layout(&options.wanted.cluster)?, options, format)),
        Command::Down(options) => short(down::run(layout(&options.cluster)?, options)),
        Command::Status(named) => short(status::run(layout(&named)?)),
        Command::Pki(wanted) => by_hand::pki(&layout(&wanted.cluster)?, &wanted),
        Command::Hosts(named) => by_hand::hosts(&layout(&named)?),
        Command::Supervise(named) => supervise(layout(&named)?, format),
        Command::Server(serving) => {
            let parts = [Part::Apiserver, Part::Controllers, Part::Scheduler];
            serve(format, layout(&serving.cluster)?, "server", &parts, serving.audit_log)
        }
        Command::Apiserver(serving) => {
            serve(format, layout(&serving.cluster)?, "apiserver", &[Part::Apiserver], serving.audit_log)
        }
        Command::Controllers(named) => component(format, layout(&named)?, None, "controllers", &[Part::Controllers]),
        Command::Scheduler(named) => component(format, layout(&named)?, None, "scheduler", &[Part::Scheduler]),
        Command::Agent(on) => {
            component(format, layout(&on.cluster)?, Some(&on.node), "agent", &[Part::Kubelet, Part::Proxy])
        }
        Command::Kubelet(on) => component(format, layout(&on.cluster)?, Some(&on.node), "kubelet", &[Part::Kubelet]),
        Command::Proxy(on) => component(format, layout(&on.cluster)?, Some(&on.node), "proxy", &[Part::Proxy]),
    }
}

/// Runs a command that a person waits for.
fn short(work: impl Future<Output = Result<()>>) -> Result<()> {
    runtime(2)?.block_on(work)
}

/// Runs an API server, and what else its process has.
fn serve(
    format: logging::LogFormat,
    layout: Layout,
    kind: &str,
    parts: &[Part],
    audit_log: Option<PathBuf>,
) -> Result<()> {
    logging::init(format);
    let mut spec = spec::ClusterSpec::existing(&layout)?;
    spec.audit_log = audit_log.or(spec.audit_log);
    let _held = process::hold(&layout.lock(kind))?;
    runtime(2)?.block_on(components::run(&layout, &spec, None, parts))
}

/// Runs components until they are told to stop or one of them fails.
fn component(format: logging::LogFormat, layout: Layout, node: Option<&str>, kind: &str, parts: &[Part]) -> Result<()> {
    logging::init(format);
    let process = match node {
        Some(node) => format!("{kind}-{node}"),
        None => kind.to_owned(),
    };
    let spec = spec::ClusterSpec::existing(&layout)?;
    if let Some(node) = node {
        anyhow::ensure!(
            spec.nodes().any(|(_, name)| name == node),
            "the cluster {:?} has no node {node:?}; it has node-1 to node-{}",
            layout.name(),
            spec.nodes
        );
        // While the process has one thread: all later ones are then on the node.
        hosts::namespace::enter(&hosts::namespace::path(&layout.namespace(node)))?;
    }
    let _held = process::hold(&layout.lock(&process))?;
    runtime(2)?.block_on(components::run(&layout, &spec, node, parts))
}

fn supervise(layout: Layout, format: logging::LogFormat) -> Result<()> {
    logging::init(format);
    nix::unistd::setsid().context("leave the terminal's session")?;
    let binary = std::env::current_exe().context("find the skiff binary")?;
    runtime(1)?.block_on(supervisor::run(World::real("supervisor"), layout, binary, format))
}

fn runtime(threads: usize) -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()
        .context("start the asynchronous runtime")
}
