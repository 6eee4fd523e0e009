//! From a container's spec to what the runtime is asked to make. Pure.

use std::collections::BTreeMap;

use skiff_proto::corev1::{Container, Pod};

use crate::environment::expand;
use crate::runtime::{BindMount, ContainerConfig, Identity, Limits, NamespaceMode, NetworkMode};
use crate::status::qos_class;

/// What the kernel gives at least, in microseconds of each 100 ms.
const MIN_QUOTA: i64 = 1000;
const MIN_SHARES: i64 = 2;

/// Why a container cannot be made from its spec.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// runAsNonRoot, and it would.
    #[error("container has runAsNonRoot and image will run as root; set runAsUser to a user other than 0")]
    WouldRunAsRoot,
    /// runAsNonRoot, and nobody knows who "app" is before it runs.
    #[error(
        "container has runAsNonRoot and image has non-numeric user ({0}), cannot verify that it is not root; set runAsUser"
    )]
    UnknownUser(String),
}

/// What a container is made from, beside its spec.
pub struct Parts<'a> {
    /// whose
    pub pod: &'a Pod,
    /// which
    pub container: &'a Container,
    /// for its labels
    pub identity: Identity,
    /// resolved
    pub environment: Vec<(String, String)>,
    /// resolved
    pub mounts: Vec<BindMount>,
    /// the user of its image
    pub image_user: &'a str,
    /// the node's memory, for who goes first when it runs out
    pub node_memory: i64,
    /// the container whose processes it sees
    pub looks_into: Option<String>,
}

/// The container as the runtime makes it.
pub fn container_config(parts: Parts<'_>) -> Result<ContainerConfig, ConfigError> {
    let Parts { pod, container, identity, environment, mounts, image_user, node_memory, looks_into } = parts;
    let variables: BTreeMap<String, String> = environment.iter().cloned().collect();
    let expanded = |list: &[String]| list.iter().map(|text| expand(text, &variables)).collect::<Vec<String>>();
    let security = container.security_context.as_deref();
    let sandbox = identity.sandbox.clone();
    let capabilities = security.and_then(|context| context.capabilities.as_deref());
    // Docker takes both spellings in some versions and only the short one in others.
    let short = |list: &[String]| {
        list.iter().map(|name| name.strip_prefix("CAP_").unwrap_or(name).to_string()).collect::<Vec<String>>()
    };
    Ok(ContainerConfig {
        command: expanded(&container.command),
        args: expanded(&container.args),
        working_dir: container.working_dir.clone(),
        user: user(pod, container, image_user)?,
        groups: groups(pod),
        network: NetworkMode::Container(sandbox.clone()),
        ipc: if pod.spec.host_ipc { NamespaceMode::Host } else { NamespaceMode::Container(sandbox.clone()) },
        pid: match (pod.spec.host_pid, pod.spec.share_process_namespace, looks_into) {
            (true, ..) => NamespaceMode::Host,
            (false, Some(true), _) => NamespaceMode::Container(sandbox),
            (false, _, Some(target)) => NamespaceMode::Container(target),
            _ => NamespaceMode::Private,
        },
        limits: limits(pod, container, node_memory),
        capabilities_add: capabilities.map(|c| short(&c.add)).unwrap_or_default(),
        capabilities_drop: capabilities.map(|c| short(&c.drop)).unwrap_or_default(),
        read_only_root: security.and_then(|context| context.read_only_root_filesystem).unwrap_or(false),
        no_new_privileges: security.and_then(|context| context.allow_privilege_escalation) == Some(false),
        privileged: security.and_then(|context| context.privileged).unwrap_or(false),
        tty: container.tty,
        stdin: container.stdin,
        stdin_once: container.stdin_once,
        env: environment,
        mounts,
        ..ContainerConfig::new(identity, &container.image)
    })
}

fn user(pod: &Pod, container: &Container, image_user: &str) -> Result<String, ConfigError> {
    let own = container.security_context.as_deref();
    let pods = pod.spec.security_context.as_deref();
    let user = own.and_then(|c| c.run_as_user).or_else(|| pods.and_then(|p| p.run_as_user));
    let group = own.and_then(|c| c.run_as_group).or_else(|| pods.and_then(|p| p.run_as_group));
    let non_root = own.and_then(|c| c.run_as_non_root).or_else(|| pods.and_then(|p| p.run_as_non_root)) == Some(true);
    if non_root {
        let image_name = image_user.split(':').next().unwrap_or_default();
        match (user, image_name) {
            (Some(0), _) | (None, "" | "0" | "root") => return Err(ConfigError::WouldRunAsRoot),
            (None, name) if name.parse::<u32>().is_err() => {
                return Err(ConfigError::UnknownUser(name.to_string()));
            }
            _ => {}
        }
    }
    Ok(match (user, group) {
        (Some(user), Some(group)) => format!("{user}:{group}"),
        (Some(user), None) => user.to_string(),
        (None, Some(group)) => {
            let name = image_user.split(':').next().filter(|name| !name.is_empty()).unwrap_or("0");
            format!("{name}:{group}")
        }
        (None, None) => String::new(),
    })
}

fn groups(pod: &Pod) -> Vec<String> {
    let security = pod.spec.security_context.as_deref();
    let groups = security.into_iter().flat_map(|context| context.supplemental_groups.iter().chain(&context.fs_group));
    groups.map(i64::to_string).collect()
}

fn limits(pod: &Pod, container: &Container, node_memory: i64) -> Limits {
    let resources = &container.resources;
    let milli = |q: &skiff_proto::Quantity| i64::try_from(q.milli()).unwrap_or(i64::MAX);
    let cpu_limit = resources.limits.get("cpu").map(milli);
    let cpu_request = resources.requests.get("cpu").map(milli).or(cpu_limit).unwrap_or(0);
    let memory_request = resources.requests.get("memory").or_else(|| resources.limits.get("memory"));
    Limits {
        memory: resources.limits.get("memory").map_or(0, |quantity| quantity.value()),
        cpu_shares: (cpu_request.saturating_mul(1024) / 1000).max(MIN_SHARES),
        cpu_quota: cpu_limit.filter(|milli| *milli > 0).map_or(0, |milli| milli.saturating_mul(100).max(MIN_QUOTA)),
        oom_score_adj: oom_score_adj(pod, memory_request.map_or(0, |quantity| quantity.value()), node_memory),
    }
}

/// Who goes first when memory runs out: those that asked for none, then those that use more than they asked for.
/// Kubernetes protects guaranteed Pods with negative numbers; those take CAP_SYS_RESOURCE, which an engine inside a
/// container or VM may lack, and then nothing would start: 0 protects them against all others as well.
fn oom_score_adj(pod: &Pod, memory_request: i64, node_memory: i64) -> i64 {
    match qos_class(pod) {
        "Guaranteed" => 0,
        "BestEffort" => 1000,
        _ if node_memory <= 0 => 999,
        _ => {
            let share = i128::from(memory_request) * 1000 / i128::from(node_memory);
            (1000 - i64::try_from(share).unwrap_or(1000)).clamp(3, 999)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::Role;
    use skiff_proto::Quantity;
    use skiff_proto::corev1::{Capabilities, PodSecurityContext, SecurityContext};

    fn identity() -> Identity {
        Identity {
            cluster: "c".into(),
            node: "n".into(),
            pod_namespace: "default".into(),
            pod_name: "web".into(),
            pod_uid: "u".into(),
            role: Role::App,
            container: "app".into(),
            attempt: 0,
            sandbox: "pause".into(),
            spec_hash: String::new(),
            backoff_seconds: 0,
            grace_seconds: 30,
            cause: String::new(),
        }
    }

    fn make(pod: &Pod, container: &Container, image_user: &str) -> Result<ContainerConfig, ConfigError> {
        container_config(Parts {
            pod,
            container,
            identity: identity(),
            environment: vec![("PORT".into(), "8080".into())],
            mounts: Vec::new(),
            image_user,
            node_memory: 1000 << 20,
            looks_into: None,
        })
    }

    #[test]
    fn who_looks_into_another_sees_its_processes() {
        let config = |pod: &Pod| {
            let container = &Container::default();
            let looks_into = Some("app-1".to_string());
            let (environment, mounts) = (Vec::new(), Vec::new());
            let parts = Parts {
                pod,
                container,
                identity: identity(),
                environment,
                mounts,
                image_user: "",
                node_memory: 1,
                looks_into,
            };
            container_config(parts).expect("config").pid
        };
        let mut pod = Pod::default();
        assert_eq!(config(&pod), NamespaceMode::Container("app-1".into()));
        pod.spec.share_process_namespace = Some(true);
        assert_eq!(config(&pod), NamespaceMode::Container("pause".into()), "all see all");
        pod.spec.host_pid = true;
        assert_eq!(config(&pod), NamespaceMode::Host);
    }

    fn quantity(text: &str) -> Quantity {
        Quantity::parse(text).expect("a quantity")
    }

    #[test]
    fn commands_are_expanded_and_namespaces_joined() {
        let container = Container { args: vec!["--port=$(PORT)".into(), "$(NOT)".into()], ..Container::default() };
        let config = make(&Pod::default(), &container, "").expect("config");
        assert_eq!(config.args, ["--port=8080", "$(NOT)"]);
        assert_eq!(config.network, NetworkMode::Container("pause".into()));
        assert_eq!(config.ipc, NamespaceMode::Container("pause".into()));
        assert_eq!(config.pid, NamespaceMode::Private);
    }

    #[test]
    fn limits_in_the_kernels_terms() {
        let mut container = Container::default();
        container.resources.limits.insert("cpu".into(), quantity("500m"));
        container.resources.limits.insert("memory".into(), quantity("64Mi"));
        container.resources.requests.insert("cpu".into(), quantity("250m"));
        let pod = Pod {
            spec: skiff_proto::corev1::PodSpec { containers: vec![container.clone()], ..Default::default() },
            ..Pod::default()
        };
        let limits = make(&pod, &container, "").expect("config").limits;
        assert_eq!((limits.cpu_quota, limits.cpu_shares, limits.memory), (50_000, 256, 64 << 20));
        assert_eq!(limits.oom_score_adj, 1000 - 64);
        let nothing = make(&Pod::default(), &Container::default(), "").expect("config").limits;
        assert_eq!((nothing.cpu_quota, nothing.cpu_shares, nothing.memory, nothing.oom_score_adj), (0, 2, 0, 1000));
    }

    #[test]
    fn users_and_run_as_non_root() {
        let security = |user, group, non_root| SecurityContext {
            run_as_user: user,
            run_as_group: group,
            run_as_non_root: non_root,
            ..Default::default()
        };
        for (user, group, non_root, image, expected) in [
            (None, None, None, "", Ok("")),
            (Some(5), None, None, "", Ok("5")),
            (Some(5), Some(6), None, "", Ok("5:6")),
            (None, Some(6), None, "7", Ok("7:6")),
            (None, None, Some(true), "7", Ok("")),
            (None, None, Some(true), "", Err(ConfigError::WouldRunAsRoot)),
            (Some(0), None, Some(true), "7", Err(ConfigError::WouldRunAsRoot)),
            (None, None, Some(true), "app", Err(ConfigError::UnknownUser("app".into()))),
            (Some(5), None, Some(true), "app", Ok("5")),
        ] {
            let security_context = Some(Box::new(security(user, group, non_root)));
            let container = Container { security_context, ..Container::default() };
            let got = make(&Pod::default(), &container, image).map(|config| config.user);
            assert_eq!(got, expected.map(String::from), "{user:?} {group:?} {non_root:?} {image}");
        }
        let mut pod = Pod::default();
        pod.spec.security_context =
            Some(Box::new(PodSecurityContext { run_as_user: Some(9), fs_group: Some(3), ..Default::default() }));
        let config = make(&pod, &Container::default(), "").expect("config");
        assert_eq!((config.user.as_str(), config.groups), ("9", vec!["3".to_string()]));
    }

    #[test]
    fn capabilities_without_their_prefix() {
        let capabilities = Capabilities { add: vec!["CAP_NET_ADMIN".into()], drop: vec!["ALL".into()] };
        let security = SecurityContext {
            capabilities: Some(Box::new(capabilities)),
            allow_privilege_escalation: Some(false),
            ..Default::default()
        };
        let container = Container { security_context: Some(Box::new(security)), ..Container::default() };
        let config = make(&Pod::default(), &container, "").expect("config");
        assert_eq!(config.capabilities_add, ["NET_ADMIN"]);
        assert_eq!(config.capabilities_drop, ["ALL"]);
        assert!(config.no_new_privileges);
    }
}
