//! What a component measures about its own loops, in Prometheus' terms.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

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
    fn label(self) -> &'static str {
        match self {
            Ended::Done => "done",
            Ended::Failed => "failed",
            Ended::Conflict => "conflict",
            Ended::Stale => "stale",
        }
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct QueueLabel {
    queue: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ResultLabel {
    queue: String,
    result: &'static str,
}

/// The measurements of one queue and of the loop that works on it.
#[derive(Clone)]
pub struct QueueMetrics {
    queue: String,
    waits: Histogram,
    reconciles: Family<ResultLabel, Counter>,
    durations: Histogram,
}

impl Default for QueueMetrics {
    /// Measurements that nobody reads.
    fn default() -> Self {
        QueueMetrics { queue: String::new(), waits: seconds(), reconciles: Family::default(), durations: seconds() }
    }
}

impl QueueMetrics {
    pub(crate) fn waited(&self, time: Duration) {
        self.waits.observe(time.as_secs_f64());
    }

    pub(crate) fn reconciled(&self, ended: Ended, time: Duration) {
        let label = ResultLabel { queue: self.queue.clone(), result: ended.label() };
        self.reconciles.get_or_create(&label).inc();
        self.durations.observe(time.as_secs_f64());
    }

    /// How many reconciles have ended in this way.
    pub fn reconciles(&self, ended: Ended) -> u64 {
        let label = ResultLabel { queue: self.queue.clone(), result: ended.label() };
        self.reconciles.get_or_create(&label).get()
    }
}

fn seconds() -> Histogram {
    // 0.1 ms to 104 s.
    Histogram::new(exponential_buckets(0.0001, 4.0, 11))
}

/// All measurements of a component; other parts register theirs in [`Metrics::register`].
pub(crate) struct Metrics {
    registry: Registry,
    depth: Family<QueueLabel, Gauge>,
    age: Family<QueueLabel, Gauge<f64, std::sync::atomic::AtomicU64>>,
    waits: Family<QueueLabel, Histogram>,
    reconciles: Family<ResultLabel, Counter>,
    durations: Family<QueueLabel, Histogram>,
}

impl Metrics {
    pub(crate) fn new() -> Metrics {
        let mut registry = Registry::with_prefix("skiff");
        let depth = Family::default();
        registry.register("queue_depth", "Keys ready to be taken", depth.clone());
        let age = Family::default();
        registry.register("queue_oldest_seconds", "How long the oldest ready key has waited", age.clone());
        let waits = Family::<QueueLabel, Histogram>::new_with_constructor(seconds as fn() -> Histogram);
        registry.register("queue_wait_seconds", "From ready to taken", waits.clone());
        let reconciles = Family::default();
        registry.register("reconciles", "Reconciles by how they ended", reconciles.clone());
        let durations = Family::<QueueLabel, Histogram>::new_with_constructor(seconds as fn() -> Histogram);
        registry.register("reconcile_seconds", "How long reconciles took", durations.clone());
        Metrics { registry, depth, age, waits, reconciles, durations }
    }

    pub(crate) fn queue(&self, name: &str) -> QueueMetrics {
        let label = QueueLabel { queue: name.to_string() };
        QueueMetrics {
            queue: name.to_string(),
            waits: self.waits.get_or_create(&label).clone(),
            reconciles: self.reconciles.clone(),
            durations: self.durations.get_or_create(&label).clone(),
        }
    }

    pub(crate) fn set_depth(&self, queue: &str, depth: usize, age: Duration) {
        let label = QueueLabel { queue: queue.to_string() };
        self.depth.get_or_create(&label).set(i64::try_from(depth).unwrap_or(i64::MAX));
        self.age.get_or_create(&label).set(age.as_secs_f64());
    }

    pub(crate) fn register(&mut self, with: impl FnOnce(&mut Registry)) {
        with(&mut self.registry);
    }

    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        // Writing into a String does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}
