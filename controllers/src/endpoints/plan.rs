//! What a Service's Endpoints should be: what its EndpointSlices say, in the older form.
//!
//! Everything is in one object, so it is cut off where it would become too large; whoever needs all reads the slices.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use skiff_client::driver::Plan;
use skiff_proto::corev1::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Service};
use skiff_proto::discoveryv1::{self, Endpoint, EndpointSlice};
use skiff_proto::metav1::ObjectMeta;

use crate::endpointslice::plan::{HEADLESS, has_slices};
use crate::pods::protocol;

/// Who made an Endpoints object.
pub const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
/// Us.
pub const MANAGER: &str = "endpoint-controller";
/// The annotation of an object that was cut off.
pub const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
/// No object has more addresses.
pub const MAX_ADDRESSES: usize = 1000;

/// What there is to know about one Service's Endpoints.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The Service; `None` if it is gone.
    pub service: Option<Arc<Service>>,
    /// The slices that were made for it.
    pub slices: Vec<Arc<EndpointSlice>>,
    /// The Endpoints of its name.
    pub endpoints: Option<Arc<Endpoints>>,
}

/// What can be done for a Service's Endpoints.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Create them.
    Create(Box<Endpoints>),
    /// Give them these subsets, labels and annotations.
    Update {
        /// As they shall be.
        wanted: Box<Endpoints>,
        /// Labels that they have now and shall not have.
        dropped: BTreeSet<String>,
    },
    /// Delete them.
    Delete {
        /// Their uid.
        uid: String,
    },
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Create(wanted) => write!(f, "create endpoints with {} addresses", size(wanted)),
            Action::Update { wanted, .. } => write!(f, "update endpoints to {} addresses", size(wanted)),
            Action::Delete { .. } => write!(f, "delete endpoints"),
        }
    }
}

/// The plan: at most one step.
pub fn plan(observed: &Observed) -> Plan<Action> {
    let mut plan = Plan::nothing();
    let now = observed.endpoints.as_deref().filter(|e| e.metadata.deletion_timestamp.is_none());
    let Some(service) = observed.service.as_deref() else {
        if let Some(ours) = now.filter(|e| e.metadata.labels.get(MANAGED_BY).is_some_and(|m| m == MANAGER)) {
            plan.step(Action::Delete { uid: ours.metadata.uid.clone() }, "its service is gone");
        }
        return plan;
    };
    // Those of a Service that selects nothing are somebody else's. Where there is no slice yet there will be one,
    // if only an empty one: until then nothing is known.
    if !has_slices(service) || observed.slices.is_empty() || (observed.endpoints.is_some() && now.is_none()) {
        return plan;
    }
    let (subsets, truncated) = truncate(subsets(&observed.slices));
    let Some(now) = now else {
        let mut metadata = ObjectMeta {
            name: service.metadata.name.clone(),
            namespace: service.metadata.namespace.clone(),
            labels: labels(service),
            ..ObjectMeta::default()
        };
        mark(&mut metadata, truncated);
        let wanted = Endpoints { metadata, subsets };
        plan.step(Action::Create(Box::new(wanted)), "the service has no endpoints object");
        return plan;
    };
    let mut wanted = Endpoints { subsets, ..now.clone() };
    wanted.metadata.labels = labels(service);
    mark(&mut wanted.metadata, truncated);
    if wanted != *now {
        let kept = &wanted.metadata.labels;
        let dropped = now.metadata.labels.keys().filter(|l| !kept.contains_key(*l)).cloned().collect();
        let action = Action::Update { wanted: Box::new(wanted), dropped };
        plan.step(action, "the service's endpoint slices or labels have changed");
    }
    plan
}

/// Says whether it was cut off.
fn mark(metadata: &mut ObjectMeta, truncated: bool) {
    metadata.annotations.remove(OVER_CAPACITY);
    if truncated {
        metadata.annotations.insert(OVER_CAPACITY.into(), "truncated".into());
    }
}

fn labels(service: &Service) -> BTreeMap<String, String> {
    let mut labels = service.metadata.labels.clone();
    labels.remove(HEADLESS);
    if service.spec.cluster_ip == "None" {
        labels.insert(HEADLESS.into(), String::new());
    }
    labels.insert(MANAGED_BY.into(), MANAGER.into());
    labels
}

fn size(endpoints: &Endpoints) -> usize {
    endpoints.subsets.iter().map(|s| s.addresses.len() + s.not_ready_addresses.len()).sum()
}

/// The addresses behind one set of ports and whether they are ready, by number and Pod: so the order of slices says
/// nothing, and no address comes twice.
type Group = BTreeMap<(Option<IpAddr>, String), (bool, EndpointAddress)>;

/// One subset for each set of ports. A Pod that is ending and not ready any more is in none.
fn subsets(slices: &[Arc<EndpointSlice>]) -> Vec<EndpointSubset> {
    let mut groups: BTreeMap<Vec<PortKey>, Group> = BTreeMap::new();
    for slice in slices.iter().filter(|s| s.address_type == "IPv4") {
        let mut ports: Vec<PortKey> = slice.ports.iter().map(port_key).collect();
        ports.sort();
        for endpoint in &slice.endpoints {
            let ready = endpoint.conditions.ready != Some(false);
            if !ready && endpoint.conditions.terminating == Some(true) {
                continue;
            }
            let group = groups.entry(ports.clone()).or_default();
            for ip in &endpoint.addresses {
                let of = group.entry((ip.parse().ok(), uid(endpoint).to_owned()));
                // While an endpoint moves from one slice to another, both may have it.
                of.and_modify(|known| known.0 &= ready).or_insert_with(|| (ready, address(endpoint, ip)));
            }
        }
    }
    let subset = |(ports, group): (Vec<PortKey>, Group)| {
        let (ready, not_ready): (Vec<_>, Vec<_>) = group.into_values().partition(|(ready, _)| *ready);
        let addresses = |list: Vec<(bool, EndpointAddress)>| list.into_iter().map(|(_, address)| address).collect();
        EndpointSubset {
            addresses: addresses(ready),
            not_ready_addresses: addresses(not_ready),
            ports: ports.into_iter().map(port).collect(),
        }
    };
    groups.into_iter().map(subset).collect()
}

/// Name, number, protocol, what is spoken over it.
type PortKey = (String, i32, String, Option<String>);

fn port_key(port: &discoveryv1::EndpointPort) -> PortKey {
    let name = port.name.clone().unwrap_or_default();
    (name, port.port.unwrap_or(0), protocol(port.protocol.as_deref().unwrap_or("")), port.app_protocol.clone())
}

fn port((name, port, protocol, app_protocol): PortKey) -> EndpointPort {
    EndpointPort { name, port, protocol, app_protocol }
}

fn uid(endpoint: &Endpoint) -> &str {
    endpoint.target_ref.as_ref().map_or("", |r| &r.uid)
}

fn address(endpoint: &Endpoint, ip: &str) -> EndpointAddress {
    EndpointAddress {
        ip: ip.to_owned(),
        hostname: endpoint.hostname.clone().unwrap_or_default(),
        node_name: endpoint.node_name.clone(),
        target_ref: endpoint.target_ref.clone(),
    }
}

/// At most so many addresses, those that are ready first. Says whether some are missing.
fn truncate(mut subsets: Vec<EndpointSubset>) -> (Vec<EndpointSubset>, bool) {
    let mut room = MAX_ADDRESSES;
    let mut truncated = false;
    let mut cut = |addresses: &mut Vec<EndpointAddress>| {
        truncated |= addresses.len() > room;
        addresses.truncate(room);
        room -= addresses.len();
    };
    subsets.iter_mut().for_each(|s| cut(&mut s.addresses));
    subsets.iter_mut().for_each(|s| cut(&mut s.not_ready_addresses));
    subsets.retain(|s| !s.addresses.is_empty() || !s.not_ready_addresses.is_empty());
    (subsets, truncated)
}
