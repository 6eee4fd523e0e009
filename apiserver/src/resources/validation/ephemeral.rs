//! Ephemeral containers: only added, each beside the containers that a Pod has, and without what would make a Pod wait
//! for it.

use super::{child, index, pod_spec};
use crate::resources::Errors;
use prost::Message;
use skiff_proto::corev1::{Container, EphemeralContainer, PodSpec};
use std::collections::BTreeSet;

/// What Kubernetes says of a field that such a container cannot have.
const NOT_FOR_THESE: &str = "cannot be set for an Ephemeral Container";

/// Checks the ephemeral containers of a Pod that had `old` before.
pub fn ephemeral_containers(spec: &PodSpec, old: &[EphemeralContainer], path: &str) -> Errors {
    let mut errors = Errors::new();
    let e = &mut errors;
    let all = &spec.ephemeral_containers;
    let field = child(path, "ephemeralContainers");
    for was in old {
        let name = name_of(was);
        match all.iter().find(|is| name_of(is) == name) {
            None => e.forbidden(&field, format!("existing ephemeral containers {name:?} may not be removed")),
            Some(is) if is != was => {
                e.forbidden(&field, format!("existing ephemeral containers {name:?} may not be changed"));
            }
            Some(_) => {}
        }
    }
    for (i, ephemeral) in all.iter().enumerate() {
        let path = index(path, "ephemeralContainers", i);
        one(spec, ephemeral, i, &path, e);
    }
    errors
}

fn name_of(ephemeral: &EphemeralContainer) -> &str {
    &ephemeral.ephemeral_container_common.name
}

fn one(spec: &PodSpec, ephemeral: &EphemeralContainer, place: usize, path: &str, e: &mut Errors) {
    let common = &ephemeral.ephemeral_container_common;
    let others = spec.ephemeral_containers.iter().take(place).any(|other| name_of(other) == common.name);
    let known = |name: &str| spec.containers.iter().chain(&spec.init_containers).any(|c| c.name == name);
    if common.name.is_empty() {
        e.required(child(path, "name"), "");
    } else if others || known(&common.name) {
        e.duplicate(child(path, "name"), &common.name);
    } else {
        for problem in super::names::dns1123_label(&common.name) {
            e.invalid(child(path, "name"), &common.name, problem);
        }
    }
    // Their fields have the numbers of a container's.
    if let Ok(container) = Container::decode(common.encode_to_vec().as_slice()) {
        let volumes: BTreeSet<&str> = spec.volumes.iter().map(|volume| volume.name.as_str()).collect();
        pod_spec::container(&container, &volumes, path, e);
    }
    let target = &ephemeral.target_container_name;
    if !target.is_empty() && !known(target) {
        e.not_found(child(path, "targetContainerName"), target);
    }
    let resources = &common.resources;
    for (set, field) in [
        (!common.ports.is_empty(), "ports"),
        (common.lifecycle.is_some(), "lifecycle"),
        (common.liveness_probe.is_some(), "livenessProbe"),
        (common.readiness_probe.is_some(), "readinessProbe"),
        (common.startup_probe.is_some(), "startupProbe"),
        (!resources.limits.is_empty() || !resources.requests.is_empty(), "resources"),
        (!common.resize_policy.is_empty(), "resizePolicy"),
        (common.restart_policy.is_some(), "restartPolicy"),
    ] {
        if set {
            e.forbidden(child(path, field), NOT_FOR_THESE);
        }
    }
    for (i, mount) in common.volume_mounts.iter().enumerate() {
        if !mount.sub_path.is_empty() {
            e.forbidden(child(&index(path, "volumeMounts", i), "subPath"), NOT_FOR_THESE);
        }
    }
}
