//! Stories of Pods, told as what is observed and what is planned.

mod properties;
mod trouble;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use skiff_proto::Time;
use skiff_proto::corev1::{Container, Pod, PodStatus, Probe};

use super::containers::spec_hash;
use super::plan::plan;
use super::{Action, HostFacts, Observed, PodKey, Setback, Stopping};
use crate::images::pull::ImageState;
use crate::network::PodNetwork;
use crate::probes::Verdict;
use crate::runtime::{ContainerReport, Exit, Identity, Role, RunState};
use crate::status::{container_id, pod_status};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + second).expect("in range")
}

fn container(name: &str) -> Container {
    Container { name: name.into(), image: "app:1".into(), ..Container::default() }
}

fn pod(policy: &str, containers: &[&str]) -> Pod {
    let mut pod = Pod::default();
    pod.metadata.name = "web".into();
    pod.metadata.namespace = "default".into();
    pod.metadata.uid = "u".into();
    pod.spec.restart_policy = policy.into();
    pod.spec.containers = containers.iter().map(|name| container(name)).collect();
    pod
}

/// A Pod with everything prepared and its sandbox running.
fn prepared(pod: &Pod) -> Observed {
    let image = ImageState { present: Some(true), ..ImageState::default() };
    Observed {
        key: PodKey { namespace: "default".into(), name: "web".into(), uid: "u".into() },
        pod: Some(Arc::new(pod.clone())),
        containers: vec![sandbox(0, running(0))],
        network: Some(PodNetwork { ip: "10.244.1.5".parse().expect("an address"), namespace: "/n".into() }),
        volumes_ready: true,
        renew_tokens_at: None,
        volumes_left: true,
        images: BTreeMap::from([("app:1".to_string(), image)]),
        pulled: BTreeSet::new(),
        verdicts: BTreeMap::new(),
        stopping: BTreeMap::new(),
        hooks: BTreeSet::new(),
        setbacks: BTreeMap::new(),
        messages: BTreeMap::new(),
        published: PodStatus::default(),
        host: HostFacts { node_ip: Some("10.89.0.2".parse().expect("an address")) },
    }
}

fn fresh(pod: &Pod) -> Observed {
    Observed {
        containers: Vec::new(),
        network: None,
        volumes_ready: false,
        volumes_left: false,
        images: BTreeMap::new(),
        ..prepared(pod)
    }
}

fn running(since: i64) -> RunState {
    RunState::Running { pid: 7, started_at: at(since) }
}

fn ended(code: i32, from: i64, to: i64) -> RunState {
    let (started_at, finished_at) = (Some(at(from)), at(to));
    RunState::Exited(Exit { code, oom_killed: false, start_error: None, started_at, finished_at })
}

fn sandbox(attempt: u32, state: RunState) -> ContainerReport {
    report(&format!("pause-{attempt}"), Role::Sandbox, "POD", attempt, "", state)
}

/// A container of the first sandbox.
fn app(name: &str, attempt: u32, state: RunState) -> ContainerReport {
    report(&format!("{name}-{attempt}"), Role::App, name, attempt, "pause-0", state)
}

fn report(id: &str, role: Role, name: &str, attempt: u32, sandbox: &str, state: RunState) -> ContainerReport {
    ContainerReport {
        id: id.into(),
        identity: Identity {
            cluster: "c".into(),
            node: "n".into(),
            pod_namespace: "default".into(),
            pod_name: "web".into(),
            pod_uid: "u".into(),
            role,
            container: name.into(),
            attempt,
            sandbox: sandbox.into(),
            spec_hash: spec_hash(&container(name)),
            backoff_seconds: 0,
            grace_seconds: 30,
            cause: String::new(),
        },
        image: "app:1".into(),
        image_id: "sha256:1".into(),
        stop_signal: "TERM".into(),
        state,
    }
}

/// The plan's steps as text, without the status.
fn steps(observed: &Observed, now: i64) -> Vec<String> {
    let plan = plan(observed, at(now));
    let steps = plan.steps.iter().filter(|step| !matches!(step.action, Action::PublishStatus { .. }));
    steps.map(|step| step.action.to_string()).collect()
}

fn published(observed: &Observed, now: i64) -> PodStatus {
    pod_status(observed, observed.pod.as_ref().expect("a Pod"), at(now))
}

/// As if the status had been written.
fn settle(mut observed: Observed, now: i64) -> Observed {
    observed.published = published(&observed, now);
    observed
}

#[test]
fn a_new_pod_is_prepared_in_order_and_told() {
    let observed = fresh(&pod("Always", &["app"]));
    assert_eq!(steps(&observed, 0), ["set up network", "prepare volumes", "start sandbox, attempt 0"]);
    let plan = plan(&observed, at(0));
    let last = plan.steps.last().expect("a step").action.to_string();
    assert_eq!(last, "publish status Pending, app: ContainerCreating");
}

#[test]
fn a_prepared_pod_gets_its_images_and_containers() {
    let pod = pod("Always", &["one", "two"]);
    let mut observed = prepared(&pod);
    observed.images.clear();
    assert_eq!(steps(&observed, 0), ["look for image app:1"], "once for both");
    observed.images.insert("app:1".into(), ImageState { present: Some(false), ..ImageState::default() });
    assert_eq!(steps(&observed, 0)[0], "pull image app:1 for one");
    let observed = prepared(&pod);
    assert_eq!(steps(&observed, 0), ["start one, attempt 0", "start two, attempt 0"]);
}

#[test]
fn what_runs_and_is_published_needs_nothing() {
    let mut observed = prepared(&pod("Always", &["app"]));
    observed.containers.push(app("app", 0, running(1)));
    let observed = settle(observed, 5);
    assert!(plan(&observed, at(5)).is_empty());
    assert_eq!(observed.published.phase, "Running");
    assert!(observed.published.container_statuses[0].ready);
    let ready = observed.published.conditions.iter().find(|c| c.r#type == "Ready").expect("Ready");
    assert_eq!((ready.status.as_str(), ready.last_transition_time), ("True", Some(Time::from(at(5)))));
}

#[test]
fn tokens_are_renewed_when_it_is_time_and_after_everything_else() {
    let mut observed = prepared(&pod("Always", &["app"]));
    observed.renew_tokens_at = Some(at(60));
    assert_eq!(steps(&observed, 60), ["start app, attempt 0", "renew tokens"]);
    observed.containers.push(app("app", 0, running(1)));
    let observed = settle(observed, 5);
    assert_eq!(plan(&observed, at(5)).requeue_after.expect("looks again").as_secs(), 55);
    assert_eq!(steps(&observed, 60), ["renew tokens"]);
    let gone = Observed { volumes_ready: false, ..observed };
    assert!(!steps(&gone, 60).contains(&"renew tokens".to_string()), "their files come first");
}

#[test]
fn restarts_follow_policy() {
    for (policy, code, restarts, phase) in [
        ("Always", 0, true, "Running"),
        ("Always", 1, true, "Running"),
        ("OnFailure", 0, false, "Succeeded"),
        ("OnFailure", 1, true, "Running"),
        ("Never", 0, false, "Succeeded"),
        ("Never", 1, false, "Failed"),
    ] {
        let mut observed = prepared(&pod(policy, &["app"]));
        observed.containers.push(app("app", 0, ended(code, 0, 60)));
        let started = steps(&observed, 61).iter().any(|step| step.starts_with("start app, attempt 1"));
        assert_eq!(started, restarts, "{policy} {code}");
        assert_eq!(published(&observed, 61).phase, phase, "{policy} {code}");
    }
}

#[test]
fn a_crash_loop_waits_longer_each_time_and_says_so() {
    let mut observed = prepared(&pod("Always", &["app"]));
    let mut crashed = app("app", 2, ended(1, 0, 5));
    crashed.identity.backoff_seconds = 20;
    observed.containers.push(crashed);
    assert!(steps(&observed, 10).is_empty());
    let again = plan(&observed, at(10)).requeue_after.expect("looks again");
    assert_eq!(again.as_secs(), 15);
    let status = published(&observed, 10);
    let waiting = status.container_statuses[0].state.waiting.as_ref().expect("waiting");
    assert_eq!(waiting.reason, "CrashLoopBackOff");
    assert_eq!(waiting.message, "back-off 20s restarting failed container=app pod=default/web");
    assert_eq!(status.container_statuses[0].restart_count, 2);
    assert_eq!(status.container_statuses[0].last_state.terminated.as_ref().expect("ended").exit_code, 1);

    let Action::StartContainer { attempt, backoff_seconds, .. } = plan(&observed, at(25)).steps[0].action.clone()
    else {
        panic!("does not start");
    };
    assert_eq!((attempt, backoff_seconds), (3, 40));
}

#[test]
fn init_containers_go_one_by_one_and_then_the_apps() {
    let mut spec = pod("Always", &["app"]);
    spec.spec.init_containers = vec![container("first"), container("second")];
    let init = |name: &str, state| ContainerReport {
        identity: Identity { role: Role::Init, ..app(name, 0, running(0)).identity },
        ..app(name, 0, state)
    };
    let mut observed = prepared(&spec);
    assert_eq!(steps(&observed, 0), ["start first, attempt 0"]);
    let waiting = published(&observed, 0).container_statuses[0].state.waiting.clone().expect("waiting");
    assert_eq!(waiting.reason, "PodInitializing");
    observed.containers.push(init("first", running(1)));
    assert!(steps(&observed, 2).is_empty());
    observed.containers[1] = init("first", ended(0, 1, 2));
    assert_eq!(steps(&observed, 3), ["start second, attempt 0"]);
    observed.containers.push(init("second", ended(0, 3, 4)));
    assert_eq!(steps(&observed, 5), ["start app, attempt 0"]);
    observed.containers.push(app("app", 0, running(6)));
    // Somebody cleans up: what is done stays done.
    observed.containers.retain(|report| report.identity.role != Role::Init);
    assert!(steps(&observed, 7).is_empty());

    let mut never = prepared(&{
        let mut spec = spec.clone();
        spec.spec.restart_policy = "Never".into();
        spec
    });
    never.containers.push(init("first", ended(3, 1, 2)));
    assert_eq!(steps(&never, 3), ["remove POD", "tear down network"]);
    assert_eq!(published(&never, 3).phase, "Failed");
}

#[test]
fn sidecars_run_beside_and_stop_last() {
    let mut spec = pod("Never", &["app"]);
    spec.spec.init_containers = vec![Container { restart_policy: Some("Always".into()), ..container("side") }];
    let side = |state| ContainerReport {
        identity: Identity { role: Role::Init, ..app("side", 0, running(0)).identity },
        ..app("side", 0, state)
    };
    let mut observed = prepared(&spec);
    assert_eq!(steps(&observed, 0), ["start side, attempt 0"]);
    observed.containers.push(side(running(0)));
    assert_eq!(steps(&observed, 1), ["start app, attempt 0"]);
    observed.containers.push(app("app", 0, running(1)));
    observed.containers[1] = side(ended(1, 0, 2));
    assert_eq!(steps(&observed, 3), ["start side, attempt 1"]);
    observed.containers[1] = side(running(3));
    observed.containers[2] = app("app", 0, ended(0, 1, 9));
    assert_eq!(steps(&observed, 10), ["stop side within 30 s"]);

    let mut deleted = spec.clone();
    deleted.metadata.deletion_timestamp = Some(Time::from(at(10)));
    observed.pod = Some(Arc::new(deleted));
    observed.containers[2] = app("app", 0, running(1));
    assert_eq!(steps(&observed, 10), ["stop app within 30 s"], "the app first");
}

#[test]
fn a_lost_sandbox_takes_its_containers_along_and_is_rebuilt() {
    let mut observed = prepared(&pod("Always", &["app"]));
    observed.containers = vec![app("app", 0, running(1))];
    assert_eq!(steps(&observed, 5), ["stop app within 30 s"]);
    observed.containers = vec![app("app", 0, ended(137, 1, 6))];
    assert_eq!(steps(&observed, 7), ["start sandbox, attempt 1"]);
    let new = report("pause-1", Role::Sandbox, "POD", 1, "", running(7));
    observed.containers.push(new);
    assert_eq!(steps(&observed, 8), ["start app, attempt 1"]);

    // pause has ended but is still there
    observed.containers = vec![sandbox(0, ended(0, 0, 5)), app("app", 0, ended(0, 1, 6))];
    assert_eq!(steps(&observed, 7), ["remove POD", "start sandbox, attempt 1"]);
}

#[test]
fn a_kubelet_that_was_interrupted_goes_on_where_it_was() {
    let spec = pod("Always", &["app"]);
    let mut observed = prepared(&spec);
    observed.containers.push(app("app", 4, RunState::Created));
    assert_eq!(steps(&observed, 1), ["start app, attempt 4"]);
    observed.containers = vec![sandbox(2, RunState::Created)];
    assert_eq!(steps(&observed, 1), ["start sandbox, attempt 2"]);
}

#[test]
fn a_container_that_was_removed_by_hand_counts_on() {
    let mut observed = prepared(&pod("Always", &["app"]));
    observed.containers.push(app("app", 3, running(1)));
    let mut observed = settle(observed, 2);
    observed.containers.pop();
    assert_eq!(steps(&observed, 3), ["start app, attempt 4"]);
    // An earlier one, kept for its log, does not turn the count back.
    observed.containers.push(app("app", 2, ended(1, 0, 1)));
    assert_eq!(steps(&observed, 3), ["start app, attempt 4"]);
}

#[test]
fn deletion_stops_kills_and_clears_and_only_then_lets_go() {
    let mut spec = pod("Always", &["app"]);
    spec.metadata.deletion_timestamp = Some(Time::from(at(40)));
    spec.metadata.deletion_grace_period_seconds = Some(5);
    let mut observed = prepared(&spec);
    observed.containers.push(app("app", 0, running(1)));
    assert_eq!(steps(&observed, 10), ["stop app within 5 s"]);
    observed.stopping.insert("app-0".into(), Stopping { deadline: at(15) });
    assert!(steps(&observed, 12).is_empty());
    assert_eq!(steps(&observed, 15), ["kill app"]);
    observed.stopping.insert("app-0".into(), Stopping { deadline: at(60) });
    assert_eq!(steps(&observed, 16), ["stop app within 5 s"], "deleted again with a shorter grace period");
    observed.containers[1] = app("app", 0, ended(137, 1, 16));
    observed.stopping.clear();
    assert_eq!(
        steps(&observed, 17),
        ["remove POD", "remove app", "tear down network", "remove volumes", "remove cgroup", "finish deletion"]
    );
    let plan = plan(&observed, at(17));
    assert!(matches!(plan.steps[0].action, Action::PublishStatus { .. }), "the last status goes first:\n{plan}");
}

#[test]
fn a_pod_that_is_gone_from_the_api_leaves_nothing() {
    let mut observed = prepared(&pod("Always", &["app"]));
    observed.pod = None;
    observed.containers.push(app("app", 0, running(1)));
    assert_eq!(steps(&observed, 1), ["stop app within 30 s"]);
    observed.containers.pop();
    assert_eq!(steps(&observed, 2), ["remove POD", "tear down network", "remove volumes", "remove cgroup", "forget"]);
}

#[test]
fn a_finished_pod_gives_up_its_address_and_keeps_its_log() {
    let mut observed = prepared(&pod("Never", &["app"]));
    observed.containers.push(app("app", 0, ended(0, 1, 2)));
    assert_eq!(steps(&observed, 3), ["remove POD", "tear down network"]);
    let mut observed = settle(observed, 3);
    observed.containers.remove(0);
    observed.network = None;
    let observed = settle(observed, 4);
    assert!(plan(&observed, at(4)).is_empty());
    assert_eq!(observed.published.phase, "Succeeded");
    assert_eq!(observed.published.pod_ip, "10.244.1.5", "which it was");

    // And stays finished, whatever becomes of its containers.
    let bare = Observed { containers: Vec::new(), ..observed.clone() };
    assert!(plan(&bare, at(5)).is_empty());
    assert_eq!(published(&bare, 5).container_statuses[0].state, observed.published.container_statuses[0].state);
}

fn looked_into(target: &str) -> Pod {
    let mut pod = pod("Always", &["app"]);
    let ephemeral = serde_json::json!({"name": "look", "image": "app:1", "targetContainerName": target});
    let (ephemeral, _) =
        skiff_proto::json::decode_value(&ephemeral, skiff_proto::json::Strictness::Strict).expect("one");
    pod.spec.ephemeral_containers = vec![ephemeral];
    pod
}

#[test]
fn an_ephemeral_container_is_started_once_beside_the_others_and_nothing_waits_for_it() {
    let look = |state| report("look-0", Role::Ephemeral, "look", 0, "pause-0", state);
    let mut observed = prepared(&looked_into(""));
    observed.containers.push(app("app", 0, running(1)));
    assert_eq!(steps(&observed, 5), ["start look, attempt 0"]);
    let status = published(&observed, 5);
    assert_eq!((status.phase.as_str(), status.container_statuses.len()), ("Running", 1));
    assert!(status.conditions.iter().any(|c| c.r#type == "Ready" && c.status == "True"), "it is not waited for");
    assert!(status.ephemeral_container_statuses[0].state.waiting.is_some());
    observed.containers.push(look(running(6)));
    let observed_then = settle(observed.clone(), 7);
    assert!(plan(&observed_then, at(7)).is_empty());
    let shown = &observed_then.published.ephemeral_container_statuses[0];
    assert!(shown.state.running.is_some() && !shown.ready && shown.name == "look");
    // It has ended: whatever the Pod's policy says, that was it.
    observed.containers[2] = look(ended(1, 6, 60));
    let observed = settle(observed, 600);
    assert!(plan(&observed, at(600)).is_empty(), "{:?}", steps(&observed, 600));
    assert_eq!(observed.published.phase, "Running");
    let ended = observed.published.ephemeral_container_statuses[0].state.terminated.as_ref().expect("ended");
    assert_eq!(ended.exit_code, 1);
    // Nor is it started again when it was removed, or the sandbox is another.
    let mut removed = observed.clone();
    removed.containers.remove(2);
    assert!(steps(&removed, 601).is_empty());
    let mut elsewhere = observed;
    elsewhere.containers[2].identity.sandbox = "pause-before".into();
    assert!(steps(&elsewhere, 601).is_empty());
}

#[test]
fn an_ephemeral_container_waits_for_the_one_it_looks_into_and_ends_with_the_pod() {
    let mut observed = prepared(&looked_into("app"));
    assert_eq!(steps(&observed, 5), ["start app, attempt 0"]);
    observed.containers.push(app("app", 0, running(6)));
    assert_eq!(steps(&observed, 7), ["start look, attempt 0"]);
    observed.containers.push(report("look-0", Role::Ephemeral, "look", 0, "pause-0", running(8)));
    observed.pod = None;
    assert_eq!(steps(&observed, 9), ["stop app within 30 s", "stop look within 30 s"]);
}
