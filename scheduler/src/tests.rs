//! The cycle, the snapshot and the queue together: stories and properties.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use crate::cycle::{self, Outcome, Request, explain, schedule};
use crate::framework::Profile;
use crate::memo::Memo;
use crate::node::NodeInfo;
use crate::pod::PodInfo;
use crate::queue::{Depth, PATIENCE, Queue};
use crate::snapshot::{Placed, Snapshot};
use crate::template::{Resources, Taint, Template};

fn node(name: &str, cpu: i64, zone: &str) -> NodeInfo {
    let allocatable = Resources { cpu, memory: cpu, ..Resources::default() };
    NodeInfo { name: name.into(), zone: zone.into(), allocatable, max_pods: 110, ..NodeInfo::default() }
}

fn template(cpu: i64) -> Arc<Template> {
    let requests = Resources { cpu, memory: cpu, ..Resources::default() };
    Arc::new(Template { requests, scoring_cpu: cpu, scoring_memory: cpu, ..Template::default() })
}

fn pod(uid: &str, cpu: i64, priority: i32) -> Arc<PodInfo> {
    let template = template(cpu);
    Arc::new(PodInfo {
        namespace: "default".into(),
        name: uid.into(),
        uid: uid.into(),
        node: String::new(),
        scheduler: String::new(),
        priority,
        terminating: false,
        finished: false,
        gated: false,
        owner: None,
        complaint: None,
        digest: template.digest(),
        template,
    })
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn message(snapshot: &Snapshot, template: &Template) -> String {
    let request = Request { uid: "u", owner: None, template };
    match schedule(&request, snapshot, &Profile::standard()).outcome {
        Outcome::Unschedulable(failure) => failure.to_string(),
        Outcome::Node { name, .. } => name,
    }
}

#[test]
fn a_failure_says_how_many_nodes_failed_for_which_reason() {
    let mut snapshot = Snapshot::new();
    assert_eq!(message(&snapshot, &template(100)), "no nodes available to schedule pods");
    snapshot.set_node(Arc::new(node("small", 50, "")));
    let taint = Taint { key: "k".into(), value: "v".into(), effect: "NoSchedule".into() };
    for name in ["t1", "t2"] {
        snapshot.set_node(Arc::new(NodeInfo { taints: vec![taint.clone()], ..node(name, 1000, "") }));
    }
    let expected = "0/3 nodes are available: 1 Insufficient cpu, 1 Insufficient memory, \
                    2 node(s) had untolerated taint {k: v}.";
    assert_eq!(message(&snapshot, &template(100)), expected);
}

#[test]
fn the_pods_of_one_owner_are_spread_over_zones_and_nodes() {
    let mut snapshot = Snapshot::new();
    for (name, zone) in [("a1", "a"), ("a2", "a"), ("b1", "b"), ("b2", "b")] {
        snapshot.set_node(Arc::new(node(name, 100_000, zone)));
    }
    let (profile, template) = (Profile::standard(), template(100));
    let mut by_node = BTreeMap::new();
    for i in 0..8 {
        let uid = format!("pod-{i}");
        let request = Request { uid: &uid, owner: Some("web"), template: &template };
        let Outcome::Node { name, .. } = schedule(&request, &snapshot, &profile).outcome else { panic!("no room") };
        let placed = Placed { node: name.clone(), template: template.clone(), owner: Some("web".into()) };
        snapshot.place(&uid.as_str().into(), placed);
        *by_node.entry(name).or_insert(0) += 1;
        let in_zone = |zone: &str| by_node.iter().filter(|(n, _)| n.starts_with(zone)).map(|(_, c)| c).sum::<i32>();
        assert!((in_zone("a") - in_zone("b")).abs() <= 1, "{by_node:?}");
    }
    assert!(by_node.values().all(|count| *count == 2), "{by_node:?}");
}

#[test]
fn the_story_has_every_node_and_adds_up_to_the_decision() {
    let mut snapshot = Snapshot::new();
    snapshot.set_node(Arc::new(node("big", 1000, "")));
    snapshot.set_node(Arc::new(node("small", 500, "")));
    snapshot.set_node(Arc::new(NodeInfo { unschedulable: true, ..node("off", 1000, "") }));
    let template = template(100);
    let story = explain(&Request { uid: "u", owner: None, template: &template }, &snapshot, &Profile::standard());
    let names: Vec<_> = story.nodes.iter().map(|n| n.node.as_str()).collect();
    assert_eq!(names, ["big", "off", "small"]);
    assert_eq!(story.nodes[1].objection.as_ref().unwrap().0, "NodeUnschedulable");
    let Outcome::Node { name, score, feasible } = &story.decision.outcome else { panic!("no node") };
    assert_eq!((name.as_str(), *feasible), ("big", 2));
    assert_eq!(story.nodes[0].total, *score);
    assert!(story.nodes[2].total < *score);
    assert!(story.to_string().contains("off: no (NodeUnschedulable): node(s) were unschedulable"), "{story}");
}

#[test]
fn pods_known_before_their_node_count_once_it_appears() {
    let mut snapshot = Snapshot::new();
    let placed = Placed { node: "n".into(), template: template(900), owner: None };
    snapshot.place(&"early".into(), placed);
    snapshot.set_node(Arc::new(node("n", 1000, "")));
    assert_eq!(
        message(&snapshot, &template(200)),
        "0/1 nodes are available: 1 Insufficient cpu, 1 Insufficient memory."
    );
    // The node goes and comes back: its pods are still there.
    snapshot.remove_node("n");
    snapshot.set_node(Arc::new(node("n", 1000, "")));
    assert!(message(&snapshot, &template(200)).contains("Insufficient"));
    snapshot.remove_pod("early");
    assert_eq!(message(&snapshot, &template(200)), "n");
}

#[test]
fn the_queue_goes_by_priority_then_arrival() {
    let mut queue = Queue::new();
    for (uid, priority) in [("a", 0), ("b", 5), ("c", 0), ("d", 5)] {
        queue.offer(pod(uid, 1, priority));
    }
    let order: Vec<_> = std::iter::from_fn(|| queue.pop(seconds(0))).map(|p| p.name.clone()).collect();
    assert_eq!(order, ["b", "d", "a", "c"]);
}

#[test]
fn a_pod_without_a_node_waits_for_one_that_may_do_and_backs_off_otherwise() {
    let mut queue = Queue::new();
    let waiting = pod("p", 1, 0);
    queue.offer(waiting.clone());
    queue.pop(seconds(0)).unwrap();
    queue.unschedulable("p");
    // Seen again, unchanged (its own status was written): no new try.
    queue.offer(waiting.clone());
    assert_eq!(queue.depth(), Depth { unschedulable: 1, ..Depth::default() });

    // Something changed right after the try: once its backoff of a second is over.
    queue.wake_all(Duration::from_millis(100));
    assert_eq!(queue.depth(), Depth { backoff: 1, ..Depth::default() });
    assert_eq!(queue.tick(Duration::from_millis(100)), Some(seconds(1)));
    queue.tick(seconds(1));
    assert_eq!(queue.depth(), Depth { active: 1, ..Depth::default() });

    // A node will do: at once.
    queue.pop(seconds(1)).unwrap();
    queue.unschedulable("p");
    queue.wake(waiting.digest);
    assert_eq!(queue.depth(), Depth { active: 1, ..Depth::default() });

    // Nothing happens at all: it is tried again all the same.
    queue.pop(seconds(2)).unwrap();
    queue.unschedulable("p");
    assert_eq!(queue.tick(seconds(3)), Some(seconds(2) + PATIENCE));
    queue.tick(seconds(2) + PATIENCE);
    assert_eq!(queue.depth(), Depth { active: 1, ..Depth::default() });
}

#[test]
fn a_changed_template_is_a_new_chance_and_a_failed_bind_is_not_the_end() {
    let mut queue = Queue::new();
    queue.offer(pod("p", 100, 0));
    queue.pop(seconds(0)).unwrap();
    queue.unschedulable("p");
    queue.offer(pod("p", 50, 0));
    assert_eq!(queue.depth().active, 1);
    assert_eq!(queue.pop(seconds(0)).unwrap().template.requests.cpu, 50);
    queue.retry("p", seconds(0));
    assert_eq!(queue.tick(seconds(0)), Some(seconds(2)), "the second failure waits two seconds");
    queue.tick(seconds(2));
    assert!(queue.pop(seconds(2)).is_some());
    queue.remove("p");
    assert_eq!(queue.depth(), Depth::default());
    assert!(!queue.contains("p"));
}

/// What may happen to a cluster.
#[derive(Clone, Debug)]
enum Happening {
    NodeSet { name: u8, cpu: i64, tainted: bool, zone: u8 },
    NodeGone { name: u8 },
    Schedule { pod: u8, cpu: i64, owner: u8 },
    PodGone { pod: u8 },
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        2 => (0..6u8, 1..6i64, prop::bool::weighted(0.2), 0..3u8)
            .prop_map(|(name, cpu, tainted, zone)| Happening::NodeSet { name, cpu: cpu * 100, tainted, zone }),
        1 => (0..6u8).prop_map(|name| Happening::NodeGone { name }),
        6 => (0..30u8, 0..4i64, 0..4u8).prop_map(|(pod, cpu, owner)| Happening::Schedule { pod, cpu: cpu * 50, owner }),
        2 => (0..30u8).prop_map(|pod| Happening::PodGone { pod }),
    ]
}

proptest! {
    /// Whatever happens: decisions from kept evaluations are those made afresh, and no node is ever given more
    /// than it has.
    #[test]
    fn kept_evaluations_change_nothing_and_no_node_is_overcommitted(
        happenings in prop::collection::vec(happening(), 1..80)
    ) {
        let profile = Profile::standard();
        let (mut snapshot, mut memo) = (Snapshot::new(), Memo::new(2));
        for happening in happenings {
            match happening {
                Happening::NodeSet { name, cpu, tainted, zone } => {
                    let effect = if zone == 0 { "PreferNoSchedule" } else { "NoSchedule" };
                    let taint = Taint { key: "t".into(), value: String::new(), effect: effect.into() };
                    let taints = if tainted { vec![taint] } else { vec![] };
                    let zone = format!("z{zone}");
                    snapshot.set_node(Arc::new(NodeInfo { taints, ..node(&format!("n{name}"), cpu, &zone) }));
                }
                Happening::NodeGone { name } => { snapshot.remove_node(&format!("n{name}")); }
                Happening::PodGone { pod } => { snapshot.remove_pod(&format!("p{pod}")); }
                Happening::Schedule { pod, cpu, owner } => {
                    let (uid, owner, template) = (format!("p{pod}"), format!("o{owner}"), template(cpu));
                    if snapshot.placement(&uid).is_some() { continue; }
                    let request = Request { uid: &uid, owner: Some(&owner), template: &template };
                    let quick = memo.decide(template.digest(), &template, &request, &snapshot, &profile);
                    prop_assert_eq!(&quick, &cycle::schedule(&request, &snapshot, &profile));
                    let story = explain(&request, &snapshot, &profile);
                    if let Outcome::Node { name, score, .. } = quick.outcome {
                        let told = story.nodes.iter().find(|n| n.node == name).unwrap();
                        prop_assert_eq!(told.total, score);
                        prop_assert!(story.nodes.iter().all(|n| n.total <= score));
                        let slot = snapshot.slot(&name).unwrap();
                        let free = |s: &Snapshot| s.view(slot).map(|v| v.info.allocatable.cpu - v.requested().cpu).unwrap();
                        prop_assert!(cpu == 0 || free(&snapshot) >= cpu);
                        let placed = Placed { node: name, template: template.clone(), owner: Some(owner.as_str().into()) };
                        snapshot.place(&uid.as_str().into(), placed);
                    } else {
                        prop_assert!(story.nodes.iter().all(|n| n.objection.is_some()));
                    }
                }
            }
        }
    }

    /// Whatever is done to the queue, every pod that was offered and not removed is in exactly one place, and comes
    /// out again if one only waits.
    #[test]
    fn no_pod_is_ever_forgotten(steps in prop::collection::vec((0..7u8, 0..8u8), 1..120)) {
        let mut queue = Queue::new();
        let mut offered = std::collections::BTreeSet::new();
        let mut in_hand = std::collections::BTreeSet::new();
        let mut now = Duration::ZERO;
        for (what, which) in steps {
            let uid = format!("p{which}");
            match what {
                0 | 1 => { queue.offer(pod(&uid, i64::from(which) % 3, i32::from(which) % 2)); offered.insert(uid); }
                2 => if let Some(pod) = queue.pop(now) { in_hand.insert(pod.uid.to_string()); }
                3 => { queue.unschedulable(&uid); in_hand.remove(&uid); }
                4 => { queue.retry(&uid, now); in_hand.remove(&uid); }
                5 => queue.wake_all(now),
                _ => { now += seconds(u64::from(which)); queue.tick(now); }
            }
            let depth = queue.depth();
            prop_assert_eq!(depth.in_hand, in_hand.len());
            prop_assert_eq!(depth.active + depth.backoff + depth.unschedulable + depth.in_hand, offered.len());
        }
        now += PATIENCE;
        queue.tick(now);
        while let Some(pod) = queue.pop(now) { in_hand.insert(pod.uid.to_string()); }
        prop_assert_eq!(in_hand, offered);
    }
}
