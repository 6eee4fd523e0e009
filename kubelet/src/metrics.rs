//! What the kubelet counts of its work: under Kubernetes' names (`kubelet_*`) where there is one, and how long each phase of
//! a Pod's start took.

use std::fmt;
use std::sync::Weak;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;
use skiff_client::Controls;

use crate::lifecycle::Action;
use crate::pods::Pods;
use crate::pods::start::Told;
use crate::runtime::{Role, RunState};

/// Upper bounds of what takes engines and registries their time, in seconds.
const BUCKETS: [f64; 16] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 600.0];

fn seconds() -> Histogram {
    Histogram::new(BUCKETS)
}

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Operation {
    operation_type: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct PhaseLabel {
    phase: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Started {
    container_type: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct NotStarted {
    container_type: &'static str,
    code: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct PulledImage {
    image_size_in_bytes: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Sandbox {
    runtime_handler: &'static str,
}

/// A part of a Pod's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Its namespace, address and routes.
    Network,
    /// Its files.
    Volumes,
    /// The pause container, until it is in the namespace.
    Sandbox,
    /// An image that had to be pulled.
    Image,
    /// One container made and started.
    Container,
    /// From all containers running to the Pod being Ready.
    Ready,
}

impl Phase {
    /// Which part an action is, if it is one.
    pub fn of(action: &Action) -> Option<Phase> {
        match action {
            Action::SetUpNetwork => Some(Phase::Network),
            Action::PrepareVolumes => Some(Phase::Volumes),
            Action::StartSandbox { .. } => Some(Phase::Sandbox),
            Action::StartContainer { .. } => Some(Phase::Container),
            // A pull goes on in the background and is measured there.
            _ => None,
        }
    }

    fn label(self) -> PhaseLabel {
        let phase = match self {
            Phase::Network => "network",
            Phase::Volumes => "volumes",
            Phase::Sandbox => "sandbox",
            Phase::Image => "image",
            Phase::Container => "container",
            Phase::Ready => "ready",
        };
        PhaseLabel { phase }
    }
}

/// The measurements. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    pod_start: Histogram,
    pod_start_sli: Histogram,
    pod_start_total: Histogram,
    phases: Histograms<PhaseLabel>,
    pods: Counter,
    sandboxes: Histograms<Sandbox>,
    sandbox_errors: Family<Sandbox, Counter>,
    containers: Family<Started, Counter>,
    container_errors: Family<NotStarted, Counter>,
    pulls: Histograms<PulledImage>,
    operations: Family<Operation, Counter>,
    operation_errors: Family<Operation, Counter>,
    operation_times: Histograms<Operation>,
}

impl Default for Metrics {
    /// Measurements that nobody reads.
    fn default() -> Self {
        Metrics {
            pod_start: seconds(),
            pod_start_sli: seconds(),
            pod_start_total: seconds(),
            phases: Family::new_with_constructor(seconds),
            pods: Counter::default(),
            sandboxes: Family::new_with_constructor(seconds),
            sandbox_errors: Family::default(),
            containers: Family::default(),
            container_errors: Family::default(),
            pulls: Family::new_with_constructor(seconds),
            operations: Family::default(),
            operation_errors: Family::default(),
            operation_times: Family::new_with_constructor(seconds),
        }
    }
}

impl Metrics {
    /// Shown among a component's.
    pub fn new(controls: &Controls, node: &str) -> Metrics {
        let metrics = Metrics::default();
        let (m, node) = (metrics.clone(), node.to_string());
        controls.register(|r| {
            let about = "From the kubelet's first sight of a Pod to all of its containers running";
            r.register("kubelet_pod_start_duration_seconds", about, m.pod_start);
            let about = "From a Pod's creation to all of its containers running, less image pulls and init containers";
            r.register("kubelet_pod_start_sli_duration_seconds", about, m.pod_start_sli);
            let about = "From a Pod's creation to all of its containers running";
            r.register("kubelet_pod_start_total_duration_seconds", about, m.pod_start_total);
            let about = "Parts of Pods' starts: network, volumes, sandbox, image (pulls), container (each), ready (from \
                         running to Ready)";
            r.register("skiff_kubelet_pod_start_phase_duration_seconds", about, m.phases);
            r.register("kubelet_started_pods", "Pods whose sandbox was begun", m.pods);
            r.register("kubelet_run_podsandbox_duration_seconds", "Starting sandboxes", m.sandboxes);
            r.register("kubelet_run_podsandbox_errors", "Sandboxes that could not be started", m.sandbox_errors);
            r.register("kubelet_started_containers", "Containers whose start was begun", m.containers);
            let about = "Containers that could not be started, by reason";
            r.register("kubelet_started_containers_errors", about, m.container_errors);
            r.register("kubelet_image_pull_duration_seconds", "Image pulls that succeeded", m.pulls);
            r.register("kubelet_runtime_operations", "Calls to the container engine", m.operations);
            r.register("kubelet_runtime_operations_errors", "Those that failed", m.operation_errors);
            r.register("kubelet_runtime_operations_duration_seconds", "How long they took", m.operation_times);
            let name = Family::<Vec<(&'static str, String)>, prometheus_client::metrics::gauge::Gauge>::default();
            name.get_or_create(&vec![("node", node)]).set(1);
            r.register("kubelet_node_name", "Always 1; the node's name is a label", name);
        });
        metrics
    }

    /// A part of a Pod's start has ended.
    pub fn phase(&self, phase: Phase, took: Duration, failed: bool) {
        if phase == Phase::Sandbox {
            let label = Sandbox { runtime_handler: "" };
            self.pods.inc();
            if failed {
                self.sandbox_errors.get_or_create(&label).inc();
            } else {
                self.sandboxes.get_or_create(&label).observe(took.as_secs_f64());
            }
        }
        if phase == Phase::Image && !failed {
            // The engine does not say how large an image is before it has it.
            self.pulls.get_or_create(&PulledImage { image_size_in_bytes: "N/A" }).observe(took.as_secs_f64());
        }
        if !failed {
            self.phases.get_or_create(&phase.label()).observe(took.as_secs_f64());
        }
    }

    /// The start of a container is begun.
    pub fn container(&self, role: Role) {
        self.containers.get_or_create(&Started { container_type: kind(role) }).inc();
    }

    /// It could not be started.
    pub fn container_failed(&self, role: Role, code: &'static str) {
        self.container_errors.get_or_create(&NotStarted { container_type: kind(role), code }).inc();
    }

    /// What a status that was just published says of a start.
    pub fn told(&self, told: &Told) {
        if let Some(running) = &told.running {
            self.pod_start.observe(running.since_seen.as_secs_f64());
            self.pod_start_total.observe(running.since_created.as_secs_f64());
            let own = running.since_created.saturating_sub(running.not_ours);
            self.pod_start_sli.observe(own.as_secs_f64());
        }
        if let Some(time) = told.ready {
            self.phase(Phase::Ready, time, false);
        }
    }

    /// A call to the engine has ended.
    pub(crate) fn operation(&self, operation_type: &'static str, took: Duration, failed: bool) {
        let label = Operation { operation_type };
        self.operations.get_or_create(&label).inc();
        self.operation_times.get_or_create(&label).observe(took.as_secs_f64());
        // There from the first call, at 0.
        self.operation_errors.get_or_create(&label).inc_by(u64::from(failed));
    }
}

fn kind(role: Role) -> &'static str {
    match role {
        Role::Sandbox => "podsandbox",
        Role::Init => "init_container",
        Role::App => "container",
        Role::Ephemeral => "ephemeral_container",
    }
}

/// How many Pods and containers there are, counted when somebody asks.
pub struct Running(pub Weak<Pods>);

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Running")
    }
}

impl Collector for Running {
    fn encode(&self, mut to: DescriptorEncoder) -> Result<(), fmt::Error> {
        let Some(pods) = self.0.upgrade() else { return Ok(()) };
        let (mut sandboxes, mut created, mut running, mut exited) = (0i64, 0i64, 0i64, 0i64);
        for report in pods.keys().iter().flat_map(|key| pods.containers(key)) {
            if report.identity.role == Role::Sandbox {
                sandboxes += i64::from(report.is_running());
                continue;
            }
            match report.state {
                RunState::Created => created += 1,
                _ if report.is_running() => running += 1,
                _ => exited += 1,
            }
        }
        let about = "Pods whose sandbox runs";
        let pods = ConstGauge::new(sandboxes);
        pods.encode(to.encode_descriptor("kubelet_running_pods", about, None, MetricType::Gauge)?)?;
        let about = "Containers by state, sandboxes aside";
        let mut family = to.encode_descriptor("kubelet_running_containers", about, None, MetricType::Gauge)?;
        for (state, count) in [("created", created), ("running", running), ("exited", exited)] {
            ConstGauge::new(count).encode(family.encode_family(&[("container_state", state)])?)?;
        }
        Ok(())
    }
}
