//! Pod: almost nothing of its spec may change once it is made.

use crate::cache::FieldKind;
use crate::resources::field_error::Errors;
use crate::resources::strategy::{KindStrategy, SelectableFields};
use crate::resources::validation::{self, child, index};
use crate::resources::{pod_defaults, warnings};
use skiff_proto::corev1::{Pod, PodSpec, ResourceRequirements};

pub struct PodStrategy;

/// How the kernel is to treat a Pod when memory runs short, from its requests and limits.
fn qos_class(spec: &PodSpec) -> &'static str {
    let all = || spec.containers.iter().chain(&spec.init_containers).map(|c| &c.resources);
    let asks = |r: &ResourceRequirements| {
        ["cpu", "memory"].iter().any(|n| {
            let positive = |q: Option<&skiff_proto::Quantity>| q.is_some_and(|q| q.milli() > 0);
            positive(r.requests.get(*n)) || positive(r.limits.get(*n))
        })
    };
    let guaranteed = |r: &ResourceRequirements| {
        ["cpu", "memory"].iter().all(|n| {
            r.limits
                .get(*n)
                .is_some_and(|limit| limit.milli() > 0 && r.requests.get(*n).is_none_or(|request| request == limit))
        })
    };
    if !all().any(asks) {
        "BestEffort"
    } else if all().all(guaranteed) {
        "Guaranteed"
    } else {
        "Burstable"
    }
}

/// What an update of a Pod's spec may change, taken from `old`, so that comparing shows anything else.
fn with_changeable_fields_of(new: &PodSpec, old: &PodSpec) -> PodSpec {
    let mut masked = new.clone();
    for (list, olds) in [(&mut masked.containers, &old.containers), (&mut masked.init_containers, &old.init_containers)]
    {
        for (c, o) in list.iter_mut().zip(olds) {
            c.image = o.image.clone();
        }
    }
    masked.active_deadline_seconds = old.active_deadline_seconds;
    masked.tolerations = old.tolerations.clone();
    // A gate may be opened, never added.
    if new.scheduling_gates.iter().all(|gate| old.scheduling_gates.contains(gate)) {
        masked.scheduling_gates = old.scheduling_gates.clone();
    }
    // A negative period may be mended to 1; nothing else about it changes.
    if old.termination_grace_period_seconds.is_some_and(|s| s < 0) && new.termination_grace_period_seconds == Some(1) {
        masked.termination_grace_period_seconds = old.termination_grace_period_seconds;
    }
    masked
}

/// What a write to `ephemeralcontainers` makes of a Pod: the old one, and of the new one these containers alone.
pub fn take_ephemeral_containers(new: &mut Pod, old: &Pod) -> Errors {
    let added = std::mem::take(&mut new.spec.ephemeral_containers);
    *new = old.clone();
    new.spec.ephemeral_containers = added;
    pod_defaults::ephemeral_containers(&mut new.spec);
    validation::ephemeral_containers(&new.spec, &old.spec.ephemeral_containers, "spec")
}

impl KindStrategy for PodStrategy {
    type Kind = Pod;
    const GENERATIONS: bool = true;
    const SELECTABLE: SelectableFields = &[
        ("spec.nodeName", &[2, 10], FieldKind::String),
        ("spec.restartPolicy", &[2, 3], FieldKind::String),
        ("spec.schedulerName", &[2, 19], FieldKind::String),
        ("spec.serviceAccountName", &[2, 8], FieldKind::String),
        ("spec.hostNetwork", &[2, 11], FieldKind::Bool),
        ("status.phase", &[3, 1], FieldKind::String),
        ("status.podIP", &[3, 6], FieldKind::String),
        ("status.nominatedNodeName", &[3, 11], FieldKind::String),
    ];

    fn default(&self, pod: &mut Pod) {
        pod_defaults::pod_spec(&mut pod.spec);
    }

    fn prepare_for_create(&self, pod: &mut Pod) {
        pod.status = Default::default();
        pod.status.phase = "Pending".into();
        pod.status.qos_class = qos_class(&pod.spec).into();
    }

    fn prepare_for_update(&self, new: &mut Pod, old: &Pod) {
        new.status = old.status.clone();
    }

    fn take_status(&self, from: Pod, onto: &mut Pod) {
        let qos_class = std::mem::take(&mut onto.status.qos_class);
        onto.status = from.status;
        if onto.status.qos_class.is_empty() {
            onto.status.qos_class = qos_class;
        }
    }

    fn validate(&self, pod: &Pod) -> Errors {
        validation::pod_spec(&pod.spec, "spec")
    }

    fn validate_create(&self, pod: &Pod) -> Errors {
        let mut errors = Errors::new();
        if !pod.spec.ephemeral_containers.is_empty() {
            errors.forbidden("spec.ephemeralContainers", "cannot be set on create");
        }
        errors
    }

    fn validate_update(&self, new: &Pod, old: &Pod) -> Errors {
        let mut errors = Errors::new();
        if new.spec.containers.len() != old.spec.containers.len() {
            errors.forbidden("spec.containers", "pod updates may not add or remove containers");
            return errors;
        }
        if let Some(was) = old.spec.active_deadline_seconds {
            match new.spec.active_deadline_seconds {
                None => errors.invalid(
                    "spec.activeDeadlineSeconds",
                    "",
                    "must not update from a positive integer to nil value",
                ),
                Some(is) if is > was => {
                    errors.invalid("spec.activeDeadlineSeconds", is, "must be less than or equal to previous value")
                }
                Some(_) => {}
            }
        }
        if old.spec.tolerations.iter().any(|t| !new.spec.tolerations.contains(t)) {
            errors
                .forbidden("spec.tolerations", "existing toleration can not be modified except its tolerationSeconds");
        }
        if with_changeable_fields_of(&new.spec, &old.spec) != old.spec {
            errors.forbidden(
                "spec",
                "pod updates may not change fields other than `spec.containers[*].image`, `spec.initContainers[*].image`, \
                 `spec.activeDeadlineSeconds`, `spec.tolerations` (only additions to existing tolerations), \
                 `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)",
            );
        }
        errors
    }

    fn validate_status_update(&self, new: &Pod, old: &Pod) -> Errors {
        let mut errors = Errors::new();
        let phases = ["Pending", "Running", "Succeeded", "Failed", "Unknown"];
        validation::one_of(&new.status.phase, &phases, "status.phase", &mut errors);
        if ["Succeeded", "Failed"].contains(&old.status.phase.as_str()) && new.status.phase != old.status.phase {
            errors.invalid("status.phase", &new.status.phase, format!("a Pod that is {} stays so", old.status.phase));
        }
        if old.status.qos_class != new.status.qos_class {
            errors.invalid("status.qosClass", &new.status.qos_class, validation::IMMUTABLE);
        }
        for (i, ip) in new.status.pod_ips.iter().enumerate() {
            if ip.ip.parse::<std::net::IpAddr>().is_err() {
                errors.invalid(child(&index("status", "podIPs", i), "ip"), &ip.ip, "must be a valid IP address");
            }
        }
        errors
    }

    fn desired_changed(&self, new: &Pod, old: &Pod) -> bool {
        new.spec != old.spec
    }

    fn warnings(&self, pod: &Pod) -> Vec<String> {
        warnings::pod_spec(&pod.spec, "spec")
    }

    fn grace_period(&self, pod: &Pod, requested: Option<i64>) -> i64 {
        let finished = ["Succeeded", "Failed"].contains(&pod.status.phase.as_str());
        if pod.spec.node_name.is_empty() || finished {
            // No kubelet will ever say that it is done.
            return 0;
        }
        requested.or(pod.spec.termination_grace_period_seconds).unwrap_or(30).max(0)
    }
}
