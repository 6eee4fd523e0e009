//! The conformance suite on a real and on a simulated disk, crashes, and the state machine against a simple model.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;

use bytes::Bytes;
use proptest::prelude::*;
use skiff_world::sim::{Sim, Simulation};

use super::machine::{FIRST, Machine, Version, VersionId};
use super::*;
use crate::store::conformance::conformance;
use crate::store::{Event, EventKind, Op, Revision};

mod on_a_real_disk {
    use super::*;

    fn run<F: Future<Output = ()>>(case: impl FnOnce(World, Arc<dyn Store>) -> F) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let world = World::real("test");
            let dir = tempfile::tempdir().unwrap();
            let store = Embedded::open(&world, EmbeddedOptions::new(dir.path())).await.unwrap();
            case(world.clone(), Arc::new(store)).await;
            world.stop().await;
        });
    }

    conformance!(run);

    #[test]
    fn a_second_process_is_kept_out() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let world = World::real("test");
            let dir = tempfile::tempdir().unwrap();
            let first = Embedded::open(&world, EmbeddedOptions::new(dir.path())).await.unwrap();
            let second = Embedded::open(&world, EmbeddedOptions::new(dir.path())).await.err().expect("one at a time");
            assert!(second.to_string().contains("in use by another process"), "{second}");
            first.close().await;
            Embedded::open(&world, EmbeddedOptions::new(dir.path())).await.expect("a closed store can be opened again");
            world.stop().await;
        });
    }
}

mod on_a_simulated_disk {
    use super::*;

    fn run<F: Future<Output = ()>>(case: impl FnOnce(World, Arc<dyn Store>) -> F) {
        Simulation::new(1).run(|sim| async move {
            let world = sim.machine("server").world("store", None);
            let store = open(&world).await;
            case(world, Arc::new(store)).await;
        });
    }

    conformance!(run);
}

async fn open(world: &World) -> Embedded {
    Embedded::open(world, EmbeddedOptions::new("/store")).await.expect("the store opens")
}

async fn restarted(sim: &Sim) -> Embedded {
    open(&sim.machine("server").world("store", None)).await
}

/// Keys and values, and the head.
async fn contents(store: &Embedded) -> (BTreeMap<Bytes, (Bytes, u64)>, u64) {
    let found = store.range(b"", None, 0, None).await.unwrap();
    (found.entries.into_iter().map(|entry| (entry.key, (entry.value, entry.mod_revision))).collect(), found.revision)
}

/// Writers are at work when the power fails. What was acknowledged is there; what was not, is there wholly or not at all.
#[test]
fn acknowledged_writes_survive_every_crash() {
    for seed in 0..60 {
        Simulation::new(seed).run(|sim| async move {
            let mut acknowledged: BTreeMap<u64, u64> = BTreeMap::new();
            for life in 0..4 {
                let store = Arc::new(restarted(&sim).await);
                check_survivors(&store, &acknowledged).await;
                let world = sim.machine("server").world("writers", None);
                let (acks, mut acked) = tokio::sync::mpsc::unbounded_channel();
                for writer in 0..8 {
                    let (store, acks) = (store.clone(), acks.clone());
                    world.spawn("writer", async move {
                        for step in 0.. {
                            let number = life * 1_000_000 + writer * 10_000 + step;
                            let pair = Txn::create(format!("a{number}"), "1");
                            let pair =
                                pair.and(Op::Put { key: format!("b{number}").into(), value: "2".into(), ttl: None });
                            let Ok(TxnResult::Committed { revision }) = store.txn(pair).await else { return };
                            let _ = acks.send((number, revision));
                            tokio::task::yield_now().await;
                        }
                    });
                }
                let enough = 1 + sim.random_below(200);
                for _ in 0..enough {
                    let (number, revision) = acked.recv().await.expect("the writers are at work");
                    acknowledged.insert(number, revision);
                }
                sim.machine("server").crash().await;
                while let Ok((number, revision)) = acked.try_recv() {
                    acknowledged.insert(number, revision);
                }
            }
            check_survivors(&restarted(&sim).await, &acknowledged).await;
        });
    }
}

async fn check_survivors(store: &Embedded, acknowledged: &BTreeMap<u64, u64>) {
    let (found, head) = contents(store).await;
    for (number, revision) in acknowledged {
        for half in ["a", "b"] {
            let key = Bytes::from(format!("{half}{number}"));
            assert_eq!(found.get(&key).map(|(_, at)| at), Some(revision), "{key:?} of {} is lost", acknowledged.len());
        }
        assert!(*revision <= head);
    }
    for key in found.keys() {
        let name = std::str::from_utf8(key).unwrap();
        let other = if name.starts_with('a') { name.replace('a', "b") } else { name.replace('b', "a") };
        assert!(found.contains_key(other.as_bytes()), "{name} is there without its other half");
    }
}

/// After a restart a watch resumes where it was, deletes and compaction included.
#[test]
fn history_survives_a_restart() {
    Simulation::new(3).run(|sim| async move {
        let store = restarted(&sim).await;
        let mut revisions = Vec::new();
        for number in 0..10 {
            let key = format!("k{}", number % 3);
            let op = if number % 4 == 3 { Op::Delete { key: key.into() } } else { put(&key, number) };
            match store.txn(Txn::default().and(op)).await.unwrap() {
                TxnResult::Committed { revision } => revisions.push(revision),
                conflict => panic!("{conflict:?}"),
            }
        }
        store.compact(revisions[4]).await.unwrap();
        let before = everything(&store, revisions[4]).await;
        sim.machine("server").crash().await;
        let store = restarted(&sim).await;
        assert_eq!(everything(&store, revisions[4]).await, before);
        assert_eq!(store.watch(b"", revisions[3]).await.err(), Some(StoreError::Compacted { oldest: revisions[4] }));
    });
}

/// All states and all revisions from `oldest` on.
async fn everything(store: &Embedded, oldest: u64) -> (Vec<RangeResult>, Vec<Revision>) {
    let head = store.head().await.unwrap();
    let mut states = Vec::new();
    for at in oldest..=head {
        states.push(store.range(b"", None, 0, Some(at)).await.unwrap());
    }
    let mut stream = store.watch(b"", oldest).await.unwrap();
    let revisions = std::iter::from_fn(|| stream.try_next()).map(|item| match item {
        WatchItem::Revision(revision) => (*revision).clone(),
        other => panic!("{other:?}"),
    });
    (states, revisions.collect())
}

fn put(key: &str, value: u64) -> Op {
    Op::Put { key: key.to_owned().into(), value: value.to_string().into(), ttl: None }
}

/// A head that only compaction knows of (the newest change was a delete, and is compacted) is not given out again.
#[test]
fn a_compacted_head_is_not_given_out_again() {
    Simulation::new(4).run(|sim| async move {
        let store = restarted(&sim).await;
        store.txn(Txn::create("k", "1")).await.unwrap();
        store.txn(Txn::default().and(Op::Delete { key: "k".into() })).await.unwrap();
        let head = store.head().await.unwrap();
        store.compact(head).await.unwrap();
        sim.machine("server").crash().await;
        let store = restarted(&sim).await;
        assert_eq!(store.head().await, Ok(head));
        assert_eq!(store.txn(Txn::create("k", "2")).await, Ok(TxnResult::Committed { revision: head + 1 }));
    });
}

#[test]
fn what_expires_while_the_server_is_down_goes_when_it_is_back() {
    Simulation::new(5).run(|sim| async move {
        let store = restarted(&sim).await;
        let txn = Txn::create("event", "1").with_ttl(Duration::from_secs(60));
        let Ok(TxnResult::Committed { revision }) = store.txn(txn).await else { panic!("refused") };
        sim.machine("server").crash().await;
        tokio::time::sleep(Duration::from_secs(3_600)).await;
        let store = restarted(&sim).await;
        let Some(Ok(WatchItem::Revision(seen))) = store.watch(b"", revision).await.unwrap().next().await else {
            panic!("the watch ended")
        };
        assert_eq!(seen.events, [Event { key: "event".into(), kind: EventKind::Delete { previous: "1".into() } }]);
    });
}

/// Heartbeats write without end; neither memory nor file may grow with them.
#[test]
fn history_is_bounded() {
    Simulation::new(6).run(|sim| async move {
        let world = sim.machine("server").world("store", None);
        let retention = Retention { revisions: 100, bytes: 1 << 20, age: Duration::from_secs(60), always: 10 };
        let options = EmbeddedOptions { retention, ..EmbeddedOptions::new("/store") };
        let store = Embedded::open(&world, options).await.unwrap();
        let beat = || store.txn(Txn::default().and(put("lease", 7)));
        for _ in 0..1_000 {
            beat().await.unwrap();
        }
        let (kept, _) = store.shared.read().history_size();
        assert!((100..=113).contains(&kept), "{kept} revisions are kept");
        let len = |world: &World| world.disk().open("/store/store.redb").unwrap().len().unwrap();
        let size = len(&world);
        for _ in 0..3_000 {
            beat().await.unwrap();
        }
        assert_eq!(len(&world), size, "the file grows with every heartbeat");
        tokio::time::sleep(Duration::from_secs(120)).await;
        assert_eq!(store.shared.read().history_size().0, 10, "old history goes, except the last revisions");
    });
}

/// A large object that changes often must not be kept ten thousand times.
#[test]
fn history_is_bounded_by_its_size_too() {
    Simulation::new(7).run(|sim| async move {
        let world = sim.machine("server").world("store", None);
        let store = open(&world).await;
        for number in 0..60_u8 {
            let value = Bytes::from(vec![number; 1_000_000]);
            store.txn(Txn::default().and(Op::Put { key: "k".into(), value, ttl: None })).await.unwrap();
        }
        let (kept, bytes) = store.shared.read().history_size();
        assert!(kept < 20 && bytes < 20 << 20, "{kept} revisions of {bytes} bytes are kept");
        assert_eq!(contents(&store).await.0[&Bytes::from("k")].0[0], 59);
    });
}

/// After a write that failed nobody knows what the file holds: no promise is made until it is opened again.
#[test]
fn a_full_disk_fails_writes_and_loses_nothing() {
    Simulation::new(8).run(|sim| async move {
        let store = restarted(&sim).await;
        store.txn(Txn::create("before", "1")).await.unwrap();
        let mut watch = store.watch(b"", store.head().await.unwrap()).await.unwrap();
        sim.machine("server").fill_disk(true);
        let refused = store.txn(Txn::create("lost", Bytes::from(vec![0; 1_000_000]))).await.unwrap_err();
        assert!(refused.is_transient(), "{refused}");
        assert!(watch.next().await.unwrap().is_err());
        sim.machine("server").fill_disk(false);
        assert!(store.txn(Txn::create("after", "1")).await.is_err());
        sim.machine("server").kill().await;
        let store = restarted(&sim).await;
        let (found, _) = contents(&store).await;
        assert!(found.contains_key(&b"before"[..]) && !found.contains_key(&b"after"[..]));
        store.txn(Txn::create("after", "1")).await.unwrap();
    });
}

#[test]
fn a_newer_store_is_refused_in_words() {
    Simulation::new(9).run(|sim| async move {
        let world = sim.machine("server").world("store", None);
        world.disk().create_dir_all("/store").unwrap();
        let db = redb::Database::builder().create_with_backend(world.disk().redb_backend("/store/store.redb").unwrap());
        let db = db.unwrap();
        let write = db.begin_write().unwrap();
        let meta: redb::TableDefinition<&str, u64> = redb::TableDefinition::new("meta");
        write.open_table(meta).unwrap().insert("format", 9).unwrap();
        write.commit().unwrap();
        drop(db);
        let refused = Embedded::open(&world, EmbeddedOptions::new("/store")).await.err().expect("it must not open");
        assert!(refused.to_string().contains("newer Skiff"), "{refused}");
    });
}

/// What the store is, in the simplest words: all its states, and what happened in between.
#[derive(Default)]
struct Model {
    states: BTreeMap<u64, BTreeMap<Bytes, (Bytes, u64, u64)>>,
    revisions: Vec<Revision>,
    compacted: u64,
}

impl Model {
    fn head(&self) -> u64 {
        self.states.last_key_value().map_or(FIRST, |(revision, _)| *revision)
    }

    fn txn(&mut self, txn: &Txn) -> bool {
        let mut state = self.states.last_key_value().map(|(_, state)| state.clone()).unwrap_or_default();
        if txn.compare.iter().any(|c| state.get(&c.key).map_or(0, |(_, _, at)| *at) != c.mod_revision) {
            return false;
        }
        let revision = self.head() + 1;
        let mut events = Vec::new();
        for op in &txn.ops {
            let before = state.remove(op.key());
            let kind = match (op, before) {
                (Op::Put { value, .. }, before) => {
                    let create_revision = before.map_or(revision, |(_, created, _)| created);
                    state.insert(op.key().clone(), (value.clone(), create_revision, revision));
                    EventKind::Put { value: value.clone(), create_revision }
                }
                (Op::Delete { .. }, Some((previous, _, _))) => EventKind::Delete { previous },
                (Op::Delete { .. }, None) => continue,
            };
            events.push(Event { key: op.key().clone(), kind });
        }
        if !events.is_empty() {
            self.states.insert(revision, state);
            self.revisions.push(Revision { revision, events });
        }
        true
    }

    fn check(&self, machine: &Machine) {
        assert_eq!((machine.head(), machine.compacted()), (self.head(), self.compacted));
        for at in 1..=self.head() {
            let found = machine.range(b"", None, 0, Some(at));
            let revisions = machine.since(b"", at);
            if at < self.compacted {
                assert_eq!(found, Err(StoreError::Compacted { oldest: self.compacted }));
                assert_eq!(revisions, Err(StoreError::Compacted { oldest: self.compacted }));
                continue;
            }
            let found = found.unwrap().entries.into_iter();
            let found: BTreeMap<_, _> = found.map(|e| (e.key, (e.value, e.create_revision, e.mod_revision))).collect();
            assert_eq!(Some(&found), self.states.get(&at).or(Some(&BTreeMap::new())), "at {at}");
            let revisions: Vec<Revision> = revisions.unwrap().iter().map(|revision| (**revision).clone()).collect();
            let wanted = self.revisions.iter().filter(|revision| revision.revision > at);
            assert_eq!(revisions, wanted.cloned().collect::<Vec<_>>(), "since {at}");
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    /// Transactions of one batch: for each, (key, is delete) pairs, and whether it compares rightly.
    Batch(Vec<(BTreeSet<u8>, u8, bool)>),
    Compact(u64),
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let txn = (proptest::collection::btree_set(0..4_u8, 1..=2), any::<u8>(), prop::bool::weighted(0.8));
    let step = prop_oneof![
        6 => proptest::collection::vec(txn, 1..5).prop_map(Step::Batch),
        2 => (0..40_u64).prop_map(Step::Compact),
        1 => Just(Step::Restart),
    ];
    proptest::collection::vec(step, 1..20)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// The machine is the model, at every revision, through batches, compactions and restarts; and what compaction says
    /// is dead is just what a restart does not need.
    #[test]
    fn the_machine_is_the_model(steps in steps()) {
        let (mut machine, mut model) = (Machine::new(FIRST, 0), Model::default());
        let mut log: BTreeMap<VersionId, (Bytes, Version)> = BTreeMap::new();
        for (number, step) in steps.iter().enumerate() {
            match step {
                Step::Batch(txns) => {
                    let txns: Vec<Txn> = txns.iter().enumerate().map(|(at, spec)| txn(spec, &machine, number * 10 + at)).collect();
                    let planned = machine.plan(&txns, 0);
                    for (txn, outcome) in txns.iter().zip(&planned.outcomes) {
                        prop_assert_eq!(model.txn(txn), matches!(outcome, TxnResult::Committed { .. }));
                    }
                    machine.install(&planned.applied);
                    for applied in planned.applied {
                        for (event, version) in applied.revision.events.iter().zip(applied.versions) {
                            log.insert((version.mod_revision, version.slot), (event.key.clone(), version));
                        }
                    }
                }
                Step::Compact(below) => {
                    model.compacted = model.compacted.max((*below).min(model.head()));
                    for id in machine.compact(*below) {
                        prop_assert!(log.remove(&id).is_some(), "{:?} died twice, or never lived", id);
                    }
                }
                Step::Restart => {
                    let mut again = Machine::new(machine.head(), machine.compacted());
                    log.iter().for_each(|(_, (key, version))| again.replay(key.clone(), version.clone()));
                    machine = again;
                }
            }
            model.check(&machine);
        }
        machine.compact(u64::MAX);
        let live = machine.range(b"", None, 0, None).unwrap().entries.len();
        prop_assert!(live <= log.len());
    }
}

/// A transaction on these keys; it compares the first one with what the machine has before the batch, or wrongly.
fn txn((keys, deletes, right): &(BTreeSet<u8>, u8, bool), machine: &Machine, value: usize) -> Txn {
    let name = |key: &u8| Bytes::from(format!("k{key}"));
    let mut txn = Txn::default();
    for key in keys {
        let op = if deletes & (1 << key) != 0 {
            Op::Delete { key: name(key) }
        } else {
            Op::Put { key: name(key), value: value.to_string().into(), ttl: None }
        };
        txn = txn.and(op);
    }
    let first = name(keys.first().expect("at least one"));
    let found = machine.range(&first, None, 1, None).unwrap().entries;
    let at = found.first().map_or(0, |entry| entry.mod_revision);
    txn.expect(first, if *right { at } else { at + 1_000 })
}
