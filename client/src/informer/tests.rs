//! Informers against a server that compacts, cuts, lags and deletes behind their back.

use std::sync::Mutex;

use skiff_proto::corev1::ConfigMap;
use skiff_world::sim::{Faults, Sim, Simulation};

use super::*;
use crate::fake::Fake;
use crate::project::Whole;

struct Scene {
    fake: Fake,
    store: Store<ConfigMap>,
    told: Arc<Mutex<Vec<String>>>,
}

fn map(name: &str, value: &str) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta { namespace: "default".into(), name: name.into(), ..ObjectMeta::default() },
        data: [("v".to_string(), value.to_string())].into(),
        ..ConfigMap::default()
    }
}

/// `+a=1`, `a=1>2`, `-a`
fn print(change: &Change<ConfigMap>) -> String {
    let value = |map: &Option<Arc<ConfigMap>>| map.as_ref().map(|map| map.data["v"].clone());
    let name = &change.object.name;
    match (value(&change.old), value(&change.new)) {
        (None, Some(new)) => format!("+{name}={new}"),
        (Some(old), Some(new)) => format!("{name}={old}>{new}"),
        _ => format!("-{name}"),
    }
}

async fn scene(sim: &Sim, before: &[&str]) -> Scene {
    let fake = Fake::new();
    for name in before {
        fake.put(&map(name, "1"));
    }
    fake.serve(&sim.machine("server").world("api", None)).await;
    let world = sim.machine("node").world("component", None);
    let told = Arc::new(Mutex::new(Vec::new()));
    let into = told.clone();
    let store =
        Informer::<ConfigMap, Whole>::start(&world, &Fake::client(&world), "", ListOptions::default(), move |change| {
            into.lock().unwrap().push(print(&change))
        });
    store.synced().await;
    Scene { fake, store, told }
}

impl Scene {
    /// What the handler was told since the last call, once the store has everything.
    async fn told(&self) -> Vec<String> {
        let reached = self.store.wait_for_revision(self.fake.revision());
        assert!(tokio::time::timeout(Duration::from_secs(60), reached).await.expect("the informer catches up"));
        std::mem::take(&mut *self.told.lock().unwrap())
    }
}

fn simulate<F: Future<Output = ()>>(scenario: impl Fn(Sim) -> F + Copy) {
    for seed in 0..5 {
        Simulation::new(seed).faults(Faults::none()).run(scenario);
    }
}

#[test]
fn lists_page_by_page_then_watches() {
    simulate(async |sim: Sim| {
        let scene = scene(&sim, &["a", "b", "c", "d", "e", "f", "g"]).await;
        assert_eq!(scene.told().await, ["+a=1", "+b=1", "+c=1", "+d=1", "+e=1", "+f=1", "+g=1"]);
        assert_eq!(scene.fake.counts().0, 3, "three pages of three");
        scene.fake.put(&map("a", "2"));
        scene.fake.remove("configmaps", "default", "b");
        scene.fake.put(&map("h", "1"));
        assert_eq!(scene.told().await, ["a=1>2", "-b", "+h=1"]);
        assert_eq!(scene.store.len(), 7);
    });
}

#[test]
fn what_happens_between_the_list_and_the_watch_is_not_lost() {
    simulate(async |sim: Sim| {
        let fake = Fake::new();
        fake.put(&map("a", "1"));
        fake.serve(&sim.machine("server").world("api", None)).await;
        let world = sim.machine("node").world("component", None);
        let (writer, told) = (fake.clone(), Arc::new(Mutex::new(Vec::new())));
        let into = told.clone();
        // The handler is told of the list before the watch is opened: this write falls into the gap.
        let store = Informer::<ConfigMap, Whole>::start(&world, &Fake::client(&world), "", ListOptions::default(), {
            move |change| {
                if change.object.name == "a" {
                    writer.put(&map("gap", "1"));
                }
                into.lock().unwrap().push(print(&change));
            }
        });
        store.synced().await;
        assert!(store.wait_for_revision(fake.revision()).await);
        assert_eq!(*told.lock().unwrap(), ["+a=1", "+gap=1"]);
    });
}

#[test]
fn a_cut_watch_resumes_without_listing_and_without_a_gap() {
    simulate(async |sim: Sim| {
        let scene = scene(&sim, &["a"]).await;
        scene.told().await;
        scene.fake.cut_watches();
        scene.fake.put(&map("b", "1"));
        scene.fake.put(&map("b", "2"));
        assert_eq!(scene.told().await, ["+b=1", "b=1>2"]);
        assert_eq!(scene.fake.counts().0, 1, "listed once");
    });
}

#[test]
fn a_cut_connection_resumes_too() {
    simulate(async |sim: Sim| {
        let scene = scene(&sim, &["a"]).await;
        scene.told().await;
        sim.cut("server", "node");
        scene.fake.put(&map("b", "1"));
        assert_eq!(scene.told().await, ["+b=1"]);
        assert_eq!(scene.fake.counts().0, 1, "listed once");
    });
}

#[test]
fn a_silent_link_is_noticed_and_resumed_when_it_heals() {
    simulate(async |sim: Sim| {
        let scene = scene(&sim, &["a"]).await;
        scene.told().await;
        sim.partition("server", "node");
        scene.fake.put(&map("b", "1"));
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(scene.store.len(), 1);
        sim.heal("server", "node");
        assert_eq!(scene.told().await, ["+b=1"]);
    });
}

#[test]
fn compacted_it_lists_again_and_finds_what_was_deleted() {
    simulate(async |sim: Sim| {
        let scene = scene(&sim, &["a", "b", "c"]).await;
        scene.told().await;
        scene.fake.hold_watches(true);
        scene.fake.remove("configmaps", "default", "a");
        scene.fake.put(&map("b", "2"));
        scene.fake.put(&map("d", "1"));
        scene.fake.compact();
        scene.fake.hold_watches(false);
        assert_eq!(scene.told().await, ["-a", "b=1>2", "+d=1"]);
        let (lists, _) = scene.fake.counts();
        assert!((2..=4).contains(&lists), "lists again once (two pages), and does not spin: {lists}");
    });
}

#[test]
fn a_list_from_a_server_that_is_behind_is_not_believed() {
    simulate(async |sim: Sim| {
        let scene = scene(&sim, &["a"]).await;
        scene.told().await;
        scene.fake.hold_watches(true);
        scene.fake.put(&map("b", "1"));
        scene.fake.compact();
        scene.fake.be_behind(Some(5));
        scene.fake.hold_watches(false);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(scene.store.len(), 1, "nothing was deleted by an old list");
        assert!(scene.fake.counts().0 > 2, "it asked again");
        scene.fake.be_behind(None);
        assert_eq!(scene.told().await, ["+b=1"]);
    });
}

#[test]
fn a_restarted_server_is_found_again() {
    simulate(async |sim: Sim| {
        let fake = Fake::new();
        fake.put(&map("a", "1"));
        let server = sim.machine("server").world("api", None);
        fake.serve(&server).await;
        let world = sim.machine("node").world("component", None);
        let store =
            Informer::<ConfigMap, Whole>::start(&world, &Fake::client(&world), "", ListOptions::default(), |_| {});
        store.synced().await;
        server.stop().await;
        fake.put(&map("b", "1"));
        tokio::time::sleep(Duration::from_secs(120)).await;
        fake.serve(&sim.machine("server").world("api-again", None)).await;
        let reached = store.wait_for_revision(fake.revision());
        let waited = tokio::time::timeout(Duration::from_secs(4), reached).await;
        assert_eq!(waited, Ok(true), "after a long outage it is back within one wait between dials");
        assert_eq!(store.len(), 2);
    });
}

struct Value;
impl Project<ConfigMap> for Value {
    type Out = String;
    fn project(map: &ConfigMap) -> String {
        map.data["v"].clone()
    }
}

#[test]
fn changes_that_the_projection_does_not_show_are_not_told_but_count_as_seen() {
    simulate(async |sim: Sim| {
        let fake = Fake::new();
        fake.put(&map("a", "1"));
        fake.serve(&sim.machine("server").world("api", None)).await;
        let world = sim.machine("node").world("component", None);
        let told = Arc::new(Mutex::new(0));
        let into = told.clone();
        let store = Informer::<ConfigMap, Value>::of(&Fake::client(&world))
            .namespace("default")
            .index("value", |_, value| vec![value.clone()])
            .run(&world, move |_| *into.lock().unwrap() += 1);
        store.synced().await;
        let mut labelled = map("a", "1");
        labelled.metadata.labels.insert("x".into(), "y".into());
        fake.put(&labelled);
        assert!(store.wait_for_revision(fake.revision()).await);
        assert_eq!(*told.lock().unwrap(), 1);
        assert_eq!(store.reference(&ObjectKey::new("default", "a")).unwrap().revision, fake.revision());
        assert_eq!(store.keys_by_index("value", "1").len(), 1);
    });
}

#[test]
fn under_faults_it_converges_on_what_is_there() {
    for seed in 0..20 {
        Simulation::new(seed).run(async |sim: Sim| {
            let scene = scene(&sim, &["a", "b"]).await;
            for turn in 0..60u64 {
                let name = format!("m{}", sim.random_below(6));
                match sim.random_below(10) {
                    0 => scene.fake.compact(),
                    1 => scene.fake.cut_watches(),
                    2 | 3 => drop(scene.fake.remove("configmaps", "default", &name)),
                    _ => drop(scene.fake.put(&map(&name, &turn.to_string()))),
                }
                tokio::time::sleep(Duration::from_millis(sim.random_below(400))).await;
            }
            sim.calm();
            scene.fake.put(&map("last", "1"));
            scene.told().await;
            let shown: Vec<String> = scene.store.keys().into_iter().map(|key| key.name).collect();
            assert_eq!(shown, scene.fake.names("configmaps"));
            for name in shown {
                let there: ConfigMap = scene.fake.get("default", &name).unwrap();
                assert_eq!(scene.store.get(&ObjectKey::new("default", name)).unwrap().data, there.data);
            }
        });
    }
}
