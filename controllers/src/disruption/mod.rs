//! PodDisruptionBudgets: how many Pods of a set may be evicted now. This controller counts and writes it down; the
//! API server takes one from it for each eviction (`apiserver/src/registry/budget.rs`).
//!
//! `observe` reads the caches, `plan` decides, `act` writes.

mod act;
mod observe;
pub mod plan;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use skiff_client::driver::{Plan, Reconciler};
use skiff_client::{ActError, Change, Client, ObjectKey, Store, Trigger, WorkQueue};
use skiff_proto::appsv1::{Deployment, ReplicaSet};
use skiff_proto::labels::Selector;
use skiff_proto::policyv1::PodDisruptionBudget;

use crate::caches::Caches;
use crate::pods::PodView;
use plan::{Action, Observed};

/// Keeps the status of every PodDisruptionBudget.
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
    const NAME: &'static str = "disruption";

    fn observe(&self, key: &ObjectKey) -> Option<Observed> {
        self.look(key)
    }

    fn plan(&self, observed: &Observed, now: jiff::Timestamp) -> Plan<Action> {
        plan::plan(observed, now)
    }

    async fn act(&self, key: &ObjectKey, action: &Action) -> Result<(), ActError> {
        self.execute(key, action).await
    }
}

/// A budget changed.
pub fn budget_changed(queue: &WorkQueue<ObjectKey>, change: &Change<PodDisruptionBudget>) {
    queue.add(change.key(), change.trigger());
}

/// A pod changed: it concerns the budgets that select it, before or now.
pub fn pod_changed(queue: &WorkQueue<ObjectKey>, budgets: &Store<PodDisruptionBudget>, change: &Change<PodView>) {
    for pod in change.old.iter().chain(&change.new) {
        wake(queue, budgets, &pod.key.namespace, &pod.labels, &change.trigger());
    }
}

/// A Deployment was scaled, or is gone: that concerns the budgets of its Pods, who count how many are wanted.
pub fn deployment_changed(
    queue: &WorkQueue<ObjectKey>,
    budgets: &Store<PodDisruptionBudget>,
    change: &Change<Deployment>,
) {
    let wanted = |d: &Option<std::sync::Arc<Deployment>>| d.as_ref().map(|d| d.spec.replicas);
    if wanted(&change.old) != wanted(&change.new) {
        let deployment = change.latest();
        let labels = &deployment.spec.template.metadata.labels;
        wake(queue, budgets, &deployment.metadata.namespace, labels, &change.trigger());
    }
}

/// A ReplicaSet was scaled, or is gone: the same.
pub fn set_changed(queue: &WorkQueue<ObjectKey>, budgets: &Store<PodDisruptionBudget>, change: &Change<ReplicaSet>) {
    let wanted = |s: &Option<std::sync::Arc<ReplicaSet>>| s.as_ref().map(|s| s.spec.replicas);
    if wanted(&change.old) != wanted(&change.new) {
        let set = change.latest();
        let labels = &set.spec.template.metadata.labels;
        wake(queue, budgets, &set.metadata.namespace, labels, &change.trigger());
    }
}

fn wake(
    queue: &WorkQueue<ObjectKey>,
    budgets: &Store<PodDisruptionBudget>,
    namespace: &str,
    labels: &BTreeMap<String, String>,
    trigger: &Trigger,
) {
    for budget in budgets.in_namespace(namespace) {
        if selects(&budget, labels) {
            queue.add(ObjectKey::of(&budget.metadata), trigger.clone());
        }
    }
}

/// Whether a budget is for Pods with these labels. An empty selector selects all, none at all selects nothing.
pub fn selects(budget: &PodDisruptionBudget, labels: &BTreeMap<String, String>) -> bool {
    let selector = budget.spec.selector.as_deref().map(Selector::try_from);
    selector.is_some_and(|selector| selector.is_ok_and(|s| s.matches(labels)))
}
