//! What a component measures about its own loops, in Prometheus' terms. Where Kubernetes has a name for the same thing, it
//! has that name: `workqueue_*` of client-go, `leader_election_master_status`, `process_*`.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use skiff_world::{World, exposition};

use crate::driver::settled::Views;
use crate::queue::Load;

/// How one reconcile ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Every step of the plan was done (or there was nothing to do).
    Done,
    /// A step failed; the key backs off.
    Failed,
    /// Somebody else had changed an object first; it is looked at again soon.
    Conflict,
    /// The informers had not yet seen this key's own writes.
    Stale,
}

impl Ended {
    /// All ways: each is shown from the start, at 0.
    const ALL: [Ended; 4] = [Ended::Done, Ended::Failed, Ended::Conflict, Ended::Stale];

    fn label(self) -> &'static str {
        match self {
            Ended::Done => "done",
            Ended::Failed => "failed",
            Ended::Conflict => "conflict",
            Ended::Stale => "stale",
        }
    }
}

/// A queue's name, as client-go labels it.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct NameLabel {
    name: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ResultLabel {
    controller: String,
    result: &'static str,
}

/// The measurements of one queue and of the loop that works on it.
#[derive(Clone)]
pub struct QueueMetrics {
    queue: String,
    adds: Counter,
    retries: Counter,
    waits: Histogram,
    work: Histogram,
    reconciles: Family<ResultLabel, Counter>,
}

impl Default for QueueMetrics {
    /// Measurements that nobody reads.
    fn default() -> Self {
        QueueMetrics {
            queue: String::new(),
            adds: Counter::default(),
            retries: Counter::default(),
            waits: seconds(),
            work: seconds(),
            reconciles: Family::default(),
        }
    }
}

impl QueueMetrics {
    pub(crate) fn added(&self) {
        self.adds.inc();
    }

    pub(crate) fn retried(&self) {
        self.retries.inc();
    }

    pub(crate) fn waited(&self, time: Duration) {
        self.waits.observe(time.as_secs_f64());
    }

    pub(crate) fn reconciled(&self, ended: Ended, time: Duration) {
        self.reconciles.get_or_create(&self.label(ended)).inc();
        self.work.observe(time.as_secs_f64());
    }

    /// How many reconciles have ended in this way.
    pub fn reconciles(&self, ended: Ended) -> u64 {
        self.reconciles.get_or_create(&self.label(ended)).get()
    }

    fn label(&self, ended: Ended) -> ResultLabel {
        ResultLabel { controller: self.queue.clone(), result: ended.label() }
    }
}

/// Buckets for what takes from 0.1 ms to 104 s.
pub fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.0001, 4.0, 11))
}

type Seconds = Gauge<f64, AtomicU64>;

/// All measurements of a component; other parts register theirs in [`Metrics::register`].
pub(crate) struct Metrics {
    registry: Registry,
    depth: Family<NameLabel, Gauge>,
    oldest: Family<NameLabel, Seconds>,
    unfinished: Family<NameLabel, Seconds>,
    longest: Family<NameLabel, Seconds>,
    adds: Family<NameLabel, Counter>,
    retries: Family<NameLabel, Counter>,
    waits: Family<NameLabel, Histogram>,
    work: Family<NameLabel, Histogram>,
    reconciles: Family<ResultLabel, Counter>,
    leading: Family<NameLabel, Gauge>,
}

impl Metrics {
    pub(crate) fn new() -> Metrics {
        let seconds = || Family::<NameLabel, Histogram>::new_with_constructor(seconds as fn() -> Histogram);
        let mut metrics = Metrics {
            registry: Registry::default(),
            depth: Family::default(),
            oldest: Family::default(),
            unfinished: Family::default(),
            longest: Family::default(),
            adds: Family::default(),
            retries: Family::default(),
            waits: seconds(),
            work: seconds(),
            reconciles: Family::default(),
            leading: Family::default(),
        };
        metrics.describe();
        metrics
    }

    fn describe(&mut self) {
        let r = &mut self.registry;
        r.register("workqueue_depth", "Keys ready to be taken", self.depth.clone());
        r.register("workqueue_adds", "Keys that became ready", self.adds.clone());
        r.register("workqueue_retries", "Keys put back because their work failed", self.retries.clone());
        r.register("workqueue_queue_duration_seconds", "From ready to taken", self.waits.clone());
        r.register("workqueue_work_duration_seconds", "From taken to worked on: one reconcile", self.work.clone());
        let about = "How long all that is being worked on now has taken so far, together";
        r.register("workqueue_unfinished_work_seconds", about, self.unfinished.clone());
        let about = "How long what has been worked on longest has taken so far";
        r.register("workqueue_longest_running_processor_seconds", about, self.longest.clone());
        let about = "How long the key that has waited longest has been ready";
        r.register("skiff_workqueue_oldest_seconds", about, self.oldest.clone());
        let about = "Reconciles by how they ended: done, failed (backs off), conflict (somebody was quicker), stale (the \
                     informers do not yet show what the key wrote)";
        r.register("skiff_reconcile", about, self.reconciles.clone());
        let about = "Whether this process leads: 1, or 0 for one that stands by";
        r.register("leader_election_master_status", about, self.leading.clone());
    }

    pub(crate) fn queue(&self, name: &str) -> QueueMetrics {
        let label = NameLabel { name: name.to_string() };
        let metrics = QueueMetrics {
            queue: name.to_string(),
            adds: self.adds.get_or_create_owned(&label),
            retries: self.retries.get_or_create_owned(&label),
            waits: self.waits.get_or_create_owned(&label),
            work: self.work.get_or_create_owned(&label),
            reconciles: self.reconciles.clone(),
        };
        for ended in Ended::ALL {
            metrics.reconciles(ended);
        }
        metrics
    }

    pub(crate) fn set_load(&self, queue: &str, load: &Load) {
        let label = NameLabel { name: queue.to_string() };
        self.depth.get_or_create(&label).set(i64::try_from(load.depth).unwrap_or(i64::MAX));
        self.oldest.get_or_create(&label).set(load.oldest.as_secs_f64());
        self.unfinished.get_or_create(&label).set(load.unfinished.as_secs_f64());
        self.longest.get_or_create(&label).set(load.longest.as_secs_f64());
    }

    pub(crate) fn leading(&self, lease: &str) -> Gauge {
        self.leading.get_or_create_owned(&NameLabel { name: lease.to_string() })
    }

    pub(crate) fn expose(&mut self, world: &World, views: Views) {
        exposition::register_process(&mut self.registry, world);
        self.registry.register_collector(Box::new(Informers(views)));
        let version = Family::<Vec<(&'static str, &'static str)>, Gauge>::default();
        version.get_or_create(&vec![("version", env!("CARGO_PKG_VERSION"))]).set(1);
        self.registry.register("skiff_build_info", "Always 1; the version is a label", version);
    }

    pub(crate) fn register(&mut self, with: impl FnOnce(&mut Registry)) {
        with(&mut self.registry);
    }

    pub(crate) fn text(&self) -> String {
        exposition::text(&self.registry)
    }
}

/// How far the component's informers are. Several of one resource are told as the one that is farthest behind.
struct Informers(Views);

impl std::fmt::Debug for Informers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Informers")
    }
}

impl Collector for Informers {
    fn encode(&self, mut to: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let all = self.0.farthest_behind();
        if all.is_empty() {
            // A description without a sample would be refused by checkers.
            return Ok(());
        }
        let about = "The store's revision up to which the component knows a resource";
        let mut family = to.encode_descriptor("skiff_informer_revision", about, None, MetricType::Gauge)?;
        for ((group, resource), behind) in &all {
            let value = ConstGauge::new(i64::try_from(behind.revision).unwrap_or(i64::MAX));
            value.encode(family.encode_family(&[("group", group.as_str()), ("resource", resource.as_str())])?)?;
        }
        let name = "skiff_informer_last_heard_timestamp_seconds";
        let about =
            "When the API server was last heard about a resource, a bookmark counting too: one comes every minute";
        let mut family = to.encode_descriptor(name, about, None, MetricType::Gauge)?;
        for ((group, resource), behind) in &all {
            let value = ConstGauge::new(behind.heard);
            value.encode(family.encode_family(&[("group", group.as_str()), ("resource", resource.as_str())])?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controls::Controls;
    use crate::queue::Trigger;

    #[tokio::test(start_paused = true)]
    async fn a_queue_is_told_under_client_go_s_names() {
        let (controls, world) = (Controls::new(), World::real("metrics-test"));
        let queue = controls.queue::<String>(&world, "deployment");
        let told = |what: &str| {
            let text = controls.metrics_text();
            let line = text.lines().find_map(|line| line.strip_prefix(what)?.strip_prefix("{name=\"deployment\"} "));
            line.unwrap_or_else(|| panic!("no {what} in\n{text}")).to_owned()
        };
        for key in ["a", "b", "b"] {
            queue.add(key.into(), Trigger::Start("test".into()));
        }
        world.sleep(Duration::from_secs(3)).await;
        assert_eq!((told("workqueue_depth"), told("workqueue_adds_total")), ("2".into(), "2".into()), "b counts once");
        assert_eq!(told("skiff_workqueue_oldest_seconds"), "3.0");
        let (a, b) = (queue.next().await.unwrap(), queue.next().await.unwrap());
        assert_eq!(told("workqueue_queue_duration_seconds_count"), "2");
        world.sleep(Duration::from_secs(2)).await;
        assert_eq!(told("workqueue_unfinished_work_seconds"), "4.0");
        assert_eq!(told("workqueue_longest_running_processor_seconds"), "2.0");
        a.done();
        b.retry(Duration::ZERO, Duration::from_secs(1));
        assert_eq!(told("workqueue_retries_total"), "1");
        queue.next().await.unwrap().done();
        assert_eq!(told("workqueue_adds_total"), "3", "after its backoff it is ready again");
        assert_eq!(told("workqueue_unfinished_work_seconds"), "0.0");
    }
}
