//! What a Service's EndpointSlices should be, and the fewest writes that make them so.
//!
//! An endpoint stays in the slice that it is in: a slice is what is sent to every node, so one pod
//! that comes or goes should change one slice and not shuffle all of them. Named ports are looked
//! up in each pod, so pods with different numbers behind one name are in different slices.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use skiff_client::Resource;
use skiff_client::driver::Plan;
use skiff_proto::IntOrString;
use skiff_proto::corev1::{ObjectReference, Service, ServicePort};
use skiff_proto::discoveryv1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use skiff_proto::metav1::ObjectMeta;

use crate::ownership::controller_reference;
use crate::pods::{PodView, protocol};

/// Which Service a slice is of.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Who made a slice.
pub const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
/// Us.
pub const MANAGER: &str = "endpointslice-controller.k8s.io";
/// Marks the slices of a Service without an address of its own.
pub const HEADLESS: &str = "service.kubernetes.io/headless";
/// A slice has no more endpoints.
pub const MAX_ENDPOINTS: usize = 100;

/// What there is to know about one Service's slices.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The Service; `None` if it is gone.
    pub service: Option<Arc<Service>>,
    /// The pods that its selector selects.
    pub pods: Vec<Arc<PodView>>,
    /// The zones of the nodes that are in one.
    pub zones: BTreeMap<String, String>,
    /// The slices that we have made for it.
    pub slices: Vec<Arc<EndpointSlice>>,
}

/// What can be done for a Service's slices.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Create a slice.
    Create(Box<EndpointSlice>),
    /// Give a slice these endpoints and labels.
    Update {
        /// As it shall be.
        slice: Box<EndpointSlice>,
        /// Labels that it has now and shall not have.
        dropped: BTreeSet<String>,
    },
    /// Delete a slice.
    Delete {
        /// Its name.
        name: String,
        /// Its uid.
        uid: String,
    },
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Create(slice) => write!(f, "create endpoint slice with {} endpoints", slice.endpoints.len()),
            Action::Update { slice, .. } => {
                write!(f, "update endpoint slice {} to {} endpoints", slice.metadata.name, slice.endpoints.len())
            }
            Action::Delete { name, .. } => write!(f, "delete endpoint slice {name}"),
        }
    }
}

/// The plan. What is created comes first and what is deleted last, so that no endpoint is missing in between.
pub fn plan(observed: &Observed) -> Plan<Action> {
    let mut plan = Plan::nothing();
    let service = observed.service.as_deref().filter(|s| has_slices(s));
    let Some(service) = service else {
        for slice in &observed.slices {
            plan.step(delete(slice), "its service is gone, or selects no pods any more");
        }
        return plan;
    };
    plan.input(Resource::of::<Service>().object(&service.metadata));
    let (mut created, mut updated, mut deleted) = (Vec::new(), Vec::new(), Vec::new());
    let mut wanted = wanted(service, observed);
    // A Service that selects no pods keeps one slice without endpoints: that it is known to be empty is worth knowing.
    if wanted.is_empty() {
        wanted.push((observed.slices.first().map(|s| s.ports.clone()).unwrap_or_default(), BTreeMap::new()));
    }
    let mut left: Vec<&Arc<EndpointSlice>> = observed.slices.iter().collect();
    for (ports, endpoints) in wanted {
        let (same, others) = left.into_iter().partition(|s| s.ports == ports && s.address_type == "IPv4");
        left = others;
        pack(service, &ports, endpoints, same, &mut created, &mut updated, &mut deleted);
    }
    deleted.extend(left.into_iter().map(delete));
    for action in created.into_iter().chain(updated).chain(deleted) {
        plan.step(action, "the pods behind the service have changed");
    }
    plan
}

/// Services with a selector have; those that are only another name for something don't.
pub fn has_slices(service: &Service) -> bool {
    !service.spec.selector.is_empty()
        && service.spec.r#type != "ExternalName"
        && service.metadata.deletion_timestamp.is_none()
}

type ByPod = BTreeMap<String, Endpoint>;

/// The endpoints (by pod uid) for each set of ports.
fn wanted(service: &Service, observed: &Observed) -> Vec<(Vec<EndpointPort>, ByPod)> {
    let mut wanted: Vec<(Vec<EndpointPort>, ByPod)> = Vec::new();
    for pod in observed.pods.iter().filter(|p| !p.ip.is_empty() && !p.is_finished()) {
        let ports: Vec<EndpointPort> = service.spec.ports.iter().filter_map(|p| resolve(p, pod)).collect();
        // It has none of the ports: nothing can be sent to it.
        if ports.is_empty() && !service.spec.ports.is_empty() {
            continue;
        }
        let endpoint = endpoint(service, pod, &observed.zones);
        match wanted.iter_mut().find(|(p, _)| *p == ports) {
            Some((_, group)) => {
                group.insert(pod.uid.clone(), endpoint);
            }
            None => wanted.push((ports, [(pod.uid.clone(), endpoint)].into())),
        }
    }
    wanted
}

/// A port of the Service as this pod has it.
fn resolve(port: &ServicePort, pod: &PodView) -> Option<EndpointPort> {
    let protocol = protocol(&port.protocol);
    let number = match &port.target_port {
        IntOrString::Int(0) => port.port,
        IntOrString::Int(number) => *number,
        IntOrString::Str(name) if name.is_empty() => port.port,
        IntOrString::Str(name) => pod.ports.iter().find(|p| &p.name == name && p.protocol == protocol)?.port,
    };
    Some(EndpointPort {
        name: Some(port.name.clone()),
        protocol: Some(protocol),
        port: Some(number),
        app_protocol: port.app_protocol.clone(),
    })
}

fn endpoint(service: &Service, pod: &PodView, zones: &BTreeMap<String, String>) -> Endpoint {
    let serving = pod.is_ready();
    let named = !pod.hostname.is_empty() && pod.subdomain == service.metadata.name;
    Endpoint {
        addresses: vec![pod.ip.clone()],
        conditions: EndpointConditions {
            ready: Some(service.spec.publish_not_ready_addresses || (serving && !pod.deleting)),
            serving: Some(serving),
            terminating: Some(pod.deleting),
        },
        hostname: named.then(|| pod.hostname.clone()),
        target_ref: Some(Box::new(ObjectReference {
            kind: "Pod".into(),
            namespace: pod.key.namespace.clone(),
            name: pod.key.name.clone(),
            uid: pod.uid.clone(),
            ..ObjectReference::default()
        })),
        node_name: (!pod.node.is_empty()).then(|| pod.node.clone()),
        zone: zones.get(&pod.node).cloned(),
        ..Endpoint::default()
    }
}

fn pod_of(endpoint: &Endpoint) -> &str {
    endpoint.target_ref.as_ref().map_or("", |r| &r.uid)
}

/// Puts the endpoints of one set of ports into its slices.
fn pack(
    service: &Service,
    ports: &[EndpointPort],
    mut endpoints: ByPod,
    slices: Vec<&Arc<EndpointSlice>>,
    created: &mut Vec<Action>,
    updated: &mut Vec<Action>,
    deleted: &mut Vec<Action>,
) {
    // What is in a slice stays there, as it is now.
    let mut kept: Vec<(&Arc<EndpointSlice>, Vec<Endpoint>)> = Vec::new();
    for slice in slices {
        let stay = slice.endpoints.iter().filter_map(|e| endpoints.remove(pod_of(e)));
        kept.push((slice, stay.take(MAX_ENDPOINTS).collect()));
    }
    // What is new goes where something changes anyway, the fullest first; then where there is room; then into new slices.
    let changes = |(slice, stay): &(&Arc<EndpointSlice>, Vec<Endpoint>)| slice.endpoints != *stay;
    kept.sort_by_key(|k| (!changes(k), std::cmp::Reverse(k.1.len())));
    let mut new: Vec<Endpoint> = endpoints.into_values().collect();
    for (_, stay) in &mut kept {
        let room = (MAX_ENDPOINTS - stay.len()).min(new.len());
        stay.extend(new.drain(..room));
    }
    for chunk in new.chunks(MAX_ENDPOINTS) {
        created.push(Action::Create(Box::new(make(service, ports, chunk.to_vec()))));
    }
    // The last slice of a Service stays, even if it is empty.
    let mut others = kept.iter().filter(|(_, e)| !e.is_empty()).count() + created.len();
    if kept.is_empty() && others == 0 {
        created.push(Action::Create(Box::new(make(service, ports, Vec::new()))));
    }
    for (slice, endpoints) in kept {
        if endpoints.is_empty() && others > 0 {
            deleted.push(delete(slice));
            continue;
        }
        others += 1;
        let labels = labels(service);
        if slice.endpoints != endpoints || slice.metadata.labels != labels {
            let mut update = EndpointSlice { endpoints, ..(**slice).clone() };
            update.metadata.labels = labels;
            let kept = &update.metadata.labels;
            let dropped = slice.metadata.labels.keys().filter(|l| !kept.contains_key(*l)).cloned().collect();
            updated.push(Action::Update { slice: Box::new(update), dropped });
        }
    }
}

fn delete(slice: &Arc<EndpointSlice>) -> Action {
    Action::Delete { name: slice.metadata.name.clone(), uid: slice.metadata.uid.clone() }
}

fn labels(service: &Service) -> BTreeMap<String, String> {
    let mut labels = service.metadata.labels.clone();
    labels.remove(HEADLESS);
    if service.spec.cluster_ip == "None" {
        labels.insert(HEADLESS.into(), String::new());
    }
    labels.insert(SERVICE_NAME.into(), service.metadata.name.clone());
    labels.insert(MANAGED_BY.into(), MANAGER.into());
    labels
}

fn make(service: &Service, ports: &[EndpointPort], endpoints: Vec<Endpoint>) -> EndpointSlice {
    EndpointSlice {
        metadata: ObjectMeta {
            generate_name: format!("{}-", service.metadata.name),
            namespace: service.metadata.namespace.clone(),
            labels: labels(service),
            owner_references: vec![controller_reference("v1", "Service", &service.metadata)],
            ..ObjectMeta::default()
        },
        address_type: "IPv4".into(),
        endpoints,
        ports: ports.to_vec(),
    }
}
