//! The sheets of Deployments and ReplicaSets.

use serde_json::Value;

use super::{Sheet, conditions, controller, head, labels_and_annotations, pairs, pod};
use crate::columns::{list, name, number, selector, text};

/// A Deployment with its ReplicaSets.
pub fn deployment(sheet: &mut Sheet, o: &Value, sets: &[Value]) {
    head(sheet, o);
    sheet.put(0, "CreationTimestamp", text(o, "/metadata/creationTimestamp"));
    labels_and_annotations(sheet, o);
    sheet.put(0, "Selector", selector(o.pointer("/spec/selector")));
    let (wanted, all) = (number(o, "/spec/replicas"), number(o, "/status/replicas"));
    sheet.put(
        0,
        "Replicas",
        format!(
            "{wanted} desired | {} updated | {all} total | {} available | {} unavailable",
            number(o, "/status/updatedReplicas"),
            number(o, "/status/availableReplicas"),
            number(o, "/status/unavailableReplicas"),
        ),
    );
    sheet.put(0, "StrategyType", text(o, "/spec/strategy/type"));
    sheet.put(0, "MinReadySeconds", number(o, "/spec/minReadySeconds").to_string());
    if o.pointer("/spec/strategy/rollingUpdate").is_some() {
        sheet.put(
            0,
            "RollingUpdateStrategy",
            format!(
                "{} max unavailable, {} max surge",
                text(o, "/spec/strategy/rollingUpdate/maxUnavailable"),
                text(o, "/spec/strategy/rollingUpdate/maxSurge"),
            ),
        );
    }
    template(sheet, o);
    conditions(sheet, o);
    let revision = text(o, "/metadata/annotations/deployment.kubernetes.io~1revision");
    let (new, old): (Vec<&Value>, Vec<&Value>) = sets
        .iter()
        .filter(|s| {
            number(s, "/spec/replicas") > 0
                || text(s, "/metadata/annotations/deployment.kubernetes.io~1revision") == revision
        })
        .partition(|s| text(s, "/metadata/annotations/deployment.kubernetes.io~1revision") == revision);
    sheet.put(0, "OldReplicaSets", spelled(&old));
    sheet.put(0, "NewReplicaSet", spelled(&new));
}

fn spelled(sets: &[&Value]) -> String {
    sets.iter()
        .map(|s| {
            format!("{} ({}/{} replicas created)", name(s), number(s, "/status/replicas"), number(s, "/spec/replicas"))
        })
        .collect::<Vec<_>>()
        .join(", ")
}

/// A ReplicaSet.
pub fn replica_set(sheet: &mut Sheet, o: &Value) {
    head(sheet, o);
    sheet.put(0, "Selector", selector(o.pointer("/spec/selector")));
    labels_and_annotations(sheet, o);
    if let Some(owner) = controller(o) {
        sheet.put(0, "Controlled By", owner);
    }
    sheet.put(
        0,
        "Replicas",
        format!("{} current / {} desired", number(o, "/status/replicas"), number(o, "/spec/replicas")),
    );
    sheet.put(
        0,
        "Pods Status",
        format!("{} ready, {} available", number(o, "/status/readyReplicas"), number(o, "/status/availableReplicas")),
    );
    template(sheet, o);
    conditions(sheet, o);
}

fn template(sheet: &mut Sheet, o: &Value) {
    sheet.title(0, "Pod Template");
    sheet.put_all(1, "Labels", &pairs(o.pointer("/spec/template/metadata/labels"), "="));
    for container in list(o, "/spec/template/spec/containers") {
        pod::container(sheet, container);
    }
}
