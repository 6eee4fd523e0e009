//! A node's sheet: what it has, what runs on it, and what of it is spoken for.

use jiff::Timestamp;
use serde_json::Value;
use skiff_proto::Quantity;

use super::{Sheet, conditions, head, labels_and_annotations, pairs};
use crate::columns::{list, name, text};
use crate::table::Table;
use skiff_proto::columns::age;

/// Fills in everything but the events.
pub fn fill(sheet: &mut Sheet, o: &Value, pods: &[Value], now: Timestamp) {
    head(sheet, o);
    labels_and_annotations(sheet, o);
    sheet.put(0, "CreationTimestamp", text(o, "/metadata/creationTimestamp"));
    let taints: Vec<String> = list(o, "/spec/taints")
        .iter()
        .map(|t| match text(t, "/value") {
            value if value.is_empty() => format!("{}:{}", text(t, "/key"), text(t, "/effect")),
            value => format!("{}={value}:{}", text(t, "/key"), text(t, "/effect")),
        })
        .collect();
    sheet.put_all(0, "Taints", &taints);
    sheet.put(
        0,
        "Unschedulable",
        if o.pointer("/spec/unschedulable") == Some(&Value::Bool(true)) { "true" } else { "false" },
    );
    conditions(sheet, o);
    let addresses: Vec<String> =
        list(o, "/status/addresses").iter().map(|a| format!("{}: {}", text(a, "/type"), text(a, "/address"))).collect();
    sheet.put_all(0, "Addresses", &addresses);
    sheet.put_all(0, "Capacity", &pairs(o.pointer("/status/capacity"), ": "));
    sheet.put_all(0, "Allocatable", &pairs(o.pointer("/status/allocatable"), ": "));
    sheet.put_all(0, "System Info", &pairs(o.pointer("/status/nodeInfo"), ": "));
    sheet.put(0, "PodCIDR", text(o, "/spec/podCIDR"));

    sheet.title(0, &format!("Non-terminated Pods ({} in total)", pods.len()));
    let mut table = Table::new(["Namespace", "Name", "CPU Requests", "Memory Requests", "Age"]);
    for pod in pods {
        table.row([
            text(pod, "/metadata/namespace"),
            name(pod),
            requested(std::slice::from_ref(pod), "cpu"),
            requested(std::slice::from_ref(pod), "memory"),
            age::since(pod.pointer("/metadata/creationTimestamp"), now),
        ]);
    }
    for line in table.render(true).lines() {
        sheet.text(1, line);
    }
    sheet.title(0, "Allocated resources");
    sheet.put(1, "cpu", requested(pods, "cpu"));
    sheet.put(1, "memory", requested(pods, "memory"));
}

/// The sum of what containers request, in canonical form.
fn requested(pods: &[Value], resource: &str) -> String {
    let milli: i128 = pods
        .iter()
        .flat_map(|p| list(p, "/spec/containers"))
        .filter_map(|c| c.pointer("/resources/requests")?.get(resource)?.as_str())
        .filter_map(|q| Quantity::parse(q).ok())
        .map(|q| q.milli())
        .sum();
    const MEBI: i128 = 1 << 20;
    match resource {
        "memory" if milli % (MEBI * 1000) == 0 => format!("{}Mi", milli / MEBI / 1000),
        _ if milli % 1000 == 0 => (milli / 1000).to_string(),
        _ => format!("{milli}m"),
    }
}
