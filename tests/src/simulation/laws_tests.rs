//! Each law, shown a small history that breaks it.

use std::time::Duration;

use serde_json::{Value, json};
use skiff_proto::corev1::Service;

use super::*;

fn record(revision: u64, object: Object, gone: bool) -> Record {
    Record { revision, at: Duration::ZERO, object, gone, listed: false }
}

fn pod(revision: u64, name: &str, rest: Value) -> Record {
    let mut object = json!({
        "metadata": { "name": name, "namespace": "default", "uid": name, "resourceVersion": revision.to_string() },
    });
    merge(&mut object, rest);
    record(revision, Object::Pod(serde_json::from_value(object).unwrap()), false)
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

fn deployment(revision: u64, generation: i64, observed: i64, replicas: i32) -> Record {
    let object = json!({
        "metadata": { "name": "web", "namespace": "default", "uid": "d", "resourceVersion": revision.to_string(),
                      "generation": generation },
        "spec": { "replicas": replicas, "strategy": { "rollingUpdate": { "maxSurge": 1 } } },
        "status": { "observedGeneration": observed },
    });
    record(revision, Object::Deployment(serde_json::from_value(object).unwrap()), false)
}

fn set(revision: u64, name: &str, replicas: i32) -> Record {
    let object = json!({
        "metadata": { "name": name, "namespace": "default", "uid": name, "resourceVersion": revision.to_string(),
                      "ownerReferences": [{ "uid": "d", "controller": true, "name": "web" }] },
        "spec": { "replicas": replicas },
    });
    record(revision, Object::ReplicaSet(serde_json::from_value(object).unwrap()), false)
}

fn found(history: &[Record]) -> String {
    breaches(history, &[], &[]).join("; ")
}

#[test]
fn a_lawful_history_is_left_alone() {
    let history = [
        deployment(1, 1, 0, 3),
        set(2, "a", 3),
        deployment(3, 2, 1, 3),
        set(4, "b", 1),
        set(5, "a", 2),
        set(6, "b", 2),
        pod(7, "p", json!({})),
        pod(8, "p", json!({ "spec": { "nodeName": "one" } })),
        pod(9, "p", json!({ "spec": { "nodeName": "one" }, "status": { "phase": "Failed", "podIP": "10.0.0.1" } })),
        pod(10, "q", json!({ "status": { "podIP": "10.0.0.1" } })),
    ];
    assert_eq!(found(&history), "");
}

#[test]
fn a_second_binding_is_found() {
    let bound = |revision, node| pod(revision, "p", json!({ "spec": { "nodeName": node } }));
    assert!(found(&[bound(1, "one"), bound(2, "two")]).contains("bound to one, then to \"two\""));
}

#[test]
fn an_ended_pod_that_comes_back_is_found() {
    let phase = |revision, phase| pod(revision, "p", json!({ "status": { "phase": phase } }));
    assert!(found(&[phase(1, "Failed"), phase(2, "Running")]).contains("was Failed and is Running"));
}

#[test]
fn two_controllers_are_found() {
    let owners = json!([{ "uid": "a", "controller": true }, { "uid": "b", "controller": true }]);
    assert!(found(&[pod(1, "p", json!({ "metadata": { "ownerReferences": owners } }))]).contains("2 controllers"));
}

#[test]
fn an_address_held_twice_is_found() {
    let at = |revision, name| pod(revision, name, json!({ "status": { "podIP": "10.0.0.1" } }));
    assert!(found(&[at(1, "p"), at(2, "q")]).contains("has the address 10.0.0.1 of p"));
}

#[test]
fn too_large_a_surge_is_found() {
    let start = [deployment(1, 1, 1, 3), set(2, "a", 3)];
    let grown = |more: Record| found(&[start[0].clone(), start[1].clone(), more]);
    assert_eq!(grown(set(3, "b", 1)), "");
    assert!(grown(set(3, "b", 2)).contains("all together to 5: more than 4"));
    // Scaled down, but the controller need not have seen it yet; once it has, it is held to it.
    let history = |observed| [deployment(1, 1, 1, 5), deployment(2, 2, observed, 1), set(3, "a", 5)];
    assert_eq!(found(&history(1)), "");
    assert!(found(&history(2)).contains("more than 2"));
}

#[test]
fn a_rollout_that_takes_too_much_away_is_found() {
    let sized = |revision, name, size: i32, available: i32| {
        let mut record = set(revision, name, size);
        if let Object::ReplicaSet(set) = &mut record.object {
            set.status.available_replicas = available;
        }
        record
    };
    // No Pod may be missing, and one more than three is allowed.
    let shrinks = |new_available| {
        let new = sized(3, "b", 1, new_available);
        found(&[deployment(1, 1, 1, 3), sized(2, "a", 3, 3), new, sized(4, "a", 2, 3)])
    };
    assert_eq!(shrinks(1), "");
    assert!(shrinks(0).contains("shrank from 3 to 2, which leaves 2"), "{}", shrinks(0));
    // Those that are not available may go.
    assert_eq!(found(&[deployment(1, 1, 1, 3), sized(2, "a", 3, 1), sized(3, "a", 2, 1)]), "");
    // Scaled down, there are fewer to keep.
    assert_eq!(found(&[deployment(1, 1, 1, 3), sized(2, "a", 3, 3), deployment(3, 2, 1, 1), sized(4, "a", 1, 3)]), "");
}

#[test]
fn a_node_with_too_many_pods_is_found() {
    let on = |number: i64, phase| {
        let name = format!("p{number}");
        pod(1 + number as u64, &name, json!({ "spec": { "nodeName": "one" }, "status": { "phase": phase } }))
    };
    let many = |phase| (0..=MOST_PODS).map(|number| on(number, phase)).collect::<Vec<_>>();
    assert_eq!(found(&many("Running")[1..]), "");
    assert!(found(&many("Running")).contains("is one of 11 on one, which takes 10"));
    assert_eq!(found(&many("Failed")), "");
    let large = |revision, name, cpu: &str| {
        let container = json!({ "name": "app", "resources": { "requests": { "cpu": cpu } } });
        pod(revision, name, json!({ "spec": { "nodeName": "one", "containers": [container] } }))
    };
    assert_eq!(found(&[large(1, "p", "1500m"), large(2, "q", "2500m")]), "");
    assert!(found(&[large(1, "p", "2"), large(2, "q", "2001m")]).contains("ask 4001m of one, which has 4000m"));
}

#[test]
fn time_that_goes_back_is_found() {
    let twice = [pod(5, "p", json!({})), pod(5, "p", json!({}))];
    assert!(found(&twice).contains("came after revision 5"));
    let mut wrong = pod(5, "p", json!({}));
    wrong.revision = 6;
    assert!(found(&[wrong]).contains("its resourceVersion is 5"));
    let generation = |revision, generation| pod(revision, "p", json!({ "metadata": { "generation": generation } }));
    assert!(found(&[generation(1, 2), generation(2, 1)]).contains("generation 1 after 2"));
    let reborn = pod(2, "p", json!({ "metadata": { "uid": "other" } }));
    assert!(found(&[pod(1, "p", json!({})), reborn]).contains("without having been deleted"));
}

#[test]
fn a_lost_write_is_found() {
    let service = |revision: u64| {
        let metadata = ObjectMeta {
            name: "s".into(),
            uid: "u".into(),
            resource_version: revision.to_string(),
            ..ObjectMeta::default()
        };
        record(revision, Object::Service(Service { metadata, ..Service::default() }), false)
    };
    let receipt = Receipt { kind: "Service", name: "s".into(), uid: "u".into(), revision: 7 };
    let held = |history: &[Record]| breaches(history, std::slice::from_ref(&receipt), &[]).len();
    assert_eq!(held(&[service(7)]), 0);
    assert_eq!(held(&[service(6), service(8)]), 1);
    assert_eq!(held(&[]), 1);
    let gap = |after, until| [Gap { kind: "Service", after, until }];
    let missed = |gaps: &[Gap]| breaches(&[service(8)], std::slice::from_ref(&receipt), gaps).len();
    assert_eq!(missed(&gap(5, 8)), 0);
    assert_eq!(missed(&gap(7, 8)), 1);
    assert_eq!(missed(&[Gap { kind: "Pod", after: 5, until: 8 }]), 1);
}
