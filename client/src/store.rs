//! A store: what an informer knows, for many readers.
//!
//! Readers take a read lock for as long as it takes to clone a pointer; [`Store::snapshot`] gives a whole consistent
//! state in constant time. Only the informer writes: first the objects, then it tells its handler, then it moves
//! [`Store::revision`] on. So whoever has waited for a revision finds objects *and* handlers' doings up to date.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Bound;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use async_trait::async_trait;
use imbl::OrdMap;
use skiff_proto::skiffv1::ObjectRef;
use skiff_world::Task;
use skiff_world::mutants::{Mutant, is_awake};
use skiff_world::watch;

use crate::driver::settled::View;
use crate::key::{ObjectKey, Resource};
use crate::queue::Trigger;

/// One object that a store holds.
#[derive(Debug)]
pub struct Held<O> {
    /// Its uid.
    pub uid: Arc<str>,
    /// Its revision.
    pub revision: u64,
    /// What is kept of it.
    pub value: Arc<O>,
}

impl<O> Clone for Held<O> {
    fn clone(&self) -> Self {
        Held { uid: self.uid.clone(), revision: self.revision, value: self.value.clone() }
    }
}

/// What became of one object: it came (only `new`), changed (both) or went (only `old`).
/// A name that was deleted and made again is two changes.
#[derive(Debug)]
pub struct Change<O> {
    /// The object, at the revision of this change.
    pub object: ObjectRef,
    /// What was known before.
    pub old: Option<Arc<O>>,
    /// What is known now.
    pub new: Option<Arc<O>>,
}

impl<O> Change<O> {
    /// The object's key.
    pub fn key(&self) -> ObjectKey {
        ObjectKey::new(self.object.namespace.as_str(), self.object.name.as_str())
    }

    /// What it is now, or last was.
    pub fn latest(&self) -> &Arc<O> {
        // One of the two is always there: nothing makes a change of nothing.
        self.new.as_ref().or(self.old.as_ref()).expect("a change has an old or a new state")
    }

    /// Whether the object is gone.
    pub fn is_deletion(&self) -> bool {
        self.new.is_none()
    }

    /// This change as the reason for which a key is queued.
    pub fn trigger(&self) -> Trigger {
        Trigger::Object(self.object.clone())
    }
}

/// Gives the values under which an index finds an object.
pub type IndexFn<O> = Arc<dyn Fn(&ObjectKey, &O) -> Vec<String> + Send + Sync>;

/// What an informer knows; clones are the same store.
pub struct Store<O> {
    shared: Arc<Shared<O>>,
}

impl<O> Clone for Store<O> {
    fn clone(&self) -> Self {
        Store { shared: self.shared.clone() }
    }
}

struct Shared<O> {
    resource: Resource,
    /// Only objects of this namespace; empty for all.
    namespace: String,
    /// Whether a selector leaves objects out.
    selective: bool,
    state: RwLock<State<O>>,
    progress: watch::Sender<Progress>,
    /// How often a list was asked for.
    asked: watch::Sender<u64>,
    /// When something was last heard for it, in milliseconds since 1970.
    heard: AtomicI64,
    informer: Mutex<Option<Task>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Progress {
    synced: bool,
    revision: u64,
    /// How many of the lists that were asked for it shows.
    renewed: u64,
    ended: bool,
}

struct State<O> {
    objects: OrdMap<ObjectKey, Held<O>>,
    indexes: BTreeMap<String, Index<O>>,
}

struct Index<O> {
    values: IndexFn<O>,
    keys: BTreeMap<String, BTreeSet<ObjectKey>>,
}

impl<O: Send + Sync + 'static> Store<O> {
    pub(crate) fn new(
        resource: Resource,
        namespace: &str,
        selective: bool,
        indexes: Vec<(String, IndexFn<O>)>,
    ) -> Store<O> {
        let indexes = indexes.into_iter().map(|(name, values)| (name, Index { values, keys: BTreeMap::new() }));
        let shared = Shared {
            resource,
            namespace: namespace.to_string(),
            selective,
            state: RwLock::new(State { objects: OrdMap::new(), indexes: indexes.collect() }),
            progress: watch::Sender::new(Progress::default()),
            asked: watch::Sender::new(0),
            heard: AtomicI64::new(0),
            informer: Mutex::new(None),
        };
        Store { shared: Arc::new(shared) }
    }

    /// A store without an informer, for tests of what reads it: filled by [`Store::put`] and [`Store::remove`].
    pub fn detached(resource: Resource, indexes: Vec<(String, IndexFn<O>)>) -> Store<O> {
        let store = Store::new(resource, "", false, indexes);
        store.advance(0, true);
        store
    }

    /// The object of this name.
    pub fn get(&self, key: &ObjectKey) -> Option<Arc<O>> {
        self.read().objects.get(key).map(|held| held.value.clone())
    }

    /// The object of this name, with its uid and revision.
    pub fn held(&self, key: &ObjectKey) -> Option<Held<O>> {
        self.read().objects.get(key).cloned()
    }

    /// The object of this name as a plan's input: which version of it was looked at.
    pub fn reference(&self, key: &ObjectKey) -> Option<ObjectRef> {
        let held = self.held(key)?;
        Some(self.shared.reference(key, &held.uid, held.revision))
    }

    /// All objects, in the order of their keys.
    pub fn list(&self) -> Vec<Arc<O>> {
        self.read().objects.values().map(|held| held.value.clone()).collect()
    }

    /// The objects of one namespace, in the order of their names.
    pub fn in_namespace(&self, namespace: &str) -> Vec<Arc<O>> {
        let state = self.read();
        let first = ObjectKey::new(namespace, "");
        let from = state.objects.range((Bound::Included(first), Bound::Unbounded));
        from.take_while(|(key, _)| key.namespace == namespace).map(|(_, held)| held.value.clone()).collect()
    }

    /// The keys of all objects.
    pub fn keys(&self) -> Vec<ObjectKey> {
        self.read().objects.keys().cloned().collect()
    }

    /// The objects that the index has under `value`, in the order of their keys.
    /// Nothing if there is no such index.
    pub fn by_index(&self, index: &str, value: &str) -> Vec<Arc<O>> {
        let state = self.read();
        let keys = state.indexes.get(index).and_then(|index| index.keys.get(value));
        keys.into_iter().flatten().filter_map(|key| state.objects.get(key)).map(|held| held.value.clone()).collect()
    }

    /// Their keys alone.
    pub fn keys_by_index(&self, index: &str, value: &str) -> Vec<ObjectKey> {
        let state = self.read();
        let keys = state.indexes.get(index).and_then(|index| index.keys.get(value));
        keys.into_iter().flatten().cloned().collect()
    }

    /// The values under which an index has any objects.
    pub fn index_values(&self, index: &str) -> Vec<String> {
        self.read().indexes.get(index).map(|index| index.keys.keys().cloned().collect()).unwrap_or_default()
    }

    /// Everything as it is now; later changes don't show in it. Takes constant time.
    pub fn snapshot(&self) -> OrdMap<ObjectKey, Held<O>> {
        self.read().objects.clone()
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.read().objects.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The resource that this is a store of.
    pub fn resource(&self) -> &Resource {
        &self.shared.resource
    }

    /// Up to which revision everything is in here; 0 before the first list.
    pub fn revision(&self) -> u64 {
        self.shared.progress.borrow().revision
    }

    /// Whether the first list is in here.
    pub fn is_synced(&self) -> bool {
        self.shared.progress.borrow().synced
    }

    /// The API server has been heard: what is in here is true as of now.
    pub(crate) fn heard(&self, now: jiff::Timestamp) {
        self.shared.heard.store(now.as_millisecond(), Ordering::Relaxed);
    }

    /// Waits until the first list is in here. (For ever, if the informer is stopped before.)
    pub async fn synced(&self) {
        let mut progress = self.shared.progress.subscribe();
        // The sender lives in `self`.
        let _ = progress.wait_for(|p| p.synced).await;
    }

    /// Waits until everything up to `revision` is in here; false if the informer ended before.
    pub async fn wait_for_revision(&self, revision: u64) -> bool {
        self.shared.wait_for(|progress| progress.revision >= revision).await
    }

    /// Ends the informer. What is known stays.
    pub fn stop(&self) {
        if let Some(task) = self.shared.informer.lock().unwrap_or_else(PoisonError::into_inner).take() {
            task.abort();
        }
        self.shared.progress.send_modify(|p| p.ended = true);
    }

    pub(crate) fn fed_by(&self, informer: Task) {
        *self.shared.informer.lock().unwrap_or_else(PoisonError::into_inner) = Some(informer);
    }

    pub(crate) fn view(&self) -> std::sync::Weak<dyn View> {
        let view: Arc<dyn View> = self.shared.clone();
        Arc::downgrade(&view)
    }

    fn read(&self) -> RwLockReadGuard<'_, State<O>> {
        self.shared.read()
    }

    fn write(&self) -> RwLockWriteGuard<'_, State<O>> {
        self.shared.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<O: PartialEq + Send + Sync + 'static> Store<O> {
    /// Takes in one object as of `held.revision`. No change if nothing that is kept has changed, or if it is older
    /// than what is here.
    pub fn put(&self, key: ObjectKey, held: Held<O>) -> Vec<Change<O>> {
        let mut state = self.write();
        let old = state.objects.get(&key).cloned();
        let shared = &self.shared;
        let now = |held: &Held<O>| shared.reference(&key, &held.uid, held.revision);
        let mut changes = Vec::new();
        match old {
            // Revisions are totally ordered, across names and lives.
            Some(old) if old.revision >= held.revision => return changes,
            Some(old) if old.uid == held.uid || is_awake(Mutant::MissedInBetween) => {
                if old.value == held.value {
                    // Kept all the same: the revision is an input of plans.
                    let held = Held { value: old.value, ..held };
                    state.objects.insert(key, held);
                    return changes;
                }
                state.unindex(&key, &old.value);
                changes.push(Change { object: now(&held), old: Some(old.value), new: Some(held.value.clone()) });
            }
            Some(old) => {
                // Deleted and made again, and the deletion went unseen.
                state.unindex(&key, &old.value);
                let gone = shared.reference(&key, &old.uid, held.revision);
                changes.push(Change { object: gone, old: Some(old.value), new: None });
                changes.push(Change { object: now(&held), old: None, new: Some(held.value.clone()) });
            }
            None => changes.push(Change { object: now(&held), old: None, new: Some(held.value.clone()) }),
        }
        state.index(&key, &held.value);
        state.objects.insert(key, held);
        changes
    }

    /// Takes out one object, deleted (or no longer selected) at `revision`.
    pub fn remove(&self, key: &ObjectKey, revision: u64) -> Option<Change<O>> {
        let mut state = self.write();
        if state.objects.get(key)?.revision > revision {
            return None;
        }
        let old = state.objects.remove(key)?;
        state.unindex(key, &old.value);
        let object = self.shared.reference(key, &old.uid, revision);
        Some(Change { object, old: Some(old.value), new: None })
    }

    /// Takes a list for everything there is at `revision`: what is not in it is deleted.
    pub(crate) fn replace(&self, items: Vec<(ObjectKey, Held<O>)>, revision: u64) -> Vec<Change<O>> {
        // If history has gone back (a restored store), nothing that is here says anything about what is there.
        let backwards = revision < self.revision();
        let listed: BTreeSet<&ObjectKey> = items.iter().map(|(key, _)| key).collect();
        let gone: Vec<ObjectKey> = self.keys().into_iter().filter(|key| backwards || !listed.contains(key)).collect();
        let until = if backwards { u64::MAX } else { revision };
        let gone = if is_awake(Mutant::DeleteLostInGap) { Vec::new() } else { gone };
        let mut changes: Vec<_> = gone.iter().filter_map(|key| self.remove(key, until)).collect();
        changes.extend(items.into_iter().flat_map(|(key, held)| self.put(key, held)));
        changes
    }
}

impl<O> Store<O> {
    /// Says that everything up to `revision` is here and has been told to the handler.
    pub(crate) fn advance(&self, revision: u64, synced: bool) {
        self.shared.progress.send_if_modified(|progress| {
            let next = Progress { synced: progress.synced || synced, revision, ..*progress };
            std::mem::replace(progress, next) != next
        });
    }

    /// How often a list has been asked for: what a list that begins now will show.
    pub(crate) fn asked(&self) -> u64 {
        *self.shared.asked.borrow()
    }

    /// Says that a list that began when so many had been asked for is here.
    pub(crate) fn renewed(&self, number: u64) {
        self.shared.progress.send_if_modified(|progress| std::mem::replace(&mut progress.renewed, number) != number);
    }

    /// Waits until a list is asked for that is not here.
    pub(crate) async fn doubted(&self) {
        let renewed = self.shared.progress.borrow().renewed;
        // The sender lives in `self`.
        let _ = self.shared.asked.subscribe().wait_for(|asked| *asked > renewed).await;
    }
}

impl<O> State<O> {
    fn index(&mut self, key: &ObjectKey, value: &O) {
        for index in self.indexes.values_mut() {
            for value in (index.values)(key, value) {
                index.keys.entry(value).or_default().insert(key.clone());
            }
        }
    }

    fn unindex(&mut self, key: &ObjectKey, value: &O) {
        for index in self.indexes.values_mut() {
            for value in (index.values)(key, value) {
                if let Some(keys) = index.keys.get_mut(&value) {
                    keys.remove(key);
                    if keys.is_empty() {
                        index.keys.remove(&value);
                    }
                }
            }
        }
    }
}

impl<O> Shared<O> {
    fn read(&self) -> RwLockReadGuard<'_, State<O>> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn reference(&self, key: &ObjectKey, uid: &str, revision: u64) -> ObjectRef {
        ObjectRef {
            resource: self.resource.resource.to_string(),
            group: self.resource.group.to_string(),
            namespace: key.namespace.clone(),
            name: key.name.clone(),
            uid: uid.to_string(),
            revision,
        }
    }

    /// Whether it gets there: false when its informer has ended before.
    async fn wait_for(&self, there: impl Fn(&Progress) -> bool + Send) -> bool {
        let mut progress = self.progress.subscribe();
        match progress.wait_for(|p| there(p) || p.ended).await {
            Ok(progress) => there(&progress),
            Err(_) => false,
        }
    }
}

#[async_trait]
impl<O: Send + Sync> View for Shared<O> {
    fn awaits(&self, object: &ObjectKey) -> bool {
        if self.progress.borrow().ended {
            return false;
        }
        if !self.namespace.is_empty() && self.namespace != object.namespace {
            return false;
        }
        !self.selective || self.read().objects.contains_key(object)
    }

    fn revision(&self) -> u64 {
        self.progress.borrow().revision
    }

    fn heard(&self) -> f64 {
        self.heard.load(Ordering::Relaxed) as f64 / 1000.0
    }

    fn is_whole(&self) -> bool {
        self.namespace.is_empty() && !self.selective
    }

    async fn reached(&self, revision: u64) -> bool {
        self.wait_for(|progress| progress.revision >= revision).await
    }

    fn renew(&self) -> u64 {
        self.asked.send_modify(|asked| *asked += 1);
        *self.asked.borrow()
    }

    async fn renewed(&self, number: u64) -> bool {
        self.wait_for(|progress| progress.renewed >= number).await
    }
}

impl<O> fmt::Debug for Store<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("resource", &self.shared.resource.to_string())
            .field("objects", &self.shared.read().objects.len())
            .field("progress", &*self.shared.progress.borrow())
            .finish()
    }
}

#[cfg(test)]
mod tests;
