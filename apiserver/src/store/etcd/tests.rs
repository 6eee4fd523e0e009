//! The conformance suite on a real etcd, one process for each case, and what only etcd can get wrong.

use std::future::Future;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use skiff_world::World;
use tempfile::TempDir;

use super::layout::Marks;
use super::*;
use crate::store::WatchItem;
use crate::store::conformance::conformance;

/// An etcd of the test's own, on free loopback ports; it ends with the value, also when the test fails.
struct TestEtcd {
    process: Child,
    endpoint: String,
    _dir: TempDir,
}

impl TestEtcd {
    fn start() -> TestEtcd {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let [client, peer] = free_ports().map(|port| format!("http://127.0.0.1:{port}"));
        let process = Command::new("etcd")
            .args(["--name", "test", "--log-level", "error", "--logger", "zap", "--data-dir"])
            .arg(dir.path())
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("test={peer}")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("this test needs a real etcd: install it (Debian and Ubuntu: apt-get install etcd-server)");
        TestEtcd { process, endpoint: client, _dir: dir }
    }

    fn options(&self) -> EtcdOptions {
        EtcdOptions::new(vec![self.endpoint.clone()])
    }
}

impl Drop for TestEtcd {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to kill.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Both are held until both are known, so that they differ.
fn free_ports() -> [u16; 2] {
    let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    listeners.each_ref().map(|listener| listener.local_addr().expect("a bound address").port())
}

fn run_with<F: Future<Output = ()>>(case: impl FnOnce(World, TestEtcd) -> F) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let world = World::real("test");
        let limit = tokio::time::timeout(Duration::from_secs(60), case(world.clone(), TestEtcd::start()));
        limit.await.expect("the test hangs");
        world.stop().await;
    });
}

fn run<F: Future<Output = ()>>(case: impl FnOnce(World, Arc<dyn Store>) -> F) {
    run_with(|world, etcd| async move {
        let store = Etcd::open(&world, etcd.options()).await.unwrap();
        case(world, store).await;
    });
}

conformance!(run);

async fn create(store: &Etcd, key: &'static str) -> u64 {
    match store.txn(Txn::create(key, "1")).await.unwrap() {
        TxnResult::Committed { revision } => revision,
        conflict => panic!("{conflict:?}"),
    }
}

#[test]
fn an_endpoint_that_is_down_gives_way_to_the_next() {
    run_with(|world, etcd| async move {
        let [nobody, _] = free_ports();
        let options = EtcdOptions::new(vec![format!("http://127.0.0.1:{nobody}"), etcd.endpoint.clone()]);
        let store = Etcd::open(&world, options).await.unwrap();
        let written = create(&store, "/skiff/core/pods/a/b").await;
        assert_eq!(store.head().await, Ok(written));
    });
}

#[test]
fn an_etcd_that_dies_ends_watches_and_calls_with_an_error() {
    run_with(|world, mut etcd| async move {
        let options = EtcdOptions { patience: Duration::from_secs(2), ..etcd.options() };
        let store = Etcd::open(&world, options).await.unwrap();
        let head = store.head().await.unwrap();
        let mut watch = store.watch(b"/skiff/", head).await.unwrap();
        etcd.process.kill().unwrap();
        etcd.process.wait().unwrap();
        let end = watch.next().await.expect("a word on why it ended").unwrap_err();
        assert!(end.is_transient() && !end.needs_relist(), "{end}");
        let error = store.head().await.unwrap_err();
        assert!(error.is_transient() && error.to_string().contains(&etcd.endpoint), "{error}");
    });
}

#[test]
fn clusters_that_share_an_etcd_do_not_see_each_other() {
    run_with(|world, etcd| async move {
        let named = |name: &str| EtcdOptions { key_prefix: name.into(), ..etcd.options() };
        let one = Etcd::open(&world, named("/one")).await.unwrap();
        let two = Etcd::open(&world, named("/two")).await.unwrap();
        create(&one, "/skiff/core/pods/a/b").await;
        assert_eq!(two.range(b"/skiff/", None, 0, None).await.unwrap().entries, []);
        let mut watch = two.watch(b"/skiff/", two.head().await.unwrap()).await.unwrap();
        create(&one, "/skiff/core/pods/a/c").await;
        create(&two, "/skiff/core/pods/a/mine").await;
        let Some(Ok(WatchItem::Revision(seen))) = watch.next().await else { panic!("the watch ended") };
        assert_eq!(seen.events[0].key, "/skiff/core/pods/a/mine");
    });
}

/// The other server holds an old base: it may neither write nor go on watching as if nothing had happened.
#[test]
fn a_restore_by_another_server_is_noticed() {
    run_with(|world, etcd| async move {
        let here = Etcd::open(&world, etcd.options()).await.unwrap();
        let there = Etcd::open(&world, etcd.options()).await.unwrap();
        let old = create(&here, "/skiff/core/pods/a/b").await;
        let mut watch = here.watch(b"/skiff/", old).await.unwrap();
        let snapshot = crate::store::take_snapshot(&*there).await.unwrap();
        let head = there.restore(snapshot).await.unwrap();
        let why = watch.next().await.expect("a word on why it ended").unwrap_err();
        assert!(why.needs_relist(), "{why}");
        assert_eq!(here.txn(Txn::create("/skiff/core/pods/a/c", "1")).await, Err(StoreError::Restored));
        assert!(create(&here, "/skiff/core/pods/a/c").await > head, "after the notice it goes on with the new base");
        assert_eq!(Etcd::open(&world, etcd.options()).await.unwrap().head().await, here.head().await);
    });
}

#[test]
fn a_restore_that_was_cut_off_keeps_servers_out_until_it_is_done_again() {
    run_with(|world, etcd| async move {
        let store = Etcd::open(&world, etcd.options()).await.unwrap();
        create(&store, "/skiff/core/pods/a/b").await;
        let snapshot = crate::store::take_snapshot(&*store).await.unwrap();
        let marks = Marks { base: 5, restoring: true }.encode();
        let put = store.etcd.kv("a mark", Repeat::Freely, |mut kv| {
            let marks = marks.clone();
            async move { kv.put(STORE_KEY, marks, None).await }
        });
        put.await.unwrap();
        let refused = Etcd::open(&world, etcd.options()).await.err().expect("it must not open");
        assert!(refused.to_string().contains("restore"), "{refused}");
        let again = Etcd::open_for_restore(&world, etcd.options()).await.unwrap();
        let head = again.restore(snapshot.clone()).await.unwrap();
        let opened = Etcd::open(&world, etcd.options()).await.unwrap();
        assert_eq!(opened.head().await, Ok(head));
        assert_eq!(opened.range(b"/skiff/core/", None, 0, None).await.unwrap().entries.len(), 1);
    });
}

#[test]
fn a_newer_format_is_refused_in_words() {
    run_with(|world, etcd| async move {
        let store = Etcd::open(&world, etcd.options()).await.unwrap();
        let put = store.etcd.kv("a mark", Repeat::Freely, |mut kv| async move { kv.put(STORE_KEY, "2 0", None).await });
        put.await.unwrap();
        let refused = Etcd::open(&world, etcd.options()).await.err().expect("it must not open");
        assert!(refused.to_string().contains("newer Skiff"), "{refused}");
    });
}
