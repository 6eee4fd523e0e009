//! A Deployment with its ReplicaSets told apart: the one of the current template, and the old ones.

use skiff_proto::appsv1::{Deployment, ReplicaSet};
use skiff_proto::corev1::PodTemplateSpec;

use super::revisions;

/// A Deployment and its ReplicaSets.
pub struct Rollout<'a> {
    /// The Deployment.
    pub deployment: &'a Deployment,
    /// The ReplicaSet of the current template.
    pub new: Option<&'a ReplicaSet>,
    /// All others, oldest first.
    pub old: Vec<&'a ReplicaSet>,
    /// How many pods there may be beyond those wanted.
    pub max_surge: i32,
    /// How many of those wanted may be missing.
    pub max_unavailable: i32,
}

impl<'a> Rollout<'a> {
    /// Tells them apart. If two have the current template (a race can do that), the older one is the new one.
    pub fn of(deployment: &'a Deployment, mut sets: Vec<&'a ReplicaSet>) -> Rollout<'a> {
        let created = |s: &ReplicaSet| s.metadata.creation_timestamp.as_ref().map_or(0, |t| t.unix());
        sets.sort_by(|a, b| created(a).cmp(&created(b)).then_with(|| a.metadata.name.cmp(&b.metadata.name)));
        let at = sets.iter().position(|s| same_template(&deployment.spec.template, &s.spec.template));
        let new = at.map(|at| sets.remove(at));
        let (max_surge, max_unavailable) = bounds(deployment);
        Rollout { deployment, new, old: sets, max_surge, max_unavailable }
    }

    /// All of them, the new one last.
    pub fn all(&self) -> impl Iterator<Item = &'a ReplicaSet> + '_ {
        self.old.iter().copied().chain(self.new)
    }

    /// How many pods the Deployment shall have.
    pub fn wanted(&self) -> i32 {
        self.deployment.spec.replicas.unwrap_or(1)
    }

    /// How many there may be at most while it rolls.
    pub fn most(&self) -> i32 {
        match self.wanted() {
            0 => 0,
            wanted => wanted.saturating_add(self.max_surge),
        }
    }

    /// How many have to be available at least.
    pub fn least(&self) -> i32 {
        self.wanted() - self.max_unavailable.min(self.wanted())
    }

    /// Strategy Recreate.
    pub fn recreates(&self) -> bool {
        self.deployment.spec.strategy.r#type == "Recreate"
    }

    /// How many pods a ReplicaSet shall have.
    pub fn size(set: &ReplicaSet) -> i32 {
        set.spec.replicas.unwrap_or(1)
    }

    /// How many of the pods that a ReplicaSet shall have are available. What its status says may
    /// be from before it was made smaller: those that are on their way out don't count.
    pub fn available(set: &ReplicaSet) -> i32 {
        set.status.available_replicas.min(Self::size(set))
    }

    /// Sum of the sizes.
    pub fn total(&self) -> i32 {
        self.all().map(Self::size).sum()
    }

    /// Nothing is left to do: all pods are of the current template, and available.
    pub fn is_complete(&self) -> bool {
        let wanted = self.wanted();
        self.new.is_some_and(|new| {
            Self::size(new) == wanted && new.status.replicas == wanted && new.status.available_replicas == wanted
        }) && self.old.iter().all(|s| Self::size(s) == 0 && s.status.replicas == 0)
    }
}

/// Whether both templates are the same, but for the label that carries the hash.
pub fn same_template(a: &PodTemplateSpec, b: &PodTemplateSpec) -> bool {
    let labels = |t: &PodTemplateSpec| {
        let mut labels = t.metadata.labels.clone();
        labels.remove(revisions::HASH_LABEL);
        labels
    };
    a.spec == b.spec && a.metadata.annotations == b.metadata.annotations && labels(a) == labels(b)
}

/// maxSurge (rounded up) and maxUnavailable (rounded down); not both can be zero, or nothing would ever move.
fn bounds(deployment: &Deployment) -> (i32, i32) {
    let strategy = &deployment.spec.strategy;
    if strategy.r#type == "Recreate" {
        return (0, 0);
    }
    let wanted = deployment.spec.replicas.unwrap_or(1);
    let quarter = skiff_proto::IntOrString::from("25%");
    let rolling = strategy.rolling_update.as_deref();
    let scaled = |value: Option<&skiff_proto::IntOrString>, up: bool| {
        value.unwrap_or(&quarter).scaled(wanted, up).unwrap_or(0).max(0)
    };
    let surge = scaled(rolling.and_then(|r| r.max_surge.as_ref()), true);
    let unavailable = scaled(rolling.and_then(|r| r.max_unavailable.as_ref()), false);
    match (surge, unavailable) {
        (0, 0) => (0, 1),
        (surge, unavailable) => (surge, unavailable.min(wanted)),
    }
}
