//! Services and their endpoints as the proxy sees them: small plain data, no API types.
//!
//! `project.rs` cuts a Service or an EndpointSlice down to the few fields that rules are made of, and
//! refuses in words what the proxy cannot honour. `endpoints.rs` joins the two: which endpoints serve
//! which port. The result, a [`ServiceView`] for each Service, is the whole input of [`crate::rules`].

mod endpoints;
mod project;

use std::fmt;
use std::net::Ipv4Addr;

pub use endpoints::view;
pub use project::{project_service, project_slice};

/// Which Service: namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceName {
    /// The namespace it lives in.
    pub namespace: String,
    /// Its name there.
    pub name: String,
}

impl ServiceName {
    /// The Service `name` in `namespace`.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> ServiceName {
        ServiceName { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// The protocols a rule can be written for. SCTP is refused when a Service is projected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// As iptables and conntrack spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        }
    }

    /// Reads Kubernetes' spelling; an empty one is TCP.
    pub fn parse(text: &str) -> Option<Protocol> {
        match text {
            "" | "TCP" | "tcp" => Some(Protocol::Tcp),
            "UDP" | "udp" => Some(Protocol::Udp),
            _ => None,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What the proxy keeps of a Service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceSpec {
    /// The address it answers on; none for headless and ExternalName Services.
    pub cluster_ip: Option<Ipv4Addr>,
    /// Its ports, as far as the proxy serves them.
    pub ports: Vec<ServicePort>,
    /// `sessionAffinity: ClientIP`, and for how many seconds.
    pub affinity_seconds: Option<u32>,
    /// `internalTrafficPolicy: Local`.
    pub internal_local: bool,
    /// `externalTrafficPolicy: Local`.
    pub external_local: bool,
    /// What the Service asks for and does not get, in words, each once.
    pub refused: Vec<String>,
}

/// One port of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// Its name; empty where the Service has a single unnamed port.
    pub name: String,
    /// Its protocol.
    pub protocol: Protocol,
    /// Where the cluster address listens.
    pub port: u16,
    /// Where every node listens, if it does.
    pub node_port: Option<u16>,
}

/// What the proxy keeps of an EndpointSlice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SliceSpec {
    /// Name of the Service it belongs to, in its own namespace; empty if it says none.
    pub service: String,
    /// Ports by name, already resolved to numbers.
    pub ports: Vec<SlicePort>,
    /// The endpoints.
    pub endpoints: Vec<Endpoint>,
}

/// One port of an EndpointSlice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlicePort {
    /// The Service port it stands for, by name.
    pub name: String,
    /// Its protocol.
    pub protocol: Protocol,
    /// Where the endpoints listen.
    pub port: u16,
}

/// One endpoint of an EndpointSlice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The Pod's (or host's) address.
    pub address: Ipv4Addr,
    /// It should get traffic.
    pub ready: bool,
    /// It would answer, even if it is on its way out.
    pub serving: bool,
    /// It is on its way out.
    pub terminating: bool,
    /// The node it runs on; empty if unknown.
    pub node: Box<str>,
}

/// Where a packet may be sent: the end of every dispatch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Backend {
    /// The endpoint's address.
    pub address: Ipv4Addr,
    /// The endpoint's port.
    pub port: u16,
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.address, self.port)
    }
}

/// A Service joined with its endpoints, as one node sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceView {
    /// Which Service.
    pub name: ServiceName,
    /// Its cluster address, if it has one.
    pub cluster_ip: Option<Ipv4Addr>,
    /// `sessionAffinity: ClientIP`, and for how many seconds.
    pub affinity_seconds: Option<u32>,
    /// `internalTrafficPolicy: Local`.
    pub internal_local: bool,
    /// `externalTrafficPolicy: Local`.
    pub external_local: bool,
    /// Its ports with those who serve them.
    pub ports: Vec<PortView>,
}

/// One port of a Service and who serves it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortView {
    /// The port.
    pub port: ServicePort,
    /// Anywhere in the cluster, ascending.
    pub cluster: Vec<Backend>,
    /// On this node only, ascending: who serves under a Local traffic policy.
    pub local: Vec<Backend>,
    /// Every address of this port that is this node's own, serving now or not:
    /// who may talk to itself through the Service and needs a masquerade for it.
    pub here: Vec<Ipv4Addr>,
}
