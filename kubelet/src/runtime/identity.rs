//! Who a container is: what its labels say, and so what a kubelet that was killed still knows of it.

use std::collections::BTreeMap;

/// What a container is to its Pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// pause, which keeps the Pod's namespaces
    Sandbox,
    /// an entry of spec.initContainers
    Init,
    /// an entry of spec.containers
    App,
    /// an entry of spec.ephemeralContainers
    Ephemeral,
}

impl Role {
    /// The word used in the container's label.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Sandbox => "sandbox",
            Role::Init => "init",
            Role::App => "app",
            Role::Ephemeral => "ephemeral",
        }
    }

    fn parse(text: &str) -> Option<Role> {
        [Role::Sandbox, Role::Init, Role::App, Role::Ephemeral].into_iter().find(|role| role.as_str() == text)
    }
}

/// Who a container is; carried in its labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// cluster name: two clusters may share an engine
    pub cluster: String,
    /// node name: several nodes may share an engine
    pub node: String,
    /// namespace of the Pod
    pub pod_namespace: String,
    /// name of the Pod
    pub pod_name: String,
    /// uid of the Pod
    pub pod_uid: String,
    /// what it is to the Pod
    pub role: Role,
    /// name of the container in the Pod's spec; "POD" for the sandbox
    pub container: String,
    /// 0 for the first of its name, counting up
    pub attempt: u32,
    /// id of the sandbox it joined; empty for sandboxes
    pub sandbox: String,
    /// fingerprint of the container's spec
    pub spec_hash: String,
    /// how long the next restart waits if this one fails, in seconds: crash-loop backoff survives a kubelet's restart
    pub backoff_seconds: u32,
    /// grace period of the Pod: an orphan is still stopped politely
    pub grace_seconds: u32,
    /// why it was started: reconcile id and the plan's reason
    pub cause: String,
}

const LABEL_POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
const LABEL_POD_NAME: &str = "io.kubernetes.pod.name";
/// The label with a Pod's uid, on each of its containers.
pub const POD_UID_LABEL: &str = "io.kubernetes.pod.uid";
const LABEL_CONTAINER: &str = "io.kubernetes.container.name";
/// The label with the cluster's name, on each container that a kubelet of it made.
pub const CLUSTER_LABEL: &str = "skiff.dev/cluster";
pub(super) const LABEL_NODE: &str = "skiff.dev/node";
const LABEL_ROLE: &str = "skiff.dev/role";
const LABEL_ATTEMPT: &str = "skiff.dev/attempt";
const LABEL_SANDBOX: &str = "skiff.dev/sandbox";
const LABEL_SPEC_HASH: &str = "skiff.dev/spec-hash";
const LABEL_BACKOFF: &str = "skiff.dev/backoff-seconds";
const LABEL_GRACE: &str = "skiff.dev/grace-seconds";
const LABEL_CAUSE: &str = "skiff.dev/cause";

/// The name under which sandboxes go; no container of a Pod can be called this (it is not a DNS label).
pub const SANDBOX_NAME: &str = "POD";

impl Identity {
    /// The same name for the same container, always: creating it twice finds the first.
    pub fn container_name(&self) -> String {
        format!("skiff.{}.{}.{}.{}.{}", self.cluster, self.node, self.pod_uid, self.container, self.attempt)
    }

    /// As labels.
    pub fn labels(&self) -> BTreeMap<String, String> {
        let mut labels = BTreeMap::new();
        let mut put = |key: &str, value: &str| labels.insert(key.to_string(), value.to_string());
        put(CLUSTER_LABEL, &self.cluster);
        put(LABEL_NODE, &self.node);
        put(LABEL_POD_NAMESPACE, &self.pod_namespace);
        put(LABEL_POD_NAME, &self.pod_name);
        put(POD_UID_LABEL, &self.pod_uid);
        put(LABEL_ROLE, self.role.as_str());
        put(LABEL_CONTAINER, &self.container);
        put(LABEL_ATTEMPT, &self.attempt.to_string());
        put(LABEL_SANDBOX, &self.sandbox);
        put(LABEL_SPEC_HASH, &self.spec_hash);
        put(LABEL_BACKOFF, &self.backoff_seconds.to_string());
        put(LABEL_GRACE, &self.grace_seconds.to_string());
        put(LABEL_CAUSE, &self.cause);
        labels
    }

    /// From labels; None where they are not ours.
    pub fn from_labels<'a>(get: impl Fn(&str) -> Option<&'a str>) -> Option<Identity> {
        let text = |key: &str| get(key).unwrap_or_default().to_string();
        let number = |key: &str| get(key).and_then(|value| value.parse().ok()).unwrap_or(0);
        Some(Identity {
            cluster: get(CLUSTER_LABEL)?.to_string(),
            node: get(LABEL_NODE)?.to_string(),
            pod_namespace: text(LABEL_POD_NAMESPACE),
            pod_name: text(LABEL_POD_NAME),
            pod_uid: text(POD_UID_LABEL),
            role: Role::parse(get(LABEL_ROLE)?)?,
            container: text(LABEL_CONTAINER),
            attempt: number(LABEL_ATTEMPT),
            sandbox: text(LABEL_SANDBOX),
            spec_hash: text(LABEL_SPEC_HASH),
            backoff_seconds: number(LABEL_BACKOFF),
            grace_seconds: number(LABEL_GRACE),
            cause: text(LABEL_CAUSE),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        Identity {
            cluster: "skiff".into(),
            node: "node-1".into(),
            pod_namespace: "default".into(),
            pod_name: "web".into(),
            pod_uid: "0f0e".into(),
            role: Role::App,
            container: "app".into(),
            attempt: 3,
            sandbox: "abc".into(),
            spec_hash: "12".into(),
            backoff_seconds: 40,
            grace_seconds: 30,
            cause: "why".into(),
        }
    }

    #[test]
    fn an_identity_survives_its_labels() {
        let labels = identity().labels();
        let back = Identity::from_labels(|key| labels.get(key).map(String::as_str));
        assert_eq!(back, Some(identity()));
    }

    #[test]
    fn foreign_labels_are_nobody() {
        assert_eq!(Identity::from_labels(|_| None), None);
        let mut labels = identity().labels();
        labels.insert(LABEL_ROLE.into(), "something".into());
        assert_eq!(Identity::from_labels(|key| labels.get(key).map(String::as_str)), None);
    }

    #[test]
    fn names_differ_by_attempt_and_role() {
        let first = identity();
        let second = Identity { attempt: 4, ..identity() };
        let sandbox = Identity { role: Role::Sandbox, container: SANDBOX_NAME.into(), ..identity() };
        assert_ne!(first.container_name(), second.container_name());
        assert_ne!(first.container_name(), sandbox.container_name());
        assert_eq!(first.container_name(), "skiff.skiff.node-1.0f0e.app.3");
    }
}
