//! From any state the plan leads on, and never does what must not be done.

use super::*;
use proptest::prelude::*;

fn state() -> impl Strategy<Value = RunState> {
    prop_oneof![
        Just(RunState::Created),
        Just(running(0)),
        (0..3i32, 0..100i64).prop_map(|(code, to)| ended(code, 0, to)),
    ]
}

fn reports() -> impl Strategy<Value = Vec<ContainerReport>> {
    let one = (0..3u32, 0..2u32, prop_oneof![Just("a"), Just("b")], state());
    let sandboxes = proptest::collection::vec((0..2u32, state()), 0..3);
    (proptest::collection::vec(one, 0..5), sandboxes).prop_map(|(apps, sandboxes)| {
        let mut all: Vec<ContainerReport> =
            sandboxes.into_iter().map(|(attempt, state)| sandbox(attempt, state)).collect();
        for (attempt, pause, name, state) in apps {
            let id = format!("{name}-{attempt}");
            all.push(report(&id, Role::App, name, attempt, &format!("pause-{pause}"), state));
        }
        all.sort_by(|a, b| a.id.cmp(&b.id));
        all.dedup_by(|a, b| a.id == b.id);
        all
    })
}

proptest! {
    #[test]
    fn nothing_starts_beside_a_running_one_and_nothing_running_is_removed(
        reports in reports(),
        policy in prop_oneof![Just("Always"), Just("OnFailure"), Just("Never")],
        deleted in any::<bool>(),
        known in any::<bool>(),
    ) {
        let mut spec = pod(policy, &["a", "b"]);
        spec.metadata.deletion_timestamp = deleted.then(|| Time::from(at(50)));
        let mut observed = prepared(&spec);
        observed.containers = reports;
        if !known {
            observed.pod = None;
        }
        let plan = plan(&observed, at(200));
        for step in &plan.steps {
            match &step.action {
                Action::StartContainer { container, sandbox, .. } => {
                    prop_assert!(!deleted && known);
                    let beside = observed.containers.iter().any(|r| r.identity.container == *container && r.is_running());
                    prop_assert!(!beside, "{container} runs already");
                    let up = observed.containers.iter().any(|r| r.id == *sandbox && r.is_running());
                    prop_assert!(up, "the sandbox does not run");
                }
                Action::RemoveContainer { id, .. } => {
                    let report = observed.containers.iter().find(|r| r.id == *id).expect("it exists");
                    prop_assert!(report.identity.role == Role::Sandbox || !report.is_running());
                }
                Action::FinishDeletion | Action::Forget => {
                    prop_assert!(deleted || !known);
                    let apps_run = observed.containers.iter().any(|r| r.is_running() && r.identity.role != Role::Sandbox);
                    prop_assert!(!apps_run);
                }
                _ => {}
            }
        }
    }
}
