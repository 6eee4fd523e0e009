//! One request to a Pod and its answer, over HTTP/1.1. What belongs to the user's connection or to this server (how it is
//! kept open, who the user is) is taken out, both ways.

use super::target::{Scheme, Target};
use super::tls;
use super::wire::{ToPod, Why};
use crate::guard::{self, Asked};
use crate::registry::{ApiError, ApiResult};
use crate::rest::Rest;
use crate::rest::respond::Answer;
use crate::rest::streams::{UPGRADE, words};
use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, Version};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use std::net::SocketAddr;
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::body::Body;

/// The largest refusal of an upgrade that is handed on.
const REFUSAL: usize = 1 << 20;
/// Headers of one connection, which end with it.
const OF_CONNECTION: &[&str] = &[
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
/// Headers that are for this server alone, or that say who the user is.
const OF_THE_USER: &[&str] = &["host", "expect", "authorization", "x-remote-user", "x-remote-group", "x-remote-uid"];
/// The beginnings of more of these.
const ALSO_OF_THE_USER: &[&str] = &["impersonate-", "x-remote-extra-", "skiff-"];
/// A WebSocket client that cannot set headers puts its token here.
const TOKEN_PROTOCOL: &str = "base64url.bearer.authorization.k8s.io.";

/// A path in two parts: to the object, and what is asked of it.
pub struct Paths {
    /// To `/proxy`.
    pub prefix: String,
    /// What follows.
    pub suffix: String,
}

/// The protocol that a request asks to change to.
pub fn upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let asked = words(headers, header::CONNECTION).iter().any(|word| word.eq_ignore_ascii_case("upgrade"));
    headers.get(header::UPGRADE).filter(|_| asked).cloned()
}

/// Asks a Pod.
pub async fn exchange(
    rest: &Rest,
    (wire, why): (ToPod, Why),
    target: &Target,
    paths: Paths,
    mut request: Request<Body>,
) -> ApiResult<Answer> {
    let wanted = upgrade(request.headers());
    let from_user = wanted.as_ref().map(|_| hyper::upgrade::on(&mut request));
    let asked = outgoing(request, target, &paths, wanted.as_ref())?;
    let answered = match target.scheme {
        Scheme::Http => ask(rest, wire, asked).await,
        Scheme::Https => match target.host.parse::<SocketAddr>() {
            Ok(host) => match tls::connect(wire, host.ip()).await {
                Ok(stream) => ask(rest, stream, asked).await,
                Err(error) => Err(error.to_string()),
            },
            Err(error) => Err(error.to_string()),
        },
    };
    // A wire that could not be laid knows better why than whoever found it cut.
    let response = match answered {
        Ok(response) => response,
        Err(error) => return Err(unreachable(why.await.map_or(error, |close| close.message))),
    };
    match (from_user, response.status()) {
        (Some(user), StatusCode::SWITCHING_PROTOCOLS) => Ok(switch(rest, target, user, response, wanted)),
        (None, StatusCode::SWITCHING_PROTOCOLS) => {
            Err(unreachable("the Pod changed to another protocol without having been asked to".into()))
        }
        (Some(_), _) => refused(response, &paths, target).await,
        (None, _) => Ok(incoming(response, &paths, target).map(Body::new)),
    }
}

fn unreachable(why: String) -> ApiError {
    ApiError::unavailable(format!("error trying to reach service: {why}"))
}

async fn ask<S>(rest: &Rest, stream: S, request: Request<Body>) -> Result<Response<Incoming>, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let words =
        |error: hyper::Error| std::error::Error::source(&error).map_or_else(|| error.to_string(), |e| e.to_string());
    let (mut sender, connection): (SendRequest<Body>, _) = handshake(TokioIo::new(stream)).await.map_err(words)?;
    let what = Asked { verb: "proxy".into(), path: request.uri().path().into(), grpc: false };
    let task = async move {
        // How it ended, the answer says.
        let _ = connection.with_upgrades().await;
    };
    rest.world.spawn("proxy connection", guard::contain(rest.world.clone(), what, task));
    sender.send_request(request).await.map_err(words)
}

/// The request as the Pod sees it.
fn outgoing(
    request: Request<Body>,
    target: &Target,
    paths: &Paths,
    wanted: Option<&HeaderValue>,
) -> ApiResult<Request<Body>> {
    let (parts, body) = request.into_parts();
    let path = if paths.suffix.is_empty() { "/" } else { &paths.suffix };
    let query = parts.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let uri: Uri = format!("{path}{query}")
        .parse()
        .map_err(|error| ApiError::bad_request(format!("the path behind /proxy cannot be passed on: {error}")))?;
    let called = parts.headers.get(header::HOST).cloned();
    let called = called.or_else(|| parts.uri.authority().and_then(|a| HeaderValue::from_str(a.as_str()).ok()));
    let mut headers = without_connection(&parts.headers);
    let dropped: Vec<HeaderName> = headers
        .keys()
        .filter(|name| {
            let name = name.as_str();
            OF_THE_USER.contains(&name) || ALSO_OF_THE_USER.iter().any(|beginning| name.starts_with(beginning))
        })
        .cloned()
        .collect();
    for name in dropped {
        headers.remove(name);
    }
    hide_token(&mut headers);
    let set = |headers: &mut HeaderMap, name: &'static str, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    set(&mut headers, "host", &target.host);
    set(&mut headers, "x-forwarded-proto", "https");
    set(&mut headers, "x-forwarded-uri", parts.uri.path());
    if let Some(called) = called {
        headers.insert(HeaderName::from_static("x-forwarded-host"), called);
    }
    if let Some(protocol) = wanted {
        set(&mut headers, "connection", "Upgrade");
        headers.insert(header::UPGRADE, protocol.clone());
    }
    let mut asked = Request::new(body);
    (*asked.method_mut(), *asked.uri_mut(), *asked.version_mut()) = (parts.method, uri, Version::HTTP_11);
    *asked.headers_mut() = headers;
    Ok(asked)
}

/// A token among a WebSocket's subprotocols is for this server.
fn hide_token(headers: &mut HeaderMap) {
    let offered = words(headers, header::SEC_WEBSOCKET_PROTOCOL);
    if offered.iter().any(|protocol| protocol.starts_with(TOKEN_PROTOCOL)) {
        headers.remove(header::SEC_WEBSOCKET_PROTOCOL);
        let kept: Vec<&str> =
            offered.iter().map(String::as_str).filter(|protocol| !protocol.starts_with(TOKEN_PROTOCOL)).collect();
        if let Ok(value) = HeaderValue::from_str(&kept.join(", "))
            && !kept.is_empty()
        {
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, value);
        }
    }
}

/// Headers without those that end with the connection they came on.
fn without_connection(headers: &HeaderMap) -> HeaderMap {
    let named = words(headers, header::CONNECTION);
    let ends = |name: &HeaderName| {
        OF_CONNECTION.contains(&name.as_str()) || named.iter().any(|word| word.eq_ignore_ascii_case(name.as_str()))
    };
    headers.iter().filter(|(name, _)| !ends(name)).map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// The answer as the user sees it.
fn incoming<B>(response: Response<B>, paths: &Paths, target: &Target) -> Response<B> {
    let (parts, body) = response.into_parts();
    let mut headers = without_connection(&parts.headers);
    let moved = headers.get(header::LOCATION).and_then(|value| value.to_str().ok());
    if let Some(location) = moved.and_then(|moved| moved_to(moved, paths, target)) {
        headers.insert(header::LOCATION, location);
    }
    let mut answer = Response::new(body);
    *answer.status_mut() = parts.status;
    *answer.headers_mut() = headers;
    answer
}

/// A redirect to the Pod itself leads through here again; one to another host is the user's to follow.
fn moved_to(location: &str, paths: &Paths, target: &Target) -> Option<HeaderValue> {
    let own =
        ["http://", "https://"].iter().find_map(|scheme| location.strip_prefix(scheme)?.strip_prefix(&target.host));
    let path = match own {
        Some("") => "/",
        Some(path) if path.starts_with('/') => path,
        Some(_) => return None,
        None if location.starts_with('/') && !location.starts_with("//") => location,
        None => return None,
    };
    HeaderValue::from_str(&format!("{}{path}", paths.prefix)).ok()
}

/// An upgrade that was not granted: the answer is handed on whole, and the way to the Pod is closed. Nothing that the
/// user sends afterwards may reach it.
async fn refused(response: Response<Incoming>, paths: &Paths, target: &Target) -> ApiResult<Answer> {
    let (parts, body) = incoming(response, paths, target).into_parts();
    let whole = tokio::time::timeout(UPGRADE, Limited::new(body, REFUSAL).collect()).await;
    let Ok(Ok(body)) = whole else {
        return Err(unreachable("the Pod refused to change the protocol, and did not end its answer".into()));
    };
    let mut answer = Response::from_parts(parts, Body::new(Full::new(body.to_bytes())));
    answer.headers_mut().remove(header::CONTENT_LENGTH);
    answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    Ok(answer)
}

/// An upgrade that was granted: from now on bytes are passed on both ways.
fn switch(
    rest: &Rest,
    target: &Target,
    user: hyper::upgrade::OnUpgrade,
    response: Response<Incoming>,
    wanted: Option<HeaderValue>,
) -> Answer {
    let mut headers = without_connection(response.headers());
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    if let Some(protocol) = response.headers().get(header::UPGRADE).cloned().or(wanted) {
        headers.insert(header::UPGRADE, protocol);
    }
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *answer.headers_mut() = headers;
    let pod = hyper::upgrade::on(response);
    let what = Asked { verb: "proxy".into(), path: format!("{}/{}", target.namespace, target.pod), grpc: false };
    let task = async move {
        let both = async { tokio::join!(user, pod) };
        // Where either end does not come, both are let go.
        if let Ok((Ok(user), Ok(pod))) = tokio::time::timeout(UPGRADE, both).await {
            let (mut user, mut pod) = (TokioIo::new(user), TokioIo::new(pod));
            let _ = tokio::io::copy_bidirectional(&mut user, &mut pod).await;
        }
    };
    rest.world.spawn("proxied connection", guard::contain(rest.world.clone(), what, task));
    answer
}
