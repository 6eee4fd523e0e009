//! The simulated world: machines, a network, disks and clocks that misbehave as a seed says.
//!
//! ```no_run
//! use skiff_world::sim::{Sim, Simulation};
//!
//! let run = Simulation::new(7).run(|sim: Sim| async move {
//!     let world = sim.machine("one").world("greeter", None);
//!     sim.trace(world.uuid());
//! });
//! assert_eq!(run.trace.len(), 1);
//! ```
//!
//! Everything runs in one thread on tokio's `current_thread` runtime with paused time, which leaps
//! to the next timer when nobody has anything to do. What is left to chance is drawn from the seed:
//! how long each chunk of bytes is under way, which connections break, who goes first among the
//! tasks that are ready, what of the unsynced writes survives a crash. So the same seed is the same
//! run, to the last chunk: [`Run::digest`] covers every one of them.
//!
//! What could break that, and is kept out by lints and tests: hash maps with a random order that
//! are iterated, threads, ambient clocks, and `select!` without `biased`.

mod disk;
mod faults;
mod machine;
mod network;
mod trace;

pub use faults::Faults;
pub use machine::Machine;

pub(crate) use disk::{SimDisk, SimFile};

use std::collections::BTreeMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;

use crate::host::{Random, locked};
use crate::watch;
use machine::SimMachine;
use network::Network;
use trace::Trace;

/// So many polls without the clock moving on mean that somebody spins.
const POLLS_AT_ONE_INSTANT: u64 = 1_000_000;

/// How many of the last trace lines a failed run prints.
const TAIL: usize = 60;

/// A simulation to be run.
pub struct Simulation {
    seed: u64,
    faults: Faults,
    time_limit: Duration,
}

/// What came out of a run.
#[derive(Debug)]
pub struct Run<T> {
    /// What the scenario returned.
    pub value: T,
    /// What was traced, each line with its time.
    pub trace: Vec<String>,
    /// A hash of the trace and of every chunk that went over the network, with its time.
    pub digest: u64,
    /// How much time passed inside.
    pub elapsed: Duration,
}

impl Simulation {
    /// A simulation of this seed with the usual faults.
    pub fn new(seed: u64) -> Simulation {
        Simulation { seed, faults: Faults::default(), time_limit: Duration::from_secs(24 * 3600) }
    }

    /// Other faults than the usual ones.
    pub fn faults(mut self, faults: Faults) -> Simulation {
        self.faults = faults;
        self
    }

    /// How much simulated time the scenario may take before the run counts as failed: a day unless
    /// said otherwise.
    pub fn time_limit(mut self, limit: Duration) -> Simulation {
        self.time_limit = limit;
        self
    }

    /// Runs a scenario. It panics when the scenario does, when any task panics, and when the time
    /// limit is reached; the seed and the end of the trace are then printed.
    pub fn run<S, F>(self, scenario: S) -> Run<F::Output>
    where
        S: FnOnce(Sim) -> F,
        F: Future,
    {
        let seed = self.seed;
        let Run { value, trace, digest, elapsed } = self.attempt(scenario);
        match value {
            Ok(value) => Run { value, trace, digest, elapsed },
            Err(panic) => {
                eprintln!("seed {seed} failed; the end of its trace:");
                for line in &trace[trace.len().saturating_sub(TAIL)..] {
                    eprintln!("  {line}");
                }
                std::panic::resume_unwind(panic)
            }
        }
    }

    /// The same, with a panic as its value: what happened until then can be read.
    pub fn attempt<S, F>(self, scenario: S) -> Run<std::thread::Result<F::Output>>
    where
        S: FnOnce(Sim) -> F,
        F: Future,
    {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime without I/O asks nothing of the system");
        let sim = {
            let _inside = runtime.enter();
            Sim::new(self.seed, self.faults)
        };
        let limit = self.time_limit;
        let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| {
            runtime.block_on(async {
                let value = supervised(&sim, limit, scenario(sim.clone())).await;
                for machine in sim.machines() {
                    machine.shut_down().await;
                }
                value
            })
        }));
        let elapsed = runtime.block_on(async { sim.elapsed() });
        let trace = std::mem::take(&mut *locked(&sim.shared.trace));
        // The machines and the simulation know each other; without this they would live for ever.
        locked(&sim.shared.machines).clear();
        let (trace, digest) = trace.finish();
        Run { value: outcome, trace, digest, elapsed }
    }
}

async fn supervised<F: Future>(sim: &Sim, limit: Duration, scenario: F) -> F::Output {
    let mut failure = sim.shared.failure.subscribe();
    let failed = async {
        match failure.wait_for(Option::is_some).await {
            Ok(failure) => failure.clone().unwrap_or_default(),
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        failure = failed => panic!("{failure}"),
        value = scenario => value,
        () = tokio::time::sleep(limit) => panic!("not finished after {limit:?} of simulated time"),
    }
}

/// The handle of a running simulation. Cheap to clone.
#[derive(Clone)]
pub struct Sim {
    shared: Arc<Shared>,
}

struct Shared {
    seed: u64,
    start: Instant,
    trace: Mutex<Trace>,
    network: Arc<Network>,
    machines: Mutex<BTreeMap<String, Arc<SimMachine>>>,
    /// The scenario's own draws, apart from everybody else's.
    random: Random,
    /// Who goes first.
    order: Random,
    faults: Arc<Mutex<Faults>>,
    polls: Mutex<(Option<Instant>, u64)>,
    failure: watch::Sender<Option<String>>,
}

impl Sim {
    fn new(seed: u64, faults: Faults) -> Sim {
        let faults = Arc::new(Mutex::new(faults));
        Sim {
            shared: Arc::new(Shared {
                seed,
                start: Instant::now(),
                trace: Mutex::default(),
                network: Network::new(seed, faults.clone()),
                machines: Mutex::default(),
                random: Random::seeded(seed, "scenario"),
                order: Random::seeded(seed, "order"),
                faults,
                polls: Mutex::default(),
                failure: watch::Sender::new(None),
            }),
        }
    }

    /// The seed of this run.
    pub fn seed(&self) -> u64 {
        self.shared.seed
    }

    /// How much time has passed since the start.
    pub fn elapsed(&self) -> Duration {
        Instant::now() - self.shared.start
    }

    /// The machine of this name, which is there from the first mention.
    pub fn machine(&self, name: &str) -> Machine {
        let mut machines = locked(&self.shared.machines);
        let inner = machines.entry(name.to_owned()).or_insert_with(|| SimMachine::new(name, self.clone())).clone();
        Machine::of(inner)
    }

    /// All machines mentioned so far, by name.
    pub fn machines(&self) -> Vec<Machine> {
        locked(&self.shared.machines).values().cloned().map(Machine::of).collect()
    }

    /// Adds a line to the trace.
    pub fn trace(&self, line: impl std::fmt::Display) {
        locked(&self.shared.trace).line(self.elapsed(), &line.to_string());
    }

    /// A hash of everything so far.
    pub fn digest(&self) -> u64 {
        locked(&self.shared.trace).digest()
    }

    /// A random number below `n` for the scenario's own decisions; 0 when `n` is 0.
    pub fn random_below(&self, n: u64) -> u64 {
        self.shared.random.below(n)
    }

    /// Cuts all traffic between two machines. Connections stay open and are silent, as with TCP.
    pub fn partition(&self, a: &str, b: &str) {
        self.trace(format_args!("partition {a} | {b}"));
        self.shared.network.sever(a, b);
    }

    /// Ends a partition; what was under way arrives.
    pub fn heal(&self, a: &str, b: &str) {
        self.trace(format_args!("heal {a} | {b}"));
        self.shared.network.mend(a, b);
    }

    /// Takes a machine's link down: nobody reaches it and it reaches nobody but itself.
    pub fn link_down(&self, machine: &str) {
        self.trace(format_args!("link down {machine}"));
        self.shared.network.take_down(machine);
    }

    /// Takes a machine's link up again.
    pub fn link_up(&self, machine: &str) {
        self.trace(format_args!("link up {machine}"));
        self.shared.network.take_up(machine);
    }

    /// Breaks the open connections between two machines, once.
    pub fn cut(&self, a: &str, b: &str) {
        self.trace(format_args!("cut {a} | {b}"));
        self.shared.network.cut(a, b);
    }

    /// Ends all faults of the network, partitions too, and deals no more: from here on everything
    /// has to come right. Delays and the order of tasks stay random; clocks stay as they are.
    pub fn calm(&self) {
        self.trace("calm");
        locked(&self.shared.faults).calm();
        self.shared.network.mend_all();
        for machine in self.machines() {
            machine.fill_disk(false);
        }
    }

    /// Deals other faults from now on.
    pub fn set_faults(&self, faults: Faults) {
        *locked(&self.shared.faults) = faults;
    }

    /// Whether a task that is about to be polled lets the others go first; on the way, whether
    /// somebody spins without time moving on.
    fn yields(&self) -> bool {
        let now = Instant::now();
        let count = {
            let mut polls = locked(&self.shared.polls);
            if polls.0 != Some(now) {
                *polls = (Some(now), 0);
            }
            polls.1 += 1;
            polls.1
        };
        if count == POLLS_AT_ONE_INSTANT {
            self.fail(format!("somebody spins: {count} polls without time moving on"));
        }
        let share = locked(&self.shared.faults).yields;
        share > 0 && self.shared.order.below(1_000_000) < share
    }

    fn fail(&self, text: String) {
        self.trace(&text);
        self.shared.failure.send_if_modified(|failure| {
            let first = failure.is_none();
            failure.get_or_insert(text);
            first
        });
    }

    /// Notes something in the digest alone.
    fn note(&self, parts: &[u64]) {
        let at = self.elapsed();
        locked(&self.shared.trace).note(at, parts);
    }
}

#[cfg(test)]
mod tests;
