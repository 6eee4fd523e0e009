//! What the caches know about one Deployment.

use std::sync::PoisonError;

use skiff_client::ObjectKey;

use super::Controller;
use super::plan::Observed;
use super::revisions;
use crate::caches::{ORPHANS, OWNER};
use crate::ownership::Owner;

impl Controller {
    /// The Deployment with its ReplicaSets; `None` if it is gone.
    pub(super) fn look(&self, key: &ObjectKey) -> Option<Observed> {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(deployment) = self.caches.deployments.get(key) else {
            failures.remove(key);
            return None;
        };
        let failure = failures.get(key).cloned();
        drop(failures);
        let uid = &deployment.metadata.uid;
        let sets = &self.caches.replica_sets;
        let mut replica_sets = sets.by_index(OWNER, uid);
        replica_sets.extend(sets.by_index(ORPHANS, &key.namespace));
        let name = revisions::set_name(&deployment);
        let holder = sets.get(&ObjectKey::new(key.namespace.as_str(), name.as_str()));
        let foreign = holder.is_some_and(|s| Owner::of(&s.metadata).is_none_or(|o| &o.uid != uid));
        let pods = |uid: &String| {
            let pods = self.caches.pods.by_index(OWNER, uid);
            (uid.clone(), pods.iter().filter(|p| !p.is_finished()).count())
        };
        Some(Observed {
            pods: replica_sets.iter().map(|s| pods(&s.metadata.uid)).collect(),
            taken: foreign.then_some(name),
            deployment,
            replica_sets,
            failure,
        })
    }
}
