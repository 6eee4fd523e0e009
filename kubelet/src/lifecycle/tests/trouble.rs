//! Stories of what goes wrong: probes, setbacks, images, deadlines.

use super::*;

#[test]
fn probes_decide_readiness_and_restarts() {
    let mut spec = pod("Always", &["app"]);
    spec.spec.containers[0].readiness_probe = Some(Box::new(Probe::default()));
    let mut observed = prepared(&spec);
    observed.containers.push(app("app", 0, running(1)));
    assert_eq!(steps(&observed, 2), ["start probes of app"]);
    assert!(!published(&observed, 2).container_statuses[0].ready);
    let mut verdict = Verdict::initial(&spec.spec.containers[0]);
    verdict.ready = Some(true);
    observed.verdicts.insert("app-0".into(), verdict.clone());
    assert!(published(&observed, 3).container_statuses[0].ready);
    verdict.failed = Some("Liveness probe failed: no answer".into());
    observed.verdicts.insert("app-0".into(), verdict);
    let plan = plan(&observed, at(4));
    assert_eq!(plan.steps[0].action.to_string(), "stop app within 30 s");
    assert_eq!(plan.steps[0].reason, "Liveness probe failed: no answer");
}

#[test]
fn a_restarted_kubelet_keeps_pods_ready_until_a_probe_says_otherwise() {
    let mut spec = pod("Always", &["app"]);
    spec.spec.containers[0].readiness_probe = Some(Box::new(Probe::default()));
    let mut observed = prepared(&spec);
    observed.containers.push(app("app", 0, running(1)));
    let ready = Verdict { started: Some(true), ready: Some(true), failed: None };
    observed.verdicts.insert("app-0".into(), ready);
    let mut observed = settle(observed, 2);
    observed.verdicts.clear();
    assert!(published(&observed, 100).container_statuses[0].ready);
    observed.published.container_statuses[0].container_id = container_id("another");
    assert!(!published(&observed, 100).container_statuses[0].ready, "another container's word does not count");
}

#[test]
fn setbacks_are_told_and_waited_for() {
    let spec = pod("Always", &["app"]);
    let setback = |reason: &str| Setback { reason: reason.into(), message: "words".into(), retry_at: at(20), times: 1 };
    let mut observed = fresh(&spec);
    observed.setbacks.insert(String::new(), setback("FailedMount"));
    assert!(steps(&observed, 10).is_empty());
    let waiting = published(&observed, 10).container_statuses[0].state.waiting.clone().expect("waiting");
    assert_eq!((waiting.reason.as_str(), waiting.message.as_str()), ("FailedMount", "words"));
    assert_eq!(plan(&observed, at(10)).requeue_after.expect("again").as_secs(), 10);
    assert_eq!(steps(&observed, 20)[0], "set up network");

    let mut observed = prepared(&spec);
    observed.setbacks.insert("app".into(), setback("CreateContainerConfigError"));
    assert!(steps(&observed, 10).is_empty());
    assert_eq!(steps(&observed, 20), ["start app, attempt 0"]);
}

#[test]
fn an_image_that_cannot_be_had_is_told() {
    let mut spec = pod("Always", &["app"]);
    spec.spec.containers[0].image_pull_policy = "Never".into();
    let mut observed = prepared(&spec);
    observed.images.insert("app:1".into(), ImageState { present: Some(false), ..ImageState::default() });
    assert!(steps(&observed, 1).is_empty());
    let waiting = published(&observed, 1).container_statuses[0].state.waiting.clone().expect("waiting");
    assert_eq!(waiting.reason, "ErrImageNeverPull");
}

#[test]
fn active_for_too_long_is_failed() {
    let mut spec = pod("Always", &["app"]);
    spec.spec.active_deadline_seconds = Some(30);
    let mut observed = prepared(&spec);
    observed.containers.push(app("app", 0, running(1)));
    let observed = settle(observed, 2);
    assert_eq!(plan(&observed, at(10)).requeue_after.expect("again").as_secs(), 22);
    assert_eq!(steps(&observed, 32), ["stop app within 30 s"]);
    let status = published(&observed, 32);
    assert_eq!((status.phase.as_str(), status.reason.as_str()), ("Failed", "DeadlineExceeded"));
}

#[test]
fn old_containers_go_and_the_last_ended_one_stays() {
    let mut observed = prepared(&pod("Always", &["app"]));
    observed.containers.extend([
        app("app", 0, ended(1, 0, 1)),
        app("app", 1, ended(1, 2, 3)),
        app("app", 2, running(4)),
    ]);
    let plan = plan(&observed, at(5));
    let removed: Vec<_> = plan
        .steps
        .iter()
        .filter_map(|step| match &step.action {
            Action::RemoveContainer { id, .. } => Some(id.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(removed, ["app-0"]);
}
