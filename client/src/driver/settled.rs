//! Read your own writes: a key is not looked at again before the informers have seen what it wrote last.
//!
//! A controller that acts on a stale cache does everything twice: it creates three Pods, looks again a millisecond
//! later, still sees none, and creates three more. So:
//!
//! 1. The client notes each write that succeeds inside a reconcile (`cause.rs`), together with the *views* that must
//!    come to show it: the stores of that resource that run on the same client, as [`View::awaits`] says.
//! 2. The driver files these notes under the key, in the queue: they survive a driver that is stopped and run again.
//! 3. Before it observes the key again, it waits until each of those views has reached the write's revision.
//!
//! That is exact, since revisions are totally ordered and one informer delivers them in order: no counting, no
//! guessing. Only writes that the informer is certain to hear of are waited for, so that waiting ends:
//!
//! - an informer of everything (or of the object's namespace) hears of every write;
//! - an informer with a selector hears of a write to an object that it holds: as a change, or as leaving the
//!   selection. Of an object that it does not hold it may never hear, so that is not waited for.
//!
//! A wait is usually a millisecond. One that takes longer than [`PATIENCE`] (the informer has lost its watch) does not
//! hold a worker: the key is put off and the notes stay. After [`FORGET_AFTER`] they are dropped with a warning: then
//! something is wrong that waiting does not mend, and a level-triggered loop repairs what it did wrong.
//!
//! A write whose outcome is unknown (the connection broke before the answer, or the server's store gave none) has no
//! revision to wait for. The key is left alone for a second, whatever wakes it, so that what is still on its way can land.
//! Then the views of that resource are renewed: their informers list again, and a list shows everything that was written
//! before it was asked for, whoever was told. Only then is the key observed. What lands even later the plan has done twice:
//! names that follow from the key make that harmless, and a surplus object is removed by the next plan.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use skiff_world::World;
use skiff_world::mutants::{Mutant, is_awake};
use tokio::time::Instant;

use crate::key::{ObjectKey, Resource};
use crate::queue::QueueKey;

/// How long a worker waits for the informers before it takes another key.
pub const PATIENCE: Duration = Duration::from_secs(1);
/// After how long a write is given up on.
pub const FORGET_AFTER: Duration = Duration::from_secs(300);

/// What an informer shows of a resource, and how far it has come.
#[async_trait]
pub trait View: Send + Sync {
    /// Whether this view is certain to hear of a write to this object that was just made.
    fn awaits(&self, object: &ObjectKey) -> bool;
    /// How far it has come.
    fn revision(&self) -> u64;
    /// When it was last told anything, in seconds since 1970; 0 before the first time.
    fn heard(&self) -> f64;
    /// Whether it hears of every write to its resource, or only of some.
    fn is_whole(&self) -> bool;
    /// Waits until it has come so far; false when it never will, because its informer has ended.
    async fn reached(&self, revision: u64) -> bool;
    /// Asks for a list that begins after now; the number is for [`View::renewed`].
    fn renew(&self) -> u64;
    /// Waits until it shows such a list; false when it never will.
    async fn renewed(&self, number: u64) -> bool;
}

/// What the driver is told of a write.
pub(crate) enum Note {
    /// It succeeded.
    Write(Write),
    /// Nobody knows. These are the views that would show it.
    Doubt(Vec<Arc<dyn View>>),
}

/// One write that succeeded.
#[derive(Clone)]
pub(crate) struct Write {
    pub(crate) resource: Resource,
    pub(crate) object: ObjectKey,
    pub(crate) revision: u64,
    /// Who has yet to see it.
    pub(crate) views: Vec<Arc<dyn View>>,
}

impl fmt::Debug for Write {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} at {}", self.resource, self.object, self.revision)
    }
}

/// The views that run on one client, by resource.
#[derive(Clone, Default)]
pub(crate) struct Views {
    by_resource: Arc<Mutex<ByResource>>,
}

/// How far a view is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Behind {
    pub(crate) revision: u64,
    /// In seconds since 1970.
    pub(crate) heard: f64,
}

/// By group and resource.
type ByResource = BTreeMap<(String, String), Vec<Weak<dyn View>>>;

impl Views {
    pub(crate) fn add(&self, resource: &Resource, view: Weak<dyn View>) {
        let mut all = self.by_resource.lock().unwrap_or_else(PoisonError::into_inner);
        let views = all.entry((resource.group.to_string(), resource.resource.to_string())).or_default();
        views.retain(|view| view.strong_count() > 0);
        views.push(view);
    }

    /// How far each view is: `GROUP/RESOURCE REVISION`, a line each, with ` selected` behind those that are not whole.
    pub(crate) fn print(&self) -> String {
        let all = self.by_resource.lock().unwrap_or_else(PoisonError::into_inner);
        let living = all.iter().flat_map(|(name, views)| views.iter().filter_map(move |v| Some((name, v.upgrade()?))));
        let line = |((group, resource), view): (&(String, String), Arc<dyn View>)| {
            let selected = if view.is_whole() { "" } else { " selected" };
            format!("{group}/{resource} {}{selected}\n", view.revision())
        };
        living.map(line).collect()
    }

    /// Of each resource, how far the view is that is farthest behind.
    pub(crate) fn farthest_behind(&self) -> BTreeMap<(String, String), Behind> {
        let all = self.by_resource.lock().unwrap_or_else(PoisonError::into_inner);
        let of = |views: &Vec<Weak<dyn View>>| {
            let living = views.iter().filter_map(Weak::upgrade);
            let each = living.map(|view| Behind { revision: view.revision(), heard: view.heard() });
            each.reduce(|a, b| Behind { revision: a.revision.min(b.revision), heard: a.heard.min(b.heard) })
        };
        all.iter().filter_map(|(name, views)| Some((name.clone(), of(views)?))).collect()
    }

    /// All views of a resource.
    pub(crate) fn of(&self, resource: &Resource) -> Vec<Arc<dyn View>> {
        let all = self.by_resource.lock().unwrap_or_else(PoisonError::into_inner);
        let views = all.get(&(resource.group.to_string(), resource.resource.to_string()));
        views.into_iter().flatten().filter_map(Weak::upgrade).collect()
    }

    /// The views that have yet to see a write, and certainly will.
    pub(crate) fn awaiting(&self, resource: &Resource, object: &ObjectKey, revision: u64) -> Vec<Arc<dyn View>> {
        let unseen = |view: &Arc<dyn View>| view.revision() < revision && view.awaits(object);
        self.of(resource).into_iter().filter(unseen).collect()
    }
}

/// What each key has written and not yet seen; lives in the key's queue.
pub(crate) struct Unseen<K> {
    world: World,
    by_key: Mutex<BTreeMap<K, Pending>>,
}

struct Pending {
    writes: Vec<Write>,
    since: Instant,
    doubt: Option<Doubt>,
}

/// Something may have been written that is not among the writes.
struct Doubt {
    /// Until then it should have landed.
    until: Instant,
    /// Those that would show it, and the number of the list that each is waited for, once it has been asked for it.
    views: Vec<(Arc<dyn View>, Option<u64>)>,
}

impl<K: QueueKey> Unseen<K> {
    pub(crate) fn new(world: &World) -> Unseen<K> {
        Unseen { world: world.clone(), by_key: Mutex::default() }
    }

    /// Files what a step of this key wrote.
    pub(crate) fn note(&self, key: &K, write: Write) {
        if write.views.is_empty() {
            return;
        }
        let since = self.world.now();
        let mut by_key = self.lock();
        let nothing = || Pending { writes: Vec::new(), since, doubt: None };
        let pending = by_key.entry(key.clone()).or_insert_with(nothing);
        pending.since = since;
        pending.writes.push(write);
    }

    /// Files that a step of this key may have written something, which has so long to land and then shows in these views.
    pub(crate) fn doubt(&self, key: &K, wait: Duration, views: Vec<Arc<dyn View>>) {
        let since = self.world.now();
        let views = if is_awake(Mutant::LostAnswer) { Vec::new() } else { views };
        let nothing = || Pending { writes: Vec::new(), since, doubt: None };
        let mut by_key = self.lock();
        let pending = by_key.entry(key.clone()).or_insert_with(nothing);
        pending.since = since;
        let doubt = pending.doubt.get_or_insert_with(|| Doubt { until: since, views: Vec::new() });
        doubt.until = since + wait;
        doubt.views.extend(views.into_iter().map(|view| (view, None)));
    }

    /// For how much longer the key is to be left alone.
    pub(crate) fn in_doubt(&self, key: &K) -> Option<Duration> {
        let until = self.lock().get(key)?.doubt.as_ref()?.until;
        Some(until.saturating_duration_since(self.world.now())).filter(|wait| !wait.is_zero())
    }

    /// The lists that are waited for, each asked for now if it was not before.
    fn renewals(&self, key: &K) -> Vec<(Arc<dyn View>, u64)> {
        let mut by_key = self.lock();
        let doubt = by_key.get_mut(key).and_then(|pending| pending.doubt.as_mut());
        let views = doubt.into_iter().flat_map(|doubt| doubt.views.iter_mut());
        views.map(|(view, asked)| (view.clone(), *asked.get_or_insert_with(|| view.renew()))).collect()
    }

    /// Waits until the views show all that this key has written: whether it may be observed now.
    pub(crate) async fn settled(&self, key: &K) -> bool {
        if is_awake(Mutant::StaleCache) {
            return true;
        }
        let Some((writes, since)) = self.lock().get(key).map(|p| (p.writes.clone(), p.since)) else {
            return true;
        };
        let renewals = self.renewals(key);
        let all_seen = async {
            for (view, number) in &renewals {
                view.renewed(*number).await;
            }
            for write in &writes {
                for view in &write.views {
                    view.reached(write.revision).await;
                }
            }
        };
        let seen = tokio::time::timeout(PATIENCE, all_seen).await.is_ok();
        let overdue = self.world.now().saturating_duration_since(since) >= FORGET_AFTER;
        if overdue && !seen {
            tracing::warn!(%key, ?writes, "informers have not shown these writes for too long; going on without");
        }
        if seen || overdue {
            self.lock().remove(key);
        }
        seen || overdue
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<K, Pending>> {
        self.by_key.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
