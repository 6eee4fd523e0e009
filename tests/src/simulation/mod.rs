//! The whole control plane under a seed.
//!
//! A [`script`] says what a user wants; [`user`] acts it out through the API while [`trouble`] crashes machines, cuts
//! them off and sets their clocks, and while the network delays and breaks as it likes. The [`witness`] writes every
//! version of every object down. Then everything turns calm, and:
//!
//! - [`laws`]: no revision of the history breaks what must always hold;
//! - [`rest`]: the cluster comes to rest, with exactly what the user asked for, down to containers and packets, and with
//!   nothing left in any queue;
//! - a run of the same script without any trouble ends in the same picture;
//! - the same seed is the same run, to the last chunk on the wire.
//!
//! [`minimise`] makes a run that fails smaller, and [`story`] tells it.

pub mod cluster;
pub mod draws;
pub mod laws;
pub mod minimise;
pub mod mix;
pub mod plan;
mod queues;
pub mod rest;
pub mod script;
pub mod story;
pub mod trouble;
pub mod user;
pub mod weather;
pub mod witness;

use std::time::Duration;

use skiff_client::Client;
use skiff_world::sim::{Faults, Run, Sim, Simulation};
use skiff_world::{Identity, World};

use cluster::Cluster;
use plan::Plan;
use rest::{Listing, Picture};
use user::Receipt;
use witness::{History, Record};

/// No part of the program panics, hangs or spins.
pub const PANICS: &str = "nobody panics or hangs";
/// Who has nothing to do writes nothing.
pub const RESTS: &str = "nobody writes at rest";

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

/// Runs a plan. A panic is a breach like any other.
pub fn run_plan(plan: &Plan) -> Run<Outcome> {
    let faults = if plan.network_fails { Faults::default() } else { Faults::none() };
    let (seed, plan) = (plan.seed, plan.clone());
    let simulation = Simulation::new(seed).faults(faults).time_limit(Duration::from_secs(4 * 3600));
    let Run { value, trace, digest, elapsed } =
        simulation.attempt(move |sim| async move { scenario(&sim, plan).await });
    let value = value.unwrap_or_else(|panic| {
        let breaches = vec![format!("{PANICS}: {}", panic_text(panic.as_ref()))];
        Outcome { picture: Ok(Picture::new()), breaches, versions: 0 }
    });
    Run { value, trace, digest, elapsed }
}

/// Everything that a plan's run has to complain of.
pub fn complaints_of(plan: &Plan) -> Vec<String> {
    run_plan(plan).value.complaints()
}

/// The law that a complaint is about.
pub fn law_of(complaint: &str) -> &str {
    complaint.split(": ").next().unwrap_or(complaint)
}

/// What a panic said.
pub fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic").to_owned()
}

/// The picture in which a plan must end, whatever goes wrong: that of a run in which nothing does.
pub fn ideal(plan: &Plan) -> Result<Picture, Vec<String>> {
    run_plan(&plan.without_troubles()).value.picture
}

async fn scenario(sim: &Sim, plan: Plan) -> Outcome {
    let cluster = Cluster::laid_out(sim, plan.nodes, plan.layout());
    for part in cluster.parts() {
        cluster.start(part);
    }
    let admin = || Identity::new("kubernetes-admin", &["system:masters"]);
    let (witness_world, witness_client) = cluster.client("witness", admin());
    let history = witness::start(&witness_world, &witness_client, sim);

    let (user_world, user_client) = cluster.client("user", admin());
    let (receipts, ()) = tokio::join!(
        user::perform(&user_world, &user_client, &plan.script, sim),
        trouble::make(&cluster, sim, &plan.troubles)
    );
    sim.calm();
    let breaches = |receipts: &[Receipt]| {
        let records = history.records();
        (records.len(), [history.complaints(), laws::breaches(&records, receipts, &history.gaps())].concat())
    };
    // What was acknowledged a moment ago may still be on its way to the witness.
    let (versions, early) = breaches(&[]);
    if !early.is_empty() {
        // Whatever becomes of it now, it has failed.
        return Outcome { picture: Ok(Picture::new()), breaches: early, versions };
    }
    let clients: Vec<Client> =
        cluster.servers().iter().map(|server| cluster.client_of_server("user", admin(), server).1).collect();
    let mut picture = rest(&user_world, &user_client, &clients, &cluster, &plan, &history, sim).await;
    let (versions, breaches) = breaches(&receipts);
    if picture.is_ok() {
        let undrained = queues::undrained(&user_world, &clients, &cluster).await;
        if !undrained.is_empty() {
            picture = Err(undrained);
        }
    }
    for line in picture.iter().flatten() {
        sim.trace(line);
    }
    Outcome { picture, breaches, versions }
}

/// Waits until everything is as it should be, and then whether it stays so without anybody writing anything.
async fn rest(
    world: &World,
    client: &Client,
    clients: &[Client],
    cluster: &Cluster,
    plan: &Plan,
    history: &History,
    sim: &Sim,
) -> Result<Picture, Vec<String>> {
    let wanted = plan.script.wanted();
    let look = async || match Listing::take(client).await {
        Ok(listing) => listing.picture(&wanted, cluster.nodes()),
        Err(error) => Err(vec![error]),
    };
    // It can look right while somebody still has something to write: what failed while the store was away is tried again.
    let settled = async || {
        look().await?;
        let left = queues::undrained(world, clients, cluster).await;
        if left.is_empty() { Ok(()) } else { Err(left) }
    };
    let (began, mut pause) = (world.now(), Duration::from_secs(1));
    while let Err(wrong) = settled().await {
        if world.now() - began > REST_WITHIN || !history.complaints().is_empty() {
            return Err(wrong);
        }
        world.sleep(pause).await;
        // Looking is work too.
        pause = (pause * 5 / 4).min(Duration::from_secs(15));
    }
    sim.trace("at rest");
    // What is still on its way to the witness, and events that are about to be aggregated.
    world.sleep(Duration::from_secs(5)).await;
    let before = history.len();
    world.sleep(plan.rest_for).await;
    let picture = look().await?;
    let records = history.records();
    let later = || records.iter().skip(before);
    // A node says now and then that it is still what it was.
    let once_more = |record: &&Record| later().filter(|other| other.key() == record.key()).count() < 2;
    let restless: Vec<String> = later()
        .filter(|record| record.object.kind() != "Node" || !once_more(record))
        .map(|record| format!("{RESTS}: {:?} changed at revision {}", record.key(), record.revision))
        .collect();
    if restless.is_empty() { Ok(picture) } else { Err(restless) }
}
