//! What the scheduler counts of its work, under Kubernetes' names (`scheduler_*`).

use std::collections::BTreeMap;
use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use skiff_client::Controls;
use tokio::time::Instant;

use crate::queue::Depth;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Ended {
    result: &'static str,
    profile: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Waiting {
    queue: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Tries {
    attempts: &'static str,
}

/// How an attempt to find a pod a node ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Result {
    /// It is bound.
    Scheduled,
    /// No node will do.
    Unschedulable,
    /// It was not bound for another reason.
    Error,
}

impl Result {
    const ALL: [Result; 3] = [Result::Scheduled, Result::Unschedulable, Result::Error];

    fn label(self) -> Ended {
        let result = match self {
            Result::Scheduled => "scheduled",
            Result::Unschedulable => "unschedulable",
            Result::Error => "error",
        };
        Ended { result, profile: crate::framework::STANDARD }
    }
}

/// The measurements; they outlast a term of leadership. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    attempts: Family<Ended, Counter>,
    latency: Family<Ended, Histogram>,
    deciding: Histogram,
    pending: Family<Waiting, Gauge>,
    whole: Family<Tries, Histogram>,
    tries: Histogram,
}

impl Metrics {
    /// Shown among a component's.
    pub fn new(controls: &Controls) -> Metrics {
        // 0.1 ms to 52 s; deciding takes microseconds.
        let latency = || Histogram::new(exponential_buckets(0.0001, 2.0, 20));
        let metrics = Metrics {
            attempts: Family::default(),
            latency: Family::new_with_constructor(latency as fn() -> Histogram),
            deciding: Histogram::new(exponential_buckets(0.000_001, 4.0, 12)),
            pending: Family::default(),
            whole: Family::new_with_constructor((|| Histogram::new(exponential_buckets(0.01, 2.0, 20))) as fn() -> _),
            tries: Histogram::new([1.0, 2.0, 4.0, 8.0, 16.0]),
        };
        for result in Result::ALL {
            drop(metrics.attempts.get_or_create_owned(&result.label()));
        }
        let m = metrics.clone();
        controls.register(|r| {
            r.register("scheduler_schedule_attempts", "Attempts to schedule pods, by result", m.attempts);
            let about = "From taking a pod to its binding, or to knowing that no node will do";
            r.register("scheduler_scheduling_attempt_duration_seconds", about, m.latency);
            r.register("scheduler_scheduling_algorithm_duration_seconds", "Deciding alone", m.deciding);
            let about =
                "Pods that wait: active (to be tried), backoff (for a time), unschedulable (for the cluster to change)";
            r.register("scheduler_pending_pods", about, m.pending);
            let about = "From a pod's first sight to its binding, by how many attempts it took";
            r.register("scheduler_pod_scheduling_sli_duration_seconds", about, m.whole);
            r.register("scheduler_pod_scheduling_attempts", "Attempts until a pod was bound", m.tries);
        });
        metrics.set_pending(Depth::default());
        metrics
    }

    fn set_pending(&self, depth: Depth) {
        for (queue, pods) in
            [("active", depth.active), ("backoff", depth.backoff), ("unschedulable", depth.unschedulable)]
        {
            self.pending.get_or_create(&Waiting { queue }).set(i64::try_from(pods).unwrap_or(i64::MAX));
        }
    }
}

/// The pods of one term on their way to a node.
pub struct Attempts {
    metrics: Metrics,
    pods: BTreeMap<Arc<str>, Attempt>,
    shown: Depth,
}

struct Attempt {
    first_seen: Instant,
    began: Instant,
    tries: u32,
}

impl Attempts {
    /// None yet.
    pub fn new(metrics: &Metrics) -> Attempts {
        Attempts { metrics: metrics.clone(), pods: BTreeMap::new(), shown: Depth::default() }
    }

    /// How many pods wait where.
    pub fn pending(&mut self, depth: Depth) {
        if self.shown != depth {
            self.metrics.set_pending(depth);
            self.shown = depth;
        }
    }

    /// A pod waits for a node.
    pub fn seen(&mut self, uid: &Arc<str>, now: Instant) {
        if !self.pods.contains_key(uid) {
            self.pods.insert(uid.clone(), Attempt { first_seen: now, began: now, tries: 0 });
        }
    }

    /// It is tried, and was decided on from `began` to `decided`.
    pub fn tried(&mut self, uid: &Arc<str>, began: Instant, decided: Instant) {
        self.metrics.deciding.observe(decided.saturating_duration_since(began).as_secs_f64());
        if let Some(pod) = self.pods.get_mut(uid) {
            (pod.began, pod.tries) = (began, pod.tries.saturating_add(1));
        }
    }

    /// The attempt has ended. A pod that is bound is told of once, however often it is heard.
    pub fn ended(&mut self, uid: &str, result: Result, now: Instant) {
        let Some(pod) = self.pods.get(uid) else { return };
        let label = result.label();
        let since = |start: Instant| now.saturating_duration_since(start).as_secs_f64();
        self.metrics.latency.get_or_create(&label).observe(since(pod.began));
        self.metrics.attempts.get_or_create(&label).inc();
        if result == Result::Scheduled {
            self.metrics.tries.observe(f64::from(pod.tries));
            let attempts = tries(pod.tries);
            self.metrics.whole.get_or_create(&Tries { attempts }).observe(since(pod.first_seen));
            self.pods.remove(uid);
        }
    }

    /// The pod is gone.
    pub fn gone(&mut self, uid: &str) {
        self.pods.remove(uid);
    }
}

impl Drop for Attempts {
    fn drop(&mut self) {
        // Whoever does not lead has no queue.
        self.metrics.set_pending(Depth::default());
    }
}

/// As Kubernetes labels them: a few numbers, so that there are few series.
fn tries(attempts: u32) -> &'static str {
    const FEW: [&str; 16] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15"];
    FEW.get(attempts as usize).copied().unwrap_or("16+")
}

#[cfg(test)]
mod tests {
    use super::*;
    use skiff_world::World;
    use std::time::Duration;

    #[test]
    fn an_attempt_is_counted_with_its_end_and_a_binding_once() {
        let controls = Controls::new();
        let metrics = Metrics::new(&controls);
        let mut attempts = Attempts::new(&metrics);
        let uid: Arc<str> = "u".into();
        let start = World::real("test").now();
        let at = |seconds| start + Duration::from_secs(seconds);
        attempts.seen(&uid, at(0));
        attempts.tried(&uid, at(1), at(2));
        attempts.ended(&uid, Result::Unschedulable, at(2));
        attempts.seen(&uid, at(3));
        attempts.tried(&uid, at(5), at(5));
        attempts.pending(Depth { backoff: 3, ..Depth::default() });
        // Heard of twice: from the informer, and as the answer.
        attempts.ended(&uid, Result::Scheduled, at(8));
        attempts.ended(&uid, Result::Scheduled, at(9));
        let text = controls.metrics_text();
        let labels = "profile=\"default-scheduler\"}";
        for line in [
            format!("scheduler_schedule_attempts_total{{result=\"error\",{labels} 0"),
            format!("scheduler_schedule_attempts_total{{result=\"scheduled\",{labels} 1"),
            format!("scheduler_schedule_attempts_total{{result=\"unschedulable\",{labels} 1"),
            format!("scheduler_scheduling_attempt_duration_seconds_sum{{result=\"scheduled\",{labels} 3.0"),
            "scheduler_scheduling_algorithm_duration_seconds_sum 1.0".into(),
            "scheduler_pod_scheduling_sli_duration_seconds_sum{attempts=\"2\"} 8.0".into(),
            "scheduler_pending_pods{queue=\"backoff\"} 3".into(),
        ] {
            assert!(text.lines().any(|found| found == line), "no {line} in\n{text}");
        }
        drop(attempts);
        assert!(controls.metrics_text().contains("scheduler_pending_pods{queue=\"backoff\"} 0\n"));
    }
}
