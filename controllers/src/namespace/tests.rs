//! Namespaces: emptied, and what they say while something keeps them.

use std::sync::Arc;

use jiff::Timestamp;
use skiff_client::{ObjectKey, Resource};
use skiff_proto::Time;
use skiff_proto::appsv1::Deployment;
use skiff_proto::corev1::{ConfigMap, Event, Namespace, NamespaceCondition, Pod};

use super::plan::{Action, FINALIZER, Observed, plan};
use crate::inventory::{Item, MetaView, ObjectId};

fn observed(deleting: bool, contents: Vec<Item>) -> Observed {
    let mut namespace = Namespace::default();
    namespace.metadata.name = "team".into();
    namespace.metadata.deletion_timestamp = deleting.then(|| Time::from_unix(100));
    namespace.spec.finalizers = vec![FINALIZER.into()];
    Observed { namespace: Arc::new(namespace), contents, unseen: vec![Resource::of::<Event>()], failure: None }
}

fn item(resource: Resource, name: &str, deleting: bool) -> Item {
    held(resource, name, deleting, &[])
}

fn held(resource: Resource, name: &str, deleting: bool, finalizers: &[&str]) -> Item {
    let id = ObjectId { resource, key: ObjectKey::new("team", name) };
    let finalizers = finalizers.iter().map(|f| f.to_string()).collect();
    Item { id, revision: 1, meta: Arc::new(MetaView { deleting, finalizers, ..MetaView::default() }) }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn steps(observed: &Observed) -> Vec<String> {
    plan(observed, at(1000)).steps.iter().map(|s| s.action.to_string()).collect()
}

fn written(observed: &Observed, now: i64) -> Option<Vec<NamespaceCondition>> {
    plan(observed, at(now)).steps.into_iter().find_map(|step| match step.action {
        Action::WriteConditions(conditions) => Some(conditions),
        _ => None,
    })
}

#[test]
fn everything_goes_makers_first_and_the_finalizer_last() {
    let pod = |deleting| item(Resource::of::<Pod>(), "p", deleting);
    let all =
        vec![pod(false), item(Resource::of::<ConfigMap>(), "c", false), item(Resource::of::<Deployment>(), "d", false)];
    let expected = ["delete deployments.apps team/d", "delete configmaps team/c", "delete pods team/p"];
    assert_eq!(steps(&observed(true, all)), expected);
    let waiting = observed(true, vec![pod(true)]);
    assert_eq!(steps(&waiting), ["write conditions: SomeResourcesRemain"]);
    assert!(plan(&waiting, at(1000)).requeue_after.is_some());
    let empty = observed(true, vec![]);
    assert_eq!(steps(&empty), ["delete all events", "remove the finalizer if the namespace is empty"]);
}

#[test]
fn a_namespace_that_lives_is_left_alone() {
    assert!(steps(&observed(false, vec![item(Resource::of::<Pod>(), "p", false)])).is_empty());
}

#[test]
fn what_keeps_it_is_said_once_and_since_when() {
    let contents = vec![
        held(Resource::of::<ConfigMap>(), "a", true, &["example.com/hold"]),
        held(Resource::of::<ConfigMap>(), "b", true, &["example.com/hold"]),
        item(Resource::of::<Pod>(), "p", true),
    ];
    let mut observed = observed(true, contents);
    let conditions = written(&observed, 1000).expect("it is said");
    let told: Vec<String> =
        conditions.iter().map(|c| format!("{} {} {}: {}", c.r#type, c.status, c.reason, c.message)).collect();
    assert_eq!(
        told,
        [
            "NamespaceDeletionContentFailure False ContentDeleted: Everything that could be found has been deleted, or is on its way out.",
            "NamespaceContentRemaining True SomeResourcesRemain: Still there: configmaps (2), pods (1).",
            "NamespaceFinalizersRemaining True SomeFinalizersRemain: Held by finalizers, so that whoever set them can finish: example.com/hold (2).",
        ]
    );
    let mut namespace = Namespace::clone(&observed.namespace);
    namespace.status.conditions = conditions;
    observed.namespace = Arc::new(namespace);
    assert!(steps(&observed).is_empty(), "it is said once");
    observed.contents.pop();
    let fewer = written(&observed, 2000).expect("one is gone");
    assert_eq!(fewer[1].message, "Still there: configmaps (2).");
    assert_eq!(fewer[1].last_transition_time, Some(Time::from_unix(1000)), "it was so before");
}

#[test]
fn a_refused_delete_is_said_before_the_next_try() {
    let refused = Observed {
        failure: Some("configmaps team/a: no".into()),
        ..observed(true, vec![item(Resource::of::<ConfigMap>(), "a", false)])
    };
    let expected = ["write conditions: ContentDeletionFailed, SomeResourcesRemain", "delete configmaps team/a"];
    assert_eq!(steps(&refused), expected);
}
