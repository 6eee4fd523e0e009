//! Who watches what: hands each change to the watchers it concerns, and never waits for one.
//!
//! Changes come in batches, as the store commits them, and a watcher is handed all that concern it at once: one queue item
//! and one wake-up. What a change looks like on the wire is made once for all who see it alike ([`Frames`]).
//!
//! A watcher that asks for one value of a field (the Pods of one node) waits in that value's bucket, so that a thousand
//! kubelets cost a Pod's change no more than one.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
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
    /// Shared with the others who see this change; what one watcher begins with is its own.
    frames: Option<Arc<Frames>>,
}

impl ObjectEvent {
    /// Something that was there when the watch began.
    pub(super) fn initial(entry: Arc<Entry>) -> ObjectEvent {
        ObjectEvent { kind: WatchKind::Added, entry, frames: None }
    }

    /// The object as it is stored, with its resourceVersion: made once.
    pub fn object(&self) -> Bytes {
        match &self.frames {
            Some(frames) => frames.objects[self.kind as usize].get_or_init(|| self.entry.object()).clone(),
            None => self.entry.object(),
        }
    }

    /// Where the event as it is sent is kept, if others may want it too.
    pub fn frame(&self) -> Option<SharedFrame> {
        Some(SharedFrame { kind: self.kind, frames: self.frames.clone()? })
    }
}

/// What a change looks like on the wire, by kind; each is made when first asked for.
#[derive(Debug, Default)]
struct Frames {
    objects: [OnceLock<Bytes>; 3],
    json: [OnceLock<Bytes>; 3],
    protobuf: [OnceLock<Bytes>; 3],
}

/// The place of an event as REST sends it. The object must be whole, and of its own kind.
#[derive(Debug, Clone)]
pub struct SharedFrame {
    kind: WatchKind,
    frames: Arc<Frames>,
}

impl SharedFrame {
    /// The line of a JSON stream; whoever is first makes it.
    pub fn json(&self, make: impl FnOnce() -> Bytes) -> Bytes {
        self.frames.json[self.kind as usize].get_or_init(make).clone()
    }

    /// The frame of a protobuf stream; whoever is first makes it.
    pub fn protobuf(&self, make: impl FnOnce() -> Bytes) -> Bytes {
        self.frames.protobuf[self.kind as usize].get_or_init(make).clone()
    }
}

/// A change on its way to the watchers.
struct Telling<'a> {
    change: &'a Change,
    frames: Arc<Frames>,
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
        self.see_with(change, None)
    }

    fn see_with(&self, change: &Change, frames: Option<&Arc<Frames>>) -> Option<ObjectEvent> {
        let before = change.previous.as_ref().is_some_and(|entry| self.wants(entry));
        let now = change.current.as_ref().filter(|entry| self.wants(entry));
        let (kind, entry) = match (before, now) {
            (false, None) => return None,
            (false, Some(entry)) => (WatchKind::Added, entry.clone()),
            (true, Some(entry)) => (WatchKind::Modified, entry.clone()),
            (true, None) if is_awake(Mutant::LostDelete) => return None,
            (true, None) => (WatchKind::Deleted, change.last_seen()?),
        };
        Some(ObjectEvent { kind, entry, frames: frames.cloned() })
    }
}

/// Why a watcher's queue ended.
#[derive(Default)]
struct Ended {
    /// It was too far behind.
    lagging: AtomicBool,
    /// Its resource went, or changed.
    orderly: AtomicBool,
}

/// The hub's end of a watch.
struct Watcher {
    interest: Interest,
    queue: mpsc::UnboundedSender<Vec<ObjectEvent>>,
    capacity: usize,
    /// How many events it is behind.
    behind: Arc<AtomicUsize>,
    ended: Arc<Ended>,
}

impl Watcher {
    /// `false`: it is gone, or too slow and cut off.
    fn tell(&self, changes: &[&Telling<'_>]) -> bool {
        let see = |telling: &&Telling<'_>| self.interest.see_with(telling.change, Some(&telling.frames));
        let events: Vec<ObjectEvent> = changes.iter().filter_map(see).collect();
        if events.is_empty() {
            return !self.queue.is_closed();
        }
        let count = events.len();
        if self.behind.fetch_add(count, Ordering::Relaxed) + count > self.capacity {
            self.ended.lagging.store(true, Ordering::Release);
            return false;
        }
        self.queue.send(events).is_ok()
    }
}

/// The watcher's end.
pub(super) struct Subscription {
    queue: mpsc::UnboundedReceiver<Vec<ObjectEvent>>,
    taken: std::vec::IntoIter<ObjectEvent>,
    behind: Arc<AtomicUsize>,
    ended: Arc<Ended>,
}

impl Subscription {
    /// The next event; `None` when the hub has cut it off.
    pub(super) async fn next(&mut self) -> Option<ObjectEvent> {
        loop {
            if let Some(event) = self.taken.next() {
                return Some(event);
            }
            let events = self.queue.recv().await?;
            self.take(events);
        }
    }

    /// What is there already.
    pub(super) fn try_next(&mut self) -> Option<ObjectEvent> {
        if let Some(event) = self.taken.next() {
            return Some(event);
        }
        let events = self.queue.try_recv().ok()?;
        self.take(events);
        self.taken.next()
    }

    fn take(&mut self, events: Vec<ObjectEvent>) {
        self.behind.fetch_sub(events.len(), Ordering::Relaxed);
        self.taken = events.into_iter();
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.taken.len() == 0 && self.queue.is_empty()
    }

    /// Whether it ended because it was too slow.
    pub(super) fn is_lagging(&self) -> bool {
        self.ended.lagging.load(Ordering::Acquire)
    }

    /// Whether it ended because its resource went, or changed.
    pub(super) fn is_over(&self) -> bool {
        self.ended.orderly.load(Ordering::Acquire)
    }
}

/// One resource's watchers.
#[derive(Default)]
struct Watchers {
    everything: Vec<Watcher>,
    by_field: BTreeMap<usize, BTreeMap<String, Vec<Watcher>>>,
}

impl Watchers {
    fn tell(&mut self, changes: &[&Telling<'_>]) {
        self.everything.retain(|watcher| watcher.tell(changes));
        for (field, buckets) in &mut self.by_field {
            let mut touched: BTreeMap<&str, Vec<&Telling<'_>>> = BTreeMap::new();
            for telling in changes {
                let before = telling.change.previous.as_ref().and_then(|entry| entry.field_at(*field));
                let now = telling.change.current.as_ref().and_then(|entry| entry.field_at(*field));
                for value in before.into_iter().chain(now.filter(|_| before != now)) {
                    if buckets.contains_key(value) {
                        touched.entry(value).or_default().push(telling);
                    }
                }
            }
            for (value, changes) in touched {
                let Some(bucket) = buckets.get_mut(value) else { continue };
                bucket.retain(|watcher| watcher.tell(&changes));
                if bucket.is_empty() {
                    buckets.remove(value);
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
        let (sender, queue) = mpsc::unbounded_channel();
        let (behind, ended) = (Arc::<AtomicUsize>::default(), Arc::<Ended>::default());
        let only = interest.only.clone();
        let watcher = Watcher { interest, queue: sender, capacity, behind: behind.clone(), ended: ended.clone() };
        let watchers = self.resources.entry(resource).or_default();
        match only {
            None => watchers.everything.push(watcher),
            Some((field, value)) => {
                watchers.by_field.entry(field).or_default().entry(value).or_default().push(watcher);
            }
        }
        Subscription { queue, taken: Vec::new().into_iter(), behind, ended }
    }

    /// Hands out a batch of changes, in their order.
    pub(super) fn tell(&mut self, changes: &[(ResourceId, Arc<Change>)]) {
        let mut by_resource: BTreeMap<ResourceId, Vec<Telling<'_>>> = BTreeMap::new();
        for (resource, change) in changes {
            if self.resources.contains_key(resource) {
                by_resource.entry(*resource).or_default().push(Telling { change, frames: Arc::default() });
            }
        }
        for (resource, changes) in by_resource {
            if let Some(watchers) = self.resources.get_mut(&resource) {
                watchers.tell(&changes.iter().collect::<Vec<_>>());
            }
        }
    }

    /// Cuts off everybody who watches this resource: what they saw does not lead on to what comes.
    pub(super) fn cut(&mut self, resource: ResourceId) {
        self.resources.remove(&resource);
    }

    /// Ends everybody's watch of this resource in good order.
    pub(super) fn end(&mut self, resource: ResourceId) {
        let Some(watchers) = self.resources.remove(&resource) else { return };
        let bucketed = watchers.by_field.values().flat_map(BTreeMap::values).flatten();
        for watcher in watchers.everything.iter().chain(bucketed) {
            watcher.ended.orderly.store(true, Ordering::Release);
        }
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
