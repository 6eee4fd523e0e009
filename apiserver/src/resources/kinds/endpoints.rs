//! Endpoints: the older form of EndpointSlices, kept for what still reads it.

use crate::resources::field_error::Errors;
use crate::resources::strategy::KindStrategy;
use crate::resources::validation::{child, index, one_of, port};
use skiff_proto::corev1::Endpoints;

pub struct EndpointsStrategy;

impl KindStrategy for EndpointsStrategy {
    type Kind = Endpoints;

    fn default(&self, endpoints: &mut Endpoints) {
        for port in endpoints.subsets.iter_mut().flat_map(|s| &mut s.ports) {
            if port.protocol.is_empty() {
                port.protocol = "TCP".into();
            }
        }
    }

    fn validate(&self, endpoints: &Endpoints) -> Errors {
        let mut errors = Errors::new();
        for (i, subset) in endpoints.subsets.iter().enumerate() {
            let path = index("", "subsets", i);
            let path = path.trim_start_matches('.');
            if subset.addresses.is_empty() && subset.not_ready_addresses.is_empty() {
                errors.required(path, "must specify `addresses` or `notReadyAddresses`");
            }
            for (field, list) in [("addresses", &subset.addresses), ("notReadyAddresses", &subset.not_ready_addresses)]
            {
                for (j, address) in list.iter().enumerate() {
                    super::endpoint_slice::endpoint_ip(&address.ip, child(&index(path, field, j), "ip"), &mut errors);
                }
            }
            for (j, p) in subset.ports.iter().enumerate() {
                let path = index(path, "ports", j);
                port(i64::from(p.port), child(&path, "port"), &mut errors);
                one_of(&p.protocol, &["SCTP", "TCP", "UDP"], child(&path, "protocol"), &mut errors);
            }
        }
        errors
    }
}
