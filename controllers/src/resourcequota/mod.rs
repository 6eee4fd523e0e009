//! ResourceQuotas: that what they say a namespace has becomes less when something goes.
//!
//! What comes is charged by the API server, with the object's own write (`apiserver/src/admission/resource_quota.rs`). What
//! goes, or ends, is not: then this controller has the quota counted again. The API server counts, since only it sees all
//! kinds at one revision; here is only decided when. Nothing is polled, and a quota that nothing has left is not counted.
//!
//! `observe` reads the cache and what is due, `plan` decides, `act` asks for it.

pub mod plan;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::json;
use skiff_client::driver::{Plan, Reconciler};
use skiff_client::{ActError, Api, Change, Client, ObjectKey, Patch, Resource, Store, Trigger, WorkQueue};
use skiff_proto::corev1::{ResourceQuota, Service};
use skiff_proto::quota;

use crate::caches::Caches;
use crate::inventory::MetaView;
use crate::pods::PodView;
use plan::{Action, Observed};

/// Which quotas have to be counted: something that they limit has gone since they last were.
#[derive(Debug, Default)]
pub struct Due {
    marks: Mutex<Marks>,
}

#[derive(Debug, Default)]
struct Marks {
    last: u64,
    of: BTreeMap<ObjectKey, u64>,
}

impl Due {
    fn lock(&self) -> MutexGuard<'_, Marks> {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It has to be counted from now on.
    fn mark(&self, key: &ObjectKey) {
        let mut marks = self.lock();
        marks.last += 1;
        let mark = marks.last;
        marks.of.insert(key.clone(), mark);
    }

    /// Whether it has to be counted, and the mark that says so.
    fn of(&self, key: &ObjectKey) -> Option<u64> {
        self.lock().of.get(key).copied()
    }

    /// It has been counted, for the sake of this mark. One that was set meanwhile stays.
    fn counted(&self, key: &ObjectKey, mark: Option<u64>) {
        let mut marks = self.lock();
        if mark.is_none_or(|mark| marks.of.get(key) == Some(&mark)) {
            marks.of.remove(key);
        }
    }
}

/// Has ResourceQuotas counted.
pub struct Controller {
    caches: Caches,
    due: Arc<Due>,
    client: Client,
}

impl Controller {
    /// Reads these caches and marks, and writes through this client.
    pub fn new(caches: Caches, due: Arc<Due>, client: Client) -> Controller {
        Controller { caches, due, client }
    }
}

impl Reconciler for Controller {
    type Key = ObjectKey;
    type Observed = Observed;
    type Action = Action;
    const NAME: &'static str = "resourcequota";

    fn observe(&self, key: &ObjectKey) -> Option<Observed> {
        let Some(quota) = self.caches.quotas.get(key) else {
            self.due.counted(key, None);
            return None;
        };
        Some(Observed { quota, due: self.due.of(key) })
    }

    fn plan(&self, observed: &Observed, _: jiff::Timestamp) -> Plan<Action> {
        plan::plan(observed)
    }

    async fn act(&self, key: &ObjectKey, action: &Action) -> Result<(), ActError> {
        let Action::Count { mark } = action;
        // Whatever a write of the status says, the API server counts.
        let patch = Patch::Merge(json!({ "status": {} }));
        match Api::<ResourceQuota>::new(&self.client).patch_status(&key.namespace, &key.name, patch).await {
            // It was deleted meanwhile: there is nothing to count for.
            Err(error) if !error.is_not_found() => return Err(error.into()),
            _ => {}
        }
        if let Some(mark) = mark {
            self.due.counted(key, Some(*mark));
        }
        Ok(())
    }
}

/// A quota changed. One that we did not know has to be counted: nobody knows what has gone before.
pub fn quota_changed(queue: &WorkQueue<ObjectKey>, due: &Due, change: &Change<ResourceQuota>) {
    if change.old.is_none() {
        due.mark(&change.key());
    }
    queue.add(change.key(), change.trigger());
}

/// A pod changed: one that has gone, or ended, counts for less.
pub fn pod_changed(queue: &WorkQueue<ObjectKey>, due: &Due, quotas: &Store<ResourceQuota>, change: &Change<PodView>) {
    let counts = |pod: &Option<Arc<PodView>>| pod.as_ref().is_some_and(|pod| !pod.is_finished());
    if change.is_deletion() || (counts(&change.old) && !counts(&change.new)) {
        wake(queue, due, quotas, &change.latest().key.namespace, ("", "pods"), &change.trigger());
    }
}

/// A Service changed: one that is of another type now may have fewer node ports.
pub fn service_changed(
    queue: &WorkQueue<ObjectKey>,
    due: &Due,
    quotas: &Store<ResourceQuota>,
    change: &Change<Service>,
) {
    let usage = |service: &Option<Arc<Service>>| service.as_ref().map(|service| quota::of_service(service));
    if change.old.is_some() && usage(&change.old) != usage(&change.new) {
        let namespace = &change.latest().metadata.namespace;
        wake(queue, due, quotas, namespace, ("", "services"), &change.trigger());
    }
}

/// An object of any resource changed: one that has gone counts no longer. Of Pods and Services we hear otherwise.
pub fn object_changed(
    queue: &WorkQueue<ObjectKey>,
    due: &Due,
    quotas: &Store<ResourceQuota>,
    resource: &Resource,
    change: &Change<MetaView>,
) {
    let heard = resource.group.is_empty() && matches!(&*resource.resource, "pods" | "services");
    if change.is_deletion() && resource.namespaced && !heard {
        let of = (&*resource.group, &*resource.resource);
        wake(queue, due, quotas, &change.object.namespace, of, &change.trigger());
    }
}

fn wake(
    queue: &WorkQueue<ObjectKey>,
    due: &Due,
    quotas: &Store<ResourceQuota>,
    namespace: &str,
    (group, resource): (&str, &str),
    trigger: &Trigger,
) {
    for quota in quotas.in_namespace(namespace) {
        if quota::concerns(&quota, group, resource) {
            let key = ObjectKey::of(&quota.metadata);
            due.mark(&key);
            queue.add(key, trigger.clone());
        }
    }
}

/// Whether a change of a quota may have made room.
pub fn makes_room(change: &Change<ResourceQuota>) -> bool {
    let (Some(old), Some(new)) = (&change.old, &change.new) else { return change.is_deletion() };
    let (old, new) = (&old.status, &new.status);
    let freed = new.used.iter().any(|(name, now)| old.used.get(name).is_none_or(|before| now < before));
    freed || new.hard.iter().any(|(name, now)| old.hard.get(name).is_none_or(|before| now > before))
}
