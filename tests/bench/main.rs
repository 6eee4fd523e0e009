//! `make bench`: figures of a real cluster, each beside a floor or a peer measured in the same run.
//! `make bench WHAT="start memory pods rollout why creates"` takes some of them; `make bench-api` those of the API server.
//! Machines are noisy: what is repeated is given as its median, and ratios are taken within a run.
#![allow(clippy::disallowed_methods, reason = "benchmarks measure real time")]

mod api;
mod cluster;
mod creates;
mod memory;
mod pods;
mod rollout;
mod start;
mod why;

use anyhow::Result;
use cluster::{Cluster, Store};
use tokio::signal::unix::{SignalKind, signal};

fn main() -> Result<()> {
    let asked: Vec<String> = std::env::args().skip(1).collect();
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if asked.iter().any(|group| group.starts_with("api-")) {
        // Whoever measures shares the processors with what is measured: one thread wakes nobody.
        runtime = tokio::runtime::Builder::new_current_thread();
    }
    runtime.worker_threads(2).enable_all().build()?.block_on(async {
        tokio::select! {
            biased;
            // First, so that it listens before anything is made.
            told = told_to_end() => told?,
            done = run(asked) => return done,
        }
        // The cluster went with what was dropped here; what was made beside it in Docker has no owner.
        rollout::leave_nothing().await?;
        anyhow::bail!("ended early; what was measured so far stands above")
    })
}

/// Completes when somebody wants the bench to end.
async fn told_to_end() -> Result<()> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        biased;
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}

/// The groups of figures, in the order in which they are taken.
const GROUPS: [&str; 6] = ["start", "memory", "pods", "rollout", "why", "creates"];
/// How many of them, from the first on, share one cluster.
const SHARING: usize = 5;

async fn run(asked: Vec<String>) -> Result<()> {
    let known = [&GROUPS[..], &api::GROUPS[..]].concat();
    if let Some(unknown) = asked.iter().find(|a| !known.contains(&a.as_str())) {
        anyhow::bail!("there is no group of figures {unknown:?}; there are {}", known.join(", "));
    }
    let named = |group: &str| asked.iter().any(|a| a == group);
    let wanted = |group: &str| asked.is_empty() || named(group);
    println!("Skiff {}, {}", env!("CARGO_PKG_VERSION"), cluster::machine());
    println!("\n{:<64} {:>12} {:>14} {:>7}", "what", "Skiff", "beside", "ratio");
    api::run(named).await?;
    if GROUPS[..SHARING].iter().any(|group| wanted(group)) {
        let cluster = Cluster::up(Store::Embedded, 3)?;
        line("skiff up, from nothing to 3 nodes Ready", &seconds(cluster.took), "", "");
        if wanted("start") {
            start::cold(&cluster).await?;
        }
        if wanted("memory") {
            memory::idle(&cluster).await?;
        }
        for count in [1, 10, 50].into_iter().filter(|_| wanted("pods")) {
            pods::apply_to_running(&cluster, count).await?;
        }
        if wanted("rollout") {
            rollout::image_to_complete(&cluster, 100).await?;
        }
        if wanted("why") {
            why::among_many(&cluster, 10_000).await?;
        }
    }
    for store in [Store::Embedded, Store::Etcd].into_iter().filter(|_| wanted("creates")) {
        let cluster = Cluster::up(store, 1)?;
        creates::throughput(&cluster).await?;
        creates::one_at_a_time(&cluster).await?;
        creates::fsyncs(&cluster).await?;
    }
    println!(
        "\nbudgets, from the design: control plane 25 MB; cold start 0.2 s; creates 20,000/s embedded, 60 % of raw puts on etcd;"
    );
    println!("one create 0.5 ms embedded; Pods below the raw Docker API with --network none pause containers.");
    Ok(())
}

/// One row.
pub fn line(what: &str, ours: &str, beside: &str, ratio: &str) {
    println!("{what:<64} {ours:>12} {beside:>14} {ratio:>7}");
}

/// A time as it is printed.
pub fn seconds(time: std::time::Duration) -> String {
    format!("{:.3} s", time.as_secs_f64())
}

/// The middle one.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
