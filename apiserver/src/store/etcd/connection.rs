//! How etcd is reached: one lazy connection per endpoint, one of them in use; every call has a timeout, and a connection
//! that fails gives way to the next.

use std::error::Error as _;
use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use etcd_client::{
    Certificate, Client, ConnectOptions, Error, Identity, KvClient, LeaseClient, TlsOptions, WatchClient,
};
use skiff_world::World;
use skiff_world::tls::Files;
use tonic::{Code, ConnectError, Status};

use super::EtcdOptions;
use crate::store::StoreError;

const CONNECT: Duration = Duration::from_secs(3);
/// A dead connection is noticed within the sum of both.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(5));
const PAUSE: Duration = Duration::from_millis(50);

/// All endpoints.
pub(super) struct Connection {
    world: World,
    patience: Duration,
    clients: Vec<Client>,
    names: Vec<String>,
    in_use: AtomicUsize,
}

/// Whether a call may be made twice.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeat {
    /// It changes nothing.
    Freely,
    /// Only when it certainly was not sent.
    Unsent,
}

impl Connection {
    /// Connects lazily: an endpoint that is down does not keep a server from starting on the others.
    pub(super) async fn new(world: &World, options: &EtcdOptions) -> Result<Connection, StoreError> {
        let EtcdOptions { endpoints, tls, patience, .. } = options;
        if endpoints.is_empty() {
            return Err(StoreError::Invalid("no etcd endpoint is given".into()));
        }
        let mut options = ConnectOptions::new()
            .with_connect_timeout(CONNECT)
            .with_keep_alive(KEEP_ALIVE.0, KEEP_ALIVE.1)
            .with_keep_alive_while_idle(true)
            // A member that lost its cluster must say so, also to watches, instead of falling silent.
            .with_require_leader(true);
        if let Some(files) = tls {
            options = options.with_tls(tls_options(world, files)?);
        }
        let mut clients = Vec::with_capacity(endpoints.len());
        for endpoint in endpoints {
            let client = Client::connect([endpoint], Some(options.clone())).await;
            clients
                .push(client.map_err(|error| StoreError::Invalid(format!("the etcd endpoint {endpoint:?}: {error}")))?);
        }
        Ok(Connection {
            world: world.clone(),
            patience: *patience,
            clients,
            names: endpoints.to_vec(),
            in_use: AtomicUsize::new(0),
        })
    }

    /// How long one call may take, with all its tries.
    pub(super) fn patience(&self) -> Duration {
        self.patience
    }

    fn current(&self) -> (usize, &Client) {
        let index = self.in_use.load(Ordering::Relaxed) % self.clients.len();
        (index, &self.clients[index])
    }

    /// Goes on to the next endpoint, unless somebody did already.
    pub(super) fn rotate(&self, from: usize) {
        let next = (from + 1) % self.clients.len();
        let changed = self.in_use.compare_exchange(from, next, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if changed && next != from {
            tracing::warn!(from = self.names[from], to = self.names[next], "going on to the next etcd endpoint");
        }
    }

    /// One call on the key space, tried on one endpoint after the other while that is safe and there is time.
    pub(super) async fn kv<T, F>(
        &self,
        operation: &'static str,
        repeat: Repeat,
        call: impl Fn(KvClient) -> F,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, Error>>,
    {
        // What one page of a list may weigh is bounded by the page, not here.
        self.call(operation, repeat, |client| call(client.kv_client().max_decoding_message_size(usize::MAX))).await
    }

    /// One call on leases. Granting one twice leaves one that expires by itself.
    pub(super) async fn lease<T, F>(
        &self,
        operation: &'static str,
        call: impl Fn(LeaseClient) -> F,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, Error>>,
    {
        self.call(operation, Repeat::Freely, |client| call(client.lease_client())).await
    }

    /// Opens a watch; says on which endpoint.
    pub(super) async fn watch<T, F>(&self, call: impl Fn(WatchClient) -> F) -> Result<(usize, T), StoreError>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let (index, _) = self.current();
        // One revision is one response, however large: without fragments etcd never splits it.
        let opened = self.call("opening a watch", Repeat::Freely, |client| {
            call(client.watch_client().max_decoding_message_size(usize::MAX))
        });
        Ok((index, opened.await?))
    }

    async fn call<T, F>(
        &self,
        operation: &'static str,
        repeat: Repeat,
        call: impl Fn(&Client) -> F,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let deadline = self.world.now() + self.patience;
        let mut last = None;
        loop {
            let (index, client) = self.current();
            let error = match tokio::time::timeout_at(deadline, call(client)).await {
                Ok(Ok(done)) => return Ok(done),
                Ok(Err(error)) => error,
                Err(_) => {
                    self.rotate(index);
                    return Err(last.unwrap_or(StoreError::Timeout { operation, seconds: self.patience.as_secs() }));
                }
            };
            let unreachable = is_unreachable(&error);
            if unreachable {
                self.rotate(index);
            }
            let again = unreachable && (repeat == Repeat::Freely || was_not_sent(&error));
            let failure = store_error(&error, &self.names[index]);
            if !again || self.world.now() + PAUSE >= deadline {
                return Err(failure);
            }
            last = Some(failure);
            self.world.sleep(PAUSE).await;
        }
    }
}

fn tls_options(world: &World, files: &Files) -> Result<TlsOptions, StoreError> {
    let read = |path: &std::path::Path| {
        world
            .disk()
            .read(path)
            .map_err(|error| StoreError::Invalid(format!("etcd's TLS file {}: {error}", path.display())))
    };
    let mut options = TlsOptions::new().ca_certificate(Certificate::from_pem(read(&files.ca)?));
    if let Some((certificate, key)) = &files.identity {
        options = options.identity(Identity::from_pem(read(certificate)?, read(key)?));
    }
    Ok(options)
}

/// True if another endpoint may do better.
fn is_unreachable(error: &Error) -> bool {
    match error {
        Error::GRpcStatus(status) => is_unreachable_status(status),
        Error::TransportError(_) | Error::IoError(_) | Error::WatchError(_) | Error::Internal(_) => true,
        _ => false,
    }
}

fn is_unreachable_status(status: &Status) -> bool {
    match status.code() {
        Code::Unavailable | Code::Cancelled | Code::DeadlineExceeded => true,
        // What is no answer of etcd's but of the connection.
        Code::Unknown | Code::Internal => !status.message().starts_with("etcdserver"),
        _ => false,
    }
}

/// True if the connection could not even be made.
fn was_not_sent(error: &Error) -> bool {
    let Error::GRpcStatus(status) = error else { return false };
    let mut cause = status.source();
    while let Some(error) = cause {
        if error.is::<ConnectError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// etcd's words in ours. Revisions are put right by the caller, who knows what was asked.
pub(super) fn store_error(error: &Error, endpoint: &str) -> StoreError {
    let Error::GRpcStatus(status) = error else {
        return StoreError::Unavailable(format!("etcd at {endpoint}: {error}"));
    };
    let message = status.message();
    match status.code() {
        Code::OutOfRange if message.contains("compacted") => StoreError::Compacted { oldest: 0 },
        Code::OutOfRange if message.contains("future") => StoreError::FutureRevision { asked: 0, head: 0 },
        Code::InvalidArgument => StoreError::Invalid(message.into()),
        Code::ResourceExhausted => StoreError::Unavailable(format!(
            "etcd at {endpoint} is full ({message}); defragment it or raise --quota-backend-bytes"
        )),
        _ => StoreError::Unavailable(format!("etcd at {endpoint}: {}", deepest(status))),
    }
}

/// The innermost cause says what happened ("connection refused"); the outer ones say "transport error".
fn deepest(status: &Status) -> String {
    let mut text = status.message().to_owned();
    let mut cause = status.source();
    while let Some(error) = cause {
        text = error.to_string();
        cause = error.source();
    }
    text
}
