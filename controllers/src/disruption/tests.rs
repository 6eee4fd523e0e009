//! Budgets: what is allowed, and that a Pod that was let go counts once.

use std::sync::Arc;

use jiff::Timestamp;
use proptest::prelude::*;
use skiff_client::ObjectKey;
use skiff_proto::policyv1::PodDisruptionBudget;
use skiff_proto::{IntOrString, Time};

use super::plan::{Action, Observed, plan};
use crate::pods::{Phase, PodView};

const NOW: i64 = 1_000_000;

fn budget(least: Option<IntOrString>, most: Option<IntOrString>) -> PodDisruptionBudget {
    let mut budget = PodDisruptionBudget::default();
    budget.metadata.name = "web".into();
    budget.metadata.generation = 3;
    budget.metadata.resource_version = "70".into();
    budget.spec.min_available = least;
    budget.spec.max_unavailable = most;
    budget
}

fn pod(n: usize, ready: bool) -> PodView {
    PodView {
        key: ObjectKey::new("default", format!("web-{n}")),
        phase: Phase::Running,
        created: NOW - 500,
        ready_since: ready.then_some(NOW - 400),
        ..PodView::default()
    }
}

fn observed(budget: &PodDisruptionBudget, pods: &[PodView], wanted: i64) -> Observed {
    Observed { budget: Arc::new(budget.clone()), pods: pods.iter().cloned().map(Arc::new).collect(), wanted }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

/// The status that is planned, and the pods that count as let go no longer.
fn planned(observed: &Observed, now: i64) -> Option<(skiff_proto::policyv1::PodDisruptionBudgetStatus, Vec<String>)> {
    let step = plan(observed, at(now)).steps.pop()?;
    let Action::WriteStatus { status, seen, onto } = step.action;
    assert_eq!(onto, "70", "it is written onto what was read");
    Some((*status, seen))
}

#[test]
fn what_is_allowed_is_what_is_healthy_less_what_has_to_be() {
    let (n, percent) = (|n: i32| Some(IntOrString::from(n)), |text: &str| Some(IntOrString::from(text)));
    // (minAvailable, maxUnavailable, pods, of them ready, wanted) -> (allowed, desired, expected)
    let table = [
        (n(2), None, 3, 3, 3, (1, 2, 3)),
        (n(2), None, 3, 2, 3, (0, 2, 3)),
        (n(5), None, 3, 3, 3, (0, 5, 3)),
        (n(0), None, 3, 3, 3, (3, 0, 3)),
        // A rollout has more pods than are wanted: a share is of what is wanted.
        (percent("50%"), None, 6, 6, 5, (3, 3, 5)),
        (None, n(1), 3, 3, 3, (1, 2, 3)),
        (None, n(1), 2, 2, 3, (0, 2, 3)),
        (None, percent("30%"), 10, 10, 10, (3, 7, 10)),
        (None, percent("1%"), 10, 10, 10, (1, 9, 10)),
        (None, n(0), 3, 3, 3, (0, 3, 3)),
        // Pods that nothing makes anew: nobody knows how many there should be.
        (None, n(1), 3, 3, 0, (0, 0, 0)),
        (n(1), None, 3, 3, 0, (2, 1, 3)),
        (None, None, 3, 3, 3, (0, 0, 0)),
        (n(1), None, 0, 0, 0, (0, 1, 0)),
    ];
    for (least, most, pods, ready, wanted, expected) in table {
        let budget = budget(least, most);
        let pods: Vec<PodView> = (0..pods).map(|i| pod(i, i < ready)).collect();
        let (status, _) = planned(&observed(&budget, &pods, wanted), NOW).expect("the first look writes");
        let found = (status.disruptions_allowed, status.desired_healthy, status.expected_pods);
        assert_eq!(found, expected, "{:?}", budget.spec);
        assert_eq!((status.current_healthy, status.observed_generation), (ready as i32, 3));
        let condition = &status.conditions[0];
        let sufficient = if expected.0 > 0 { ("True", "SufficientPods") } else { ("False", "InsufficientPods") };
        assert_eq!((condition.status.as_str(), condition.reason.as_str()), sufficient);
    }
}

#[test]
fn a_pod_that_was_let_go_counts_as_gone_until_it_is_seen_going() {
    let mut budget = budget(Some(2.into()), None);
    budget.status.disrupted_pods.insert("web-0".into(), Time::from_unix(NOW));
    let mut pods: Vec<PodView> = (0..3).map(|i| pod(i, true)).collect();

    let look = observed(&budget, &pods, 3);
    let (status, seen) = planned(&look, NOW + 1).unwrap();
    assert_eq!((status.disruptions_allowed, status.current_healthy, seen.len()), (0, 2, 0), "the informer is behind");
    let wait = plan(&look, at(NOW + 1)).requeue_after.expect("nothing else would wake it");
    assert_eq!(wait.as_secs(), 119);

    pods[0].deleting = true;
    let (status, seen) = planned(&observed(&budget, &pods, 3), NOW + 1).unwrap();
    assert_eq!((status.disruptions_allowed, status.current_healthy, seen), (0, 2, vec!["web-0".to_owned()]));

    // Another one of its name, or one that nobody deletes after all, counts again.
    pods[0] = PodView { created: NOW + 1, ..pod(0, true) };
    assert_eq!(planned(&observed(&budget, &pods, 3), NOW + 2).unwrap().0.disruptions_allowed, 1);
    pods[0] = pod(0, true);
    assert_eq!(planned(&observed(&budget, &pods, 3), NOW + 120).unwrap().0.disruptions_allowed, 1);
}

#[test]
fn what_is_written_already_is_not_written_again() {
    let mut budget = budget(Some(2.into()), None);
    let pods: Vec<PodView> = (0..3).map(|i| pod(i, true)).collect();
    budget.status = planned(&observed(&budget, &pods, 3), NOW).unwrap().0;
    assert_eq!(planned(&observed(&budget, &pods, 3), NOW + 60), None, "and its condition keeps its time");
}

proptest! {
    /// However evictions, looks of the controller and late news of Pods come one after the other: as long as Pods
    /// only go by eviction, no fewer are healthy than have to be.
    #[test]
    fn no_order_of_events_evicts_too_many(least in 0i32..6, events in prop::collection::vec((0u8..3, 0usize..6), 0..40)) {
        let mut budget = budget(Some(least.into()), None);
        let mut pods: Vec<PodView> = (0..6).map(|i| pod(i, true)).collect();
        let mut seen = pods.clone();
        for (event, which) in events {
            match event {
                // What the API server does for an eviction.
                0 if budget.status.disruptions_allowed > 0 && !pods[which].deleting => {
                    budget.status.disruptions_allowed -= 1;
                    budget.status.disrupted_pods.insert(pods[which].key.name.clone(), Time::from_unix(NOW));
                    pods[which].deleting = true;
                }
                1 => seen[which] = pods[which].clone(),
                2 => {
                    if let Some((status, _)) = planned(&observed(&budget, &seen, 6), NOW + 1) {
                        budget.status = status;
                    }
                }
                _ => {}
            }
            let healthy = pods.iter().filter(|p| !p.deleting).count();
            prop_assert!(healthy >= least as usize, "{healthy} of {least} are left");
        }
    }
}
