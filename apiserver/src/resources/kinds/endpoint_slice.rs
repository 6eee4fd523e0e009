//! EndpointSlice: where a Service's traffic may go.

use crate::resources::field_error::Errors;
use crate::resources::strategy::KindStrategy;
use crate::resources::validation::{self, child, index, one_of, port};
use skiff_proto::discoveryv1::EndpointSlice;
use std::collections::BTreeSet;
use std::net::IpAddr;

pub struct EndpointSliceStrategy;

/// An address that traffic may be sent to: never this machine itself, nor its link.
pub fn endpoint_ip(ip: &str, path: String, errors: &mut Errors) {
    let Ok(parsed) = ip.parse::<IpAddr>() else {
        errors.invalid(path, ip, "must be a valid IP address");
        return;
    };
    let why = match parsed {
        _ if parsed.is_unspecified() => "may not be unspecified (0.0.0.0 or ::)",
        _ if parsed.is_loopback() => "may not be in the loopback range (127.0.0.0/8, ::1/128)",
        IpAddr::V4(v4) if v4.is_link_local() => "may not be in the link-local range (169.254.0.0/16, fe80::/10)",
        IpAddr::V6(v6) if v6.is_unicast_link_local() => {
            "may not be in the link-local range (169.254.0.0/16, fe80::/10)"
        }
        _ if parsed.is_multicast() => "may not be in the multicast range (224.0.0.0/4, ff00::/8)",
        _ => return,
    };
    errors.invalid(path, ip, why);
}

impl KindStrategy for EndpointSliceStrategy {
    type Kind = EndpointSlice;
    const GENERATIONS: bool = true;

    fn default(&self, slice: &mut EndpointSlice) {
        for port in &mut slice.ports {
            port.name.get_or_insert_default();
            port.protocol.get_or_insert_with(|| "TCP".into());
        }
    }

    fn validate(&self, slice: &EndpointSlice) -> Errors {
        let mut errors = Errors::new();
        if slice.address_type.is_empty() {
            errors.required("addressType", "");
        } else {
            one_of(&slice.address_type, &["FQDN", "IPv4", "IPv6"], "addressType", &mut errors);
        }
        for (i, endpoint) in slice.endpoints.iter().enumerate() {
            let path = index("", "endpoints", i);
            if endpoint.addresses.is_empty() {
                errors.required(child(&path, "addresses"), "must contain at least 1 address");
            }
            for (j, address) in endpoint.addresses.iter().enumerate() {
                let path = index(&path, "addresses", j);
                match slice.address_type.as_str() {
                    "IPv4" | "IPv6" => {
                        endpoint_ip(address, path.clone(), &mut errors);
                        if address.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv4() != (slice.address_type == "IPv4")) {
                            errors.invalid(path, address, format!("must be an {} address", slice.address_type));
                        }
                    }
                    _ => {
                        for problem in validation::dns1123_subdomain(address) {
                            errors.invalid(path.clone(), address, problem);
                        }
                    }
                }
            }
        }
        let mut names = BTreeSet::new();
        for (i, p) in slice.ports.iter().enumerate() {
            let path = index("", "ports", i);
            let name = p.name.as_deref().unwrap_or_default();
            if !names.insert(name) {
                errors.duplicate(child(&path, "name"), name);
            }
            if !name.is_empty() {
                for problem in validation::dns1123_label(name) {
                    errors.invalid(child(&path, "name"), name, problem);
                }
            }
            if let Some(number) = p.port {
                port(i64::from(number), child(&path, "port"), &mut errors);
            }
            one_of(
                p.protocol.as_deref().unwrap_or("TCP"),
                &["SCTP", "TCP", "UDP"],
                child(&path, "protocol"),
                &mut errors,
            );
        }
        errors
    }

    fn validate_update(&self, new: &EndpointSlice, old: &EndpointSlice) -> Errors {
        let mut errors = Errors::new();
        if new.address_type != old.address_type {
            errors.invalid("addressType", &new.address_type, validation::IMMUTABLE);
        }
        errors
    }

    fn desired_changed(&self, new: &EndpointSlice, old: &EndpointSlice) -> bool {
        (&new.endpoints, &new.ports, &new.metadata.labels) != (&old.endpoints, &old.ports, &old.metadata.labels)
    }
}
