//! The controllers: each makes one promise of the API come true, again and again.
//!
//! | folder | promise |
//! |---|---|
//! | `deployment` | a new template is rolled out without losing the service |
//! | `replicaset` | there are as many pods as asked for |
//! | `endpointslice` | a Service knows the pods behind it |
//! | `endpoints` | those who read no slices know them too |
//! | `resourcequota` | what a namespace no longer has, its quotas give again |
//! | `garbage` | what belongs to nobody goes |
//! | `namespace` | a deleted namespace leaves nothing behind |
//! | `namespacedefaults` | a new one has a service account and the cluster's certificate |
//! | `nodelifecycle` | a silent node is noticed, and its pods move |
//! | `aggregation` | a role that is a sum has the rules of its parts |
//! | `nodecidr` | every node has addresses for its pods |
//!
//! All have one shape. `observe` reads caches into plain data; `plan` decides what to do about
//! it, and is a pure function: no client, no clock, no randomness, no logging; `act` does one thing
//! that was decided, and decides nothing. The client crate's driver does the rest: it takes a key
//! from the queue, waits until the caches show what was written last, and runs the three.
//! `manager` is the list of controllers and says what wakes which. To add one: a folder, and its lines there.
//!
//! What two controllers must never do is fight over an object: `ownership` decides whose it is.

pub mod aggregation;
pub mod caches;
pub mod deployment;
pub mod disruption;
pub mod endpoints;
pub mod endpointslice;
pub mod garbage;
pub mod inventory;
pub mod manager;
pub mod metrics;
pub mod namespace;
pub mod namespacedefaults;
pub mod nodecidr;
pub mod nodelifecycle;
pub mod nodes;
pub mod ownership;
pub mod pods;
pub mod replicaset;
mod replicasets;
pub mod resourcequota;

#[cfg(test)]
mod model;

use std::sync::Arc;
use std::time::Duration;

use ipnet::Ipv4Net;
use skiff_client::tunnel::{self, Inspect};
use skiff_client::{Client, Controls, LeaderElection};
use skiff_proto::skiffv1::Hello;
use skiff_world::World;

/// What the controllers are told from outside.
#[derive(Clone, Debug)]
pub struct Options {
    /// The name under which this process stands for election; the same after a restart.
    pub identity: String,
    /// The addresses of all pods.
    pub cluster_cidr: Ipv4Net,
    /// The size of a node's part of them.
    pub node_mask: u8,
    /// How long a node may be silent.
    pub node_grace: Duration,
    /// The certificate of the API server's authority, for `kube-root-ca.crt`.
    pub root_ca: Option<String>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            identity: "controllers".into(),
            cluster_cidr: Ipv4Net::new_assert([10, 244, 0, 0].into(), 16),
            node_mask: 24,
            node_grace: Duration::from_secs(40),
            root_ca: None,
        }
    }
}

/// Stands for election, and runs all controllers whenever and for as long as this process leads.
/// Does not return; dropping the future, or stopping the World, ends it.
pub async fn run(world: World, client: Client, options: Options) {
    let controls = Controls::new();
    let hello = Hello { component: "controllers".into(), instance: world.uuid(), ..Hello::default() };
    controls.expose(&world, &client);
    let nodes = metrics::Nodes::shown_in(&controls);
    let inspect = Arc::new(Inspect { controls: controls.clone() });
    tokio::select! {
        biased;
        () = tunnel::serve(&world, &client, hello, inspect) => {}
        () = lead_for_ever(&world, &client, &controls, &nodes, &options) => {}
    }
}

async fn lead_for_ever(world: &World, client: &Client, controls: &Controls, nodes: &metrics::Nodes, options: &Options) {
    let election = LeaderElection::new(world, client, "kube-system", "kube-controller-manager", &options.identity)
        .shown_in(controls);
    loop {
        // Each term begins with empty caches, and leaves no task behind.
        let term = world.child(world.component(), None);
        let work = async |client: Client| {
            tokio::select! {
                biased;
                why = term.stopped() => tracing::error!(?why, "a task of the controllers failed; starting afresh"),
                result = manager::run(&term, &client, controls, nodes, options) => match result {
                    Ok(()) => {}
                    Err(error) => tracing::warn!(%error, "the controllers could not start; trying again"),
                },
            }
        };
        election.lead(work).await;
        nodes.set(None);
        term.stop().await;
        world.sleep(Duration::from_millis(500)).await;
    }
}
