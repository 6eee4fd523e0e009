//! What a Deployment says about itself: counts, and the conditions Available, Progressing and ReplicaFailure.
//!
//! Progressing tells a rollout that hangs from one that takes its time: whenever a pod more is up
//! to date, ready or available its clock starts anew, and when it has run for
//! `progressDeadlineSeconds` the rollout is said to have failed. Nothing is undone; that is for people to decide.

use std::time::Duration;

use jiff::Timestamp;
use skiff_proto::Time;
use skiff_proto::appsv1::{DeploymentCondition, DeploymentStatus, ReplicaSet};
use skiff_world::mutants::{Mutant, is_awake};

use super::rollout::Rollout;

/// What happened in this plan that the status should tell.
#[derive(Clone, Debug, Default)]
pub struct News {
    /// The ReplicaSet that is being created.
    pub created: Option<String>,
    /// How often the name of a ReplicaSet was taken, if it was again.
    pub collisions: Option<i32>,
    /// Why none could be, the last time.
    pub failure: Option<String>,
}

/// The status, and when to look again although nothing changes.
pub fn of(rollout: &Rollout<'_>, news: &News, now: Timestamp) -> (DeploymentStatus, Option<Duration>) {
    let mut status = counts(rollout);
    let mut conditions = Conditions { list: rollout.deployment.status.conditions.clone(), now: now.into() };
    available(rollout, &status, &mut conditions);
    let again = progressing(rollout, news, &status, &mut conditions, now);
    replica_failure(rollout, &mut conditions);
    status.conditions = conditions.list;
    status.collision_count = news.collisions.or(status.collision_count);
    (status, again)
}

fn counts(rollout: &Rollout<'_>) -> DeploymentStatus {
    let sum = |count: fn(&ReplicaSet) -> i32| rollout.all().map(count).sum::<i32>();
    let available = sum(|s| s.status.available_replicas);
    let old = &rollout.deployment.status;
    DeploymentStatus {
        observed_generation: rollout.deployment.metadata.generation,
        replicas: sum(|s| s.status.replicas),
        updated_replicas: rollout.new.map_or(0, |s| s.status.replicas),
        ready_replicas: sum(|s| s.status.ready_replicas),
        available_replicas: available,
        unavailable_replicas: (rollout.total() - available).max(0),
        terminating_replicas: Some(sum(|s| s.status.terminating_replicas.unwrap_or(0))),
        conditions: Vec::new(),
        collision_count: old.collision_count,
    }
}

fn available(rollout: &Rollout<'_>, status: &DeploymentStatus, conditions: &mut Conditions) {
    if status.available_replicas >= rollout.least() {
        conditions.set("Available", "True", "MinimumReplicasAvailable", "Deployment has minimum availability.");
    } else {
        let message = "Deployment does not have minimum availability.";
        conditions.set("Available", "False", "MinimumReplicasUnavailable", message);
    }
}

fn progressing(
    rollout: &Rollout<'_>,
    news: &News,
    status: &DeploymentStatus,
    conditions: &mut Conditions,
    now: Timestamp,
) -> Option<Duration> {
    let deployment = rollout.deployment;
    let Some(deadline) = deployment.spec.progress_deadline_seconds.filter(|d| *d != i32::MAX) else {
        conditions.remove("Progressing");
        return None;
    };
    let name = rollout.new.map(|s| s.metadata.name.as_str()).or(news.created.as_deref());
    let subject = match name {
        Some(name) => format!("ReplicaSet \"{name}\""),
        None => format!("Deployment \"{}\"", deployment.metadata.name),
    };
    // What hung was another template's rollout. That it did must not be told of this one, not for a moment: whoever waits
    // for it would give up.
    let overtaken = conditions
        .get("Progressing")
        .is_some_and(|c| c.reason == "ProgressDeadlineExceeded" && !c.message.starts_with(&subject));
    let was = |reason: &str| conditions.get("Progressing").is_some_and(|c| c.reason == reason);
    if let Some(failure) = &news.failure {
        conditions.set("Progressing", "False", "ReplicaSetCreateError", failure);
    } else if deployment.spec.paused {
        if !was("DeploymentPaused") && !was("ProgressDeadlineExceeded") {
            conditions.set("Progressing", "Unknown", "DeploymentPaused", "Deployment is paused");
        }
        return None;
    } else if was("DeploymentPaused") {
        conditions.set("Progressing", "Unknown", "DeploymentResumed", "Deployment is resumed");
    } else if let Some(created) = &news.created {
        let message = format!("Created new replica set \"{created}\"");
        conditions.set("Progressing", "True", "NewReplicaSetCreated", &message);
    } else if is_complete(rollout, status) {
        let message = format!("{subject} has successfully progressed.");
        conditions.set("Progressing", "True", "NewReplicaSetAvailable", &message);
        return None;
    } else if was("NewReplicaSetAvailable") && has_rolled_out(rollout, status) {
        // It was complete, and pods have come and gone since: that is no rollout.
        return None;
    } else if has_moved(&deployment.status, status) {
        conditions.touch("Progressing", "True", "ReplicaSetUpdated", &format!("{subject} is progressing."));
    } else if conditions.get("Progressing").is_none() || overtaken {
        if let Some(name) = name {
            let message = format!("Found new replica set \"{name}\"");
            conditions.set("Progressing", "True", "FoundNewReplicaSet", &message);
        }
    } else if was("NewReplicaSetAvailable") {
        conditions.touch("Progressing", "True", "ReplicaSetUpdated", &format!("{subject} is progressing."));
    }
    deadline_of(conditions, deadline, &subject, now)
}

/// Says so when the deadline is over; else when it will be.
fn deadline_of(conditions: &mut Conditions, deadline: i32, subject: &str, now: Timestamp) -> Option<Duration> {
    let condition = conditions.get("Progressing")?;
    if condition.reason == "ProgressDeadlineExceeded" {
        return None;
    }
    let since = condition.last_update_time.as_ref().map_or(0, |t| t.unix());
    let left = since + i64::from(deadline) - now.as_second();
    if left >= 0 || is_awake(Mutant::SilentHang) {
        return Some(Duration::from_secs(left.unsigned_abs() + 1));
    }
    let message = format!("{subject} has timed out progressing.");
    conditions.set("Progressing", "False", "ProgressDeadlineExceeded", &message);
    None
}

/// All pods are of the current template, and available.
fn is_complete(rollout: &Rollout<'_>, status: &DeploymentStatus) -> bool {
    let wanted = rollout.wanted();
    rollout.new.is_some()
        && status.updated_replicas == wanted
        && status.replicas == wanted
        && status.available_replicas == wanted
}

/// All pods there are are of the current template.
fn has_rolled_out(rollout: &Rollout<'_>, status: &DeploymentStatus) -> bool {
    rollout.new.is_some() && status.replicas == status.updated_replicas
}

/// Something got better since the last status.
fn has_moved(old: &DeploymentStatus, new: &DeploymentStatus) -> bool {
    new.updated_replicas > old.updated_replicas
        || new.replicas - new.updated_replicas < old.replicas - old.updated_replicas
        || new.ready_replicas > old.ready_replicas
        || new.available_replicas > old.available_replicas
}

/// A ReplicaSet that cannot make its pods says so; the Deployment passes it on.
fn replica_failure(rollout: &Rollout<'_>, conditions: &mut Conditions) {
    let failed = |s: &ReplicaSet| {
        let found = s.status.conditions.iter().find(|c| c.r#type == "ReplicaFailure" && c.status == "True");
        found.map(|c| (c.reason.clone(), c.message.clone()))
    };
    match rollout.new.into_iter().chain(rollout.old.iter().copied()).find_map(failed) {
        Some((reason, message)) => conditions.set("ReplicaFailure", "True", &reason, &message),
        None => conditions.remove("ReplicaFailure"),
    }
}

struct Conditions {
    list: Vec<DeploymentCondition>,
    now: Time,
}

impl Conditions {
    fn get(&self, kind: &str) -> Option<&DeploymentCondition> {
        self.list.iter().find(|c| c.r#type == kind)
    }

    fn remove(&mut self, kind: &str) {
        self.list.retain(|c| c.r#type != kind);
    }

    /// Sets it; nothing is touched if it says so already.
    fn set(&mut self, kind: &str, status: &str, reason: &str, message: &str) {
        if !self.get(kind).is_some_and(|c| c.status == status && c.reason == reason && c.message == message) {
            self.touch(kind, status, reason, message);
        }
    }

    /// Sets it, and says that it was looked at now.
    fn touch(&mut self, kind: &str, status: &str, reason: &str, message: &str) {
        let since = self.get(kind).filter(|c| c.status == status).map(|c| c.last_transition_time);
        let condition = DeploymentCondition {
            r#type: kind.into(),
            status: status.into(),
            last_update_time: Some(self.now),
            last_transition_time: since.unwrap_or(Some(self.now)),
            reason: reason.into(),
            message: message.into(),
        };
        match self.list.iter_mut().find(|c| c.r#type == kind) {
            Some(there) => *there = condition,
            None => self.list.push(condition),
        }
    }
}
