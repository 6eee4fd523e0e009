//! The plan for one Pod: which of the states in [`super`]'s picture it is in, and what leads on from there.

use std::time::Duration;

use jiff::Timestamp;
use skiff_client::{Plan, Resource};
use skiff_proto::corev1::{Container, Pod};
use skiff_world::mutants::{Mutant, is_awake};

use super::containers::{self, Next, is_sidecar, latest, sandbox};
use super::{Action, Observed, ephemeral};
use crate::runtime::{ContainerReport, Role, RunState};
use crate::status;

/// What to do about a Pod now.
pub fn plan(observed: &Observed, now: Timestamp) -> Plan<Action> {
    let mut plan = Planner { observed, now, plan: Plan::nothing() };
    match &observed.pod {
        None => plan.terminate(None),
        Some(pod) => {
            plan.plan.input(Resource::of::<Pod>().object(&pod.metadata));
            if pod.metadata.deletion_timestamp.is_some() {
                plan.terminate(Some(pod));
            } else if let Some(why) = status::finished(observed, pod, now) {
                plan.finish(pod, &why);
            } else {
                plan.run(pod);
            }
        }
    }
    plan.plan
}

struct Planner<'a> {
    observed: &'a Observed,
    now: Timestamp,
    plan: Plan<Action>,
}

impl Planner<'_> {
    /// Two containers may need the same image looked for: once is enough.
    fn step(&mut self, action: Action, reason: impl Into<String>) {
        if self.plan.steps.iter().all(|step| step.action != action) {
            self.plan.step(action, reason);
        }
    }

    fn look_again_at(&mut self, at: Timestamp) {
        let wait = Duration::try_from(at.duration_since(self.now)).unwrap_or(Duration::ZERO);
        self.plan.look_again_after(wait.max(Duration::from_millis(1)));
    }

    fn take(&mut self, next: Next) -> bool {
        match next {
            Next::Settled => true,
            Next::Do(action, reason) => {
                self.step(action, reason);
                false
            }
            Next::Wait(until) => {
                if let Some(at) = until {
                    self.look_again_at(at);
                }
                false
            }
        }
    }

    // --- PREPARING, INITIALIZING, RUNNING ---

    fn run(&mut self, pod: &Pod) {
        if let Some(deadline) = status::active_deadline(&self.observed.published, pod) {
            self.look_again_at(deadline);
        }
        if let Some(sandbox) = self.prepare(pod) {
            if self.initialize(pod, &sandbox) {
                for container in &pod.spec.containers {
                    let next = containers::next(self.observed, pod, container, Role::App, &sandbox, self.now);
                    self.take(next);
                }
                for container in ephemeral::all(pod) {
                    self.look_in(pod, &container, &sandbox);
                }
            }
            self.prune();
        }
        self.publish(pod);
        self.renew_tokens();
    }

    /// Tokens are renewed well before they end: whatever else is to be done comes first.
    fn renew_tokens(&mut self) {
        match self.observed.renew_tokens_at.filter(|_| self.observed.volumes_ready) {
            Some(at) if at <= self.now => self.step(Action::RenewTokens, "four fifths of a token's life are over"),
            Some(at) => self.look_again_at(at),
            None => {}
        }
    }

    /// A container to look into the others with. One that is to see another's processes waits until that runs.
    fn look_in(&mut self, pod: &Pod, container: &Container, sandbox: &str) {
        let target = ephemeral::target(pod, &container.name);
        let begun = latest(self.observed, Role::Ephemeral, &container.name).0.is_some();
        let runs = |role| latest(self.observed, role, target).0.is_some_and(ContainerReport::is_running);
        if target.is_empty() || begun || runs(Role::App) || runs(Role::Init) {
            let next = containers::next(self.observed, pod, container, Role::Ephemeral, sandbox, self.now);
            self.take(next);
        }
    }

    /// Network, volumes and sandbox; gives the id of the sandbox once it runs.
    fn prepare(&mut self, pod: &Pod) -> Option<String> {
        let observed = self.observed;
        if let Some(setback) = observed.setbacks.get("").filter(|setback| self.now < setback.retry_at) {
            self.look_again_at(setback.retry_at);
            return None;
        }
        if observed.network.is_none() && !pod.spec.host_network {
            self.step(Action::SetUpNetwork, "the Pod has no network yet");
        }
        if !observed.volumes_ready {
            self.step(Action::PrepareVolumes, "the Pod's files are not in place yet");
        }
        match sandbox(observed) {
            Some(report) if report.is_running() && observed.volumes_ready => {
                if observed.network.is_some() || pod.spec.host_network {
                    return Some(report.id.clone());
                }
                None
            }
            Some(report) if report.is_running() => None,
            Some(report) if report.state == RunState::Created => {
                let attempt = report.identity.attempt;
                if !is_awake(Mutant::MadeNotStarted) {
                    self.step(Action::StartSandbox { attempt }, "it was made but not started");
                }
                None
            }
            lost => {
                self.rebuild(pod, lost);
                None
            }
        }
    }

    /// A first sandbox, or one in the place of one that is lost: what joined that one has to end first.
    fn rebuild(&mut self, pod: &Pod, lost: Option<&ContainerReport>) {
        let running: Vec<&ContainerReport> = self.observed.containers.iter().filter(|c| c.is_running()).collect();
        if !running.is_empty() {
            for report in running {
                self.stop(report, containers::grace(pod), "its sandbox is gone");
            }
            return;
        }
        if let Some(report) = lost {
            let (container, id) = (report.identity.container.clone(), report.id.clone());
            self.step(Action::RemoveContainer { container, id }, "the sandbox has ended");
        }
        // The lost sandbox may have been removed altogether; what joined it still says that there was one.
        let before = lost.map(|report| report.identity.attempt + 1);
        let attempt = before.unwrap_or_else(|| {
            let sandboxes = self.observed.containers.iter().map(|report| report.identity.sandbox.as_str());
            u32::try_from(sandboxes.filter(|id| !id.is_empty()).collect::<std::collections::BTreeSet<_>>().len())
                .unwrap_or(u32::MAX)
        });
        let reason = if attempt == 0 { "the Pod has no sandbox yet" } else { "the sandbox is gone" };
        self.step(Action::StartSandbox { attempt }, reason);
    }

    /// Init containers in order; true once they have all done their work.
    fn initialize(&mut self, pod: &Pod, sandbox: &str) -> bool {
        // An app that started did so because init was done; from then on only sidecars need care, and hold up nobody.
        let begun =
            pod.spec.containers.iter().any(|app| {
                latest(self.observed, Role::App, &app.name).0.is_some_and(|r| r.identity.sandbox == sandbox)
            });
        for container in &pod.spec.init_containers {
            if begun && !is_sidecar(container) {
                continue;
            }
            let next = containers::next(self.observed, pod, container, Role::Init, sandbox, self.now);
            let done = self.take(next) && status::init_done(self.observed, container, sandbox);
            if !begun && !done {
                return false;
            }
        }
        true
    }

    /// Of each container the present and the last ended one are kept, for its log and its last state.
    fn prune(&mut self) {
        for report in &self.observed.containers {
            if report.identity.role == Role::Sandbox {
                if sandbox(self.observed).is_some_and(|present| present.id != report.id) {
                    self.remove(report, "a later sandbox has taken its place");
                }
                continue;
            }
            let (last, before) = latest(self.observed, report.identity.role, &report.identity.container);
            let kept = [last, before].into_iter().flatten().any(|kept| kept.id == report.id);
            if !kept && !report.is_running() {
                self.remove(report, "later ones have taken its place");
            }
        }
    }

    // --- FINISHED ---

    /// Done for good: nothing runs on, the network goes, logs stay until the Pod is deleted.
    fn finish(&mut self, pod: &Pod, why: &str) {
        if self.stop_all(pod.spec.init_containers.as_slice(), containers::grace(pod), why) {
            if let Some(report) = sandbox(self.observed) {
                self.remove(report, why);
            }
            if self.observed.network.is_some() {
                self.step(Action::TearDownNetwork, why);
            }
        }
        self.publish(pod);
    }

    // --- TERMINATING, CLEARED ---

    fn terminate(&mut self, pod: Option<&Pod>) {
        let why = if pod.is_some() { "the Pod is being deleted" } else { "the Pod is gone from the API" };
        let labelled = self.observed.containers.iter().map(|report| report.identity.grace_seconds).max();
        let labelled = Duration::from_secs(u64::from(labelled.unwrap_or(30)));
        let grace = pod.map_or(labelled, containers::grace);
        let init = pod.map(|pod| pod.spec.init_containers.as_slice()).unwrap_or_default();
        if !self.stop_all(init, grace, why) {
            if let Some(pod) = pod {
                self.publish(pod);
            }
            return;
        }
        // The last status is written before the containers go, because it is made from them. A Pod that never ran
        // here has none that is worth a write.
        if let Some(pod) = pod.filter(|_| !self.observed.containers.is_empty()) {
            self.publish_now(pod);
        }
        for report in &self.observed.containers {
            self.remove(report, why);
        }
        if self.observed.network.is_some() {
            self.step(Action::TearDownNetwork, why);
        }
        if self.observed.volumes_left {
            self.step(Action::RemoveVolumes, why);
        }
        self.step(Action::RemoveCgroup, why);
        match pod {
            Some(_) => self.step(Action::FinishDeletion, "nothing is left of the Pod on this node"),
            None => self.step(Action::Forget, "nothing is left of the Pod on this node"),
        }
    }

    /// Apps first; sidecars when no app is left, the last one first. True when nothing runs but pause.
    fn stop_all(&mut self, init: &[Container], grace: Duration, why: &str) -> bool {
        let running = |report: &&ContainerReport| report.is_running() && report.identity.role != Role::Sandbox;
        let all: Vec<&ContainerReport> = self.observed.containers.iter().filter(running).collect();
        let rank = |report: &ContainerReport| {
            let sidecar = init.iter().position(|c| is_sidecar(c) && c.name == report.identity.container);
            sidecar.filter(|_| report.identity.role == Role::Init).map_or(usize::MAX, |index| index)
        };
        let Some(first) = all.iter().map(|report| rank(report)).max() else {
            return true;
        };
        for report in all.into_iter().filter(|report| rank(report) == first) {
            self.stop(report, grace, why);
        }
        false
    }

    fn stop(&mut self, report: &ContainerReport, grace: Duration, why: &str) {
        match self.observed.stopping.get(&report.id) {
            Some(stopping) => {
                // Deleted again, with a shorter grace period: that one counts, from now on.
                let shorter = self.now + grace + Duration::from_secs(1) < stopping.deadline;
                if shorter {
                    let (container, id) = (report.identity.container.clone(), report.id.clone());
                    return self.step(Action::StopContainer { container, id, grace }, why);
                }
                let next = containers::overdue(report, stopping.deadline, self.now);
                self.take(next);
            }
            None => {
                let (container, id) = (report.identity.container.clone(), report.id.clone());
                self.step(Action::StopContainer { container, id, grace }, why);
            }
        }
    }

    fn remove(&mut self, report: &ContainerReport, why: &str) {
        let (container, id) = (report.identity.container.clone(), report.id.clone());
        self.step(Action::RemoveContainer { container, id }, why);
    }

    /// Writes the status if it differs; while there are other steps, only the first one, since they will change it.
    fn publish(&mut self, pod: &Pod) {
        let progress = self.plan.steps.iter().any(|step| !matches!(step.action, Action::StartProbes { .. }));
        if progress && !self.observed.published.container_statuses.is_empty() {
            return;
        }
        self.publish_now(pod);
    }

    fn publish_now(&mut self, pod: &Pod) {
        let status = status::pod_status(self.observed, pod, self.now);
        if status != self.observed.published {
            self.step(Action::PublishStatus { status: Box::new(status) }, "what runs differs from what is published");
        }
    }
}
