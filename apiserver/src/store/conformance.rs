//! What every store must do, as one suite that runs on each of them. The cases are the traps that stores and watches of
//! others fell into; each gets a store of its own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use skiff_world::World;

use super::{
    Entry, Event, EventKind, MAX_OPS, MAX_VALUE, Op, Revision, Store, StoreError, Txn, TxnResult, WatchItem,
    WatchStream, take_snapshot,
};

/// Longer than any store takes for anything here; only a hanging one gets there.
const PATIENCE: Duration = Duration::from_secs(30);
const PREFIX: &[u8] = b"/skiff/core/pods/";

/// Makes a test of every case. `$run` takes a case and gives it a fresh store and a World.
macro_rules! conformance {
    ($run:path) => {
        conformance!(@ $run:
            an_empty_store_has_a_revision_to_watch_from, a_delete_has_a_revision_and_the_last_value,
            what_is_not_there_is_not_deleted, a_conflict_says_what_is_there, a_comparison_guards_every_operation,
            revisions_are_whole_and_in_order, a_watch_is_cut_to_its_prefix, compacted_history_is_a_typed_error,
            a_delete_at_the_compaction_is_not_lost, the_future_is_a_typed_error, pages_show_one_revision,
            a_range_keeps_to_its_prefix, a_short_life_ends_by_itself, a_longer_life_is_a_new_life,
            many_writers_make_one_history, progress_says_how_far_a_watch_is, large_values_are_taken,
            senseless_calls_are_refused, a_restore_never_goes_back_in_time, a_closed_store_says_so
        );
    };
    (@ $run:path: $($case:ident),+) => {
        $(
            #[test]
            fn $case() {
                $run(|world, store| $crate::store::conformance::$case(world, store));
            }
        )+
    };
}
pub(crate) use conformance;

fn key(name: &str) -> Bytes {
    Bytes::from([PREFIX, name.as_bytes()].concat())
}

async fn commit(store: &dyn Store, txn: Txn) -> u64 {
    match store.txn(txn).await {
        Ok(TxnResult::Committed { revision }) => revision,
        other => panic!("the transaction should have been done: {other:?}"),
    }
}

async fn create(store: &dyn Store, name: &str, value: &'static str) -> u64 {
    commit(store, Txn::create(key(name), value)).await
}

/// The next revision with events.
async fn next(stream: &mut WatchStream) -> Arc<Revision> {
    loop {
        match tokio::time::timeout(PATIENCE, stream.next()).await.expect("the watch hangs") {
            Some(Ok(WatchItem::Revision(revision))) => return revision,
            Some(Ok(WatchItem::Progress(_))) => {}
            other => panic!("the watch should have gone on: {other:?}"),
        }
    }
}

async fn end(stream: &mut WatchStream) -> StoreError {
    loop {
        match tokio::time::timeout(PATIENCE, stream.next()).await.expect("the watch hangs") {
            Some(Err(error)) => {
                assert!(stream.next().await.is_none(), "behind the end there is nothing");
                return error;
            }
            Some(Ok(_)) => {}
            None => panic!("the watch ended without a word"),
        }
    }
}

async fn all(store: &dyn Store) -> (Vec<Entry>, u64) {
    let found = store.range(PREFIX, None, 0, None).await.unwrap();
    assert!(!found.more);
    (found.entries, found.revision)
}

fn put(name: &str, value: &'static str, create_revision: u64) -> Event {
    Event { key: key(name), kind: EventKind::Put { value: value.into(), create_revision } }
}

fn delete(name: &str, previous: &'static str) -> Event {
    Event { key: key(name), kind: EventKind::Delete { previous: previous.into() } }
}

/// The first write after a list of nothing must not fall between list and watch.
pub async fn an_empty_store_has_a_revision_to_watch_from(_: World, store: Arc<dyn Store>) {
    let (entries, revision) = all(&*store).await;
    assert!(entries.is_empty() && revision > 0, "revision 0 means \"any\" to clients");
    assert_eq!(store.head().await.unwrap(), revision);
    let mut from_list = store.watch(PREFIX, revision).await.unwrap();
    let mut from_nothing = store.watch(PREFIX, 0).await.unwrap();
    let written = create(&*store, "a", "1").await;
    assert!(written > revision);
    let wanted = Revision { revision: written, events: vec![put("a", "1", written)] };
    assert_eq!(*next(&mut from_list).await, wanted);
    assert_eq!(*next(&mut from_nothing).await, wanted);
    assert_eq!(*next(&mut store.watch(PREFIX, revision).await.unwrap()).await, wanted);
}

pub async fn a_delete_has_a_revision_and_the_last_value(_: World, store: Arc<dyn Store>) {
    let created = create(&*store, "a", "1").await;
    let updated = commit(&*store, Txn::update(key("a"), created, "2")).await;
    let mut live = store.watch(PREFIX, updated).await.unwrap();
    let deleted = commit(&*store, Txn::delete(key("a"), updated)).await;
    assert!(deleted > updated && updated > created);
    let wanted = Revision { revision: deleted, events: vec![delete("a", "2")] };
    assert_eq!(*next(&mut live).await, wanted);
    assert_eq!(*next(&mut store.watch(PREFIX, updated).await.unwrap()).await, wanted);
    assert_eq!(all(&*store).await, (vec![], deleted));
    let again = create(&*store, "a", "3").await;
    let (entries, _) = all(&*store).await;
    assert_eq!((entries[0].create_revision, entries[0].mod_revision), (again, again), "a new object, not the old one");
}

pub async fn what_is_not_there_is_not_deleted(_: World, store: Arc<dyn Store>) {
    let head = create(&*store, "a", "1").await;
    let ghost = Txn::default().and(Op::Delete { key: key("ghost") });
    assert_eq!(commit(&*store, ghost).await, head, "nothing changed, so there is no revision");
    let next_write = create(&*store, "b", "1").await;
    let seen = next(&mut store.watch(PREFIX, head).await.unwrap()).await;
    assert_eq!((seen.revision, seen.events.len()), (next_write, 1));
}

pub async fn a_conflict_says_what_is_there(_: World, store: Arc<dyn Store>) {
    let created = create(&*store, "a", "1").await;
    let is_there =
        Entry { key: key("a"), value: "1".into(), create_revision: created, mod_revision: created, expires: false };
    for (txn, current) in [
        (Txn::create(key("a"), "2"), vec![Some(is_there.clone())]),
        (Txn::update(key("a"), created - 1, "2"), vec![Some(is_there.clone())]),
        (Txn::update(key("a"), created + 1, "2"), vec![Some(is_there.clone())]),
        (Txn::update(key("b"), created, "2"), vec![None]),
        (Txn::delete(key("b"), created), vec![None]),
        (Txn::update(key("a"), created, "2").expect(key("b"), 7), vec![Some(is_there.clone()), None]),
    ] {
        match store.txn(txn.clone()).await.unwrap() {
            TxnResult::Conflict { revision, current: found } => {
                assert_eq!((revision, found), (created, current), "{txn:?}");
            }
            done => panic!("{txn:?} should not have been done: {done:?}"),
        }
    }
    assert_eq!(all(&*store).await, (vec![is_there], created), "a refused transaction changes nothing");
}

pub async fn a_comparison_guards_every_operation(_: World, store: Arc<dyn Store>) {
    let a = create(&*store, "a", "1").await;
    let both = |expected| {
        let delete = Txn::delete(key("a"), expected);
        delete.and(Op::Put { key: key("tombstone"), value: "why".into(), ttl: None })
    };
    assert!(matches!(store.txn(both(a + 5)).await, Ok(TxnResult::Conflict { .. })));
    assert_eq!(all(&*store).await.0.len(), 1);
    let done = commit(&*store, both(a)).await;
    let seen = next(&mut store.watch(PREFIX, a).await.unwrap()).await;
    assert_eq!(*seen, Revision { revision: done, events: vec![delete("a", "1"), put("tombstone", "why", done)] });
}

/// Both while it happens and when it is read back: two changes of one transaction are never told apart.
pub async fn revisions_are_whole_and_in_order(_: World, store: Arc<dyn Store>) {
    let begin = store.head().await.unwrap();
    let mut live = store.watch(PREFIX, begin).await.unwrap();
    let mut written = Vec::new();
    for number in 0..300 {
        let first = Txn::create(key(&format!("a{number}")), "1");
        let second = Op::Put { key: key(&format!("b{number}")), value: "2".into(), ttl: None };
        written.push(commit(&*store, first.and(second)).await);
    }
    let mut late = store.watch(PREFIX, begin).await.unwrap();
    let mut middle = store.watch(PREFIX, written[149]).await.unwrap();
    for (number, revision) in written.iter().enumerate() {
        for stream in [Some(&mut live), Some(&mut late), (number >= 150).then_some(&mut middle)].into_iter().flatten() {
            let seen = next(stream).await;
            let wanted = [put(&format!("a{number}"), "1", *revision), put(&format!("b{number}"), "2", *revision)];
            assert_eq!((seen.revision, &seen.events[..]), (*revision, &wanted[..]));
        }
    }
}

pub async fn a_watch_is_cut_to_its_prefix(_: World, store: Arc<dyn Store>) {
    let begin = store.head().await.unwrap();
    let mut one = store.watch(&key("ns/"), begin).await.unwrap();
    create(&*store, "ns2/a", "1").await;
    let both = Txn::create(key("ns/a"), "1").and(Op::Put { key: key("nr/a"), value: "2".into(), ttl: None });
    let revision = commit(&*store, both).await;
    let wanted = Revision { revision, events: vec![put("ns/a", "1", revision)] };
    assert_eq!(*next(&mut one).await, wanted);
    assert_eq!(*next(&mut store.watch(&key("ns/"), begin).await.unwrap()).await, wanted);
}

pub async fn compacted_history_is_a_typed_error(_: World, store: Arc<dyn Store>) {
    let first = create(&*store, "a", "1").await;
    let second = commit(&*store, Txn::update(key("a"), first, "2")).await;
    let third = commit(&*store, Txn::update(key("a"), second, "3")).await;
    store.compact(second).await.unwrap();
    store.compact(first).await.unwrap();
    let compacted = StoreError::Compacted { oldest: second };
    assert_eq!(store.range(PREFIX, None, 0, Some(first)).await, Err(compacted.clone()));
    assert_eq!(store.watch(PREFIX, first).await.err(), Some(compacted));
    let at_second = store.range(PREFIX, None, 0, Some(second)).await.unwrap();
    assert_eq!((at_second.entries[0].value.as_ref(), at_second.revision), (&b"2"[..], second));
    let seen = next(&mut store.watch(PREFIX, second).await.unwrap()).await;
    assert_eq!(*seen, Revision { revision: third, events: vec![put("a", "3", first)] });
    assert_eq!(all(&*store).await.0[0].value, "3");
    store.compact(u64::MAX).await.unwrap();
    assert_eq!(store.head().await.unwrap(), third, "compaction makes no revision");
    assert_eq!(all(&*store).await.0[0].value, "3");
}

/// A store that drops the mark of a delete while it still lets a watch begin just before it loses the delete silently.
pub async fn a_delete_at_the_compaction_is_not_lost(_: World, store: Arc<dyn Store>) {
    let created = create(&*store, "a", "1").await;
    let deleted = commit(&*store, Txn::delete(key("a"), created)).await;
    let after = create(&*store, "b", "1").await;
    store.compact(deleted).await.unwrap();
    match store.watch(PREFIX, created).await {
        Err(error) => assert_eq!(error, StoreError::Compacted { oldest: deleted }),
        Ok(mut stream) => assert_eq!(end(&mut stream).await, StoreError::Compacted { oldest: deleted }),
    }
    assert_eq!(next(&mut store.watch(PREFIX, deleted).await.unwrap()).await.revision, after);
}

/// Waiting for a revision that never comes is how clients loop after a store was reset.
pub async fn the_future_is_a_typed_error(_: World, store: Arc<dyn Store>) {
    let head = create(&*store, "a", "1").await;
    let future = StoreError::FutureRevision { asked: head + 10, head };
    assert_eq!(store.range(PREFIX, None, 0, Some(head + 10)).await, Err(future.clone()));
    assert_eq!(store.watch(PREFIX, head + 10).await.err(), Some(future));
}

pub async fn pages_show_one_revision(_: World, store: Arc<dyn Store>) {
    let mut revisions = BTreeMap::new();
    for number in 0..25 {
        let name = format!("p{number:02}");
        revisions.insert(name.clone(), create(&*store, &name, "old").await);
    }
    let first = store.range(PREFIX, None, 10, None).await.unwrap();
    assert!(first.more && first.entries.len() == 10);
    let at = first.revision;
    for (name, revision) in &revisions {
        commit(&*store, Txn::update(key(name), *revision, "new")).await;
    }
    let (_, tenth) = all(&*store).await;
    commit(&*store, Txn::default().and(Op::Delete { key: key("p15") })).await;
    create(&*store, "p155", "new").await;
    let mut pages = vec![first];
    while pages.last().unwrap().more {
        let from = [&pages.last().unwrap().entries.last().unwrap().key[..], &[0]].concat();
        pages.push(store.range(PREFIX, Some(&from), 10, Some(at)).await.unwrap());
    }
    let entries: Vec<&Entry> = pages.iter().flat_map(|page| &page.entries).collect();
    assert_eq!(pages.iter().map(|page| page.entries.len()).collect::<Vec<_>>(), [10, 10, 5]);
    assert!(pages.iter().all(|page| page.revision == at) && at < tenth);
    for (entry, (name, revision)) in entries.iter().zip(&revisions) {
        assert_eq!((&entry.key, &entry.value[..], entry.mod_revision), (&key(name), &b"old"[..], *revision));
    }
    let exact = store.range(PREFIX, None, 25, None).await.unwrap();
    assert!(!exact.more && exact.entries.len() == 25, "a full page need not mean that more follows");
}

pub async fn a_range_keeps_to_its_prefix(_: World, store: Arc<dyn Store>) {
    for name in ["a/1", "a/2", "a0", "ab/1", "b/1"] {
        create(&*store, name, "x").await;
    }
    for (prefix, from, names) in [
        ("a/", None, vec!["a/1", "a/2"]),
        ("a/", Some("a/2"), vec!["a/2"]),
        ("a/", Some("a/3"), vec![]),
        ("a/", Some("A"), vec!["a/1", "a/2"]),
        ("a", None, vec!["a/1", "a/2", "a0", "ab/1"]),
        ("a/1", None, vec!["a/1"]),
        ("c", None, vec![]),
    ] {
        let from = from.map(key);
        let found = store.range(&key(prefix), from.as_deref(), 0, None).await.unwrap();
        let keys: Vec<Bytes> = found.entries.into_iter().map(|entry| entry.key).collect();
        assert_eq!(keys, names.into_iter().map(key).collect::<Vec<_>>(), "{prefix} from {from:?}");
    }
}

pub async fn a_short_life_ends_by_itself(_: World, store: Arc<dyn Store>) {
    let stays = create(&*store, "stays", "1").await;
    let short = Txn::create(key("goes"), "2").with_ttl(Duration::from_secs(1));
    let created = commit(&*store, short).await;
    let (entries, _) = all(&*store).await;
    assert_eq!(entries.iter().map(|entry| entry.expires).collect::<Vec<_>>(), [true, false]);
    let ended = next(&mut store.watch(PREFIX, created).await.unwrap()).await;
    assert!(ended.revision > created);
    assert_eq!(ended.events, [delete("goes", "2")]);
    let (entries, revision) = all(&*store).await;
    assert_eq!((entries.len(), entries[0].mod_revision, revision), (1, stays, ended.revision));
}

/// Each put has a life of its own: what the put before it said is over.
pub async fn a_longer_life_is_a_new_life(_: World, store: Arc<dyn Store>) {
    let short = |name: &str| Txn::create(key(name), "short").with_ttl(Duration::from_secs(1));
    let first = commit(&*store, short("kept")).await;
    commit(&*store, Txn::update(key("kept"), first, "kept")).await;
    let second = commit(&*store, short("longer")).await;
    let longer = Txn::update(key("longer"), second, "longer").with_ttl(Duration::from_secs(3_600));
    let updated = commit(&*store, longer).await;
    // Put last, so when it goes the others would have gone.
    let last = commit(&*store, short("clock")).await;
    let ended = next(&mut store.watch(PREFIX, last).await.unwrap()).await;
    assert!(last > updated);
    assert_eq!(ended.events, [delete("clock", "short")]);
    let names: Vec<Bytes> = all(&*store).await.0.into_iter().map(|entry| entry.key).collect();
    assert_eq!(names, [key("kept"), key("longer")]);
}

/// Eight writers count up four counters by compare and swap. Every acknowledged step is there once, in one order, and
/// the watch tells that order.
pub async fn many_writers_make_one_history(world: World, store: Arc<dyn Store>) {
    const WRITERS: usize = 8;
    const STEPS: usize = 25;
    let begin = store.head().await.unwrap();
    let mut live = store.watch(PREFIX, begin).await.unwrap();
    let (acknowledged, mut acks) = tokio::sync::mpsc::unbounded_channel();
    for writer in 0..WRITERS {
        let (store, acknowledged) = (store.clone(), acknowledged.clone());
        world.spawn("writer", async move {
            for step in 0..STEPS {
                let counter = format!("counter{}", (writer + step) % 4);
                let _ = acknowledged.send(count_up(&*store, &counter).await);
            }
        });
    }
    drop(acknowledged);
    let mut acked = BTreeMap::new();
    while let Some((revision, name, value)) = acks.recv().await {
        assert!(acked.insert(revision, (name, value)).is_none(), "two writes got revision {revision}");
    }
    assert_eq!(acked.len(), WRITERS * STEPS);
    let mut late = store.watch(PREFIX, begin).await.unwrap();
    let mut counters: BTreeMap<String, u64> = BTreeMap::new();
    for (revision, (name, value)) in &acked {
        let counter = counters.entry(name.clone()).or_default();
        *counter += 1;
        assert_eq!(counter, value, "the history is not linear at revision {revision}");
        for stream in [&mut live, &mut late] {
            let seen = next(stream).await;
            assert_eq!(seen.revision, *revision);
            let EventKind::Put { value: written, .. } = &seen.events[0].kind else { panic!("{seen:?}") };
            assert_eq!((&seen.events[0].key, &written[..]), (&key(name), value.to_string().as_bytes()));
        }
    }
    let found: BTreeMap<Bytes, Bytes> = all(&*store).await.0.into_iter().map(|e| (e.key, e.value)).collect();
    let wanted = counters.iter().map(|(name, value)| (key(name), Bytes::from(value.to_string())));
    assert_eq!(found, wanted.collect());
}

async fn count_up(store: &dyn Store, name: &str) -> (u64, String, u64) {
    let mut txn = Txn::create(key(name), "1");
    let mut value = 1;
    loop {
        match store.txn(txn).await.unwrap() {
            TxnResult::Committed { revision } => return (revision, name.to_owned(), value),
            TxnResult::Conflict { current, .. } => {
                let current = current[0].as_ref().expect("nobody deletes");
                value = std::str::from_utf8(&current.value).unwrap().parse::<u64>().unwrap() + 1;
                txn = Txn::update(key(name), current.mod_revision, value.to_string());
            }
        }
    }
}

/// Never ahead of what was told, and far enough even when everything happens elsewhere.
pub async fn progress_says_how_far_a_watch_is(_: World, store: Arc<dyn Store>) {
    let mut stream = store.watch(&key("quiet/"), store.head().await.unwrap()).await.unwrap();
    let mut told = Vec::new();
    let written = create(&*store, "quiet/a", "1").await;
    let elsewhere = create(&*store, "loud/a", "1").await;
    store.progress().await.unwrap();
    loop {
        match tokio::time::timeout(PATIENCE, stream.next()).await.expect("no progress") {
            Some(Ok(item)) => {
                assert!(told.last().is_none_or(|last| item.revision() >= *last), "progress went back");
                told.push(item.revision());
                if matches!(item, WatchItem::Progress(revision) if revision >= elsewhere) {
                    break;
                }
            }
            other => panic!("the watch should have gone on: {other:?}"),
        }
    }
    assert!(told.contains(&written), "progress came before what it claims: {told:?}");
}

pub async fn large_values_are_taken(_: World, store: Arc<dyn Store>) {
    let large = Bytes::from(vec![b'x'; MAX_VALUE]);
    let begin = store.head().await.unwrap();
    for name in ["a", "b", "c", "d"] {
        commit(&*store, Txn::create(key(name), large.clone())).await;
    }
    assert!(all(&*store).await.0.iter().all(|entry| entry.value == large));
    let mut stream = store.watch(PREFIX, begin).await.unwrap();
    for name in ["a", "b", "c", "d"] {
        assert_eq!(next(&mut stream).await.events[0].key, key(name));
    }
}

pub async fn senseless_calls_are_refused(_: World, store: Arc<dyn Store>) {
    let head = create(&*store, "a", "1").await;
    let delete = |name: &str| Op::Delete { key: key(name) };
    let put = |value: Vec<u8>| Op::Put { key: key("a"), value: value.into(), ttl: None };
    for txn in [
        Txn::default().and(delete("a")).and(delete("a")),
        Txn::default().and(delete("a")).and(delete("b")).and(delete("a")),
        (0..=MAX_OPS).fold(Txn::default(), |txn, n| txn.and(delete(&n.to_string()))),
        Txn::default().and(Op::Delete { key: Bytes::new() }),
        Txn::default().and(delete(&"k".repeat(2_000))),
        Txn::default().and(put(vec![0; MAX_VALUE + 1])),
    ] {
        assert!(matches!(store.txn(txn.clone()).await, Err(StoreError::Invalid(_))), "{txn:?}");
    }
    assert_eq!(all(&*store).await.1, head);
}

pub async fn a_restore_never_goes_back_in_time(_: World, store: Arc<dyn Store>) {
    let a = create(&*store, "a", "1").await;
    create(&*store, "b", "2").await;
    commit(&*store, Txn::create(key("event"), "3").with_ttl(Duration::from_secs(3_600))).await;
    let snapshot = take_snapshot(&*store).await.unwrap();
    assert_eq!(snapshot.entries, [(key("a"), "1".into()), (key("b"), "2".into())], "what expires is left out");
    commit(&*store, Txn::update(key("a"), a, "later")).await;
    let newest = create(&*store, "c", "later").await;
    let mut watch = store.watch(PREFIX, newest).await.unwrap();

    let head = store.restore(snapshot.clone()).await.unwrap();
    let why = end(&mut watch).await;
    assert!(why.needs_relist(), "{why}");
    assert!(head > snapshot.floor && head > newest);
    let (entries, revision) = all(&*store).await;
    assert_eq!(revision, head);
    let found: Vec<_> = entries.iter().map(|entry| (entry.key.clone(), entry.value.clone())).collect();
    assert_eq!(found, snapshot.entries);
    assert!(entries.iter().all(|entry| entry.mod_revision > newest && entry.create_revision > newest));
    assert!(matches!(store.watch(PREFIX, newest).await, Err(StoreError::Compacted { .. })));
    assert!(matches!(store.range(PREFIX, None, 0, Some(a)).await, Err(StoreError::Compacted { .. })));
    assert!(matches!(store.txn(Txn::update(key("a"), a, "x")).await, Ok(TxnResult::Conflict { .. })));
    let mut watch = store.watch(PREFIX, head).await.unwrap();
    let next_write = commit(&*store, Txn::update(key("a"), entries[0].mod_revision, "x")).await;
    assert_eq!(next(&mut watch).await.revision, next_write);

    let again = store.restore(snapshot).await.unwrap();
    assert!(again > next_write, "an old snapshot restored again still goes on ahead");
}

pub async fn a_closed_store_says_so(_: World, store: Arc<dyn Store>) {
    create(&*store, "a", "1").await;
    let mut watch = store.watch(PREFIX, 0).await.unwrap();
    store.close().await;
    assert_eq!(end(&mut watch).await, StoreError::Closed);
    assert_eq!(store.txn(Txn::create(key("b"), "1")).await, Err(StoreError::Closed));
    assert_eq!(store.range(PREFIX, None, 0, None).await, Err(StoreError::Closed));
    assert_eq!(store.watch(PREFIX, 0).await.err(), Some(StoreError::Closed));
    assert_eq!(store.head().await, Err(StoreError::Closed));
    store.close().await;
}
