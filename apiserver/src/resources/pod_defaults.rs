//! Defaults of a PodSpec, for Pods and for templates.

use skiff_proto::corev1::{Container, HttpGetAction, PodSpec, Probe};

fn set(field: &mut String, value: &str) {
    if field.is_empty() {
        *field = value.into();
    }
}

/// Fills in a PodSpec.
pub fn pod_spec(spec: &mut PodSpec) {
    set(&mut spec.restart_policy, "Always");
    set(&mut spec.dns_policy, "ClusterFirst");
    set(&mut spec.scheduler_name, "default-scheduler");
    spec.termination_grace_period_seconds.get_or_insert(30);
    spec.enable_service_links.get_or_insert(true);
    spec.security_context.get_or_insert_default();
    // The older name and the newer are one field.
    if spec.service_account_name.is_empty() {
        spec.service_account_name = spec.service_account.clone();
    }
    spec.service_account = spec.service_account_name.clone();
    let host_network = spec.host_network;
    for container in spec.init_containers.iter_mut().chain(&mut spec.containers) {
        defaults_of_container(container, host_network);
    }
    for volume in &mut spec.volumes {
        let source = &mut volume.volume_source;
        if super::validation::volume_sources(source).is_empty() {
            source.empty_dir = Some(Default::default());
        }
        if let Some(secret) = &mut source.secret {
            secret.default_mode.get_or_insert(0o644);
        }
        if let Some(config) = &mut source.config_map {
            config.default_mode.get_or_insert(0o644);
        }
        if let Some(downward) = &mut source.downward_api {
            downward.default_mode.get_or_insert(0o644);
        }
        if let Some(projected) = &mut source.projected {
            projected.default_mode.get_or_insert(0o644);
        }
        if let Some(host) = &mut source.host_path {
            host.r#type.get_or_insert_default();
        }
    }
}

/// Defaults of containers that are added to a running Pod.
pub fn ephemeral_containers(spec: &mut PodSpec) {
    for ephemeral in &mut spec.ephemeral_containers {
        let container = &mut ephemeral.ephemeral_container_common;
        set(&mut container.image_pull_policy, "IfNotPresent");
        set(&mut container.termination_message_path, "/dev/termination-log");
        set(&mut container.termination_message_policy, "File");
    }
}

fn defaults_of_container(container: &mut Container, host_network: bool) {
    // Whatever the tag, unlike Kubernetes: an image that the engine has is used, without asking a registry.
    set(&mut container.image_pull_policy, "IfNotPresent");
    set(&mut container.termination_message_path, "/dev/termination-log");
    set(&mut container.termination_message_policy, "File");
    for port in &mut container.ports {
        set(&mut port.protocol, "TCP");
        if host_network && port.host_port == 0 {
            port.host_port = port.container_port;
        }
    }
    for var in &mut container.env {
        if let Some(field) = var.value_from.as_mut().and_then(|from| from.field_ref.as_mut()) {
            set(&mut field.api_version, "v1");
        }
    }
    let probes = [&mut container.liveness_probe, &mut container.readiness_probe, &mut container.startup_probe];
    for probe in probes.into_iter().flatten() {
        defaults_of_probe(probe);
    }
    if let Some(lifecycle) = &mut container.lifecycle {
        for handler in [&mut lifecycle.post_start, &mut lifecycle.pre_stop] {
            if let Some(http) = handler.as_mut().and_then(|h| h.http_get.as_mut()) {
                defaults_of_http_get(http);
            }
        }
    }
    // What is limited and not requested is requested in full.
    for (name, limit) in &container.resources.limits {
        if !container.resources.requests.contains_key(name) {
            container.resources.requests.insert(name.clone(), *limit);
        }
    }
}

fn defaults_of_http_get(http: &mut HttpGetAction) {
    set(&mut http.path, "/");
    set(&mut http.scheme, "HTTP");
}

fn defaults_of_probe(probe: &mut Probe) {
    for (field, value) in [
        (&mut probe.timeout_seconds, 1),
        (&mut probe.period_seconds, 10),
        (&mut probe.success_threshold, 1),
        (&mut probe.failure_threshold, 3),
    ] {
        if *field == 0 {
            *field = value;
        }
    }
    if let Some(http) = &mut probe.handler.http_get {
        defaults_of_http_get(http);
    }
    if let Some(grpc) = &mut probe.handler.grpc {
        grpc.service.get_or_insert_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_follow_limits_and_probes_are_completed() {
        let mut spec = PodSpec {
            containers: vec![Container {
                name: "a".into(),
                image: "a".into(),
                readiness_probe: Some(Box::new(Probe { period_seconds: 2, ..Default::default() })),
                ..Default::default()
            }],
            ..Default::default()
        };
        let limit = skiff_proto::Quantity::parse("100m").expect("a quantity");
        spec.containers[0].resources.limits.insert("cpu".into(), limit);
        pod_spec(&mut spec);
        let c = &spec.containers[0];
        assert_eq!(c.resources.requests.get("cpu"), Some(&limit));
        let probe = c.readiness_probe.as_ref().expect("still there");
        assert_eq!((probe.period_seconds, probe.timeout_seconds, probe.failure_threshold), (2, 1, 3));
        assert_eq!(spec.termination_grace_period_seconds, Some(30));
        assert_eq!(c.image_pull_policy, "IfNotPresent");
    }
}
