//! The cache's state: for each resource an ordered map that can be shared at any moment for nothing, and the last
//! changes. Pure: `feed` applies revisions, readers take snapshots.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use imbl::OrdMap;
use skiff_world::mutants::{Mutant, is_awake};

use super::entry::{CachedResource, Entry, HISTORY, StoredState};
use crate::store::{self, Event, EventKind, ROOT, Revision, StoreError, resource_prefix};

/// A resource's objects at one moment.
pub(super) type Objects = OrdMap<Bytes, Arc<Entry>>;

/// Names a registered resource; cheap to copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ResourceId(pub(super) usize);

/// Who sees a resource's objects in the same step in which the cache does: under its lock, so it must be quick and must not
/// ask the cache.
pub trait Observer: Send + Sync + 'static {
    /// These are all objects; whatever was seen before is over.
    fn reset(&self, objects: &mut dyn Iterator<Item = &Arc<Entry>>);
    /// One object was made, has changed or is gone.
    fn changed(&self, previous: Option<&Entry>, current: Option<&Entry>);
}

/// What happened to one object in one revision.
pub(super) struct Change {
    pub(super) revision: u64,
    pub(super) previous: Option<Arc<Entry>>,
    pub(super) current: Option<Arc<Entry>>,
    last_seen: OnceLock<Arc<Entry>>,
}

impl Change {
    /// The object before, under this change's revision: what a DELETED event shows. `None` for a creation.
    pub(super) fn last_seen(&self) -> Option<Arc<Entry>> {
        let previous = self.previous.as_ref()?;
        if is_awake(Mutant::OldDelete) {
            return Some(previous.clone());
        }
        Some(self.last_seen.get_or_init(|| Arc::new(previous.last_seen_at(self.revision))).clone())
    }

    fn key(&self) -> Option<&Bytes> {
        self.current.as_ref().or(self.previous.as_ref()).map(|entry| entry.key_bytes())
    }

    fn weight(&self) -> usize {
        self.previous.iter().chain(&self.current).map(|entry| entry.weight()).sum()
    }
}

/// About how much memory one resource's history may hold on to.
const HISTORY_BYTES: usize = 4 << 20;

/// One resource.
pub(super) struct ResourceState {
    registered: Option<Arc<CachedResource>>,
    observer: Option<Arc<dyn Observer>>,
    objects: Objects,
    changes: VecDeque<Arc<Change>>,
    changes_weight: usize,
    /// Every change above this revision is in `changes`.
    floor: u64,
}

impl ResourceState {
    fn new(floor: u64) -> ResourceState {
        let (registered, observer) = (None, None);
        ResourceState {
            registered,
            observer,
            objects: Objects::new(),
            changes: VecDeque::new(),
            changes_weight: 0,
            floor,
        }
    }

    pub(super) fn registered(&self) -> Option<&Arc<CachedResource>> {
        self.registered.as_ref()
    }

    pub(super) fn objects(&self) -> &Objects {
        &self.objects
    }

    /// The revision of the last change that is known of; of a resource that was only ever read whole, its newest object's.
    pub(super) fn last_change(&self) -> u64 {
        let newest = || self.objects.values().map(|entry| entry.mod_revision).max().unwrap_or(0);
        self.changes.back().map_or_else(newest, |change| change.revision)
    }

    pub(super) fn floor(&self) -> u64 {
        self.floor
    }

    /// The changes above `after`, oldest first.
    pub(super) fn since(&self, after: u64) -> impl Iterator<Item = &Arc<Change>> {
        let first = self.changes.partition_point(|change| change.revision <= after);
        self.changes.range(first..)
    }

    /// The objects as they were at `revision`, which must not be below the floor: the changes since, undone.
    pub(super) fn objects_at(&self, revision: u64) -> Objects {
        let mut objects = self.objects.clone();
        for change in self.changes.iter().rev().take_while(|change| change.revision > revision) {
            let Some(key) = change.key() else { continue };
            match &change.previous {
                Some(previous) => objects.insert(key.clone(), previous.clone()),
                None => objects.remove(key),
            };
        }
        objects
    }

    /// Indexes everything anew. An entry that is in the map and in the history stays one.
    fn register(&mut self, resource: Arc<CachedResource>) {
        let mut indexed: BTreeMap<(Bytes, u64), Arc<Entry>> = BTreeMap::new();
        let mut index = |entry: &Arc<Entry>| {
            let id = (entry.key_bytes().clone(), entry.mod_revision);
            indexed.entry(id).or_insert_with(|| Arc::new(entry.registered(&resource))).clone()
        };
        self.objects = self.objects.iter().map(|(key, entry)| (key.clone(), index(entry))).collect();
        for change in &mut self.changes {
            let (previous, current) =
                (change.previous.as_ref().map(&mut index), change.current.as_ref().map(&mut index));
            *change = Arc::new(Change { revision: change.revision, previous, current, last_seen: OnceLock::new() });
        }
        self.registered = Some(resource);
    }

    fn show_all(&self) {
        if let Some(observer) = &self.observer {
            observer.reset(&mut self.objects.values());
        }
    }

    fn put(&mut self, revision: u64, entry: Entry) -> Arc<Change> {
        let entry = Arc::new(entry);
        let previous = self.objects.insert(entry.key_bytes().clone(), entry.clone());
        self.remember(revision, previous, Some(entry))
    }

    /// The object as this cache last saw it goes; an unknown key has nobody to tell.
    fn delete(&mut self, revision: u64, key: &Bytes) -> Option<Arc<Change>> {
        let previous = self.objects.remove(key)?;
        Some(self.remember(revision, Some(previous), None))
    }

    fn remember(&mut self, revision: u64, previous: Option<Arc<Entry>>, current: Option<Arc<Entry>>) -> Arc<Change> {
        let change = Arc::new(Change { revision, previous, current, last_seen: OnceLock::new() });
        if let Some(observer) = &self.observer {
            observer.changed(change.previous.as_deref(), change.current.as_deref());
        }
        self.changes_weight += change.weight();
        self.changes.push_back(change.clone());
        let limit = self.registered.as_ref().map_or(HISTORY, |resource| resource.history);
        while self.changes.len() > limit || self.changes_weight > HISTORY_BYTES {
            let Some(oldest) = self.changes.pop_front() else { break };
            self.changes_weight -= oldest.weight();
            self.floor = oldest.revision;
        }
        change
    }
}

/// Everything.
pub(super) struct State {
    revision: u64,
    by_prefix: BTreeMap<Bytes, ResourceId>,
    resources: Vec<ResourceState>,
}

impl State {
    pub(super) fn new() -> State {
        State { revision: 0, by_prefix: BTreeMap::new(), resources: Vec::new() }
    }

    /// Every revision up to this one is in here.
    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    pub(super) fn resource(&self, id: ResourceId) -> Option<&ResourceState> {
        self.resources.get(id.0)
    }

    /// Makes a resource known, or known anew. Its objects may be here already, and what happened to them.
    pub(super) fn register(&mut self, resource: CachedResource) -> ResourceId {
        let id = self.id(&resource_prefix(&resource.group, &resource.resource, ""));
        self.resources[id.0].register(Arc::new(resource));
        id
    }

    /// Starts over from everything the store holds at `revision`. Registrations stay, history goes.
    pub(super) fn replace(&mut self, entries: Vec<store::Entry>, revision: u64) -> Result<(), StoreError> {
        for state in &mut self.resources {
            let (registered, observer) = (state.registered.take(), state.observer.take());
            *state = ResourceState { registered, observer, ..ResourceState::new(revision) };
        }
        self.revision = revision;
        for stored in entries {
            let Some((id, key)) = self.place(&stored.key) else { continue };
            let state = &mut self.resources[id.0];
            let found = StoredState {
                store_key: &stored.key,
                key: key.clone(),
                value: &stored.value,
                create_revision: stored.create_revision,
                mod_revision: stored.mod_revision,
            };
            let entry = Arc::new(Entry::read(found, state.registered.as_ref())?);
            state.objects.insert(key, entry);
        }
        self.resources.iter().for_each(ResourceState::show_all);
        Ok(())
    }

    /// Lets an observer see a resource's objects, and from now on every change of them.
    pub(super) fn observe(&mut self, id: ResourceId, observer: Arc<dyn Observer>) {
        if let Some(state) = self.resources.get_mut(id.0) {
            state.observer = Some(observer);
            state.show_all();
        }
    }

    /// Applies one whole revision; tells what changed for whom.
    pub(super) fn apply(&mut self, revision: &Revision) -> Result<Vec<(ResourceId, Arc<Change>)>, StoreError> {
        let mut changes = Vec::with_capacity(revision.events.len());
        for event in &revision.events {
            changes.extend(self.apply_event(revision.revision, event)?);
        }
        self.advance(revision.revision);
        Ok(changes)
    }

    /// Nothing of interest happened up to `revision`.
    pub(super) fn advance(&mut self, revision: u64) {
        self.revision = self.revision.max(revision);
    }

    fn apply_event(&mut self, revision: u64, event: &Event) -> Result<Option<(ResourceId, Arc<Change>)>, StoreError> {
        let Some((id, key)) = self.place(&event.key) else { return Ok(None) };
        let state = &mut self.resources[id.0];
        let change = match &event.kind {
            EventKind::Put { value, create_revision } => {
                let found = StoredState {
                    store_key: &event.key,
                    key,
                    value,
                    create_revision: *create_revision,
                    mod_revision: revision,
                };
                Some(state.put(revision, Entry::read(found, state.registered.as_ref())?))
            }
            EventKind::Delete { .. } => state.delete(revision, &key),
        };
        Ok(change.map(|change| (id, change)))
    }

    /// Whose key this is, and what is left of it. `None` for book-keeping and for what is no key of ours.
    fn place(&mut self, key: &Bytes) -> Option<(ResourceId, Bytes)> {
        if store::is_bookkeeping(key) || store::parse_key(key).is_err() {
            return None;
        }
        let segments = key.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        // Behind /skiff/, the group and the resource.
        let end = segments.skip(ROOT.matches('/').count()).nth(1)? + 1;
        Some((self.id(&key.slice(..end)), key.slice(end..)))
    }

    fn id(&mut self, prefix: &Bytes) -> ResourceId {
        if let Some(id) = self.by_prefix.get(prefix) {
            return *id;
        }
        let id = ResourceId(self.resources.len());
        self.resources.push(ResourceState::new(self.revision));
        self.by_prefix.insert(Bytes::copy_from_slice(prefix), id);
        id
    }
}
