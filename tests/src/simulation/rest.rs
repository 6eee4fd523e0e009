//! The cluster at rest: whether everything that was asked for is there, and nothing else, down to the containers and
//! the packets. What is found has no generated names in it, so that runs can be compared.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use skiff_client::{Api, Client, ListOptions};
use skiff_proto::Kind;
use skiff_proto::appsv1::{Deployment, ReplicaSet};
use skiff_proto::corev1::{Endpoints, Node, Pod, Service};
use skiff_proto::discoveryv1::EndpointSlice;
use skiff_proxy::packet::{self, From, Packet, Verdict};
use skiff_proxy::services::Protocol;

use super::cluster::{MOST_PODS, SimulatedNode};
use super::script::{Wanted, Wish};
use super::user::NAMESPACE;

/// Once all faults are over, what is there is what was asked for.
pub const END: &str = "the end is the one that was asked for";
/// Once all faults are over, nobody has anything left to do.
pub const DRAINED: &str = "every queue drains";
/// A Pod without a node says why.
pub const REASON: &str = "every pending Pod has a reason";

/// What a cluster at rest looks like, line by line.
pub type Picture = BTreeSet<String>;

/// Everything that the API server has.
pub struct Listing {
    deployments: Vec<Deployment>,
    sets: Vec<ReplicaSet>,
    pods: Vec<Pod>,
    services: Vec<Service>,
    slices: Vec<EndpointSlice>,
    endpoints: Vec<Endpoints>,
    nodes: Vec<Node>,
}

async fn all<K: Kind>(client: &Client, namespace: &str) -> Result<Vec<K>, String> {
    match Api::<K>::new(client).list(namespace, &ListOptions::default()).await {
        Ok(list) => Ok(list.items),
        Err(error) => Err(format!("{END}: cannot list {}: {error}", K::RESOURCE)),
    }
}

impl Listing {
    /// Asks for everything.
    pub async fn take(client: &Client) -> Result<Listing, String> {
        Ok(Listing {
            deployments: all(client, NAMESPACE).await?,
            sets: all(client, NAMESPACE).await?,
            pods: all(client, NAMESPACE).await?,
            services: all(client, NAMESPACE).await?,
            slices: all(client, NAMESPACE).await?,
            endpoints: all(client, NAMESPACE).await?,
            nodes: all(client, "").await?,
        })
    }

    /// The picture, or what is not as it should be.
    pub fn picture(&self, wanted: &Wanted, nodes: &[SimulatedNode]) -> Result<Picture, Vec<String>> {
        let mut wrong = Vec::new();
        let mut picture = Picture::new();
        self.check_names(wanted, &mut wrong);
        for wish in wanted.deployments.values() {
            self.check_deployment(wish, &mut wrong);
            picture.insert(format!("{}: {} of {}", wish.name, wish.replicas, wish.image));
        }
        self.check_pods(wanted, &mut wrong);
        for name in &wanted.asked {
            picture.extend(self.check_waiting(name, &mut wrong));
        }
        for name in &wanted.services {
            let endpoints = self.check_service(name, nodes, &mut wrong);
            picture.insert(format!("service {name}: {endpoints} endpoints"));
        }
        for node in nodes {
            self.check_node(node, &mut wrong);
        }
        picture.insert(format!("{} nodes", self.nodes.len()));
        if wrong.is_empty() {
            return Ok(picture);
        }
        let named = |what: String| if what.starts_with(REASON) { what } else { format!("{END}: {what}") };
        Err(wrong.into_iter().map(named).collect())
    }

    fn check_names(&self, wanted: &Wanted, wrong: &mut Vec<String>) {
        let there: BTreeSet<&str> = self.deployments.iter().map(|d| d.metadata.name.as_str()).collect();
        let asked: BTreeSet<&str> = wanted.deployments.keys().map(String::as_str).collect();
        same("Deployments", &there, &asked, wrong);
        let there: BTreeSet<&str> =
            self.services.iter().map(|s| s.metadata.name.as_str()).filter(|name| *name != "kubernetes").collect();
        let asked: BTreeSet<&str> = wanted.services.iter().map(String::as_str).collect();
        same("Services", &there, &asked, wrong);
        let there: BTreeSet<&str> =
            self.endpoints.iter().map(|e| e.metadata.name.as_str()).filter(|name| *name != "kubernetes").collect();
        same("Endpoints", &there, &asked, wrong);
    }

    fn check_deployment(&self, wish: &Wish, wrong: &mut Vec<String>) {
        let name = &wish.name;
        let Some(deployment) = self.deployments.iter().find(|d| d.metadata.name == *name) else { return };
        let status = &deployment.status;
        let counts = [status.replicas, status.updated_replicas, status.ready_replicas, status.available_replicas];
        if deployment.spec.replicas != Some(wish.replicas) || image(&deployment.spec.template.spec) != wish.image {
            wrong.push(format!("{name}: somebody changed its spec back"));
        }
        if status.observed_generation != deployment.metadata.generation || counts != [wish.replicas; 4] {
            wrong.push(format!("{name}: wants {}, its status says {counts:?}", wish.replicas));
        }
        let sets: Vec<&ReplicaSet> =
            self.sets.iter().filter(|set| owner(&set.metadata) == Some(&deployment.metadata.uid)).collect();
        for set in &sets {
            let current = image(&set.spec.template.spec) == wish.image;
            let size = if current { wish.replicas } else { 0 };
            if set.spec.replicas != Some(size) || set.status.replicas != size || set.status.ready_replicas != size {
                wrong.push(format!("{name}: {} is not of the size {size}", set.metadata.name));
            }
        }
        let current = sets.iter().filter(|set| image(&set.spec.template.spec) == wish.image).count();
        if current != 1 {
            wrong.push(format!("{name}: {current} ReplicaSets of its template"));
        }
    }

    /// A Pod that no node can take waits, and says why.
    fn check_waiting(&self, name: &str, wrong: &mut Vec<String>) -> Option<String> {
        let pod = self.pods.iter().find(|pod| pod.metadata.name == name)?;
        let why = pod.status.conditions.iter().find(|c| c.r#type == "PodScheduled" && c.status == "False");
        let (reason, message) = why.map_or(("", ""), |c| (c.reason.as_str(), c.message.as_str()));
        let true_now = self.too_large();
        if !pod.spec.node_name.is_empty() || reason != "Unschedulable" || !message.starts_with(&true_now) {
            wrong.push(format!("{REASON}: {name} on {:?}: {reason:?}, {message:?}", pod.spec.node_name));
        }
        Some(format!("{name} waits"))
    }

    /// What is to be said of a Pod that is too large for any node: of every node, and of nothing that is over.
    fn too_large(&self) -> String {
        let runs = |pod: &&Pod| !matches!(pod.status.phase.as_str(), "Succeeded" | "Failed");
        let on = |node: &Node| {
            self.pods.iter().filter(runs).filter(|pod| pod.spec.node_name == node.metadata.name).count() as i64
        };
        let nodes = self.nodes.len();
        let mut reasons = vec![format!("{nodes} Insufficient cpu")];
        match self.nodes.iter().filter(|node| on(node) >= MOST_PODS).count() {
            0 => {}
            full => reasons.push(format!("{full} Too many pods")),
        }
        reasons.sort();
        format!("0/{nodes} nodes are available: {}.", reasons.join(", "))
    }

    fn check_pods(&self, wanted: &Wanted, wrong: &mut Vec<String>) {
        let sets: BTreeMap<&str, &ReplicaSet> = self.sets.iter().map(|set| (set.metadata.uid.as_str(), set)).collect();
        let deployments: BTreeSet<&str> = self.deployments.iter().map(|d| d.metadata.uid.as_str()).collect();
        for set in sets.values() {
            if !owner(&set.metadata).is_some_and(|uid| deployments.contains(uid)) {
                wrong.push(format!("{}: an orphan", set.metadata.name));
            }
        }
        let mut count: BTreeMap<&str, i32> = BTreeMap::new();
        for pod in self.pods.iter().filter(|pod| !wanted.asked.contains(&pod.metadata.name)) {
            let name = &pod.metadata.name;
            match owner(&pod.metadata).filter(|uid| sets.contains_key(uid)) {
                Some(uid) => *count.entry(uid).or_default() += 1,
                None => wrong.push(format!("{name}: an orphan")),
            }
            if pod.metadata.deletion_timestamp.is_some() {
                wrong.push(format!("{name}: still going"));
            }
            if pod.status.conditions.iter().any(|c| c.status == "True" && !c.reason.is_empty()) {
                wrong.push(format!(
                    "{name}: a condition is True and gives a reason against it: {:?}",
                    pod.status.conditions
                ));
            }
            if pod.status.host_ip.is_empty() {
                wrong.push(format!("{name}: nobody knows its node's address"));
            }
            if pod.status.phase != "Running" || !is_ready(pod) || pod.status.pod_ip.is_empty() {
                wrong.push(format!("{name}: {:?} on {:?}, not ready", pod.status.phase, pod.spec.node_name));
            }
        }
        for (uid, set) in &sets {
            let there = count.get(uid).copied().unwrap_or_default();
            if Some(there) != set.spec.replicas {
                wrong.push(format!("{}: {there} Pods, {:?} wanted", set.metadata.name, set.spec.replicas));
            }
        }
    }

    /// A Service has its Pods for endpoints, and leads to them on every node. Gives their number.
    fn check_service(&self, name: &str, nodes: &[SimulatedNode], wrong: &mut Vec<String>) -> usize {
        let Some(service) = self.services.iter().find(|s| s.metadata.name == name) else { return 0 };
        let pods: BTreeSet<String> = (self.pods.iter())
            .filter(|pod| pod.metadata.labels.get("app").is_some_and(|app| app == name))
            .map(|pod| pod.status.pod_ip.clone())
            .collect();
        let of_service = |slice: &&EndpointSlice| {
            slice.metadata.labels.get("kubernetes.io/service-name").is_some_and(|service| service == name)
        };
        let endpoints: Vec<String> = (self.slices.iter().filter(of_service))
            .flat_map(|slice| &slice.endpoints)
            .filter(|endpoint| endpoint.conditions.ready != Some(false))
            .flat_map(|endpoint| endpoint.addresses.clone())
            .collect();
        if endpoints.len() != pods.len() || endpoints.iter().cloned().collect::<BTreeSet<_>>() != pods {
            wrong.push(format!("service {name}: endpoints {endpoints:?}, Pods {pods:?}"));
        }
        let older: Vec<&String> = (self.endpoints.iter().filter(|e| e.metadata.name == name))
            .flat_map(|e| &e.subsets)
            .flat_map(|subset| subset.addresses.iter().map(|address| &address.ip))
            .collect();
        if older.len() != pods.len() || !older.iter().all(|ip| pods.contains(*ip)) {
            wrong.push(format!("service {name}: its slices say {endpoints:?}, its Endpoints {older:?}"));
        }
        for node in nodes {
            match reached(node, &service.spec.cluster_ip, &self.nodes) {
                Ok(reached) if reached == pods => {}
                Ok(reached) => wrong.push(format!("service {name} on {}: leads to {reached:?}", node.name)),
                Err(why) => wrong.push(format!("service {name} on {}: {why}", node.name)),
            }
        }
        pods.len()
    }

    /// A node runs the containers of its Pods, and nothing else; it is Ready, and nothing is left of other Pods.
    fn check_node(&self, node: &SimulatedNode, wrong: &mut Vec<String>) {
        let name = &node.name;
        let object = self.nodes.iter().find(|object| object.metadata.name == *name);
        let ready = object.and_then(|node| node.status.conditions.iter().find(|c| c.r#type == "Ready"));
        if ready.is_none_or(|condition| condition.status != "True") {
            wrong.push(format!("{name}: not Ready"));
        }
        let here = |pod: &&Pod| pod.spec.node_name == *name;
        let pods: BTreeSet<String> = self.pods.iter().filter(here).map(|pod| pod.metadata.uid.clone()).collect();
        let mut running: BTreeMap<String, usize> = BTreeMap::new();
        for container in node.engine.all() {
            let uid = container.identity.pod_uid.clone();
            if uid.is_empty() {
                continue;
            }
            *running.entry(uid).or_default() += usize::from(container.is_running());
        }
        // A sandbox and one container each.
        let expected: BTreeMap<String, usize> = pods.iter().map(|uid| (uid.clone(), 2)).collect();
        if running != expected {
            wrong.push(format!("{name}: runs {running:?}, and its Pods are {pods:?}"));
        }
        let with_address: BTreeSet<String> = node.network.taken().into_values().collect();
        if with_address != pods {
            wrong.push(format!("{name}: addresses of {with_address:?}, and its Pods are {pods:?}"));
        }
    }
}

fn same(what: &str, there: &BTreeSet<&str>, asked: &BTreeSet<&str>, wrong: &mut Vec<String>) {
    if there != asked {
        wrong.push(format!("{what}: {there:?} are there, {asked:?} were asked for"));
    }
}

fn image(spec: &skiff_proto::corev1::PodSpec) -> &str {
    spec.containers.first().map_or("", |container| &container.image)
}

fn owner(metadata: &skiff_proto::metav1::ObjectMeta) -> Option<&str> {
    let owner = metadata.owner_references.iter().find(|owner| owner.controller == Some(true))?;
    Some(&owner.uid)
}

fn is_ready(pod: &Pod) -> bool {
    pod.status.conditions.iter().any(|condition| condition.r#type == "Ready" && condition.status == "True")
}

/// Where a packet that a process on the node sends to the Service can end.
fn reached(node: &SimulatedNode, cluster_ip: &str, nodes: &[Node]) -> Result<BTreeSet<String>, String> {
    let destination: Ipv4Addr = cluster_ip.parse().map_err(|_| format!("has the address {cluster_ip:?}"))?;
    let own = nodes.iter().find(|object| object.metadata.name == node.name);
    let addresses: Vec<Ipv4Addr> = (own.iter().flat_map(|node| &node.status.addresses))
        .filter_map(|address| address.address.parse().ok())
        .collect();
    let source = addresses.first().copied().unwrap_or(Ipv4Addr::LOCALHOST);
    let tables = packet::Node::new(&node.rules.tables(), &addresses).map_err(|_| "rules that nobody understands")?;
    let packet = Packet { from: From::Node, source, destination, port: 80, protocol: Protocol::Tcp };
    let outcomes = tables.walk(&packet);
    let delivered = outcomes.iter().filter(|(_, outcome)| outcome.verdict == Verdict::Delivered);
    let reached: BTreeSet<String> = delivered.map(|(_, outcome)| outcome.to.address.to_string()).collect();
    // Without endpoints it must be refused, not sent into the void.
    Ok(if reached.contains(cluster_ip) { BTreeSet::from(["the void".to_owned()]) } else { reached })
}
