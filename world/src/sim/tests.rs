//! One seed is one run; crashes lose what they may and nothing else; partitions hold and let go.

use std::sync::atomic::{AtomicU64, Ordering};

use jiff::SignedDuration;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::{Address, Connection, Ended, Identity, World};

const COUNTS: TableDefinition<u64, u64> = TableDefinition::new("counts");

fn address() -> Address {
    Address::Pipe("counter".into())
}

/// One message: a length and that many bytes.
async fn send(connection: &mut Connection, bytes: &[u8]) -> std::io::Result<()> {
    connection.write_u32(bytes.len() as u32).await?;
    connection.write_all(bytes).await
}

async fn receive(connection: &mut Connection) -> std::io::Result<Vec<u8>> {
    let len = connection.read_u32().await?;
    let mut bytes = vec![0; len as usize];
    connection.read_exact(&mut bytes).await?;
    Ok(bytes)
}

/// A server that keeps count in a database, and answers with who asked and the count.
async fn serve(world: World) {
    let mut listener = world.listen(&address()).await.unwrap();
    let disk = world.disk();
    disk.create_dir_all("/data").unwrap();
    let database = Database::builder()
        .create_with_backend(disk.redb_backend("/data/counts").unwrap())
        .expect("a database that crashed can be opened");
    let database = Arc::new(database);
    while let Ok(mut connection) = listener.accept().await {
        let database = database.clone();
        world.spawn("serve", async move {
            while let Ok(ask) = receive(&mut connection).await {
                let who = connection.peer_identity().map_or("nobody", |id| &id.user).to_owned();
                let count = increment(&database).unwrap();
                let answer = format!("{who} {} {count}", String::from_utf8_lossy(&ask));
                if send(&mut connection, answer.as_bytes()).await.is_err() {
                    return;
                }
            }
        });
    }
}

fn increment(database: &Database) -> Result<u64, redb::Error> {
    let transaction = database.begin_write()?;
    let count = {
        let mut counts = transaction.open_table(COUNTS)?;
        let count = counts.get(0)?.map_or(0, |count| count.value()) + 1;
        counts.insert(0, count)?;
        // Some more pages, so that there is something to tear.
        for key in 1..40 {
            counts.insert(key + count * 100, count)?;
        }
        count
    };
    transaction.commit()?;
    Ok(count)
}

/// A client that asks until it has had ten answers, connecting again when it must.
async fn ask(world: World, sim: Sim, highest: Arc<AtomicU64>) {
    let mut answers = 0;
    while answers < 10 {
        world.sleep(Duration::from_millis(world.random_below(50))).await;
        let Ok(mut connection) = world.connect(&address()).await else {
            continue;
        };
        while answers < 10 && send(&mut connection, world.random_suffix(5).as_bytes()).await.is_ok() {
            let Ok(answer) = receive(&mut connection).await else {
                break;
            };
            let answer = String::from_utf8(answer).unwrap();
            sim.trace(format_args!("{} hears {answer}", world.component()));
            let count: u64 = answer.rsplit(' ').next().unwrap().parse().unwrap();
            highest.fetch_max(count, Ordering::SeqCst);
            answers += 1;
        }
    }
}

/// Four clients, a server that crashes twice, and a partition.
async fn scenario(sim: Sim) -> u64 {
    let server = sim.machine("server");
    let start = |machine: &Machine| {
        let world = machine.world("counter", None);
        world.spawn("listen", serve(world.clone()));
    };
    start(&server);
    let highest = Arc::new(AtomicU64::new(0));
    let clients: Vec<_> = (0..4)
        .map(|n| {
            let name = format!("client-{n}");
            let identity = Identity::new(&name, &["clients"]);
            let world = sim.machine(&name).world(&name, Some(identity));
            world.spawn("ask", ask(world.clone(), sim.clone(), highest.clone()))
        })
        .collect();
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_millis(20 + sim.random_below(200))).await;
        let seen = highest.load(Ordering::SeqCst);
        server.crash().await;
        let kept = count_on(&server);
        assert!(kept >= seen, "{seen} was acknowledged, {kept} survived");
        start(&server);
    }
    sim.partition("server", "client-1");
    tokio::time::sleep(Duration::from_secs(5)).await;
    sim.calm();
    for client in clients {
        assert_eq!(client.join().await, Ended::Finished);
    }
    highest.load(Ordering::SeqCst)
}

fn count_on(machine: &Machine) -> u64 {
    if !machine.disk().exists("/data/counts") {
        return 0;
    }
    let backend = machine.disk().redb_backend("/data/counts").unwrap();
    let database = Database::builder().create_with_backend(backend).unwrap();
    let transaction = database.begin_read().unwrap();
    let Ok(counts) = transaction.open_table(COUNTS) else {
        return 0;
    };
    counts.get(0).unwrap().map_or(0, |count| count.value())
}

#[test]
fn one_seed_is_one_run() {
    for seed in 0..20 {
        let (one, two) = (Simulation::new(seed).run(scenario), Simulation::new(seed).run(scenario));
        assert_eq!(one.trace, two.trace, "seed {seed}");
        assert_eq!(one.digest, two.digest, "seed {seed}: same lines, other traffic");
        assert_eq!(one.elapsed, two.elapsed);
        assert!(one.value >= 40 && one.trace.len() >= 40);
    }
}

#[test]
fn other_seeds_are_other_runs() {
    let digests: std::collections::BTreeSet<u64> =
        (0..50).map(|seed| Simulation::new(seed).run(scenario).digest).collect();
    assert_eq!(digests.len(), 50);
}

#[test]
fn faults_are_dealt_until_calm() {
    let mut broken = 0;
    for seed in 0..20 {
        let run = Simulation::new(seed).run(scenario);
        let calm = run.trace.iter().position(|line| line.ends_with(" calm")).unwrap();
        let is_fault = |line: &&String| line.contains(" breaks") || line.contains(" refused ");
        broken += run.trace[..calm].iter().filter(is_fault).count();
        assert_eq!(run.trace[calm..].iter().filter(is_fault).count(), 0);
    }
    assert!(broken > 10, "only {broken} faults in 20 runs");
}

/// A World on each of two machines and a connection between them.
async fn two(sim: &Sim) -> ([World; 2], Connection, Connection) {
    let (one, two) = (sim.machine("one").world("a", None), sim.machine("two").world("b", None));
    let mut listener = one.listen(&address()).await.unwrap();
    let to = address();
    let (near, far) = tokio::join!(two.connect(&to), listener.accept());
    ([one, two], near.unwrap(), far.unwrap())
}

#[test]
fn a_partition_holds_everything_back_and_lets_it_go_on() {
    Simulation::new(1).faults(Faults::none()).run(|sim| async move {
        let (_worlds, mut near, mut far) = two(&sim).await;
        sim.partition("one", "two");
        send(&mut near, b"hello").await.unwrap();
        drop(near);
        let wait = tokio::time::timeout(Duration::from_secs(60), receive(&mut far));
        assert!(wait.await.is_err(), "something crossed the partition");
        let late = sim.machine("two").world("late", None);
        let before = sim.elapsed();
        let error = late.connect(&address()).await.unwrap_err();
        assert!(sim.elapsed() > before, "a silent peer takes time: {error}");
        sim.heal("one", "two");
        assert_eq!(receive(&mut far).await.unwrap(), b"hello");
        assert!(receive(&mut far).await.is_err(), "and then the end");
    });
}

#[test]
fn a_crash_behind_a_dead_link_goes_unnoticed_until_it_is_up() {
    Simulation::new(1).faults(Faults::none()).run(|sim| async move {
        let (_worlds, _near, mut far) = two(&sim).await;
        sim.link_down("two");
        sim.machine("two").crash().await;
        let wait = tokio::time::timeout(Duration::from_secs(60), far.read_u8());
        assert!(wait.await.is_err());
        sim.link_up("two");
        assert!(far.read_u8().await.is_err());
    });
}

#[test]
fn a_crash_stops_every_task_and_frees_the_address() {
    Simulation::new(1).run(|sim| async move {
        let machine = sim.machine("one");
        let world = machine.world("a", None);
        let inner = world.child("b", None);
        let ticks = Arc::new(AtomicU64::new(0));
        for world in [&world, &inner] {
            let (world, ticks) = (world.clone(), ticks.clone());
            let timed = world.clone();
            world.spawn("tick", async move {
                loop {
                    timed.sleep(Duration::from_secs(1)).await;
                    ticks.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        let _listener = world.listen(&address()).await.unwrap();
        tokio::time::sleep(Duration::from_secs(10)).await;
        machine.crash().await;
        let at_crash = ticks.load(Ordering::SeqCst);
        assert!(at_crash >= 18);
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(ticks.load(Ordering::SeqCst), at_crash);
        assert!(world.connect(&address()).await.is_err());
        assert_eq!(world.spawn("late", async {}).join().await, Ended::Stopped);
        assert!(machine.world("a", None).listen(&address()).await.is_ok());
    });
}

/// What is left of a file after a crash: `synced`, then `unsynced` written and not synced.
fn after_crash(seed: u64, kill: bool) -> (Vec<u8>, bool) {
    Simulation::new(seed)
        .run(move |sim| async move {
            let machine = sim.machine("one");
            let disk = machine.disk();
            let file = disk.create("/log").unwrap();
            file.append(&[1; 600]).unwrap();
            file.sync().unwrap();
            file.append(&[2; 2000]).unwrap();
            disk.write_atomic("/atomic", b"new", 0o600).unwrap();
            if kill {
                machine.kill().await
            } else {
                machine.crash().await
            }
            assert!(file.append(b"from the dead").is_err());
            (disk.read("/log").unwrap(), disk.read("/atomic").unwrap() == b"new")
        })
        .value
}

#[test]
fn a_crash_keeps_what_was_synced_and_may_lose_or_tear_the_rest() {
    let mut lengths = std::collections::BTreeSet::new();
    for seed in 0..100 {
        let (content, atomic) = after_crash(seed, false);
        assert_eq!(content[..600], [1; 600]);
        assert!(content[600..].iter().all(|byte| [0, 2].contains(byte)));
        assert!(atomic);
        lengths.insert(content.len());
    }
    assert!(lengths.contains(&600) && lengths.contains(&2600) && lengths.len() > 3, "{lengths:?}");
    assert_eq!(after_crash(1, true).0.len(), 2600, "a killed process loses nothing it has written");
}

#[test]
fn clocks_are_off_as_told_and_timers_are_not() {
    Simulation::new(1).run(|sim| async move {
        let (one, two) = (sim.machine("one"), sim.machine("two"));
        let (a, b) = (one.world("a", None), two.world("b", None));
        one.step_clock(SignedDuration::from_secs(-90));
        let before = a.now();
        a.sleep(Duration::from_secs(5)).await;
        assert_eq!((a.now() - before).as_secs(), 5);
        assert_eq!(b.wall().duration_since(a.wall()), SignedDuration::from_secs(90));
        assert_eq!(a.blocking(|| 5).await, 5);
    });
}

#[test]
#[should_panic(expected = "task worm panicked: bad apple")]
fn a_panic_in_any_task_fails_the_run() {
    Simulation::new(1).run(|sim| async move {
        let world = sim.machine("one").world("a", None);
        world.spawn("worm", async { panic!("bad apple") });
        world.sleep(Duration::from_secs(1)).await;
    });
}

#[test]
#[should_panic(expected = "not finished after")]
fn a_run_that_waits_for_nothing_fails() {
    Simulation::new(1).time_limit(Duration::from_secs(60)).run(|_| std::future::pending::<()>());
}

#[test]
#[should_panic(expected = "somebody spins")]
fn a_task_that_spins_fails_the_run() {
    Simulation::new(1).run(|sim| async move {
        let world = sim.machine("one").world("a", None);
        world.spawn("spin", async {
            loop {
                tokio::task::yield_now().await;
            }
        });
        world.sleep(Duration::from_secs(1)).await;
    });
}
