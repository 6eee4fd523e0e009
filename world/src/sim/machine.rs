//! A simulated machine: its Worlds, its disk, its clock, and its crashes.

use std::io;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};

use super::network::Party;
use super::{Sim, SimDisk};
use crate::connection::Accepting;
use crate::host::{Host, Random, generator, locked};
use crate::scope::Scope;
use crate::{Address, Connection, Disk, Identity, World};

/// When every simulation starts: 2026-01-01T00:00:00Z.
const EPOCH: i64 = 1_767_225_600;

/// A machine in a simulation. Cheap to clone.
#[derive(Clone)]
pub struct Machine {
    inner: Arc<SimMachine>,
}

pub(super) struct SimMachine {
    name: String,
    sim: Sim,
    disk: Arc<SimDisk>,
    life: Mutex<Life>,
}

struct Life {
    /// The scope of everything that runs on the machine; a crash ends it.
    root: Option<Arc<Scope>>,
    /// Grows with each crash.
    number: u64,
    /// How many Worlds this life has seen, so that each draws numbers of its own.
    worlds: u64,
    clock_is_off_by: SignedDuration,
}

impl SimMachine {
    pub(super) fn new(name: &str, sim: Sim) -> Arc<SimMachine> {
        let life = Life { root: None, number: 0, worlds: 0, clock_is_off_by: SignedDuration::ZERO };
        Arc::new(SimMachine { name: name.to_owned(), sim, disk: SimDisk::new(), life: Mutex::new(life) })
    }

    fn party<'a>(&'a self, world: &'a World) -> Party<'a> {
        Party { machine: &self.name, component: world.component(), identity: world.identity() }
    }
}

impl Machine {
    pub(super) fn of(inner: Arc<SimMachine>) -> Machine {
        Machine { inner }
    }

    /// The machine's name.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Starts a component on the machine: a World for it to run in. After a crash, this is how it
    /// is started again.
    pub fn world(&self, component: &str, identity: Option<Identity>) -> World {
        let root = {
            let mut life = locked(&self.inner.life);
            let host: Arc<dyn Host> = self.inner.clone();
            life.root.get_or_insert_with(|| Scope::new(&self.inner.name, host, None)).clone()
        };
        World::on(self.inner.clone(), Some(&root), component, identity)
    }

    /// The machine's disk, which outlives it.
    pub fn disk(&self) -> Disk {
        Disk::simulated(self.inner.disk.clone())
    }

    /// The power fails: everything on the machine stops where it is, connections break, and what
    /// was written to disk but not synced is lost or torn as the seed says. The machine is up again
    /// at once; components are started again with [`Machine::world`]. Where nobody shall notice the
    /// crash, take the link down first.
    pub async fn crash(&self) {
        self.inner.sim.trace(format_args!("crash {}", self.name()));
        let number = locked(&self.inner.life).number;
        let mut random = generator(self.inner.sim.seed(), &format!("{} crash {number}", self.name()));
        // The disk first: nothing that a task does while it is dropped may reach it.
        self.inner.disk.crash(&mut random);
        self.end().await;
    }

    /// Everything on the machine is killed (`kill -9`), but the system goes on: what was written to
    /// disk stays, synced or not.
    pub async fn kill(&self) {
        self.inner.sim.trace(format_args!("kill {}", self.name()));
        self.inner.disk.close_all();
        self.end().await;
    }

    async fn end(&self) {
        self.inner.sim.shared.network.silence(self.name());
        let root = {
            let mut life = locked(&self.inner.life);
            life.number += 1;
            life.worlds = 0;
            life.root.take()
        };
        if let Some(root) = root {
            root.stop().await;
        }
    }

    /// The end of the simulation: nothing is traced any more.
    pub(super) async fn shut_down(&self) {
        self.end().await;
    }

    /// Sets the wall clock forward, or back. The monotonic clock does not notice.
    pub fn step_clock(&self, by: SignedDuration) {
        self.inner.sim.trace(format_args!("clock of {} steps by {by:#}", self.name()));
        locked(&self.inner.life).clock_is_off_by += by;
    }

    /// Fills the disk, so that every write fails, or makes room again.
    pub fn fill_disk(&self, full: bool) {
        self.inner.disk.set_full(full);
    }
}

#[async_trait]
impl Host for SimMachine {
    fn wall(&self) -> Timestamp {
        let start = Timestamp::from_second(EPOCH).unwrap_or(Timestamp::UNIX_EPOCH);
        let elapsed = SignedDuration::try_from(self.sim.elapsed()).unwrap_or(SignedDuration::MAX);
        let off = locked(&self.life).clock_is_off_by;
        start.saturating_add(elapsed).and_then(|time| time.saturating_add(off)).unwrap_or(start)
    }

    fn random(&self, component: &str) -> Random {
        let (number, world) = {
            let mut life = locked(&self.life);
            life.worlds += 1;
            (life.number, life.worlds)
        };
        Random::seeded(self.sim.seed(), &format!("{}/{component} {number}.{world}", self.name))
    }

    fn blocks_inline(&self) -> bool {
        true
    }

    async fn connect(&self, from: &World, to: &Address) -> io::Result<Connection> {
        self.sim.shared.network.connect(&self.sim, &self.party(from), to).await
    }

    async fn listen(&self, world: &World, on: &Address) -> io::Result<Box<dyn Accepting>> {
        self.sim.shared.network.listen(&self.party(world), on)
    }

    fn disk(&self) -> Disk {
        Disk::simulated(self.disk.clone())
    }

    fn yields(&self) -> bool {
        self.sim.yields()
    }

    fn panicked(&self, component: &str, task: &str, message: &str) {
        self.sim.fail(format!("{}/{component}: task {task} panicked: {message}", self.name));
    }
}
