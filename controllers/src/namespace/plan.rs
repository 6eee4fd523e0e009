//! What to do about one namespace.
//!
//! A deleted namespace stays, Terminating, until everything in it is gone: every object of every
//! resource is deleted, those that make others first; then the namespace's finalizer is removed.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use skiff_client::Resource;
use skiff_client::driver::Plan;
use skiff_proto::corev1::Namespace;

use crate::inventory::Item;

/// The finalizer in `spec.finalizers` that holds a namespace until we have emptied it.
pub const FINALIZER: &str = "kubernetes";
/// No more objects are deleted in one plan.
const BURST: usize = 500;
/// What is on its way out is looked at again after so long, should nothing be heard of it.
const PATIENCE: Duration = Duration::from_secs(15);

/// What there is to know about one namespace.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The namespace.
    pub namespace: Arc<Namespace>,
    /// Everything in it; only looked up if it is being deleted.
    pub contents: Vec<Item>,
}

/// What can be done about a namespace.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Delete one object.
    Delete(Item),
    /// Remove our finalizer, once the server confirms that the namespace is empty.
    Finalize,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Delete(item) => write!(f, "delete {}", item.id),
            Action::Finalize => write!(f, "remove the finalizer if the namespace is empty"),
        }
    }
}

/// The plan.
pub fn plan(observed: &Observed) -> Plan<Action> {
    let mut plan = Plan::nothing();
    let namespace = &observed.namespace;
    plan.input(Resource::of::<Namespace>().object(&namespace.metadata));
    if namespace.metadata.deletion_timestamp.is_none() {
        return plan;
    }
    let mut left: Vec<&Item> = observed.contents.iter().filter(|item| !item.meta.deleting).collect();
    left.sort_by_key(|item| rank(item));
    for item in left.into_iter().take(BURST) {
        plan.step(Action::Delete(item.clone()), "its namespace is being deleted");
    }
    if !observed.contents.is_empty() {
        plan.look_again_after(PATIENCE);
    } else if namespace.spec.finalizers.iter().any(|f| f == FINALIZER) {
        plan.step(Action::Finalize, "nothing is left in it");
    }
    plan
}

/// Those that make others go first, or they would make them anew.
fn rank(item: &Item) -> u8 {
    match (item.id.resource.group.as_ref(), item.id.resource.resource.as_ref()) {
        ("apps", "deployments") => 0,
        ("apps" | "batch", _) => 1,
        ("", "services") => 2,
        ("", "pods") => 4,
        _ => 3,
    }
}

#[cfg(test)]
mod tests {
    use skiff_client::ObjectKey;
    use skiff_proto::Time;
    use skiff_proto::appsv1::Deployment;
    use skiff_proto::corev1::{ConfigMap, Pod};

    use super::*;
    use crate::inventory::{MetaView, ObjectId};

    fn observed(deleting: bool, contents: Vec<Item>) -> Observed {
        let mut namespace = Namespace::default();
        namespace.metadata.name = "team".into();
        namespace.metadata.deletion_timestamp = deleting.then(|| Time::from_unix(100));
        namespace.spec.finalizers = vec![FINALIZER.into()];
        Observed { namespace: Arc::new(namespace), contents }
    }

    fn item(resource: Resource, name: &str, deleting: bool) -> Item {
        let id = ObjectId { resource, key: ObjectKey::new("team", name) };
        Item { id, revision: 1, meta: Arc::new(MetaView { deleting, ..MetaView::default() }) }
    }

    fn steps(observed: &Observed) -> Vec<String> {
        plan(observed).steps.iter().map(|s| s.action.to_string()).collect()
    }

    #[test]
    fn everything_goes_makers_first_and_the_finalizer_last() {
        let pod = |deleting| item(Resource::of::<Pod>(), "p", deleting);
        let all = vec![
            pod(false),
            item(Resource::of::<ConfigMap>(), "c", false),
            item(Resource::of::<Deployment>(), "d", false),
        ];
        let expected = ["delete deployments.apps team/d", "delete configmaps team/c", "delete pods team/p"];
        assert_eq!(steps(&observed(true, all)), expected);
        let waiting = observed(true, vec![pod(true)]);
        assert!(steps(&waiting).is_empty());
        assert!(plan(&waiting).requeue_after.is_some());
        assert_eq!(steps(&observed(true, vec![])), ["remove the finalizer if the namespace is empty"]);
    }

    #[test]
    fn a_namespace_that_lives_is_left_alone() {
        assert!(steps(&observed(false, vec![item(Resource::of::<Pod>(), "p", false)])).is_empty());
    }
}
