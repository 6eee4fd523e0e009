//! When quotas are counted, and whom a change of one wakes.

use std::sync::Arc;

use skiff_client::{Change, ObjectKey};
use skiff_proto::corev1::{ResourceQuota, ResourceQuotaStatus};
use skiff_proto::quota::Amounts;
use skiff_proto::skiffv1::ObjectRef;

use super::plan::{Action, Observed, plan};
use super::{Due, makes_room};

fn amounts(list: &[(&str, &str)]) -> Amounts {
    list.iter().map(|(name, amount)| ((*name).to_string(), amount.parse().unwrap())).collect()
}

fn quota(spec: &[(&str, &str)], hard: &[(&str, &str)], used: &[(&str, &str)]) -> ResourceQuota {
    let mut quota = ResourceQuota::default();
    quota.spec.hard = amounts(spec);
    quota.status = ResourceQuotaStatus { hard: amounts(hard), used: amounts(used) };
    quota
}

#[test]
fn a_quota_is_counted_when_something_has_gone_or_it_has_changed() {
    let one = [("pods", "1")];
    // (limits, as they are enforced, marked, being deleted) -> whether it is counted
    let table = [
        (&one[..], &one[..], None, false, false),
        (&one, &one, Some(7), false, true),
        (&one, &[], None, false, true),
        (&[("pods", "1000m")], &one, None, false, false),
        (&[("pods", "2")], &one, None, false, true),
        (&[("pods", "2")], &one, Some(7), true, false),
    ];
    for (spec, hard, due, deleting, counted) in table {
        let mut quota = quota(spec, hard, &[]);
        quota.metadata.deletion_timestamp = deleting.then(|| skiff_proto::Time::from_unix(1));
        let steps: Vec<Action> =
            plan(&Observed { quota: Arc::new(quota), due }).steps.into_iter().map(|step| step.action).collect();
        let expected: Vec<Action> = counted.then_some(Action::Count { mark: due }).into_iter().collect();
        assert_eq!(steps, expected, "{spec:?} {hard:?} {due:?}");
    }
}

#[test]
fn what_goes_while_it_is_counted_has_it_counted_again() {
    let (due, key) = (Due::default(), ObjectKey::new("default", "all"));
    assert_eq!(due.of(&key), None);
    due.mark(&key);
    let first = due.of(&key);
    due.mark(&key);
    due.counted(&key, first);
    assert!(due.of(&key).is_some_and(|mark| Some(mark) != first), "the second is still due");
    due.counted(&key, due.of(&key));
    assert_eq!(due.of(&key), None);
}

#[test]
fn there_is_room_when_less_is_used_or_more_is_given() {
    let is = |hard: &str, used: &str| Some(quota(&[], &[("pods", hard)], &[("pods", used)]));
    let table = [
        (is("3", "3"), is("3", "2"), true),
        (is("3", "3"), is("4", "3"), true),
        (is("3", "2"), is("3", "3"), false),
        (is("3", "3"), is("3", "3"), false),
        (is("3", "3"), is("2", "3"), false),
        (Some(quota(&[], &[], &[])), is("3", "0"), true),
        (is("3", "3"), None, true),
        (None, is("3", "0"), false),
    ];
    for (old, new, room) in table {
        let change = Change { object: ObjectRef::default(), old: old.map(Arc::new), new: new.map(Arc::new) };
        assert_eq!(makes_room(&change), room, "{:?} -> {:?}", change.old, change.new);
    }
}
