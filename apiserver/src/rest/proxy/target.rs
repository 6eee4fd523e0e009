//! Which Pod and port a proxied request is for: pure functions over what it names and what there is.

use crate::registry::{ApiError, ApiResult};
use skiff_proto::corev1::{Pod, Service};
use skiff_proto::discoveryv1::EndpointSlice;
use std::net::IpAddr;

/// How the Pod is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// In the clear.
    Http,
    /// Over TLS; whose certificate it is, is not looked at.
    Https,
}

/// What `[scheme:]name[:port]` says.
#[derive(Debug, PartialEq, Eq)]
pub struct Named<'a> {
    /// `http` where nothing is said.
    pub scheme: Scheme,
    /// The object.
    pub name: &'a str,
    /// A number or a name; may be empty.
    pub port: &'a str,
}

/// Reads `[scheme:]name[:port]`.
pub fn parse(text: &str) -> Option<Named<'_>> {
    let parts: Vec<&str> = text.split(':').collect();
    let (scheme, name, port) = match parts[..] {
        [name] => ("", name, ""),
        [name, port] => ("", name, port),
        [scheme, name, port] => (scheme, name, port),
        _ => return None,
    };
    let scheme = match scheme {
        "" | "http" => Scheme::Http,
        "https" => Scheme::Https,
        _ => return None,
    };
    (!name.is_empty()).then_some(Named { scheme, name, port })
}

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The node whose kubelet has the Pod.
    pub node: String,
    /// The Pod's namespace.
    pub namespace: String,
    /// The Pod.
    pub pod: String,
    /// This incarnation.
    pub uid: String,
    /// As the Pod is called in the request: its address and port.
    pub host: String,
    /// The port.
    pub port: u16,
    /// How it is spoken to.
    pub scheme: Scheme,
}

/// A Pod by its own name: the port asked for, or its first.
pub fn of_pod(pod: &Pod, named: &Named<'_>) -> ApiResult<Target> {
    let mut ports = pod.spec.containers.iter().flat_map(|container| &container.ports);
    let port = match named.port {
        "" => ports.next().map_or(if named.scheme == Scheme::Https { 443 } else { 80 }, |port| port.container_port),
        text => match text.parse::<i32>() {
            Ok(number) => number,
            Err(_) => ports.find(|port| port.name == text).map(|port| port.container_port).ok_or_else(|| {
                ApiError::bad_request(format!("pod {:?} has no port named {text:?}", pod.metadata.name))
            })?,
        },
    };
    at(pod, port, named.scheme)
}

/// A port of a Pod.
pub fn at(pod: &Pod, port: i32, scheme: Scheme) -> ApiResult<Target> {
    let name = &pod.metadata.name;
    let number = u16::try_from(port)
        .ok()
        .filter(|port| *port > 0)
        .ok_or_else(|| ApiError::bad_request(format!("{port} is not a port: it must be between 1 and 65535")))?;
    if pod.spec.node_name.is_empty() {
        return Err(ApiError::bad_request(format!("pod {name} does not have a host assigned")));
    }
    let Ok(ip) = pod.status.pod_ip.parse::<IpAddr>() else {
        return Err(ApiError::unavailable(format!("pod {name} has no address yet; it is {}", phase(pod))));
    };
    if !may_be_reached(ip) {
        return Err(ApiError::bad_request(format!("address not allowed: {ip} of pod {name}")));
    }
    Ok(Target {
        node: pod.spec.node_name.clone(),
        namespace: pod.metadata.namespace.clone(),
        pod: name.clone(),
        uid: pod.metadata.uid.clone(),
        host: std::net::SocketAddr::new(ip, number).to_string(),
        port: number,
        scheme,
    })
}

fn phase(pod: &Pod) -> &str {
    if pod.status.phase.is_empty() { "Pending" } else { &pod.status.phase }
}

/// Whether an address can be a Pod's: none of a machine's own, of a link's own, or of no machine at all.
fn may_be_reached(ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    let link_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    !(ip.is_loopback() || ip.is_unspecified() || ip.is_multicast() || link_local)
}

/// The name that a Service's port has in its EndpointSlices.
pub fn service_port(service: &Service, named: &Named<'_>) -> ApiResult<String> {
    let (name, ports) = (&service.metadata.name, &service.spec.ports);
    match (named.port, ports.as_slice()) {
        ("", [only]) => Ok(only.name.clone()),
        ("", several) if several.iter().any(|port| port.name.is_empty()) => Ok(String::new()),
        ("", several) => {
            let names: Vec<&str> = several.iter().map(|port| port.name.as_str()).collect();
            Err(ApiError::unavailable(format!(
                "no endpoints available for service {name:?}: name one of its ports: {}",
                names.join(", ")
            )))
        }
        (text, all) => match text.parse::<i32>() {
            Ok(number) => {
                all.iter().find(|port| port.port == number).map(|port| port.name.clone()).ok_or_else(|| {
                    ApiError::unavailable(format!("no service port {number} found for service {name:?}"))
                })
            }
            Err(_) => Ok(text.into()),
        },
    }
}

/// A Pod that is ready behind a Service.
#[derive(Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Its name.
    pub pod: String,
    /// The port at which it serves.
    pub port: i32,
}

/// The ready Pods behind a port. Only Pods of the Service's own namespace: whoever may write EndpointSlices may not reach
/// with them what is not theirs.
pub fn ready(slices: &[EndpointSlice], port: &str, namespace: &str) -> Vec<Endpoint> {
    let mut all = Vec::new();
    for slice in slices {
        let Some(number) =
            slice.ports.iter().find(|p| p.name.as_deref().unwrap_or_default() == port).and_then(|p| p.port)
        else {
            continue;
        };
        for endpoint in slice.endpoints.iter().filter(|endpoint| endpoint.conditions.ready != Some(false)) {
            let pod = endpoint.target_ref.as_ref().filter(|to| to.kind == "Pod" && to.namespace == namespace);
            all.extend(pod.map(|pod| Endpoint { pod: pod.name.clone(), port: number }));
        }
    }
    all
}

/// No Pod is ready behind a Service's port.
pub fn nobody(service: &str, port: &str) -> ApiError {
    let of = if port.is_empty() { String::new() } else { format!(" at its port {port:?}") };
    ApiError::unavailable(format!("no endpoints available for service {service:?}: no Pod behind it is ready{of}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use skiff_proto::json::{Strictness, decode_value};

    fn pod(ip: &str) -> Pod {
        let tree = json!({
            "metadata": {"name": "p", "namespace": "n", "uid": "u"},
            "spec": {"nodeName": "node-1", "containers": [
                {"name": "a"}, {"name": "b", "ports": [{"containerPort": 8080}, {"name": "web", "containerPort": 8443}]},
            ]},
            "status": {"podIP": ip},
        });
        decode_value(&tree, Strictness::Strict).expect("a Pod").0
    }

    #[test]
    fn scheme_name_and_port_are_told_apart() {
        use Scheme::{Http, Https};
        let named = |scheme, name, port| Some(Named { scheme, name, port });
        for (text, wanted) in [
            ("web", named(Http, "web", "")),
            ("web:80", named(Http, "web", "80")),
            ("web:http", named(Http, "web", "http")),
            ("https:web:", named(Https, "web", "")),
            ("https:web:443", named(Https, "web", "443")),
            ("http:web:x", named(Http, "web", "x")),
            (":web:x", named(Http, "web", "x")),
            ("", None),
            (":80", None),
            ("ftp:web:21", None),
            ("a:b:c:d", None),
        ] {
            assert_eq!(parse(text), wanted, "{text}");
        }
    }

    #[test]
    fn a_pod_is_reached_at_the_port_asked_for_or_its_first() {
        for (asked, wanted) in [
            ("p", Ok(8080)),
            ("p:9", Ok(9)),
            ("p:web", Ok(8443)),
            ("https:p:web", Ok(8443)),
            ("p:none", Err(400)),
            ("p:0", Err(400)),
            ("p:70000", Err(400)),
        ] {
            let named = parse(asked).expect(asked);
            let got = of_pod(&pod("10.0.0.1"), &named);
            assert_eq!(got.as_ref().map(|t| t.port).map_err(ApiError::code), wanted, "{asked}");
            if let Ok(target) = got {
                assert_eq!((target.scheme, target.host), (named.scheme, format!("10.0.0.1:{}", target.port)));
            }
        }
    }

    #[test]
    fn no_address_of_a_machine_or_a_link_is_reached() {
        for (ip, code) in [
            ("127.0.0.1", 400),
            ("127.8.8.8", 400),
            ("169.254.169.254", 400),
            ("0.0.0.0", 400),
            ("224.0.0.1", 400),
            ("255.255.255.255", 400),
            ("::1", 400),
            ("fe80::1", 400),
            ("::ffff:127.0.0.1", 400),
            ("", 503),
            ("localhost", 503),
        ] {
            let named = parse("p").expect("a name");
            assert_eq!(of_pod(&pod(ip), &named).map_err(|e| e.code()), Err(code), "{ip}");
        }
        assert!(of_pod(&pod("fd00::1"), &parse("p").expect("a name")).is_ok_and(|t| t.host == "[fd00::1]:8080"));
    }

    #[test]
    fn a_service_is_its_ready_pods_of_its_own_namespace() {
        let slice = json!({
            "addressType": "IPv4",
            "ports": [{"name": "web", "port": 8080}, {"name": "other", "port": 9}],
            "endpoints": [
                {"addresses": ["10.0.0.1"], "conditions": {"ready": true}, "targetRef": {"kind": "Pod", "name": "a", "namespace": "n"}},
                {"addresses": ["10.0.0.2"], "conditions": {"ready": false}, "targetRef": {"kind": "Pod", "name": "b", "namespace": "n"}},
                {"addresses": ["10.0.0.3"], "conditions": {}, "targetRef": {"kind": "Pod", "name": "c", "namespace": "n"}},
                {"addresses": ["10.0.0.4"], "conditions": {}, "targetRef": {"kind": "Pod", "name": "d", "namespace": "elsewhere"}},
                {"addresses": ["127.0.0.1"], "conditions": {}},
            ],
        });
        let slice: EndpointSlice = decode_value(&slice, Strictness::Strict).expect("a slice").0;
        let names =
            |port| ready(std::slice::from_ref(&slice), port, "n").into_iter().map(|e| format!("{}:{}", e.pod, e.port));
        assert_eq!(names("web").collect::<Vec<_>>(), ["a:8080", "c:8080"]);
        assert_eq!(names("none").count(), 0);

        let service = |ports| -> Service {
            let tree = json!({"metadata": {"name": "s"}, "spec": {"ports": ports}});
            decode_value(&tree, Strictness::Strict).expect("a Service").0
        };
        let one = service(json!([{"name": "web", "port": 80}]));
        let two = service(json!([{"name": "web", "port": 80}, {"name": "other", "port": 81}]));
        for (service, asked, wanted) in [
            (&one, "s", Ok("web")),
            (&one, "s:80", Ok("web")),
            (&one, "s:81", Err(503)),
            (&two, "s", Err(503)),
            (&two, "s:81", Ok("other")),
            (&two, "s:web", Ok("web")),
        ] {
            let got = service_port(service, &parse(asked).expect(asked));
            assert_eq!(got.as_deref().map_err(ApiError::code), wanted, "{asked}");
        }
    }
}
