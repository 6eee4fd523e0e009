//! Service. Addresses and node ports are given by `registry::allocation`; here is what may be asked for.

use crate::cache::FieldKind;
use crate::resources::field_error::Errors;
use crate::resources::strategy::{KindStrategy, SelectableFields};
use crate::resources::validation::{self, NameRule, child, index, one_of, port, port_or_name};
use crate::resources::warnings;
use skiff_proto::IntOrString;
use skiff_proto::corev1::{Service, ServiceSpec};
use std::collections::BTreeSet;

pub struct ServiceStrategy;

/// Whether a Service of this type has an address of its own.
pub fn has_address(spec: &ServiceSpec) -> bool {
    spec.r#type != "ExternalName" && spec.cluster_ip != "None"
}

/// Whether a Service of this type answers on the nodes' own addresses.
pub fn has_node_ports(spec: &ServiceSpec) -> bool {
    spec.r#type == "NodePort"
        || (spec.r#type == "LoadBalancer" && spec.allocate_load_balancer_node_ports != Some(false))
}

/// How long a client sticks to its endpoint.
const AFFINITY_SECONDS: i32 = 10800;
const AFFINITY_SECONDS_MAX: i32 = 86400;

impl KindStrategy for ServiceStrategy {
    type Kind = Service;
    const SELECTABLE: SelectableFields =
        &[("spec.clusterIP", &[2, 3], FieldKind::String), ("spec.type", &[2, 4], FieldKind::String)];

    fn default(&self, service: &mut Service) {
        let spec = &mut service.spec;
        if spec.r#type.is_empty() {
            spec.r#type = "ClusterIP".into();
        }
        if spec.session_affinity.is_empty() {
            spec.session_affinity = "None".into();
        }
        if spec.session_affinity == "None" {
            spec.session_affinity_config = None;
        } else if spec.session_affinity == "ClientIP" {
            let config = spec.session_affinity_config.get_or_insert_default();
            config.client_ip.get_or_insert_default().timeout_seconds.get_or_insert(AFFINITY_SECONDS);
        }
        if spec.r#type == "LoadBalancer" {
            spec.allocate_load_balancer_node_ports.get_or_insert(true);
        }
        if has_node_ports(spec) && spec.external_traffic_policy.is_empty() {
            spec.external_traffic_policy = "Cluster".into();
        }
        if spec.r#type != "ExternalName" {
            spec.internal_traffic_policy.get_or_insert_with(|| "Cluster".into());
            spec.ip_family_policy.get_or_insert_with(|| "SingleStack".into());
            if spec.ip_families.is_empty() {
                spec.ip_families = vec!["IPv4".into()];
            }
        }
        // The singular and the first of the plural are one field.
        if spec.cluster_ip.is_empty() {
            spec.cluster_ip = spec.cluster_ips.first().cloned().unwrap_or_default();
        } else if spec.cluster_ips.is_empty() {
            spec.cluster_ips = vec![spec.cluster_ip.clone()];
        }
        for port in &mut spec.ports {
            if port.protocol.is_empty() {
                port.protocol = "TCP".into();
            }
            if port.target_port == IntOrString::Int(0) || port.target_port == IntOrString::Str(String::new()) {
                port.target_port = IntOrString::Int(port.port);
            }
        }
    }

    fn prepare_for_create(&self, service: &mut Service) {
        service.status = Default::default();
    }

    fn prepare_for_update(&self, new: &mut Service, old: &Service) {
        new.status = old.status.clone();
        // What was given stays given when the update does not speak of it.
        if has_address(&new.spec) && has_address(&old.spec) && new.spec.cluster_ip.is_empty() {
            new.spec.cluster_ip = old.spec.cluster_ip.clone();
            new.spec.cluster_ips = old.spec.cluster_ips.clone();
        }
        if has_node_ports(&new.spec) {
            for port in new.spec.ports.iter_mut().filter(|p| p.node_port == 0) {
                let before = old.spec.ports.iter().find(|o| o.port == port.port && o.protocol == port.protocol);
                port.node_port = before.map(|o| o.node_port).unwrap_or_default();
            }
        } else if has_node_ports(&old.spec) {
            for port in &mut new.spec.ports {
                if old.spec.ports.iter().any(|o| o.node_port == port.node_port) {
                    port.node_port = 0;
                }
            }
            new.spec.external_traffic_policy.clear();
        }
        if new.spec.r#type == "ExternalName"
            && old.spec.r#type != "ExternalName"
            && new.spec.cluster_ip == old.spec.cluster_ip
        {
            new.spec.cluster_ip.clear();
            new.spec.cluster_ips.clear();
        }
    }

    fn take_status(&self, from: Service, onto: &mut Service) {
        onto.status = from.status;
    }

    fn validate(&self, service: &Service) -> Errors {
        let mut errors = Errors::new();
        let spec = &service.spec;
        let types = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
        one_of(&spec.r#type, &types, "spec.type", &mut errors);
        ports(spec, &mut errors);
        errors.append(validation::labels(&spec.selector, "spec.selector"));
        one_of(&spec.session_affinity, &["ClientIP", "None"], "spec.sessionAffinity", &mut errors);
        let timeout =
            spec.session_affinity_config.as_ref().and_then(|c| c.client_ip.as_ref()).and_then(|c| c.timeout_seconds);
        if let Some(seconds) = timeout.filter(|s| !(1..=AFFINITY_SECONDS_MAX).contains(s)) {
            errors.invalid(
                "spec.sessionAffinityConfig.clientIP.timeoutSeconds",
                seconds,
                format!("must be greater than 0 and less than {AFFINITY_SECONDS_MAX}"),
            );
        }
        addresses(spec, &mut errors);
        if !spec.external_traffic_policy.is_empty() {
            if has_node_ports(spec) {
                let path = "spec.externalTrafficPolicy";
                one_of(&spec.external_traffic_policy, &["Cluster", "Local"], path, &mut errors);
            } else {
                errors.invalid(
                    "spec.externalTrafficPolicy",
                    &spec.external_traffic_policy,
                    "may only be set for externally-accessible services",
                );
            }
        }
        if let Some(policy) = &spec.internal_traffic_policy {
            one_of(policy, &["Cluster", "Local"], "spec.internalTrafficPolicy", &mut errors);
        }
        errors
    }

    fn validate_update(&self, new: &Service, old: &Service) -> Errors {
        let mut errors = Errors::new();
        let kept = has_address(&old.spec) && new.spec.r#type != "ExternalName" && !old.spec.cluster_ip.is_empty();
        let headless = old.spec.cluster_ip == "None" && new.spec.r#type != "ExternalName";
        if (kept || headless) && new.spec.cluster_ip != old.spec.cluster_ip {
            errors.invalid("spec.clusterIPs[0]", &new.spec.cluster_ip, "may not change once set");
        }
        errors
    }

    fn warnings(&self, service: &Service) -> Vec<String> {
        warnings::service_spec(&service.spec)
    }

    fn name_rule(&self) -> NameRule {
        validation::dns1035_label
    }
}

fn ports(spec: &ServiceSpec, errors: &mut Errors) {
    if spec.ports.is_empty() && has_address(spec) {
        errors.required("spec.ports", "");
    }
    let (mut names, mut numbers, mut node_ports) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for (i, p) in spec.ports.iter().enumerate() {
        let path = index("spec", "ports", i);
        if p.name.is_empty() {
            if spec.ports.len() > 1 {
                errors.required(child(&path, "name"), "");
            }
        } else {
            for problem in validation::dns1123_label(&p.name) {
                errors.invalid(child(&path, "name"), &p.name, problem);
            }
            if !names.insert(p.name.as_str()) {
                errors.duplicate(child(&path, "name"), &p.name);
            }
        }
        port(i64::from(p.port), child(&path, "port"), errors);
        one_of(&p.protocol, &["SCTP", "TCP", "UDP"], child(&path, "protocol"), errors);
        port_or_name(&p.target_port, child(&path, "targetPort"), errors);
        if !numbers.insert((&p.protocol, p.port)) {
            errors.duplicate(path.clone(), format!("{}/{}", p.port, p.protocol));
        }
        if p.node_port != 0 {
            if !has_node_ports(spec) {
                let why = format!("may not be used when `type` is '{}'", spec.r#type);
                errors.forbidden(child(&path, "nodePort"), why);
            } else if !node_ports.insert((&p.protocol, p.node_port)) {
                errors.duplicate(child(&path, "nodePort"), p.node_port);
            }
        }
    }
}

fn addresses(spec: &ServiceSpec, errors: &mut Errors) {
    if spec.r#type == "ExternalName" {
        if !spec.cluster_ip.is_empty() {
            errors.forbidden("spec.clusterIPs", "may not be set when `type` is 'ExternalName'");
        }
        for problem in validation::dns1123_subdomain(spec.external_name.trim_end_matches('.')) {
            errors.invalid("spec.externalName", &spec.external_name, problem);
        }
        return;
    }
    let ip = &spec.cluster_ip;
    if ip == "None" {
        if spec.r#type != "ClusterIP" {
            let why = format!("may not be set to 'None' for {} services", spec.r#type);
            errors.invalid("spec.clusterIPs[0]", ip, why);
        }
    } else if !ip.is_empty() && ip.parse::<std::net::IpAddr>().is_err() {
        errors.invalid("spec.clusterIPs[0]", ip, "must be a valid IP address");
    }
    if spec.cluster_ips.first().is_some_and(|first| first != ip) {
        errors.invalid("spec.clusterIPs[0]", &spec.cluster_ips[0], "first value must match `clusterIP`");
    }
    if spec.cluster_ips.len() > 1 || spec.ip_families.iter().any(|f| f != "IPv4") {
        errors.invalid("spec.ipFamilies", spec.ip_families.join(","), "this cluster has IPv4 addresses only");
    }
}
