//! What the controllers tell of the cluster beside their queues: how many nodes there are and how many of them are not
//! well, under the names of Kubernetes' node controller (`node_collector_*`).

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use skiff_client::{Controls, Store};

use crate::nodes::NodeView;

/// The nodes as the present term of leadership sees them; none while another process leads.
#[derive(Clone, Default)]
pub struct Nodes(Arc<Mutex<Option<Store<NodeView>>>>);

impl Nodes {
    /// Shown among a component's measurements.
    pub fn shown_in(controls: &Controls) -> Nodes {
        let nodes = Nodes::default();
        let shown = nodes.clone();
        controls.register(|registry| registry.register_collector(Box::new(shown)));
        nodes
    }

    /// A term has begun, or (`None`) ended.
    pub fn set(&self, store: Option<Store<NodeView>>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = store;
    }
}

impl fmt::Debug for Nodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Nodes")
    }
}

impl Collector for Nodes {
    fn encode(&self, mut to: DescriptorEncoder) -> Result<(), fmt::Error> {
        let store = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(store) = store else { return Ok(()) };
        let mut zones: BTreeMap<String, (i64, i64)> = BTreeMap::new();
        for node in store.list() {
            let (all, unwell) = zones.entry(node.place()).or_default();
            *all += 1;
            *unwell += i64::from(!node.is_ready());
        }
        if zones.is_empty() {
            return Ok(());
        }
        let about = "Nodes, by region/zone";
        let mut family = to.encode_descriptor("node_collector_zone_size", about, None, MetricType::Gauge)?;
        for (zone, (all, _)) in &zones {
            ConstGauge::new(*all).encode(family.encode_family(&[("zone", zone.as_str())])?)?;
        }
        let (name, about) = ("node_collector_unhealthy_nodes_in_zone", "Nodes that are not Ready, by region/zone");
        let mut family = to.encode_descriptor(name, about, None, MetricType::Gauge)?;
        for (zone, (_, unwell)) in &zones {
            ConstGauge::new(*unwell).encode(family.encode_family(&[("zone", zone.as_str())])?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nodes::ConditionStatus;
    use skiff_client::{Held, ObjectKey, Resource};
    use skiff_proto::corev1::Node;

    #[test]
    fn nodes_are_counted_by_zone() {
        let controls = Controls::new();
        let nodes = Nodes::shown_in(&controls);
        let store = Store::detached(Resource::of::<Node>(), Vec::new());
        for (at, (name, zone, ready)) in [
            ("a", "z1", ConditionStatus::True),
            ("b", "z1", ConditionStatus::Unknown),
            ("c", "z2", ConditionStatus::True),
        ]
        .into_iter()
        .enumerate()
        {
            let view = NodeView { name: name.into(), zone: zone.into(), ready: Some(ready), ..NodeView::default() };
            let held = Held { uid: name.into(), revision: at as u64 + 1, value: Arc::new(view) };
            store.put(ObjectKey::new("", name), held);
        }
        assert!(!controls.metrics_text().contains("node_collector"), "who does not lead tells nothing");
        nodes.set(Some(store));
        let text = controls.metrics_text();
        for line in [
            "node_collector_zone_size{zone=\"/z1\"} 2",
            "node_collector_unhealthy_nodes_in_zone{zone=\"/z1\"} 1",
            "node_collector_unhealthy_nodes_in_zone{zone=\"/z2\"} 0",
        ] {
            assert!(text.lines().any(|found| found == line), "no {line} in\n{text}");
        }
        nodes.set(None);
        assert!(!controls.metrics_text().contains("node_collector"));
    }
}
