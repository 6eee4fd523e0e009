//! The scheduler: gives every pod that has none the best node there is.
//!
//! ```text
//!  informers ──► Event ──► snapshot (all nodes, flat) ◄── assume
//!                  │                 │                      ▲
//!                  └──► queue ──pop──► cycle: filter, score ─┤──► binding (driver) ──► API server
//!                         ▲                                 │
//!                         └───────── no node will do ───────┴──► complaints (driver) ──► API server
//! ```
//!
//! - `cycle` decides, and is a pure function of pod, snapshot and profile; `memo` makes it quick without changing
//!   what it says; `explain` tells the whole story of a decision.
//! - `framework` says what a plugin is, `plugins` are they, a file each.
//! - `queue` knows which pods wait for what, and never forgets one.
//! - `scheduler` is the loop that ties them together.
//!
//! **Where the driver fits, and where not.** The client's driver takes one key, observes, plans and acts. Writing a
//! binding (`binding`) and a complaint (`complaints`) are such work, and go through it: gates, causes, backoff and
//! retries are those of every other component. Deciding is not: the queue is ordered by priority and not by arrival, all pods
//! share one snapshot that every decision changes (the pod is *assumed* to be where it was sent, before the API
//! server has heard of it), and a decision takes microseconds where a write takes milliseconds. So
//! deciding is a loop of its own, and what it decides is what `binding` observes.

pub mod binding;
pub mod complaints;
pub mod cycle;
pub mod framework;
pub mod memo;
pub mod metrics;
pub mod node;
pub mod plugins;
pub mod pod;
pub mod queue;
pub mod scheduler;
pub mod snapshot;
pub mod story;
pub mod template;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use skiff_client::{Client, Controls, LeaderElection, tunnel};
use skiff_proto::skiffv1::Hello;
use skiff_world::World;

/// What the scheduler is told from outside.
#[derive(Clone, Debug)]
pub struct Options {
    /// The name under which this process stands for election; the same after a restart.
    pub identity: String,
}

impl Default for Options {
    fn default() -> Options {
        Options { identity: "scheduler".into() }
    }
}

/// Stands for election, and schedules whenever and for as long as this process leads.
/// Does not return; dropping the future, or stopping the World, ends it.
pub async fn run(world: World, client: Client, options: Options) {
    let controls = Controls::new();
    let hello = Hello { component: "scheduler".into(), instance: world.uuid(), ..Hello::default() };
    controls.expose(&world, &client);
    let metrics = metrics::Metrics::new(&controls);
    let inspect = Arc::new(story::Inspect::new(controls.clone()));
    tokio::select! {
        biased;
        () = tunnel::serve(&world, &client, hello, inspect.clone()) => {}
        () = lead_for_ever(&world, &client, &controls, &inspect, &metrics, &options) => {}
    }
}

async fn lead_for_ever(
    world: &World,
    client: &Client,
    controls: &Controls,
    inspect: &story::Inspect,
    metrics: &metrics::Metrics,
    options: &Options,
) {
    let election =
        LeaderElection::new(world, client, "kube-system", "kube-scheduler", &options.identity).shown_in(controls);
    loop {
        // Each term begins with an empty snapshot, and leaves no task behind.
        let term = world.child(world.component(), None);
        let work = async |client: Client| {
            tokio::select! {
                biased;
                why = term.stopped() => tracing::error!(?why, "a task of the scheduler failed; starting afresh"),
                () = scheduler::run(&term, &client, controls, inspect, metrics) => {}
            }
        };
        election.lead(work).await;
        term.stop().await;
        world.sleep(Duration::from_millis(500)).await;
    }
}
