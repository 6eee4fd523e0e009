//! The columns of Pods. STATUS sums a Pod up in one word, by kubectl's rules: the reason that
//! matters most, not the phase.

use jiff::Timestamp;
use serde_json::Value;

use super::{age, created, list, name, number, text};

/// The cells of one Pod.
pub fn cells(o: &Value, now: Timestamp) -> Vec<String> {
    let statuses = list(o, "/status/containerStatuses");
    let total = list(o, "/spec/containers").len();
    let ready = statuses.iter().filter(|s| s["ready"] == true && s["state"].get("running").is_some()).count();
    vec![
        name(o),
        format!("{ready}/{total}"),
        status(o),
        restarts(o, now),
        created(o, now),
        text(o, "/status/podIP"),
        text(o, "/spec/nodeName"),
        text(o, "/status/nominatedNodeName"),
        String::new(),
    ]
}

/// One word for how the Pod is.
pub fn status(o: &Value) -> String {
    let mut status = match text(o, "/status/reason") {
        reason if reason.is_empty() => text(o, "/status/phase"),
        reason => reason,
    };
    match initializing(o) {
        Some(word) => status = word,
        None => {
            if let Some(word) = containers(o) {
                status = word;
            }
        }
    }
    if o.pointer("/metadata/deletionTimestamp").is_some() {
        status = if text(o, "/status/reason") == "NodeLost" { "Unknown" } else { "Terminating" }.to_owned();
    }
    if status.is_empty() { "Unknown".to_owned() } else { status }
}

/// While init containers are not done: `Init:1/2`, `Init:Error`, ...
fn initializing(o: &Value) -> Option<String> {
    let total = list(o, "/spec/initContainers").len();
    for (i, s) in list(o, "/status/initContainerStatuses").iter().enumerate() {
        let state = &s["state"];
        let restartable =
            list(o, "/spec/initContainers").iter().any(|c| c["name"] == s["name"] && c["restartPolicy"] == "Always");
        if restartable && s["started"] == true {
            continue;
        }
        if let Some(terminated) = state.get("terminated") {
            if number(terminated, "/exitCode") == 0 {
                continue;
            }
            return Some(format!("Init:{}", ended(terminated)));
        }
        let waiting = text(state, "/waiting/reason");
        return Some(if waiting.is_empty() || waiting == "PodInitializing" {
            format!("Init:{i}/{total}")
        } else {
            format!("Init:{waiting}")
        });
    }
    None
}

/// What the containers say, the first one of the Pod having the last word.
fn containers(o: &Value) -> Option<String> {
    let mut word = None;
    let mut running = false;
    for s in list(o, "/status/containerStatuses").iter().rev() {
        let state = &s["state"];
        let waiting = text(state, "/waiting/reason");
        if !waiting.is_empty() {
            word = Some(waiting);
        } else if let Some(terminated) = state.get("terminated") {
            word = Some(ended(terminated));
        } else if s["ready"] == true && state.get("running").is_some() {
            running = true;
        }
    }
    // One container completed while another serves on: the Pod is running.
    if running && word.as_deref() == Some("Completed") {
        let ready = list(o, "/status/conditions").iter().any(|c| c["type"] == "Ready" && c["status"] == "True");
        return Some(if ready { "Running" } else { "NotReady" }.to_owned());
    }
    word
}

fn ended(terminated: &Value) -> String {
    let reason = text(terminated, "/reason");
    if !reason.is_empty() {
        return reason;
    }
    match number(terminated, "/signal") {
        0 => format!("ExitCode:{}", number(terminated, "/exitCode")),
        signal => format!("Signal:{signal}"),
    }
}

/// `3 (2m ago)`: how often, and when last.
fn restarts(o: &Value, now: Timestamp) -> String {
    let statuses = list(o, "/status/containerStatuses");
    let count: i64 = statuses.iter().map(|s| number(s, "/restartCount")).sum();
    let last = statuses
        .iter()
        .filter_map(|s| s.pointer("/lastState/terminated/finishedAt"))
        .filter_map(|t| t.as_str()?.parse::<Timestamp>().ok())
        .max();
    match last {
        Some(last) if count > 0 => format!("{count} ({} ago)", age::human(now.as_second() - last.as_second())),
        _ => count.to_string(),
    }
}
