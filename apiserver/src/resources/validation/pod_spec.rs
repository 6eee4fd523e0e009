//! Checks of a PodSpec: of Pods, and of the templates that make them.

use super::probes::{self, ProbeKind};
use super::{child, index, names, non_negative, one_of, port, resource_requirements, volumes};
use crate::resources::field_error::Errors;
use skiff_proto::corev1::{
    Affinity, Container, ContainerPort, EnvFromSource, EnvVar, NodeSelectorTerm, PodSpec, PodTemplateSpec, Toleration,
};
use std::collections::BTreeSet;

/// The longest a Pod may be told to run or to take its leave, in seconds: the largest 32 bit number.
const SECONDS_MAX: i64 = i32::MAX as i64;

/// A template for Pods: labels, and a spec whose Pods are restarted.
pub fn pod_template(template: &PodTemplateSpec, path: &str) -> Errors {
    let mut errors = super::labels(&template.metadata.labels, &child(path, "metadata.labels"));
    let spec_path = child(path, "spec");
    errors.append(pod_spec(&template.spec, &spec_path));
    if template.spec.restart_policy != "Always" && !template.spec.restart_policy.is_empty() {
        errors.not_supported(child(&spec_path, "restartPolicy"), &template.spec.restart_policy, &["Always"]);
    }
    if !template.spec.ephemeral_containers.is_empty() {
        errors.forbidden(child(&spec_path, "ephemeralContainers"), "ephemeral containers not allowed in pod template");
    }
    if template.spec.active_deadline_seconds.is_some() {
        errors.forbidden(
            child(&spec_path, "activeDeadlineSeconds"),
            "activeDeadlineSeconds in a controller's template is not supported",
        );
    }
    errors
}

/// A Pod's spec, defaults filled in.
pub fn pod_spec(spec: &PodSpec, path: &str) -> Errors {
    let mut errors = Errors::new();
    let e = &mut errors;
    let volume_names = volumes::volumes(&spec.volumes, path, e);
    containers(spec, &volume_names, path, e);
    one_of(&spec.restart_policy, &["Always", "OnFailure", "Never"], child(path, "restartPolicy"), e);
    let dns = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
    one_of(&spec.dns_policy, &dns, child(path, "dnsPolicy"), e);
    if spec.dns_policy == "None" && spec.dns_config.as_ref().is_none_or(|c| c.nameservers.is_empty()) {
        e.required(
            child(path, "dnsConfig.nameservers"),
            "must provide at least one DNS nameserver when `dnsPolicy` is None",
        );
    }
    if let Some(grace) = spec.termination_grace_period_seconds {
        non_negative(grace, child(path, "terminationGracePeriodSeconds"), e);
    }
    if let Some(deadline) = spec.active_deadline_seconds.filter(|s| !(1..=SECONDS_MAX).contains(s)) {
        e.invalid(
            child(path, "activeDeadlineSeconds"),
            deadline,
            format!("must be between 1 and {SECONDS_MAX}, inclusive"),
        );
    }
    for (field, name, rule) in [
        ("nodeName", &spec.node_name, names::dns1123_subdomain as fn(&str) -> names::Problems),
        ("serviceAccountName", &spec.service_account_name, names::dns1123_subdomain),
        ("hostname", &spec.hostname, names::dns1123_label),
        ("subdomain", &spec.subdomain, names::dns1123_label),
        ("priorityClassName", &spec.priority_class_name, names::dns1123_subdomain),
    ] {
        if !name.is_empty() {
            for problem in rule(name) {
                e.invalid(child(path, field), name, problem);
            }
        }
    }
    e.append(super::labels(&spec.node_selector, &child(path, "nodeSelector")));
    for (i, toleration) in spec.tolerations.iter().enumerate() {
        check_toleration(toleration, &index(path, "tolerations", i), e);
    }
    if let Some(affinity) = &spec.affinity {
        check_affinity(affinity, &child(path, "affinity"), e);
    }
    for (i, alias) in spec.host_aliases.iter().enumerate() {
        let path = index(path, "hostAliases", i);
        if alias.ip.parse::<std::net::IpAddr>().is_err() {
            e.invalid(child(&path, "ip"), &alias.ip, "must be a valid IP address");
        }
        for (j, hostname) in alias.hostnames.iter().enumerate() {
            for problem in names::dns1123_subdomain(hostname) {
                e.invalid(index(&path, "hostnames", j), hostname, problem);
            }
        }
    }
    errors
}

fn containers(spec: &PodSpec, volume_names: &BTreeSet<&str>, path: &str, e: &mut Errors) {
    if spec.containers.is_empty() {
        e.required(child(path, "containers"), "");
    }
    let mut seen = BTreeSet::new();
    let mut host_ports = BTreeSet::new();
    for (field, list) in [("initContainers", &spec.init_containers), ("containers", &spec.containers)] {
        for (i, c) in list.iter().enumerate() {
            let path = index(path, field, i);
            if c.name.is_empty() {
                e.required(child(&path, "name"), "");
            } else if !seen.insert(c.name.as_str()) {
                e.duplicate(child(&path, "name"), &c.name);
            } else {
                for problem in names::dns1123_label(&c.name) {
                    e.invalid(child(&path, "name"), &c.name, problem);
                }
            }
            container(c, volume_names, &path, e);
            if spec.host_network {
                host_network_ports(&c.ports, &path, e);
            }
            // Init containers that end run one after the other and may share a host port.
            if field == "containers" {
                unique_host_ports(&c.ports, &mut host_ports, &path, e);
            } else if !is_sidecar(c)
                && (c.liveness_probe.is_some() || c.readiness_probe.is_some() || c.startup_probe.is_some())
            {
                e.forbidden(path, "may not be set for init containers without restartPolicy=Always: probes");
            }
        }
    }
}

fn is_sidecar(c: &Container) -> bool {
    c.restart_policy.as_deref() == Some("Always")
}

/// Checks a container.
pub fn container(c: &Container, volume_names: &BTreeSet<&str>, path: &str, e: &mut Errors) {
    if c.image.is_empty() {
        e.required(child(path, "image"), "");
    } else if c.image.trim() != c.image {
        e.invalid(child(path, "image"), &c.image, "must not have leading or trailing whitespace");
    }
    one_of(&c.image_pull_policy, &["Always", "IfNotPresent", "Never"], child(path, "imagePullPolicy"), e);
    ports(&c.ports, path, e);
    env(&c.env, path, e);
    env_from(&c.env_from, path, e);
    volumes::mounts(&c.volume_mounts, volume_names, path, e);
    for (field, kind, probe) in [
        ("livenessProbe", ProbeKind::Liveness, &c.liveness_probe),
        ("readinessProbe", ProbeKind::Readiness, &c.readiness_probe),
        ("startupProbe", ProbeKind::Startup, &c.startup_probe),
    ] {
        if let Some(probe) = probe {
            probes::probe(probe, kind, &child(path, field), e);
        }
    }
    if let Some(lifecycle) = &c.lifecycle {
        probes::lifecycle(lifecycle, &child(path, "lifecycle"), e);
    }
    e.append(resource_requirements(&c.resources, &child(path, "resources")));
    if !c.termination_message_path.is_empty() && !c.termination_message_path.starts_with('/') {
        e.invalid(child(path, "terminationMessagePath"), &c.termination_message_path, "must be an absolute path");
    }
    one_of(
        &c.termination_message_policy,
        &["File", "FallbackToLogsOnError"],
        child(path, "terminationMessagePolicy"),
        e,
    );
    if let Some(security) = &c.security_context {
        let path = child(path, "securityContext");
        for (field, id) in [("runAsUser", security.run_as_user), ("runAsGroup", security.run_as_group)] {
            if id.is_some_and(|id| !(0..=SECONDS_MAX).contains(&id)) {
                e.invalid(
                    child(&path, field),
                    id.unwrap_or_default(),
                    format!("must be between 0 and {SECONDS_MAX}, inclusive"),
                );
            }
        }
        if security.privileged == Some(true) && security.allow_privilege_escalation == Some(false) {
            e.invalid(path, "", "cannot set `allowPrivilegeEscalation` to false and `privileged` to true");
        }
    }
}

const PROTOCOLS: &[&str] = &["SCTP", "TCP", "UDP"];

fn ports(list: &[ContainerPort], path: &str, e: &mut Errors) {
    let mut seen = BTreeSet::new();
    for (i, p) in list.iter().enumerate() {
        let path = index(path, "ports", i);
        if !p.name.is_empty() {
            let problems = names::port_name(&p.name);
            if problems.is_empty() && !seen.insert(p.name.as_str()) {
                e.duplicate(child(&path, "name"), &p.name);
            }
            for problem in problems {
                e.invalid(child(&path, "name"), &p.name, problem);
            }
        }
        if p.container_port == 0 {
            e.required(child(&path, "containerPort"), "");
        } else {
            port(i64::from(p.container_port), child(&path, "containerPort"), e);
        }
        if p.host_port != 0 {
            port(i64::from(p.host_port), child(&path, "hostPort"), e);
        }
        one_of(&p.protocol, PROTOCOLS, child(&path, "protocol"), e);
        if !p.host_ip.is_empty() && p.host_ip.parse::<std::net::IpAddr>().is_err() {
            e.invalid(child(&path, "hostIP"), &p.host_ip, "must be a valid IP address");
        }
    }
}

fn unique_host_ports(list: &[ContainerPort], seen: &mut BTreeSet<String>, path: &str, e: &mut Errors) {
    for (i, p) in list.iter().enumerate().filter(|(_, p)| p.host_port != 0) {
        let id = format!("{}/{}/{}", p.protocol, p.host_ip, p.host_port);
        if !seen.insert(id.clone()) {
            e.duplicate(child(&index(path, "ports", i), "hostPort"), id);
        }
    }
}

fn host_network_ports(list: &[ContainerPort], path: &str, e: &mut Errors) {
    for (i, p) in list.iter().enumerate() {
        if p.host_port != p.container_port {
            e.invalid(
                child(&index(path, "ports", i), "containerPort"),
                p.container_port,
                "must match `hostPort` when `hostNetwork` is true",
            );
        }
    }
}

fn env(vars: &[EnvVar], path: &str, e: &mut Errors) {
    for (i, var) in vars.iter().enumerate() {
        let path = index(path, "env", i);
        if var.name.is_empty() {
            e.required(child(&path, "name"), "");
        }
        for problem in names::env_var_name(&var.name) {
            e.invalid(child(&path, "name"), &var.name, problem);
        }
        let Some(from) = &var.value_from else { continue };
        let path = child(&path, "valueFrom");
        if !var.value.is_empty() {
            e.invalid(path.clone(), "", "may not be specified when `value` is not empty");
        }
        let sources = usize::from(from.field_ref.is_some())
            + usize::from(from.resource_field_ref.is_some())
            + usize::from(from.config_map_key_ref.is_some())
            + usize::from(from.secret_key_ref.is_some())
            + usize::from(from.file_key_ref.is_some());
        match sources {
            0 => e.invalid(
                path.clone(),
                "",
                "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
            ),
            1 => {}
            _ => e.invalid(path.clone(), "", "may not have more than one field specified at a time"),
        }
        if let Some(field) = &from.field_ref {
            field_ref(&field.field_path, &child(&path, "fieldRef"), e);
        }
        if let Some(r) = &from.config_map_key_ref {
            key_ref(&r.local_object_reference.name, &r.key, &child(&path, "configMapKeyRef"), e);
        }
        if let Some(r) = &from.secret_key_ref {
            key_ref(&r.local_object_reference.name, &r.key, &child(&path, "secretKeyRef"), e);
        }
        if from.resource_field_ref.as_ref().is_some_and(|r| r.resource.is_empty()) {
            e.required(child(&path, "resourceFieldRef.resource"), "");
        }
    }
}

/// What an environment variable may take from its Pod.
const ENV_FIELDS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

fn field_ref(field: &str, path: &str, e: &mut Errors) {
    let path = child(path, "fieldPath");
    if field.is_empty() {
        e.required(path, "");
        return;
    }
    let subscripted = ["metadata.labels['", "metadata.annotations['"]
        .iter()
        .any(|start| field.strip_prefix(start).is_some_and(|rest| rest.ends_with("']")));
    if !subscripted && !ENV_FIELDS.contains(&field) {
        e.not_supported(path, field, ENV_FIELDS);
    }
}

fn key_ref(name: &str, key_name: &str, path: &str, e: &mut Errors) {
    if name.is_empty() {
        e.required(child(path, "name"), "");
    }
    if key_name.is_empty() {
        e.required(child(path, "key"), "");
    } else {
        for problem in names::config_key(key_name) {
            e.invalid(child(path, "key"), key_name, problem);
        }
    }
}

fn env_from(list: &[EnvFromSource], path: &str, e: &mut Errors) {
    for (i, from) in list.iter().enumerate() {
        let path = index(path, "envFrom", i);
        let names = [
            from.config_map_ref.as_ref().map(|r| ("configMapRef", &r.local_object_reference.name)),
            from.secret_ref.as_ref().map(|r| ("secretRef", &r.local_object_reference.name)),
        ];
        match names.iter().flatten().count() {
            0 => e.invalid(path.clone(), "", "must specify one of: `configMapRef` or `secretRef`"),
            1 => {}
            _ => e.invalid(path.clone(), "", "may not have more than one field specified at a time"),
        }
        for (field, name) in names.into_iter().flatten() {
            if name.is_empty() {
                e.required(child(&child(&path, field), "name"), "");
            }
        }
    }
}

fn check_toleration(t: &Toleration, path: &str, e: &mut Errors) {
    if !t.key.is_empty() {
        for problem in names::qualified_name(&t.key) {
            e.invalid(child(path, "key"), &t.key, problem);
        }
    }
    let operator = child(path, "operator");
    match t.operator.as_str() {
        "Exists" => {
            if !t.value.is_empty() {
                e.invalid(operator, &t.value, "value must be empty when `operator` is 'Exists'");
            }
        }
        "" | "Equal" => {
            if t.key.is_empty() {
                e.invalid(
                    operator,
                    &t.operator,
                    "operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
                );
            }
            for problem in names::label_value(&t.value) {
                e.invalid(child(path, "value"), &t.value, problem);
            }
        }
        other => e.not_supported(operator, other, &["Equal", "Exists"]),
    }
    if !t.effect.is_empty() {
        one_of(&t.effect, &["NoSchedule", "PreferNoSchedule", "NoExecute"], child(path, "effect"), e);
    }
    if t.toleration_seconds.is_some() && t.effect != "NoExecute" {
        e.invalid(child(path, "effect"), &t.effect, "effect must be 'NoExecute' when `tolerationSeconds` is set");
    }
}

fn check_affinity(affinity: &Affinity, path: &str, e: &mut Errors) {
    let Some(node) = &affinity.node_affinity else { return };
    let path = child(path, "nodeAffinity");
    if let Some(required) = &node.required_during_scheduling_ignored_during_execution {
        let path = child(&path, "requiredDuringSchedulingIgnoredDuringExecution");
        if required.node_selector_terms.is_empty() {
            e.required(child(&path, "nodeSelectorTerms"), "must have at least one node selector term");
        }
        for (i, term) in required.node_selector_terms.iter().enumerate() {
            node_selector_term(term, &index(&path, "nodeSelectorTerms", i), e);
        }
    }
    for (i, term) in node.preferred_during_scheduling_ignored_during_execution.iter().enumerate() {
        let path = index(&path, "preferredDuringSchedulingIgnoredDuringExecution", i);
        if !(1..=100).contains(&term.weight) {
            e.invalid(child(&path, "weight"), term.weight, "must be in the range 1-100");
        }
        node_selector_term(&term.preference, &child(&path, "preference"), e);
    }
}

fn node_selector_term(term: &NodeSelectorTerm, path: &str, e: &mut Errors) {
    for (field, list) in [("matchExpressions", &term.match_expressions), ("matchFields", &term.match_fields)] {
        for (i, requirement) in list.iter().enumerate() {
            let path = index(path, field, i);
            let values = child(&path, "values");
            match (requirement.operator.as_str(), requirement.values.len()) {
                ("In" | "NotIn", 0) => e.required(values, "must be specified when `operator` is 'In' or 'NotIn'"),
                ("Exists" | "DoesNotExist", 1..) => {
                    e.forbidden(values, "may not be specified when `operator` is 'Exists' or 'DoesNotExist'");
                }
                ("Gt" | "Lt", n) if n != 1 => {
                    e.required(values, "must be specified single value when `operator` is 'Lt' or 'Gt'")
                }
                ("In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt", _) => {}
                (other, _) => e.invalid(child(&path, "operator"), other, "not a valid selector operator"),
            }
            if field == "matchFields" && requirement.key != "metadata.name" {
                e.invalid(child(&path, "key"), &requirement.key, "not a valid field selector key");
            } else if field == "matchExpressions" {
                for problem in names::qualified_name(&requirement.key) {
                    e.invalid(child(&path, "key"), &requirement.key, problem);
                }
            }
        }
    }
}
