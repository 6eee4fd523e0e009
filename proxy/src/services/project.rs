//! Cuts API objects down to what rules are made of, and says in words what the proxy cannot honour.

use std::net::Ipv4Addr;

use skiff_proto::corev1::Service;
use skiff_proto::discoveryv1::EndpointSlice;

use super::{Endpoint, Protocol, ServicePort, ServiceSpec, SlicePort, SliceSpec};

/// The label by which a slice names its Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// How long a client is remembered if the Service does not say: Kubernetes' three hours.
const DEFAULT_AFFINITY_SECONDS: i32 = 10_800;

/// What the proxy keeps of a Service.
pub fn project_service(service: &Service) -> ServiceSpec {
    let spec = &service.spec;
    let mut out = ServiceSpec::default();
    if spec.r#type == "ExternalName" {
        return out;
    }
    out.cluster_ip = match spec.cluster_ip.as_str() {
        "" | "None" => None,
        text => match text.parse::<Ipv4Addr>().ok().filter(|a| usable(*a)) {
            Some(address) => Some(address),
            None => {
                out.refused.push(format!("clusterIP {text:?}: the proxy serves IPv4 unicast addresses only"));
                None
            }
        },
    };
    if out.cluster_ip.is_none() {
        return out; // headless: clients find the Pods themselves
    }
    for port in &spec.ports {
        let Some(protocol) = Protocol::parse(&port.protocol) else {
            out.refused.push(format!("port {}: the proxy serves TCP and UDP, not {}", port.port, port.protocol));
            continue;
        };
        let Some(number) = port_number(port.port) else {
            out.refused.push(format!("port {}: not within 1 to 65535", port.port));
            continue;
        };
        let node_port = port_number(port.node_port);
        out.ports.push(ServicePort { name: port.name.clone(), protocol, port: number, node_port });
    }
    if spec.session_affinity == "ClientIP" {
        let asked = spec.session_affinity_config.as_ref().and_then(|c| c.client_ip.as_ref()?.timeout_seconds);
        let seconds = asked.filter(|s| *s > 0).unwrap_or(DEFAULT_AFFINITY_SECONDS);
        out.affinity_seconds = Some(seconds.unsigned_abs());
    }
    out.internal_local = spec.internal_traffic_policy.as_deref() == Some("Local");
    out.external_local = spec.external_traffic_policy == "Local";
    if !spec.external_ips.is_empty() {
        out.refused.push("externalIPs: off, since they let a Service take over anybody's address".to_owned());
    }
    out
}

/// What the proxy keeps of an EndpointSlice.
pub fn project_slice(slice: &EndpointSlice) -> SliceSpec {
    let service = slice.metadata.labels.get(SERVICE_NAME).cloned().unwrap_or_default();
    if slice.address_type != "IPv4" {
        return SliceSpec { service, ..SliceSpec::default() };
    }
    let ports = slice.ports.iter().filter_map(|port| {
        Some(SlicePort {
            name: port.name.clone().unwrap_or_default(),
            protocol: Protocol::parse(port.protocol.as_deref().unwrap_or_default())?,
            port: port_number(port.port?)?,
        })
    });
    let endpoints = slice.endpoints.iter().flat_map(|endpoint| {
        let conditions = &endpoint.conditions;
        // Not said means ready; serving follows ready; terminating must be said.
        let ready = conditions.ready.unwrap_or(true);
        let node = endpoint.node_name.as_deref().unwrap_or_default();
        // The first address is the endpoint; more than one has no meaning.
        endpoint.addresses.first().and_then(|text| text.parse().ok()).filter(|a| usable(*a)).map(|address| Endpoint {
            address,
            ready,
            serving: conditions.serving.unwrap_or(ready),
            terminating: conditions.terminating.unwrap_or(false),
            node: node.into(),
        })
    });
    SliceSpec { service, ports: ports.collect(), endpoints: endpoints.collect() }
}

/// An address that packets may be sent to on somebody's word. Loopback and link-local ones are not: they would
/// lead to what a node keeps to itself.
fn usable(address: Ipv4Addr) -> bool {
    !(address.is_unspecified()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_broadcast())
}

fn port_number(number: i32) -> Option<u16> {
    u16::try_from(number).ok().filter(|n| *n > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn service(spec: serde_json::Value) -> ServiceSpec {
        let object = json!({"kind": "Service", "apiVersion": "v1", "metadata": {"name": "web"}, "spec": spec});
        project_service(&serde_json::from_value(object).expect("a Service"))
    }

    #[test]
    fn a_service_keeps_what_rules_need() {
        let got = service(json!({
            "clusterIP": "10.96.0.10", "type": "NodePort", "sessionAffinity": "ClientIP",
            "internalTrafficPolicy": "Local", "externalTrafficPolicy": "Local",
            "ports": [
                {"name": "http", "port": 80, "nodePort": 30080, "targetPort": "web"},
                {"name": "dns", "port": 53, "protocol": "UDP"},
            ],
        }));
        assert_eq!(got.cluster_ip, Some([10, 96, 0, 10].into()));
        assert_eq!(got.affinity_seconds, Some(10_800));
        assert!(got.internal_local && got.external_local && got.refused.is_empty());
        let ports: Vec<_> = got.ports.iter().map(|p| (p.protocol, p.port, p.node_port)).collect();
        assert_eq!(ports, [(Protocol::Tcp, 80, Some(30080)), (Protocol::Udp, 53, None)]);
    }

    #[test]
    fn headless_and_external_names_have_no_rules() {
        for spec in [
            json!({"clusterIP": "None", "ports": [{"port": 80}]}),
            json!({"clusterIP": "", "ports": [{"port": 80}]}),
            json!({"type": "ExternalName", "externalName": "example.org", "clusterIP": "10.96.0.1"}),
        ] {
            assert_eq!(service(spec), ServiceSpec::default());
        }
    }

    #[test]
    fn what_is_not_served_is_said() {
        let ports = json!([{"port": 80}, {"port": 9999, "protocol": "SCTP"}, {"port": 70000}]);
        let got = service(json!({"clusterIP": "10.96.0.1", "externalIPs": ["1.2.3.4"], "ports": ports}));
        assert_eq!(got.ports.len(), 1);
        let words = got.refused.join("; ");
        for wanted in ["9999", "SCTP", "70000", "externalIPs"] {
            assert!(words.contains(wanted), "{wanted} in {words}");
        }
        for address in ["fd00::1", "127.0.0.1", "nonsense"] {
            let got = service(json!({"clusterIP": address, "ports": [{"port": 80}]}));
            assert!(got.cluster_ip.is_none() && got.refused[0].contains(address), "{got:?}");
        }
    }

    fn slice(object: serde_json::Value) -> SliceSpec {
        project_slice(&serde_json::from_value(object).expect("an EndpointSlice"))
    }

    #[test]
    fn unsaid_conditions_mean_ready() {
        let got = slice(json!({
            "kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1", "addressType": "IPv4",
            "metadata": {"name": "web-x", "labels": {SERVICE_NAME: "web"}},
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}, {"name": "any"}],
            "endpoints": [
                {"addresses": ["10.244.0.2"], "nodeName": "n1"},
                {"addresses": ["10.244.0.3"], "conditions": {"ready": false}},
                {"addresses": ["10.244.0.4"], "conditions": {"ready": false, "serving": true, "terminating": true}},
            ],
        }));
        assert_eq!((got.service.as_str(), got.ports.len()), ("web", 1));
        let states: Vec<_> = got.endpoints.iter().map(|e| (e.ready, e.serving, e.terminating)).collect();
        assert_eq!(states, [(true, true, false), (false, false, false), (false, true, true)]);
        assert_eq!(&*got.endpoints[0].node, "n1");
    }

    #[test]
    fn addresses_of_the_node_itself_are_no_endpoints() {
        let endpoints: Vec<_> = ["127.0.0.1", "169.254.169.254", "0.0.0.0", "224.0.0.1", "x", "10.244.0.9"]
            .map(|address| json!({"addresses": [address]}))
            .into();
        let got = slice(json!({
            "kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1", "addressType": "IPv4",
            "metadata": {"name": "x"}, "endpoints": endpoints,
        }));
        let addresses: Vec<_> = got.endpoints.iter().map(|e| e.address.to_string()).collect();
        assert_eq!(addresses, ["10.244.0.9"]);
    }

    #[test]
    fn slices_of_other_families_are_empty() {
        let got = slice(json!({
            "kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1", "addressType": "IPv6",
            "metadata": {"name": "x"}, "endpoints": [{"addresses": ["fd00::1"]}],
        }));
        assert!(got.endpoints.is_empty());
    }
}
