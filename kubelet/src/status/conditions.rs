//! A Pod's conditions, with Kubernetes' reasons and messages.

use jiff::Timestamp;
use skiff_proto::corev1::{Pod, PodCondition, PodStatus};

use super::{init_done, is_terminal, seconds};
use crate::lifecycle::Observed;
use crate::lifecycle::containers::{is_sidecar, latest, sandbox};
use crate::runtime::Role;

/// All of the kubelet's conditions.
pub(super) fn set_all(observed: &Observed, pod: &Pod, now: Timestamp, status: &mut PodStatus) {
    let set = |status: &mut PodStatus, kind: &str, verdict: bool, reason: &str, message: String| {
        set_condition(status, pod.metadata.generation, now, (kind, verdict, reason, message));
    };
    let terminal = is_terminal(&status.phase);
    let names = |list: Vec<&str>| format!("[{}]", list.join(" "));
    let sandbox_up = sandbox(observed).is_some_and(|report| report.is_running());
    set(status, "PodReadyToStartContainers", sandbox_up, "", String::new());

    let id = sandbox(observed).map(|report| report.id.as_str()).unwrap_or_default();
    let begun = pod.spec.containers.iter().any(|app| latest(observed, Role::App, &app.name).0.is_some());
    let waiting: Vec<&str> = pod
        .spec
        .init_containers
        .iter()
        .filter(|container| !begun && !init_done(observed, container, id))
        .map(|container| container.name.as_str())
        .collect();
    match (waiting.is_empty(), status.phase == "Succeeded") {
        (_, true) => set(status, "Initialized", true, "PodCompleted", String::new()),
        (true, _) => set(status, "Initialized", true, "", String::new()),
        (false, _) => {
            let message = format!("containers with incomplete status: {}", names(waiting));
            set(status, "Initialized", false, "ContainersNotInitialized", message);
        }
    }

    let unready: Vec<String> = (status.container_statuses.iter())
        .chain(
            status
                .init_container_statuses
                .iter()
                .zip(&pod.spec.init_containers)
                .filter(|(_, c)| is_sidecar(c))
                .map(|(s, _)| s),
        )
        .filter(|container| !container.ready)
        .map(|container| container.name.clone())
        .collect();
    let (all, reason, message) = if terminal {
        (false, if status.phase == "Succeeded" { "PodCompleted" } else { "PodFailed" }, String::new())
    } else if unready.is_empty() {
        (true, "", String::new())
    } else {
        (false, "ContainersNotReady", format!("containers with unready status: [{}]", unready.join(" ")))
    };
    let gates = unmet_gates(pod, &observed.published);
    if all && !gates.is_empty() {
        let message = format!("the status of pod readiness gate {gates:?} is not \"True\"");
        set(status, "Ready", false, "ReadinessGatesNotReady", message);
    } else {
        set(status, "Ready", all, reason, message.clone());
    }
    set(status, "ContainersReady", all, reason, message);
    set(status, "PodScheduled", true, "", String::new());
}

/// Sets one condition; it keeps the time of its last transition while its status stays.
fn set_condition(status: &mut PodStatus, generation: i64, now: Timestamp, what: (&str, bool, &str, String)) {
    let (kind, verdict, reason, message) = what;
    let word = if verdict { "True" } else { "False" };
    let at = status.conditions.iter().position(|condition| condition.r#type == kind);
    let same = at.map(|at| &status.conditions[at]).filter(|condition| condition.status == word);
    let since = same.and_then(|condition| condition.last_transition_time);
    let condition = PodCondition {
        r#type: kind.to_string(),
        observed_generation: generation,
        status: word.to_string(),
        last_transition_time: since.or_else(|| Some(seconds(now))),
        reason: reason.to_string(),
        message,
        ..PodCondition::default()
    };
    match at {
        Some(at) => status.conditions[at] = condition,
        None => status.conditions.push(condition),
    }
}

fn unmet_gates(pod: &Pod, status: &PodStatus) -> Vec<String> {
    let met = |kind: &str| status.conditions.iter().any(|c| c.r#type == kind && c.status == "True");
    let gates = pod.spec.readiness_gates.iter().map(|gate| &gate.condition_type);
    gates.filter(|kind| !met(kind)).cloned().collect()
}
