//! Pods that wait for a node. None is ever forgotten: each is in exactly one of four places.
//!
//! ```text
//!                    ┌────────── the bind failed ──────────┐
//!                    ▼                                      │
//!   new ──► active ──pop──► in hand ──► bound (gone from here)
//!             ▲                 │
//!             │                 │ no node will do
//!   time is up│                 ▼
//!          backoff ◄──── unschedulable
//!                   something changed that may help, or five minutes went by
//! ```
//!
//! What helps whom: room freed on a node wakes the pods whose filters that node passes now; a node
//! that is added or changed does the same at once, and wakes the rest after their backoff, so that
//! what they say about the cluster stays true.
//!
//! Time is a Duration since the scheduler's start; the queue has no clock of its own.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use skiff_world::mutants::{Mutant, is_awake};

use crate::pod::PodInfo;

/// The wait after a first failure; it doubles with each, up to `MAX_BACKOFF`.
const FIRST_BACKOFF: Duration = Duration::from_secs(1);
const MAX_BACKOFF: Duration = Duration::from_secs(10);
/// Nothing waits longer than this without another try, whatever woke or did not wake it.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// All pods that wait for a node.
#[derive(Default)]
pub struct Queue {
    entries: BTreeMap<Arc<str>, Entry>,
    active: BTreeSet<(Reverse<i32>, u64, Arc<str>)>,
    backoff: BTreeSet<(Duration, Arc<str>)>,
    /// By template, as those of one template are woken together.
    unschedulable: BTreeMap<u64, BTreeSet<Arc<str>>>,
    /// The same pods by when they are tried again whatever happens.
    patience: BTreeSet<(Duration, Arc<str>)>,
    arrivals: u64,
}

struct Entry {
    pod: Arc<PodInfo>,
    arrival: u64,
    attempts: u32,
    place: Place,
    /// When it was last tried.
    tried: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Active,
    InHand,
    Backoff(Duration),
    Unschedulable(Duration),
}

/// How many pods are where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Depth {
    /// Ready to be tried.
    pub active: usize,
    /// Waiting for their time.
    pub backoff: usize,
    /// Waiting for the cluster to change.
    pub unschedulable: usize,
    /// Being bound.
    pub in_hand: usize,
}

impl Queue {
    /// An empty queue.
    pub fn new() -> Queue {
        Queue::default()
    }

    /// A pod that is to be scheduled was seen: new, or changed. A change of what it needs is a new chance.
    pub fn offer(&mut self, pod: Arc<PodInfo>) {
        if let Some(entry) = self.entries.get(&pod.uid) {
            let same = entry.pod.template == pod.template && entry.pod.priority == pod.priority;
            if same || entry.place == Place::InHand {
                if let Some(entry) = self.entries.get_mut(&pod.uid) {
                    entry.pod = pod;
                }
                return;
            }
            let uid = pod.uid.clone();
            self.take_out(&uid);
            if let Some(entry) = self.entries.get_mut(&uid) {
                entry.pod = pod;
            }
            self.put(&uid, Place::Active);
            return;
        }
        self.arrivals += 1;
        let uid = pod.uid.clone();
        let entry = Entry { pod, arrival: self.arrivals, attempts: 0, place: Place::InHand, tried: Duration::ZERO };
        self.entries.insert(uid.clone(), entry);
        self.put(&uid, Place::Active);
    }

    /// The pod is bound, deleted or nobody's any more.
    pub fn remove(&mut self, uid: &str) {
        self.take_out(uid);
        self.entries.remove(uid);
    }

    /// The next pod to try: highest priority first, then first come, first served.
    pub fn pop(&mut self, now: Duration) -> Option<Arc<PodInfo>> {
        let (_, _, uid) = self.active.pop_first()?;
        let entry = self.entries.get_mut(&uid)?;
        entry.place = Place::InHand;
        entry.attempts += 1;
        entry.tried = now;
        Some(entry.pod.clone())
    }

    /// The pod in hand found no node.
    pub fn unschedulable(&mut self, uid: &str) {
        if self.in_hand(uid)
            && !is_awake(Mutant::NeverAgain)
            && let Some(entry) = self.entries.get(uid)
        {
            let due = entry.tried + PATIENCE;
            self.put(&Arc::from(uid), Place::Unschedulable(due));
        }
    }

    /// The pod in hand was not bound for a reason that may pass: again after a while.
    pub fn retry(&mut self, uid: &str, now: Duration) {
        if self.in_hand(uid)
            && let Some(entry) = self.entries.get(uid)
        {
            let due = now + backoff(entry.attempts);
            self.put(&Arc::from(uid), Place::Backoff(due));
        }
    }

    /// The templates of the pods that found no node, with a pod of each.
    pub fn unschedulable_templates(&self) -> Vec<(u64, Arc<PodInfo>)> {
        let first = |pods: &BTreeSet<Arc<str>>| Some(self.entries.get(pods.first()?)?.pod.clone());
        self.unschedulable.iter().filter_map(|(digest, pods)| Some((*digest, first(pods)?))).collect()
    }

    /// A node will do for this template now: all its pods are tried at once.
    pub fn wake(&mut self, digest: u64) {
        for uid in self.unschedulable.get(&digest).cloned().unwrap_or_default() {
            self.take_out(&uid);
            self.put(&uid, Place::Active);
        }
    }

    /// Something changed that may help, or changes at least what there is to say: all are tried
    /// again, each when its backoff is over.
    pub fn wake_all(&mut self, now: Duration) {
        for (_, uid) in self.patience.clone() {
            let Some(entry) = self.entries.get(&uid) else { continue };
            let due = entry.tried + backoff(entry.attempts);
            self.take_out(&uid);
            self.put(&uid, if due <= now { Place::Active } else { Place::Backoff(due) });
        }
    }

    /// Moves what is due. Returns when something is due next.
    pub fn tick(&mut self, now: Duration) -> Option<Duration> {
        loop {
            let next = [self.backoff.first(), self.patience.first()].into_iter().flatten().min().cloned();
            match next {
                Some((due, uid)) if due <= now => {
                    self.take_out(&uid);
                    self.put(&uid, Place::Active);
                }
                next => return next.map(|(due, _)| due),
            }
        }
    }

    /// How many pods are where.
    pub fn depth(&self) -> Depth {
        let (active, backoff, unschedulable) = (self.active.len(), self.backoff.len(), self.patience.len());
        Depth { active, backoff, unschedulable, in_hand: self.entries.len() - active - backoff - unschedulable }
    }

    /// Whether the pod is known here.
    pub fn contains(&self, uid: &str) -> bool {
        self.entries.contains_key(uid)
    }

    fn in_hand(&self, uid: &str) -> bool {
        self.entries.get(uid).is_some_and(|entry| entry.place == Place::InHand)
    }

    fn put(&mut self, uid: &Arc<str>, place: Place) {
        let Some(entry) = self.entries.get_mut(uid) else { return };
        entry.place = place;
        let uid = uid.clone();
        match place {
            Place::Active => {
                self.active.insert((Reverse(entry.pod.priority), entry.arrival, uid));
            }
            Place::Backoff(due) => {
                self.backoff.insert((due, uid));
            }
            Place::Unschedulable(due) => {
                self.unschedulable.entry(entry.pod.digest).or_default().insert(uid.clone());
                self.patience.insert((due, uid));
            }
            Place::InHand => {}
        }
    }

    fn take_out(&mut self, uid: &str) {
        let Some(entry) = self.entries.get_mut(uid) else { return };
        let uid: Arc<str> = Arc::from(uid);
        match std::mem::replace(&mut entry.place, Place::InHand) {
            Place::Active => {
                self.active.remove(&(Reverse(entry.pod.priority), entry.arrival, uid));
            }
            Place::Backoff(due) => {
                self.backoff.remove(&(due, uid));
            }
            Place::Unschedulable(due) => {
                self.patience.remove(&(due, uid.clone()));
                let digest = entry.pod.digest;
                if let Some(pods) = self.unschedulable.get_mut(&digest) {
                    pods.remove(&uid);
                    if pods.is_empty() {
                        self.unschedulable.remove(&digest);
                    }
                }
            }
            Place::InHand => {}
        }
    }
}

fn backoff(attempts: u32) -> Duration {
    let doubled = FIRST_BACKOFF * 2u32.saturating_pow(attempts.saturating_sub(1).min(8));
    doubled.min(MAX_BACKOFF)
}
