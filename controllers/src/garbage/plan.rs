//! What to do about one object because of its owners, and about its dependents because of it.
//!
//! | the object | its owners or dependents | what happens |
//! |---|---|---|
//! | lives | all its owners are gone | it is deleted |
//! | lives | some are gone, one is there | it forgets those that are gone |
//! | lives | is held for by an owner that waits (foreground) | the owner's own turn deletes it |
//! | is being deleted, `foregroundDeletion` | dependents that block it | they are deleted first, then it may go |
//! | is being deleted, `orphan` | dependents | they forget it, then it may go |
//!
//! That an owner is not in the inventory is no proof that it is gone (the inventory may be behind,
//! or the owner of a kind not listed): `act` asks the server by name and compares uids before anything
//! is deleted or forgotten.

use std::fmt;

use skiff_client::driver::Plan;

use crate::inventory::{Item, ObjectId, OwnerView};

/// Dependents go first.
pub const FOREGROUND: &str = "foregroundDeletion";
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
    pub dependents: Vec<Item>,
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
    /// Delete a dependent because its owner waits for that.
    DeleteDependent(Item),
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
            Action::DeleteDependent(item) => write!(f, "delete dependent {}", item.id),
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
    let which = |presence: Presence| {
        let owners = observed.owners.iter().filter(|(_, p)| *p == presence);
        owners.map(|(owner, _)| owner.clone()).collect::<Vec<_>>()
    };
    let (there, waiting, unseen) = (which(Presence::There), which(Presence::Waiting), which(Presence::Unseen));
    if !unseen.is_empty() && there.is_empty() && waiting.is_empty() {
        plan.step(Action::Collect { item: item.clone(), owners: unseen }, "all its owners are gone");
    } else if !unseen.is_empty() {
        plan.step(Action::Forget { item: item.clone(), owners: unseen }, "some of its owners are gone");
    }
    plan
}

fn orphan(observed: &Observed, plan: &mut Plan<Action>) {
    let uid = &observed.item.meta.uid;
    for dependent in &observed.dependents {
        let orphan = Action::Orphan { dependent: dependent.clone(), owner: uid.clone() };
        plan.step(orphan, "its owner is being deleted without it");
    }
    let item = observed.item.clone();
    plan.step(Action::RemoveFinalizer { item, finalizer: ORPHAN }, "nothing depends on it any more");
}

fn foreground(observed: &Observed, plan: &mut Plan<Action>) {
    let uid = &observed.item.meta.uid;
    let mut blocked = false;
    for dependent in &observed.dependents {
        if dependent.meta.owners.iter().any(|o| &o.uid != uid) {
            // Somebody else owns it too: it stays for them.
            let orphan = Action::Orphan { dependent: dependent.clone(), owner: uid.clone() };
            plan.step(orphan, "one of its owners is being deleted");
            continue;
        }
        blocked |= dependent.meta.owners.iter().any(|o| o.blocks);
        if !dependent.meta.deleting {
            plan.step(Action::DeleteDependent(dependent.clone()), "its owner waits for it to go");
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use skiff_client::{ObjectKey, Resource};
    use skiff_proto::corev1::Pod;

    use super::*;
    use crate::inventory::MetaView;

    fn owner(name: &str, blocks: bool) -> OwnerView {
        let (api_version, kind) = ("apps/v1".into(), "ReplicaSet".into());
        OwnerView { api_version, kind, name: name.into(), uid: format!("uid-{name}"), blocks }
    }

    fn item(name: &str, owners: &[OwnerView], finalizers: &[&str], deleting: bool) -> Item {
        let id = ObjectId { resource: Resource::of::<Pod>(), key: ObjectKey::new("default", name) };
        let finalizers = finalizers.iter().map(|f| f.to_string()).collect();
        let meta = MetaView { uid: format!("uid-{name}"), owners: owners.to_vec(), finalizers, deleting };
        Item { id, revision: 1, meta: Arc::new(meta) }
    }

    fn planned(item: Item, presences: &[Presence], dependents: Vec<Item>) -> Vec<String> {
        let owners = item.meta.owners.iter().cloned().zip(presences.iter().copied()).collect();
        plan(&Observed { item, owners, dependents }).steps.iter().map(|s| s.action.to_string()).collect()
    }

    #[test]
    fn an_object_lives_as_long_as_one_of_its_owners() {
        use Presence::{There, Unseen, Waiting};
        let two = [owner("a", true), owner("b", true)];
        let collect = "delete pods default/p unless ReplicaSet a, ReplicaSet b still exists";
        let forget = "take ReplicaSet a off pods default/p unless it still exists";
        let table: [(&[Presence], &[&str]); 6] = [
            (&[There, There], &[]),
            (&[Unseen, Unseen], &[collect]),
            (&[Unseen, There], &[forget]),
            (&[Unseen, Waiting], &[forget]),
            (&[Waiting, Waiting], &[]),
            (&[Waiting, There], &[]),
        ];
        for (presences, expected) in table {
            assert_eq!(planned(item("p", &two, &[], false), presences, vec![]), expected, "{presences:?}");
        }
    }

    #[test]
    fn no_owner_and_an_object_on_its_way_out_are_left_alone() {
        assert!(planned(item("p", &[], &[], false), &[], vec![]).is_empty());
        assert!(planned(item("p", &[owner("a", true)], &[], true), &[Presence::Unseen], vec![]).is_empty());
    }

    #[test]
    fn foreground_deletion_waits_for_those_that_block() {
        let me = owner("p", true);
        let dependents =
            vec![item("c1", std::slice::from_ref(&me), &[], false), item("c2", std::slice::from_ref(&me), &[], true)];
        let object = item("p", &[], &[FOREGROUND], true);
        assert_eq!(planned(object.clone(), &[], dependents), ["delete dependent pods default/c1"]);
        let not_blocking = vec![item("c1", &[owner("p", false)], &[], true)];
        let remove = "remove finalizer foregroundDeletion from pods default/p";
        assert_eq!(planned(object.clone(), &[], not_blocking), [remove]);
        let shared = vec![item("c1", &[me, owner("other", true)], &[], false)];
        assert_eq!(planned(object, &[], shared), ["orphan pods default/c1", remove]);
    }

    #[test]
    fn orphaning_frees_the_dependents_first() {
        let dependents = vec![item("c1", &[owner("p", true)], &[], false)];
        let planned = planned(item("p", &[], &[ORPHAN], true), &[], dependents);
        assert_eq!(planned, ["orphan pods default/c1", "remove finalizer orphan from pods default/p"]);
    }
}
