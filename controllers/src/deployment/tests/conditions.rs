//! What a Deployment says about itself on the way: the reasons that `rollout status` and people read, and exact counts.

use super::{all_run, frames, running};
use crate::deployment::revisions;
use crate::model::{Model, image, set_image, strategy, web};

const CHANGE_CAUSE: &str = "kubernetes.io/change-cause";

/// Both conditions after each look of the Deployment, without repetitions.
fn reasons(model: &mut Model, mut between: impl FnMut(&mut Model)) -> Vec<String> {
    let mut told: Vec<String> = Vec::new();
    for _ in 0..40 {
        let busy = model.reconcile_all();
        let before = model.pods.clone();
        let reason = |kind: &str| model.condition("web", kind).rsplit(' ').next().unwrap_or_default().to_string();
        let now = format!("{} {}", reason("Progressing"), reason("Available"));
        if told.last() != Some(&now) {
            told.push(now);
        }
        between(model);
        if !busy && model.pods == before {
            break;
        }
    }
    told
}

fn one_by_one(model: &mut Model) {
    model.run_pods(1, |_| false);
    model.stop_pods("");
}

#[test]
fn a_first_rollout_and_a_next_one_say_how_far_they_are() {
    let mut model = Model::new();
    model.apply(web(4, "v1"));
    let first = reasons(&mut model, one_by_one);
    assert_eq!(
        first,
        [
            "NewReplicaSetCreated MinimumReplicasUnavailable",
            "ReplicaSetUpdated MinimumReplicasUnavailable",
            "ReplicaSetUpdated MinimumReplicasAvailable",
            "NewReplicaSetAvailable MinimumReplicasAvailable",
        ]
    );
    model.change("web", |d| set_image(d, "v2"));
    let next = reasons(&mut model, one_by_one);
    assert_eq!(
        next,
        [
            "NewReplicaSetCreated MinimumReplicasAvailable",
            "ReplicaSetUpdated MinimumReplicasAvailable",
            "NewReplicaSetAvailable MinimumReplicasAvailable",
        ]
    );
}

#[test]
fn pausing_and_resuming_are_said_and_the_deadline_rests_meanwhile() {
    let mut model = running(2);
    model.change("web", |d| set_image(d, "v2"));
    frames(&mut model, |m| m.stop_pods(""));
    model.change("web", |d| d.spec.paused = true);
    model.reconcile_deployment("web");
    assert_eq!(model.condition("web", "Progressing"), "Unknown DeploymentPaused");
    assert_eq!(model.plan_deployment("web").requeue_after, None, "no clock runs while it is paused");
    model.now += 100_000;
    model.reconcile_deployment("web");
    assert_eq!(model.condition("web", "Progressing"), "Unknown DeploymentPaused");
    model.change("web", |d| d.spec.paused = false);
    model.reconcile_deployment("web");
    assert_eq!(model.condition("web", "Progressing"), "Unknown DeploymentResumed");
    let again = model.plan_deployment("web").requeue_after.map(|wait| wait.as_secs());
    assert_eq!(again, Some(601), "the deadline starts anew");
}

#[test]
fn a_rollout_that_was_found_to_hang_stays_so_while_it_is_paused() {
    let mut model = running(2);
    model.change("web", |d| set_image(d, "v2"));
    frames(&mut model, |m| m.stop_pods(""));
    model.now += 601;
    model.reconcile_deployment("web");
    model.change("web", |d| d.spec.paused = true);
    model.reconcile_deployment("web");
    assert_eq!(model.condition("web", "Progressing"), "False ProgressDeadlineExceeded");
}

#[test]
fn going_back_from_a_rollout_that_hung_does_not_hang() {
    let mut model = running(1);
    model.change("web", |d| set_image(d, "v2"));
    frames(&mut model, |m| m.stop_pods(""));
    model.now += 601;
    model.reconcile_deployment("web");
    assert_eq!(model.condition("web", "Progressing"), "False ProgressDeadlineExceeded");
    model.change("web", |d| set_image(d, "v1"));
    for _ in 0..10 {
        model.reconcile_deployment("web");
        let deployment = &model.deployments["web"];
        if deployment.status.observed_generation == deployment.metadata.generation {
            break;
        }
    }
    let deployment = &model.deployments["web"];
    assert_eq!(deployment.status.observed_generation, deployment.metadata.generation);
    assert!(model.condition("web", "Progressing").starts_with("True "), "{}", model.condition("web", "Progressing"));
}

#[test]
fn a_replica_set_that_is_there_already_is_found() {
    let mut model = running(2);
    model.change("web", |d| d.spec.progress_deadline_seconds = None);
    model.settle();
    assert_eq!(model.condition("web", "Progressing"), "none", "without a deadline there is nothing to measure");
    for pod in model.pods.values_mut() {
        pod.ready_since = None;
    }
    model.reconcile_all();
    model.reconcile_all();
    model.change("web", |d| d.spec.progress_deadline_seconds = Some(600));
    model.reconcile_deployment("web");
    assert_eq!(model.condition("web", "Progressing"), "True FoundNewReplicaSet");
}

#[test]
fn counts_in_the_middle_of_a_rollout_are_exact() {
    let mut model = running(10);
    model.change("web", |d| {
        strategy(d, "3", "2");
        set_image(d, "v2");
    });
    // Of the new ones two get ready, the others never.
    let mut left = 2;
    frames(&mut model, |m| {
        let ready = |m: &Model| m.pods.values().filter(|p| p.is_ready()).count();
        let before = ready(m);
        m.run_pods(left, |_| false);
        left -= ready(m) - before;
        m.stop_pods("");
    });
    assert_eq!(model.shape(), "v1 6/6, v2 2/7");
    let status = &model.deployments["web"].status;
    let counts = (status.replicas, status.updated_replicas, status.ready_replicas);
    assert_eq!(counts, (13, 7, 8));
    assert_eq!((status.available_replicas, status.unavailable_replicas), (8, 5));
    assert_eq!(status.terminating_replicas, Some(0));
}

#[test]
fn pods_count_as_available_only_after_min_ready_seconds() {
    let mut model = running(4);
    model.change("web", |d| {
        d.spec.min_ready_seconds = 30;
        set_image(d, "v2");
    });
    model.now += 100;
    let frames = frames(&mut model, all_run);
    // One new one is ready, but not for long enough to let more than the one that may be missing go.
    assert_eq!(frames.last().unwrap(), "v1 3/3, v2 2/2");
    assert_eq!(model.deployments["web"].status.available_replicas, 3);
    let set = model.sets.values().find(|s| image(s) == "v2").unwrap().metadata.name.clone();
    let wait = model.plan_set(&set).requeue_after.expect("a timer waits for it");
    model.now += i64::try_from(wait.as_secs()).unwrap();
    for _ in 0..20 {
        model.settle();
        model.now += 30;
    }
    assert_eq!(model.shape(), "v1 0/0, v2 4/4");
    assert_eq!(model.condition("web", "Progressing"), "True NewReplicaSetAvailable");
}

#[test]
fn the_reason_for_a_change_goes_with_its_revision() {
    let mut model = Model::new();
    let mut first = web(1, "v1");
    first.metadata.annotations.insert(CHANGE_CAUSE.into(), "the first".into());
    first.metadata.annotations.insert("kubectl.kubernetes.io/last-applied-configuration".into(), "{}".into());
    model.apply(first);
    model.settle();
    let deployment = model.deployments.get_mut("web").unwrap();
    deployment.metadata.annotations.insert(CHANGE_CAUSE.into(), "the second".into());
    model.change("web", |d| set_image(d, "v2"));
    model.settle();
    let cause = |of: &str| {
        let set = model.sets.values().find(|s| image(s) == of).unwrap();
        (revisions::of_set(set), set.metadata.annotations[CHANGE_CAUSE].clone())
    };
    assert_eq!((cause("v1"), cause("v2")), ((1, "the first".into()), (2, "the second".into())));
    // Said afterwards, it reaches the replica set that is there, as a new minReadySeconds does.
    let deployment = model.deployments.get_mut("web").unwrap();
    deployment.metadata.annotations.insert(CHANGE_CAUSE.into(), "the second, in other words".into());
    model.change("web", |d| d.spec.min_ready_seconds = 5);
    model.reconcile_deployment("web");
    let current = model.sets.values().find(|s| image(s) == "v2").unwrap();
    assert_eq!(current.metadata.annotations[CHANGE_CAUSE], "the second, in other words");
    assert_eq!(current.spec.min_ready_seconds, 5);
    let copied = |s: &skiff_proto::appsv1::ReplicaSet| {
        s.metadata.annotations.contains_key("kubectl.kubernetes.io/last-applied-configuration")
    };
    assert!(!model.sets.values().any(copied), "what was applied was the Deployment");
}

#[test]
fn a_restart_is_a_rollout_of_the_same_image() {
    let mut model = running(2);
    model.change("web", |d| {
        let annotations = &mut d.spec.template.metadata.annotations;
        annotations.insert("kubectl.kubernetes.io/restartedAt".into(), "2026-01-01T00:00:00Z".into());
    });
    model.settle();
    assert_eq!(model.shape(), "v1 0/0, v1 2/2");
    assert_eq!(revisions::of_deployment(&model.deployments["web"]), 2);
}

#[test]
fn a_replica_set_that_cannot_be_created_is_a_failure_until_it_can() {
    let mut model = Model::new();
    model.apply(web(1, "v1"));
    model.refused = Some("Failed to create new replica set: forbidden".into());
    model.reconcile_deployment("web");
    model.reconcile_deployment("web");
    assert_eq!(model.condition("web", "Progressing"), "False ReplicaSetCreateError");
    model.refused = None;
    model.reconcile_deployment("web");
    model.settle();
    assert_eq!(model.condition("web", "Progressing"), "True NewReplicaSetAvailable");
}
