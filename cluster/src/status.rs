//! `skiff status`: what runs of a cluster, and where its things are.

use anyhow::{Result, bail};

use crate::hosts::namespace;
use crate::layout::Layout;
use crate::say::say;
use crate::spec::ClusterSpec;
use crate::supervisor::{SUPERVISOR, programs};
use crate::{process, up};

/// Prints the cluster's processes and whether each runs; fails when the cluster does not exist or
/// something of it does not run.
pub async fn run(layout: Layout) -> Result<()> {
    let Some(spec) = ClusterSpec::read(&layout)? else {
        bail!("there is no cluster {:?} in {}; `skiff up` makes one", layout.name(), layout.home().display());
    };
    say!("cluster     {}", spec.name);
    say!("api server  https://{}:{}", spec.host_address(), spec.port);
    say!("store       {}", spec.store);
    say!("kubeconfig  {}", layout.admin_kubeconfig().display());
    say!("files       {}", layout.dir().display());
    let mut dead = vec![];
    let names = std::iter::once(SUPERVISOR.to_owned()).chain(programs(&layout, &spec).into_iter().map(|p| p.name));
    say!("\n{:<16} {:<10} LOG", "PROCESS", "STATE");
    for name in names {
        let state = match process::holder(&layout.lock(&name))? {
            Some(pid) => format!("pid {pid}"),
            None => {
                dead.push(name.clone());
                "stopped".to_owned()
            }
        };
        say!("{name:<16} {state:<10} {}", layout.log(&name).display());
    }
    let by_hand = by_hand(&layout, &spec)?;
    for (name, pid) in &by_hand {
        say!("{name:<16} {:<10} by hand", format!("pid {pid}"));
    }
    say!("\n{:<16} {:<10} ADDRESS", "NODE", "READY");
    let ready = if dead.is_empty() || !by_hand.is_empty() {
        up::ready_nodes(&layout).await.unwrap_or_default()
    } else {
        vec![]
    };
    for (number, node) in spec.nodes() {
        let host = namespace::path(&layout.namespace(&node)).exists();
        let state = match (host, ready.contains(&node)) {
            (false, _) => "no host",
            (true, true) => "yes",
            (true, false) => "no",
        };
        say!("{node:<16} {state:<10} {}", spec.node_address(number));
    }
    if !dead.is_empty() {
        bail!("not running: {}; `skiff up` starts them", dead.join(", "));
    }
    Ok(())
}

/// The components that run because somebody started them in a terminal.
fn by_hand(layout: &Layout, spec: &ClusterSpec) -> Result<Vec<(String, nix::unistd::Pid)>> {
    let kept: Vec<String> = programs(layout, spec).into_iter().map(|p| p.name).chain([SUPERVISOR.to_owned()]).collect();
    let mut found = vec![];
    for name in process::names(layout).into_iter().filter(|name| !kept.contains(name)) {
        if let Some(pid) = process::holder(&layout.lock(&name))? {
            found.push((name, pid));
        }
    }
    Ok(found)
}
