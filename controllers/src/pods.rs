//! What the controllers keep of a Pod. Several of them watch pods; they share one informer and
//! this one small value per pod.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use skiff_client::{ObjectKey, Project};
use skiff_proto::corev1::{Pod, PodCondition, PodSpec};

use crate::ownership::{Owned, Owner};

/// A pod's annotation that says how much it would hurt to delete it before its siblings.
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// A Pod as far as controllers care.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodView {
    /// Namespace and name.
    pub key: ObjectKey,
    /// Its uid.
    pub uid: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its controller.
    pub owner: Option<Owner>,
    /// The node it is bound to, or empty.
    pub node: String,
    /// When it was bound, in seconds; 0: it is not, or that is not known.
    pub bound: i64,
    /// `status.phase`.
    pub phase: Phase,
    /// When it was made, in seconds.
    pub created: i64,
    /// It is being deleted.
    pub deleting: bool,
    /// Since when it is ready, in seconds; `None`: it is not.
    pub ready_since: Option<i64>,
    /// Its address, or empty.
    pub ip: String,
    /// The ports of its containers that have a name.
    pub ports: Vec<NamedPort>,
    /// The most restarts of any of its containers.
    pub restarts: i32,
    /// Lower goes first when there are too many.
    pub deletion_cost: i32,
    /// `spec.hostname`.
    pub hostname: String,
    /// `spec.subdomain`.
    pub subdomain: String,
    /// Tolerations that concern NoExecute.
    pub tolerations: Vec<Toleration>,
}

/// `status.phase`, in the order in which pods are given up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Not all its containers have been started.
    #[default]
    Pending,
    /// Its node cannot be asked.
    Unknown,
    /// At least one container runs.
    Running,
    /// All containers ended well.
    Succeeded,
    /// All containers ended, at least one badly.
    Failed,
}

/// A container's port that has a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedPort {
    /// Its name.
    pub name: String,
    /// TCP, UDP or SCTP.
    pub protocol: String,
    /// The number.
    pub port: i32,
}

/// A toleration of NoExecute taints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Toleration {
    /// The taint's key; empty with `Exists` is every key.
    pub key: String,
    /// `Equal` (or empty) or `Exists`.
    pub operator: String,
    /// The taint's value, for `Equal`.
    pub value: String,
    /// For how long; `None` is forever.
    pub seconds: Option<i64>,
}

impl PodView {
    /// It runs, or will: not at its end, not being deleted.
    pub fn is_active(&self) -> bool {
        !self.is_finished() && !self.deleting
    }

    /// It ran to its end.
    pub fn is_finished(&self) -> bool {
        matches!(self.phase, Phase::Succeeded | Phase::Failed)
    }

    /// Its condition Ready is True.
    pub fn is_ready(&self) -> bool {
        self.ready_since.is_some()
    }

    /// For how many more seconds it has to stay ready to be available; `None`: it is not ready.
    pub fn available_in(&self, min_ready_seconds: i32, now: i64) -> Option<i64> {
        let since = self.ready_since?;
        Some((since + i64::from(min_ready_seconds) - now).max(0)).filter(|_| min_ready_seconds > 0).or(Some(0))
    }
}

/// Which of two pods goes first when there are too many: the one that is missed less.
/// `siblings` is how many pods of the same family are on a node.
pub fn deletion_order(a: &PodView, b: &PodView, siblings: &BTreeMap<String, usize>) -> Ordering {
    let on_its_node = |p: &PodView| siblings.get(&p.node).copied().unwrap_or(0);
    let unscheduled_first = a.node.is_empty().cmp(&b.node.is_empty()).reverse();
    let by_phase = a.phase.cmp(&b.phase);
    let unready_first = a.is_ready().cmp(&b.is_ready());
    let cheap_first = a.deletion_cost.cmp(&b.deletion_cost);
    let crowded_first = on_its_node(a).cmp(&on_its_node(b)).reverse();
    let ready_shorter_first = a.ready_since.cmp(&b.ready_since).reverse();
    let restarted_first = a.restarts.cmp(&b.restarts).reverse();
    let younger_first = a.created.cmp(&b.created).reverse();
    unscheduled_first
        .then(by_phase)
        .then(unready_first)
        .then(cheap_first)
        .then(crowded_first)
        .then(ready_shorter_first)
        .then(restarted_first)
        .then(younger_first)
        .then_with(|| a.key.cmp(&b.key))
}

impl Owned for PodView {
    fn key(&self) -> &ObjectKey {
        &self.key
    }
    fn labels(&self) -> &BTreeMap<String, String> {
        &self.labels
    }
    fn owner(&self) -> Option<&Owner> {
        self.owner.as_ref()
    }
    fn is_deleting(&self) -> bool {
        self.deleting
    }
}

/// Keeps a `PodView` of each Pod.
pub struct PodProjection;

impl Project<Pod> for PodProjection {
    type Out = PodView;

    fn project(pod: &Pod) -> PodView {
        let (meta, status) = (&pod.metadata, &pod.status);
        let condition = |kind: &str| status.conditions.iter().find(|c| c.r#type == kind && c.status == "True");
        let since = |c: &PodCondition| c.last_transition_time.as_ref().map_or(0, |t| t.unix());
        let phase = match status.phase.as_str() {
            "Running" => Phase::Running,
            "Succeeded" => Phase::Succeeded,
            "Failed" => Phase::Failed,
            "Unknown" => Phase::Unknown,
            _ => Phase::Pending,
        };
        PodView {
            key: ObjectKey::of(meta),
            uid: meta.uid.clone(),
            labels: meta.labels.clone(),
            owner: Owner::of(meta),
            node: pod.spec.node_name.clone(),
            bound: condition("PodScheduled").map_or(0, since),
            phase,
            created: meta.creation_timestamp.as_ref().map_or(0, |t| t.unix()),
            deleting: meta.deletion_timestamp.is_some(),
            ready_since: condition("Ready").map(since),
            ip: status.pod_ip.clone(),
            ports: ports(&pod.spec),
            restarts: status.container_statuses.iter().map(|c| c.restart_count).max().unwrap_or(0),
            deletion_cost: meta.annotations.get(DELETION_COST).and_then(|c| c.parse().ok()).unwrap_or(0),
            hostname: pod.spec.hostname.clone(),
            subdomain: pod.spec.subdomain.clone(),
            tolerations: tolerations(&pod.spec),
        }
    }
}

fn ports(spec: &PodSpec) -> Vec<NamedPort> {
    let sidecars = spec.init_containers.iter().filter(|c| c.restart_policy.as_deref() == Some("Always"));
    let ports = spec.containers.iter().chain(sidecars).flat_map(|c| &c.ports);
    ports
        .filter(|p| !p.name.is_empty())
        .map(|p| NamedPort { name: p.name.clone(), protocol: protocol(&p.protocol), port: p.container_port })
        .collect()
}

/// A protocol as written, TCP if left out.
pub fn protocol(written: &str) -> String {
    if written.is_empty() { "TCP".into() } else { written.into() }
}

fn tolerations(spec: &PodSpec) -> Vec<Toleration> {
    let relevant = spec.tolerations.iter().filter(|t| t.effect.is_empty() || t.effect == "NoExecute");
    relevant
        .map(|t| Toleration {
            key: t.key.clone(),
            operator: t.operator.clone(),
            value: t.value.clone(),
            seconds: t.toleration_seconds,
        })
        .collect()
}
