//! What to do about each of a Pod's containers, one at a time.

use std::time::Duration;

use jiff::Timestamp;
use skiff_proto::corev1::{Container, Pod};

use super::{Action, Observed, backoff};
use crate::images::pull::{self, Decision, ImageState};
use crate::probes::Verdict;
use crate::runtime::{ContainerReport, Exit, Role, RunState};

/// An init container that goes on running beside the others.
pub fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// Whether a container that ended so is started again.
pub fn restarts(pod: &Pod, container: &Container, role: Role, exit: &Exit) -> bool {
    if role == Role::Ephemeral {
        return false;
    }
    if role == Role::Init && is_sidecar(container) {
        return true;
    }
    let failed = exit.code != 0 || exit.start_error.is_some();
    match pod.spec.restart_policy.as_str() {
        "Never" => false,
        "OnFailure" => failed,
        // Always: an init container that has done its work stays done.
        _ => role == Role::App || failed,
    }
}

/// The grace period in seconds, as spec and deletion say.
pub fn grace(pod: &Pod) -> Duration {
    let seconds =
        pod.metadata.deletion_grace_period_seconds.or(pod.spec.termination_grace_period_seconds).unwrap_or(30);
    // At least a second: the process shall see its TERM.
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0).max(1))
}

/// The latest container of this name, and the latest ended one before it.
pub fn latest<'a>(
    observed: &'a Observed,
    role: Role,
    name: &str,
) -> (Option<&'a ContainerReport>, Option<&'a ContainerReport>) {
    let mut all: Vec<&ContainerReport> = observed
        .containers
        .iter()
        .filter(|report| report.identity.role == role && report.identity.container == name)
        .collect();
    all.sort_by_key(|report| report.identity.attempt);
    let last = all.pop();
    (last, all.into_iter().rev().find(|report| report.exit().is_some()))
}

/// The sandbox's container with the highest attempt.
pub fn sandbox(observed: &Observed) -> Option<&ContainerReport> {
    let sandboxes = observed.containers.iter().filter(|report| report.identity.role == Role::Sandbox);
    sandboxes.max_by_key(|report| report.identity.attempt)
}

/// What is to be done about one container.
#[derive(Debug, PartialEq)]
pub enum Next {
    /// nothing: it runs, or has done its work
    Settled,
    /// this
    Do(Action, String),
    /// nothing until then (or until something happens)
    Wait(Option<Timestamp>),
}

/// Running in the present sandbox, or on its way there.
pub fn next(observed: &Observed, pod: &Pod, container: &Container, role: Role, sandbox: &str, now: Timestamp) -> Next {
    let (last, _) = latest(observed, role, &container.name);
    let here = last.filter(|report| report.identity.sandbox == sandbox);
    if let Some(stray) = stray(observed, container, role, here) {
        return match observed.stopping.get(&stray.id) {
            Some(stopping) => overdue(stray, stopping.deadline, now),
            None => {
                let (container, id) = (container.name.clone(), stray.id.clone());
                let reason = "another of its name has taken its place".to_string();
                Next::Do(Action::StopContainer { container, id, grace: grace(pod) }, reason)
            }
        };
    }
    match (here.map(|report| &report.state), last) {
        // It had its time, whatever became of it.
        (state, _) if role == Role::Ephemeral && state.is_none() && was_there(observed, role, &container.name) => {
            Next::Settled
        }
        (Some(RunState::Running { .. }), Some(report)) => running(observed, pod, container, report, now),
        // Made but not started: the kubelet was interrupted. Making it again finds it.
        (Some(RunState::Created), Some(report)) => {
            let (attempt, backoff) = (report.identity.attempt, report.identity.backoff_seconds);
            start(observed, container, role, sandbox, attempt, backoff, "it was made but not started", now)
        }
        (Some(RunState::Exited(exit)), Some(report)) => {
            if !restarts(pod, container, role, exit) {
                return Next::Settled;
            }
            let at = backoff::restart_at(exit, report.identity.backoff_seconds);
            if now < at {
                return Next::Wait(Some(at));
            }
            let wait = backoff::wait(exit, report.identity.backoff_seconds);
            let reason = format!("it ended with code {}", exit.code);
            start(
                observed,
                container,
                role,
                sandbox,
                attempt_after(observed, report),
                backoff::next(wait),
                &reason,
                now,
            )
        }
        // Belongs to an earlier sandbox, and has ended.
        (None, Some(report)) => {
            let attempt = attempt_after(observed, report);
            let backoff = report.identity.backoff_seconds;
            start(observed, container, role, sandbox, attempt, backoff, "the sandbox is new", now)
        }
        _ => {
            let attempt = counted(observed, role, &container.name).map_or(0, |count| count + 1);
            start(observed, container, role, sandbox, attempt, 0, "it is not there", now)
        }
    }
}

/// What the published status says about how often a container was started again. A container that was removed by hand
/// is still counted there.
fn counted(observed: &Observed, role: Role, name: &str) -> Option<u32> {
    let status = crate::status::published(&observed.published, role, name)?;
    let ran = !status.container_id.is_empty() || status.restart_count > 0;
    ran.then(|| u32::try_from(status.restart_count).unwrap_or(0))
}

/// Whether a container of this name was started before, in this sandbox or another.
fn was_there(observed: &Observed, role: Role, name: &str) -> bool {
    latest(observed, role, name).0.is_some() || counted(observed, role, name).is_some()
}

fn attempt_after(observed: &Observed, report: &ContainerReport) -> u32 {
    let identity = &report.identity;
    let counted = counted(observed, identity.role, &identity.container).unwrap_or(0);
    identity.attempt.max(counted) + 1
}

/// A running container of this name that is not the present one: started by hand, or left in a lost sandbox. Two must
/// never run at once.
fn stray<'a>(
    observed: &'a Observed,
    container: &Container,
    role: Role,
    present: Option<&ContainerReport>,
) -> Option<&'a ContainerReport> {
    let same = |report: &&ContainerReport| report.identity.role == role && report.identity.container == container.name;
    let mut running = observed.containers.iter().filter(same).filter(|report| report.is_running());
    running.find(|report| present.is_none_or(|present| present.id != report.id))
}

fn running(observed: &Observed, pod: &Pod, container: &Container, report: &ContainerReport, now: Timestamp) -> Next {
    if let Some(stopping) = observed.stopping.get(&report.id) {
        return overdue(report, stopping.deadline, now);
    }
    let stop = |grace: Duration, reason: String| {
        let (container, id) = (container.name.clone(), report.id.clone());
        Next::Do(Action::StopContainer { container, id, grace }, reason)
    };
    let verdict = observed.verdicts.get(&report.id);
    if let Some(failure) = verdict.and_then(Verdict::fatal) {
        let own = [&container.liveness_probe, &container.startup_probe]
            .into_iter()
            .flatten()
            .find_map(|probe| probe.termination_grace_period_seconds);
        let seconds = own.and_then(|seconds| u64::try_from(seconds).ok());
        let grace = seconds.map_or_else(|| grace(pod), |seconds| Duration::from_secs(seconds.max(1)));
        return stop(grace, failure);
    }
    if report.identity.spec_hash != spec_hash(container) {
        return stop(grace(pod), "its image was changed in the Pod's spec".into());
    }
    let probed = [&container.liveness_probe, &container.readiness_probe, &container.startup_probe];
    if verdict.is_none() && probed.into_iter().any(Option::is_some) {
        let (container, id) = (container.name.clone(), report.id.clone());
        return Next::Do(Action::StartProbes { container, id }, "it runs and has probes".into());
    }
    Next::Settled
}

/// What to do about a container that was told to end.
pub fn overdue(report: &ContainerReport, deadline: Timestamp, now: Timestamp) -> Next {
    if now < deadline {
        return Next::Wait(Some(deadline));
    }
    let (container, id) = (report.identity.container.clone(), report.id.clone());
    Next::Do(Action::KillContainer { container, id }, "its grace period is over".into())
}

#[allow(clippy::too_many_arguments)] // one place, and each is a different thing
fn start(
    observed: &Observed,
    container: &Container,
    role: Role,
    sandbox: &str,
    attempt: u32,
    backoff_seconds: u32,
    reason: &str,
    now: Timestamp,
) -> Next {
    if let Some(setback) = observed.setbacks.get(&container.name)
        && now < setback.retry_at
    {
        return Next::Wait(Some(setback.retry_at));
    }
    match image(observed, container, attempt, now) {
        Decision::Go => {}
        Decision::Look => {
            let image = container.image.clone();
            return Next::Do(Action::LookForImage { image }, format!("{} needs it", container.name));
        }
        Decision::Pull => {
            let (image, container) = (container.image.clone(), container.name.clone());
            let reason = format!("{container} needs it");
            return Next::Do(Action::PullImage { image, container, attempt }, reason);
        }
        Decision::Wait => return Next::Wait(None),
        Decision::Refuse { until, .. } => return Next::Wait(until),
    }
    let action = Action::StartContainer {
        container: container.name.clone(),
        role,
        attempt,
        sandbox: sandbox.to_string(),
        backoff_seconds,
    };
    Next::Do(action, reason.to_string())
}

/// What the image pull policy says about a container that is to be started.
pub fn image(observed: &Observed, container: &Container, attempt: u32, now: Timestamp) -> Decision {
    let policy = pull::policy(&container.image_pull_policy);
    let unknown = ImageState::default();
    let state = observed.images.get(&container.image).unwrap_or(&unknown);
    let pulled = observed.pulled.contains(&(container.name.clone(), attempt));
    pull::decide(&container.image, policy, state, pulled, now)
}

/// A fingerprint of what may change in a running Pod's container and takes a restart: its image.
pub fn spec_hash(container: &Container) -> String {
    use sha2::{Digest, Sha256};
    crate::images::archive::hex(&Sha256::digest(container.image.as_bytes()))[..16].to_string()
}
