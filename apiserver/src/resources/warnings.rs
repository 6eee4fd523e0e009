//! Fields that are known and not honoured: the write succeeds and says so. docs/differences-from-kubernetes.md has the list.

use super::validation::{child, index, volume_sources};
use skiff_proto::corev1::{Container, PodSpec, SeccompProfile, ServiceSpec};

/// Volume sources a node can mount.
const HONOURED_VOLUMES: &[&str] = &["hostPath", "emptyDir", "secret", "configMap", "downwardAPI", "projected"];

struct Found(Vec<String>);

impl Found {
    fn note(&mut self, set: bool, path: String) {
        if set {
            self.0.push(format!("{path}: known to Skiff and not honoured yet; it has no effect"));
        }
    }
}

/// Warnings about a PodSpec.
pub fn pod_spec(spec: &PodSpec, path: &str) -> Vec<String> {
    let mut found = Found(Vec::new());
    let affinity = spec.affinity.as_deref();
    for (set, field) in [
        (!spec.image_pull_secrets.is_empty(), "imagePullSecrets"),
        (affinity.is_some_and(|a| a.pod_affinity.is_some()), "affinity.podAffinity"),
        (affinity.is_some_and(|a| a.pod_anti_affinity.is_some()), "affinity.podAntiAffinity"),
        (!spec.topology_spread_constraints.is_empty(), "topologySpreadConstraints"),
        (spec.runtime_class_name.is_some(), "runtimeClassName"),
        (!spec.overhead.is_empty(), "overhead"),
        (spec.host_users == Some(false), "hostUsers"),
        (!spec.resource_claims.is_empty(), "resourceClaims"),
        (spec.resources.is_some(), "resources"),
        (spec.set_hostname_as_fqdn == Some(true), "setHostnameAsFQDN"),
        (spec.hostname_override.is_some(), "hostnameOverride"),
        (spec.scheduling_group.is_some(), "schedulingGroup"),
        (!spec.eviction_responders.is_empty(), "evictionResponders"),
    ] {
        found.note(set, child(path, field));
    }
    if let Some(security) = &spec.security_context {
        let path = child(path, "securityContext");
        found.note(security.se_linux_options.is_some(), child(&path, "seLinuxOptions"));
        found.note(security.windows_options.is_some(), child(&path, "windowsOptions"));
        found.note(is_own_seccomp(security.seccomp_profile.as_deref()), child(&path, "seccompProfile"));
        found.note(security.app_armor_profile.is_some(), child(&path, "appArmorProfile"));
        found.note(!security.sysctls.is_empty(), child(&path, "sysctls"));
    }
    for (i, volume) in spec.volumes.iter().enumerate() {
        for source in volume_sources(&volume.volume_source) {
            found.note(!HONOURED_VOLUMES.contains(&source), child(&index(path, "volumes", i), source));
        }
    }
    for (field, list) in [("initContainers", &spec.init_containers), ("containers", &spec.containers)] {
        for (i, c) in list.iter().enumerate() {
            container(c, &index(path, field, i), &mut found);
        }
    }
    found.0
}

fn container(c: &Container, path: &str, found: &mut Found) {
    let grpc =
        |probe: &Option<Box<skiff_proto::corev1::Probe>>| probe.as_ref().is_some_and(|p| p.handler.grpc.is_some());
    for (set, field) in [
        (!c.volume_devices.is_empty(), "volumeDevices"),
        (!c.resize_policy.is_empty(), "resizePolicy"),
        (!c.resources.claims.is_empty(), "resources.claims"),
        (!c.restart_policy_rules.is_empty(), "restartPolicyRules"),
        (grpc(&c.liveness_probe), "livenessProbe.grpc"),
        (grpc(&c.readiness_probe), "readinessProbe.grpc"),
        (grpc(&c.startup_probe), "startupProbe.grpc"),
    ] {
        found.note(set, child(path, field));
    }
    if let Some(security) = &c.security_context {
        let path = child(path, "securityContext");
        found.note(security.se_linux_options.is_some(), child(&path, "seLinuxOptions"));
        found.note(security.windows_options.is_some(), child(&path, "windowsOptions"));
        found.note(security.proc_mount.as_deref().is_some_and(|m| m != "Default"), child(&path, "procMount"));
        found.note(is_own_seccomp(security.seccomp_profile.as_deref()), child(&path, "seccompProfile"));
        found.note(security.app_armor_profile.is_some(), child(&path, "appArmorProfile"));
    }
}

/// A profile other than the runtime's own, which every container gets.
fn is_own_seccomp(profile: Option<&SeccompProfile>) -> bool {
    profile.is_some_and(|profile| profile.r#type != "RuntimeDefault")
}

/// Warnings about a ServiceSpec.
pub fn service_spec(spec: &ServiceSpec) -> Vec<String> {
    let mut found = Found(Vec::new());
    for (set, field) in [
        (spec.r#type == "LoadBalancer", "type: LoadBalancer (only its cluster address and node ports work)"),
        (!spec.external_ips.is_empty(), "externalIPs"),
        (!spec.load_balancer_ip.is_empty(), "loadBalancerIP"),
        (!spec.load_balancer_source_ranges.is_empty(), "loadBalancerSourceRanges"),
        (spec.load_balancer_class.is_some(), "loadBalancerClass"),
        (spec.health_check_node_port != 0, "healthCheckNodePort"),
        (spec.traffic_distribution.is_some(), "trafficDistribution"),
    ] {
        found.note(set, child("spec", field));
    }
    found.0
}
