//! Between the kubelet's terms and Docker's: plain functions, no I/O but the removal of cgroups.
// Docker's client library takes and gives std's HashMap; nothing here iterates one.
#![allow(clippy::disallowed_types)]

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use bollard::container::LogOutput;
use bollard::models::{
    ContainerCreateBody, ContainerInspectResponse, ContainerStateStatusEnum, EventMessage, HostConfig,
    HostConfigCgroupnsModeEnum, HostConfigLogConfig, Mount, MountBindOptions, MountBindOptionsPropagationEnum,
    MountType,
};
use jiff::Timestamp;

use super::docker::DockerOptions;
use super::identity::LABEL_NODE;
use super::{
    CLUSTER_LABEL, ContainerConfig, ContainerReport, Exit, Identity, NamespaceMode, NetworkMode, Output, POD_UID_LABEL,
    RunState, RuntimeError, RuntimeEvent,
};

/// Stands for Docker's 304 in a [`RuntimeError::Refused`].
pub(super) const NOT_MODIFIED: &str = "not modified";

/// What wakes a Pod's worker.
const EVENTS: [&str; 4] = ["start", "die", "oom", "destroy"];

/// A log is kept to this, so that a chatty container does not fill the node's disk.
const LOG_OPTIONS: [(&str, &str); 2] = [("max-size", "10m"), ("max-file", "3")];

type Filters = HashMap<String, Vec<String>>;

/// The labels that our containers have.
pub(super) fn filters(options: &DockerOptions, pod_uid: Option<&str>) -> Filters {
    let mut labels = vec![format!("{CLUSTER_LABEL}={}", options.cluster), format!("{LABEL_NODE}={}", options.node)];
    labels.extend(pod_uid.map(|uid| format!("{POD_UID_LABEL}={uid}")));
    HashMap::from([("label".to_string(), labels)])
}

/// The events that mean something to us.
pub(super) fn event_filters(options: &DockerOptions) -> Filters {
    let mut filters = filters(options, None);
    filters.insert("type".to_string(), vec!["container".to_string()]);
    filters.insert("event".to_string(), EVENTS.map(String::from).to_vec());
    filters
}

pub(super) fn event(message: EventMessage) -> RuntimeEvent {
    let attributes = message.actor.and_then(|actor| actor.attributes).unwrap_or_default();
    RuntimeEvent {
        pod_uid: attributes.get(POD_UID_LABEL).cloned().unwrap_or_default(),
        action: message.action.unwrap_or_default(),
    }
}

pub(super) fn output(piece: LogOutput) -> Output {
    match piece {
        LogOutput::StdErr { message } => Output::Stderr(message),
        LogOutput::StdOut { message } | LogOutput::StdIn { message } | LogOutput::Console { message } => {
            Output::Stdout(message)
        }
    }
}

pub(super) fn error(operation: &str, error: bollard::errors::Error) -> RuntimeError {
    use bollard::errors::Error;
    let operation = operation.to_string();
    match error {
        Error::DockerResponseServerError { status_code: 304, .. } => {
            RuntimeError::Refused { operation, message: NOT_MODIFIED.to_string() }
        }
        Error::DockerResponseServerError { status_code: 404, message } => RuntimeError::NotFound { operation, message },
        Error::DockerResponseServerError { message, .. } => RuntimeError::Refused { operation, message },
        Error::DockerStreamError { error } => RuntimeError::Refused { operation, message: error },
        other => RuntimeError::Unreachable { operation, reason: with_sources(&other) },
    }
}

/// An error with what is behind it, in one line.
fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let words = source.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        next = source.source();
    }
    text
}

/// Docker's machine names in Kubernetes' (Go's) words.
pub(super) fn architecture(machine: &str) -> String {
    match machine {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
    .to_string()
}

/// "name" and "tag or digest" of an image reference; the tag defaults to latest, as everywhere.
pub(super) fn split_reference(reference: &str) -> (&str, &str) {
    if let Some((name, digest)) = reference.split_once('@') {
        return (name, digest);
    }
    // A colon before the last slash belongs to a registry's port.
    match reference.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, tag),
        _ => (reference, "latest"),
    }
}

/// What `docker create` is told.
pub(super) fn create_body(config: &ContainerConfig, cgroup_parent: &str) -> ContainerCreateBody {
    let some = |list: &[String]| (!list.is_empty()).then(|| list.to_vec());
    let text = |text: &str| (!text.is_empty()).then(|| text.to_string());
    ContainerCreateBody {
        hostname: text(&config.hostname),
        user: text(&config.user),
        tty: Some(config.tty),
        open_stdin: Some(config.stdin),
        stdin_once: Some(config.stdin_once),
        env: Some(config.env.iter().map(|(name, value)| format!("{name}={value}")).collect()),
        entrypoint: some(&config.command),
        cmd: some(&config.args),
        image: Some(config.image.clone()),
        working_dir: text(&config.working_dir),
        labels: Some(config.identity.labels().into_iter().collect()),
        // Kubernetes has probes of its own; an image's HEALTHCHECK would run beside them.
        healthcheck: Some(bollard::models::HealthConfig { test: Some(vec!["NONE".to_string()]), ..Default::default() }),
        host_config: Some(host_config(config, cgroup_parent)),
        ..Default::default()
    }
}

fn host_config(config: &ContainerConfig, cgroup_parent: &str) -> HostConfig {
    let some = |list: &[String]| (!list.is_empty()).then(|| list.to_vec());
    let number = |number: i64| (number != 0).then_some(number);
    let limits = &config.limits;
    HostConfig {
        network_mode: Some(match &config.network {
            NetworkMode::Host => "host".to_string(),
            NetworkMode::Container(id) => format!("container:{id}"),
        }),
        ipc_mode: namespace(&config.ipc, "private"),
        pid_mode: namespace(&config.pid, ""),
        mounts: Some(config.mounts.iter().map(mount).collect()),
        memory: number(limits.memory),
        // The same as memory: no swap beside it, as under Kubernetes.
        memory_swap: number(limits.memory),
        cpu_shares: number(limits.cpu_shares),
        cpu_quota: number(limits.cpu_quota),
        cpu_period: (limits.cpu_quota != 0).then_some(100_000),
        oom_score_adj: number(limits.oom_score_adj),
        cap_add: some(&config.capabilities_add),
        cap_drop: some(&config.capabilities_drop),
        group_add: some(&config.groups),
        readonly_rootfs: Some(config.read_only_root),
        privileged: Some(config.privileged),
        security_opt: config.no_new_privileges.then(|| vec!["no-new-privileges".to_string()]),
        cgroup_parent: (!cgroup_parent.is_empty()).then(|| cgroup_parent.to_string()),
        cgroupns_mode: Some(HostConfigCgroupnsModeEnum::PRIVATE).filter(|_| cgroup_v2()),
        log_config: Some(HostConfigLogConfig {
            typ: Some("json-file".to_string()),
            config: Some(LOG_OPTIONS.map(|(key, value)| (key.to_string(), value.to_string())).into()),
        }),
        ..Default::default()
    }
}

fn cgroup_v2() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

fn namespace(mode: &NamespaceMode, private: &str) -> Option<String> {
    let word = match mode {
        NamespaceMode::Private => private.to_string(),
        NamespaceMode::Shareable => "shareable".to_string(),
        NamespaceMode::Container(id) => format!("container:{id}"),
        NamespaceMode::Host => "host".to_string(),
    };
    (!word.is_empty()).then_some(word)
}

fn mount(bind: &super::BindMount) -> Mount {
    let propagation = match bind.propagation.as_str() {
        "rshared" => MountBindOptionsPropagationEnum::RSHARED,
        "rslave" => MountBindOptionsPropagationEnum::RSLAVE,
        _ => MountBindOptionsPropagationEnum::RPRIVATE,
    };
    Mount {
        typ: Some(MountType::BIND),
        source: Some(bind.source.clone()),
        target: Some(bind.target.clone()),
        read_only: Some(bind.read_only),
        bind_options: Some(MountBindOptions { propagation: Some(propagation), ..Default::default() }),
        ..Default::default()
    }
}

/// The id of a container that has our name; where it is not ours to have, the reason in words.
pub(super) fn adopt(found: ContainerInspectResponse, identity: &Identity) -> Result<String, String> {
    let name = identity.container_name();
    let id = found.id.clone().unwrap_or_default();
    if found.state.as_ref().is_some_and(|state| state.status == Some(ContainerStateStatusEnum::REMOVING)) {
        return Err(format!("an earlier container of the name {name} is still being removed"));
    }
    let same = report(found).is_some_and(|report| {
        report.identity.cluster == identity.cluster
            && report.identity.node == identity.node
            && report.identity.pod_uid == identity.pod_uid
            && report.identity.role == identity.role
    });
    if same {
        Ok(id)
    } else {
        Err(format!("the name {name} is taken by a container that is not of this cluster; remove it"))
    }
}

/// What Docker's inspection says, in our terms; None for containers that are not ours or are going away.
pub(super) fn report(found: ContainerInspectResponse) -> Option<ContainerReport> {
    let config = found.config?;
    let labels = config.labels.unwrap_or_default();
    let identity = Identity::from_labels(|key| labels.get(key).map(String::as_str))?;
    let state = run_state(found.state?, found.created.as_deref())?;
    Some(ContainerReport {
        id: found.id?,
        identity,
        image: config.image.unwrap_or_default(),
        image_id: found.image.unwrap_or_default(),
        stop_signal: config.stop_signal.filter(|signal| !signal.is_empty()).unwrap_or_else(|| "TERM".to_string()),
        state,
    })
}

fn run_state(state: bollard::models::ContainerState, created: Option<&str>) -> Option<RunState> {
    let started_at = time(state.started_at.as_deref());
    let made_at = time(created).unwrap_or(Timestamp::UNIX_EPOCH);
    let code = i32::try_from(state.exit_code.unwrap_or(0)).unwrap_or(i32::MAX);
    let start_error = state.error.filter(|words| !words.is_empty());
    match state.status? {
        ContainerStateStatusEnum::REMOVING => None,
        ContainerStateStatusEnum::RUNNING | ContainerStateStatusEnum::PAUSED | ContainerStateStatusEnum::STOPPING => {
            Some(RunState::Running {
                pid: u32::try_from(state.pid.unwrap_or(0)).unwrap_or(0),
                started_at: started_at.unwrap_or(made_at),
            })
        }
        // A failed start leaves it "created", with the error and a code like a shell's (126, 127, 128).
        ContainerStateStatusEnum::CREATED if start_error.is_none() => Some(RunState::Created),
        _ => Some(RunState::Exited(Exit {
            code,
            oom_killed: state.oom_killed.unwrap_or(false),
            start_error: start_error.filter(|_| started_at.is_none()),
            started_at,
            finished_at: time(state.finished_at.as_deref()).unwrap_or(made_at),
        })),
    }
}

/// Docker writes year 1 for "never".
fn time(text: Option<&str>) -> Option<Timestamp> {
    text.filter(|text| !text.starts_with("0001-")).and_then(|text| text.parse().ok())
}

/// Where the cgroups of a Pod go, in the notation of the engine's cgroup driver.
pub(super) fn cgroup_parent(options: &DockerOptions, pod_uid: &str, systemd: bool) -> String {
    if systemd {
        // systemd nests slices at dashes.
        let flat = |text: &str| text.replace('-', "_");
        return format!("skiff-{}-{}-pod{}.slice", flat(&options.cluster), flat(&options.node), flat(pod_uid));
    }
    format!("{}/{}/pod{pod_uid}", super::cgroup_parent(&options.cluster), options.node)
}

/// Removes a Pod's cgroup and those above it that are left empty, in every hierarchy.
pub(super) fn remove_cgroups(parent: &str) -> std::io::Result<()> {
    let root = Path::new("/sys/fs/cgroup");
    let mut hierarchies = vec![root.to_path_buf()];
    if !cgroup_v2() {
        hierarchies = std::fs::read_dir(root)?.filter_map(|entry| Some(entry.ok()?.path())).collect();
        hierarchies.sort();
    }
    for hierarchy in hierarchies {
        remove_cgroup(&hierarchy, parent)?;
    }
    Ok(())
}

fn remove_cgroup(hierarchy: &Path, parent: &str) -> std::io::Result<()> {
    let paths: Vec<PathBuf> = match parent.strip_prefix('/') {
        Some(path) => Path::new(path)
            .ancestors()
            .filter(|path| !path.as_os_str().is_empty())
            .map(|path| hierarchy.join(path))
            .collect(),
        None => slice_paths(hierarchy, parent),
    };
    for (depth, path) in paths.iter().enumerate() {
        match std::fs::remove_dir(path) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            // Others' Pods are in the levels above.
            Err(_) if depth > 0 => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// `a-b-c.slice` lives in `a.slice/a-b.slice/a-b-c.slice`; the deepest comes first.
fn slice_paths(hierarchy: &Path, slice: &str) -> Vec<PathBuf> {
    let stem = slice.trim_end_matches(".slice");
    let mut paths = Vec::new();
    let mut path = hierarchy.to_path_buf();
    for (at, _) in stem.match_indices('-').chain([(stem.len(), "")]) {
        path = path.join(format!("{}.slice", &stem[..at]));
        paths.push(path.clone());
    }
    paths.reverse();
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_split_at_the_tag() {
        for (reference, expected) in [
            ("nginx", ("nginx", "latest")),
            ("nginx:1.27", ("nginx", "1.27")),
            ("localhost:5000/team/app", ("localhost:5000/team/app", "latest")),
            ("localhost:5000/team/app:v2", ("localhost:5000/team/app", "v2")),
            ("app@sha256:00ff", ("app", "sha256:00ff")),
        ] {
            assert_eq!(split_reference(reference), expected, "{reference}");
        }
    }

    #[test]
    fn a_failed_start_is_an_exit_that_says_why() {
        let state = bollard::models::ContainerState {
            status: Some(ContainerStateStatusEnum::CREATED),
            exit_code: Some(127),
            error: Some("exec: \"nosuch\": executable file not found".to_string()),
            started_at: Some("0001-01-01T00:00:00Z".to_string()),
            finished_at: Some("0001-01-01T00:00:00Z".to_string()),
            ..Default::default()
        };
        let Some(RunState::Exited(exit)) = run_state(state, Some("2026-01-02T03:04:05.678901234Z")) else {
            panic!("not an exit");
        };
        assert_eq!(exit.code, 127);
        assert!(exit.start_error.is_some_and(|words| words.contains("nosuch")));
        assert_eq!(exit.started_at, None);
        assert_eq!(exit.finished_at.to_string(), "2026-01-02T03:04:05.678901234Z");
    }

    #[test]
    fn slices_nest_at_dashes() {
        let paths = slice_paths(Path::new("/c"), "skiff-a-b.slice");
        assert_eq!(
            paths,
            ["/c/skiff.slice/skiff-a.slice/skiff-a-b.slice", "/c/skiff.slice/skiff-a.slice", "/c/skiff.slice"]
                .map(PathBuf::from)
        );
    }
}
