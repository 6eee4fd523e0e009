//! What goes wrong in a run, beside the network's own faults: crashes, partitions, hung engines, wrong clocks, a store
//! that is slow or has lost its leader. All of it follows from the seed before the run begins, so that a run can be
//! repeated with some of it left out.

use std::fmt;
use std::time::Duration;

use jiff::SignedDuration;
use skiff_kubelet::runtime::fake::Health;
use skiff_world::World;
use skiff_world::sim::Sim;

use super::cluster::{Cluster, Part};
use super::draws::Draws;
use super::mix::{Kind, Mix};

/// How long somebody lies in wait for a write.
const PATIENCE: Duration = Duration::from_secs(60);

/// A trouble, and when it strikes.
#[derive(Clone, Debug, PartialEq)]
pub struct Planned {
    /// From the beginning of the run.
    pub at: Duration,
    /// What.
    pub trouble: Trouble,
}

/// Makes these troubles, each at its time and partly at the same time; returns when the last is over and every component
/// is up again.
pub async fn make(cluster: &Cluster, sim: &Sim, troubles: &[Planned]) {
    // Nobody's machine: what makes trouble is never in trouble itself.
    let world = sim.machine("fate").world("fate", None);
    let began = world.now();
    let mut under_way = Vec::new();
    for Planned { at, trouble } in troubles.iter().cloned() {
        world.sleep((began + at).saturating_duration_since(world.now())).await;
        sim.trace(format_args!("trouble: {trouble}"));
        let (cluster, sim, inside) = (cluster.clone(), sim.clone(), world.clone());
        under_way.push(world.spawn("trouble", async move { trouble.happen(&cluster, &sim, &inside).await }));
    }
    for trouble in under_way {
        trouble.join().await;
    }
}

/// One trouble.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Trouble {
    /// A component loses its power, or is killed, and comes back after a while.
    Crash { part: Part, power: bool, back_after: Duration },
    /// The same at the very moment at which a write has happened, and before anybody is told: the one after so many.
    CrashAtWrite { part: Part, server: usize, after: u64, back_after: Duration },
    /// A machine is cut off.
    Unplug { part: Part, lasts: Duration },
    /// Nothing passes between a part and an API server; everybody else goes on.
    Partition { part: Part, server: usize, lasts: Duration },
    /// Its connections break, once.
    Cut { part: Part },
    /// A container ends by itself.
    End { node: usize, which: u64 },
    /// A node's engine does not answer.
    Engine { node: usize, health: Health, lasts: Duration },
    /// A whole node loses its power: its agent and every container.
    Power { node: usize, back_after: Duration },
    /// A node's agent is killed and its containers are removed before it comes back, as `skiff down` and `skiff up` do.
    Wipe { node: usize, back_after: Duration },
    /// Everything loses its power and comes back, containers as they ran.
    Blackout { back_after: Duration },
    /// The store's disk is full.
    Full { lasts: Duration },
    /// The store answers late.
    Slow { server: usize, longest: Duration, lasts: Duration },
    /// A server hears late of what is in the store, and shows what was.
    Late { server: usize, longest: Duration, lasts: Duration },
    /// The store has no leader: watches end, reads fail, and of what is written nobody knows whether it was done.
    Leaderless { server: usize, lasts: Duration },
    /// A clock is set.
    Clock { part: Part, by: SignedDuration },
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = |time: &Duration| format!("{:.1} s", time.as_secs_f64());
        match self {
            Trouble::Crash { part, power, back_after } => {
                let how = if *power { "loses its power" } else { "is killed" };
                write!(f, "{part} {how}, back after {}", s(back_after))
            }
            Trouble::CrashAtWrite { part, after, back_after, .. } => {
                write!(f, "{part} is killed at a write, {after} writes from now, back after {}", s(back_after))
            }
            Trouble::Unplug { part, lasts } => write!(f, "{part} is cut off for {}", s(lasts)),
            Trouble::Partition { part, server, lasts } => {
                write!(f, "nothing passes between {part} and {} for {}", server_name(*server), s(lasts))
            }
            Trouble::Cut { part } => write!(f, "the connections of {part} break"),
            Trouble::End { node, .. } => write!(f, "a container on {} ends", Part::Node(*node)),
            Trouble::Engine { node, health, lasts } => {
                write!(f, "the engine of {} is {health:?} for {}", Part::Node(*node), s(lasts))
            }
            Trouble::Power { node, back_after } => {
                write!(f, "{} and its containers lose power, back after {}", Part::Node(*node), s(back_after))
            }
            Trouble::Wipe { node, back_after } => {
                write!(f, "{} loses its containers, back after {}", Part::Node(*node), s(back_after))
            }
            Trouble::Blackout { back_after } => write!(f, "everything loses power, back after {}", s(back_after)),
            Trouble::Full { lasts } => write!(f, "the store's disk is full for {}", s(lasts)),
            Trouble::Slow { server, longest, lasts } => {
                write!(f, "the store takes up to {} for {}, {}", s(longest), server_name(*server), s(lasts))
            }
            Trouble::Late { server, longest, lasts } => {
                write!(f, "{} hears up to {} late of the store, for {}", server_name(*server), s(longest), s(lasts))
            }
            Trouble::Leaderless { server, lasts } => {
                write!(f, "{} finds the store without a leader for {}", server_name(*server), s(lasts))
            }
            Trouble::Clock { part, by } => write!(f, "the clock of {part} is set by {} s", by.as_secs()),
        }
    }
}

fn server_name(server: usize) -> Part {
    if server == 0 { Part::Server } else { Part::Standby }
}

/// The kinds of trouble, each as often as it comes when all of them are on.
const CHANCES: [Kind; 24] = [
    Kind::Crash,
    Kind::Crash,
    Kind::Crash,
    Kind::Crash,
    Kind::Unplug,
    Kind::Unplug,
    Kind::Cut,
    Kind::End,
    Kind::End,
    Kind::Engine,
    Kind::Power,
    Kind::Wipe,
    Kind::Blackout,
    Kind::Full,
    Kind::Partition,
    Kind::Clock,
    Kind::CrashAtWrite,
    Kind::CrashAtWrite,
    Kind::CrashAtWrite,
    Kind::Slow,
    Kind::Late,
    Kind::Late,
    Kind::Leaderless,
    Kind::Leaderless,
];

/// The troubles of a seed, of the kinds that its mix has.
pub fn of_seed(seed: u64, mix: &Mix, two_servers: bool) -> Vec<Planned> {
    let mut draws = Draws::new(seed, 0x7472_6f75);
    let mut at = Duration::ZERO;
    let kinds: Vec<Kind> = CHANCES.into_iter().filter(|kind| mix.troubles.contains(kind)).collect();
    let mut planned = Vec::new();
    while planned.len() < mix.size.troubles && !kinds.is_empty() {
        at += Duration::from_millis(300 + draws.below(mix.apart));
        planned.push(Planned { at, trouble: draw(&mut draws, &kinds, mix.size.nodes as u64, two_servers) });
    }
    planned
}

fn draw(draws: &mut Draws, kinds: &[Kind], nodes: u64, two_servers: bool) -> Trouble {
    fn seconds(draws: &mut Draws, most: u64) -> Duration {
        Duration::from_millis(draws.below(most * 1000))
    }
    let node = draws.below(nodes) as usize;
    let server = if two_servers { draws.below(2) as usize } else { 0 };
    let part = match draws.below(if two_servers { 7 } else { 5 }) {
        0 => Part::Server,
        1 => Part::Controllers,
        2 => Part::Scheduler,
        5 => Part::Standby,
        6 => Part::Store,
        _ => Part::Node(node),
    };
    match kinds[draws.below(kinds.len() as u64) as usize] {
        Kind::Crash => Trouble::Crash { part, power: draws.below(2) == 0, back_after: seconds(draws, 6) },
        Kind::Unplug => {
            let most = if draws.below(3) == 0 { 150 } else { 15 };
            Trouble::Unplug { part, lasts: seconds(draws, most) }
        }
        Kind::Cut => Trouble::Cut { part },
        Kind::End => Trouble::End { node, which: draws.below(1 << 32) },
        Kind::Engine => {
            let health = if draws.below(2) == 0 { Health::Hung } else { Health::Down };
            Trouble::Engine { node, health, lasts: seconds(draws, 60) }
        }
        Kind::Power => Trouble::Power { node, back_after: seconds(draws, 30) },
        Kind::Wipe => Trouble::Wipe { node, back_after: seconds(draws, 4) },
        Kind::Blackout => Trouble::Blackout { back_after: seconds(draws, 8) },
        Kind::Full => Trouble::Full { lasts: seconds(draws, 20) },
        Kind::Partition => Trouble::Partition { part, server, lasts: seconds(draws, 60) },
        Kind::Clock => {
            let by = SignedDuration::from_secs(draws.below(120) as i64 - 60);
            Trouble::Clock { part, by }
        }
        Kind::CrashAtWrite => {
            Trouble::CrashAtWrite { part, server, after: draws.below(30), back_after: seconds(draws, 4) }
        }
        Kind::Slow => Trouble::Slow { server, longest: seconds(draws, 2), lasts: seconds(draws, 30) },
        Kind::Late => Trouble::Late { server, longest: seconds(draws, 2), lasts: seconds(draws, 30) },
        Kind::Leaderless => Trouble::Leaderless { server, lasts: seconds(draws, 8) },
    }
}

impl Trouble {
    async fn happen(self, cluster: &Cluster, sim: &Sim, world: &World) {
        match self {
            Trouble::Crash { part, power, back_after } => {
                cluster.stop(part, power).await;
                world.sleep(back_after).await;
                cluster.start(part);
            }
            Trouble::CrashAtWrite { part, server, after, back_after } => {
                let ambush = cluster.weathers()[server].ambush(after);
                // If hardly anybody writes, it strikes all the same.
                let _ = tokio::time::timeout(PATIENCE, ambush.struck()).await;
                cluster.stop(part, false).await;
                ambush.end();
                world.sleep(back_after).await;
                cluster.start(part);
            }
            Trouble::Unplug { part, lasts } => {
                sim.link_down(&cluster.machine_of(part));
                world.sleep(lasts).await;
                sim.link_up(&cluster.machine_of(part));
            }
            Trouble::Partition { part, server, lasts } => {
                let (server, machine) = (cluster.servers()[server], cluster.machine_of(part));
                if machine != server {
                    sim.partition(server, &machine);
                    world.sleep(lasts).await;
                    sim.heal(server, &machine);
                }
            }
            Trouble::Blackout { back_after } => {
                for part in cluster.parts() {
                    cluster.stop(part, true).await;
                }
                world.sleep(back_after).await;
                for part in cluster.parts() {
                    cluster.start(part);
                }
            }
            Trouble::Full { lasts } => {
                cluster.fill_disk(true);
                world.sleep(lasts).await;
                cluster.fill_disk(false);
            }
            Trouble::Slow { server, longest, lasts } => {
                cluster.weathers()[server].slow(longest);
                world.sleep(lasts).await;
                cluster.weathers()[server].slow(Duration::ZERO);
            }
            Trouble::Late { server, longest, lasts } => {
                cluster.weathers()[server].late(longest);
                world.sleep(lasts).await;
                cluster.weathers()[server].late(Duration::ZERO);
            }
            Trouble::Leaderless { server, lasts } => {
                cluster.weathers()[server].lose_leader();
                world.sleep(lasts).await;
                cluster.weathers()[server].find_leader();
            }
            Trouble::Cut { part } => {
                for server in cluster.servers() {
                    sim.cut(server, &cluster.machine_of(part));
                }
            }
            Trouble::End { node, which } => cluster.end_a_container(node, which),
            Trouble::Engine { node, health, lasts } => {
                let node = &cluster.nodes()[node];
                node.engine.set_health(health);
                world.sleep(lasts).await;
                sim.trace(format_args!("engine of {} is well", node.name));
                node.engine.set_health(Health::Well);
            }
            Trouble::Power { node, back_after } => {
                cluster.stop(Part::Node(node), true).await;
                cluster.end_all_containers(node);
                world.sleep(back_after).await;
                cluster.start(Part::Node(node));
            }
            Trouble::Wipe { node, back_after } => {
                cluster.stop(Part::Node(node), false).await;
                cluster.remove_all_containers(node);
                world.sleep(back_after).await;
                cluster.start(Part::Node(node));
            }
            Trouble::Clock { part, by } => sim.machine(&cluster.machine_of(part)).step_clock(by),
        }
    }
}
