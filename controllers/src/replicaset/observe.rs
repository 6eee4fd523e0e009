//! What the caches know about one ReplicaSet.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use skiff_client::ObjectKey;

use super::Controller;
use super::plan::Observed;
use crate::caches::{ORPHANS, OWNER};
use crate::ownership::Owner;
use crate::pods::PodView;

impl Controller {
    /// The ReplicaSet and its pods; `None` if it is gone.
    pub(super) fn look(&self, key: &ObjectKey) -> Option<Observed> {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(replica_set) = self.caches.replica_sets.get(key) else {
            failures.remove(key);
            return None;
        };
        let failure = failures.get(key).cloned();
        drop(failures);
        let mut pods = self.caches.pods.by_index(OWNER, &replica_set.metadata.uid);
        pods.extend(self.caches.pods.by_index(ORPHANS, &key.namespace));
        let siblings = self.siblings(Owner::of(&replica_set.metadata), &pods);
        Some(Observed { replica_set, pods, siblings, failure })
    }

    /// Active pods per node, of all ReplicaSets that have the same owner. So a rollout takes pods
    /// first from where the Deployment has most.
    fn siblings(&self, owner: Option<Owner>, own: &[Arc<PodView>]) -> BTreeMap<String, usize> {
        let mut count = BTreeMap::new();
        let mut add = |pods: &[Arc<PodView>]| {
            for pod in pods.iter().filter(|p| p.is_active() && !p.node.is_empty()) {
                *count.entry(pod.node.clone()).or_default() += 1;
            }
        };
        match owner {
            None => add(own),
            Some(owner) => {
                for set in self.caches.replica_sets.by_index(OWNER, &owner.uid) {
                    add(&self.caches.pods.by_index(OWNER, &set.metadata.uid));
                }
            }
        }
        count
    }
}
