//! A small API in memory, for tests of plans: it applies what Deployments and ReplicaSets plan, and
//! plays kubelet. No clock but its own, and nothing happens unless a test says so.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use skiff_client::ObjectKey;
use skiff_proto::appsv1::{Deployment, DeploymentStrategy, ReplicaSet, RollingUpdateDeployment};
use skiff_proto::corev1::Container;
use skiff_proto::metav1::LabelSelector;
use skiff_proto::{IntOrString, Time};

use crate::deployment::plan as deployment;
use crate::ownership::{Owner, selects};
use crate::pods::{Phase, PodView};
use crate::replicaset::plan as replicaset;

/// The namespace of everything.
pub const NAMESPACE: &str = "default";

/// Deployments, ReplicaSets and pods, and what has been done to them.
#[derive(Clone, Default)]
pub struct Model {
    pub deployments: BTreeMap<String, Deployment>,
    pub sets: BTreeMap<String, ReplicaSet>,
    pub pods: BTreeMap<String, PodView>,
    /// What was done, as plans print it.
    pub log: Vec<String>,
    /// Why no pod can be created, if none can.
    pub quota: Option<String>,
    /// Why no ReplicaSet can be created, if none can.
    pub refused: Option<String>,
    /// Why the last one of a Deployment could not be.
    refusals: BTreeMap<String, String>,
    failures: BTreeMap<String, replicaset::Failure>,
    pub now: i64,
    made: u64,
}

impl Model {
    /// Nothing, at some time.
    pub fn new() -> Model {
        Model { now: 1_000_000, ..Model::default() }
    }

    /// Applies a Deployment: makes it, or replaces its spec.
    pub fn apply(&mut self, mut deployment: Deployment) {
        let meta = &mut deployment.metadata;
        match self.deployments.get(&meta.name) {
            Some(old) => {
                *meta = old.metadata.clone();
                meta.generation += 1;
                deployment.status = old.status.clone();
            }
            None => {
                self.made += 1;
                meta.uid = format!("uid-{}", meta.name);
                meta.generation = 1;
                meta.creation_timestamp = Some(Time::from_unix(self.now));
            }
        }
        self.deployments.insert(deployment.metadata.name.clone(), deployment);
    }

    /// Changes a Deployment's spec.
    pub fn change(&mut self, name: &str, change: impl FnOnce(&mut Deployment)) {
        let mut deployment = self.deployments[name].clone();
        change(&mut deployment);
        self.apply(deployment);
    }

    /// The plan of one Deployment.
    pub fn plan_deployment(&self, name: &str) -> skiff_client::Plan<deployment::Action> {
        let deployment = &self.deployments[name];
        let ours = |s: &ReplicaSet| Owner::of(&s.metadata).is_none_or(|o| o.uid == deployment.metadata.uid);
        let (own, others): (Vec<_>, Vec<_>) = self.sets.values().partition(|s| ours(s));
        let wanted = crate::deployment::revisions::set_name(deployment);
        let pods = |uid: &str| {
            let pods = self.pods.values().filter(|p| p.owner.as_ref().is_some_and(|o| o.uid == uid));
            pods.filter(|p| !p.is_finished()).count()
        };
        deployment::plan(
            &deployment::Observed {
                deployment: Arc::new(deployment.clone()),
                pods: own.iter().map(|s| (s.metadata.uid.clone(), pods(&s.metadata.uid))).collect(),
                replica_sets: own.into_iter().map(|s| Arc::new(s.clone())).collect(),
                taken: others.iter().map(|s| s.metadata.name.clone()).find(|n| *n == wanted),
                failure: self.refusals.get(name).cloned(),
            },
            self.timestamp(),
        )
    }

    /// One look of one Deployment: plans, and does it. Says whether there was anything to do.
    pub fn reconcile_deployment(&mut self, name: &str) -> bool {
        let plan = self.plan_deployment(name);
        for step in &plan.steps {
            self.note(&step.action);
            if let (deployment::Action::Create(_), Some(why)) = (&step.action, &self.refused) {
                self.refusals.insert(name.into(), why.clone());
                break;
            }
            self.act_deployment(name, &step.action);
        }
        !plan.steps.is_empty()
    }

    fn act_deployment(&mut self, name: &str, action: &deployment::Action) {
        use deployment::Action;
        if matches!(action, Action::Create(_)) {
            self.refusals.remove(name);
        }
        let deployment = self.deployments.get_mut(name).expect("it was planned for");
        match action {
            Action::Adopt(set) => {
                let owner = crate::ownership::controller_reference("apps/v1", "Deployment", &deployment.metadata);
                self.set(&set.name).metadata.owner_references.push(owner);
            }
            Action::Release(set) => self.set(&set.name).metadata.owner_references.clear(),
            Action::Create(set) => {
                self.made += 1;
                let mut set = (**set).clone();
                assert!(!self.sets.contains_key(&set.metadata.name), "{} exists", set.metadata.name);
                set.metadata.uid = format!("uid-{}-{}", set.metadata.name, self.made);
                set.metadata.generation = 1;
                // A second apart, so that old and new can be told.
                self.now += 1;
                set.metadata.creation_timestamp = Some(Time::from_unix(self.now));
                self.sets.insert(set.metadata.name.clone(), set);
            }
            Action::Change(change) => {
                let set = self.set(&change.set.name);
                if let Some((from, to)) = change.replicas {
                    assert_eq!(set.spec.replicas, Some(from), "planned from something old");
                    set.spec.replicas = Some(to);
                    set.metadata.generation += 1;
                }
                set.metadata.annotations.extend(change.annotations.clone());
                set.spec.min_ready_seconds = change.min_ready_seconds.unwrap_or(set.spec.min_ready_seconds);
            }
            Action::SetRevision(revision) => {
                let key = crate::deployment::revisions::REVISION.to_string();
                deployment.metadata.annotations.insert(key, revision.to_string());
            }
            Action::Delete(set) => {
                self.sets.remove(&set.name);
            }
            Action::WriteStatus(status) => deployment.status = (**status).clone(),
        }
    }

    /// The plan of one ReplicaSet.
    pub fn plan_set(&self, name: &str) -> skiff_client::Plan<replicaset::Action> {
        let set = &self.sets[name];
        let active = self.pods.values().filter(|p| p.is_active() && !p.node.is_empty());
        let mut siblings = BTreeMap::new();
        active.for_each(|p| *siblings.entry(p.node.clone()).or_default() += 1);
        replicaset::plan(
            &replicaset::Observed {
                replica_set: Arc::new(set.clone()),
                pods: self.pods.values().map(|p| Arc::new(p.clone())).collect(),
                siblings,
                failure: self.failures.get(name).cloned(),
            },
            self.timestamp(),
        )
    }

    /// One look of one ReplicaSet.
    pub fn reconcile_set(&mut self, name: &str) -> bool {
        let plan = self.plan_set(name);
        for step in &plan.steps {
            self.note(&step.action);
            if !self.act_set(name, &step.action) {
                break;
            }
        }
        !plan.steps.is_empty()
    }

    fn act_set(&mut self, name: &str, action: &replicaset::Action) -> bool {
        use replicaset::Action;
        let set = self.sets[name].clone();
        let owner = Owner { kind: "ReplicaSet".into(), name: name.into(), uid: set.metadata.uid.clone() };
        match action {
            Action::Adopt(pod) => self.pod(&pod.key.name).owner = Some(owner),
            Action::Release(pod) => self.pod(&pod.key.name).owner = None,
            Action::Create(count) => {
                if let Some(quota) = &self.quota {
                    let failure = replicaset::Failure { reason: "FailedCreate".into(), message: quota.clone() };
                    self.failures.insert(name.into(), failure);
                    return false;
                }
                self.failures.remove(name);
                for _ in 0..*count {
                    self.made += 1;
                    let pod = PodView {
                        key: ObjectKey::new(NAMESPACE, format!("{name}-{:03}", self.made)),
                        uid: format!("uid-{}", self.made),
                        labels: set.spec.template.metadata.labels.clone(),
                        owner: Some(owner.clone()),
                        created: self.now,
                        ..PodView::default()
                    };
                    self.pods.insert(pod.key.name.clone(), pod);
                }
            }
            Action::Delete(pods) => {
                for pod in pods {
                    // One that no kubelet has seen goes at once.
                    let there = self.pod(&pod.key.name);
                    assert!(!there.deleting, "{} is deleted twice", pod.key.name);
                    there.deleting = true;
                    if there.node.is_empty() {
                        self.pods.remove(&pod.key.name);
                    }
                }
            }
            Action::WriteStatus(status) => self.set(name).status = (**status).clone(),
        }
        true
    }

    /// A kubelet: pods that wait get a node and run, at most `how_many`; those that `fails` says so don't get ready.
    pub fn run_pods(&mut self, how_many: usize, fails: impl Fn(&PodView) -> bool) {
        let now = self.now;
        let waiting = self.pods.values_mut().filter(|p| !p.deleting && !p.is_finished() && !p.is_ready() && !fails(p));
        for (i, pod) in waiting.take(how_many).enumerate() {
            pod.node = format!("node-{}", i % 3);
            pod.phase = Phase::Running;
            pod.ready_since = Some(now);
        }
    }

    /// A kubelet: pods that are being deleted stop, unless their node is lost.
    pub fn stop_pods(&mut self, lost: &str) {
        self.pods.retain(|_, p| !p.deleting || (!lost.is_empty() && p.node == lost));
    }

    /// Everything works: looks and kubelets until nothing changes any more.
    pub fn settle(&mut self) {
        for _ in 0..500 {
            let mut busy = self.reconcile_all();
            let before = self.pods.clone();
            self.run_pods(usize::MAX, |_| false);
            self.stop_pods("");
            busy |= self.pods != before;
            if !busy {
                return;
            }
        }
        panic!("it does not come to rest:\n{}", self.log.join("\n"));
    }

    /// One look of everybody.
    pub fn reconcile_all(&mut self) -> bool {
        let mut busy = false;
        for name in self.deployments.keys().cloned().collect::<Vec<_>>() {
            busy |= self.reconcile_deployment(&name);
        }
        for name in self.sets.keys().cloned().collect::<Vec<_>>() {
            busy |= self.sets.contains_key(&name) && self.reconcile_set(&name);
        }
        busy
    }

    /// What was done since the last call, without status writes and with ReplicaSets by the image of their template.
    pub fn story(&mut self) -> Vec<String> {
        let mut story = std::mem::take(&mut self.log);
        story.retain(|line| !line.starts_with("write status"));
        for line in &mut story {
            for (name, set) in &self.sets {
                *line = line.replace(name, &format!("[{}]", image(set)));
            }
        }
        story
    }

    /// The ReplicaSets by the image of their template: `size/ready`.
    pub fn shape(&self) -> String {
        let mut sets: Vec<_> = self.sets.values().collect();
        sets.sort_by_key(|s| s.metadata.creation_timestamp.map(|t| t.unix()));
        let ready = |s: &ReplicaSet| self.pods_of(s).filter(|p| p.is_active() && p.is_ready()).count();
        let one = |s: &ReplicaSet| format!("{} {}/{}", image(s), ready(s), s.spec.replicas.unwrap_or(1));
        sets.into_iter().map(one).collect::<Vec<_>>().join(", ")
    }

    /// Pods that a ReplicaSet owns.
    pub fn pods_of<'a>(&'a self, set: &'a ReplicaSet) -> impl Iterator<Item = &'a PodView> {
        self.pods.values().filter(|p| p.owner.as_ref().is_some_and(|o| o.uid == set.metadata.uid))
    }

    /// Pods that users can reach: active and ready, and selected by the Deployment.
    pub fn serving(&self, deployment: &Deployment) -> usize {
        let selector = deployment.spec.selector.as_deref();
        self.pods.values().filter(|p| p.is_active() && p.is_ready() && selects(selector, &p.labels)).count()
    }

    /// A condition of a Deployment: `status reason`.
    pub fn condition(&self, name: &str, kind: &str) -> String {
        let found = self.deployments[name].status.conditions.iter().find(|c| c.r#type == kind);
        found.map_or("none".into(), |c| format!("{} {}", c.status, c.reason))
    }

    fn note(&mut self, action: &impl std::fmt::Display) {
        self.log.push(action.to_string());
    }

    fn set(&mut self, name: &str) -> &mut ReplicaSet {
        self.sets.get_mut(name).expect("it was planned for")
    }

    pub fn pod(&mut self, name: &str) -> &mut PodView {
        self.pods.get_mut(name).expect("it was planned for")
    }

    fn timestamp(&self) -> Timestamp {
        Timestamp::from_second(self.now).expect("a time in the model is a sane one")
    }
}

/// The image that a ReplicaSet runs.
pub fn image(set: &ReplicaSet) -> &str {
    set.spec.template.spec.containers.first().map_or("", |c| &c.image)
}

/// A Deployment `web` of so many pods of an image.
pub fn web(replicas: i32, image: &str) -> Deployment {
    let labels: BTreeMap<String, String> = [("app".to_string(), "web".to_string())].into();
    let mut deployment = Deployment::default();
    deployment.metadata.name = "web".into();
    deployment.metadata.namespace = NAMESPACE.into();
    let spec = &mut deployment.spec;
    spec.replicas = Some(replicas);
    spec.selector = Some(Box::new(LabelSelector { match_labels: labels.clone(), ..LabelSelector::default() }));
    spec.template.metadata.labels = labels;
    spec.progress_deadline_seconds = Some(600);
    spec.revision_history_limit = Some(10);
    deployment.spec.template.spec.containers = vec![Container::default()];
    set_image(&mut deployment, image);
    strategy(&mut deployment, "25%", "25%");
    deployment
}

/// Changes the image.
pub fn set_image(deployment: &mut Deployment, image: &str) {
    deployment.spec.template.spec.containers[0].image = image.into();
}

/// RollingUpdate with these bounds.
pub fn strategy(deployment: &mut Deployment, surge: &str, unavailable: &str) {
    let bound = |text: &str| match text.parse::<i32>() {
        Ok(number) => Some(IntOrString::from(number)),
        Err(_) => Some(IntOrString::from(text)),
    };
    let rolling = RollingUpdateDeployment { max_surge: bound(surge), max_unavailable: bound(unavailable) };
    deployment.spec.strategy =
        DeploymentStrategy { r#type: "RollingUpdate".into(), rolling_update: Some(Box::new(rolling)) };
}
