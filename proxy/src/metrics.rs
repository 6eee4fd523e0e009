//! What the proxy counts of its work, under the names of Kubernetes' kube-proxy (`kubeproxy_*`).

use std::fmt;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use skiff_client::Controls;

use crate::rules::Table;

/// Skiff has one family of addresses.
const FAMILY: Family4 = Family4 { ip_family: "IPv4" };

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Family4 {
    ip_family: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct InTable {
    table: &'static str,
    ip_family: &'static str,
}

fn within(table: Table) -> InTable {
    InTable { table: table.as_str(), ip_family: FAMILY.ip_family }
}

fn seconds() -> Histogram {
    // 1 ms to 32 s.
    Histogram::new(exponential_buckets(0.001, 2.0, 16))
}

/// The measurements. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    syncs: Histogram,
    last: Gauge<f64, AtomicU64>,
    failures: Counter,
    written: Family<InTable, Gauge>,
    services: Counter,
    endpoints: Counter,
    repaired: Counter,
}

impl Default for Metrics {
    /// Measurements that nobody reads.
    fn default() -> Self {
        Metrics {
            syncs: seconds(),
            last: Gauge::default(),
            failures: Counter::default(),
            written: Family::default(),
            services: Counter::default(),
            endpoints: Counter::default(),
            repaired: Counter::default(),
        }
    }
}

impl Metrics {
    /// Shown among a component's; `sizes` gives how many rules there should be in each table.
    pub fn new(controls: &Controls) -> Metrics {
        let syncs = Family::<Family4, Histogram>::new_with_constructor(seconds as fn() -> Histogram);
        let last = Family::<Family4, Gauge<f64, AtomicU64>>::default();
        let failures = Family::<Family4, Counter>::default();
        let metrics = Metrics {
            syncs: syncs.get_or_create_owned(&FAMILY),
            last: last.get_or_create_owned(&FAMILY),
            failures: failures.get_or_create_owned(&FAMILY),
            ..Metrics::default()
        };
        let m = metrics.clone();
        controls.register(|r| {
            let about = "From knowing of a change to all of its rules being in the kernel";
            r.register("kubeproxy_sync_proxy_rules_duration_seconds", about, syncs);
            let about = "When all rules were last in the kernel";
            r.register("kubeproxy_sync_proxy_rules_last_timestamp_seconds", about, last);
            let about = "Restores that iptables refused or did not finish";
            r.register("kubeproxy_sync_proxy_rules_iptables_restore_failures", about, failures);
            let about = "Rules written in the last sync";
            r.register("kubeproxy_sync_proxy_rules_iptables_last", about, m.written);
            r.register("kubeproxy_sync_proxy_rules_service_changes", "Changes of Services heard of", m.services);
            r.register(
                "kubeproxy_sync_proxy_rules_endpoint_changes",
                "Changes of EndpointSlices heard of",
                m.endpoints,
            );
            let about = "How often the rules in the kernel were found to be other than what was written, and put right";
            r.register("skiff_proxy_repairs", about, m.repaired);
        });
        metrics
    }

    /// A Service changed.
    pub fn service_changed(&self) {
        self.services.inc();
    }

    /// An EndpointSlice changed.
    pub fn endpoints_changed(&self) {
        self.endpoints.inc();
    }

    /// All rules are in the kernel.
    pub(crate) fn synced(&self, took: Duration, now: jiff::Timestamp, written: &[(Table, usize)]) {
        self.syncs.observe(took.as_secs_f64());
        self.last.set(now.as_millisecond() as f64 / 1000.0);
        for (table, rules) in written {
            self.written.get_or_create(&within(*table)).set(i64::try_from(*rules).unwrap_or(i64::MAX));
        }
    }

    /// A restore failed.
    pub(crate) fn failed(&self) {
        self.failures.inc();
    }

    /// Somebody had changed the rules.
    pub(crate) fn repaired(&self) {
        self.repaired.inc();
    }
}

/// How many rules there should be, counted when somebody asks.
pub struct Sizes<F>(pub F);

impl<F> fmt::Debug for Sizes<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sizes")
    }
}

impl<F: Fn() -> Option<Vec<(Table, usize)>> + Send + Sync + 'static> Collector for Sizes<F> {
    fn encode(&self, mut to: DescriptorEncoder) -> Result<(), fmt::Error> {
        let Some(sizes) = (self.0)() else { return Ok(()) };
        // Kubernetes calls this gauge a total.
        let name = "kubeproxy_sync_proxy_rules_iptables_total";
        let about = "Rules in the proxy's own chains";
        let mut family = to.encode_descriptor(name, about, None, MetricType::Gauge)?;
        for (table, rules) in sizes {
            let rules = ConstGauge::new(i64::try_from(rules).unwrap_or(i64::MAX));
            rules.encode(family.encode_family(&within(table))?)?;
        }
        Ok(())
    }
}
