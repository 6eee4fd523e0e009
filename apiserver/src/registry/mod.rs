//! The registry: everything that happens to a request behind either face, once.
//!
//! ```text
//! grpc/ and rest/  ->  Registry::serve(Request)
//!     limits  ->  authorisation  ->  get | list | watch                      -> cache
//!                                \-> create | update | patch | delete
//!                                      decode, defaults, admission, validation -> commit -> store
//! ```
//!
//! Every write is a compare-and-swap: it reads the object at a revision, works out the new one, and the store takes it
//! only if the object (and whatever else the decision stood on: the namespace, the fencing Lease) has not changed. A
//! write that names no revision is worked out again on the newest object; one that does is a conflict.

mod admit;
mod allocation;
mod apply;
mod budget;
mod commit;
mod create;
mod delete;
mod delete_collection;
mod error;
mod get;
mod limits;
mod list;
mod meta;
mod metrics;
mod patch;
mod reply;
mod request;
mod scale;
mod selection;
mod service_account_token;
mod subresources;
mod token;
mod update;
mod watch;

pub(crate) use commit::{Also, Beside};
pub use error::{ApiError, ApiResult};
pub use limits::Limits;
#[cfg(test)]
pub use patch::json as json_patch;
pub use request::*;
pub use watch::{WatchEvent, WatchEventKind, WatchReply};

use self::admit::Turns;
use crate::audit::{self, Audit, Done};
use crate::auth::tokens::{Authenticator, Issuer};
use crate::auth::{Authorizer, Grant};
use crate::cache::Cache;
use crate::custom::Definitions;
use crate::resources::{Resource, Table};
use crate::store::Store;
use limits::Permits;
use metrics::{Metrics, Progress};
use skiff_world::{Identity, World};
use std::net::Ipv4Addr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How long a scrape waits for the store, and then for the cache.
const LOOK: Duration = Duration::from_secs(2);

/// The pipeline behind both faces. Cheap to clone.
#[derive(Clone)]
pub struct Registry {
    inner: Arc<Inner>,
}

struct Inner {
    world: World,
    store: Arc<dyn Store>,
    cache: Cache,
    table: Table,
    authorizer: Authorizer,
    authenticator: Authenticator,
    permits: Permits,
    settings: Settings,
    closing: CancellationToken,
    metrics: Metrics,
    definitions: Definitions,
    audit: OnceLock<Audit>,
    turns: Turns,
}

/// What a cluster is told about itself.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Where Services' addresses come from.
    pub service_cidr: ipnet::Ipv4Net,
    /// How long a new Pod that does not say stays on a node that is not ready or not reachable.
    pub lost_node_tolerance: Duration,
    /// Service accounts have tokens: Pods must have one, and get its token.
    pub service_account_tokens: bool,
}

/// What is answered.
pub enum Reply {
    /// One object.
    Object(ObjectReply),
    /// A page of a collection.
    List(ListReply),
    /// A stream of changes.
    Watch(WatchReply),
}

impl Registry {
    /// A registry over a store and the cache fed from it.
    pub fn new(
        world: World,
        store: Arc<dyn Store>,
        cache: Cache,
        table: Table,
        limits: Limits,
        settings: Settings,
        issuer: Option<Issuer>,
    ) -> Self {
        let authorizer = Authorizer::new(cache.clone(), table.clone());
        let authenticator = Authenticator::new(world.clone(), cache.clone(), table.clone(), issuer);
        let permits = Permits::new(limits);
        let (closing, metrics) = (CancellationToken::new(), Metrics::new(&world));
        let definitions = Definitions::new(cache.clone(), table.clone());
        let (audit, turns) = (OnceLock::new(), Turns::default());
        let inner = Inner {
            world,
            store,
            cache,
            table,
            authorizer,
            authenticator,
            permits,
            settings,
            closing,
            metrics,
            definitions,
            audit,
            turns,
        };
        Self { inner: Arc::new(inner) }
    }

    /// The custom resources that are served.
    pub(crate) fn definitions(&self) -> &Definitions {
        &self.inner.definitions
    }

    /// What this server runs in.
    pub(crate) fn world(&self) -> &World {
        &self.inner.world
    }

    /// From now on, what is done stands in a log.
    pub fn keep_audit_log(&self, audit: Audit) {
        let _ = self.inner.audit.set(audit);
    }

    /// Waits until what was done so far stands in the log, if there is one.
    pub async fn flush_audit_log(&self) {
        if let Some(audit) = self.inner.audit.get() {
            audit.flush().await;
        }
    }

    /// Ends all watches: the server is about to stop, and their clients go on elsewhere.
    pub fn close(&self) {
        self.inner.closing.cancel();
    }

    /// Whether it is being closed.
    pub fn is_closing(&self) -> bool {
        self.inner.closing.is_cancelled()
    }

    /// Completes when the registry is being closed.
    pub async fn closing(&self) {
        self.inner.closing.cancelled().await;
    }

    /// An error if what is served is no longer what is stored.
    pub fn health(&self) -> ApiResult<()> {
        self.inner.cache.health().map_err(commit::cache_error)
    }

    /// What reads are answered from.
    pub fn cache(&self) -> &Cache {
        &self.inner.cache
    }

    /// The table of resources.
    pub fn table(&self) -> &Table {
        &self.inner.table
    }

    /// Who may do what.
    pub fn authorizer(&self) -> &Authorizer {
        &self.inner.authorizer
    }

    /// Who makes tokens of service accounts here, if anybody.
    pub fn issuer(&self) -> Option<&Issuer> {
        self.inner.authenticator.issuer()
    }

    /// The limits in force.
    pub fn limits(&self) -> &Limits {
        self.inner.permits.limits()
    }

    /// The first address of the Service range: that of the API server itself.
    pub fn kubernetes_address(&self) -> Ipv4Addr {
        allocation::first_address(&self.inner.settings.service_cidr)
    }

    /// The store's last revision.
    pub(crate) async fn head(&self) -> ApiResult<u64> {
        self.inner.store.head().await.map_err(commit::store_error)
    }

    /// What the server counts of itself, for Prometheus.
    pub async fn metrics(&self) -> String {
        let (world, cache) = (&self.inner.world, &self.inner.cache);
        let began = world.now();
        // A store that does not answer is told by what is missing; the rest is told all the same.
        let store = tokio::time::timeout(LOOK, self.head()).await.ok().and_then(Result::ok);
        if let Some(head) = store {
            let _ = cache.wait_until(head, LOOK).await;
        }
        let lag = world.now().saturating_duration_since(began);
        let rows = self.inner.table.all();
        let resources =
            rows.values().map(|row| (row.clone(), cache.last_change(row.cached()), cache.count(row.cached())));
        let progress = Progress { store, cache: cache.revision(), lag, resources: resources.collect() };
        self.inner.metrics.text(&progress)
    }

    /// Serves a request: limits, authorisation, the operation.
    pub async fn serve(&self, request: Request) -> ApiResult<Reply> {
        let (began, counted) = (self.inner.world.now(), self.inner.metrics.begin(&request));
        let came = self.inner.audit.get().map(|audit| (audit, self.inner.world.wall()));
        let granted = self.permit_fresh(&request).await;
        let (answer, granted) = match granted {
            Ok(grant) => (self.answer(&request).await, Some(grant)),
            Err(refused) => (Err(refused), None),
        };
        if let Some((audit, came)) = came.filter(|_| Audit::wants(&request, answer.is_ok())) {
            audit.record(Done::of(&self.inner.world, &request, &answer, granted, came));
        }
        self.inner.metrics.answered(&request, &answer, self.inner.world.now() - began);
        drop(counted);
        answer
    }

    /// Lets a stream to a component through, or refuses it in words. One that can change something stands in the audit log.
    pub fn open_stream(
        &self,
        identity: &Identity,
        resource: &Resource,
        subresource: &str,
        verb: &'static str,
        (namespace, name): (&str, &str),
    ) -> ApiResult<()> {
        let came = self.inner.world.wall();
        let granted = self.inner.authorizer.authorize_stream(identity, resource, subresource, verb, namespace, name);
        if let Some(audit) = self.inner.audit.get().filter(|_| verb != "get") {
            let object = audit::Object {
                namespace: namespace.into(),
                name: name.into(),
                subresource: subresource.into(),
                ..audit::Object::all(resource)
            };
            audit.record(Done::opened(&self.inner.world, identity, verb, object, &granted, came));
        }
        granted.map(|_| ())
    }

    /// Whether the request speaks of something that can exist, and its sender may ask it.
    pub(crate) fn permit(&self, request: &Request) -> ApiResult<()> {
        self.address(request)?;
        self.inner.authorizer.authorize(request).map(|_| ())
    }

    /// The same. What the cache shows may be old: it catches up before anything is refused.
    async fn permit_fresh(&self, request: &Request) -> ApiResult<Grant> {
        self.address(request)?;
        let authorizer = &self.inner.authorizer;
        match authorizer.authorize(request) {
            Err(refused) => {
                let before = self.inner.cache.revision();
                self.catch_up().await?;
                if self.inner.cache.revision() == before { Err(refused) } else { authorizer.authorize(request) }
            }
            allowed => allowed,
        }
    }

    async fn answer(&self, request: &Request) -> ApiResult<Reply> {
        if let Operation::Watch(options) = &request.operation {
            let permit = self.inner.permits.watcher()?;
            return self.watch(request, options, permit).await.map(Reply::Watch);
        }
        let _permit = self.inner.permits.request(request)?;
        match &request.operation {
            Operation::Get => self.get(request).await.map(Reply::Object),
            Operation::List(options) => self.list(request, options).await.map(Reply::List),
            Operation::Create(body) => self.create(request, body).await.map(Reply::Object),
            Operation::Update(body) => self.update(request, body).await.map(Reply::Object),
            Operation::Patch { kind, body } => self.patch(request, *kind, body).await.map(Reply::Object),
            Operation::Delete(options) => self.delete(request, options).await.map(Reply::Object),
            Operation::DeleteCollection { options, list } => {
                self.delete_collection(request, options, list).await.map(Reply::List)
            }
            Operation::Watch(_) => Err(ApiError::internal("a watch was not served as one")),
        }
    }

    /// Looks a resource up by its names, with words for whoever asked.
    pub fn resource(&self, group: &str, version: &str, resource: &str) -> ApiResult<Arc<Resource>> {
        let known = || self.inner.table.get(group, version, resource);
        // A definition may have been established a moment ago.
        known().or_else(|| self.inner.definitions.learn(group, resource).then(known).flatten()).ok_or_else(|| {
            let api_version = if group.is_empty() { version.to_string() } else { format!("{group}/{version}") };
            ApiError::no_such_resource(format!(
                "the server could not find the requested resource: no {resource:?} in {api_version:?}"
            ))
        })
    }

    /// Checks that the request speaks of something that exists: names present, subresources known.
    fn address(&self, request: &Request) -> ApiResult<()> {
        let resource = &request.resource;
        if !resource.has(&request.subresource) {
            return Err(ApiError::no_such_resource(format!(
                "the server could not find the requested resource: {} have no subresource {:?}",
                resource.qualified(),
                request.subresource
            )));
        }
        let collection =
            matches!(request.operation, Operation::List(_) | Operation::Watch(_) | Operation::DeleteCollection { .. });
        let creates_top = matches!(request.operation, Operation::Create(_)) && request.subresource.is_empty();
        if !collection && !creates_top && request.name.is_empty() {
            return Err(ApiError::bad_request(format!(
                "a name is required to {} {}",
                request.verb(),
                resource.qualified()
            )));
        }
        if collection && !request.subresource.is_empty() {
            return Err(ApiError::method_not_allowed(resource, request.verb()));
        }
        if resource.namespaced && !collection && request.namespace.is_empty() {
            return Err(ApiError::bad_request(format!(
                "a namespace is required to {} {}",
                request.verb(),
                resource.qualified()
            )));
        }
        if !resource.namespaced && !request.namespace.is_empty() {
            return Err(ApiError::bad_request(format!("{} are not in namespaces", resource.qualified())));
        }
        // Parts of keys: whatever is no name cannot exist, and must not reach the store.
        for part in [&request.namespace, &request.name] {
            if part.len() > 253 || !crate::resources::validation::path_segment(part).is_empty() {
                return Err(ApiError::bad_request(format!("{part:.260?} is not a name")));
            }
        }
        Ok(())
    }
}
