//! Who watches what: hands each change to the watchers it concerns, and never waits for one.
//!
//! A watcher that asks for one value of a field (the Pods of one node) waits in that value's bucket, so that a thousand
//! kubelets cost a Pod's change no more than one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use skiff_world::mutants::{Mutant, is_awake};
use tokio::sync::mpsc;

use super::entry::Entry;
use super::state::{Change, ResourceId};

/// Says whether an object is selected.
pub type Filter = Arc<dyn Fn(&Entry) -> bool + Send + Sync>;

/// What happened, as one watcher sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WatchKind {
    /// New, or newly selected.
    Added,
    /// Changed.
    Modified,
    /// Gone, or no longer selected; the object is as it was last seen.
    Deleted,
}

/// One change, as one watcher sees it. Its revision is the entry's.
#[derive(Debug, Clone)]
pub struct ObjectEvent {
    /// What happened.
    pub kind: WatchKind,
    /// The object.
    pub entry: Arc<Entry>,
}

/// Which objects a watcher wants to see.
#[derive(Clone, Default)]
pub(super) struct Interest {
    /// What the key begins with.
    pub(super) prefix: Vec<u8>,
    pub(super) filter: Option<Filter>,
    /// The index of a field and the one value it must have.
    pub(super) only: Option<(usize, String)>,
}

impl Interest {
    pub(super) fn wants(&self, entry: &Entry) -> bool {
        entry.key_bytes().starts_with(&self.prefix)
            && self.only.as_ref().is_none_or(|(field, value)| entry.field_at(*field) == Some(value))
            && self.filter.as_ref().is_none_or(|filter| filter(entry))
    }

    /// The change as seen through this interest: entering is ADDED, leaving is DELETED.
    pub(super) fn see(&self, change: &Change) -> Option<ObjectEvent> {
        let before = change.previous.as_ref().is_some_and(|entry| self.wants(entry));
        let now = change.current.as_ref().filter(|entry| self.wants(entry));
        let (kind, entry) = match (before, now) {
            (false, None) => return None,
            (false, Some(entry)) => (WatchKind::Added, entry.clone()),
            (true, Some(entry)) => (WatchKind::Modified, entry.clone()),
            (true, None) if is_awake(Mutant::LostDelete) => return None,
            (true, None) => (WatchKind::Deleted, change.last_seen()?),
        };
        Some(ObjectEvent { kind, entry })
    }
}

/// The hub's end of a watch.
struct Watcher {
    interest: Interest,
    queue: mpsc::Sender<ObjectEvent>,
    lagging: Arc<AtomicBool>,
}

impl Watcher {
    /// `false`: it is gone, or too slow and cut off.
    fn tell(&self, change: &Change) -> bool {
        let Some(event) = self.interest.see(change) else { return !self.queue.is_closed() };
        match self.queue.try_send(event) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Full(_)) => {
                self.lagging.store(true, Ordering::Release);
                false
            }
            Err(mpsc::error::TrySendError::Closed(_)) => false,
        }
    }
}

/// The watcher's end.
pub(super) struct Subscription {
    pub(super) queue: mpsc::Receiver<ObjectEvent>,
    /// True if the queue ended because it was full.
    pub(super) lagging: Arc<AtomicBool>,
}

/// One resource's watchers.
#[derive(Default)]
struct Watchers {
    everything: Vec<Watcher>,
    by_field: BTreeMap<usize, BTreeMap<String, Vec<Watcher>>>,
}

impl Watchers {
    fn tell(&mut self, change: &Change) {
        self.everything.retain(|watcher| watcher.tell(change));
        for (field, buckets) in &mut self.by_field {
            let value =
                |entry: &Option<Arc<Entry>>| entry.as_ref().and_then(|entry| entry.field_at(*field)).map(String::from);
            let (before, now) = (value(&change.previous), value(&change.current));
            let moved = before != now;
            for value in before.into_iter().chain(now.filter(|_| moved)) {
                let Some(bucket) = buckets.get_mut(&value) else { continue };
                bucket.retain(|watcher| watcher.tell(change));
                if bucket.is_empty() {
                    buckets.remove(&value);
                }
            }
        }
    }
}

/// All watchers.
#[derive(Default)]
pub(super) struct Hub {
    resources: BTreeMap<ResourceId, Watchers>,
}

impl Hub {
    /// Adds a watcher that may fall `capacity` events behind.
    pub(super) fn subscribe(&mut self, resource: ResourceId, interest: Interest, capacity: usize) -> Subscription {
        let (sender, queue) = mpsc::channel(capacity);
        let lagging = Arc::new(AtomicBool::new(false));
        let only = interest.only.clone();
        let watcher = Watcher { interest, queue: sender, lagging: lagging.clone() };
        let watchers = self.resources.entry(resource).or_default();
        match only {
            None => watchers.everything.push(watcher),
            Some((field, value)) => {
                watchers.by_field.entry(field).or_default().entry(value).or_default().push(watcher);
            }
        }
        Subscription { queue, lagging }
    }

    /// Hands out one change.
    pub(super) fn tell(&mut self, resource: ResourceId, change: &Change) {
        if let Some(watchers) = self.resources.get_mut(&resource) {
            watchers.tell(change);
        }
    }

    /// Cuts off everybody who watches this resource: what they saw does not lead on to what comes.
    pub(super) fn cut(&mut self, resource: ResourceId) {
        self.resources.remove(&resource);
    }

    /// Cuts off everybody.
    pub(super) fn cut_all(&mut self) {
        self.resources.clear();
    }

    /// Forgets watchers that are gone, which a quiet resource would else keep; returns how many are left.
    pub(super) fn sweep(&mut self) -> usize {
        let mut left = 0;
        for watchers in self.resources.values_mut() {
            watchers.everything.retain(|watcher| !watcher.queue.is_closed());
            left += watchers.everything.len();
            for buckets in watchers.by_field.values_mut() {
                buckets.retain(|_, bucket| {
                    bucket.retain(|watcher| !watcher.queue.is_closed());
                    left += bucket.len();
                    !bucket.is_empty()
                });
            }
        }
        left
    }
}
