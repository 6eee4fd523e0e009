//! A Pod's status, made from what the runtime reports. Pure, with Kubernetes' words for phases, reasons and conditions.

mod conditions;

use std::time::Duration;

use jiff::Timestamp;
use skiff_proto::Time;
use skiff_proto::corev1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus,
    HostIp, Pod, PodIp, PodStatus,
};

use crate::images::pull::Decision;
use crate::lifecycle::containers::{self, is_sidecar, latest, restarts, sandbox};
use crate::lifecycle::{Observed, backoff, ephemeral};
use crate::runtime::{ContainerReport, Exit, Role, RunState};

/// When the Pod has been active for as long as it may.
pub fn active_deadline(published: &PodStatus, pod: &Pod) -> Option<Timestamp> {
    let seconds = u64::try_from(pod.spec.active_deadline_seconds?).ok()?;
    Some(Timestamp::from(published.start_time?) + Duration::from_secs(seconds))
}

fn deadline_exceeded(observed: &Observed, pod: &Pod, now: Timestamp) -> bool {
    active_deadline(&observed.published, pod).is_some_and(|deadline| now >= deadline)
}

/// Why the Pod is done for good, if it is.
pub fn finished(observed: &Observed, pod: &Pod, now: Timestamp) -> Option<String> {
    if is_terminal(&observed.published.phase) {
        return Some(format!("the Pod has {}", observed.published.phase.to_lowercase()));
    }
    if deadline_exceeded(observed, pod, now) {
        return Some("the Pod was active for longer than activeDeadlineSeconds".into());
    }
    if let Some(failed) = pod.spec.init_containers.iter().find(|c| ended_for_good(observed, pod, c, Role::Init, true)) {
        return Some(format!("init container {} failed", failed.name));
    }
    let apps = &pod.spec.containers;
    let ended = apps.iter().all(|container| ended_for_good(observed, pod, container, Role::App, false));
    (ended && !apps.is_empty()).then(|| "all its containers have ended".into())
}

fn ended_for_good(observed: &Observed, pod: &Pod, container: &Container, role: Role, failed_only: bool) -> bool {
    let exit = latest(observed, role, &container.name).0.and_then(ContainerReport::exit);
    exit.is_some_and(|exit| !restarts(pod, container, role, exit) && (!failed_only || failed(exit)))
}

fn failed(exit: &Exit) -> bool {
    exit.code != 0 || exit.start_error.is_some()
}

fn is_terminal(phase: &str) -> bool {
    matches!(phase, "Succeeded" | "Failed")
}

/// Whether an init container lets the next one go.
pub fn init_done(observed: &Observed, container: &Container, sandbox: &str) -> bool {
    let Some(report) = latest(observed, Role::Init, &container.name).0 else {
        return false;
    };
    if report.identity.sandbox != sandbox {
        return false;
    }
    match &report.state {
        RunState::Exited(exit) => !is_sidecar(container) && !failed(exit),
        RunState::Running { .. } => is_sidecar(container) && is_started(observed, container, report),
        RunState::Created => false,
    }
}

/// The status as it should be.
pub fn pod_status(observed: &Observed, pod: &Pod, now: Timestamp) -> PodStatus {
    let old = &observed.published;
    let statuses = |list: &[Container], role| -> Vec<ContainerStatus> {
        list.iter().map(|container| container_status(observed, pod, container, role, now)).collect()
    };
    let mut status = PodStatus {
        observed_generation: pod.metadata.generation,
        init_container_statuses: statuses(&pod.spec.init_containers, Role::Init),
        container_statuses: statuses(&pod.spec.containers, Role::App),
        ephemeral_container_statuses: statuses(&ephemeral::all(pod).collect::<Vec<_>>(), Role::Ephemeral),
        start_time: old.start_time.or_else(|| Some(seconds(now))),
        ..old.clone()
    };
    if status.qos_class.is_empty() {
        status.qos_class = qos_class(pod).to_string();
    }
    status.phase = phase(observed, pod, now, &status);
    if !is_terminal(&old.phase) && deadline_exceeded(observed, pod, now) {
        status.reason = "DeadlineExceeded".into();
        status.message = "Pod was active on the node longer than the specified deadline".into();
    }
    addresses(observed, pod, &mut status);
    conditions::set_all(observed, pod, now, &mut status);
    status
}

fn addresses(observed: &Observed, pod: &Pod, status: &mut PodStatus) {
    if let Some(ip) = observed.host.node_ip {
        status.host_ip = ip.to_string();
        status.host_ips = vec![HostIp { ip: ip.to_string() }];
    }
    let own = match (pod.spec.host_network, &observed.network) {
        (true, _) => observed.host.node_ip.map(|ip| ip.to_string()),
        (false, Some(network)) => Some(network.ip.to_string()),
        (false, None) => None,
    };
    // A finished Pod has given its address back, yet people want to know which it was.
    if let Some(ip) = own {
        status.pod_ips = vec![PodIp { ip: ip.clone() }];
        status.pod_ip = ip;
    }
}

fn phase(observed: &Observed, pod: &Pod, now: Timestamp, status: &PodStatus) -> String {
    if is_terminal(&observed.published.phase) {
        return observed.published.phase.clone();
    }
    if deadline_exceeded(observed, pod, now) {
        return "Failed".into();
    }
    if pod.spec.init_containers.iter().any(|c| ended_for_good(observed, pod, c, Role::Init, true)) {
        return "Failed".into();
    }
    let apps = &status.container_statuses;
    let begun = |s: &ContainerStatus| s.state.waiting.is_none() || s.last_state.terminated.is_some();
    if apps.is_empty() || !apps.iter().all(begun) {
        return "Pending".into();
    }
    let all_ended = pod.spec.containers.iter().all(|c| ended_for_good(observed, pod, c, Role::App, false));
    if !all_ended {
        return "Running".into();
    }
    let code = |s: &ContainerStatus| s.state.terminated.as_ref().map_or(0, |terminated| terminated.exit_code);
    if apps.iter().all(|status| code(status) == 0) { "Succeeded".into() } else { "Failed".into() }
}

// --- one container ---

fn container_status(
    observed: &Observed,
    pod: &Pod,
    container: &Container,
    role: Role,
    now: Timestamp,
) -> ContainerStatus {
    let old = published(&observed.published, role, &container.name);
    let (last, before) = latest(observed, role, &container.name);
    let mut status =
        ContainerStatus { name: container.name.clone(), image: container.image.clone(), ..ContainerStatus::default() };
    let Some(report) = last else {
        // Whatever ran is gone without a trace: what is known of it stays known.
        if let Some(old) = old.filter(|old| old.state.terminated.is_some() && is_terminal(&observed.published.phase)) {
            return old.clone();
        }
        if let Some(old) = old.filter(|old| !old.container_id.is_empty()) {
            status.restart_count = old.restart_count;
            status.last_state = if old.state.terminated.is_some() { old.state.clone() } else { old.last_state.clone() };
        }
        status.started = Some(false);
        status.state = waiting(observed, pod, container, role, 0, now);
        return status;
    };
    status.restart_count = i32::try_from(report.identity.attempt).unwrap_or(i32::MAX);
    status.image = report.image.clone();
    status.image_id = format!("docker://{}", report.image_id);
    status.container_id = container_id(&report.id);
    let ended = |report: &ContainerReport| report.exit().map(|exit| terminated(observed, container, report, exit));
    if let Some(state) = before.and_then(ended) {
        status.last_state = state;
    }
    status.started = Some(false);
    match &report.state {
        RunState::Created => {
            status.state = waiting(observed, pod, container, role, report.identity.attempt, now);
            status.container_id.clear();
        }
        RunState::Running { started_at, .. } => {
            let started_at = Some(seconds(*started_at));
            status.state =
                ContainerState { running: Some(Box::new(ContainerStateRunning { started_at })), ..Default::default() };
            status.started = Some(is_started(observed, container, report));
            status.ready = role != Role::Ephemeral && is_ready(observed, container, role, report);
        }
        RunState::Exited(exit) => {
            let state = terminated(observed, container, report, exit);
            status.ready = role == Role::Init && !is_sidecar(container) && !failed(exit);
            let ends = pod.metadata.deletion_timestamp.is_some() || is_terminal(&observed.published.phase);
            if !ends && restarts(pod, container, role, exit) {
                status.last_state = state;
                status.state = restarting(observed, pod, container, role, report, exit, now);
            } else {
                status.state = state;
            }
        }
    }
    status
}

/// What is published about a container.
pub fn published<'a>(status: &'a PodStatus, role: Role, name: &str) -> Option<&'a ContainerStatus> {
    let list = match role {
        Role::Init => &status.init_container_statuses,
        Role::Ephemeral => &status.ephemeral_container_statuses,
        Role::App | Role::Sandbox => &status.container_statuses,
    };
    list.iter().find(|status| status.name == name)
}

/// A container's id as Kubernetes writes it.
pub fn container_id(id: &str) -> String {
    format!("docker://{id}")
}

fn waiting(
    observed: &Observed,
    pod: &Pod,
    container: &Container,
    role: Role,
    attempt: u32,
    now: Timestamp,
) -> ContainerState {
    let (reason, message) = why_waiting(observed, pod, container, role, attempt, now);
    let waiting = Some(Box::new(ContainerStateWaiting { reason, message }));
    ContainerState { waiting, ..Default::default() }
}

fn why_waiting(
    observed: &Observed,
    pod: &Pod,
    container: &Container,
    role: Role,
    attempt: u32,
    now: Timestamp,
) -> (String, String) {
    if let Some(setback) = observed.setbacks.get(&container.name).or_else(|| observed.setbacks.get("")) {
        return (setback.reason.clone(), setback.message.clone());
    }
    let turn = sandbox(observed).is_some_and(|sandbox| {
        let id = sandbox.id.as_str();
        let mut before = pod.spec.init_containers.iter();
        match role {
            Role::Init => before.take_while(|c| c.name != container.name).all(|c| init_done(observed, c, id)),
            _ => before.all(|c| init_done(observed, c, id)),
        }
    });
    if turn && let Decision::Refuse { reason, message, .. } = containers::image(observed, container, attempt, now) {
        return (reason.to_string(), message);
    }
    let initializing = role == Role::App && !pod.spec.init_containers.is_empty();
    let reason = if initializing && !turn { "PodInitializing" } else { "ContainerCreating" };
    (reason.to_string(), String::new())
}

/// Ended, and to be started again: at once, after its backoff, or never if something is in the way.
fn restarting(
    observed: &Observed,
    pod: &Pod,
    container: &Container,
    role: Role,
    report: &ContainerReport,
    exit: &Exit,
    now: Timestamp,
) -> ContainerState {
    let wait = backoff::wait(exit, report.identity.backoff_seconds);
    if now < backoff::restart_at(exit, report.identity.backoff_seconds) {
        let key = &observed.key;
        let message = format!("back-off {wait}s restarting failed container={} pod={key}", container.name);
        let waiting = ContainerStateWaiting { reason: "CrashLoopBackOff".into(), message };
        return ContainerState { waiting: Some(Box::new(waiting)), ..Default::default() };
    }
    waiting(observed, pod, container, role, report.identity.attempt + 1, now)
}

fn terminated(observed: &Observed, container: &Container, report: &ContainerReport, exit: &Exit) -> ContainerState {
    let reason = match exit {
        Exit { start_error: Some(_), .. } => "ContainerCannotRun",
        Exit { oom_killed: true, .. } => "OOMKilled",
        Exit { code: 0, .. } => "Completed",
        _ => "Error",
    };
    let old = published(&observed.published, report.identity.role, &container.name);
    let known = old.into_iter().flat_map(|old| [&old.state, &old.last_state]);
    let known =
        known.filter_map(|state| state.terminated.as_ref()).find(|t| t.container_id == container_id(&report.id));
    let message = match (&exit.start_error, observed.messages.get(&report.id)) {
        (Some(words), _) => words.clone(),
        (None, Some(message)) => message.clone(),
        // Read by an earlier kubelet.
        (None, None) => known.map(|terminated| terminated.message.clone()).unwrap_or_default(),
    };
    let terminated = ContainerStateTerminated {
        exit_code: exit.code,
        signal: 0,
        reason: reason.to_string(),
        message,
        started_at: exit.started_at.map(seconds),
        finished_at: Some(seconds(exit.finished_at)),
        container_id: container_id(&report.id),
    };
    ContainerState { terminated: Some(Box::new(terminated)), ..Default::default() }
}

/// Past its startup probe, if it has one.
fn is_started(observed: &Observed, container: &Container, report: &ContainerReport) -> bool {
    if observed.hooks.contains(&report.id) {
        return false;
    }
    if container.startup_probe.is_none() {
        return true;
    }
    let known = observed.verdicts.get(&report.id).and_then(|verdict| verdict.started);
    known.unwrap_or_else(|| was(observed, report, |old| old.started == Some(true)))
}

fn is_ready(observed: &Observed, container: &Container, role: Role, report: &ContainerReport) -> bool {
    if role == Role::Init && !is_sidecar(container) {
        return false;
    }
    if observed.stopping.contains_key(&report.id) || !is_started(observed, container, report) {
        return false;
    }
    if container.readiness_probe.is_none() {
        return true;
    }
    let known = observed.verdicts.get(&report.id).and_then(|verdict| verdict.ready);
    // A kubelet that has just started does not know yet; what was true before it went stays true until a probe says
    // otherwise, or its restart would take every Pod out of its Services.
    known.unwrap_or_else(|| was(observed, report, |old| old.ready))
}

/// What the published status says about this very container.
fn was(observed: &Observed, report: &ContainerReport, what: impl Fn(&ContainerStatus) -> bool) -> bool {
    let old = published(&observed.published, report.identity.role, &report.identity.container);
    old.is_some_and(|old| old.container_id == container_id(&report.id) && what(old))
}

/// One word for a container's state.
pub fn state_word(state: &ContainerState) -> String {
    match (&state.waiting, &state.running, &state.terminated) {
        (Some(waiting), _, _) => waiting.reason.clone(),
        (_, Some(_), _) => "running".into(),
        (_, _, Some(terminated)) => format!("{} ({})", terminated.reason, terminated.exit_code),
        _ => "unknown".into(),
    }
}

// --- small things ---

/// The API's times have whole seconds.
fn seconds(time: Timestamp) -> Time {
    Time::from_unix(time.as_second())
}

/// Guaranteed, Burstable or BestEffort, by what the containers ask for.
pub fn qos_class(pod: &Pod) -> &'static str {
    let all = || pod.spec.init_containers.iter().chain(&pod.spec.containers);
    let asks = |c: &Container| {
        let lists = [&c.resources.requests, &c.resources.limits];
        lists.into_iter().flatten().any(|(name, q)| matches!(name.as_str(), "cpu" | "memory") && !q.is_zero())
    };
    if !all().any(asks) {
        return "BestEffort";
    }
    let guaranteed = |c: &Container| {
        ["cpu", "memory"].into_iter().all(|name| {
            let limit = c.resources.limits.get(name);
            limit.is_some_and(|limit| c.resources.requests.get(name).is_none_or(|request| request == limit))
        })
    };
    if all().all(guaranteed) { "Guaranteed" } else { "Burstable" }
}
