//! The controls of a component: its gates and queues by name, its effects and its measurements. What `step`, metrics and
//! inspection reach through the tunnel.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use skiff_world::World;

use crate::client::Client;
use crate::driver::Gate;
use crate::effects::Effects;
use crate::metrics::Metrics;
use crate::queue::{Load, QueueKey, QueueSnapshot, WorkQueue};

/// The gates, queues and measurements of a component; clones are the same.
#[derive(Clone)]
pub struct Controls {
    shared: Arc<Mutex<Shared>>,
}

struct Shared {
    gates: BTreeMap<String, Gate>,
    queues: BTreeMap<String, Arc<dyn AnyQueue>>,
    metrics: Metrics,
    effects: Effects,
}

trait AnyQueue: Send + Sync {
    fn snapshot(&self) -> QueueSnapshot;
    fn load(&self) -> Load;
}

impl<K: QueueKey> AnyQueue for WorkQueue<K> {
    fn snapshot(&self) -> QueueSnapshot {
        WorkQueue::snapshot(self)
    }
    fn load(&self) -> Load {
        WorkQueue::load(self)
    }
}

impl Default for Controls {
    fn default() -> Self {
        Controls::new()
    }
}

impl Controls {
    /// No gates and no queues yet.
    pub fn new() -> Controls {
        let shared = Shared {
            gates: BTreeMap::new(),
            queues: BTreeMap::new(),
            metrics: Metrics::new(),
            effects: Effects::default(),
        };
        Controls { shared: Arc::new(Mutex::new(shared)) }
    }

    /// The gate of this name, made open if there is none.
    pub fn gate(&self, name: &str) -> Gate {
        self.lock().gates.entry(name.to_string()).or_insert_with(|| Gate::new(name)).clone()
    }

    /// Makes a queue that can be looked at and is measured; it takes the place of an earlier one of this name.
    pub fn queue<K: QueueKey>(&self, world: &World, name: &str) -> WorkQueue<K> {
        let mut shared = self.lock();
        let queue = WorkQueue::with_metrics(world, name, shared.metrics.queue(name));
        shared.queues.insert(name.to_string(), Arc::new(queue.clone()));
        queue
    }

    /// What the component did that is no write.
    pub fn effects(&self) -> Effects {
        self.lock().effects.clone()
    }

    /// All gates, by name.
    pub fn gates(&self) -> Vec<Gate> {
        self.lock().gates.values().cloned().collect()
    }

    /// What is in all queues, by name.
    pub fn queues(&self) -> Vec<QueueSnapshot> {
        self.lock().queues.values().map(|queue| queue.snapshot()).collect()
    }

    /// Shows, besides, the process that the component runs in, its version, and how far the informers of its client are.
    /// Once, at the component's start.
    pub fn expose(&self, world: &World, client: &Client) {
        self.lock().metrics.expose(world, client.views().clone());
    }

    /// Whether this process leads, by the name of the Lease: 1 or 0.
    pub(crate) fn leading(&self, lease: &str) -> Gauge {
        self.lock().metrics.leading(lease)
    }

    /// Adds measurements of a component's own, by their full names but for a counter's `_total`. What is no part of
    /// Kubernetes begins with `skiff_`.
    pub fn register(&self, with: impl FnOnce(&mut Registry)) {
        self.lock().metrics.register(with);
    }

    /// All measurements in Prometheus' text format.
    pub fn metrics_text(&self) -> String {
        let shared = self.lock();
        for (name, queue) in &shared.queues {
            shared.metrics.set_load(name, &queue.load());
        }
        shared.metrics.text()
    }

    /// Answers the paths that every component has: `/healthz`, `/metrics`, `/debug/queues`, `/debug/gates`,
    /// `/debug/effects`.
    pub fn http_get(&self, path: &str) -> Option<String> {
        match path {
            "/healthz" => Some("ok".to_string()),
            "/metrics" => Some(self.metrics_text()),
            "/debug/queues" => Some(self.queues().iter().map(print_queue).collect()),
            "/debug/effects" => Some(self.effects().print()),
            "/debug/gates" => Some(self.gates().iter().map(print_gate).collect()),
            _ => None,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Controls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Controls").field("gates", &self.gates()).field("queues", &self.queues()).finish()
    }
}

fn print_gate(gate: &Gate) -> String {
    let mut text = format!("{}: {}\n", gate.name(), if gate.is_open() { "open" } else { "closed" });
    for what in gate.standing() {
        let _ = writeln!(text, "  {what}");
    }
    text
}

fn print_queue(queue: &QueueSnapshot) -> String {
    let mut text = format!("{}:\n", queue.name);
    let parts =
        [("ready", &queue.ready), ("in flight", &queue.in_flight), ("again", &queue.again), ("timer", &queue.timers)];
    for (place, entries) in parts {
        for entry in entries {
            let _ = writeln!(
                text,
                "  {place:<9} {} {:?}, {} failures, woken by: {}",
                entry.key, entry.age, entry.failures, entry.triggers
            );
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::Trigger;

    #[test]
    fn what_is_registered_is_shown_by_name() {
        let (controls, world) = (Controls::new(), World::real("controls-test"));
        let queue = controls.queue::<String>(&world, "deployment");
        queue.add("default/web".into(), Trigger::Start("test".into()));
        controls.gate("deployment").close();

        assert!(!controls.gate("deployment").is_open(), "the same name is the same gate");
        let queues = controls.http_get("/debug/queues").unwrap();
        assert!(queues.contains("default/web") && queues.contains("start: test"), "{queues}");
        assert!(controls.http_get("/debug/gates").unwrap().contains("deployment: closed"));
        let metrics = controls.http_get("/metrics").unwrap();
        assert!(metrics.contains("workqueue_depth{name=\"deployment\"} 1"), "{metrics}");
        assert_eq!(controls.http_get("/other"), None);
    }
}
