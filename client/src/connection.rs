//! The connection under a client: one HTTP/2 connection to one of the API servers, made when it is first needed and
//! again when it is lost. Everything it starts belongs to the World.
//!
//! - Several addresses are tried in turn, beginning with a random one and then with the one that last worked.
//! - While there is no connection, one caller dials and the others wait for it and share its fate; after a failure
//!   nobody dials again before the backoff is over.
//! - Pings notice a dead link within ten seconds; all calls and watches on it then end.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::{AUTHORIZATION, HeaderValue, USER_AGENT};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioIo, TokioTimer};
use skiff_world::{Address, World};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout};
use tonic::body::Body;

use crate::config::{ClientConfig, Impersonate, Tls};
use crate::error::Error;
use crate::queue::Backoff;

const DIAL_TIMEOUT: Duration = Duration::from_secs(5);
const PING_EVERY: Duration = Duration::from_secs(5);
const PING_TIMEOUT: Duration = Duration::from_secs(5);
const REDIAL: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(3));
/// What may be on its way to us per stream and in all: several watches that arrive at once must not block calls.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;

/// A connection that is made when needed.
pub(crate) struct Connection {
    world: World,
    config: ClientConfig,
    tls: Option<Tls>,
    user_agent: HeaderValue,
    /// What says whom every request asks as.
    impersonate: Arc<[(&'static str, HeaderValue)]>,
    current: Mutex<Option<SendRequest<Body>>>,
    dialling: tokio::sync::Mutex<Dialling>,
    /// How many times dialling has failed; who sees it grow while waiting shares the failure.
    failed: std::sync::atomic::AtomicU64,
}

struct Dialling {
    /// The server to try first.
    first: usize,
    failures: u32,
    not_before: Option<Instant>,
    last_error: Option<Error>,
}

impl Connection {
    pub(crate) fn new(world: &World, config: ClientConfig) -> Result<Connection, Error> {
        let bad = |problem: &str| Error::Config { place: "client".into(), problem: problem.to_string() };
        if config.servers.is_empty() {
            return Err(bad("no API server's address is given"));
        }
        let user_agent = HeaderValue::from_str(&config.user_agent)
            .map_err(|_| bad("the user agent has characters that a header cannot carry"))?;
        let tls = config.tls.as_ref().map(Tls::new).transpose()?;
        let impersonate = config.impersonate.as_ref().map(Impersonate::headers).transpose()?.unwrap_or_default();
        let first = usize::try_from(world.random_below(config.servers.len() as u64)).unwrap_or(0);
        Ok(Connection {
            world: world.clone(),
            config,
            tls,
            user_agent,
            impersonate: impersonate.into(),
            current: Mutex::new(None),
            dialling: tokio::sync::Mutex::new(Dialling { first, failures: 0, not_before: None, last_error: None }),
            failed: std::sync::atomic::AtomicU64::new(0),
        })
    }

    pub(crate) fn config(&self) -> &ClientConfig {
        &self.config
    }

    /// A way to send requests; dials if there is none.
    pub(crate) async fn wire(&self) -> Result<Wire, Error> {
        use std::sync::atomic::Ordering::SeqCst;
        if let Some(wire) = self.live()? {
            return Ok(wire);
        }
        let failed = self.failed.load(SeqCst);
        let mut dialling = self.dialling.lock().await;
        if let Some(wire) = self.live()? {
            return Ok(wire);
        }
        if let Some(error) = dialling.last_error.as_ref().filter(|_| self.failed.load(SeqCst) != failed) {
            return Err(error.clone());
        }
        if let Some(time) = dialling.not_before {
            tokio::time::sleep_until(time).await;
        }
        match self.dial_any(&mut dialling.first).await {
            Ok(sender) => {
                (dialling.failures, dialling.not_before, dialling.last_error) = (0, None, None);
                *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender.clone());
                self.wire_over(sender)
            }
            Err(error) => {
                dialling.failures = dialling.failures.saturating_add(1);
                dialling.not_before = Some(self.world.now() + REDIAL.jittered(dialling.failures, &self.world));
                dialling.last_error = Some(error.clone());
                self.failed.fetch_add(1, SeqCst);
                Err(error)
            }
        }
    }

    fn live(&self) -> Result<Option<Wire>, Error> {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        current.as_ref().filter(|sender| !sender.is_closed()).map(|sender| self.wire_over(sender.clone())).transpose()
    }

    fn wire_over(&self, sender: SendRequest<Body>) -> Result<Wire, Error> {
        let token = self.config.token.as_ref().map(crate::config::Token::header).transpose()?;
        Ok(Wire { sender, user_agent: self.user_agent.clone(), impersonate: self.impersonate.clone(), token })
    }

    async fn dial_any(&self, first: &mut usize) -> Result<SendRequest<Body>, Error> {
        let servers = &self.config.servers;
        let mut reason = String::new();
        for turn in 0..servers.len() {
            let at = (*first + turn) % servers.len();
            reason = match timeout(DIAL_TIMEOUT, self.dial(&servers[at])).await {
                Ok(Ok(sender)) => {
                    *first = at;
                    tracing::debug!(server = %servers[at], "connected");
                    return Ok(sender);
                }
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("no connection within {DIAL_TIMEOUT:?}"),
            };
        }
        *first = (*first + 1) % servers.len();
        let servers = servers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        Err(Error::Unreachable { servers, reason })
    }

    async fn dial(&self, server: &Address) -> io::Result<SendRequest<Body>> {
        let connection = self.world.connect(server).await?;
        match (server, &self.tls) {
            (Address::Tcp(host), Some(tls)) => self.handshake(tls.secure(connection, host_of(host)).await?).await,
            _ => self.handshake(connection).await,
        }
    }

    async fn handshake<S>(&self, stream: S) -> io::Result<SendRequest<Body>>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (sender, connection) = http2::Builder::new(self.world.executor())
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_TIMEOUT)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        self.world.spawn("api-connection", async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "the connection to the API server ended");
            }
        });
        Ok(sender)
    }
}

/// The host of `host:port`, without brackets.
fn host_of(address: &str) -> &str {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host.trim_start_matches('[').trim_end_matches(']')
}

/// One live connection, as tonic's stubs use it.
#[derive(Clone)]
pub(crate) struct Wire {
    sender: SendRequest<Body>,
    user_agent: HeaderValue,
    impersonate: Arc<[(&'static str, HeaderValue)]>,
    token: Option<HeaderValue>,
}

type Response = http::Response<Incoming>;

impl tower::Service<http::Request<Body>> for Wire {
    type Response = Response;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response, hyper::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        self.sender.poll_ready(cx)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        request.headers_mut().insert(USER_AGENT, self.user_agent.clone());
        for (name, value) in self.impersonate.iter() {
            request.headers_mut().append(*name, value.clone());
        }
        if let Some(token) = &self.token {
            request.headers_mut().insert(AUTHORIZATION, token.clone());
        }
        Box::pin(self.sender.send_request(request))
    }
}

/// A connection shared by clones of a client.
pub(crate) type SharedConnection = Arc<Connection>;

#[cfg(test)]
mod tests {
    use skiff_proto::corev1::ConfigMap;
    use skiff_world::sim::{Faults, Sim, Simulation};

    use super::*;
    use crate::fake::Fake;
    use crate::{Api, Client};

    #[test]
    fn the_name_to_verify_is_the_host() {
        for (address, host) in
            [("10.0.0.1:6443", "10.0.0.1"), ("[::1]:6443", "::1"), ("api.example:443", "api.example")]
        {
            assert_eq!(host_of(address), host);
        }
    }

    fn client(sim: &Sim, servers: &[&str]) -> (World, Api<ConfigMap>) {
        let world = sim.machine("node").world("component", None);
        let servers = servers.iter().map(|name| Address::Pipe(name.to_string())).collect();
        let config = ClientConfig { servers, ..ClientConfig::pipe("", "test/0") };
        let client = Client::new(&world, config).unwrap();
        (world, Api::new(&client))
    }

    fn simulate<F: Future<Output = ()>>(scenario: impl Fn(Sim) -> F + Copy) {
        for seed in 0..8 {
            Simulation::new(seed).faults(Faults::none()).run(scenario);
        }
    }

    #[test]
    fn nobody_there_is_said_at_once_and_by_address() {
        simulate(async |sim: Sim| {
            let (world, api) = client(&sim, &["one", "two"]);
            let before = world.now();
            let error = api.get("default", "x").await.unwrap_err();
            assert!(world.now() - before < Duration::from_secs(1));
            assert!(matches!(error, Error::Unreachable { .. }) && !error.outcome_unknown());
            let text = error.to_string();
            assert!(text.contains("pipe://one, pipe://two"), "{text}");
        });
    }

    #[test]
    fn the_server_that_is_there_is_found_and_when_it_goes_the_other() {
        simulate(async |sim: Sim| {
            let (fake, one) = (Fake::new(), sim.machine("m1").world("api", None));
            fake.serve_on(&one, "one").await;
            let (_world, api) = client(&sim, &["one", "two"]);
            assert!(api.get("default", "x").await.unwrap_err().is_not_found());
            one.stop().await;
            fake.serve_on(&sim.machine("m2").world("api", None), "two").await;
            // The first call may notice that its connection is gone; the one after finds the other server.
            let first = api.get("default", "x").await.unwrap_err();
            assert!(first.is_unreachable() || first.is_not_found(), "{first}");
            let second = api.get("default", "x").await.unwrap_err();
            assert!(second.is_not_found(), "{second}");
        });
    }

    #[test]
    fn many_who_call_at_once_share_one_failure() {
        simulate(async |sim: Sim| {
            let (world, api) = client(&sim, &["nowhere"]);
            let before = world.now();
            let calls = (0..50).map(|_| api.get("default", "x"));
            let errors = futures::future::join_all(calls).await;
            assert!(errors.iter().all(|result| matches!(result, Err(Error::Unreachable { .. }))));
            assert!(world.now() - before < Duration::from_secs(1), "one dialled for all");
        });
    }

    #[test]
    fn a_dead_link_ends_calls_within_ten_seconds() {
        simulate(async |sim: Sim| {
            let fake = Fake::new();
            fake.serve_on(&sim.machine("m1").world("api", None), "one").await;
            let (world, api) = client(&sim, &["one"]);
            assert!(api.get("default", "x").await.unwrap_err().is_not_found());
            sim.partition("m1", "node");
            let before = world.now();
            let error = api.get("default", "x").await.unwrap_err();
            let took = world.now() - before;
            assert!(error.outcome_unknown() && took <= Duration::from_secs(11), "{error} after {took:?}");
        });
    }

    #[test]
    fn a_config_without_servers_is_refused() {
        let world = World::real("test");
        let config = ClientConfig { servers: Vec::new(), ..ClientConfig::pipe("", "test/0") };
        assert!(matches!(Client::new(&world, config), Err(Error::Config { .. })));
    }
}
