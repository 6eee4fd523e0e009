//! The rights of people, and of the programs that they run: Kubernetes' roles `cluster-admin`, `admin`, `edit` and `view`,
//! with what they are made of. Roles name resources by string: what is not served here (yet) does no harm.

use super::rules::{ALL, GET, READ, Rule, on_paths, rule};

const WRITE: &[&str] = &["create", "delete", "deletecollection", "patch", "update"];
const CREATE: &[&str] = &["create"];

/// Everything.
pub const CLUSTER_ADMIN: &[Rule] = &[rule("*", ALL, ALL), on_paths(ALL, ALL)];

/// What `admin` has beyond `edit`: who may do what in the namespace.
pub const ADMIN: &[Rule] = &[
    rule("authorization.k8s.io", &["localsubjectaccessreviews"], CREATE),
    rule("rbac.authorization.k8s.io", &["roles", "rolebindings"], READ),
    rule("rbac.authorization.k8s.io", &["roles", "rolebindings"], WRITE),
];

/// What `edit` has beyond `view`: to change what runs, Secrets, and to be a ServiceAccount of the namespace.
pub const EDIT: &[Rule] = &[
    rule("", &["pods/attach", "pods/exec", "pods/portforward", "pods/proxy", "secrets", "services/proxy"], READ),
    rule("", &["pods/attach", "pods/exec", "pods/portforward", "pods/proxy"], WRITE),
    rule("", &["pods/eviction"], CREATE),
    rule("", &["serviceaccounts"], &["impersonate"]),
    rule("", &["serviceaccounts/token"], CREATE),
    rule("", &["pods", "replicationcontrollers", "replicationcontrollers/scale"], WRITE),
    rule("", &["configmaps", "endpoints", "events", "persistentvolumeclaims"], WRITE),
    rule("", &["secrets", "serviceaccounts", "services", "services/proxy"], WRITE),
    rule("apps", &["daemonsets", "deployments", "deployments/rollback", "deployments/scale"], WRITE),
    rule("apps", &["replicasets", "replicasets/scale", "statefulsets", "statefulsets/scale"], WRITE),
    rule("autoscaling", &["horizontalpodautoscalers"], WRITE),
    rule("batch", &["cronjobs", "jobs"], WRITE),
    rule("discovery.k8s.io", &["endpointslices"], WRITE),
    rule("networking.k8s.io", &["ingresses", "networkpolicies"], WRITE),
    rule("policy", &["poddisruptionbudgets"], WRITE),
    rule(
        "coordination.k8s.io",
        &["leases"],
        &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"],
    ),
];

/// What `view` has: to read what runs in a namespace. Not Secrets: they may hold somebody's rights; and not roles.
pub const VIEW: &[Rule] = &[
    rule("", &["configmaps", "endpoints", "persistentvolumeclaims", "persistentvolumeclaims/status"], READ),
    rule("", &["pods", "pods/log", "pods/status", "replicationcontrollers", "replicationcontrollers/scale"], READ),
    rule("", &["replicationcontrollers/status", "serviceaccounts", "services", "services/status"], READ),
    rule("", &["bindings", "events", "limitranges", "namespaces/status"], READ),
    rule("", &["resourcequotas", "resourcequotas/status", "namespaces"], READ),
    rule("apps", &["controllerrevisions", "daemonsets", "daemonsets/status"], READ),
    rule("apps", &["deployments", "deployments/scale", "deployments/status"], READ),
    rule("apps", &["replicasets", "replicasets/scale", "replicasets/status"], READ),
    rule("apps", &["statefulsets", "statefulsets/scale", "statefulsets/status"], READ),
    rule("autoscaling", &["horizontalpodautoscalers", "horizontalpodautoscalers/status"], READ),
    rule("batch", &["cronjobs", "cronjobs/status", "jobs", "jobs/status"], READ),
    rule("discovery.k8s.io", &["endpointslices"], READ),
    rule("networking.k8s.io", &["ingresses", "ingresses/status", "networkpolicies"], READ),
    rule("policy", &["poddisruptionbudgets", "poddisruptionbudgets/status"], READ),
];

/// What everybody who is somebody may ask: what is served here.
pub const DISCOVERY: &[Rule] = &[on_paths(
    &[
        "/api",
        "/api/*",
        "/apis",
        "/apis/*",
        "/healthz",
        "/livez",
        "/openapi",
        "/openapi/*",
        "/readyz",
        "/version",
        "/version/",
    ],
    GET,
)];

/// What anybody may ask.
pub const PUBLIC_INFO: &[Rule] = &[on_paths(&["/healthz", "/livez", "/readyz", "/version", "/version/"], GET)];

/// What everybody who is somebody may ask: who they are, and what they may do.
pub const BASIC_USER: &[Rule] = &[
    rule("authorization.k8s.io", &["selfsubjectaccessreviews", "selfsubjectrulesreviews"], CREATE),
    rule("authentication.k8s.io", &["selfsubjectreviews"], CREATE),
];

/// What a server that serves part of the API asks of this one: whose token, and may they.
pub const AUTH_DELEGATOR: &[Rule] = &[
    rule("authentication.k8s.io", &["tokenreviews"], CREATE),
    rule("authorization.k8s.io", &["subjectaccessreviews"], CREATE),
];

/// What a program with a token may ask: who signs such tokens, and by which keys.
pub const ISSUER_DISCOVERY: &[Rule] = &[on_paths(
    &["/.well-known/openid-configuration", "/.well-known/openid-configuration/", "/openid/v1/jwks", "/openid/v1/jwks/"],
    GET,
)];
