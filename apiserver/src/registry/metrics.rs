//! What the server counts of itself, in Prometheus' words.

use super::error::ApiResult;
use super::request::Request;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry as Exposition;
use std::time::Duration;

type Labels = Vec<(&'static str, String)>;

/// Upper bounds of request durations, in seconds.
const BUCKETS: [f64; 10] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0];

/// All counters.
pub struct Metrics {
    exposition: Exposition,
    requests: Family<Labels, Counter>,
    durations: Family<Labels, Histogram, fn() -> Histogram>,
    in_flight: Gauge,
    watchers: Gauge,
    revision: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut exposition = Exposition::default();
        let requests = Family::<Labels, Counter>::default();
        let durations =
            Family::<Labels, Histogram, fn() -> Histogram>::new_with_constructor(|| Histogram::new(BUCKETS));
        let (in_flight, watchers, revision) = (Gauge::default(), Gauge::default(), Gauge::default());
        exposition.register("apiserver_request", "Requests, by verb, resource and code", requests.clone());
        exposition.register(
            "apiserver_request_duration_seconds",
            "How long they took, watches aside",
            durations.clone(),
        );
        exposition.register("apiserver_current_inflight_requests", "Requests being served", in_flight.clone());
        exposition.register("apiserver_longrunning_requests", "Watches open", watchers.clone());
        exposition.register("apiserver_cache_revision", "The newest revision that reads show", revision.clone());
        Self { exposition, requests, durations, in_flight, watchers, revision }
    }
}

/// One more, until it is dropped.
pub struct Counted(Gauge);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Metrics {
    /// A request begins.
    pub fn begin(&self) -> Counted {
        self.in_flight.inc();
        Counted(self.in_flight.clone())
    }

    /// A watch is open.
    pub fn watching(&self) -> Counted {
        self.watchers.inc();
        Counted(self.watchers.clone())
    }

    /// A request was answered.
    pub fn answered<T>(&self, request: &Request, answer: &ApiResult<T>, took: Duration) {
        let code = answer.as_ref().err().map_or(200, |error| error.code());
        let verb = ("verb", request.verb().to_string());
        let labels = vec![
            verb.clone(),
            ("resource", request.resource.qualified()),
            ("subresource", request.subresource.clone()),
            ("code", code.to_string()),
        ];
        self.requests.get_or_create(&labels).inc();
        if request.verb() != "watch" {
            self.durations.get_or_create(&vec![verb]).observe(took.as_secs_f64());
        }
    }

    /// Everything, as Prometheus reads it.
    pub fn text(&self, revision: u64) -> String {
        self.revision.set(i64::try_from(revision).unwrap_or(i64::MAX));
        let mut out = String::new();
        // Writing into memory does not fail.
        let _ = encode(&mut out, &self.exposition);
        out
    }
}
