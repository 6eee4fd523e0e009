//! The whole loop against a server: it converges, does nothing twice on a stale cache, stands at its gate, survives
//! conflicts and outages, and says why.

use std::sync::Mutex;

use skiff_proto::corev1::ConfigMap;
use skiff_proto::metav1::ObjectMeta;
use skiff_world::sim::{Faults, Sim, Simulation};

use super::*;
use crate::api::{Api, DeleteOptions, ListOptions, Patch};
use crate::fake::Fake;
use crate::informer::Informer;
use crate::key::ObjectKey;
use crate::project::Whole;
use crate::store::Store;

/// Keeps as many copies `NAME-xxxxx` of a ConfigMap as its `copies` says: a ReplicaSet in miniature, with generated
/// names, so that acting twice shows. Counts them in the original's `have`.
struct Copier {
    api: Api<ConfigMap>,
    world: World,
    store: Store<ConfigMap>,
}

#[derive(Clone, Debug)]
enum Act {
    Create,
    Delete(String),
    Count(usize),
}

impl Display for Act {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Act::Create => f.write_str("create a copy"),
            Act::Delete(name) => write!(f, "delete {name}"),
            Act::Count(count) => write!(f, "count {count}"),
        }
    }
}

struct Seen {
    original: Arc<ConfigMap>,
    inputs: Vec<skiff_proto::skiffv1::ObjectRef>,
    copies: Vec<String>,
}

impl Reconciler for Copier {
    type Key = ObjectKey;
    type Observed = Seen;
    type Action = Act;
    const NAME: &'static str = "copier";

    fn observe(&self, key: &ObjectKey) -> Option<Seen> {
        let original = self.store.get(key)?;
        let copies: Vec<ObjectKey> =
            self.store.keys().into_iter().filter(|k| k.name.starts_with(&format!("{}-", key.name))).collect();
        let inputs = std::iter::once(key).chain(&copies).filter_map(|key| self.store.reference(key)).collect();
        Some(Seen { original, inputs, copies: copies.into_iter().map(|key| key.name).collect() })
    }

    fn plan(&self, seen: &Seen, _: jiff::Timestamp) -> Plan<Act> {
        let mut plan = Plan { inputs: seen.inputs.clone(), ..Plan::default() };
        let wanted: usize = seen.original.data["copies"].parse().unwrap();
        for n in seen.copies.len()..wanted {
            plan.step(Act::Create, format!("{n} of {wanted} copies exist"));
        }
        for name in seen.copies.iter().skip(wanted) {
            plan.step(Act::Delete(name.clone()), format!("{wanted} are wanted"));
        }
        if plan.is_empty() && seen.original.data.get("have") != Some(&seen.copies.len().to_string()) {
            plan.step(Act::Count(seen.copies.len()), "the count is old");
        }
        plan
    }

    async fn act(&self, key: &ObjectKey, action: &Act) -> Result<(), ActError> {
        match action {
            Act::Create => {
                let name = format!("{}-{}", key.name, self.world.random_suffix(5));
                self.api.create(&map(&name, 0)).await?;
            }
            Act::Delete(name) => drop(self.api.delete(&key.namespace, name, &DeleteOptions::default()).await?),
            Act::Count(count) => {
                let patch = serde_json::json!({"data": {"have": count.to_string()}});
                self.api.patch(&key.namespace, &key.name, Patch::Merge(patch), None).await?;
            }
        }
        Ok(())
    }
}

fn map(name: &str, copies: usize) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta { namespace: "default".into(), name: name.into(), ..ObjectMeta::default() },
        data: [("copies".to_string(), copies.to_string())].into(),
        ..ConfigMap::default()
    }
}

struct Scene {
    fake: Fake,
    world: World,
    queue: WorkQueue<ObjectKey>,
    gate: Gate,
    store: Store<ConfigMap>,
}

async fn scene(sim: &Sim, original: ConfigMap) -> Scene {
    let fake = Fake::new();
    fake.put(&original);
    fake.serve(&sim.machine("server").world("api", None)).await;
    let world = sim.machine("node").world("copier", None);
    let client = Fake::client(&world);
    let controls = crate::Controls::new();
    let (queue, gate) = (controls.queue::<ObjectKey>(&world, "copier"), controls.gate("copier"));
    let into = queue.clone();
    let store = Informer::<ConfigMap, Whole>::start(&world, &client, "", ListOptions::default(), move |change| {
        let name = change.object.name.split('-').next().unwrap_or_default();
        into.add(ObjectKey::new("default", name), change.trigger());
    });
    store.synced().await;
    let copier = Arc::new(Copier { api: Api::new(&client), world: world.clone(), store: store.clone() });
    world.spawn("copier", run(world.clone(), copier, queue.clone(), gate.clone(), 2));
    Scene { fake, world, queue, gate, store }
}

impl Scene {
    fn copies(&self) -> usize {
        self.fake.names("configmaps").len() - 1
    }

    fn have(&self) -> Option<String> {
        self.fake.get::<ConfigMap>("default", "web")?.data.get("have").cloned()
    }

    async fn until(&self, what: &str, done: impl Fn(&Scene) -> bool) {
        for _ in 0..60_000 {
            if done(self) {
                return;
            }
            self.world.sleep(Duration::from_millis(10)).await;
        }
        panic!("not within ten minutes: {what}; {:?}", self.queue);
    }
}

fn simulate<F: Future<Output = ()>>(scenario: impl Fn(Sim) -> F + Copy) {
    for seed in 0..10 {
        Simulation::new(seed).faults(Faults::none()).run(scenario);
    }
}

#[test]
fn it_converges_up_and_down_and_nothing_is_done_twice() {
    simulate(async |sim: Sim| {
        let scene = scene(&sim, map("web", 3)).await;
        scene.until("three copies, counted", |s| s.have() == Some("3".into())).await;
        scene.fake.put(&map("web", 1));
        scene.until("one copy, counted", |s| s.have() == Some("1".into())).await;
        let log: Vec<String> = scene.fake.log().into_iter().map(|write| write.what).collect();
        let count = |what: &str| log.iter().filter(|line| line.starts_with(what)).count();
        assert_eq!((count("create"), count("delete"), count("patch")), (3, 2, 2), "{log:?}");
    });
}

/// The trap: the informer lags behind the controller's own writes. Acting on what it shows would create three more.
#[test]
fn it_waits_for_its_own_writes_when_the_informer_lags() {
    simulate(async |sim: Sim| {
        let scene = scene(&sim, map("web", 3)).await;
        scene.fake.hold_watches(true);
        scene.until("three copies", |s| s.copies() == 3).await;
        // Woken again and again, it never looks at what is old.
        for _ in 0..40 {
            scene.queue.add(ObjectKey::new("default", "web"), Trigger::Resync("test".into()));
            scene.world.sleep(Duration::from_millis(250)).await;
        }
        assert_eq!((scene.copies(), scene.store.len()), (3, 1));
        assert!(scene.queue.metrics().reconciles(Ended::Stale) > 0);
        scene.fake.hold_watches(false);
        scene.until("counted", |s| s.have() == Some("3".into())).await;
        assert_eq!(scene.copies(), 3);
    });
}

/// An informer that is behind is no failure of the key's: however long it was, the first real one waits as the first does.
#[test]
fn waiting_for_an_informer_is_not_held_against_a_key() {
    simulate(async |sim: Sim| {
        let world = sim.machine("controller").world("copier", None);
        let queue: WorkQueue<ObjectKey> = WorkQueue::new(&world, "copier");
        queue.add(ObjectKey::new("default", "web"), Trigger::Resync("test".into()));
        for _ in 0..12 {
            finish(queue.next().await.unwrap(), Outcome::Stale);
        }
        let work = queue.next().await.unwrap();
        let failed = world.now();
        finish(work, Outcome::Failed("create a copy".into(), ActError::failed("no room")));
        queue.next().await.unwrap().done();
        let wait = world.now().saturating_duration_since(failed);
        assert!(wait <= KEY_BACKOFF.base * 2, "{wait:?}");
    });
}

#[test]
fn other_keys_go_on_while_one_waits_for_its_writes() {
    simulate(async |sim: Sim| {
        let scene = scene(&sim, map("web", 1)).await;
        scene.until("counted", |s| s.have() == Some("1".into())).await;
        scene.fake.put(&map("web", 2));
        scene.until("seen", |s| s.copies() == 2).await;
        scene.fake.hold_watches(true);
        scene.fake.put(&map("web", 3));
        scene.fake.hold_watches(false);
        scene.until("three", |s| s.copies() == 3).await;
        scene.until("idle", |s| s.queue.is_idle()).await;
    });
}

#[test]
fn a_write_whose_view_never_comes_is_forgotten_in_the_end() {
    simulate(async |sim: Sim| {
        let scene = scene(&sim, map("web", 1)).await;
        scene.fake.hold_watches(true);
        scene.until("one copy", |s| s.copies() == 1).await;
        let before = scene.world.now();
        scene.queue.add(ObjectKey::new("default", "web"), Trigger::Resync("test".into()));
        scene.until("acts again on what it can see", |s| s.copies() == 2).await;
        let waited = scene.world.now() - before;
        assert!(waited >= settled::FORGET_AFTER - Duration::from_secs(1), "{waited:?}");
    });
}

#[test]
fn refusals_conflicts_and_outages_are_got_over() {
    simulate(async |sim: Sim| {
        let scene = scene(&sim, map("web", 0)).await;
        scene.until("counted", |s| s.have() == Some("0".into())).await;
        scene.fake.fail_next("Conflict", 409);
        scene.fake.fail_next("Invalid", 422);
        scene.fake.fail_next("InternalError", 500);
        scene.fake.put(&map("web", 2));
        scene.until("counted", |s| s.have() == Some("2".into())).await;
        assert_eq!(scene.queue.metrics().reconciles(Ended::Conflict), 1);
        assert_eq!(scene.queue.metrics().reconciles(Ended::Failed), 2);
        sim.partition("server", "node");
        scene.fake.put(&map("web", 4));
        scene.world.sleep(Duration::from_secs(120)).await;
        assert_eq!(scene.copies(), 2);
        sim.heal("server", "node");
        scene.until("counted", |s| s.have() == Some("4".into())).await;
        assert_eq!(scene.copies(), 4);
    });
}

/// Fails the first time without knowing what came of it, and notes when it was looked at.
struct Doubtful {
    world: World,
    looks: Mutex<Vec<Duration>>,
    began: tokio::time::Instant,
}

impl Reconciler for Doubtful {
    type Key = ObjectKey;
    type Observed = usize;
    type Action = &'static str;
    const NAME: &'static str = "doubtful";

    fn observe(&self, _: &ObjectKey) -> Option<usize> {
        let mut looks = self.looks.lock().unwrap();
        looks.push(self.world.now() - self.began);
        Some(looks.len())
    }

    fn plan(&self, looks: &usize, _: jiff::Timestamp) -> Plan<&'static str> {
        let mut plan = Plan::nothing();
        if *looks == 1 {
            plan.step("write", "it is the first time");
        }
        plan
    }

    async fn act(&self, _: &ObjectKey, _: &&'static str) -> Result<(), ActError> {
        Err(crate::Error::Timeout { operation: "write".into(), after: Duration::ZERO }.into())
    }
}

#[test]
fn after_a_write_of_unknown_outcome_nothing_hurries_the_next_look() {
    simulate(async |sim: Sim| {
        let world = sim.machine("node").world("doubtful", None);
        let controls = crate::Controls::new();
        let queue = controls.queue::<ObjectKey>(&world, "doubtful");
        let began = world.now();
        let doubtful = Arc::new(Doubtful { world: world.clone(), looks: Mutex::default(), began });
        world.spawn("run", run(world.clone(), doubtful.clone(), queue.clone(), controls.gate("doubtful"), 2));
        let key = ObjectKey::new("default", "web");
        for _ in 0..20 {
            queue.add(key.clone(), Trigger::Timer("somebody else changed it".into()));
            world.sleep(Duration::from_millis(20)).await;
        }
        world.sleep(Duration::from_secs(10)).await;
        let looks = doubtful.looks.lock().unwrap().clone();
        assert!(looks.len() == 2 && looks[1] >= UNKNOWN_FLOOR, "{looks:?}");
    });
}

/// The trap: the server's store gave no answer, the write was done, and the watches are late. Whoever plans again on what
/// they show makes a second one.
#[test]
fn a_write_that_nobody_was_told_of_is_looked_for_before_it_is_repeated() {
    simulate(async |sim: Sim| {
        let scene = scene(&sim, map("web", 0)).await;
        scene.until("counted", |s| s.have() == Some("0".into())).await;
        scene.fake.do_next_create_silently();
        scene.fake.put(&map("web", 1));
        scene.until("a copy", |s| s.copies() == 1).await;
        for _ in 0..40 {
            scene.queue.add(ObjectKey::new("default", "web"), Trigger::Resync("test".into()));
            scene.world.sleep(Duration::from_millis(250)).await;
        }
        assert_eq!((scene.copies(), scene.store.len()), (1, 2));
        scene.fake.hold_watches(false);
        scene.until("counted", |s| s.have() == Some("1".into())).await;
        assert_eq!(scene.copies(), 1);
    });
}

#[test]
fn every_write_says_why() {
    simulate(async |sim: Sim| {
        let scene = scene(&sim, map("web", 2)).await;
        scene.until("counted", |s| s.have() == Some("2".into())).await;
        let log = scene.fake.log();
        let (first, second) = (&log[0].cause, &log[1].cause);
        assert_eq!((first.step, first.reason.as_str()), (0, "0 of 2 copies exist"));
        assert_eq!((second.step, second.reason.as_str()), (1, "1 of 2 copies exist"));
        assert_eq!(first.reconcile_id, second.reconcile_id);
        assert_ne!(first.request_id, second.request_id);
        let input = &first.inputs[0];
        assert_eq!((input.resource.as_str(), input.name.as_str(), input.revision), ("configmaps", "web", 11));
        let woken: Vec<Trigger> = vec![Trigger::Object(input.clone())];
        assert_eq!(first.triggers, woken.into_iter().map(Into::into).collect::<Vec<_>>());
        let last = log.last().unwrap();
        assert_eq!(last.cause.reason, "the count is old");
        assert!(last.cause.triggers.len() >= 2, "woken by its own copies: {:?}", last.cause.triggers);
    });
}

#[test]
fn a_closed_gate_lets_one_action_through_at_a_time() {
    simulate(async |sim: Sim| {
        let scene = scene(&sim, map("web", 0)).await;
        scene.until("counted", |s| s.have() == Some("0".into())).await;
        scene.gate.close();
        scene.fake.put(&map("web", 3));
        for copies in 0..3 {
            scene.until("stands at the gate", |s| s.gate.standing().len() == 1).await;
            assert_eq!(scene.gate.standing(), [format!("default/web: create a copy ({copies} of 3 copies exist)")]);
            assert_eq!(scene.copies(), copies);
            scene.gate.step(1);
            scene.until("one more", |s| s.copies() == copies + 1).await;
        }
        scene.until("stands at the gate", |s| s.gate.standing().len() == 1).await;
        assert_eq!(scene.gate.standing(), ["default/web: count 3 (the count is old)"]);
        scene.gate.open();
        scene.until("counted", |s| s.have() == Some("3".into())).await;
    });
}

#[test]
fn what_changed_behind_a_closed_gate_is_planned_again_and_not_let_through_unseen() {
    simulate(async |sim: Sim| {
        let scene = scene(&sim, map("web", 1)).await;
        scene.until("counted", |s| s.have() == Some("1".into())).await;
        scene.gate.close();
        scene.fake.put(&map("web", 2));
        scene.until("stands at the gate", |s| s.gate.standing().len() == 1).await;
        // Now the opposite is wanted. The step was given for a creation: the deletion has to be let through anew.
        let revision = scene.fake.put(&map("web", 0));
        scene.store.wait_for_revision(revision).await;
        scene.gate.step(1);
        scene
            .until("the new plan stands there", |s| {
                s.gate.standing().first().is_some_and(|what| what.contains("delete web-"))
            })
            .await;
        assert_eq!(scene.copies(), 1);
        scene.gate.step(1);
        scene.until("deleted", |s| s.copies() == 0).await;
    });
}

#[test]
fn stopped_in_the_middle_it_goes_on_where_it_was() {
    simulate(async |sim: Sim| {
        let (fake, world) = (Fake::new(), sim.machine("node").world("copier", None));
        fake.put(&map("web", 5));
        fake.serve(&sim.machine("server").world("api", None)).await;
        let client = Fake::client(&world);
        let queue: WorkQueue<ObjectKey> = WorkQueue::new(&world, "copier");
        let into = queue.clone();
        let store = Informer::<ConfigMap, Whole>::start(&world, &client, "", ListOptions::default(), move |change| {
            into.add(ObjectKey::new("default", "web"), change.trigger());
        });
        store.synced().await;
        let copier = Arc::new(Copier { api: Api::new(&client), world: world.clone(), store: store.clone() });
        let running = || run(world.clone(), copier.clone(), queue.clone(), Gate::new("copier"), 1);
        // Dropped while it is creating, as when the leadership is lost.
        for millis in [20, 1, 15, 10] {
            let _ = tokio::time::timeout(Duration::from_millis(millis), running()).await;
            assert!(queue.snapshot().in_flight.is_empty(), "the key that was being worked on is back");
        }
        // What was on its way when it was stopped may be one too many, which the next plan sees to.
        let _ = tokio::time::timeout(Duration::from_secs(5), running()).await;
        assert_eq!(fake.names("configmaps").len(), 1 + 5);
        assert!(queue.is_idle());
    });
}

/// Under every fault the simulation knows the copies end up right, and one seed is one run.
#[test]
fn under_faults_it_converges_and_one_seed_is_one_run() {
    let scenario = async |sim: Sim| {
        let scene = scene(&sim, map("web", 4)).await;
        let most = Arc::new(Mutex::new(0));
        for _ in 0..10 {
            let wanted = sim.random_below(6) as usize;
            scene.fake.put(&map("web", wanted));
            if sim.random_below(4) == 0 {
                scene.fake.compact();
            }
            tokio::time::sleep(Duration::from_millis(sim.random_below(3000))).await;
            let mut most = most.lock().unwrap();
            *most = scene.copies().max(*most);
        }
        sim.calm();
        scene.fake.put(&map("web", 3));
        scene.until("three copies, counted", |s| s.have() == Some("3".into()) && s.copies() == 3).await;
    };
    for seed in 0..20 {
        let digest = |_| Simulation::new(seed).run(scenario).digest;
        if seed < 3 {
            assert_eq!(digest(0), digest(1), "seed {seed} gave two different runs");
        } else {
            digest(0);
        }
    }
}

/// Works on the key `slow` for an hour, and on others at once.
struct Sleeper {
    world: World,
    done: std::sync::Mutex<Vec<String>>,
}

impl Reconciler for Sleeper {
    type Key = String;
    type Observed = String;
    type Action = String;
    const NAME: &'static str = "sleeper";

    fn observe(&self, key: &String) -> Option<String> {
        Some(key.clone())
    }

    fn plan(&self, key: &String, _: jiff::Timestamp) -> Plan<String> {
        let mut plan = Plan::nothing();
        plan.step(key.clone(), "it was asked for");
        plan
    }

    async fn act(&self, key: &String, _: &String) -> Result<(), ActError> {
        if key == "slow" {
            self.world.sleep(Duration::from_secs(3600)).await;
        }
        self.done.lock().expect("nobody panics").push(key.clone());
        Ok(())
    }
}

#[test]
fn a_key_that_takes_an_hour_holds_up_nobody_else() {
    simulate(async |sim: Sim| {
        let world = sim.machine("node").world("sleeper", None);
        let queue = WorkQueue::new(&world, "sleeper");
        let sleeper = Arc::new(Sleeper { world: world.clone(), done: Default::default() });
        for key in ["slow", "quick", "nimble"] {
            queue.add(key.to_string(), Trigger::Start("test".into()));
        }
        let driver = run(world.clone(), sleeper.clone(), queue, Gate::new("sleeper"), 2);
        tokio::select! {
            biased;
            () = driver => {}
            () = world.sleep(Duration::from_secs(1)) => {}
        }
        assert_eq!(*sleeper.done.lock().expect("nobody panics"), ["quick", "nimble"]);
    });
}

/// Acts against a server that says it cannot serve, until it can; notes when it acted.
struct Turned {
    world: World,
    ended: tokio::time::Instant,
    acted: Mutex<Vec<tokio::time::Instant>>,
}

impl Reconciler for Turned {
    type Key = String;
    type Observed = ();
    type Action = &'static str;
    const NAME: &'static str = "turned";

    fn observe(&self, _: &String) -> Option<()> {
        Some(())
    }

    fn plan(&self, (): &(), _: jiff::Timestamp) -> Plan<&'static str> {
        let mut plan = Plan::nothing();
        plan.step("write", "it was asked for");
        plan
    }

    async fn act(&self, _: &String, _: &&'static str) -> Result<(), ActError> {
        let now = self.world.now();
        self.acted.lock().expect("nobody panics").push(now);
        if now >= self.ended {
            return Ok(());
        }
        let status = skiff_proto::metav1::Status {
            reason: "ServiceUnavailable".into(),
            code: 503,
            message: "the store's disk is full".into(),
            ..Default::default()
        };
        Err(crate::Error::api("patch pods default/web", status).into())
    }
}

#[test]
fn after_an_hour_without_a_store_nobody_waits_for_what_has_grown_meanwhile() {
    simulate(async |sim: Sim| {
        let world = sim.machine("node").world("turned", None);
        let queue = WorkQueue::new(&world, "turned");
        let ended = world.now() + Duration::from_secs(3600);
        let turned = Arc::new(Turned { world: world.clone(), ended, acted: Mutex::default() });
        queue.add("web".to_owned(), Trigger::Start("test".into()));
        world.spawn("run", run(world.clone(), turned.clone(), queue, Gate::new("turned"), 1));
        world.sleep(Duration::from_secs(3600) + OUTAGE_CAP * 2).await;
        let acted = turned.acted.lock().expect("nobody panics").clone();
        assert!(acted.last().is_some_and(|last| *last >= ended && *last <= ended + OUTAGE_CAP), "{acted:?}");
    });
}
