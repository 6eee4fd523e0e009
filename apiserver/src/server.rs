//! Starting and stopping: store, cache, registry, bootstrap, listeners, in this order; and the reverse.

use crate::audit::{Audit, AuditOptions};
use crate::auth::tokens::{Issuer, KeyError, Keys, ServiceAccounts};
use crate::cache::{Cache, CacheError};
use crate::grpc::{HistoryService, ResourcesService};
use crate::history::History;
use crate::http::{self, Front};
use crate::monitoring::Monitoring;
use crate::recorder::{Recorder, RecorderError, RecorderOptions};
use crate::registry::{ApiError, Limits, Registry, Settings};
use crate::rest::Rest;
use crate::store::embedded::{Embedded, EmbeddedOptions};
use crate::store::etcd::{Etcd, EtcdOptions};
use crate::store::{Store, StoreError};
use crate::tunnel::{StreamsService, TunnelService, Tunnels};
use crate::{bootstrap, custom, resources};
use skiff_proto::skiffv1::history_server::HistoryServer;
use skiff_proto::skiffv1::resources_server::ResourcesServer;
use skiff_proto::skiffv1::streams_server::StreamsServer;
use skiff_proto::skiffv1::tunnel_server::TunnelServer;
use skiff_world::tls::{Files, ServerTls, TlsError};
use skiff_world::{Address, Listener, World};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

/// How to run a server.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where to listen.
    pub listen: Vec<Address>,
    /// How to speak TLS on addresses that are not pipes.
    pub tls: Option<Files>,
    /// What to keep everything in.
    pub store: StoreOptions,
    /// Where Services' addresses come from.
    pub service_cidr: ipnet::Ipv4Net,
    /// The cluster's name.
    pub cluster_name: String,
    /// Where the recorder writes; unset: nothing is recorded.
    pub recorder_dir: Option<PathBuf>,
    /// The addresses and port at which nodes reach this server: the endpoints of the Service `kubernetes`.
    pub advertise: Vec<(IpAddr, u16)>,
    /// How the audit log is kept; unset: there is none.
    pub audit: Option<AuditOptions>,
    /// The limits in force.
    pub limits: Limits,
    /// How long a new Pod that does not say stays on a node that is not ready or not reachable: the seconds of the
    /// tolerations that it is given.
    pub lost_node_tolerance: Duration,
    /// How long an Event is kept after its last write.
    pub event_ttl: Duration,
    /// How tokens of service accounts are made and taken. Without it there are none, and Pods are not given any.
    pub service_accounts: Option<ServiceAccounts>,
}

impl Options {
    /// The usual, for a cluster of one server.
    pub fn new(listen: Vec<Address>, store: StoreOptions) -> Self {
        Self {
            listen,
            tls: None,
            store,
            service_cidr: "10.96.0.0/16".parse().expect("a well-formed constant"),
            cluster_name: "skiff".into(),
            recorder_dir: None,
            advertise: Vec::new(),
            audit: None,
            limits: Limits::default(),
            lost_node_tolerance: Duration::from_secs(300),
            event_ttl: resources::EVENT_LIFE,
            service_accounts: None,
        }
    }
}

/// Where everything is kept.
#[derive(Clone, Debug)]
pub enum StoreOptions {
    /// In a file of our own.
    Embedded(EmbeddedOptions),
    /// In etcd.
    Etcd {
        /// Its servers.
        endpoints: Vec<String>,
        /// How to speak TLS with them.
        tls: Option<Files>,
    },
}

/// Why a server cannot run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store cannot be opened.
    #[error("cannot open the store: {0}")]
    Store(#[from] StoreError),
    /// The cache cannot be filled.
    #[error("cannot read the store's contents: {0}")]
    Cache(#[from] CacheError),
    /// The store has failed while it was in use.
    #[error("the store can no longer be used ({0}) and has to be opened again; what went wrong is in the log")]
    StoreEnded(CacheError),
    /// The certificates cannot be used.
    #[error("cannot set up TLS: {0}")]
    Tls(#[from] TlsError),
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// Which.
        address: Address,
        /// Why.
        error: std::io::Error,
    },
    /// What every cluster begins with cannot be made.
    #[error("cannot set up the cluster's first objects: {}", .0.message())]
    Bootstrap(ApiError),
    /// The audit log cannot be written.
    #[error("cannot keep the audit log: {0}")]
    Audit(std::io::Error),
    /// The keys for tokens cannot be used.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// The recorder cannot write.
    #[error(transparent)]
    Recorder(#[from] RecorderError),
}

/// A running server.
pub struct Handle {
    registry: Registry,
    store: Arc<dyn Store>,
    stop: CancellationToken,
    tasks: Vec<skiff_world::Task>,
}

impl Handle {
    /// The registry, for parts of the same process (and tests).
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Completes when the server is told to stop, or with an error when its store has ended: nothing can be written any
    /// more then, and what the disk holds is known only when it is opened again. Whoever runs the server starts it anew.
    pub async fn stopping(&self) -> Result<(), Error> {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Ok(()),
            why = self.registry.cache().failure() => Err(Error::StoreEnded(why)),
        }
    }

    /// Stops gracefully: no new connections, watches and tunnels end, open requests are finished, the store is closed.
    pub async fn stop(self) {
        self.registry.close();
        self.stop.cancel();
        for task in self.tasks {
            let _ = task.join().await;
        }
        self.registry.flush_audit_log().await;
        self.store.close().await;
    }
}

/// Runs a server until its handle is stopped or its World is.
pub async fn run(world: World, options: Options) -> Result<Handle, Error> {
    let store = open(&world, &options).await?;
    run_on(world, options, store).await
}

/// The same on a store that is open already, whatever the options say of it.
pub async fn run_on(world: World, options: Options, store: Arc<dyn Store>) -> Result<Handle, Error> {
    let mut sinks: Vec<Arc<dyn crate::cache::RevisionSink>> = Vec::new();
    let mut recorder = None;
    if let Some(dir) = &options.recorder_dir {
        let opened = Recorder::open(&world, RecorderOptions::new(dir)).await?;
        sinks.push(opened.clone());
        recorder = Some(opened);
    }
    // Listening begins before anything can ask: a client that connects meanwhile waits instead of failing.
    let mut listeners: Vec<Listener> = Vec::new();
    for address in &options.listen {
        let failed = |error| Error::Listen { address: address.clone(), error };
        listeners.push(world.listen(address).await.map_err(failed)?);
    }
    let cache = Cache::start(&world, store.clone(), Vec::new(), sinks).await?;
    let table = resources::built_in(options.event_ttl);
    for row in table.all().values() {
        row.register(&cache);
    }
    let audit = match options.audit.clone() {
        Some(audit) => Some(Audit::open(&world, audit).await.map_err(Error::Audit)?),
        None => None,
    };
    let settings = Settings {
        service_cidr: options.service_cidr,
        lost_node_tolerance: options.lost_node_tolerance,
        service_account_tokens: options.service_accounts.is_some(),
    };
    let issuer = options.service_accounts.as_ref().map(issuer).transpose()?;
    let registry = Registry::new(world.clone(), store.clone(), cache, table, options.limits.clone(), settings, issuer);
    if let Some(audit) = audit {
        registry.keep_audit_log(audit);
    }
    world.spawn("custom-resources", custom::keep(registry.clone()));
    let authority = options.tls.as_ref().map(authority).transpose()?;
    begin(&world, &registry, options.advertise, authority).await?;

    let stop = CancellationToken::new();
    let tls = options.tls.clone().map(ServerTls::new).transpose()?;
    let tunnels = Tunnels::new(world.clone(), registry.clone());
    let front = Front {
        world: world.clone(),
        grpc: routes(&registry, &tunnels, recorder),
        registry: registry.clone(),
        rest: Rest::new(world.clone(), registry.clone(), tunnels.clone()),
        monitoring: Monitoring::new(registry.clone(), tunnels),
        tls,
        stop: stop.clone(),
    };
    let tasks =
        listeners.into_iter().map(|listener| world.spawn("accept", http::accept(front.clone(), listener))).collect();
    Ok(Handle { registry, store, stop, tasks })
}

fn issuer(told: &ServiceAccounts) -> Result<Issuer, KeyError> {
    Ok(Issuer { name: told.issuer.clone(), keys: Keys::read(&told.private_key, &told.public_keys)? })
}

/// Whose certificates clients may show, as the file has it now.
fn authority(files: &Files) -> Result<String, TlsError> {
    std::fs::read_to_string(&files.ca).map_err(|error| TlsError::Read { path: files.ca.clone(), error })
}

/// Makes what every cluster begins with, in a task of its own: all that a request goes through would else lie on the
/// stack of whoever starts a server.
async fn begin(
    world: &World,
    registry: &Registry,
    advertise: Vec<(IpAddr, u16)>,
    authority: Option<String>,
) -> Result<(), Error> {
    let (done, made) = tokio::sync::oneshot::channel();
    let registry = registry.clone();
    world.spawn("bootstrap", async move {
        // Whoever starts the server may have given up.
        let _ = done.send(bootstrap::bootstrap(&registry, &advertise, authority.as_deref()).await);
    });
    let stopped = |_| Err(ApiError::internal("the server was stopped while it started"));
    made.await.unwrap_or_else(stopped).map_err(Error::Bootstrap)
}

async fn open(world: &World, options: &Options) -> Result<Arc<dyn Store>, Error> {
    match &options.store {
        StoreOptions::Embedded(options) => Ok(Arc::new(Embedded::open(world, options.clone()).await?)),
        StoreOptions::Etcd { endpoints, tls } => {
            // Clusters of different names may share an etcd.
            let key_prefix = format!("/{}", options.cluster_name);
            let options = EtcdOptions { tls: tls.clone(), key_prefix, ..EtcdOptions::new(endpoints.clone()) };
            Ok(Etcd::open(world, options).await?)
        }
    }
}

/// The gRPC services, with limits on what they read. Replies are bounded by the registry's pages.
fn routes(registry: &Registry, tunnels: &Tunnels, recorder: Option<Arc<Recorder>>) -> axum::Router {
    // Well above the registry's own limit, which refuses in words.
    let largest = 4 * registry.limits().body_bytes.max(1 << 20);
    Routes::new(
        ResourcesServer::new(ResourcesService::new(registry.clone()))
            .max_decoding_message_size(largest)
            .max_encoding_message_size(usize::MAX),
    )
    .add_service(HistoryServer::new(HistoryService::new(History::new(registry.clone(), recorder))))
    .add_service(TunnelServer::new(TunnelService::new(tunnels.clone())))
    .add_service(StreamsServer::new(StreamsService::new(tunnels.clone())))
    .prepare()
    .into_axum_router()
}
