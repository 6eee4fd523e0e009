//! What goes wrong in a run, beside the network's own faults: crashes, partitions, hung engines, wrong clocks.

use std::time::Duration;

use jiff::SignedDuration;
use skiff_kubelet::runtime::fake::Health;
use skiff_world::World;
use skiff_world::sim::Sim;

use super::cluster::{Cluster, Part, SERVER};

/// Makes so many troubles, one after the other and partly at the same time; returns when the last is over and every
/// component is up again.
pub async fn make(cluster: &Cluster, sim: &Sim, count: usize) {
    // Nobody's machine: what makes trouble is never in trouble itself.
    let world = sim.machine("fate").world("fate", None);
    let mut under_way = Vec::new();
    for _ in 0..count {
        world.sleep(Duration::from_millis(300 + sim.random_below(12_000))).await;
        let trouble = Trouble::draw(sim, cluster);
        let (cluster, sim, inside) = (cluster.clone(), sim.clone(), world.clone());
        under_way.push(world.spawn("trouble", async move { trouble.happen(&cluster, &sim, &inside).await }));
    }
    for trouble in under_way {
        trouble.join().await;
    }
}

/// One trouble.
enum Trouble {
    /// A component loses its power, or is killed, and comes back after a while.
    Crash { part: Part, power: bool, back_after: Duration },
    /// A machine is cut off.
    Unplug { part: Part, lasts: Duration },
    /// Nothing passes between a part and the API server; everybody else goes on.
    Partition { part: Part, lasts: Duration },
    /// Its connections break, once.
    Cut { part: Part },
    /// A container ends by itself.
    End { node: usize },
    /// A node's engine does not answer.
    Engine { node: usize, health: Health, lasts: Duration },
    /// A whole node loses its power: its agent and every container.
    Power { node: usize, back_after: Duration },
    /// A node's agent is killed and its containers are removed before it comes back, as `skiff down` and `skiff up` do.
    Wipe { node: usize, back_after: Duration },
    /// Everything loses its power and comes back, containers as they ran.
    Blackout { back_after: Duration },
    /// The API server's disk is full.
    Full { lasts: Duration },
    /// A clock is set.
    Clock { part: Part, by: SignedDuration },
}

impl Trouble {
    fn draw(sim: &Sim, cluster: &Cluster) -> Trouble {
        let seconds = |most: u64| Duration::from_millis(sim.random_below(most * 1000));
        let node = sim.random_below(cluster.nodes().len() as u64) as usize;
        let part = match sim.random_below(5) {
            0 => Part::Server,
            1 => Part::Controllers,
            2 => Part::Scheduler,
            _ => Part::Node(node),
        };
        match sim.random_below(16) {
            0..=3 => Trouble::Crash { part, power: sim.random_below(2) == 0, back_after: seconds(6) },
            4 | 5 => Trouble::Unplug { part, lasts: seconds(if sim.random_below(3) == 0 { 150 } else { 15 }) },
            6 => Trouble::Cut { part },
            7 | 8 => Trouble::End { node },
            9 => {
                let health = if sim.random_below(2) == 0 { Health::Hung } else { Health::Down };
                Trouble::Engine { node, health, lasts: seconds(60) }
            }
            10 => Trouble::Power { node, back_after: seconds(30) },
            11 => Trouble::Wipe { node, back_after: seconds(4) },
            12 => Trouble::Blackout { back_after: seconds(8) },
            13 => Trouble::Full { lasts: seconds(20) },
            14 => Trouble::Partition { part, lasts: seconds(60) },
            _ => {
                let by = SignedDuration::from_secs(sim.random_below(120) as i64 - 60);
                Trouble::Clock { part, by }
            }
        }
    }

    async fn happen(self, cluster: &Cluster, sim: &Sim, world: &World) {
        match self {
            Trouble::Crash { part, power, back_after } => {
                cluster.stop(part, power).await;
                world.sleep(back_after).await;
                cluster.start(part);
            }
            Trouble::Unplug { part, lasts } => {
                sim.link_down(&cluster.machine_of(part));
                world.sleep(lasts).await;
                sim.link_up(&cluster.machine_of(part));
            }
            Trouble::Partition { part: Part::Server, .. } => {}
            Trouble::Partition { part, lasts } => {
                sim.partition(SERVER, &cluster.machine_of(part));
                world.sleep(lasts).await;
                sim.heal(SERVER, &cluster.machine_of(part));
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
            Trouble::Cut { part } => sim.cut(SERVER, &cluster.machine_of(part)),
            Trouble::End { node } => cluster.end_a_container(node, sim.random_below(1 << 32)),
            Trouble::Engine { node, health, lasts } => {
                let node = &cluster.nodes()[node];
                sim.trace(format_args!("engine of {} is {health:?}", node.name));
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
