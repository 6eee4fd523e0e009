//! The allow table: what each component may do, and nothing else. Least privilege, by verb and resource.

use super::{MONITORING, NODES, PROXIES};
use skiff_world::Identity;

/// One question.
pub struct Asked<'a> {
    /// `get`, `list`, ...
    pub verb: &'a str,
    /// The API group.
    pub group: &'a str,
    /// The plural.
    pub resource: &'a str,
    /// The subresource, or empty.
    pub subresource: &'a str,
    /// The namespace, or empty.
    pub namespace: &'a str,
    /// The name, or empty.
    pub name: &'a str,
}

/// One permission: verbs on resources of a group. `*` means all; `pods/status` names a subresource; a namespace narrows.
struct Rule {
    group: &'static str,
    resources: &'static [&'static str],
    verbs: &'static [&'static str],
    namespace: Option<&'static str>,
}

const READ: &[&str] = &["get", "list", "watch"];
const GET: &[&str] = &["get"];
const STATUS: &[&str] = &["get", "patch", "update"];
const RECORD: &[&str] = &["create", "patch", "update"];
const LEAD: &[&str] = &["create", "get", "list", "watch", "update", "patch"];

const fn rule(group: &'static str, resources: &'static [&'static str], verbs: &'static [&'static str]) -> Rule {
    Rule { group, resources, verbs, namespace: None }
}

const fn within(namespace: &'static str, rule: Rule) -> Rule {
    Rule { namespace: Some(namespace), ..rule }
}

/// Events go into any namespace; a leader's Lease into kube-system.
const EVENTS: Rule = rule("", &["events"], RECORD);
const LEADERSHIP: Rule = within("kube-system", rule("coordination.k8s.io", &["leases"], LEAD));

const CONTROLLERS: &[Rule] = &[
    EVENTS,
    LEADERSHIP,
    // Garbage collection and the deletion of namespaces see, delete and unhold every kind there is.
    rule("*", &["*"], &["get", "list", "watch", "delete", "patch"]),
    rule("", &["pods"], &["create", "update"]),
    rule("", &["pods/status", "nodes/status", "services/status", "namespaces/status"], STATUS),
    rule("", &["pods/eviction"], &["create"]),
    rule("", &["nodes"], &["update"]),
    rule("", &["namespaces/finalize"], &["update"]),
    rule("", &["endpoints", "serviceaccounts", "configmaps"], &["create", "update"]),
    rule("apps", &["deployments", "replicasets"], &["create", "update"]),
    rule("apps", &["deployments/status", "replicasets/status"], STATUS),
    rule("apps", &["deployments/scale", "replicasets/scale"], STATUS),
    rule("discovery.k8s.io", &["endpointslices"], &["create", "update"]),
    rule("policy", &["poddisruptionbudgets/status"], STATUS),
];

const SCHEDULER: &[Rule] = &[
    EVENTS,
    LEADERSHIP,
    rule("", &["pods", "nodes", "namespaces", "services"], READ),
    rule("apps", &["replicasets", "deployments"], READ),
    rule("", &["pods/binding"], &["create"]),
    rule("", &["pods/status"], STATUS),
    rule("", &["pods"], &["delete"]),
];

const PROXY: &[Rule] = &[
    EVENTS,
    rule("", &["services", "nodes", "endpoints", "namespaces"], READ),
    rule("discovery.k8s.io", &["endpointslices"], READ),
];

/// What a node may do at all; `node` and `admission::node_restriction` narrow it to its own.
const NODE: &[Rule] = &[
    EVENTS,
    rule("", &["pods", "nodes", "services"], READ),
    rule("discovery.k8s.io", &["endpointslices"], READ),
    rule("", &["configmaps", "secrets", "serviceaccounts"], READ),
    rule("", &["namespaces"], GET),
    rule("", &["nodes"], &["create", "update", "patch"]),
    rule("", &["nodes/status", "pods/status"], STATUS),
    rule("", &["pods"], &["delete"]),
    rule("", &["pods/eviction"], &["create"]),
    within(
        "kube-node-lease",
        rule("coordination.k8s.io", &["leases"], &["create", "get", "list", "watch", "update", "patch", "delete"]),
    ),
];

/// Measurements of nodes; those of the control plane are paths, not resources (`super::may_read_metrics`).
const MONITOR: &[Rule] = &[rule("", &["nodes/metrics"], GET)];

fn rules_of(identity: &Identity) -> impl Iterator<Item = &'static Rule> {
    let user: &[Rule] = match identity.user.as_str() {
        "system:kube-controller-manager" => CONTROLLERS,
        "system:kube-scheduler" => SCHEDULER,
        _ => &[],
    };
    let group = |name: &str| identity.groups.iter().any(|g| g == name);
    let node: &[Rule] = if group(NODES) && identity.user.starts_with("system:node:") { NODE } else { &[] };
    let proxy: &[Rule] = if group(PROXIES) { PROXY } else { &[] };
    let monitor: &[Rule] = if group(MONITORING) { MONITOR } else { &[] };
    user.iter().chain(node).chain(proxy).chain(monitor)
}

/// A permission as it is shown: verbs, group, resources.
pub type Listed = (&'static [&'static str], &'static str, &'static [&'static str]);

/// What an identity may do in a namespace.
pub fn listed(identity: &Identity, namespace: &str) -> Vec<Listed> {
    const ALL: &[&str] = &["*"];
    if super::is_admin(identity) {
        return vec![(ALL, "*", ALL)];
    }
    let here = |rule: &&Rule| rule.namespace.is_none_or(|only| only == namespace);
    rules_of(identity).filter(here).map(|rule| (rule.verbs, rule.group, rule.resources)).collect()
}

/// Whether an identity may do it.
pub fn allows(identity: &Identity, asked: &Asked<'_>) -> bool {
    if super::is_admin(identity) {
        return true;
    }
    rules_of(identity).any(|rule| rule.allows(asked))
}

impl Rule {
    fn allows(&self, asked: &Asked<'_>) -> bool {
        let any = |list: &[&str], what: &str| list.iter().any(|entry| *entry == "*" || *entry == what);
        let resource = if asked.subresource.is_empty() {
            any(self.resources, asked.resource)
        } else {
            // A star stands for resources, not for what can be done to them besides.
            let full = format!("{}/{}", asked.resource, asked.subresource);
            self.resources.iter().any(|entry| *entry == full)
        };
        let namespace = self.namespace.is_none_or(|namespace| namespace == asked.namespace);
        resource && namespace && (self.group == "*" || self.group == asked.group) && any(self.verbs, asked.verb)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::MASTERS;

    fn may(user: &str, group: &str, verb: &'static str, what: &str, namespace: &str) -> bool {
        let identity = Identity::new(user, &[group]);
        let (api_group, rest) = what.rsplit_once(':').unwrap_or(("", what));
        let (resource, subresource) = rest.split_once('/').unwrap_or((rest, ""));
        allows(&identity, &Asked { verb, group: api_group, resource, subresource, namespace, name: "" })
    }

    #[test]
    fn each_component_may_do_its_own_work_and_no_more() {
        let scheduler = "system:kube-scheduler";
        let controllers = "system:kube-controller-manager";
        let node = "system:node:a";
        for (user, group, verb, what, namespace, allowed) in [
            ("kubernetes-admin", MASTERS, "delete", "secrets", "default", true),
            ("someone", "", "get", "pods", "default", false),
            (scheduler, "", "create", "pods/binding", "default", true),
            (scheduler, "", "create", "pods", "default", false),
            (scheduler, "", "get", "secrets", "default", false),
            (scheduler, "", "update", "coordination.k8s.io:leases", "kube-system", true),
            (scheduler, "", "update", "coordination.k8s.io:leases", "kube-node-lease", false),
            (controllers, "", "create", "apps:replicasets", "default", true),
            (controllers, "", "create", "pods/binding", "default", false),
            (controllers, "", "patch", "policy:poddisruptionbudgets/status", "default", true),
            (controllers, "", "delete", "example.com:widgets", "default", true),
            (controllers, "", "create", "secrets", "default", false),
            (node, NODES, "patch", "pods/status", "default", true),
            (node, NODES, "create", "pods", "default", false),
            (node, NODES, "create", "pods/binding", "default", false),
            (node, NODES, "patch", "apps:deployments", "default", false),
            (node, "", "get", "pods", "default", false),
            ("monitor", MONITORING, "get", "nodes/metrics", "", true),
            ("monitor", MONITORING, "get", "nodes/proxy", "", false),
            ("monitor", MONITORING, "list", "nodes", "", false),
            ("monitor", "", "get", "nodes/metrics", "", false),
            ("system:kube-proxy:a", PROXIES, "watch", "services", "", true),
            ("system:kube-proxy:a", PROXIES, "get", "secrets", "default", false),
            ("system:kube-proxy:a", PROXIES, "patch", "services", "default", false),
        ] {
            assert_eq!(may(user, group, verb, what, namespace), allowed, "{user} {verb} {what} in {namespace:?}");
        }
    }
}
