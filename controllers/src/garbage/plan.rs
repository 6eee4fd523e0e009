//! What to do about one object because of its owners, and about its dependents because of it.
//!
//! | the object | its owners or dependents | what happens |
//! |---|---|---|
//! | lives | all its owners are gone | it is deleted |
//! | lives | some are gone, one is there | it forgets those that are gone |
//! | lives | is held for by an owner that waits (foreground) | the owner's own turn deletes it |
//! | lives | one of them can't be an owner: it is in a namespace, the object in none | nothing: nobody can tell |
//! | is being deleted, `foregroundDeletion` | dependents | they are deleted, those that somebody else owns too forget it; it may go once none that blocks is left |
//! | is being deleted, `orphan` | dependents | they forget it, then it may go |
//!
//! Owners may go in a circle, and all of it may wait in the foreground: then none of it blocks another.
//!
//! That an owner is not in the inventory is no proof that it is gone (the inventory may be behind,
//! or the owner of a kind not listed): `act` asks the server by name and compares uids before anything
//! is deleted or forgotten.

use std::fmt;

use skiff_client::driver::Plan;
use skiff_world::mutants::{Mutant, is_awake};

pub use crate::inventory::FOREGROUND;
use crate::inventory::{Item, ObjectId, OwnerView};

/// Dependents stay, without an owner.
pub const ORPHAN: &str = "orphan";

/// What there is to know about one object.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The object.
    pub item: Item,
    /// Its owners, each with what the inventory has of it.
    pub owners: Vec<(OwnerView, Presence)>,
    /// Its dependents; only looked up if it is being deleted.
    pub dependents: Vec<Dependent>,
}

/// An object that names the one in question as an owner.
#[derive(Clone, Debug)]
pub struct Dependent {
    /// The dependent.
    pub item: Item,
    /// Its other owners.
    pub others: Vec<(OwnerView, Presence)>,
    /// Something names it as an owner in turn.
    pub has_dependents: bool,
    /// It waits for the object as the object waits for it.
    pub in_circle: bool,
}

/// What the inventory has of an owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It is there.
    There,
    /// It is there, but only waits for its dependents to go.
    Waiting,
    /// It is not there, as far as we know.
    Unseen,
    /// It cannot be an owner of this object, so nobody can tell whether it is gone: its kind lives in namespaces, and
    /// the object does not.
    Void,
}

/// What can be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Delete the object, once the server confirms that all these owners are gone.
    Collect {
        /// The object.
        item: Item,
        /// Its owners.
        owners: Vec<OwnerView>,
    },
    /// Take these owners off the object, once the server confirms that they are gone.
    Forget {
        /// The object.
        item: Item,
        /// The owners.
        owners: Vec<OwnerView>,
    },
    /// Delete a dependent because its owner waits for that, once the server confirms that its other owners are gone.
    DeleteDependent {
        /// The dependent.
        item: Item,
        /// Its other owners.
        others: Vec<OwnerView>,
        /// It has dependents of its own, which go before it.
        first_its_own: bool,
    },
    /// Take an owner off a dependent.
    Orphan {
        /// The dependent.
        dependent: Item,
        /// The owner's uid.
        owner: String,
    },
    /// The object may go, as far as this finalizer is concerned.
    RemoveFinalizer {
        /// The object.
        item: Item,
        /// The finalizer.
        finalizer: &'static str,
    },
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = |owners: &[OwnerView]| -> String {
            owners.iter().map(|o| format!("{} {}", o.kind, o.name)).collect::<Vec<_>>().join(", ")
        };
        match self {
            Action::Collect { item, owners } => write!(f, "delete {} unless {} still exists", item.id, names(owners)),
            Action::Forget { item, owners } => {
                write!(f, "take {} off {} unless it still exists", names(owners), item.id)
            }
            Action::DeleteDependent { item, others, .. } if others.is_empty() => {
                write!(f, "delete dependent {}", item.id)
            }
            Action::DeleteDependent { item, others, .. } => {
                write!(f, "delete dependent {} unless {} still exists", item.id, names(others))
            }
            Action::Orphan { dependent, .. } => write!(f, "orphan {}", dependent.id),
            Action::RemoveFinalizer { item, finalizer } => write!(f, "remove finalizer {finalizer} from {}", item.id),
        }
    }
}

/// The plan.
pub fn plan(observed: &Observed) -> Plan<Action> {
    let mut plan = Plan::nothing();
    plan.input(reference(&observed.item));
    let item = &observed.item;
    if item.meta.deleting {
        if has(item, ORPHAN) {
            orphan(observed, &mut plan);
        } else if has(item, FOREGROUND) {
            foreground(observed, &mut plan);
        }
        return plan;
    }
    if item.meta.owners.is_empty() {
        return plan;
    }
    let gone = unseen(&observed.owners);
    if gone.is_empty()
        || is_awake(Mutant::LeftBehind)
        || observed.owners.iter().any(|(_, presence)| *presence == Presence::Void)
    {
        return plan;
    }
    if gone.len() == observed.owners.len() {
        plan.step(Action::Collect { item: item.clone(), owners: gone }, "all its owners are gone");
    } else {
        plan.step(Action::Forget { item: item.clone(), owners: gone }, "some of its owners are gone");
    }
    plan
}

fn unseen(owners: &[(OwnerView, Presence)]) -> Vec<OwnerView> {
    let unseen = owners.iter().filter(|(_, presence)| *presence == Presence::Unseen);
    unseen.map(|(owner, _)| owner.clone()).collect()
}

fn orphan(observed: &Observed, plan: &mut Plan<Action>) {
    let uid = &observed.item.meta.uid;
    for dependent in &observed.dependents {
        let orphan = Action::Orphan { dependent: dependent.item.clone(), owner: uid.clone() };
        plan.step(orphan, "its owner is being deleted without it");
    }
    let item = observed.item.clone();
    plan.step(Action::RemoveFinalizer { item, finalizer: ORPHAN }, "nothing depends on it any more");
}

fn foreground(observed: &Observed, plan: &mut Plan<Action>) {
    let uid = &observed.item.meta.uid;
    let mut blocked = false;
    for dependent in &observed.dependents {
        let item = &dependent.item;
        if dependent.others.iter().any(|(_, presence)| matches!(presence, Presence::There | Presence::Void)) {
            // Somebody else owns it too: it stays for them.
            let orphan = Action::Orphan { dependent: item.clone(), owner: uid.clone() };
            plan.step(orphan, "one of its owners is being deleted");
            continue;
        }
        blocked |= !dependent.in_circle && item.meta.owners.iter().any(|o| &o.uid == uid && o.blocks);
        if !item.meta.deleting {
            let (others, first_its_own) = (unseen(&dependent.others), dependent.has_dependents);
            let delete = Action::DeleteDependent { item: item.clone(), others, first_its_own };
            plan.step(delete, "its owner waits for it to go");
        }
    }
    if !blocked {
        let item = observed.item.clone();
        plan.step(Action::RemoveFinalizer { item, finalizer: FOREGROUND }, "nothing holds it any more");
    }
}

fn has(item: &Item, finalizer: &str) -> bool {
    item.meta.finalizers.iter().any(|f| f == finalizer)
}

fn reference(item: &Item) -> skiff_client::ObjectRef {
    let ObjectId { resource, key } = &item.id;
    skiff_client::ObjectRef {
        resource: resource.resource.to_string(),
        group: resource.group.to_string(),
        namespace: key.namespace.clone(),
        name: key.name.clone(),
        uid: item.meta.uid.clone(),
        revision: item.revision,
    }
}
