//! Containers that are added to a Pod while it runs, to look into it. Each is started once, beside the others, and
//! nothing waits for it: neither the Pod's phase nor its readiness speak of it.

use prost::Message;
use skiff_proto::corev1::{Container, EphemeralContainer, Pod};

/// As a container like any other: their fields have the same numbers.
pub fn as_container(ephemeral: &EphemeralContainer) -> Container {
    let bytes = ephemeral.ephemeral_container_common.encode_to_vec();
    let mut container = Container::decode(bytes.as_slice()).unwrap_or_default();
    // What could start it again, or tell of its health, is not for it.
    container.restart_policy = None;
    (container.liveness_probe, container.readiness_probe, container.startup_probe) = (None, None, None);
    container.lifecycle = None;
    container
}

/// All of a Pod's.
pub fn all(pod: &Pod) -> impl Iterator<Item = Container> + '_ {
    pod.spec.ephemeral_containers.iter().map(as_container)
}

/// The container whose processes it is to see; empty: none but its own.
pub fn target<'a>(pod: &'a Pod, name: &str) -> &'a str {
    let named = |e: &&EphemeralContainer| e.ephemeral_container_common.name == name;
    pod.spec.ephemeral_containers.iter().find(named).map_or("", |e| e.target_container_name.as_str())
}
