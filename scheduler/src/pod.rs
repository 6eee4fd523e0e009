//! What the scheduler keeps of a Pod.

use std::collections::BTreeMap;
use std::sync::Arc;

use skiff_client::Project;
use skiff_proto::Quantity;
use skiff_proto::corev1::{Affinity, Container, NodeSelectorRequirement, NodeSelectorTerm, Pod, PodSpec};

use crate::template::{HostPort, Operator, Requirement, Resources, Template, Term, Toleration};

/// What scores assume of a container that asks for no CPU: a tenth of one.
const UNASKED_CPU: i64 = 100;
/// What scores assume of a container that asks for no memory: 200 MB.
const UNASKED_MEMORY: i64 = 200 * 1024 * 1024;

/// A Pod as far as the scheduler cares.
#[derive(Clone, Debug, PartialEq)]
pub struct PodInfo {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: Arc<str>,
    /// The node it is bound to, or empty.
    pub node: String,
    /// Which scheduler it wants.
    pub scheduler: String,
    /// Higher goes first.
    pub priority: i32,
    /// It is being deleted.
    pub terminating: bool,
    /// It ran to its end, and takes nothing any more.
    pub finished: bool,
    /// It has scheduling gates: not to be scheduled yet.
    pub gated: bool,
    /// The uid of its controller.
    pub owner: Option<Arc<str>>,
    /// The message of its condition PodScheduled=False, so that it is not written twice.
    pub complaint: Option<String>,
    /// What it needs of a node.
    pub template: Arc<Template>,
    /// `template.digest()`.
    pub digest: u64,
}

/// Keeps a `PodInfo` of each Pod.
pub struct PodProjection;

impl Project<Pod> for PodProjection {
    type Out = PodInfo;

    fn project(pod: &Pod) -> PodInfo {
        let metadata = &pod.metadata;
        let template = template(&pod.spec);
        let owner = metadata.owner_references.iter().find(|o| o.controller == Some(true));
        let complaint = pod.status.conditions.iter().find(|c| c.r#type == "PodScheduled" && c.status == "False");
        PodInfo {
            namespace: metadata.namespace.clone(),
            name: metadata.name.clone(),
            uid: metadata.uid.as_str().into(),
            node: pod.spec.node_name.clone(),
            scheduler: pod.spec.scheduler_name.clone(),
            priority: pod.spec.priority.unwrap_or(0),
            terminating: metadata.deletion_timestamp.is_some(),
            finished: matches!(pod.status.phase.as_str(), "Succeeded" | "Failed"),
            gated: !pod.spec.scheduling_gates.is_empty(),
            owner: owner.map(|o| o.uid.as_str().into()),
            complaint: complaint.map(|c| c.message.clone()),
            digest: template.digest(),
            template: Arc::new(template),
        }
    }
}

/// What a pod of this spec needs.
pub fn template(spec: &PodSpec) -> Template {
    let affinity = spec.affinity.as_deref().and_then(|a: &Affinity| a.node_affinity.as_deref());
    let required = affinity.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_deref());
    let preferred = affinity.map(|a| a.preferred_during_scheduling_ignored_during_execution.as_slice());
    let (scoring_cpu, scoring_memory) = scoring(spec);
    Template {
        node_name: String::new(),
        requests: requests(spec),
        scoring_cpu,
        scoring_memory,
        node_selector: spec.node_selector.clone(),
        required: required.map(|r| r.node_selector_terms.iter().map(term).collect()),
        preferred: preferred.unwrap_or_default().iter().map(|p| (p.weight, term(&p.preference))).collect(),
        tolerations: spec
            .tolerations
            .iter()
            .map(|t| Toleration {
                key: t.key.clone(),
                operator: t.operator.clone(),
                value: t.value.clone(),
                effect: t.effect.clone(),
            })
            .collect(),
        ports: ports(spec),
    }
}

/// An amount in the unit that `Resources` has it in.
pub fn amount(name: &str, quantity: &Quantity) -> i64 {
    if name == "cpu" { i64::try_from(quantity.milli()).unwrap_or(i64::MAX) } else { quantity.value() }
}

/// A list of quantities as amounts.
pub fn resources(list: &BTreeMap<String, Quantity>) -> Resources {
    let mut resources = Resources::default();
    for (name, quantity) in list {
        let amount = amount(name, quantity);
        match name.as_str() {
            "cpu" => resources.cpu = amount,
            "memory" => resources.memory = amount,
            "ephemeral-storage" => resources.ephemeral = amount,
            "pods" => {}
            other => resources.add_other(other, amount),
        }
    }
    resources
}

fn asked(container: &Container) -> Resources {
    resources(&container.resources.requests)
}

fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// Containers run together; init containers one after the other, beside the sidecars before them.
fn requests(spec: &PodSpec) -> Resources {
    let mut running = Resources::default();
    for container in &spec.containers {
        running.add(&asked(container), 1);
    }
    let mut sidecars = Resources::default();
    let mut starting = Resources::default();
    for container in &spec.init_containers {
        if is_sidecar(container) {
            sidecars.add(&asked(container), 1);
            starting = starting.max(&sidecars);
        } else {
            let mut now = sidecars.clone();
            now.add(&asked(container), 1);
            starting = starting.max(&now);
        }
    }
    running.add(&sidecars, 1);
    let mut all = running.max(&starting);
    all.add(&resources(&spec.overhead), 1);
    all
}

fn scoring(spec: &PodSpec) -> (i64, i64) {
    let long_running = spec.containers.iter().chain(spec.init_containers.iter().filter(|c| is_sidecar(c)));
    long_running.fold((0, 0), |(cpu, memory), container| {
        let asked = asked(container);
        let or = |asked: i64, unasked: i64| if asked > 0 { asked } else { unasked };
        (cpu + or(asked.cpu, UNASKED_CPU), memory + or(asked.memory, UNASKED_MEMORY))
    })
}

fn ports(spec: &PodSpec) -> Vec<HostPort> {
    let containers = spec.containers.iter().chain(spec.init_containers.iter().filter(|c| is_sidecar(c)));
    containers
        .flat_map(|c| &c.ports)
        .filter_map(|p| {
            // On the host's network every container port is one of the host's.
            let port = if spec.host_network && p.host_port == 0 { p.container_port } else { p.host_port };
            let or =
                |value: &str, default: &str| if value.is_empty() { default.to_string() } else { value.to_string() };
            (port > 0).then(|| HostPort { port, protocol: or(&p.protocol, "TCP"), ip: or(&p.host_ip, "0.0.0.0") })
        })
        .collect()
}

fn term(term: &NodeSelectorTerm) -> Term {
    Term {
        labels: term.match_expressions.iter().map(requirement).collect(),
        fields: term.match_fields.iter().map(requirement).collect(),
    }
}

fn requirement(requirement: &NodeSelectorRequirement) -> Requirement {
    let operator = match requirement.operator.as_str() {
        "In" => Operator::In,
        "NotIn" => Operator::NotIn,
        "Exists" => Operator::Exists,
        "DoesNotExist" => Operator::DoesNotExist,
        "Gt" => Operator::Gt,
        "Lt" => Operator::Lt,
        _ => Operator::Unknown,
    };
    Requirement { key: requirement.key.clone(), operator, values: requirement.values.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skiff_proto::corev1::{ContainerPort, Toleration};

    fn asking(cpu: &str, restart_policy: Option<&str>) -> Container {
        let mut container = Container { restart_policy: restart_policy.map(Into::into), ..Container::default() };
        container.resources.requests = [("cpu".to_string(), Quantity::parse(cpu).unwrap())].into();
        container
    }

    #[test]
    fn init_containers_run_before_and_sidecars_beside_the_others() {
        let once = |cpu| asking(cpu, None);
        let sidecar = |cpu| asking(cpu, Some("Always"));
        // (init containers, containers) -> cpu
        let table = [
            (vec![], vec![once("100m"), once("1")], 1100),
            (vec![once("3")], vec![once("1")], 3000),
            (vec![once("500m")], vec![once("1")], 1000),
            (vec![sidecar("1")], vec![once("1")], 2000),
            (vec![sidecar("1"), once("2")], vec![once("1")], 3000),
            (vec![once("2"), sidecar("1")], vec![once("500m")], 2000),
        ];
        for (init_containers, containers, cpu) in table {
            let spec = PodSpec { init_containers, containers, ..PodSpec::default() };
            assert_eq!(template(&spec).requests.cpu, cpu, "{spec:?}");
        }
    }

    #[test]
    fn one_that_asks_for_nothing_counts_a_little_in_scores_only() {
        let spec = PodSpec { containers: vec![Container::default(), asking("50m", None)], ..PodSpec::default() };
        let template = template(&spec);
        assert_eq!(template.requests.cpu, 50);
        assert_eq!((template.scoring_cpu, template.scoring_memory), (150, 2 * UNASKED_MEMORY));
    }

    #[test]
    fn host_ports_are_those_that_are_named_and_all_on_the_hosts_network() {
        let ports = vec![
            ContainerPort { container_port: 80, host_port: 8080, protocol: "TCP".into(), ..ContainerPort::default() },
            ContainerPort { container_port: 53, protocol: "UDP".into(), ..ContainerPort::default() },
        ];
        let container = Container { ports, ..Container::default() };
        let mut spec = PodSpec { containers: vec![container], ..PodSpec::default() };
        let taken = |spec: &PodSpec| template(spec).ports.iter().map(|p| p.port).collect::<Vec<_>>();
        assert_eq!(taken(&spec), [8080]);
        spec.host_network = true;
        assert_eq!(taken(&spec), [8080, 53]);
    }

    #[test]
    fn pods_of_one_template_share_a_digest_whatever_their_names() {
        let pod = |name: &str, key: &str| {
            let mut pod = Pod::default();
            pod.metadata.name = name.into();
            pod.spec.tolerations = vec![Toleration { key: key.into(), ..Toleration::default() }];
            PodProjection::project(&pod)
        };
        assert_eq!(pod("a", "k").digest, pod("b", "k").digest);
        assert_ne!(pod("a", "k").digest, pod("a", "other").digest);
    }
}
