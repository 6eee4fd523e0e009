//! How far a Pod has come on its first way up, for measurements; nothing depends on it.
//!
//! Only a start that was seen from its beginning counts: a Pod that ran already when this kubelet began is none.

use std::time::Duration;

use jiff::Timestamp;
use skiff_proto::corev1::{ContainerStatus, PodStatus};
use tokio::time::Instant;

/// What is remembered of a Pod's start.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Start {
    /// Nothing is known yet.
    #[default]
    Unknown,
    /// It was first seen then, and so much time went into pulling its images.
    Coming {
        /// When it was first seen.
        seen: Instant,
        /// How long its images were pulled.
        pulling: Duration,
    },
    /// All its containers ran then.
    Running {
        /// Since then.
        since: Instant,
    },
    /// It is Ready, or was running when it was first seen.
    Over,
}

/// What a newly published status says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Told {
    /// All containers run.
    pub running: Option<Came>,
    /// From then to being Ready.
    pub ready: Option<Duration>,
}

/// How long it took until all containers ran.
#[derive(Clone, Debug, PartialEq)]
pub struct Came {
    /// Since the kubelet first saw the Pod.
    pub since_seen: Duration,
    /// Since the Pod was created, by the wall clock.
    pub since_created: Duration,
    /// Of that, pulling images and running init containers.
    pub not_ours: Duration,
}

impl Start {
    /// The Pod is looked at; `phase` is as the API has it.
    pub fn seen(&mut self, phase: &str, now: Instant) {
        if *self == Start::Unknown {
            let new = matches!(phase, "" | "Pending");
            *self = if new { Start::Coming { seen: now, pulling: Duration::ZERO } } else { Start::Over };
        }
    }

    /// An image was pulled for it. Pulls at the same time count once each: their sum is the most that they took.
    pub fn pulled(&mut self, took: Duration) {
        if let Start::Coming { pulling, .. } = self {
            *pulling += took;
        }
    }

    /// A status was published.
    pub fn published(&mut self, status: &PodStatus, created: Timestamp, now: Instant, wall: Timestamp) -> Told {
        let mut told = Told::default();
        if let Start::Coming { seen, pulling } = *self
            && all_started(status)
        {
            let since_created = Duration::try_from(wall.duration_since(created)).unwrap_or_default();
            let since_seen = now.saturating_duration_since(seen);
            told.running = Some(Came { since_seen, since_created, not_ours: pulling + initialising(status) });
            *self = Start::Running { since: now };
        }
        if let Start::Running { since } = *self {
            let ready = status.conditions.iter().any(|c| c.r#type == "Ready" && c.status == "True");
            if ready {
                told.ready = Some(now.saturating_duration_since(since));
            }
            if ready || matches!(status.phase.as_str(), "Succeeded" | "Failed") {
                *self = Start::Over;
            }
        }
        told
    }
}

fn all_started(status: &PodStatus) -> bool {
    let started = |c: &ContainerStatus| c.state.running.is_some() || c.state.terminated.is_some();
    !status.container_statuses.is_empty() && status.container_statuses.iter().all(started)
}

/// How long the init containers ran.
fn initialising(status: &PodStatus) -> Duration {
    let ran = |c: &ContainerStatus| {
        let ended = c.state.terminated.as_ref()?;
        let (from, to) = (ended.started_at.as_ref()?.unix(), ended.finished_at.as_ref()?.unix());
        Some(Duration::from_secs(u64::try_from(to.saturating_sub(from)).unwrap_or(0)))
    };
    status.init_container_statuses.iter().filter_map(ran).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use skiff_proto::corev1::{ContainerState, ContainerStateRunning, PodCondition};
    use skiff_world::World;

    fn status(phase: &str, running: bool, ready: bool) -> PodStatus {
        let state = ContainerState {
            running: running.then(|| Box::new(ContainerStateRunning::default())),
            ..ContainerState::default()
        };
        let ready = PodCondition {
            r#type: "Ready".into(),
            status: if ready { "True" } else { "False" }.into(),
            ..PodCondition::default()
        };
        PodStatus {
            phase: phase.into(),
            conditions: vec![ready],
            container_statuses: vec![ContainerStatus { state, ..ContainerStatus::default() }],
            ..PodStatus::default()
        }
    }

    #[test]
    fn a_start_is_told_once_in_two_parts() {
        let zero = World::real("test").now();
        let at = |seconds| zero + Duration::from_secs(seconds);
        let (made, wall) = (Timestamp::UNIX_EPOCH, |seconds| Timestamp::from_second(seconds).unwrap());
        let mut start = Start::default();
        start.seen("Pending", at(0));
        start.seen("Running", at(1));
        start.pulled(Duration::from_secs(2));
        assert_eq!(start.published(&status("Pending", false, false), made, at(1), wall(3)), Told::default());
        let told = start.published(&status("Running", true, false), made, at(4), wall(6));
        let seconds = Duration::from_secs;
        let came = Came { since_seen: seconds(4), since_created: seconds(6), not_ours: seconds(2) };
        assert_eq!(told, Told { running: Some(came), ready: None });
        let told = start.published(&status("Running", true, true), made, at(9), wall(11));
        assert_eq!(told, Told { running: None, ready: Some(seconds(5)) });
        assert_eq!(start.published(&status("Running", true, true), made, at(10), wall(12)), Told::default());
    }

    #[test]
    fn what_ran_already_has_no_start() {
        let now = World::real("test").now();
        let mut start = Start::default();
        start.seen("Running", now);
        let told = start.published(&status("Running", true, true), Timestamp::UNIX_EPOCH, now, Timestamp::UNIX_EPOCH);
        assert_eq!(told, Told::default());
    }
}
