//! ClusterRoles that are the sum of others: `admin`, `edit`, `view`, and whichever say so by an `aggregationRule`. This
//! controller writes their rules, so that whoever adds a kind adds its rights to them by a label.

pub mod plan;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use serde_json::json;
use skiff_client::driver::{Plan, Reconciler};
use skiff_client::{ActError, Api, Change, Client, ObjectKey, Patch, WorkQueue};
use skiff_proto::rbacv1::ClusterRole;

use crate::caches::Caches;
use plan::{Action, Observed, selects};

/// Keeps the rules of every ClusterRole that is a sum.
pub struct Controller {
    caches: Caches,
    client: Client,
}

impl Controller {
    /// Reads these caches and writes through this client.
    pub fn new(caches: Caches, client: Client) -> Controller {
        Controller { caches, client }
    }
}

impl Reconciler for Controller {
    type Key = ObjectKey;
    type Observed = Observed;
    type Action = Action;
    const NAME: &'static str = "clusterrole-aggregation";

    fn observe(&self, key: &ObjectKey) -> Option<Observed> {
        let sum = self.caches.cluster_roles.get(key)?;
        let mut parts = self.caches.cluster_roles.list();
        parts.retain(|part| part.metadata.name != sum.metadata.name && selects(&sum, &part.metadata.labels));
        Some(Observed { sum, parts })
    }

    fn plan(&self, observed: &Observed, _: jiff::Timestamp) -> Plan<Action> {
        plan::plan(observed)
    }

    async fn act(&self, key: &ObjectKey, action: &Action) -> Result<(), ActError> {
        let Action::WriteRules { rules, onto } = action;
        let rules: Vec<_> = rules.iter().map(skiff_proto::json::encode_value).collect();
        let patch = json!({ "metadata": { "resourceVersion": onto }, "rules": rules });
        match Api::<ClusterRole>::new(&self.client).patch("", &key.name, Patch::Merge(patch), None).await {
            // It was deleted meanwhile: it needs no rules.
            Err(error) if !error.is_not_found() => Err(error.into()),
            _ => Ok(()),
        }
    }
}

/// The ClusterRoles that are sums, as far as they have been seen: so a change finds those that it concerns.
#[derive(Debug, Default)]
pub struct Sums(Mutex<BTreeMap<String, ClusterRole>>);

/// A ClusterRole changed: that concerns the sums that it is part of, before or now, and itself if it is one.
pub fn role_changed(queue: &WorkQueue<ObjectKey>, sums: &Sums, change: &Change<ClusterRole>) {
    let mut sums = sums.0.lock().unwrap_or_else(PoisonError::into_inner);
    let name = &change.latest().metadata.name;
    match change.new.as_ref().filter(|role| role.aggregation_rule.is_some()) {
        Some(sum) => {
            let kept = ClusterRole { aggregation_rule: sum.aggregation_rule.clone(), ..ClusterRole::default() };
            sums.insert(name.clone(), kept);
            queue.add(change.key(), change.trigger());
        }
        None => drop(sums.remove(name)),
    }
    for (sum, rule) in sums.iter().filter(|(sum, _)| *sum != name) {
        if change.old.iter().chain(&change.new).any(|part| selects(rule, &part.metadata.labels)) {
            queue.add(ObjectKey::new("", sum.as_str()), change.trigger());
        }
    }
}
