//! One port for everything: HTTP/2 with gRPC, Kubernetes' REST API, and the plain HTTP of health, measurements and
//! version; gRPC is told apart by its content type.
//!
//! A connection's identity is settled once, in its handshake (or by its pipe); every request on it carries it, unless it
//! brings a bearer token of its own: then the token says who asks, or the request is refused.

use crate::cork::{Corked, ReadAhead, Rounds};
use crate::grpc::Caller;
use crate::guard::{self, Asked, Patient};
use crate::monitoring::Monitoring;
use crate::registry::{ApiError, ApiResult, Registry};
use crate::rest::Rest;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use skiff_world::tls::{self, ServerTls};
use skiff_world::{Connection, Identity, Listener, World};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tower::ServiceExt;

/// Requests at once on one connection.
const STREAMS: u32 = 1000;
/// Streams a client may open and reset before it is cut off: the rapid reset attack.
const RESETS: usize = 200;
/// The largest header block.
const HEADERS: u32 = 32 * 1024;
/// How long a connection may be open before its first request has come whole.
const FIRST_REQUEST: Duration = Duration::from_secs(30);
/// How long the head of a request may take over HTTP/1.
const HEAD: Duration = Duration::from_secs(10);
/// How long the body of a call may take whose caller says but one thing.
const BODY: Duration = Duration::from_secs(60);
/// The services whose callers say but one thing.
const UNARY: &[&str] = &["/skiff.v1.Resources/", "/skiff.v1.History/"];
/// How often a silent connection is asked whether it lives, and how long it may take to say so.
const KEEPALIVE: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// Connections at once.
const CONNECTIONS: usize = 20_000;
/// How long open requests may go on when the server stops.
const GRACE: Duration = Duration::from_secs(5);
/// How long to wait when accepting fails (out of file descriptors, say).
const PAUSE: Duration = Duration::from_millis(100);

/// Everything a connection needs.
#[derive(Clone)]
pub struct Front {
    /// Where the tasks run.
    pub world: World,
    /// The gRPC services.
    pub grpc: axum::Router,
    /// Knows who holds a token, and who may ask as somebody else.
    pub registry: Registry,
    /// Kubernetes' REST API.
    pub rest: Rest,
    /// Health and measurements.
    pub monitoring: Monitoring,
    /// How to speak TLS; pipes never do.
    pub tls: Option<ServerTls>,
    /// Ends everything.
    pub stop: CancellationToken,
}

/// Accepts connections until the server stops.
pub async fn accept(front: Front, mut listener: Listener) {
    let slots = Arc::new(tokio::sync::Semaphore::new(CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            biased;
            () = front.stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok(connection) => {
                let Ok(slot) = slots.clone().try_acquire_owned() else {
                    tracing::warn!(peer = connection.peer(), "a connection was refused: too many are open");
                    continue;
                };
                let front_of_one = front.clone();
                front.world.spawn("connection", async move {
                    serve(front_of_one, connection).await;
                    drop(slot);
                });
            }
            Err(error) => {
                tracing::warn!(%error, address = %listener.address(), "accepting failed");
                front.world.sleep(PAUSE).await;
            }
        }
    }
    drop(listener);
    // Connections give their slots back when they end, at the latest after their own grace.
    let all = u32::try_from(CONNECTIONS).unwrap_or(u32::MAX);
    let _ = tokio::time::timeout(GRACE * 2, slots.acquire_many(all)).await;
}

async fn serve(front: Front, connection: Connection) {
    let peer = connection.peer().to_string();
    if connection.is_pipe() {
        let identity = connection.peer_identity().cloned();
        return speak(front, connection, identity, Arc::default()).await;
    }
    match front.tls.clone() {
        Some(server) => match tls::accept(ReadAhead::new(connection), &server).await {
            Ok((stream, identity)) => {
                let (stream, rounds) = Corked::new(stream);
                speak(front, stream, identity, rounds).await;
            }
            Err(error) => tracing::debug!(peer, %error, "the TLS handshake failed"),
        },
        // Without TLS nobody can show who they are.
        None => speak(front, connection, None, Arc::default()).await,
    }
}

/// Speaks HTTP on a connection until it ends, or the server does.
async fn speak<S>(front: Front, stream: S, identity: Option<Identity>, rounds: Arc<Rounds>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let caller = Caller(identity.filter(|who| !who.user.is_empty()).map(crate::auth::authenticated));
    let stop = front.stop.clone();
    let executor = front.world.executor();
    let world = front.world.clone();
    let asked = CancellationToken::new();
    let first = asked.clone();
    let service = tower::service_fn(move |request: Request<hyper::body::Incoming>| {
        asked.cancel();
        let (front, caller) = (front.clone(), caller.clone());
        async move {
            let what = what(&request);
            let world = front.world.clone();
            // In a box: hyper and the executor hand a request's future on by value, and this one is large.
            let answer = Box::pin(answer(front, caller, request));
            Ok::<_, Infallible>(guard::answer(&world, what, answer).await)
        }
    });
    let mut builder = auto::Builder::new(executor);
    builder
        .http2()
        .timer(hyper_util::rt::TokioTimer::new())
        // The ambient clock must not show: one seed is one run.
        .auto_date_header(false)
        .max_concurrent_streams(STREAMS)
        .max_pending_accept_reset_streams(RESETS)
        .max_local_error_reset_streams(RESETS)
        .max_header_list_size(HEADERS)
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20)
        .keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT);
    builder
        .http1()
        .auto_date_header(false)
        .timer(hyper_util::rt::TokioTimer::new())
        .max_buf_size(2 * HEADERS as usize)
        .header_read_timeout(HEAD);
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), TowerToHyperService::new(service));
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        biased;
        _ = rounds.drive(connection.as_mut()) => return,
        () = stop.cancelled() => {}
        // Whoever connects and asks nothing holds a place that others need.
        () = silence(&first) => return,
    }
    connection.as_mut().graceful_shutdown();
    let deadline = world.now() + GRACE;
    // Whoever is still busy then is cut off.
    let _ = tokio::time::timeout_at(deadline, rounds.drive(connection)).await;
}

/// Completes when a connection's first request has not come in time.
async fn silence(first: &CancellationToken) {
    if tokio::time::timeout(FIRST_REQUEST, first.cancelled()).await.is_ok() {
        std::future::pending().await
    }
}

fn is_grpc<B>(request: &Request<B>) -> bool {
    let content_type = request.headers().get(header::CONTENT_TYPE).map(|value| value.as_bytes());
    content_type.is_some_and(|value| value.starts_with(b"application/grpc"))
}

fn what<B>(request: &Request<B>) -> Asked {
    Asked { verb: request.method().to_string(), path: request.uri().path().to_string(), grpc: is_grpc(request) }
}

async fn answer(front: Front, caller: Caller, mut request: Request<hyper::body::Incoming>) -> Response<Body> {
    #[cfg(test)]
    crate::tests::meet_a_defect(&request);
    let is_grpc = is_grpc(&request);
    let caller = match settle(&front.registry, caller, request.headers()).await {
        Ok(caller) => caller,
        Err(error) if is_grpc => return crate::grpc::to_grpc(error).into_http(),
        Err(error) => return crate::rest::refusal(&error),
    };
    if is_grpc {
        request.extensions_mut().insert(caller);
        let says_one_thing = UNARY.iter().any(|service| request.uri().path().starts_with(service));
        let request = request.map(Body::new);
        let request = if says_one_thing { request.map(|b| Body::new(Patient::new(b, BODY))) } else { request };
        return match front.grpc.clone().oneshot(request).await {
            Ok(response) => response.map(Body::new),
            Err(never) => match never {},
        };
    }
    let (method, uri) = (request.method(), request.uri());
    if let Some(answer) = front.monitoring.answer(caller.0.as_ref(), method, uri, request.headers()).await {
        return answer;
    }
    let reads = method == Method::GET || method == Method::HEAD;
    if reads && uri.path().trim_end_matches('/') == "/version" {
        return json(StatusCode::OK, version());
    }
    front.rest.answer(caller.0, request.map(Body::new)).await
}

/// Who asks, for whom rights count.
async fn settle(registry: &Registry, caller: Caller, headers: &HeaderMap) -> ApiResult<Caller> {
    let caller = authenticate(registry, caller, headers).await?;
    impersonate(registry, caller, headers).await
}

/// The holder of the request's token if it brings one, else whoever is at the other end.
async fn authenticate(registry: &Registry, caller: Caller, headers: &HeaderMap) -> ApiResult<Caller> {
    let Some(said) = headers.get(header::AUTHORIZATION) else { return Ok(caller) };
    let said = said.to_str().map_err(|_| ApiError::bad_token(&"it is not text"))?;
    match said.trim().split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => {
            registry.authenticate(token.trim()).await.map(|who| Caller(Some(who)))
        }
        _ => Err(ApiError::bad_token(&"only the scheme Bearer is known")),
    }
}

/// Whoever that is, unless they ask as somebody else, and may.
async fn impersonate(registry: &Registry, caller: Caller, headers: &HeaderMap) -> ApiResult<Caller> {
    let Some(who) = &caller.0 else { return Ok(caller) };
    if !headers.keys().any(|name| name.as_str().starts_with("impersonate-")) {
        return Ok(caller);
    }
    let ask = || crate::auth::impersonated(registry.authorizer(), who, headers);
    let wanted = match ask() {
        Err(refused) if refused.code() == 403 => {
            registry.catch_up().await?;
            ask()?
        }
        other => other?,
    };
    let by = Some(Box::new(who.clone()));
    Ok(Caller(wanted.map(|wanted| Identity { impersonator: by, ..wanted })))
}

fn version() -> String {
    serde_json::json!({
        "major": "1",
        "minor": "36",
        "gitVersion": format!("v1.36.0+skiff.{}", crate::VERSION),
        // Clients refuse an answer without these.
        "gitCommit": "",
        "gitTreeState": "",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "rustc",
        "platform": format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH),
    })
    .to_string()
}

fn json(status: StatusCode, document: String) -> Response<Body> {
    response(status, "application/json", document)
}

fn response(status: StatusCode, content_type: &'static str, body: String) -> Response<Body> {
    let mut response = Response::new(Body::new(Full::new(Bytes::from(body))));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static(content_type));
    response.headers_mut().insert(header::CACHE_CONTROL, http::HeaderValue::from_static("no-store"));
    response
}
