//! What the real world promises: tasks that are owned, connections of every kind, a disk.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

#[tokio::test]
async fn a_stopped_world_takes_its_tasks_children_and_connections_with_it() {
    let world = World::real("parent");
    let child = world.child("child", None);
    let pipe = Address::Pipe("x".into());
    let mut listener = world.listen(&pipe).await.unwrap();
    let outside = world.child("outside", None);
    let mut near = outside.connect(&pipe).await.unwrap();
    let held = listener.accept().await.unwrap();

    struct Flag(Arc<AtomicBool>);
    impl Drop for Flag {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    let dropped = Arc::new(AtomicBool::new(false));
    let flag = Flag(dropped.clone());
    let task = child.spawn("wait", async move {
        let _flag = flag;
        std::future::pending::<()>().await;
    });
    world.stop().await;
    assert!(dropped.load(Ordering::SeqCst), "stop returns when the tasks are gone");
    assert_eq!(task.join().await, Ended::Stopped);
    assert_eq!(child.stopped().await, Stopped::Asked);
    assert!(near.read_u8().await.is_err(), "the pipe is cut though both ends are held: {held:?}");
    assert_eq!(world.spawn("late", async {}).join().await, Ended::Stopped);
    assert_eq!(world.child("late", None).stopped().await, Stopped::Asked);
    assert!(world.connect(&pipe).await.is_err());
}

#[tokio::test]
async fn a_dropped_handle_leaves_the_task_alone_and_abort_ends_it() {
    let world = World::real("test");
    let (tell, told) = tokio::sync::oneshot::channel();
    drop(world.spawn("tell", async move {
        let _ = tell.send(5);
    }));
    assert_eq!(told.await, Ok(5));
    let endless = world.spawn("endless", std::future::pending());
    endless.abort();
    assert_eq!(endless.join().await, Ended::Stopped);
}

#[tokio::test]
async fn a_panic_stops_its_own_component_and_says_so() {
    let world = World::real("parent");
    let child = world.child("child", None);
    let bystander = child.spawn("bystander", std::future::pending());
    let culprit = child.spawn("culprit", async { panic!("on purpose") });
    assert_eq!(culprit.join().await, Ended::Panicked);
    let why = Stopped::Panicked { task: "culprit", message: "on purpose".into() };
    assert_eq!(child.stopped().await, why);
    assert_eq!(bystander.join().await, Ended::Stopped);
    assert_eq!(world.spawn("fine", async {}).join().await, Ended::Finished);
}

async fn exchange(world: &World, on: &Address) -> (Connection, Connection) {
    let mut listener = world.listen(on).await.unwrap();
    let to = listener.address().clone();
    let (near, far) = tokio::join!(world.connect(&to), listener.accept());
    let (mut near, mut far) = (near.unwrap(), far.unwrap());
    near.write_all(b"there").await.unwrap();
    near.shutdown().await.unwrap();
    let mut heard = String::new();
    far.read_to_string(&mut heard).await.unwrap();
    assert_eq!(heard, "there");
    far.write_all(b"back").await.unwrap();
    drop(far);
    let mut heard = String::new();
    near.read_to_string(&mut heard).await.unwrap();
    assert_eq!(heard, "back");
    let (again, far) = tokio::join!(world.connect(&to), listener.accept());
    (again.unwrap(), far.unwrap())
}

#[tokio::test]
async fn every_kind_of_address_carries_bytes_both_ways() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("socket");
    // Left behind by a process that died: it gives way.
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let identity = Identity::new("me", &["us"]);
    let world = World::real("test").child("one", Some(identity.clone()));
    exchange(&world, &Address::Tcp("127.0.0.1:0".into())).await;
    let (near, _) = exchange(&world, &Address::Unix(socket.clone())).await;
    assert_eq!(near.peer_pid(), i32::try_from(std::process::id()).ok());
    assert!(!socket.exists(), "a listener leaves no socket behind");
    let (near, far) = exchange(&world, &Address::Pipe("p".into())).await;
    assert_eq!((near.peer_identity(), far.peer_identity()), (None, Some(&identity)));
    assert_eq!(far.peer(), "one");
}

#[tokio::test]
async fn an_address_has_one_listener_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::real("test");
    for address in [Address::Pipe("p".into()), Address::Unix(dir.path().join("s"))] {
        assert!(world.connect(&address).await.is_err());
        let first = world.listen(&address).await.unwrap();
        let second = world.listen(&address).await.err().unwrap();
        assert_eq!(second.kind(), io::ErrorKind::AddrInUse);
        drop(first);
        assert!(world.listen(&address).await.is_ok());
    }
}

#[tokio::test]
async fn a_full_pipe_makes_the_writer_wait_and_loses_nothing() {
    let world = World::real("test");
    let pipe = Address::Pipe("p".into());
    let mut listener = world.listen(&pipe).await.unwrap();
    let mut near = world.connect(&pipe).await.unwrap();
    let mut far = listener.accept().await.unwrap();
    let sent: Vec<u8> = (0..2_000_000u32).map(|n| (n % 251) as u8).collect();
    let copy = sent.clone();
    world.spawn("write", async move {
        near.write_all(&copy).await.unwrap();
    });
    let mut heard = Vec::new();
    far.read_to_end(&mut heard).await.unwrap();
    assert!(heard == sent);
}

#[tokio::test]
async fn blocking_work_returns_its_value_and_its_panics() {
    let world = World::real("test");
    assert_eq!(world.blocking(|| 2 + 2).await, 4);
    let inside = world.clone();
    let task = world.spawn("blocks", async move {
        inside.blocking(|| panic!("deep down")).await;
    });
    assert_eq!(task.join().await, Ended::Panicked);
}

#[test]
fn names_and_ids_have_their_form() {
    let world = World::real("test");
    let suffix = world.random_suffix(400);
    assert_eq!(suffix.len(), 400);
    assert!(suffix.bytes().all(|byte| SAFE_ALPHABET.contains(&byte)));
    let ids: BTreeSet<String> = (0..100).map(|_| world.uuid()).collect();
    assert_eq!(ids.len(), 100);
    for id in ids {
        let id = uuid::Uuid::parse_str(&id).unwrap();
        assert_eq!(id.get_version_num(), 4);
    }
    assert_eq!(world.random_below(0), 0);
    assert!((0..100).all(|_| world.random_below(3) < 3));
}

/// The same calls on both disks, with the same answers.
fn disk_behaves(disk: &Disk, root: &std::path::Path) {
    let dir = root.join("a/b");
    assert_eq!(disk.create(dir.join("f")).unwrap_err().kind(), io::ErrorKind::NotFound);
    disk.create_dir_all(&dir).unwrap();
    disk.create_dir_all(&dir).unwrap();
    let path = dir.join("f");
    assert_eq!(disk.open(&path).unwrap_err().kind(), io::ErrorKind::NotFound);
    let file = disk.create(&path).unwrap();
    file.write_at(3, b"def").unwrap();
    file.append(b"ghi").unwrap();
    file.sync().unwrap();
    assert_eq!(disk.read(&path).unwrap(), b"\0\0\0defghi");
    let mut out = [0; 4];
    assert_eq!(file.read_at(7, &mut out).unwrap(), 2);
    assert_eq!(file.read_exact_at(7, &mut out).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    file.set_len(4).unwrap();
    assert_eq!((file.len().unwrap(), file.is_empty().unwrap()), (4, false));
    assert_eq!(disk.open_or_create(&path).unwrap().len().unwrap(), 4);

    disk.write_atomic(dir.join("g"), b"one", 0o600).unwrap();
    disk.write_atomic(dir.join("g"), b"two", 0o600).unwrap();
    disk.write_volatile(dir.join("h"), b"three", 0o644).unwrap();
    disk.rename(&path, dir.join("g")).unwrap();
    assert_eq!(disk.read(dir.join("g")).unwrap().len(), 4);
    let names = |dir: &std::path::Path| -> Vec<_> {
        disk.list(dir).unwrap().into_iter().map(|e| (e.name, e.is_dir, e.len)).collect()
    };
    assert_eq!(names(&dir), [("g".into(), false, 4), ("h".into(), false, 5)]);
    assert_eq!(names(&root.join("a")), [("b".into(), true, 0)]);
    disk.rename(&dir, root.join("a/c")).unwrap();
    assert_eq!(disk.read(root.join("a/c/h")).unwrap(), b"three");
    disk.remove(root.join("a/c/h")).unwrap();
    assert_eq!(disk.remove(root.join("a/c/h")).unwrap_err().kind(), io::ErrorKind::NotFound);
    disk.remove_dir_all(root.join("a")).unwrap();
    assert!(!disk.exists(root.join("a/c/g")) && !disk.exists(root.join("a")));
    assert_eq!(disk.list(root.join("a")).unwrap_err().kind(), io::ErrorKind::NotFound);
}

#[test]
fn real_and_simulated_disks_behave_the_same() {
    let dir = tempfile::tempdir().unwrap();
    disk_behaves(&Disk::real(), dir.path());
    sim::Simulation::new(1).run(|sim| async move {
        disk_behaves(&sim.machine("one").disk(), std::path::Path::new("/"));
    });
}

#[test]
fn modes_are_as_asked_for_and_a_database_is_locked() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::real();
    let mode = |name: &str| std::fs::metadata(dir.path().join(name)).unwrap().permissions().mode() & 0o777;
    disk.write_atomic(dir.path().join("key"), b"secret", 0o600).unwrap();
    disk.write_volatile(dir.path().join("hosts"), b"text", 0o666).unwrap();
    disk.create(dir.path().join("log")).unwrap();
    assert_eq!((mode("key"), mode("hosts"), mode("log")), (0o600, 0o666, 0o600));
    assert_eq!(disk.list(dir.path()).unwrap().len(), 3, "no leftovers");

    let first = disk.redb_backend(dir.path().join("db")).unwrap();
    let second = disk.redb_backend(dir.path().join("db")).unwrap_err();
    assert!(second.to_string().contains("in use"), "{second}");
    drop(first);
    disk.redb_backend(dir.path().join("db")).unwrap();
}
