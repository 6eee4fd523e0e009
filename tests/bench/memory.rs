//! Memory at rest: PSS, which counts shared pages once.

use anyhow::{Context, Result};

use crate::cluster::Cluster;
use crate::line;

/// The control plane's and one agent's, ten seconds after anything happened.
pub async fn idle(cluster: &Cluster) -> Result<()> {
    tokio::time::sleep(std::time::Duration::from_secs(10)).await;
    for (what, process) in [("control plane, idle, 3 nodes (PSS)", "server"), ("agent, idle (PSS)", "agent-node-1")] {
        let mebibytes = pss(cluster.pid(process)?)? as f64 / 1024.0;
        line(what, &format!("{mebibytes:.1} MiB"), "", "");
    }
    Ok(())
}

/// A process's proportional set size in KiB.
pub fn pss(pid: i32) -> Result<u64> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = std::fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let line = text.lines().find_map(|l| l.strip_prefix("Pss:")).with_context(|| format!("{path}: no Pss"))?;
    let number = line.trim().trim_end_matches(" kB").trim();
    number.parse().with_context(|| format!("{path}: {line}"))
}
