//! What a store shows after what it was told.

use super::*;

fn pods() -> Resource {
    Resource { group: "".into(), version: "v1".into(), resource: "pods".into(), kind: "Pod".into(), namespaced: true }
}

/// A store of node names, indexed by them.
fn store() -> Store<String> {
    let by_node: IndexFn<String> = Arc::new(|_, node| vec![node.clone()]);
    Store::detached(pods(), vec![("node".into(), by_node)])
}

fn key(name: &str) -> ObjectKey {
    let (namespace, name) = name.split_once('/').unwrap();
    ObjectKey::new(namespace, name)
}

fn held(uid: &str, revision: u64, node: &str) -> Held<String> {
    Held { uid: uid.into(), revision, value: Arc::new(node.into()) }
}

/// A change as `name@revision old>new`.
fn print(changes: impl IntoIterator<Item = Change<String>>) -> Vec<String> {
    let text = |value: &Option<Arc<String>>| value.as_ref().map_or("-".to_string(), |value| value.to_string());
    let line = |c: Change<String>| {
        format!("{}({})@{} {}>{}", c.key(), c.object.uid, c.object.revision, text(&c.old), text(&c.new))
    };
    changes.into_iter().map(line).collect()
}

#[test]
fn puts_and_removals_are_told_once_and_in_order_of_revision() {
    let store = store();
    for (name, held, told) in [
        ("new", held("u1", 5, "n1"), vec!["a/x(u1)@5 ->n1"]),
        ("the same again", held("u1", 5, "n1"), vec![]),
        ("an echo of the past", held("u1", 4, "n0"), vec![]),
        ("nothing that is kept has changed", held("u1", 6, "n1"), vec![]),
        ("changed", held("u1", 7, "n2"), vec!["a/x(u1)@7 n1>n2"]),
        ("deleted and made again, unseen", held("u2", 9, "n3"), vec!["a/x(u1)@9 n2>-", "a/x(u2)@9 ->n3"]),
        ("an echo of its former life", held("u1", 8, "n2"), vec![]),
    ] {
        assert_eq!(print(store.put(key("a/x"), held)), told, "{name}");
    }
    assert!(store.remove(&key("a/x"), 8).is_none(), "a deletion of its former life");
    assert_eq!(print(store.remove(&key("a/x"), 10)), ["a/x(u2)@10 n3>-"]);
    assert!(store.remove(&key("a/x"), 10).is_none());
    assert!(store.is_empty() && store.index_values("node").is_empty());
}

#[test]
fn an_unchanged_projection_still_moves_the_inputs_revision() {
    let store = store();
    store.put(key("a/x"), held("u1", 5, "n1"));
    store.put(key("a/x"), held("u1", 6, "n1"));
    assert_eq!(store.reference(&key("a/x")).unwrap().revision, 6);
}

#[test]
fn a_relist_finds_what_was_deleted_changed_and_made_meanwhile() {
    let store = store();
    for name in ["a/gone", "a/same", "b/changed"] {
        store.put(key(name), held("u", 5, "n1"));
    }
    let list = vec![
        (key("a/same"), held("u", 5, "n1")),
        (key("b/changed"), held("u", 8, "n2")),
        (key("b/new"), held("u", 7, "n1")),
    ];
    let told = print(store.replace(list, 9));
    assert_eq!(told, ["a/gone(u)@9 n1>-", "b/changed(u)@8 n1>n2", "b/new(u)@7 ->n1"]);
    assert_eq!(store.len(), 3);
}

#[test]
fn when_history_has_gone_back_everything_starts_over() {
    let store = store();
    store.put(key("a/x"), held("u1", 50, "n1"));
    store.advance(50, true);
    let told = print(store.replace(vec![(key("a/x"), held("u1", 3, "n0"))], 4));
    assert_eq!(told, ["a/x(u1)@18446744073709551615 n1>-", "a/x(u1)@3 ->n0"]);
    assert_eq!(*store.get(&key("a/x")).unwrap(), "n0");
}

#[test]
fn objects_are_found_by_namespace_and_by_index() {
    let store = store();
    for (name, node) in [("a/1", "n1"), ("a/2", "n2"), ("b/1", "n1"), ("aa/1", "n1")] {
        store.put(key(name), held(name, 1, node));
    }
    assert_eq!(store.in_namespace("a").len(), 2);
    assert_eq!(store.in_namespace("none").len(), 0);
    assert_eq!(store.keys_by_index("node", "n1"), [key("a/1"), key("aa/1"), key("b/1")]);
    store.put(key("b/1"), held("b/1", 2, "n2"));
    assert_eq!(store.keys_by_index("node", "n1"), [key("a/1"), key("aa/1")]);
    assert_eq!(store.by_index("node", "n2").len(), 2);
    assert_eq!(store.by_index("no such index", "n2").len(), 0);
}

#[test]
fn a_snapshot_does_not_change() {
    let store = store();
    store.put(key("a/1"), held("u", 1, "n1"));
    let snapshot = store.snapshot();
    store.put(key("a/2"), held("u", 2, "n1"));
    assert_eq!((snapshot.len(), store.len()), (1, 2));
}

#[test]
fn a_view_awaits_what_it_will_certainly_hear_of() {
    let view = |namespace: &str, selective: bool| Store::<String>::new(pods(), namespace, selective, vec![]);
    let awaits = |store: &Store<String>, name: &str| store.shared.awaits(&key(name));
    assert!(awaits(&view("", false), "a/x"));
    assert!(awaits(&view("a", false), "a/x"));
    assert!(!awaits(&view("b", false), "a/x"), "another namespace");
    let selective = view("", true);
    assert!(!awaits(&selective, "a/x"), "it may never be selected");
    selective.put(key("a/x"), held("u", 1, "n1"));
    assert!(awaits(&selective, "a/x"), "it is told also when it leaves");
    selective.stop();
    assert!(!awaits(&selective, "a/x"), "nobody feeds it any more");
}

#[tokio::test]
async fn waiting_ends_at_the_revision_or_at_the_end() {
    let store = store();
    let mut waiting = std::pin::pin!(store.wait_for_revision(5));
    assert!(futures::poll!(&mut waiting).is_pending());
    store.advance(4, true);
    assert!(futures::poll!(&mut waiting).is_pending());
    store.advance(6, true);
    assert!(waiting.await);

    let mut waiting = std::pin::pin!(store.wait_for_revision(9));
    assert!(futures::poll!(&mut waiting).is_pending());
    store.stop();
    assert!(!waiting.await);
}

#[test]
fn index_and_objects_agree_after_anything() {
    use proptest::prelude::*;
    let deed = (0u8..4, 0u8..3, 0u8..3, any::<bool>());
    proptest!(|(deeds in proptest::collection::vec(deed, 1..60))| {
        let store = store();
        for (revision, (name, node, life, remove)) in (1u64..).zip(deeds) {
            let key = ObjectKey::new("a", name.to_string());
            if remove {
                store.remove(&key, revision);
            } else {
                store.put(key, held(&life.to_string(), revision, &node.to_string()));
            }
            let by_index: usize = store.index_values("node").iter().map(|v| store.by_index("node", v).len()).sum();
            prop_assert_eq!(by_index, store.len());
            for (key, held) in store.snapshot() {
                prop_assert!(store.keys_by_index("node", &held.value).contains(&key));
            }
        }
    });
}
