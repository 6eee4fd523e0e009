//! Events: what happened to an object, told to people.
//!
//! - Recording never waits and never fails: what cannot be told is dropped and counted.
//! - The same thing again is the same Event with a higher count, written at most once a second.
//! - Of things that differ in their words alone, the tenth and all further ones are one Event (`similar.rs`).
//! - An object that something keeps happening to gets a burst of [`BURST`] different Events, then one a minute.

mod similar;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::json;
use skiff_proto::Kind;
use skiff_proto::corev1::{Event, EventSource, ObjectReference};
use skiff_proto::metav1::{ObjectMeta, Time};
use skiff_world::World;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::api::{Api, Patch};
use crate::client::Client;
use crate::error::{Error, Retry};
use crate::queue::Backoff;

/// How many different Events an object may have in a burst.
pub const BURST: u32 = 25;
const REFILL: Duration = Duration::from_secs(60);
/// How many different Events are remembered at most.
const REMEMBERED: usize = 4096;
/// Something that happens again after so long is a new Event.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(600);
const REWRITE_AFTER: Duration = Duration::from_secs(1);
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(30));
const TRIES: u32 = 10;

/// `Normal`: it went as it should.
pub const NORMAL: &str = "Normal";
/// `Warning`: somebody may have to look.
pub const WARNING: &str = "Warning";

/// The reference to an object that an Event needs.
pub fn reference<K: Kind>(object: &K) -> ObjectReference {
    let metadata = object.metadata();
    let group = if K::GROUP.is_empty() { String::new() } else { format!("{}/", K::GROUP) };
    ObjectReference {
        kind: K::KIND.to_string(),
        api_version: format!("{group}{}", K::VERSION),
        namespace: metadata.namespace.clone(),
        name: metadata.name.clone(),
        uid: metadata.uid.clone(),
        resource_version: metadata.resource_version.clone(),
        ..ObjectReference::default()
    }
}

/// Tells people what happened. Clones are the same recorder.
#[derive(Clone)]
pub struct EventRecorder {
    shared: Arc<Shared>,
}

struct Shared {
    world: World,
    api: Api<Event>,
    component: String,
    host: String,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    entries: BTreeMap<Id, Entry>,
    /// Which entries are to be written, in order.
    dirty: VecDeque<Id>,
    budgets: BTreeMap<Involved, Budget>,
    similar: similar::Similar,
    dropped: u64,
}

/// What makes two happenings the same Event.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Id {
    involved: Involved,
    kind: String,
    reason: String,
    message: String,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Involved {
    kind: String,
    namespace: String,
    name: String,
    uid: String,
    field_path: String,
}

struct Entry {
    involved: ObjectReference,
    /// What is told; of an Event that stands for several, the newest.
    message: String,
    /// The Event's name, once it has been created.
    name: Option<String>,
    count: i32,
    first: jiff::Timestamp,
    last: jiff::Timestamp,
    last_seen: Instant,
    not_before: Instant,
    dirty: bool,
    failures: u32,
}

struct Budget {
    left: u32,
    refilled: Instant,
}

impl EventRecorder {
    /// A recorder for a component (`kubelet`) on a host (a node's name, or empty).
    pub fn new(world: &World, client: &Client, component: &str, host: &str) -> EventRecorder {
        let shared = Arc::new(Shared {
            world: world.clone(),
            api: Api::new(client),
            component: component.to_string(),
            host: host.to_string(),
            state: Mutex::default(),
            changed: Notify::new(),
        });
        world.spawn("events", write_all(shared.clone()));
        EventRecorder { shared }
    }

    /// Records that something happened to an object. `kind` is [`NORMAL`] or [`WARNING`]; `reason` is a word like
    /// `FailedScheduling`.
    pub fn record(&self, involved: &ObjectReference, kind: &str, reason: &str, message: &str) {
        let (now, wall) = (self.shared.world.now(), self.shared.world.wall());
        let id = Id::of(involved, kind, reason, message);
        if self.shared.lock().note(id, involved, now, wall) {
            self.shared.changed.notify_one();
        }
    }

    /// Records something ordinary.
    pub fn normal(&self, involved: &ObjectReference, reason: &str, message: &str) {
        self.record(involved, NORMAL, reason, message);
    }

    /// Records something that somebody may have to look at.
    pub fn warning(&self, involved: &ObjectReference, reason: &str, message: &str) {
        self.record(involved, WARNING, reason, message);
    }

    /// How many happenings were not told.
    pub fn dropped(&self) -> u64 {
        self.shared.lock().dropped
    }

    /// Waits until everything recorded so far is written or given up (for the end of a process, with a timeout).
    pub async fn flushed(&self) {
        while !self.shared.lock().dirty.is_empty() {
            self.shared.world.sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Id {
    fn of(involved: &ObjectReference, kind: &str, reason: &str, message: &str) -> Id {
        let involved = Involved {
            kind: involved.kind.clone(),
            namespace: involved.namespace.clone(),
            name: involved.name.clone(),
            uid: involved.uid.clone(),
            field_path: involved.field_path.clone(),
        };
        Id { involved, kind: kind.to_string(), reason: reason.to_string(), message: shortened(message.to_string()) }
    }
}

/// At most as long as the API takes it.
fn shortened(mut message: String) -> String {
    let fits = message.floor_char_boundary(1024);
    message.truncate(fits);
    message
}

impl State {
    /// Counts a happening; whether there is something to write.
    fn note(&mut self, id: Id, involved: &ObjectReference, now: Instant, wall: jiff::Timestamp) -> bool {
        let said = id.message.clone();
        let id = self.similar.place(id, now);
        // Kubernetes refuses messages of more than 1,024 bytes.
        let combined = id.message == similar::COMBINED;
        let message = shortened(if combined { format!("{}{said}", similar::COMBINED) } else { said });
        let old = |entry: &Entry| now.saturating_duration_since(entry.last_seen) >= FORGOTTEN_AFTER;
        if self.entries.get(&id).is_some_and(|entry| old(entry) && !entry.dirty) {
            self.entries.remove(&id);
        }
        if !self.entries.contains_key(&id) {
            if self.entries.len() >= REMEMBERED {
                self.entries.retain(|_, entry| entry.dirty || !old(entry));
                self.budgets.retain(|_, budget| now.saturating_duration_since(budget.refilled) < FORGOTTEN_AFTER);
            }
            if self.entries.len() >= REMEMBERED || !self.spend(&id.involved, now) {
                self.dropped += 1;
                return false;
            }
        }
        let entry = self.entries.entry(id.clone()).or_insert_with(|| Entry {
            involved: involved.clone(),
            message: String::new(),
            name: None,
            count: 0,
            first: wall,
            last: wall,
            last_seen: now,
            not_before: now,
            dirty: false,
            failures: 0,
        });
        entry.count = entry.count.saturating_add(1);
        entry.message = message;
        (entry.last, entry.last_seen) = (wall, now);
        if !std::mem::replace(&mut entry.dirty, true) {
            self.dirty.push_back(id);
            return true;
        }
        false
    }

    fn spend(&mut self, involved: &Involved, now: Instant) -> bool {
        let budget = self.budgets.entry(involved.clone()).or_insert(Budget { left: BURST, refilled: now });
        let earned = now.saturating_duration_since(budget.refilled).as_secs() / REFILL.as_secs();
        if earned > 0 {
            budget.left = budget.left.saturating_add(u32::try_from(earned).unwrap_or(BURST)).min(BURST);
            budget.refilled = now;
        }
        if budget.left == 0 {
            return false;
        }
        budget.left -= 1;
        true
    }

    /// The first entry that may be written now; otherwise when one may.
    fn due(&mut self, now: Instant) -> Result<Id, Option<Instant>> {
        let times = self.dirty.iter().map(|id| self.entries.get(id).map_or(now, |entry| entry.not_before));
        let Some((at, time)) = times.enumerate().min_by_key(|(at, time)| ((*time).max(now), *at)) else {
            return Err(None);
        };
        if time > now {
            return Err(Some(time));
        }
        self.dirty.remove(at).ok_or(None)
    }
}

async fn write_all(shared: Arc<Shared>) {
    loop {
        let changed = shared.changed.notified();
        let due = shared.lock().due(shared.world.now());
        match due {
            Err(None) => changed.await,
            Err(Some(time)) => {
                // Either way it looks again.
                let _ = tokio::time::timeout_at(time, changed).await;
            }
            Ok(id) => shared.write(&id).await,
        }
    }
}

impl Shared {
    async fn write(&self, id: &Id) {
        let Some(draft) = self.draft(id) else { return };
        let namespace = draft.metadata.namespace.clone();
        let result = if draft.metadata.name.is_empty() {
            let suffix = self.world.random_suffix(16);
            // A name is at most 253 characters long, also with the suffix.
            let base: String = id.involved.name.chars().take(236).collect();
            let metadata = ObjectMeta { name: format!("{base}.{suffix}"), ..draft.metadata };
            self.api.create(&Event { metadata, ..draft }).await
        } else {
            let patch = json!({"count": draft.count, "lastTimestamp": draft.last_timestamp, "message": draft.message});
            self.api.patch(&namespace, &draft.metadata.name, Patch::Merge(patch), None).await
        };
        self.written(id, result.map(|event| event.metadata.name));
    }

    /// The Event as it should be now; without a name if it has to be created.
    fn draft(&self, id: &Id) -> Option<Event> {
        let mut state = self.lock();
        let entry = state.entries.get_mut(id)?;
        // What happens from here on is for the next write.
        entry.dirty = false;
        let namespace = if id.involved.namespace.is_empty() { "default" } else { &id.involved.namespace };
        Some(Event {
            metadata: ObjectMeta {
                namespace: namespace.to_string(),
                name: entry.name.clone().unwrap_or_default(),
                ..ObjectMeta::default()
            },
            involved_object: entry.involved.clone(),
            reason: id.reason.clone(),
            message: entry.message.clone(),
            source: EventSource { component: self.component.clone(), host: self.host.clone() },
            first_timestamp: Some(Time::from(entry.first)),
            last_timestamp: Some(Time::from(entry.last)),
            count: entry.count,
            r#type: id.kind.clone(),
            reporting_component: self.component.clone(),
            reporting_instance: self.host.clone(),
            ..Event::default()
        })
    }

    fn written(&self, id: &Id, result: Result<String, Error>) {
        let now = self.world.now();
        let mut state = self.lock();
        let State { entries, dirty, dropped, .. } = &mut *state;
        let Some(entry) = entries.get_mut(id) else {
            return;
        };
        entry.not_before = now + REWRITE_AFTER;
        let error = match result {
            Ok(name) => {
                (entry.name, entry.failures) = (Some(name), 0);
                return;
            }
            Err(error) => error,
        };
        entry.failures += 1;
        // It has been deleted, or its time was over: a new one.
        let vanished = error.is_not_found() && entry.name.take().is_some();
        if vanished || (error.retry() != Retry::Never && entry.failures < TRIES) {
            entry.not_before = now + BACKOFF.jittered(entry.failures, &self.world);
            if !std::mem::replace(&mut entry.dirty, true) {
                dirty.push_back(id.clone());
            }
            return;
        }
        tracing::debug!(%error, reason = id.reason, message = id.message, "an event could not be told");
        *dropped += 1;
        if !entry.dirty {
            entries.remove(id);
        }
    }
}

#[cfg(test)]
mod tests;
