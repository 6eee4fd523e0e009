//! What a component may take from outside itself: the time, chance, tasks, connections and a disk.
//!
//! Every part of Skiff is handed a [`World`] and reaches for nothing else. That has two effects:
//! a component owns whatever it starts (stopping its World stops its tasks and cuts its pipes), and
//! the whole control plane runs unchanged inside [`sim`], where time leaps, the network and the disk
//! misbehave on command, and one seed is one run.

// This crate is where the ambient clock, randomness and tasks are wrapped; see clippy.toml.
#![allow(clippy::disallowed_methods)]

mod address;
mod connection;
mod disk;
pub mod exposition;
mod host;
mod identity;
pub mod mutants;
mod pipe;
mod process;
mod real;
mod scope;
pub mod sim;
pub mod tls;
pub mod watch;

pub use address::{Address, AddressError};
pub use connection::{Connection, Listener};
pub use disk::{Disk, Entry, File};
pub use identity::Identity;
pub use process::ProcessStats;
pub use scope::{Ended, Executor, Stopped, Task};

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use host::{Host, Random};
use scope::Scope;

/// The letters and digits that Kubernetes uses in generated names: no vowels, no look-alikes.
const SAFE_ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// The outside, as one component sees it. Cheap to clone; clones share everything.
#[derive(Clone)]
pub struct World {
    inner: Arc<Inner>,
}

struct Inner {
    component: String,
    identity: Option<Identity>,
    host: Arc<dyn Host>,
    scope: Arc<Scope>,
    random: Random,
}

impl World {
    /// The real world: the system's clock, random source, network and file system.
    pub fn real(component: &str) -> World {
        World::on(Arc::new(real::RealHost::new()), None, component, None)
    }

    fn on(host: Arc<dyn Host>, parent: Option<&Arc<Scope>>, component: &str, identity: Option<Identity>) -> World {
        let scope = Scope::new(component, host.clone(), parent);
        let random = host.random(component);
        World { inner: Arc::new(Inner { component: component.to_owned(), identity, host, scope, random }) }
    }

    /// The name of the component that this World belongs to.
    pub fn component(&self) -> &str {
        &self.inner.component
    }

    /// Whom this World's pipe connections present at the other end.
    pub fn identity(&self) -> Option<&Identity> {
        self.inner.identity.as_ref()
    }

    /// A World on the same machine with a task scope of its own, which ends with this one's.
    /// Without an identity of its own it presents its parent's.
    pub fn child(&self, component: &str, identity: Option<Identity>) -> World {
        let identity = identity.or_else(|| self.inner.identity.clone());
        World::on(self.inner.host.clone(), Some(&self.inner.scope), component, identity)
    }

    /// The monotonic clock, which is tokio's: it leaps from timer to timer in simulation.
    pub fn now(&self) -> tokio::time::Instant {
        tokio::time::Instant::now()
    }

    /// The wall clock, skewed in simulation by what the machine's clock is off.
    pub fn wall(&self) -> jiff::Timestamp {
        self.inner.host.wall()
    }

    /// Sleeps on the monotonic clock.
    pub async fn sleep(&self, d: Duration) {
        tokio::time::sleep(d).await;
    }

    /// A uniformly random number.
    pub fn random_u64(&self) -> u64 {
        self.inner.random.next()
    }

    /// A uniformly random number below `n`; 0 when `n` is 0.
    pub fn random_below(&self, n: u64) -> u64 {
        self.inner.random.below(n)
    }

    /// A random (version 4) UUID in its usual spelling.
    pub fn uuid(&self) -> String {
        let bytes = (u128::from(self.random_u64()) << 64) | u128::from(self.random_u64());
        uuid::Builder::from_random_bytes(bytes.to_be_bytes()).into_uuid().to_string()
    }

    /// `len` random characters that are safe in names, as in generated Pod names.
    pub fn random_suffix(&self, len: usize) -> String {
        (0..len).map(|_| SAFE_ALPHABET[self.random_below(SAFE_ALPHABET.len() as u64) as usize] as char).collect()
    }

    /// Starts a task that belongs to this World: it ends when the World is stopped at the latest.
    /// Dropping the returned [`Task`] does not stop it. A panic inside it is logged under `name`
    /// and stops this World (see [`World::stopped`]). On a stopped World nothing is started.
    pub fn spawn<F>(&self, name: &'static str, future: F) -> Task
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.inner.scope.spawn(name, future)
    }

    /// An executor for hyper and tonic that starts its tasks in this World.
    pub fn executor(&self) -> Executor {
        Executor::new(self.inner.scope.clone())
    }

    /// Runs blocking or long work beside the asynchronous tasks: on a thread pool, or at once in
    /// simulation, where nothing may run at the same time as anything else.
    pub async fn blocking<T, F>(&self, f: F) -> T
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        if self.inner.host.blocks_inline() {
            return f();
        }
        match tokio::task::spawn_blocking(f).await {
            Ok(value) => value,
            Err(failure) => match failure.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime is going down, and with it whoever waits here.
                Err(_) => std::future::pending().await,
            },
        }
    }

    /// Connects to an address. There is no timeout in here except the system's: callers set one.
    pub async fn connect(&self, to: &Address) -> io::Result<Connection> {
        if self.inner.scope.is_stopped() {
            return Err(stopped_error(self.component()));
        }
        let connection = self.inner.host.connect(self, to).await?;
        self.inner.scope.own_connection(&connection);
        Ok(connection)
    }

    /// Listens on an address until the returned [`Listener`] is dropped.
    pub async fn listen(&self, on: &Address) -> io::Result<Listener> {
        if self.inner.scope.is_stopped() {
            return Err(stopped_error(self.component()));
        }
        let accepting = self.inner.host.listen(self, on).await?;
        Ok(Listener::new(accepting, on.clone(), self.inner.scope.clone()))
    }

    /// What the system says of the process this runs in; `None` in simulation, and where /proc cannot be read.
    pub fn process(&self) -> Option<ProcessStats> {
        self.inner.host.process()
    }

    /// The machine's disk.
    pub fn disk(&self) -> Disk {
        self.inner.host.disk()
    }

    /// Stops every task of this World and its children, cuts their pipes, and waits until the
    /// tasks are gone. A task that stops the World it runs in ends at that point.
    pub async fn stop(&self) {
        self.inner.scope.stop().await;
    }

    /// Waits until this World is stopped, and says why. For supervisors: a task that panicked
    /// stops its World, and here is where it shows.
    pub async fn stopped(&self) -> Stopped {
        self.inner.scope.stopped().await
    }
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World").field("component", &self.inner.component).finish_non_exhaustive()
    }
}

fn stopped_error(component: &str) -> io::Error {
    io::Error::new(io::ErrorKind::Interrupted, format!("{component} is stopped"))
}

#[cfg(test)]
mod tests;
