//! Garbage: what goes with which owners, and what waits for what.

use std::sync::Arc;

use skiff_client::{ObjectKey, Resource};
use skiff_proto::corev1::Pod;

use super::plan::{Dependent, FOREGROUND, ORPHAN, Observed, Presence, plan};
use crate::inventory::{Item, MetaView, ObjectId, OwnerView};

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

/// A dependent of `p`, with another owner or none.
fn dependent(name: &str, blocks: bool, deleting: bool, other: Option<Presence>) -> Dependent {
    let mut owners = vec![owner("p", blocks)];
    owners.extend(other.map(|_| owner("other", true)));
    let others = other.map(|presence| (owner("other", true), presence)).into_iter().collect();
    Dependent { item: item(name, &owners, &[], deleting), others, has_dependents: false, in_circle: false }
}

fn planned(item: Item, presences: &[Presence], dependents: Vec<Dependent>) -> Vec<String> {
    let owners = item.meta.owners.iter().cloned().zip(presences.iter().copied()).collect();
    plan(&Observed { item, owners, dependents }).steps.iter().map(|s| s.action.to_string()).collect()
}

#[test]
fn an_object_lives_as_long_as_one_of_its_owners() {
    use Presence::{There, Unseen, Void, Waiting};
    let two = [owner("a", true), owner("b", true)];
    let collect = "delete pods default/p unless ReplicaSet a, ReplicaSet b still exists";
    let forget = "take ReplicaSet a off pods default/p unless it still exists";
    let table: [(&[Presence], &[&str]); 8] = [
        (&[There, There], &[]),
        (&[Unseen, Unseen], &[collect]),
        (&[Unseen, There], &[forget]),
        (&[Unseen, Waiting], &[forget]),
        (&[Waiting, Waiting], &[]),
        (&[Waiting, There], &[]),
        (&[Unseen, Void], &[]),
        (&[Void, Void], &[]),
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
    use Presence::{There, Unseen, Void, Waiting};
    let remove = "remove finalizer foregroundDeletion from pods default/p";
    let (delete, orphan) = ("delete dependent pods default/c1", "orphan pods default/c1");
    let unless = "delete dependent pods default/c1 unless ReplicaSet other still exists";
    /// (name, blocks, is being deleted, its other owner) and what is done
    type Case<'a> = (&'a str, bool, bool, Option<Presence>, &'a [&'a str]);
    let table: [Case<'_>; 8] = [
        ("it blocks", true, false, None, &[delete]),
        ("it blocks and is on its way", true, true, None, &[]),
        ("it does not block", false, false, None, &[delete, remove]),
        ("it does not block and is on its way", false, true, None, &[remove]),
        ("another owner lives", true, false, Some(There), &[orphan, remove]),
        ("another owner cannot be asked for", true, false, Some(Void), &[orphan, remove]),
        ("another owner seems to be gone", true, false, Some(Unseen), &[unless]),
        ("another owner waits as well", true, false, Some(Waiting), &[delete]),
    ];
    for (name, blocks, deleting, other, expected) in table {
        let object = item("p", &[], &[FOREGROUND], true);
        assert_eq!(planned(object, &[], vec![dependent("c1", blocks, deleting, other)]), expected, "{name}");
    }
}

#[test]
fn a_circle_that_waits_for_itself_is_let_go() {
    let circle = Dependent { in_circle: true, ..dependent("c1", true, true, None) };
    let outside = dependent("c2", true, true, None);
    let object = || item("p", &[owner("c1", true)], &[FOREGROUND], true);
    let remove = "remove finalizer foregroundDeletion from pods default/p";
    assert_eq!(planned(object(), &[Presence::Waiting], vec![circle.clone()]), [remove]);
    assert!(planned(object(), &[Presence::Waiting], vec![circle, outside]).is_empty(), "others still block it");
}

#[test]
fn orphaning_frees_the_dependents_first() {
    let dependents = vec![dependent("c1", true, false, None)];
    let planned = planned(item("p", &[], &[ORPHAN], true), &[], dependents);
    assert_eq!(planned, ["orphan pods default/c1", "remove finalizer orphan from pods default/p"]);
}
