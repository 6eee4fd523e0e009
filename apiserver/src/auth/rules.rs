//! The rights of Skiff's own components: what each may do, and nothing else. Least privilege, by verb and resource.
//!
//! These tables become ClusterRoles, Roles and their bindings (`defaults`), which every start of the server makes and
//! mends. What is asked of each request is the objects, not the tables; only a node's rights are never bound to anybody,
//! and are narrowed to what its Pods need (`node`).

use skiff_proto::rbacv1::PolicyRule;

/// One permission: verbs on resources of a group, in RBAC's terms: `*` means all, with all subresources; `pods/status`
/// names a subresource; `pods` alone has none of them. A namespace narrows.
pub struct Rule {
    group: &'static str,
    resources: &'static [&'static str],
    verbs: &'static [&'static str],
    /// Paths that are no resource, instead of resources.
    paths: &'static [&'static str],
    /// Only here; else everywhere.
    pub namespace: Option<&'static str>,
}

/// Everything there is to do.
pub const ALL: &[&str] = &["*"];
/// To read.
pub const READ: &[&str] = &["get", "list", "watch"];
/// To read one by name.
pub const GET: &[&str] = &["get"];
/// To keep a status.
pub const STATUS: &[&str] = &["get", "patch", "update"];
/// To record Events.
pub const RECORD: &[&str] = &["create", "patch", "update"];
/// To hold a leader's Lease.
pub const LEAD: &[&str] = &["create", "get", "list", "watch", "update", "patch"];

/// Verbs on resources of a group.
pub const fn rule(group: &'static str, resources: &'static [&'static str], verbs: &'static [&'static str]) -> Rule {
    Rule { group, resources, verbs, paths: &[], namespace: None }
}

/// Verbs on paths that are no resource.
pub const fn on_paths(paths: &'static [&'static str], verbs: &'static [&'static str]) -> Rule {
    Rule { group: "", resources: &[], verbs, paths, namespace: None }
}

/// A rule in one namespace only.
pub const fn within(namespace: &'static str, rule: Rule) -> Rule {
    Rule { namespace: Some(namespace), ..rule }
}

/// Events go into any namespace, by either of their two names; a leader's Lease into kube-system.
const EVENTS: Rule = rule("", &["events"], RECORD);
const NEW_EVENTS: Rule = rule("events.k8s.io", &["events"], RECORD);
const LEADERSHIP: Rule = within("kube-system", rule("coordination.k8s.io", &["leases"], LEAD));

/// Who has a door of its own asks this server who comes to it and what they may do.
const ASK_WHO: Rule = rule("authentication.k8s.io", &["tokenreviews"], &["create"]);
const ASK_WHETHER: Rule = rule("authorization.k8s.io", &["subjectaccessreviews"], &["create"]);

/// The controllers.
pub const CONTROLLERS: &[Rule] = &[
    EVENTS,
    NEW_EVENTS,
    LEADERSHIP,
    ASK_WHO,
    ASK_WHETHER,
    // Garbage collection and the deletion of namespaces see, delete and unhold every kind there is, as in Kubernetes.
    // Those here delete one by one; Kubernetes' own empty a namespace with deletecollection, which gives no more.
    rule("*", &["*"], &["get", "list", "watch", "delete", "deletecollection", "patch"]),
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
    rule("", &["resourcequotas/status"], STATUS),
    // An aggregated role is the sum of others, whatever they give.
    rule("rbac.authorization.k8s.io", &["clusterroles"], &["update", "escalate"]),
];

/// The scheduler.
pub const SCHEDULER: &[Rule] = &[
    EVENTS,
    NEW_EVENTS,
    LEADERSHIP,
    ASK_WHO,
    ASK_WHETHER,
    rule("", &["pods", "nodes", "namespaces", "services"], READ),
    rule("apps", &["replicasets", "deployments"], READ),
    // Kubernetes' own, in this one's place, does not begin before it has seen them.
    rule("policy", &["poddisruptionbudgets"], READ),
    // Whom the API server trusts is written down there.
    within("kube-system", rule("", &["configmaps"], READ)),
    rule("", &["pods/binding"], &["create"]),
    rule("", &["pods/status"], STATUS),
    rule("", &["pods"], &["delete"]),
];

/// The proxies.
pub const PROXY: &[Rule] = &[
    EVENTS,
    NEW_EVENTS,
    rule("", &["services", "nodes", "endpoints", "namespaces"], READ),
    rule("discovery.k8s.io", &["endpointslices"], READ),
];

/// What a node may do at all; `node` and `admission::node_restriction` narrow it to its own.
pub const NODE: &[Rule] = &[
    EVENTS,
    rule("", &["pods", "nodes", "services"], READ),
    rule("discovery.k8s.io", &["endpointslices"], READ),
    rule("", &["configmaps", "secrets", "serviceaccounts"], READ),
    rule("", &["namespaces"], GET),
    rule("", &["nodes"], &["create", "update", "patch"]),
    rule("", &["nodes/status", "pods/status"], STATUS),
    rule("", &["pods"], &["delete"]),
    rule("", &["pods/eviction"], &["create"]),
    // Narrowed to its Pods where the token is made.
    rule("", &["serviceaccounts/token"], &["create"]),
    within(
        "kube-node-lease",
        rule("coordination.k8s.io", &["leases"], &["create", "get", "list", "watch", "update", "patch", "delete"]),
    ),
];

/// Measurements: those of nodes are a subresource, those of the control plane are paths.
pub const MONITOR: &[Rule] = &[
    rule("", &["nodes/metrics"], GET),
    on_paths(&["/metrics", "/metrics/*", "/healthz", "/healthz/*", "/livez", "/livez/*", "/readyz", "/readyz/*"], GET),
];

fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(|s| (*s).to_owned()).collect()
}

impl Rule {
    /// The rule as RBAC writes it, without the namespace.
    pub fn policy(&self) -> PolicyRule {
        let groups: &[&str] = if self.resources.is_empty() { &[] } else { &[self.group] };
        PolicyRule {
            verbs: strings(self.verbs),
            api_groups: strings(groups),
            resources: strings(self.resources),
            resource_names: Vec::new(),
            non_resource_urls: strings(self.paths),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::auth::rbac::Asked;
    use crate::auth::rbac::Index;
    use crate::auth::{MASTERS, MONITORING, NODES, PROXIES, decide};
    use skiff_world::Identity;

    fn may(user: &str, group: &str, verb: &'static str, what: &str, namespace: &str) -> bool {
        let identity = Identity::new(user, &[group]);
        let (api_group, rest) = what.rsplit_once(':').unwrap_or(("", what));
        let (resource, subresource) = rest.split_once('/').unwrap_or((rest, ""));
        let asked = Asked { verb, group: api_group, resource, subresource, namespace, name: "" };
        decide(&Index::of_defaults(), &identity, &asked).is_some()
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
            (scheduler, "", "list", "policy:poddisruptionbudgets", "", true),
            (scheduler, "", "create", "authentication.k8s.io:tokenreviews", "", true),
            (scheduler, "", "get", "configmaps", "kube-system", true),
            (scheduler, "", "get", "configmaps", "default", false),
            (scheduler, "", "create", "events.k8s.io:events", "default", true),
            (scheduler, "", "update", "coordination.k8s.io:leases", "kube-system", true),
            (scheduler, "", "update", "coordination.k8s.io:leases", "kube-node-lease", false),
            (controllers, "", "create", "apps:replicasets", "default", true),
            (controllers, "", "create", "pods/binding", "default", false),
            (controllers, "", "patch", "policy:poddisruptionbudgets/status", "default", true),
            (controllers, "", "patch", "resourcequotas/status", "default", true),
            (controllers, "", "delete", "example.com:widgets", "default", true),
            (controllers, "", "deletecollection", "example.com:widgets", "default", true),
            (controllers, "", "patch", "events.k8s.io:events", "default", true),
            (controllers, "", "create", "authorization.k8s.io:subjectaccessreviews", "", true),
            (controllers, "", "create", "secrets", "default", false),
            (controllers, "", "create", "pods/exec", "default", false),
            (controllers, "", "update", "rbac.authorization.k8s.io:clusterrolebindings", "", false),
            (controllers, "", "bind", "rbac.authorization.k8s.io:clusterroles", "", false),
            (node, NODES, "patch", "pods/status", "default", true),
            (node, NODES, "create", "pods", "default", false),
            (node, NODES, "create", "pods/binding", "default", false),
            (node, NODES, "create", "serviceaccounts/token", "default", true),
            (node, NODES, "create", "serviceaccounts", "default", false),
            (controllers, "", "create", "serviceaccounts/token", "default", false),
            ("system:serviceaccount:default:default", "system:serviceaccounts", "get", "pods", "default", false),
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
