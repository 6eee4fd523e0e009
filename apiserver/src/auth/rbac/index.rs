//! Roles and bindings, laid out for the question that every request asks: what do this user and these groups hold here?
//! Pure. A change of one object costs what that object says, whatever else there is.

use super::matching::{self, Asked};
use skiff_proto::rbacv1::{PolicyRule, RoleRef, Subject};
use skiff_world::Identity;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What namespace cluster-wide things stand under.
const CLUSTER: &str = "";

/// By namespace, then by name.
type Scoped<T> = BTreeMap<String, BTreeMap<String, T>>;
/// What one subject holds: by namespace, then by the binding's name; and the subject's place in the binding.
type Held = Scoped<(Arc<Binding>, usize)>;

/// Who gets which role, and where.
#[derive(Clone, Debug, PartialEq)]
pub struct Binding {
    /// Empty: a ClusterRoleBinding.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The role.
    pub role: RoleRef,
    /// Who gets it.
    pub subjects: Vec<Subject>,
}

impl Binding {
    /// The namespace that its role is looked up in.
    fn role_namespace(&self) -> &str {
        if self.role.kind == "ClusterRole" { CLUSTER } else { &self.namespace }
    }
}

/// A right that was found, and where it comes from.
#[derive(Clone, Debug)]
pub struct Bound {
    binding: Arc<Binding>,
    subject: usize,
}

impl std::fmt::Display for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Binding { namespace, name, role, subjects } = self.binding.as_ref();
        match namespace.as_str() {
            CLUSTER => write!(f, "RBAC: allowed by ClusterRoleBinding {name:?} of ")?,
            namespace => write!(f, "RBAC: allowed by RoleBinding \"{name}/{namespace}\" of ")?,
        }
        write!(f, "{} {:?}", role.kind, role.name)?;
        match subjects.get(self.subject) {
            Some(s) if s.kind == "ServiceAccount" => write!(f, " to ServiceAccount \"{}/{}\"", s.name, s.namespace),
            Some(s) => write!(f, " to {} {:?}", s.kind, s.name),
            None => Ok(()),
        }
    }
}

/// All roles and bindings.
#[derive(Debug, Default)]
pub struct Index {
    roles: Scoped<Arc<[PolicyRule]>>,
    bindings: Scoped<Arc<Binding>>,
    users: BTreeMap<String, Held>,
    groups: BTreeMap<String, Held>,
}

fn put<T>(into: &mut Scoped<T>, namespace: &str, name: &str, what: T) {
    into.entry(namespace.to_owned()).or_default().insert(name.to_owned(), what);
}

fn take<T>(from: &mut Scoped<T>, namespace: &str, name: &str) -> Option<T> {
    let inside = from.get_mut(namespace)?;
    let taken = inside.remove(name);
    if inside.is_empty() {
        from.remove(namespace);
    }
    taken
}

impl Index {
    /// A role is there, has changed or, without rules, is gone.
    pub fn set_role(&mut self, namespace: &str, name: &str, rules: Option<Vec<PolicyRule>>) {
        match rules {
            Some(rules) => put(&mut self.roles, namespace, name, rules.into()),
            None => drop(take(&mut self.roles, namespace, name)),
        }
    }

    /// A binding is there or has changed.
    pub fn set_binding(&mut self, binding: Binding) {
        self.drop_binding(&binding.namespace, &binding.name);
        let binding = Arc::new(binding);
        for (at, subject) in binding.subjects.iter().enumerate() {
            let Some((held, who)) = self.subject(subject) else { continue };
            let held = held.entry(who).or_default();
            put(held, &binding.namespace, &binding.name, (binding.clone(), at));
        }
        put(&mut self.bindings, &binding.namespace, &binding.name, binding.clone());
    }

    /// A binding is gone.
    pub fn drop_binding(&mut self, namespace: &str, name: &str) {
        let Some(binding) = take(&mut self.bindings, namespace, name) else { return };
        for subject in &binding.subjects {
            let Some((held, who)) = self.subject(subject) else { continue };
            let Some(of_one) = held.get_mut(&who) else { continue };
            take(of_one, namespace, name);
            if of_one.is_empty() {
                held.remove(&who);
            }
        }
    }

    /// All roles of a scope are forgotten: those of namespaces, or those of the cluster.
    pub fn forget_roles(&mut self, namespaced: bool) {
        self.roles.retain(|namespace, _| namespace.is_empty() == namespaced);
    }

    /// All bindings of a scope are forgotten.
    pub fn forget_bindings(&mut self, namespaced: bool) {
        let all = self.bindings.iter().filter(|(namespace, _)| namespace.is_empty() != namespaced);
        let all: Vec<_> = all.flat_map(|(ns, inside)| inside.keys().map(|name| (ns.clone(), name.clone()))).collect();
        for (namespace, name) in all {
            self.drop_binding(&namespace, &name);
        }
    }

    /// Where a subject's bindings stand, and under which name.
    fn subject(&mut self, subject: &Subject) -> Option<(&mut BTreeMap<String, Held>, String)> {
        let Subject { kind, name, namespace, .. } = subject;
        match kind.as_str() {
            "User" => Some((&mut self.users, name.clone())),
            "Group" => Some((&mut self.groups, name.clone())),
            "ServiceAccount" => Some((&mut self.users, format!("system:serviceaccount:{namespace}:{name}"))),
            _ => None,
        }
    }

    /// The rules of a role; `None` if there is no such role.
    pub fn role(&self, namespace: &str, name: &str) -> Option<&[PolicyRule]> {
        self.roles.get(namespace)?.get(name).map(|rules| &rules[..])
    }

    /// Every binding that gives an identity something in a namespace (`""`: cluster-wide only), with the role's rules.
    fn held<'a>(
        &'a self,
        identity: &'a Identity,
        namespace: &'a str,
    ) -> impl Iterator<Item = (&'a (Arc<Binding>, usize), &'a [PolicyRule])> {
        let groups = identity.groups.iter().filter_map(|group| self.groups.get(group));
        let subjects = self.users.get(&identity.user).into_iter().chain(groups);
        let bindings = subjects.flat_map(move |held| {
            let here = if namespace.is_empty() { None } else { held.get(namespace) };
            held.get(CLUSTER).into_iter().chain(here).flat_map(BTreeMap::values)
        });
        bindings.filter_map(|found| {
            let binding = &found.0;
            Some((found, self.role(binding.role_namespace(), &binding.role.name)?))
        })
    }

    fn find(&self, identity: &Identity, namespace: &str, allows: impl Fn(&PolicyRule) -> bool) -> Option<Bound> {
        let mut held = self.held(identity, namespace);
        let ((binding, subject), _) = held.find(|(_, rules)| rules.iter().any(&allows))?;
        Some(Bound { binding: binding.clone(), subject: *subject })
    }

    /// By what an identity may do something to a resource.
    pub fn allows(&self, identity: &Identity, asked: &Asked<'_>) -> Option<Bound> {
        self.find(identity, asked.namespace, |rule| matching::allows(rule, asked))
    }

    /// By what an identity may do something to a path that is no resource.
    pub fn allows_path(&self, identity: &Identity, verb: &str, path: &str) -> Option<Bound> {
        self.find(identity, CLUSTER, |rule| matching::allows_path(rule, verb, path))
    }

    /// Everything that an identity holds in a namespace.
    pub fn rules(&self, identity: &Identity, namespace: &str) -> Vec<PolicyRule> {
        self.held(identity, namespace).flat_map(|(_, rules)| rules.iter().cloned()).collect()
    }

    /// The bindings of an identity here whose role does not exist.
    pub fn dangling(&self, identity: &Identity, namespace: &str) -> Vec<String> {
        let subjects = self.users.get(&identity.user).into_iter();
        let subjects = subjects.chain(identity.groups.iter().filter_map(|group| self.groups.get(group)));
        let scopes = subjects.flat_map(|held| {
            let here = if namespace.is_empty() { None } else { held.get(namespace) };
            held.get(CLUSTER).into_iter().chain(here)
        });
        let dangling = scopes
            .flat_map(BTreeMap::values)
            .map(|(binding, _)| binding)
            .filter(|binding| self.role(binding.role_namespace(), &binding.role.name).is_none());
        let words = dangling.map(|binding| {
            format!("{}.rbac.authorization.k8s.io {:?} not found", binding.role.kind.to_lowercase(), binding.role.name)
        });
        words.collect()
    }
}
