//! The roles and bindings that every cluster has, as objects, and what is to be done about those that are there already.
//! Pure; `bootstrap` does it at each start.
//!
//! What is missing is added: a role, a rule of it, a subject of a binding. What somebody has added stays. Who wants a
//! default role left alone says so with the annotation `rbac.authorization.kubernetes.io/autoupdate: "false"`.

use super::people;
use super::rbac::{GROUP, missing};
use super::rules::{CONTROLLERS, MONITOR, NODE, PROXY, Rule, SCHEDULER};
use super::{AUTHENTICATED, MASTERS, MONITORING, PROXIES, UNAUTHENTICATED};
use skiff_proto::metav1::{LabelSelector, ObjectMeta};
use skiff_proto::rbacv1::{
    AggregationRule, ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject,
};
use std::collections::BTreeMap;

/// The annotation that lets the server mend an object.
const AUTOUPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";
/// The label of everything here.
const BOOTSTRAPPING: (&str, &str) = ("kubernetes.io/bootstrapping", "rbac-defaults");

enum Who {
    User(&'static str),
    Group(&'static str),
}
use Who::{Group, User};

/// One set of rights, and who has it from the start.
struct Given {
    role: &'static str,
    rules: &'static [Rule],
    subjects: &'static [Who],
    /// `admin`, `edit`, `view`: this role is part of that one.
    part_of: Option<&'static str>,
    /// The role is the sum of others: those with `aggregate-to-` this.
    sum: bool,
}

const fn given(role: &'static str, rules: &'static [Rule], subjects: &'static [Who]) -> Given {
    Given { role, rules, subjects, part_of: None, sum: false }
}

const fn part(role: &'static str, rules: &'static [Rule], of: &'static str) -> Given {
    Given { part_of: Some(of), ..given(role, rules, &[]) }
}

const fn sum(role: &'static str, part_of: Option<&'static str>) -> Given {
    Given { part_of, sum: true, ..given(role, &[], &[]) }
}

/// All of them. A component with rights of its own has its line here and its table in `rules`.
const DEFAULTS: &[Given] = &[
    given("cluster-admin", people::CLUSTER_ADMIN, &[Group(MASTERS)]),
    sum("admin", None),
    sum("edit", Some("admin")),
    sum("view", Some("edit")),
    part("system:aggregate-to-admin", people::ADMIN, "admin"),
    part("system:aggregate-to-edit", people::EDIT, "edit"),
    part("system:aggregate-to-view", people::VIEW, "view"),
    given("system:discovery", people::DISCOVERY, &[Group(AUTHENTICATED)]),
    given("system:public-info-viewer", people::PUBLIC_INFO, &[Group(AUTHENTICATED), Group(UNAUTHENTICATED)]),
    given("system:basic-user", people::BASIC_USER, &[Group(AUTHENTICATED)]),
    given("system:service-account-issuer-discovery", people::ISSUER_DISCOVERY, &[Group("system:serviceaccounts")]),
    given("system:auth-delegator", people::AUTH_DELEGATOR, &[]),
    given("system:monitoring", MONITOR, &[Group(MONITORING)]),
    given("system:kube-controller-manager", CONTROLLERS, &[User("system:kube-controller-manager")]),
    given("system:kube-scheduler", SCHEDULER, &[User("system:kube-scheduler")]),
    given("system:node-proxier", PROXY, &[Group(PROXIES), User("system:kube-proxy")]),
    // Nobody has it: the node authorizer gives it to each node, narrowed.
    given("system:node", NODE, &[]),
];

/// Objects of the four kinds.
#[derive(Debug, Default)]
pub struct Objects {
    /// ClusterRoles.
    pub cluster_roles: Vec<ClusterRole>,
    /// Their bindings.
    pub cluster_role_bindings: Vec<ClusterRoleBinding>,
    /// Roles: the rights of components that end at a namespace.
    pub roles: Vec<Role>,
    /// Their bindings.
    pub role_bindings: Vec<RoleBinding>,
}

/// The objects that every cluster has.
pub fn objects() -> Objects {
    let mut all = Objects::default();
    DEFAULTS.iter().for_each(|given| given.add_to(&mut all));
    all
}

impl Given {
    fn add_to(&self, all: &mut Objects) {
        let name = self.role;
        let policies = |namespace: Option<&str>| -> Vec<PolicyRule> {
            self.rules.iter().filter(|rule| rule.namespace == namespace).map(Rule::policy).collect()
        };
        let mut metadata = meta("", name);
        metadata.labels.extend(self.part_of.map(|role| (aggregate_to(role), "true".to_owned())));
        let aggregation_rule = self.sum.then(|| AggregationRule {
            cluster_role_selectors: vec![LabelSelector {
                match_labels: [(aggregate_to(name), "true".to_owned())].into(),
                ..Default::default()
            }],
        });
        all.cluster_roles.push(ClusterRole {
            metadata,
            rules: policies(None),
            aggregation_rule: aggregation_rule.map(Box::new),
        });
        let subjects: Vec<Subject> = self.subjects.iter().map(Who::subject).collect();
        if subjects.is_empty() {
            return;
        }
        let role_ref = |kind: &str| RoleRef { api_group: GROUP.into(), kind: kind.into(), name: name.into() };
        all.cluster_role_bindings.push(ClusterRoleBinding {
            metadata: meta("", name),
            subjects: subjects.clone(),
            role_ref: role_ref("ClusterRole"),
        });
        let namespaces: BTreeMap<&str, ()> = self.rules.iter().filter_map(|r| Some((r.namespace?, ()))).collect();
        for namespace in namespaces.into_keys() {
            all.roles.push(Role { metadata: meta(namespace, name), rules: policies(Some(namespace)) });
            all.role_bindings.push(RoleBinding {
                metadata: meta(namespace, name),
                subjects: subjects.clone(),
                role_ref: role_ref("Role"),
            });
        }
    }
}

impl Who {
    fn subject(&self) -> Subject {
        let (kind, name) = match self {
            User(name) => ("User", name),
            Group(name) => ("Group", name),
        };
        Subject { kind: kind.into(), api_group: GROUP.into(), name: (*name).into(), namespace: String::new() }
    }
}

fn aggregate_to(role: &str) -> String {
    format!("rbac.authorization.k8s.io/aggregate-to-{role}")
}

fn meta(namespace: &str, name: &str) -> ObjectMeta {
    ObjectMeta {
        namespace: namespace.into(),
        name: name.into(),
        labels: [(BOOTSTRAPPING.0.to_owned(), BOOTSTRAPPING.1.to_owned())].into(),
        annotations: [(AUTOUPDATE.to_owned(), "true".to_owned())].into(),
        ..Default::default()
    }
}

/// What is to be done about a default object.
#[derive(Debug, PartialEq)]
pub enum Mend<T> {
    /// Nothing.
    Leave,
    /// It is missing.
    Create(T),
    /// Something of it is missing.
    Update(T),
    /// It gives another role, which cannot be changed: it goes, and is made anew.
    Replace(T),
}

/// A kind that has defaults.
pub trait Mendable: skiff_proto::Kind + PartialEq {
    /// Adds to `self` what `wanted` has and it has not. `false`: it has to be made anew.
    fn add(&mut self, wanted: &Self) -> bool;
}

fn add_rules(rules: &mut Vec<PolicyRule>, wanted: &[PolicyRule]) {
    let lacking: Vec<PolicyRule> = wanted.iter().flat_map(|rule| missing(rules, rule)).collect();
    rules.extend(lacking);
}

fn add_subjects(subjects: &mut Vec<Subject>, wanted: &[Subject]) {
    let lacking: Vec<Subject> = wanted.iter().filter(|subject| !subjects.contains(subject)).cloned().collect();
    subjects.extend(lacking);
}

impl Mendable for Role {
    fn add(&mut self, wanted: &Self) -> bool {
        add_rules(&mut self.rules, &wanted.rules);
        true
    }
}

impl Mendable for ClusterRole {
    fn add(&mut self, wanted: &Self) -> bool {
        // What a role is the sum of is a controller's to write.
        match (&mut self.aggregation_rule, &wanted.aggregation_rule) {
            (Some(rule), Some(wanted)) => {
                for selector in &wanted.cluster_role_selectors {
                    if !rule.cluster_role_selectors.contains(selector) {
                        rule.cluster_role_selectors.push(selector.clone());
                    }
                }
            }
            (rule @ None, Some(wanted)) => *rule = Some(wanted.clone()),
            _ => add_rules(&mut self.rules, &wanted.rules),
        }
        true
    }
}

impl Mendable for RoleBinding {
    fn add(&mut self, wanted: &Self) -> bool {
        add_subjects(&mut self.subjects, &wanted.subjects);
        self.role_ref == wanted.role_ref
    }
}

impl Mendable for ClusterRoleBinding {
    fn add(&mut self, wanted: &Self) -> bool {
        add_subjects(&mut self.subjects, &wanted.subjects);
        self.role_ref == wanted.role_ref
    }
}

/// What is to be done so that `found` has all that `wanted` has.
pub fn mend<K: Mendable>(found: Option<&K>, wanted: &K) -> Mend<K> {
    let Some(found) = found else { return Mend::Create(wanted.clone()) };
    if found.metadata().annotations.get(AUTOUPDATE).is_some_and(|says| says == "false") {
        return Mend::Leave;
    }
    let mut mended = found.clone();
    if !mended.add(wanted) {
        return Mend::Replace(wanted.clone());
    }
    let meta = mended.metadata_mut();
    for (key, value) in &wanted.metadata().labels {
        meta.labels.entry(key.clone()).or_insert_with(|| value.clone());
    }
    for (key, value) in &wanted.metadata().annotations {
        meta.annotations.entry(key.clone()).or_insert_with(|| value.clone());
    }
    if mended == *found { Mend::Leave } else { Mend::Update(mended) }
}
