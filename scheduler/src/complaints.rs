//! Tells users why a pod has no node: its condition PodScheduled is set to False, with the reasons.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::json;
use skiff_client::driver::{Plan, Reconciler};
use skiff_client::{ActError, Api, Client, Held, ObjectKey, Patch, Store, Trigger, WorkQueue};
use skiff_proto::Time;
use skiff_proto::corev1::Pod;
use skiff_world::World;
use skiff_world::mutants::{Mutant, is_awake};

use crate::pod::PodInfo;

/// Writes complaints.
pub struct Complaints {
    world: World,
    client: Client,
    pods: Store<PodInfo>,
    wanted: Mutex<BTreeMap<ObjectKey, Complaint>>,
    queue: WorkQueue<ObjectKey>,
}

#[derive(Clone, Debug)]
struct Complaint {
    uid: Arc<str>,
    message: String,
}

/// What there is to know about one complaint.
#[derive(Clone, Debug)]
pub struct Observed {
    complaint: Complaint,
    pod: Held<PodInfo>,
    reference: Option<skiff_client::ObjectRef>,
}

/// What is done about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Complain {
    message: String,
    revision: u64,
    /// It did not complain before: a change that has a time.
    first: bool,
}

impl fmt::Display for Complain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "say that it cannot be scheduled: {}", self.message)
    }
}

impl Complaints {
    /// Takes keys from `queue`; compares with what the pods say already.
    pub fn new(world: World, client: Client, pods: Store<PodInfo>, queue: WorkQueue<ObjectKey>) -> Complaints {
        Complaints { world, client, pods, wanted: Mutex::default(), queue }
    }

    /// Has a pod say why it has no node.
    pub fn complain(&self, pod: &PodInfo, message: String, trigger: Trigger) {
        let key = ObjectKey::new(pod.namespace.as_str(), pod.name.as_str());
        if pod.complaint.as_ref() == Some(&message) || is_awake(Mutant::ReasonsThrownAway) {
            self.wanted().remove(&key);
            return;
        }
        self.wanted().insert(key.clone(), Complaint { uid: pod.uid.clone(), message });
        self.queue.add(key, trigger);
    }

    /// The pod has a node now, or is gone.
    pub fn forget(&self, pod: &ObjectKey) {
        self.wanted().remove(pod);
    }

    fn wanted(&self) -> MutexGuard<'_, BTreeMap<ObjectKey, Complaint>> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reconciler for Complaints {
    type Key = ObjectKey;
    type Observed = Observed;
    type Action = Complain;
    const NAME: &'static str = "scheduler-complaints";

    fn observe(&self, key: &ObjectKey) -> Option<Observed> {
        let complaint = self.wanted().get(key).cloned()?;
        let pod = self.pods.held(key).filter(|p| p.uid == complaint.uid)?;
        Some(Observed { complaint, pod, reference: self.pods.reference(key) })
    }

    fn plan(&self, observed: &Observed, _: jiff::Timestamp) -> Plan<Complain> {
        let mut plan = Plan::nothing();
        plan.inputs.extend(observed.reference.clone());
        let (pod, message) = (&observed.pod.value, &observed.complaint.message);
        if pod.node.is_empty() && pod.complaint.as_ref() != Some(message) {
            let (revision, first) = (observed.pod.revision, pod.complaint.is_none());
            plan.step(Complain { message: message.clone(), revision, first }, "no node will do");
        }
        plan
    }

    async fn act(&self, key: &ObjectKey, action: &Complain) -> Result<(), ActError> {
        let mut condition = json!({
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": action.message,
        });
        if action.first {
            condition["lastTransitionTime"] = Time::from(self.world.wall()).to_string().into();
        }
        // Only on the version that has no node: a pod that has got one must not be told that it has none.
        let patch = json!({
            "metadata": { "resourceVersion": action.revision.to_string() }, "status": { "conditions": [condition] },
        });
        match Api::<Pod>::new(&self.client).patch_status(&key.namespace, &key.name, Patch::Strategic(patch)).await {
            Err(error) if !error.is_not_found() => Err(error.into()),
            _ => Ok(()),
        }
    }
}
