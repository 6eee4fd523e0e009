//! The edge between a World and what it stands on: the operating system, or a simulated machine.

use std::io;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use rand::{Rng, RngCore, SeedableRng};
use rand_chacha::ChaCha20Rng;

use crate::connection::Accepting;
use crate::{Address, Connection, Disk, ProcessStats, World};

/// One machine, real or simulated.
#[async_trait]
pub(crate) trait Host: Send + Sync {
    /// The machine's wall clock.
    fn wall(&self) -> jiff::Timestamp;

    /// The source of chance for one component.
    fn random(&self, component: &str) -> Random;

    /// Whether blocking work runs at once, in place of on a thread pool.
    fn blocks_inline(&self) -> bool;

    /// Opens a connection on behalf of a World.
    async fn connect(&self, from: &World, to: &Address) -> io::Result<Connection>;

    /// Starts listening on behalf of a World.
    async fn listen(&self, world: &World, on: &Address) -> io::Result<Box<dyn Accepting>>;

    /// The machine's disk.
    fn disk(&self) -> Disk;

    /// What the system says of this process. A simulated machine has none: what it would say differs from run to run.
    fn process(&self) -> Option<ProcessStats> {
        None
    }

    /// Asked before each poll of a task: whether the task shall first let the others go on. The
    /// simulation explores interleavings with it.
    fn yields(&self) -> bool {
        false
    }

    /// Told of a task that panicked, beside the log.
    fn panicked(&self, _component: &str, _task: &str, _message: &str) {}
}

/// One component's source of random numbers.
pub(crate) struct Random(Mutex<ChaCha20Rng>);

impl Random {
    /// Numbers that nobody can guess.
    pub(crate) fn system() -> Random {
        Random(Mutex::new(ChaCha20Rng::from_os_rng()))
    }

    /// Numbers that follow from the seed and the name alone.
    pub(crate) fn seeded(seed: u64, name: &str) -> Random {
        Random(Mutex::new(generator(seed, name)))
    }

    pub(crate) fn next(&self) -> u64 {
        locked(&self.0).next_u64()
    }

    pub(crate) fn below(&self, n: u64) -> u64 {
        if n == 0 { 0 } else { locked(&self.0).random_range(0..n) }
    }
}

/// A seeded generator of its own for each name, so that one part's draws don't shift another's.
pub(crate) fn generator(seed: u64, name: &str) -> ChaCha20Rng {
    let mut key = [0u8; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&fnv(name.as_bytes()).to_le_bytes());
    ChaCha20Rng::from_seed(key)
}

/// FNV-1a: small, stable across platforms and releases.
pub(crate) fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Locks, even after a panic elsewhere: what these locks guard is consistent at every instant.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// A host shared by its Worlds.
pub(crate) type SharedHost = Arc<dyn Host>;
