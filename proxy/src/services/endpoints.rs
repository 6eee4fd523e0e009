//! Which endpoints serve a port: ready ones; if there is none, those that still serve while they
//! terminate (a rolling update of a one-Pod Deployment would lose requests otherwise).

use std::collections::BTreeMap;

use super::{Backend, PortView, ServiceName, ServicePort, ServiceSpec, ServiceView, SliceSpec};

/// What all slices together say of one address and port. During a move an endpoint can stand in two
/// slices; the better word counts.
#[derive(Default)]
struct Merged {
    ready: bool,
    leaving: bool,
    local: bool,
}

/// Joins a Service with its slices, as seen from `node`.
pub fn view<'a>(
    name: &ServiceName,
    spec: &ServiceSpec,
    slices: impl IntoIterator<Item = &'a SliceSpec> + Clone,
    node: &str,
) -> ServiceView {
    let ports = spec.ports.iter().map(|port| port_view(port, slices.clone(), node)).collect();
    ServiceView {
        name: name.clone(),
        cluster_ip: spec.cluster_ip,
        affinity_seconds: spec.affinity_seconds,
        internal_local: spec.internal_local,
        external_local: spec.external_local,
        ports,
    }
}

fn port_view<'a>(port: &ServicePort, slices: impl IntoIterator<Item = &'a SliceSpec>, node: &str) -> PortView {
    let mut merged: BTreeMap<Backend, Merged> = BTreeMap::new();
    for slice in slices {
        let numbers = slice.ports.iter().filter(|p| p.name == port.name && p.protocol == port.protocol);
        for number in numbers {
            for endpoint in &slice.endpoints {
                let backend = Backend { address: endpoint.address, port: number.port };
                let entry = merged.entry(backend).or_default();
                entry.ready |= endpoint.ready && !endpoint.terminating;
                entry.leaving |= endpoint.serving && endpoint.terminating;
                entry.local |= !node.is_empty() && &*endpoint.node == node;
            }
        }
    }
    let mut here: Vec<_> = merged.iter().filter(|(_, m)| m.local).map(|(b, _)| b.address).collect();
    here.dedup();
    PortView { port: port.clone(), cluster: serving(&merged, |_| true), local: serving(&merged, |m| m.local), here }
}

/// The ready ones among those that count; if there is none, those that serve while leaving.
fn serving(all: &BTreeMap<Backend, Merged>, counts: impl Fn(&Merged) -> bool) -> Vec<Backend> {
    let pick = |wanted: fn(&Merged) -> bool| -> Vec<Backend> {
        all.iter().filter(|(_, m)| counts(m) && wanted(m)).map(|(b, _)| *b).collect()
    };
    let ready = pick(|m| m.ready);
    if ready.is_empty() { pick(|m| m.leaving) } else { ready }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services::{Endpoint, Protocol, SlicePort};

    fn endpoint(last: u8, state: &str, node: &str) -> Endpoint {
        let (ready, serving, terminating) = match state {
            "ready" => (true, true, false),
            "unready" => (false, false, false),
            "leaving" => (false, true, true),
            "gone" => (false, false, true),
            other => panic!("unknown state {other}"),
        };
        Endpoint { address: [10, 244, 0, last].into(), ready, serving, terminating, node: node.into() }
    }

    fn slice(port: &str, number: u16, endpoints: Vec<Endpoint>) -> SliceSpec {
        let ports = vec![SlicePort { name: port.into(), protocol: Protocol::Tcp, port: number }];
        SliceSpec { service: "web".into(), ports, endpoints }
    }

    fn seen(slices: &[SliceSpec]) -> PortView {
        let port = ServicePort { name: "http".into(), protocol: Protocol::Tcp, port: 80, node_port: None };
        let spec = ServiceSpec { ports: vec![port], ..ServiceSpec::default() };
        let name = ServiceName::new("default", "web");
        view(&name, &spec, slices, "here").ports.remove(0)
    }

    fn lasts(backends: &[Backend]) -> Vec<u8> {
        backends.iter().map(|b| b.address.octets()[3]).collect()
    }

    #[test]
    fn who_serves() {
        // (endpoints, serving in the cluster, serving under a local policy)
        type Case<'a> = (Vec<(u8, &'a str, &'a str)>, Vec<u8>, Vec<u8>);
        let table: Vec<Case> = vec![
            (vec![], vec![], vec![]),
            (vec![(2, "ready", "here"), (1, "ready", "there")], vec![1, 2], vec![2]),
            (vec![(1, "unready", "here"), (2, "ready", "there")], vec![2], vec![]),
            // Terminating ones serve only where no ready one does.
            (vec![(1, "leaving", "here"), (2, "ready", "there")], vec![2], vec![1]),
            (vec![(1, "leaving", "here"), (2, "leaving", "there")], vec![1, 2], vec![1]),
            (vec![(1, "gone", "here"), (2, "unready", "there")], vec![], vec![]),
            (vec![(1, "ready", "")], vec![1], vec![]),
        ];
        for (endpoints, cluster, local) in table {
            let list = endpoints.iter().map(|(l, s, n)| endpoint(*l, s, n)).collect();
            let port = seen(&[slice("http", 8080, list)]);
            assert_eq!(lasts(&port.cluster), cluster, "cluster, of {endpoints:?}");
            assert_eq!(lasts(&port.local), local, "local, of {endpoints:?}");
        }
    }

    #[test]
    fn ports_are_joined_by_name_across_slices() {
        let slices = [
            slice("http", 8080, vec![endpoint(1, "ready", "here")]),
            slice("http", 9090, vec![endpoint(2, "ready", "here")]),
            slice("metrics", 7070, vec![endpoint(3, "ready", "here")]),
        ];
        let port = seen(&slices);
        let got: Vec<String> = port.cluster.iter().map(ToString::to_string).collect();
        assert_eq!(got, ["10.244.0.1:8080", "10.244.0.2:9090"]);
    }

    #[test]
    fn an_endpoint_in_two_slices_counts_once_and_its_better_word_wins() {
        let slices = [
            slice("http", 8080, vec![endpoint(1, "unready", "here")]),
            slice("http", 8080, vec![endpoint(1, "ready", "here")]),
        ];
        assert_eq!(lasts(&seen(&slices).cluster), [1]);
    }

    #[test]
    fn an_unready_local_pod_is_still_here() {
        let port = seen(&[slice("http", 8080, vec![endpoint(1, "unready", "here")])]);
        assert_eq!(port.here.len(), 1);
    }
}
