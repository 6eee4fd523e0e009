//! Garbage collection: what belongs to nobody any more goes, whatever kind it is.

mod act;
pub mod plan;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use skiff_client::driver::{Plan, Reconciler};
use skiff_client::{ActError, Change, Client, Resource, WorkQueue};
use skiff_world::mutants::{Mutant, is_awake};

use crate::inventory::{Inventory, Item, MetaView, ObjectId, OwnerView};
use plan::{Action, Dependent, Observed, Presence};

/// Collects garbage.
pub struct Controller {
    inventory: Arc<Inventory>,
    client: Client,
}

impl Controller {
    /// Reads this inventory and writes through this client.
    pub fn new(inventory: Arc<Inventory>, client: Client) -> Controller {
        Controller { inventory, client }
    }

    /// What the inventory has of an owner. One in another namespace does not count: references don't cross.
    fn presence(&self, dependent: &Item, owner: &OwnerView) -> Presence {
        let here = &dependent.id.key.namespace;
        if self.inventory.leaves_out(&owner.api_version, &owner.kind) {
            return Presence::Void;
        }
        if here.is_empty() && self.inventory.resource(&owner.api_version, &owner.kind).is_some_and(|r| r.namespaced) {
            return Presence::Void;
        }
        match self.inventory.by_uid(&owner.uid) {
            Some(found) if !found.id.key.namespace.is_empty() && &found.id.key.namespace != here => Presence::Unseen,
            Some(found) if found.meta.waits_for_dependents() => Presence::Waiting,
            Some(_) => Presence::There,
            None => Presence::Unseen,
        }
    }

    /// The objects that name this one as an owner and that its namespace lets it own.
    fn dependents(&self, item: &Item) -> Vec<Dependent> {
        let (uid, namespace) = (&item.meta.uid, &item.id.key.namespace);
        let ancestors = self.inventory.waiting_ancestors(item);
        let mut found = self.inventory.dependents(uid);
        found.retain(|d| namespace.is_empty() || &d.id.key.namespace == namespace);
        let dependent = |item: Item| {
            let others = item.meta.owners.iter().filter(|o| &o.uid != uid);
            Dependent {
                others: others.map(|o| (o.clone(), self.presence(&item, o))).collect(),
                has_dependents: !self.inventory.dependents(&item.meta.uid).is_empty(),
                in_circle: ancestors.contains(&item.meta.uid),
                item,
            }
        };
        found.into_iter().map(dependent).collect()
    }
}

impl Reconciler for Controller {
    type Key = ObjectId;
    type Observed = Observed;
    type Action = Action;
    const NAME: &'static str = "garbage-collector";

    fn observe(&self, key: &ObjectId) -> Option<Observed> {
        let item = self.inventory.get(key)?;
        let owners = item.meta.owners.iter().map(|o| (o.clone(), self.presence(&item, o))).collect();
        let dependents = if item.meta.deleting { self.dependents(&item) } else { Vec::new() };
        Some(Observed { item, owners, dependents })
    }

    fn plan(&self, observed: &Observed, _: jiff::Timestamp) -> Plan<Action> {
        plan::plan(observed)
    }

    async fn act(&self, _: &ObjectId, action: &Action) -> Result<(), ActError> {
        self.execute(action).await
    }
}

/// An object changed: it may have lost an owner, or begin to wait for its dependents. If it is gone, that concerns
/// its dependents; if it is, or was, a dependent, that concerns owners that wait for it.
pub fn object_changed(
    queue: &WorkQueue<ObjectId>,
    inventory: &Inventory,
    resource: &Resource,
    change: &Change<MetaView>,
) {
    let id = ObjectId { resource: resource.clone(), key: change.key() };
    match &change.new {
        Some(new) if new.deleting || !new.owners.is_empty() => queue.add(id, change.trigger()),
        Some(_) => {}
        None => {
            let most = if is_awake(Mutant::OnlyTheFirst) { 1 } else { usize::MAX };
            for dependent in inventory.dependents(&change.latest().uid).into_iter().take(most) {
                queue.add(dependent.id, change.trigger());
            }
        }
    }
    for owner in change.old.iter().chain(&change.new).flat_map(|meta| &meta.owners) {
        if let Some(owner) = inventory.by_uid(&owner.uid).filter(|o| o.meta.deleting) {
            queue.add(owner.id, change.trigger());
        }
    }
}
