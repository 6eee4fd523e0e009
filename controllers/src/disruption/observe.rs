//! What the caches know about one PodDisruptionBudget.

use std::collections::BTreeMap;

use skiff_client::ObjectKey;

use super::plan::Observed;
use super::{Controller, selects};
use crate::caches::{LABEL, label_values};
use crate::ownership::Owner;

impl Controller {
    /// The budget, its pods, and how many of them their controllers want; `None` if it is gone.
    pub(super) fn look(&self, key: &ObjectKey) -> Option<Observed> {
        let budget = self.caches.budgets.get(key)?;
        // One pair of labels finds most of them without a look at every pod.
        let pair = budget.spec.selector.as_ref().and_then(|s| label_values(&key.namespace, &s.match_labels).next());
        let mut pods = match pair {
            Some(pair) => self.caches.pods.by_index(LABEL, &pair),
            None => self.caches.pods.in_namespace(&key.namespace),
        };
        pods.retain(|pod| !pod.is_finished() && selects(&budget, &pod.labels));
        let mut wanted = BTreeMap::new();
        for owner in pods.iter().filter_map(|pod| pod.owner.as_ref()) {
            if let Some((uid, replicas)) = self.wanted(&key.namespace, owner) {
                wanted.insert(uid, replicas);
            }
        }
        Some(Observed { budget, pods, wanted: wanted.into_values().map(i64::from).sum() })
    }

    /// How many replicas a pod's controller wants, in the end: a Deployment's count, not that of one of its ReplicaSets.
    fn wanted(&self, namespace: &str, owner: &Owner) -> Option<(String, i32)> {
        if owner.kind != "ReplicaSet" {
            return None;
        }
        let set = self.caches.replica_sets.get(&ObjectKey::new(namespace, owner.name.as_str()))?;
        let above = Owner::of(&set.metadata).filter(|o| o.kind == "Deployment");
        let deployment = above.and_then(|o| self.caches.deployments.get(&ObjectKey::new(namespace, o.name.as_str())));
        Some(match deployment {
            Some(deployment) => (deployment.metadata.uid.clone(), deployment.spec.replicas.unwrap_or(1)),
            None => (set.metadata.uid.clone(), set.spec.replicas.unwrap_or(1)),
        })
    }
}
