//! The work queue: keys that somebody has to look at.
//!
//! A key is in one of these places, and never lost between them:
//!
//! ```text
//!             add                      next                   done
//!   nowhere ───────▶ ready (in order) ──────▶ in flight ──────────────▶ nowhere
//!      │                ▲   ▲                     │  │
//!      │ add_after      │   │ done, when added    │  │ retry (or dropped)
//!      ▼                │   └── while in flight ──┘  ▼
//!    timer ─────────────┘ ◀────────────────────── timer (backoff)
//!            due
//! ```
//!
//! - A key is handed to one worker at a time. Added while it is in flight, it is handed out again afterwards.
//! - Keys come out in the order in which they went in; one that is worked on again goes to the back.
//! - A key has at most one timer, the earliest that was asked for. Whoever needs a later one too asks again when the
//!   key is worked on, as a plan does with `requeue_after` each time.
//! - Failures back off per key, exponentially, and never give up.
//! - Triggers travel with the key through all of this, and decide nothing.

mod backoff;
mod triggers;

use std::collections::{BTreeMap, VecDeque};
use std::fmt::{self, Debug, Display};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use skiff_world::World;
use skiff_world::mutants::{Mutant, is_awake};
use tokio::sync::Notify;
use tokio::time::Instant;

pub use backoff::Backoff;
pub use triggers::{KEPT, Trigger, TriggerSet};

use crate::driver::settled::Unseen;
use crate::metrics::QueueMetrics;

/// What a work queue can carry: something small that names an object.
pub trait QueueKey: Ord + Clone + Debug + Display + Send + Sync + 'static {}
impl<T: Ord + Clone + Debug + Display + Send + Sync + 'static> QueueKey for T {}

/// The backoff of a key that fails.
pub const KEY_BACKOFF: Backoff = Backoff::new(Duration::from_millis(5), Duration::from_secs(1000));

/// A queue of keys; clones are the same queue.
pub struct WorkQueue<K> {
    shared: Arc<Shared<K>>,
}

impl<K> Clone for WorkQueue<K> {
    fn clone(&self) -> Self {
        WorkQueue { shared: self.shared.clone() }
    }
}

struct Shared<K> {
    world: World,
    name: String,
    state: Mutex<State<K>>,
    /// One permit: something may be there to take, or the earliest timer has changed.
    changed: Notify,
    metrics: QueueMetrics,
    /// What each key has written and the informers don't show yet (`driver/settled.rs`).
    unseen: Arc<Unseen<K>>,
}

struct State<K> {
    /// Keys to hand out, in order; each also is in `dirty`, and not in flight.
    ready: VecDeque<K>,
    /// Keys that need looking at: those in `ready`, and those added again while in flight.
    dirty: BTreeMap<K, Waiting>,
    in_flight: BTreeMap<K, Instant>,
    timers: BTreeMap<(Instant, u64), K>,
    timer_of: BTreeMap<K, Timer>,
    next_timer: u64,
    failures: BTreeMap<K, u32>,
    closed: bool,
    metrics: QueueMetrics,
}

struct Waiting {
    triggers: TriggerSet,
    since: Instant,
}

struct Timer {
    at: (Instant, u64),
    triggers: TriggerSet,
}

impl<K: QueueKey> WorkQueue<K> {
    /// An empty queue. Most queues come from [`crate::Controls::queue`], which makes them visible.
    pub fn new(world: &World, name: impl Into<String>) -> WorkQueue<K> {
        Self::with_metrics(world, name, QueueMetrics::default())
    }

    pub(crate) fn with_metrics(world: &World, name: impl Into<String>, metrics: QueueMetrics) -> WorkQueue<K> {
        let state = State {
            ready: VecDeque::new(),
            dirty: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            timers: BTreeMap::new(),
            timer_of: BTreeMap::new(),
            next_timer: 0,
            failures: BTreeMap::new(),
            closed: false,
            metrics: metrics.clone(),
        };
        let shared = Shared {
            world: world.clone(),
            name: name.into(),
            state: Mutex::new(state),
            changed: Notify::new(),
            metrics,
            unseen: Arc::new(Unseen::new(world)),
        };
        WorkQueue { shared: Arc::new(shared) }
    }

    /// The queue's name.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    pub(crate) fn metrics(&self) -> &QueueMetrics {
        &self.shared.metrics
    }

    pub(crate) fn unseen(&self) -> &Arc<Unseen<K>> {
        &self.shared.unseen
    }

    /// Asks that somebody looks at `key`.
    pub fn add(&self, key: K, trigger: Trigger) {
        self.add_all(key, trigger.into());
    }

    fn add_all(&self, key: K, triggers: TriggerSet) {
        let now = self.shared.world.now();
        self.lock().mark(key, triggers, now);
        self.shared.changed.notify_one();
    }

    /// Asks that somebody looks at `key` after a while. A key keeps its earliest timer only.
    pub fn add_after(&self, key: K, trigger: Trigger, delay: Duration) {
        self.set_timer(key, trigger.into(), delay);
    }

    fn set_timer(&self, key: K, triggers: TriggerSet, delay: Duration) {
        if delay.is_zero() {
            return self.add_all(key, triggers);
        }
        let at = self.shared.world.now() + delay;
        self.lock().set_timer(key, triggers, at);
        self.shared.changed.notify_one();
    }

    /// The next key to work on; waits for one. `None` once the queue is closed.
    pub async fn next(&self) -> Option<Work<K>> {
        loop {
            let changed = self.shared.changed.notified();
            let now = self.shared.world.now();
            let earliest = {
                let mut state = self.lock();
                if state.closed {
                    return None;
                }
                state.promote_due(now);
                if let Some((key, waiting)) = state.take(now) {
                    // Whoever waits next looks after the timers and what is left: this worker is busy now, and on several
                    // threads the other may have looked before the earliest timer was set.
                    self.shared.changed.notify_one();
                    self.shared.metrics.waited(now.saturating_duration_since(waiting.since));
                    return Some(Work { queue: self.clone(), key, triggers: waiting.triggers, over: false });
                }
                state.timers.keys().next().map(|(at, _)| *at)
            };
            match earliest {
                None => changed.await,
                Some(at) => {
                    // Either way the loop looks again.
                    let _ = tokio::time::timeout_at(at, changed).await;
                }
            }
        }
    }

    /// Ends the queue: every worker that asks for a key gets `None`.
    pub fn close(&self) {
        self.lock().closed = true;
        // `notify_waiters` reaches those who wait now, `notify_one` one who is about to.
        self.shared.changed.notify_waiters();
        self.shared.changed.notify_one();
    }

    /// How many keys are ready to be taken.
    pub fn depth(&self) -> usize {
        self.lock().ready.len()
    }

    /// Whether nothing is ready or in flight (timers may be pending).
    pub fn is_idle(&self) -> bool {
        let state = self.lock();
        state.ready.is_empty() && state.in_flight.is_empty()
    }

    /// How long the key that has waited longest has waited.
    pub fn oldest_age(&self) -> Duration {
        let now = self.shared.world.now();
        let state = self.lock();
        let oldest = state.ready.front().and_then(|key| state.dirty.get(key)).map(|waiting| waiting.since);
        oldest.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    /// How much there is to do, and for how long it has been.
    pub(crate) fn load(&self) -> Load {
        let oldest = self.oldest_age();
        let now = self.shared.world.now();
        let state = self.lock();
        let running = || state.in_flight.values().map(|since| now.saturating_duration_since(*since));
        Load {
            depth: state.ready.len(),
            oldest,
            unfinished: running().sum(),
            longest: running().max().unwrap_or_default(),
        }
    }

    /// How many times in a row `key` has failed.
    pub fn failures(&self, key: &K) -> u32 {
        self.lock().failures.get(key).copied().unwrap_or(0)
    }

    /// What is in the queue, for people to look at.
    pub fn snapshot(&self) -> QueueSnapshot {
        let now = self.shared.world.now();
        let state = self.lock();
        let age = |since: Instant| now.saturating_duration_since(since);
        let entry = |key: &K, age: Duration, triggers: String| QueueEntry {
            key: key.to_string(),
            age,
            triggers,
            failures: state.failures.get(key).copied().unwrap_or(0),
        };
        let waiting = |key: &K| state.dirty.get(key).map(|w| entry(key, age(w.since), w.triggers.to_string()));
        QueueSnapshot {
            name: self.shared.name.clone(),
            ready: state.ready.iter().filter_map(waiting).collect(),
            in_flight: state.in_flight.iter().map(|(key, since)| entry(key, age(*since), String::new())).collect(),
            again: state.in_flight.keys().filter_map(waiting).collect(),
            timers: (state.timers.iter())
                .map(|((at, _), key)| {
                    let triggers = state.timer_of.get(key).map(|t| t.triggers.to_string()).unwrap_or_default();
                    entry(key, at.saturating_duration_since(now), triggers)
                })
                .collect(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<K>> {
        // Nothing panics while holding the lock, and even then the state would be whole.
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: QueueKey> State<K> {
    fn mark(&mut self, key: K, triggers: TriggerSet, now: Instant) {
        if is_awake(Mutant::DroppedKey) && self.in_flight.contains_key(&key) {
            return;
        }
        if let Some(waiting) = self.dirty.get_mut(&key) {
            return waiting.triggers.merge(triggers);
        }
        self.metrics.added();
        self.dirty.insert(key.clone(), Waiting { triggers, since: now });
        if !self.in_flight.contains_key(&key) {
            self.ready.push_back(key);
        }
    }

    fn take(&mut self, now: Instant) -> Option<(K, Waiting)> {
        let key = self.ready.pop_front()?;
        let waiting = self.dirty.remove(&key)?;
        self.in_flight.insert(key.clone(), now);
        Some((key, waiting))
    }

    /// The worker is done with `key`; if it was added meanwhile, it is its turn again.
    fn release(&mut self, key: &K) {
        if self.in_flight.remove(key).is_some() && self.dirty.contains_key(key) {
            self.ready.push_back(key.clone());
        }
    }

    fn set_timer(&mut self, key: K, triggers: TriggerSet, at: Instant) {
        if let Some(timer) = self.timer_of.get_mut(&key) {
            timer.triggers.merge(triggers);
            if at < timer.at.0 {
                self.timers.remove(&timer.at);
                timer.at.0 = at;
                self.timers.insert(timer.at, key);
            }
            return;
        }
        let at = (at, self.next_timer);
        self.next_timer += 1;
        self.timers.insert(at, key.clone());
        self.timer_of.insert(key, Timer { at, triggers });
    }

    fn promote_due(&mut self, now: Instant) {
        while let Some(entry) = self.timers.first_entry() {
            if entry.key().0 > now {
                return;
            }
            let key = entry.remove();
            let triggers = self.timer_of.remove(&key).map(|t| t.triggers).unwrap_or_default();
            self.mark(key, triggers, now);
        }
    }
}

/// A key in a worker's hands. Dropping it unfinished (the worker was stopped) puts it back.
pub struct Work<K: QueueKey> {
    queue: WorkQueue<K>,
    key: K,
    triggers: TriggerSet,
    over: bool,
}

impl<K: QueueKey> Work<K> {
    /// The key to work on.
    pub fn key(&self) -> &K {
        &self.key
    }

    /// What woke it.
    pub fn triggers(&self) -> &TriggerSet {
        &self.triggers
    }

    /// The work succeeded: earlier failures are forgotten.
    pub fn done(mut self) {
        self.over = true;
        let mut state = self.queue.lock();
        state.failures.remove(&self.key);
        state.release(&self.key);
        drop(state);
        self.queue.shared.changed.notify_one();
    }

    /// The work succeeded, and is to be looked at again after a while.
    pub fn done_until(self, delay: Duration, trigger: Trigger) {
        let (queue, key) = (self.queue.clone(), self.key.clone());
        self.done();
        queue.add_after(key, trigger, delay);
    }

    /// It is too early for the work: the key comes back, with what woke it, after `delay`. That is no failure.
    pub fn put_off(mut self, delay: Duration) {
        self.over = true;
        self.queue.lock().release(&self.key);
        self.queue.set_timer(self.key.clone(), std::mem::take(&mut self.triggers), delay);
        self.queue.shared.changed.notify_one();
    }

    /// The work failed: the key comes back, with what woke it, after its backoff, but not before `at_least` and not
    /// later than after `at_most`. Gives the wait.
    pub fn retry(mut self, at_least: Duration, at_most: Duration) -> Duration {
        self.over = true;
        self.queue.metrics().retried();
        let mut state = self.queue.lock();
        let failures = state.failures.entry(self.key.clone()).or_insert(0);
        *failures = failures.saturating_add(1);
        let delay = KEY_BACKOFF.delay(*failures).min(at_most).max(at_least);
        let given_up = is_awake(Mutant::GivenUp) && *failures >= 5;
        state.release(&self.key);
        drop(state);
        if given_up {
            return delay;
        }
        self.queue.set_timer(self.key.clone(), std::mem::take(&mut self.triggers), delay);
        self.queue.shared.changed.notify_one();
        delay
    }
}

impl<K: QueueKey> Drop for Work<K> {
    fn drop(&mut self) {
        if !self.over {
            let now = self.queue.shared.world.now();
            let mut state = self.queue.lock();
            // Marked first, while still in flight: releasing then makes it ready.
            state.mark(self.key.clone(), std::mem::take(&mut self.triggers), now);
            state.release(&self.key);
            drop(state);
            self.queue.shared.changed.notify_one();
        }
    }
}

/// How much there is to do at a moment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Load {
    /// Keys ready to be taken.
    pub(crate) depth: usize,
    /// How long the one that has waited longest has waited.
    pub(crate) oldest: Duration,
    /// How long all that is being worked on has taken so far, together.
    pub(crate) unfinished: Duration,
    /// How long what has been worked on longest has taken so far.
    pub(crate) longest: Duration,
}

/// What is in a queue at a moment.
#[derive(Clone, Debug, Default)]
pub struct QueueSnapshot {
    /// The queue's name.
    pub name: String,
    /// Keys ready to be taken, in order.
    pub ready: Vec<QueueEntry>,
    /// Keys that are being worked on; their age is how long.
    pub in_flight: Vec<QueueEntry>,
    /// Those of them that will be worked on again.
    pub again: Vec<QueueEntry>,
    /// Keys that wait for a time; their age is how long still.
    pub timers: Vec<QueueEntry>,
}

/// One key of a [`QueueSnapshot`].
#[derive(Clone, Debug)]
pub struct QueueEntry {
    /// The key, printed.
    pub key: String,
    /// How long it has been there, or has still to wait.
    pub age: Duration,
    /// What woke it.
    pub triggers: String,
    /// How many times in a row it failed.
    pub failures: u32,
}

impl<K: QueueKey> Debug for WorkQueue<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.snapshot().fmt(f)
    }
}

#[cfg(test)]
mod tests;
