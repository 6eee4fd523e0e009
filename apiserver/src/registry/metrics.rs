//! What the server counts of itself, for Prometheus; Kubernetes' names and labels where it has one for the same thing.
//!
//! Counting stands in every request's way: it takes two look-ups in a map by a key that allocates nothing. All labels come
//! from the table of resources and from fixed lists, so that no client can make series.

use super::error::ApiResult;
use super::request::{Operation, PatchKind, Request};
use crate::resources::Resource;
use prometheus_client::encoding::{EncodeLabel, EncodeLabelSet, LabelSetEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry as Exposition;
use skiff_world::{World, exposition};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

/// Upper bounds of durations, in seconds: from what a small write takes here, with those that rules for Kubernetes name.
const BUCKETS: [f64; 15] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// What was asked for, as a set of labels.
#[derive(Clone)]
struct Asked {
    verb: &'static str,
    resource: Arc<Resource>,
    /// Which of the resource's subresources; one that it does not have is none.
    subresource: Option<usize>,
    scope: &'static str,
    dry_run: bool,
}

impl Asked {
    fn of(request: &Request) -> Asked {
        let verb = match &request.operation {
            Operation::Get => "GET",
            Operation::List(_) => "LIST",
            Operation::Watch(_) => "WATCH",
            Operation::Create(_) => "POST",
            Operation::Update(_) => "PUT",
            Operation::Patch { kind: PatchKind::Apply, .. } => "APPLY",
            Operation::Patch { .. } => "PATCH",
            Operation::Delete(_) => "DELETE",
            Operation::DeleteCollection { .. } => "DELETECOLLECTION",
        };
        let scope = match () {
            () if !request.name.is_empty() || verb == "POST" => "resource",
            () if !request.namespace.is_empty() => "namespace",
            () => "cluster",
        };
        let resource = request.resource.clone();
        let subresource = resource.subresources.iter().position(|known| *known == request.subresource);
        Asked { verb, resource, subresource, scope, dry_run: request.dry_run() }
    }

    fn key(&self) -> (&str, &str, &str, &str, Option<usize>, &str, bool) {
        let row = &self.resource;
        (self.verb, &row.group, &row.version, &row.resource, self.subresource, self.scope, self.dry_run)
    }
}

impl fmt::Debug for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.key().fmt(f)
    }
}

impl PartialEq for Asked {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Asked {}

impl Hash for Asked {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // Few share these; the rest is told apart by comparing.
        self.resource.resource.hash(state);
        (self.verb.len(), self.subresource).hash(state);
    }
}

impl EncodeLabelSet for Asked {
    fn encode(&self, to: &mut LabelSetEncoder<'_>) -> Result<(), fmt::Error> {
        let row = &self.resource;
        let subresource = self.subresource.and_then(|at| row.subresources.get(at)).map_or("", String::as_str);
        for label in [
            ("verb", self.verb),
            ("dry_run", if self.dry_run { "All" } else { "" }),
            ("group", &row.group),
            ("version", &row.version),
            ("resource", &row.resource),
            ("subresource", subresource),
            ("scope", self.scope),
            ("component", "apiserver"),
        ] {
            label.encode(to.encode_label())?;
        }
        Ok(())
    }
}

/// And how it was answered.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Answered {
    asked: Asked,
    code: i32,
}

impl EncodeLabelSet for Answered {
    fn encode(&self, to: &mut LabelSetEncoder<'_>) -> Result<(), fmt::Error> {
        self.asked.encode(to)?;
        ("code", self.code.to_string().as_str()).encode(to.encode_label())
    }
}

type Labels = Vec<(&'static str, String)>;
type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

fn histograms<L: Clone + Hash + Eq>() -> Histograms<L> {
    Family::new_with_constructor(|| Histogram::new(BUCKETS))
}

/// All measurements.
pub struct Metrics {
    exposition: Exposition,
    requests: Family<Answered, Counter>,
    durations: Histograms<Asked>,
    reading: Gauge,
    writing: Gauge,
    watches: Family<Asked, Gauge>,
    cut_off: Family<Labels, Counter>,
    commits: Histograms<Labels>,
    committed: Histogram,
    store_revision: Gauge,
    cache_revision: Gauge,
    cache_lag: Gauge<f64, AtomicU64>,
    changed: Family<Labels, Gauge>,
    objects: Family<Labels, Gauge>,
}

/// How far the server's parts are, at the moment of a scrape.
pub struct Progress {
    /// The store's last revision; unknown if it does not answer.
    pub store: Option<u64>,
    /// The newest that reads show.
    pub cache: u64,
    /// How long it took until reads showed what the store had acknowledged.
    pub lag: Duration,
    /// Each resource with its last change and how many objects it has.
    pub resources: Vec<(Arc<Resource>, u64, usize)>,
}

impl Metrics {
    /// Nothing counted yet.
    pub fn new(world: &World) -> Self {
        let commits = histograms::<Labels>();
        let committed = commits.get_or_create_owned(&result("committed"));
        // There from the start: a rate over what is not there yet is no alert.
        drop(commits.get_or_create_owned(&result("error")));
        let mut metrics = Self {
            exposition: Exposition::default(),
            requests: Family::default(),
            durations: histograms(),
            reading: Gauge::default(),
            writing: Gauge::default(),
            watches: Family::default(),
            cut_off: Family::default(),
            commits,
            committed,
            store_revision: Gauge::default(),
            cache_revision: Gauge::default(),
            cache_lag: Gauge::default(),
            changed: Family::default(),
            objects: Family::default(),
        };
        metrics.describe();
        exposition::register_process(&mut metrics.exposition, world);
        metrics
    }

    fn describe(&mut self) {
        let in_flight = Family::<Vec<(&str, &str)>, Gauge, _>::new_with_constructor(Gauge::default);
        // These two are met in every request: they are held, not looked up.
        self.reading = in_flight.get_or_create_owned(&vec![("request_kind", "readOnly")]);
        self.writing = in_flight.get_or_create_owned(&vec![("request_kind", "mutating")]);
        let version = Family::<Vec<(&str, &str)>, Gauge>::default();
        version.get_or_create(&vec![("version", crate::VERSION)]).set(1);
        let e = &mut self.exposition;
        e.register("apiserver_request", "Requests answered", self.requests.clone());
        let about = "From a request's arrival to its answer, watches aside";
        e.register("apiserver_request_duration_seconds", about, self.durations.clone());
        e.register("apiserver_current_inflight_requests", "Requests being served, watches aside", in_flight);
        e.register("apiserver_longrunning_requests", "Watches open", self.watches.clone());
        let about = "Watchers cut off because they read too slowly; they go on where they were";
        e.register("apiserver_terminated_watchers", about, self.cut_off.clone());
        let about = "One transaction of the store, until it is durable; result: committed, conflict, error";
        e.register("skiff_store_commit_duration_seconds", about, self.commits.clone());
        e.register("skiff_store_revision", "The store's last revision", self.store_revision.clone());
        e.register(
            "skiff_apiserver_cache_revision",
            "The newest revision that reads show",
            self.cache_revision.clone(),
        );
        let about = "How long it took, at this scrape, until reads showed what the store had acknowledged";
        e.register("skiff_apiserver_cache_lag_seconds", about, self.cache_lag.clone());
        let about = "The last revision that changed any object of a resource";
        e.register("skiff_apiserver_resource_revision", about, self.changed.clone());
        e.register("apiserver_resource_objects", "Objects stored, by resource", self.objects.clone());
        e.register("skiff_build_info", "Always 1; the version is a label", version);
    }
}

fn result(words: &str) -> Labels {
    vec![("result", words.to_string())]
}

fn of_resource(resource: &Resource) -> Labels {
    vec![("group", resource.group.clone()), ("resource", resource.resource.clone())]
}

/// One more, until it is dropped.
pub struct Counted(Option<Gauge>);

impl Counted {
    fn new(gauge: Gauge) -> Self {
        gauge.inc();
        Self(Some(gauge))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if let Some(gauge) = &self.0 {
            gauge.dec();
        }
    }
}

impl Metrics {
    /// A request begins.
    pub fn begin(&self, request: &Request) -> Counted {
        match &request.operation {
            Operation::Watch(_) => Counted(None),
            _ if request.is_write() => Counted::new(self.writing.clone()),
            _ => Counted::new(self.reading.clone()),
        }
    }

    /// A watch is open.
    pub fn watching(&self, request: &Request) -> Counted {
        Counted::new(self.watches.get_or_create_owned(&Asked::of(request)))
    }

    /// How many watchers of a resource were cut off for being slow.
    pub fn cut_off(&self, resource: &Resource) -> Counter {
        self.cut_off.get_or_create_owned(&of_resource(resource))
    }

    /// A request was answered.
    pub fn answered<T>(&self, request: &Request, answer: &ApiResult<T>, took: Duration) {
        let code = match (answer, &request.operation) {
            (Err(error), _) => error.code(),
            (Ok(_), Operation::Create(_)) => 201,
            (Ok(_), _) => 200,
        };
        let asked = Asked::of(request);
        if asked.verb != "WATCH" {
            self.durations.get_or_create(&asked).observe(took.as_secs_f64());
        }
        self.requests.get_or_create(&Answered { asked, code }).inc();
    }

    /// A transaction has ended: `None` when nobody knows how.
    pub fn committed(&self, committed: Option<bool>, took: Duration) {
        match committed {
            Some(true) => self.committed.observe(took.as_secs_f64()),
            Some(false) => self.commits.get_or_create(&result("conflict")).observe(took.as_secs_f64()),
            None => self.commits.get_or_create(&result("error")).observe(took.as_secs_f64()),
        }
    }

    /// Everything, as Prometheus reads it.
    pub fn text(&self, progress: &Progress) -> String {
        let whole = |revision: u64| i64::try_from(revision).unwrap_or(i64::MAX);
        if let Some(store) = progress.store {
            self.store_revision.set(whole(store));
        }
        self.cache_revision.set(whole(progress.cache));
        self.cache_lag.set(progress.lag.as_secs_f64());
        for (resource, changed, objects) in &progress.resources {
            let labels = of_resource(resource);
            self.changed.get_or_create(&labels).set(whole(*changed));
            self.objects.get_or_create(&labels).set(whole(*objects as u64));
        }
        exposition::text(&self.exposition)
    }
}
