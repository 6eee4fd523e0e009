//! Events: counted, bounded, written without anybody waiting.

use skiff_proto::corev1::Pod;
use skiff_world::sim::{Faults, Sim, Simulation};

use super::*;
use crate::fake::Fake;

struct Scene {
    fake: Fake,
    recorder: EventRecorder,
}

fn pod(name: &str) -> ObjectReference {
    let metadata = ObjectMeta { namespace: "web".into(), name: name.into(), uid: name.into(), ..ObjectMeta::default() };
    reference(&Pod { metadata, ..Pod::default() })
}

async fn scene(sim: &Sim) -> Scene {
    let fake = Fake::new();
    fake.serve(&sim.machine("server").world("api", None)).await;
    let world = sim.machine("node").world("kubelet", None);
    Scene { fake, recorder: EventRecorder::new(&world, &Fake::client(&world), "kubelet", "n1") }
}

impl Scene {
    async fn events(&self) -> Vec<Event> {
        let flushed = tokio::time::timeout(Duration::from_secs(120), self.recorder.flushed()).await;
        flushed.expect("the recorder gets done");
        // What was taken from the queue last may still be on its way.
        tokio::time::sleep(Duration::from_secs(5)).await;
        let names = self.fake.names("events");
        names.iter().filter_map(|name| self.fake.get("web", name).or_else(|| self.fake.get("default", name))).collect()
    }
}

fn simulate<F: Future<Output = ()>>(scenario: impl Fn(Sim) -> F + Copy) {
    for seed in 0..3 {
        Simulation::new(seed).faults(Faults::none()).run(scenario);
    }
}

#[test]
fn the_same_again_is_counted_and_written_seldom() {
    simulate(async |sim: Sim| {
        let scene = scene(&sim).await;
        for _ in 0..100 {
            scene.recorder.warning(&pod("a"), "BackOff", "restarting");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let events = scene.events().await;
        let [event] = events.as_slice() else { panic!("one event: {events:?}") };
        assert_eq!((event.count, event.r#type.as_str(), event.reason.as_str()), (100, "Warning", "BackOff"));
        assert_eq!((event.involved_object.kind.as_str(), event.involved_object.api_version.as_str()), ("Pod", "v1"));
        assert!(event.metadata.name.starts_with("a.") && event.source.host == "n1");
        let first = event.first_timestamp.as_ref().unwrap().unix();
        let last = event.last_timestamp.as_ref().unwrap().unix();
        assert!((3..=6).contains(&(last - first)), "{first} to {last}");
        let writes = scene.fake.log().len();
        assert!((4..=8).contains(&writes), "about one write a second for five seconds: {writes}");
    });
}

#[test]
fn different_things_are_different_events() {
    simulate(async |sim: Sim| {
        let scene = scene(&sim).await;
        scene.recorder.normal(&pod("a"), "Pulled", "image x");
        scene.recorder.normal(&pod("a"), "Pulled", "image y");
        scene.recorder.normal(&pod("b"), "Pulled", "image x");
        let node = ObjectReference { kind: "Node".into(), name: "n1".into(), ..ObjectReference::default() };
        scene.recorder.normal(&node, "NodeReady", "it is ready");
        let events = scene.events().await;
        assert_eq!(events.len(), 4);
        assert_eq!(events.iter().filter(|event| event.metadata.namespace == "default").count(), 1, "the node's");
    });
}

#[test]
fn a_flood_is_bounded_per_object_and_counted() {
    simulate(async |sim: Sim| {
        let scene = scene(&sim).await;
        for n in 0..BURST + 10 {
            scene.recorder.warning(&pod("noisy"), &format!("Reason{n}"), "it failed");
        }
        scene.recorder.warning(&pod("quiet"), "Failed", "once");
        assert_eq!(scene.recorder.dropped(), 10);
        assert_eq!(scene.events().await.len(), BURST as usize + 1);
        tokio::time::sleep(REFILL).await;
        scene.recorder.warning(&pod("noisy"), "Failed", "a minute later");
        assert_eq!(scene.recorder.dropped(), 10);
    });
}

#[test]
fn similar_things_are_combined() {
    simulate(async |sim: Sim| {
        let scene = scene(&sim).await;
        for n in 0..30 {
            scene.recorder.warning(&pod("a"), "FailedMount", &format!("attempt {n}"));
        }
        scene.recorder.warning(&pod("a"), "FailedMount", "attempt 3");
        scene.recorder.warning(&pod("a"), "OtherReason", "attempt 29");
        scene.recorder.warning(&pod("b"), "FailedMount", "attempt 29");
        let told = |event: &Event| (event.message.clone(), event.count);
        let events = scene.events().await;
        let of = |reason: &str, name: &str| -> Vec<(String, i32)> {
            let mut all: Vec<_> =
                events.iter().filter(|e| e.reason == reason && e.involved_object.name == name).map(told).collect();
            all.sort_by_key(|(words, _)| words.len());
            all
        };
        let mount = of("FailedMount", "a");
        assert_eq!(mount.len(), 10, "nine apart, the rest in one: {mount:?}");
        assert_eq!(mount[9], ("(combined from similar events): attempt 29".to_string(), 21));
        assert!(mount.contains(&("attempt 3".to_string(), 2)), "what is known apart stays apart: {mount:?}");
        assert_eq!((of("OtherReason", "a").len(), of("FailedMount", "b").len()), (1, 1));
        // Written again, it tells the newest.
        scene.recorder.warning(&pod("a"), "FailedMount", "attempt 30");
        let events = scene.events().await;
        assert!(events.iter().any(|e| e.message == "(combined from similar events): attempt 30" && e.count == 22));
        tokio::time::sleep(FORGOTTEN_AFTER * 2).await;
        scene.recorder.warning(&pod("a"), "FailedMount", "attempt 99");
        assert!(scene.events().await.iter().any(|e| e.message == "attempt 99"), "after a while it is news again");
    });
}

#[test]
fn an_outage_delays_events_and_a_refusal_drops_them() {
    simulate(async |sim: Sim| {
        let scene = scene(&sim).await;
        sim.partition("server", "node");
        scene.recorder.normal(&pod("a"), "Started", "x");
        tokio::time::sleep(Duration::from_secs(40)).await;
        sim.heal("server", "node");
        assert_eq!(scene.events().await.len(), 1);
        scene.fake.fail_next("Forbidden", 403);
        scene.recorder.normal(&pod("b"), "Started", "x");
        assert_eq!(scene.events().await.len(), 1);
        assert_eq!(scene.recorder.dropped(), 1);
    });
}

#[test]
fn an_event_that_has_run_out_is_made_anew() {
    simulate(async |sim: Sim| {
        let scene = scene(&sim).await;
        scene.recorder.normal(&pod("a"), "Started", "x");
        let events = scene.events().await;
        scene.fake.remove("events", "web", &events[0].metadata.name);
        scene.recorder.normal(&pod("a"), "Started", "x");
        let events = scene.events().await;
        assert_eq!((events.len(), events[0].count), (1, 2));
    });
}
