//! Writes decisions: binds pods to the nodes that were chosen for them.
//!
//! A binding whose answer was lost may have happened, and its pod may take its room already. So it is
//! tried again, to the same node, until the server says yes or no; until then the room stays taken.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use skiff_client::driver::{Plan, Reconciler};
use skiff_client::{ActError, Api, Client, Error, ObjectKey, ObjectRef, Trigger, WorkQueue};
use skiff_proto::corev1::{Binding, ObjectReference, Pod};
use skiff_proto::metav1::ObjectMeta;
use tokio::sync::mpsc::UnboundedSender;

use crate::scheduler::Event;

/// A decision to be written.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// The pod's uid.
    pub uid: Arc<str>,
    /// The node.
    pub node: String,
    /// Why this one, in words.
    pub reason: String,
    /// What was looked at: the pod, and the node.
    pub inputs: Vec<ObjectRef>,
}

/// What is done about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Bind {
    uid: Arc<str>,
    node: String,
}

impl fmt::Display for Bind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bind to {}", self.node)
    }
}

/// Binds pods.
pub struct Binder {
    client: Client,
    targets: Mutex<BTreeMap<ObjectKey, Target>>,
    queue: WorkQueue<ObjectKey>,
    results: UnboundedSender<Event>,
}

impl Binder {
    /// Takes keys from `queue`, and tells how each ended.
    pub fn new(client: Client, queue: WorkQueue<ObjectKey>, results: UnboundedSender<Event>) -> Binder {
        Binder { client, targets: Mutex::default(), queue, results }
    }

    /// Has a decision written.
    pub fn bind(&self, pod: ObjectKey, target: Target, trigger: Trigger) {
        self.targets().insert(pod.clone(), target);
        self.queue.add(pod, trigger);
    }

    /// The pod is gone, or has its node: nothing is to be written any more.
    pub fn forget(&self, pod: &ObjectKey, uid: &str) {
        let mut targets = self.targets();
        if targets.get(pod).is_some_and(|t| &*t.uid == uid) {
            targets.remove(pod);
        }
    }

    fn targets(&self) -> MutexGuard<'_, BTreeMap<ObjectKey, Target>> {
        self.targets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn write(&self, key: &ObjectKey, bind: &Bind) -> Result<(), Error> {
        let binding = Binding {
            metadata: ObjectMeta {
                namespace: key.namespace.clone(),
                name: key.name.clone(),
                uid: bind.uid.to_string(),
                ..ObjectMeta::default()
            },
            target: ObjectReference { kind: "Node".into(), name: bind.node.clone(), ..ObjectReference::default() },
        };
        let api = Api::<Pod>::new(&self.client);
        match api.bind(&binding).await {
            // It has a node already: perhaps the one that we gave it, and the answer was lost.
            Err(error) if error.is_conflict() => {
                let live = api.get(&key.namespace, &key.name).await?;
                let ours = live.metadata.uid == *bind.uid && live.spec.node_name == bind.node;
                if ours { Ok(()) } else { Err(error) }
            }
            result => result,
        }
    }
}

impl Reconciler for Binder {
    type Key = ObjectKey;
    type Observed = Target;
    type Action = Bind;
    const NAME: &'static str = "scheduler";

    fn observe(&self, key: &ObjectKey) -> Option<Target> {
        self.targets().get(key).cloned()
    }

    fn plan(&self, target: &Target, _: jiff::Timestamp) -> Plan<Bind> {
        let mut plan = Plan::nothing();
        plan.inputs.clone_from(&target.inputs);
        plan.step(Bind { uid: target.uid.clone(), node: target.node.clone() }, target.reason.as_str());
        plan
    }

    async fn act(&self, key: &ObjectKey, bind: &Bind) -> Result<(), ActError> {
        let failure = match self.write(key, bind).await {
            Err(error) if error.is_unreachable() => return Err(error.into()),
            result => result.err(),
        };
        self.forget(key, &bind.uid);
        // If nobody listens, the scheduler has ended.
        let _ = self.results.send(Event::Bound {
            pod: key.clone(),
            uid: bind.uid.clone(),
            node: bind.node.clone(),
            failure,
        });
        Ok(())
    }
}
