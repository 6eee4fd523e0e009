//! The network between simulated machines: pipes with delays, breaks and partitions.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use async_trait::async_trait;
use rand::Rng;
use rand_chacha::ChaCha20Rng;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{Faults, Sim};
use crate::connection::Accepting;
use crate::host::{generator, locked};
use crate::pipe::{self, Fate, Link, Wire};
use crate::watch;
use crate::{Address, Connection, Identity};

/// How long the system tries to connect to a machine that doesn't answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

pub(super) struct Network {
    state: Mutex<State>,
    faults: Arc<Mutex<Faults>>,
    /// Counts the changes of what reaches what.
    changes: watch::Sender<u64>,
}

struct State {
    random: ChaCha20Rng,
    listeners: BTreeMap<String, Listening>,
    wires: Vec<Strung>,
    /// Above this many wires, the dead ones are swept out.
    sweep_at: usize,
    next_wire: u64,
    next_listener: u64,
    /// Pairs of machines that don't reach each other, the lesser name first.
    severed: BTreeSet<(String, String)>,
    /// Machines whose link is down.
    down: BTreeSet<String>,
}

#[derive(Clone)]
struct Listening {
    number: u64,
    machine: String,
    component: String,
    identity: Option<Identity>,
    connections: mpsc::UnboundedSender<Connection>,
}

/// A wire between two machines.
struct Strung {
    wire: Weak<Wire>,
    ends: (String, String),
}

/// Who calls, or listens.
pub(super) struct Party<'a> {
    pub(super) machine: &'a str,
    pub(super) component: &'a str,
    pub(super) identity: Option<&'a Identity>,
}

fn pair(a: &str, b: &str) -> (String, String) {
    if a < b { (a.to_owned(), b.to_owned()) } else { (b.to_owned(), a.to_owned()) }
}

impl State {
    fn reaches(&self, a: &str, b: &str) -> bool {
        a == b || !(self.down.contains(a) || self.down.contains(b) || self.severed.contains(&pair(a, b)))
    }

    fn live_wires(&mut self) -> Vec<(Arc<Wire>, (String, String))> {
        self.wires.retain(|strung| strung.wire.strong_count() > 0);
        let alive = |strung: &Strung| Some((strung.wire.upgrade()?, strung.ends.clone()));
        self.wires.iter().filter_map(alive).collect()
    }
}

impl Network {
    pub(super) fn new(seed: u64, faults: Arc<Mutex<Faults>>) -> Arc<Network> {
        Arc::new(Network {
            state: Mutex::new(State {
                random: generator(seed, "network"),
                listeners: BTreeMap::new(),
                wires: Vec::new(),
                sweep_at: 0,
                next_wire: 0,
                next_listener: 0,
                severed: BTreeSet::new(),
                down: BTreeSet::new(),
            }),
            faults,
            changes: watch::Sender::new(0),
        })
    }

    pub(super) fn sever(&self, a: &str, b: &str) {
        self.change(|state| {
            state.severed.insert(pair(a, b));
        });
    }

    pub(super) fn mend(&self, a: &str, b: &str) {
        self.change(|state| {
            state.severed.remove(&pair(a, b));
        });
    }

    pub(super) fn take_down(&self, machine: &str) {
        self.change(|state| {
            state.down.insert(machine.to_owned());
        });
    }

    pub(super) fn take_up(&self, machine: &str) {
        self.change(|state| {
            state.down.remove(machine);
        });
    }

    pub(super) fn mend_all(&self) {
        self.change(|state| {
            state.severed.clear();
            state.down.clear();
        });
    }

    /// Changes what reaches what, and holds or releases the open connections accordingly.
    fn change(&self, change: impl FnOnce(&mut State)) {
        let wires: Vec<(Arc<Wire>, bool)> = {
            let mut state = locked(&self.state);
            change(&mut state);
            let wires = state.live_wires();
            wires.into_iter().map(|(wire, (a, b))| (wire, !state.reaches(&a, &b))).collect()
        };
        for (wire, held) in wires {
            wire.hold(held);
        }
        self.changes.send_modify(|count| *count += 1);
    }

    /// Breaks every open connection between two machines.
    pub(super) fn cut(&self, a: &str, b: &str) {
        let between = pair(a, b);
        let wires = locked(&self.state).live_wires();
        for (wire, (a, b)) in wires {
            if pair(&a, &b) == between {
                wire.cut();
            }
        }
    }

    /// Forgets everything that a machine listens on.
    pub(super) fn silence(&self, machine: &str) {
        locked(&self.state).listeners.retain(|_, listening| listening.machine != machine);
    }

    pub(super) fn listen(self: &Arc<Self>, party: &Party<'_>, on: &Address) -> io::Result<Box<dyn Accepting>> {
        let key = key(party.machine, on);
        let mut state = locked(&self.state);
        if state.listeners.contains_key(&key) {
            let text = format!("somebody listens on {on} already");
            return Err(io::Error::new(io::ErrorKind::AddrInUse, text));
        }
        let number = state.next_listener;
        state.next_listener += 1;
        let (connections, incoming) = mpsc::unbounded_channel();
        let listening = Listening {
            number,
            machine: party.machine.to_owned(),
            component: party.component.to_owned(),
            identity: party.identity.cloned(),
            connections,
        };
        state.listeners.insert(key.clone(), listening);
        Ok(Box::new(SimListener { network: self.clone(), key, number, incoming }))
    }

    pub(super) async fn connect(
        self: &Arc<Self>,
        sim: &Sim,
        party: &Party<'_>,
        to: &Address,
    ) -> io::Result<Connection> {
        let key = key(party.machine, to);
        let refused = || io::Error::new(io::ErrorKind::ConnectionRefused, format!("nobody listens on {to}"));
        let target = locked(&self.state).listeners.get(&key).map(|l| l.machine.clone());
        if let Some(target) = &target {
            self.reach(party.machine, target, to).await?;
        }
        let far = target.as_deref().is_none_or(|target| target != party.machine);
        if let Some(arrival) = far.then(|| self.delay()).flatten() {
            tokio::time::sleep_until(arrival).await;
        }
        if far && self.strikes(|faults| faults.refusals) {
            sim.trace(format_args!("refused {}/{} -> {to}", party.machine, party.component));
            return Err(refused());
        }
        // Looked up again: time has passed.
        let (number, listening) = {
            let mut state = locked(&self.state);
            let listening = state.listeners.get(&key).cloned().ok_or_else(refused)?;
            state.next_wire += 1;
            (state.next_wire, listening)
        };
        let far = listening.machine != party.machine;
        let cable = Cable { network: self.clone(), sim: sim.clone(), far };
        let (near_end, far_end) = pipe::pair(number, Some(Arc::new(cable)));
        let ends = (party.machine.to_owned(), listening.machine.clone());
        self.string(Strung { wire: Arc::downgrade(near_end.wire()), ends });
        let caller = format!("{}/{}", party.machine, party.component);
        let callee = format!("{}/{}", listening.machine, listening.component);
        let near = Connection::pipe(near_end, callee, listening.identity);
        let other = Connection::pipe(far_end, caller, party.identity.cloned());
        listening.connections.send(other).map_err(|_| refused())?;
        Ok(near)
    }

    /// Registers a wire, so that partitions find it.
    fn string(&self, strung: Strung) {
        let mut state = locked(&self.state);
        if state.wires.len() >= state.sweep_at.max(64) {
            state.wires.retain(|strung| strung.wire.strong_count() > 0);
            state.sweep_at = state.wires.len() * 2;
        }
        state.wires.push(strung);
    }

    /// Waits until a machine can be reached, as long as a system would.
    async fn reach(&self, from: &str, target: &str, to: &Address) -> io::Result<()> {
        let mut changes = self.changes.subscribe();
        let reached = changes.wait_for(|_| locked(&self.state).reaches(from, target));
        match tokio::time::timeout(CONNECT_TIMEOUT, reached).await {
            Ok(_) => Ok(()),
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, format!("{to} does not answer"))),
        }
    }

    fn draw(&self, below: u64) -> u64 {
        locked(&self.state).random.random_range(0..below.max(1))
    }

    fn strikes(&self, share: impl Fn(&Faults) -> u64) -> bool {
        let draw = self.draw(1_000_000);
        let mut faults = locked(&self.faults);
        let share = share(&faults);
        faults.strikes(share, draw)
    }

    /// When what is sent now arrives; `None` for at once.
    fn delay(&self) -> Option<Instant> {
        let (stalls, longest_stall, longest_delay) = {
            let faults = locked(&self.faults);
            (faults.stalls, faults.longest_stall, faults.longest_delay)
        };
        let longest = if self.draw(1_000_000) < stalls { longest_stall } else { longest_delay };
        // tokio's timers count milliseconds.
        let delay = self.draw(longest.as_millis() as u64 + 1);
        (delay > 0).then(|| Instant::now() + Duration::from_millis(delay))
    }
}

/// TCP addresses and pipes are known to all machines, Unix sockets to their own alone.
fn key(machine: &str, address: &Address) -> String {
    match address {
        Address::Unix(_) => format!("{machine} {address}"),
        Address::Tcp(_) | Address::Pipe(_) => address.to_string(),
    }
}

/// What a connection runs over.
struct Cable {
    network: Arc<Network>,
    sim: Sim,
    /// Whether it leaves the machine.
    far: bool,
}

impl Link for Cable {
    fn fate(&self, wire: u64, forth: bool) -> Fate {
        self.sim.note(&[wire, u64::from(forth)]);
        if !self.far {
            return Fate::Arrives;
        }
        if self.network.strikes(|faults| faults.breaks) {
            self.sim.trace(format_args!("connection {wire} breaks"));
            return Fate::Breaks;
        }
        self.network.delay().map_or(Fate::Arrives, Fate::ArrivesAt)
    }
}

struct SimListener {
    network: Arc<Network>,
    key: String,
    number: u64,
    incoming: mpsc::UnboundedReceiver<Connection>,
}

#[async_trait]
impl Accepting for SimListener {
    async fn accept(&mut self) -> io::Result<Connection> {
        match self.incoming.recv().await {
            Some(connection) => Ok(connection),
            // The machine is going down, and with it whoever waits here.
            None => std::future::pending().await,
        }
    }
}

impl Drop for SimListener {
    fn drop(&mut self) {
        let mut state = locked(&self.network.state);
        // A successor may hold the address already.
        if state.listeners.get(&self.key).is_some_and(|l| l.number == self.number) {
            state.listeners.remove(&self.key);
        }
        drop(state);
        // What was not accepted is dropped with `incoming`, after the lock is released.
    }
}
