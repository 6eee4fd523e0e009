//! The cache: what answers every read and feeds every watcher, from one watch over the whole store.
//!
//! ```text
//!   store ──one watch──> feed ──> state: per resource an ordered map and the last changes ──> get, list
//!                          │
//!                          ├──> hub ──> one bounded queue per watcher
//!                          └──> sinks (the recorder)
//! ```
//!
//! One watch means one order: the cache's revision is one number, a list at it leaves nothing out, and a watch from it
//! misses nothing. Objects stay encoded, and share their bytes with the store.

mod entry;
mod feed;
mod hub;
mod index;
mod state;
mod watch;

#[cfg(test)]
mod tests;

use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use bytes::Bytes;
use skiff_world::World;
use skiff_world::mutants::{Mutant, is_awake};
use skiff_world::watch as signal;

pub use entry::{CachedResource, Entry, HISTORY, ToJson};
pub use feed::RevisionSink;
pub use hub::{Filter, ObjectEvent, SharedFrame, WatchKind};
pub use index::{FieldIndexer, FieldKind, IndexError, Indexer, Meta, Packed, SelectableField};
pub use state::{Observer, ResourceId};
pub use watch::{Watch, WatchEvent};

use self::hub::{Hub, Interest};
use self::state::{Objects, ResourceState, State};
use crate::store::{Store, StoreError};

/// Events a watcher may be behind before it is cut off.
const WATCH_QUEUE: usize = 4_096;
/// After waiting so long for a revision, the store is asked to say how far it is: with a shared etcd, revisions may
/// belong to somebody else and never show up by themselves.
const NUDGE_AFTER: Duration = Duration::from_millis(100);

/// Why the cache cannot answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CacheError {
    /// The history asked for is forgotten, or the watcher cannot go on: list again.
    #[error("too old resource version: {asked} (the oldest that can be resumed from is {oldest})")]
    Expired {
        /// What was asked for.
        asked: u64,
        /// The oldest there is.
        oldest: u64,
    },
    /// A revision that the cache has not reached within the time given.
    #[error("too large resource version: {asked}, current: {current}")]
    Behind {
        /// What was asked for.
        asked: u64,
        /// Where the cache is.
        current: u64,
    },
    /// The watcher read too slowly: watch again from the last revision it saw.
    #[error("the watcher fell behind and was cut off: watch again from the last revision it saw")]
    Lagging,
    /// The resource went, or is another now: watch again from the last revision seen, if it is there.
    #[error("the resource that was watched has changed")]
    Ended,
    /// No such resource was registered.
    #[error("this resource is not in the cache")]
    UnknownResource,
    /// A selector names a field that the resource does not index.
    #[error("field label not supported: {0}")]
    UnknownField(String),
    /// The store cannot be followed any more.
    #[error("the cache cannot follow the store: {0}")]
    Store(StoreError),
}

/// Which objects a list wants.
#[derive(Clone, Default)]
pub struct ListOptions {
    /// One namespace; empty for all.
    pub namespace: String,
    /// Selectors.
    pub filter: Option<Filter>,
    /// Most entries in one page; 0: all.
    pub limit: usize,
    /// Goes on behind this key: `ListPage::next` of the page before.
    pub after_key: Option<String>,
    /// Shows the objects as they were at this revision; `None`: now.
    pub at: Option<u64>,
}

/// One page of a list.
#[derive(Debug, Clone)]
pub struct ListPage {
    /// In key order.
    pub entries: Vec<Arc<Entry>>,
    /// What the page shows; a watch from here leaves no gap.
    pub revision: u64,
    /// The last key of this page if more follow.
    pub next: Option<String>,
    /// How many follow; only known without a filter.
    pub remaining: Option<usize>,
}

/// Where a watch begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WatchFrom {
    /// ADDED for everything there is, a bookmark that says so, then what happens.
    State,
    /// What happens from now on.
    Now,
    /// Everything after this revision, which must not be in the future (`Cache::wait_until`).
    After(u64),
}

/// What a watch wants.
#[derive(Clone)]
pub struct WatchOptions {
    /// One namespace; empty for all.
    pub namespace: String,
    /// Selectors.
    pub filter: Option<Filter>,
    /// A field that must have one value, as in `spec.nodeName=node-1`: makes many such watchers cheap. It need not be
    /// in the filter too.
    pub only: Option<(String, String)>,
    /// Where it begins.
    pub from: WatchFrom,
    /// A bookmark comes when so much time has passed since the last one.
    pub bookmarks: Option<Duration>,
}

/// The cache. Cheap to clone.
#[derive(Clone)]
pub struct Cache {
    shared: Arc<Shared>,
}

struct Shared {
    world: World,
    store: Arc<dyn Store>,
    state: RwLock<State>,
    hub: Mutex<Hub>,
    progress: signal::Sender<Progress>,
}

/// How far the cache is.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Progress {
    revision: u64,
    /// Why it will get no further.
    failed: Option<StoreError>,
}

impl Shared {
    fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn state_mut(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Taken before the state's lock, by whoever takes both.
    fn hub(&self) -> MutexGuard<'_, Hub> {
        self.hub.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cache {
    /// Reads the store, catches up with it and follows it from then on. Resources can be registered before or after.
    pub async fn start(
        world: &World,
        store: Arc<dyn Store>,
        resources: Vec<CachedResource>,
        sinks: Vec<Arc<dyn RevisionSink>>,
    ) -> Result<Cache, CacheError> {
        let (progress, _) = signal::channel(Progress { revision: 0, failed: None });
        let shared = Arc::new(Shared {
            world: world.clone(),
            store,
            state: RwLock::new(State::new()),
            hub: Mutex::default(),
            progress,
        });
        let cache = Cache { shared };
        for resource in resources {
            cache.register(resource);
        }
        feed::start(&cache.shared, sinks).await.map_err(CacheError::Store)?;
        Ok(cache)
    }

    /// Makes a resource known, or replaces what is known of it; whoever watches it has to list again.
    pub fn register(&self, resource: CachedResource) -> ResourceId {
        let mut hub = self.shared.hub();
        let id = self.shared.state_mut().register(resource);
        hub.cut(id);
        id
    }

    /// Ends all watches of a resource, in good order.
    pub fn end_watches(&self, id: ResourceId) {
        self.shared.hub().end(id);
    }

    /// Lets somebody see a resource's objects in the same step in which the cache does; in place of whoever did before.
    pub fn observe(&self, resource: ResourceId, observer: Arc<dyn Observer>) {
        self.shared.state_mut().observe(resource, observer);
    }

    /// The newest revision that reads show.
    pub fn revision(&self) -> u64 {
        self.shared.progress.borrow().revision
    }

    /// An error if the cache has stopped following the store.
    pub fn health(&self) -> Result<(), CacheError> {
        self.shared.progress.borrow().failed.clone().map_or(Ok(()), |why| Err(CacheError::Store(why)))
    }

    /// Completes when the cache stops following the store for good, and says why.
    pub async fn failure(&self) -> CacheError {
        let mut progress = self.shared.progress.subscribe();
        match progress.wait_for(|progress| progress.failed.is_some()).await {
            Ok(progress) => CacheError::Store(progress.failed.clone().unwrap_or(StoreError::Closed)),
            Err(_) => CacheError::Store(StoreError::Closed),
        }
    }

    /// Waits until reads show at least `revision`.
    pub async fn wait_until(&self, revision: u64, patience: Duration) -> Result<(), CacheError> {
        let mut progress = self.shared.progress.subscribe();
        let nudge_after = NUDGE_AFTER.min(patience);
        for wait in [nudge_after, patience - nudge_after] {
            let reached = progress.wait_for(|progress| progress.revision >= revision || progress.failed.is_some());
            if let Ok(Ok(progress)) = tokio::time::timeout(wait, reached).await {
                return match &progress.failed {
                    Some(why) if progress.revision < revision => Err(CacheError::Store(why.clone())),
                    _ => Ok(()),
                };
            }
            if wait == nudge_after
                && let Err(why) = self.shared.store.progress().await
            {
                tracing::debug!(%why, "the store does not say how far it is");
            }
        }
        Err(CacheError::Behind { asked: revision, current: self.revision() })
    }

    /// Waits until reads show everything that was acknowledged before this call.
    pub async fn wait_until_fresh(&self, patience: Duration) -> Result<u64, CacheError> {
        let head = self.shared.store.head().await.map_err(CacheError::Store)?;
        self.wait_until(head, patience).await?;
        Ok(head)
    }

    /// One object, by `namespace/name` or `name`.
    pub fn get(&self, resource: ResourceId, namespace: &str, name: &str) -> Option<Arc<Entry>> {
        let key = if namespace.is_empty() {
            Bytes::copy_from_slice(name.as_bytes())
        } else {
            format!("{namespace}/{name}").into()
        };
        self.shared.state().resource(resource)?.objects().get(&key).cloned()
    }

    /// The last revision that changed an object of a resource.
    pub fn last_change(&self, resource: ResourceId) -> u64 {
        self.shared.state().resource(resource).map_or(0, |resource| resource.last_change())
    }

    /// How many objects a resource has.
    pub fn count(&self, resource: ResourceId) -> usize {
        self.shared.state().resource(resource).map_or(0, |resource| resource.objects().len())
    }

    /// One page of a list.
    pub fn list(&self, resource: ResourceId, options: &ListOptions) -> Result<ListPage, CacheError> {
        let (objects, revision) = self.objects(resource, options.at)?;
        // From here on the lock is free: the map is ours, and shares everything with the cache's.
        Ok(page(&objects, revision, options))
    }

    /// Watches a resource.
    pub fn watch(&self, resource: ResourceId, options: WatchOptions) -> Result<Watch, CacheError> {
        let mut hub = self.shared.hub();
        let state = self.shared.state();
        let found = state.resource(resource).ok_or(CacheError::UnknownResource)?;
        let interest = interest(found, &options)?;
        let revision = state.revision();
        let initial = match options.from {
            WatchFrom::State => watch::Initial::State(found.objects().clone()),
            WatchFrom::Now => watch::Initial::Changes(Vec::new()),
            WatchFrom::After(after) => {
                check(found, after, revision)?;
                watch::Initial::Changes(found.since(after).cloned().collect())
            }
        };
        drop(state);
        let subscription = hub.subscribe(resource, interest.clone(), WATCH_QUEUE);
        drop(hub);
        Ok(Watch::new(self.shared.clone(), interest, initial, revision, subscription, options.bookmarks))
    }

    fn objects(&self, resource: ResourceId, at: Option<u64>) -> Result<(Objects, u64), CacheError> {
        let state = self.shared.state();
        let found = state.resource(resource).ok_or(CacheError::UnknownResource)?;
        match at {
            Some(at) if at != state.revision() => {
                check(found, at, state.revision())?;
                Ok((found.objects_at(at), at))
            }
            _ => Ok((found.objects().clone(), state.revision())),
        }
    }
}

fn check(resource: &ResourceState, asked: u64, current: u64) -> Result<(), CacheError> {
    if asked < resource.floor() {
        return Err(CacheError::Expired { asked, oldest: resource.floor() });
    }
    if asked > current {
        return Err(CacheError::Behind { asked, current });
    }
    Ok(())
}

fn interest(resource: &ResourceState, options: &WatchOptions) -> Result<Interest, CacheError> {
    let registered = resource.registered().ok_or(CacheError::UnknownResource)?;
    let only = options.only.as_ref().map(|(path, value)| {
        let index = registered.indexer.fields().iter().position(|field| field == path);
        index.map(|index| (index, value.clone())).ok_or_else(|| CacheError::UnknownField(path.clone()))
    });
    Ok(Interest { prefix: prefix(&options.namespace), filter: options.filter.clone(), only: only.transpose()? })
}

fn prefix(namespace: &str) -> Vec<u8> {
    if namespace.is_empty() { Vec::new() } else { format!("{namespace}/").into_bytes() }
}

fn page(objects: &Objects, revision: u64, options: &ListOptions) -> ListPage {
    let prefix = prefix(&options.namespace);
    let start = match &options.after_key {
        Some(key) => Bound::Excluded(Bytes::copy_from_slice(key.as_bytes())),
        None => Bound::Included(Bytes::copy_from_slice(&prefix)),
    };
    let mut selected = objects
        .range((start, Bound::Unbounded))
        .map(|(_, entry)| entry)
        .take_while(|entry| entry.key_bytes().starts_with(&prefix))
        .filter(|entry| options.filter.as_ref().is_none_or(|filter| filter(entry)));
    let limit = if options.limit == 0 { usize::MAX } else { options.limit };
    let entries: Vec<Arc<Entry>> = selected.by_ref().take(limit).cloned().collect();
    let more = selected.next().is_some();
    let remaining = (more && options.filter.is_none()).then(|| selected.count() + 1);
    let next = entries.last().filter(|_| more).map(|entry| entry.key().to_owned());
    let revision = if is_awake(Mutant::EmptyListAhead) && entries.is_empty() { revision + 1 } else { revision };
    ListPage { entries, revision, next, remaining }
}
