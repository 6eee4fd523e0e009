//! The whole control plane under a seed.
//!
//! A [`script`] says what a user wants; [`user`] acts it out through the API while [`trouble`] crashes machines, cuts
//! them off and sets their clocks, and while the network delays and breaks as it likes. The [`witness`] writes every
//! version of every object down. Then everything turns calm, and:
//!
//! - [`laws`]: no revision of the history breaks what must always hold;
//! - [`rest`]: the cluster comes to rest, with exactly what the user asked for, down to containers and packets;
//! - a run of the same script without any trouble ends in the same picture;
//! - the same seed is the same run, to the last chunk on the wire.

pub mod cluster;
pub mod laws;
pub mod rest;
pub mod script;
pub mod trouble;
pub mod user;
pub mod witness;

use std::time::Duration;

use skiff_apiserver::Retention;
use skiff_client::Client;
use skiff_world::sim::{Faults, Run, Sim, Simulation};
use skiff_world::{Identity, World};

use cluster::Cluster;
use rest::{Listing, Picture};
use script::{Script, Wanted};
use witness::History;

/// How much happens in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Nodes of the cluster.
    pub nodes: usize,
    /// Acts of the user.
    pub acts: usize,
    /// Troubles; with none, the network is faultless too.
    pub troubles: usize,
}

impl Default for Size {
    fn default() -> Size {
        Size { nodes: 3, acts: 14, troubles: 8 }
    }
}

/// How long the cluster may take to come to rest after the last trouble. Pods wait for crash-loop backoffs, and
/// controllers for silent nodes.
const REST_WITHIN: Duration = Duration::from_secs(1200);

/// How long it then has to stay at rest.
const REST_FOR: Duration = Duration::from_secs(60);

/// What came out of a run.
#[derive(Debug)]
pub struct Outcome {
    /// The cluster at rest, or what was wrong with it.
    pub picture: Result<Picture, Vec<String>>,
    /// Laws that were broken on the way.
    pub breaches: Vec<String>,
    /// How many versions of objects were written down.
    pub versions: usize,
}

impl Outcome {
    /// Everything that is wrong; nothing, in a good run.
    pub fn complaints(&self) -> Vec<String> {
        let unrest = self.picture.as_ref().err().cloned().unwrap_or_default();
        self.breaches.iter().cloned().chain(unrest).collect()
    }
}

/// Runs one seed.
pub fn run(seed: u64, size: Size) -> Run<Outcome> {
    let faults = if size.troubles == 0 { Faults::none() } else { Faults::default() };
    Simulation::new(seed)
        .faults(faults)
        .time_limit(Duration::from_secs(4 * 3600))
        .run(move |sim| async move { scenario(&sim, size).await })
}

/// Everything that a seed has to complain of; a panic is a complaint like any other.
pub fn complaints(seed: u64, size: Size) -> Vec<String> {
    match std::panic::catch_unwind(|| run(seed, size).value.complaints()) {
        Ok(complaints) => complaints,
        Err(panic) => vec![panic_text(panic.as_ref())],
    }
}

/// What a panic said.
pub fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic").to_owned()
}

/// The picture in which a seed must end, whatever goes wrong: that of a run in which nothing does.
pub fn ideal(seed: u64, size: Size) -> Result<Picture, Vec<String>> {
    run(seed, Size { troubles: 0, ..size }).value.picture
}

async fn scenario(sim: &Sim, size: Size) -> Outcome {
    let cluster = Cluster::with_retention(sim, size.nodes, retention(sim.seed()));
    for part in cluster.parts() {
        cluster.start(part);
    }
    let admin = || Identity::new("kubernetes-admin", &["system:masters"]);
    let (witness_world, witness_client) = cluster.client("witness", admin());
    let history = witness::start(&witness_world, &witness_client, sim);

    let script = Script::from_seed(sim.seed(), size.acts);
    let (user_world, user_client) = cluster.client("user", admin());
    let (receipts, ()) = tokio::join!(
        user::perform(&user_world, &user_client, &script, sim),
        trouble::make(&cluster, sim, size.troubles)
    );
    sim.calm();
    let picture = rest(&user_world, &user_client, &cluster, &script.wanted(), &history, sim).await;
    let records = history.records();
    let mut breaches = history.complaints();
    breaches.extend(laws::breaches(&records, &receipts, &history.gaps()));
    for line in picture.iter().flatten() {
        sim.trace(line);
    }
    Outcome { picture, breaches, versions: records.len() }
}

/// How much history the store keeps: in every third run so little that whoever is away for a moment has to list again.
fn retention(seed: u64) -> Retention {
    let usual = Retention::default();
    if seed.is_multiple_of(3) {
        Retention { revisions: 24, always: 8, age: Duration::from_secs(10), ..usual }
    } else {
        usual
    }
}

/// Waits until everything is as it should be, and then whether it stays so without anybody writing anything.
async fn rest(
    world: &World,
    client: &Client,
    cluster: &Cluster,
    wanted: &Wanted,
    history: &History,
    sim: &Sim,
) -> Result<Picture, Vec<String>> {
    let look = async || match Listing::take(client).await {
        Ok(listing) => listing.picture(wanted, cluster.nodes()),
        Err(error) => Err(vec![error]),
    };
    let began = world.now();
    while let Err(wrong) = look().await {
        if world.now() - began > REST_WITHIN {
            return Err(wrong);
        }
        world.sleep(Duration::from_secs(1)).await;
    }
    sim.trace("at rest");
    // What is still on its way to the witness, and events that are about to be aggregated.
    world.sleep(Duration::from_secs(5)).await;
    let before = history.len();
    world.sleep(REST_FOR).await;
    let picture = look().await?;
    let restless: Vec<String> = (history.records().iter().skip(before))
        .filter(|record| record.object.kind() != "Node")
        .map(|record| format!("not at rest: {:?} changed at revision {}", record.key(), record.revision))
        .collect();
    if restless.is_empty() { Ok(picture) } else { Err(restless) }
}
