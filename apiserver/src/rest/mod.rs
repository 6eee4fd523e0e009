//! The REST face: Kubernetes' HTTP API, for kubectl, client libraries and every tool that speaks it. Thin, like `grpc/`:
//! it reads a path, a query and a body into `registry::Request`, and writes the reply in the form asked for.
//!
//! ```text
//! path ─┬─ /api, /apis, /openapi/v3 ──> discovery, openapi: made from the table of resources
//!       ├─ pods/log, exec, attach, portforward ──> streams: through the tunnel to the node
//!       ├─ pods/proxy, services/proxy ──> proxy: an HTTP request through the tunnel to a Pod
//!       ├─ reviews ──> reviews: what the authorizer says
//!       └─ everything else ──> objects, lists, watch ──> Registry::serve
//! ```

mod discovery;
mod envelope;
mod events;
#[cfg(test)]
mod fuzz;
mod lists;
mod media;
mod objects;
mod oidc;
mod openapi;
mod path;
mod proxy;
mod query;
mod respond;
mod reviews;
mod streams;
mod tables;
mod token_review;
mod watch;

use crate::registry::{ApiError, ApiResult, Format, Operation, Registry, Request};
use crate::resources::Resource;
use crate::tunnel::Tunnels;
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use media::{Encoding, Shape, Wanted};
use path::Place;
pub use proxy::target::parse as parse_proxied;
use query::Query;
use respond::Answer;
pub use respond::refusal;
use skiff_world::{Identity, World};
use std::sync::Arc;
use std::time::Duration;
use tonic::body::Body;

/// How long a client may take to send a body.
const BODY: Duration = Duration::from_secs(60);

/// The face of a registry. Cheap to clone.
#[derive(Clone)]
pub struct Rest {
    world: World,
    registry: Registry,
    tunnels: Tunnels,
    openapi: Arc<openapi::Documents>,
}

/// What a client asks of a resource, before it is an operation.
struct Ask {
    identity: Identity,
    method: Method,
    headers: HeaderMap,
    place: Place,
    query: Query,
    wanted: Wanted,
    body: Bytes,
}

impl Rest {
    /// The face of a registry and of the tunnels to its nodes.
    pub fn new(world: World, registry: Registry, tunnels: Tunnels) -> Self {
        Self { world, registry, tunnels, openapi: Arc::default() }
    }

    /// Answers anything; a refusal is an answer too.
    pub async fn answer(&self, identity: Option<Identity>, request: http::Request<Body>) -> Answer {
        // What is said of a refusal is said in the form that the answer would have had.
        let encoding = media::wanted(request.headers()).map_or(Encoding::Json, |wanted| wanted.encoding);
        let reply = match identity {
            Some(identity) => self.route(identity, request).await,
            None => Err(ApiError::unauthorized()),
        };
        reply.unwrap_or_else(|error| respond::refusal_in(encoding, &error))
    }

    async fn route(&self, identity: Identity, request: http::Request<Body>) -> ApiResult<Answer> {
        let path = request.uri().path().to_string();
        let reads = matches!(*request.method(), Method::GET | Method::HEAD);
        let place = path::parse(&path);
        if place.as_ref().is_none_or(|place| place.resource.is_empty()) {
            let verb = if reads { "get".into() } else { request.method().as_str().to_lowercase() };
            self.registry.authorizer().authorize_path(&identity, &verb, &path)?;
        }
        match path.trim_end_matches('/') {
            "" if reads => return Ok(discovery::paths(self.registry.table())),
            "/api" if reads => return Ok(discovery::core(self.registry.table(), request.headers())),
            "/apis" if reads => return Ok(discovery::groups(self.registry.table(), request.headers())),
            "/openapi/v3" if reads => return Ok(self.openapi.index(self.registry.table())),
            "/openapi/v2" if reads => return Ok(self.openapi.v2(self.registry.table(), request.headers())),
            oidc::CONFIGURATION if reads => return self.oidc_configuration(request.headers(), request.uri()),
            oidc::KEYS if reads => return self.oidc_keys(),
            _ => {}
        }
        if let Some(document) = path.strip_prefix("/openapi/v3/").filter(|_| reads) {
            return self.openapi.document(self.registry.table(), document);
        }
        let group = path.strip_prefix("/apis/").map(|rest| rest.trim_end_matches('/'));
        if let Some(group) = group.filter(|group| reads && !group.contains('/')) {
            return discovery::group(self.registry.table(), group);
        }
        let Some(place) = place else { return Err(nothing_here(&path)) };
        if place.resource.is_empty() {
            return match reads {
                true => discovery::resources(self.registry.table(), &place.group, &place.version),
                false => Err(ApiError::method_not_allowed_here(request.method().as_str())),
            };
        }
        if streams::is_stream(&place) {
            return self.stream(identity, place, request).await;
        }
        if proxy::is_proxy(&place) {
            return self.proxy(&identity, &place, request).await;
        }
        let (parts, body) = request.into_parts();
        let ask = Ask {
            identity,
            method: parts.method,
            wanted: media::wanted(&parts.headers)?,
            query: Query::parse(parts.uri.query()),
            body: self.read(&parts.headers, body).await?,
            headers: parts.headers,
            place,
        };
        if token_review::is_one(&ask.place) {
            return self.token_review(&ask).await;
        }
        if let Some(kind) = reviews::kind(&ask.place) {
            return self.review(&ask, kind);
        }
        self.resource(ask).await
    }

    /// A body, as long as the server takes it.
    async fn read(&self, headers: &HeaderMap, body: Body) -> ApiResult<Bytes> {
        let limit = self.registry.limits().body_bytes;
        let said = headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(|v| v.parse().ok());
        let too_large = || ApiError::too_large("the body", said.unwrap_or(limit + 1), limit);
        if said.is_some_and(|size| size > limit) {
            return Err(too_large());
        }
        match tokio::time::timeout(BODY, Limited::new(body, limit).collect()).await {
            Ok(Ok(collected)) => Ok(collected.to_bytes()),
            Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => Err(too_large()),
            Ok(Err(error)) => Err(ApiError::bad_request(format!("the body could not be read: {error}"))),
            Err(_) => Err(ApiError::timeout("the body did not come in time")),
        }
    }

    /// A request to a resource of the table.
    async fn resource(&self, ask: Ask) -> ApiResult<Answer> {
        let place = &ask.place;
        let resource = match events::is_here(place).then(|| events::row(self.registry.table())).flatten() {
            Some(events) => events,
            None => self.registry.resource(&place.group, &place.version, &place.resource)?,
        };
        if !place.rest.is_empty() {
            return Err(nothing_here(&place.rest.join("/")));
        }
        let collection = place.name.is_empty();
        let follows = ask.method == Method::GET && (place.watch || ask.query.is_on("watch"));
        match ask.method {
            Method::GET if follows => self.watch(&ask, resource).await,
            Method::GET | Method::HEAD if collection => self.list(&ask, resource).await,
            Method::DELETE if collection => self.delete_collection(&ask, resource).await,
            Method::GET | Method::HEAD | Method::POST | Method::PUT | Method::PATCH | Method::DELETE => {
                self.object(&ask, resource).await
            }
            _ => Err(ApiError::method_not_allowed(&resource, ask.method.as_str())),
        }
    }

    /// The request for an operation.
    fn request(&self, ask: &Ask, resource: Arc<Resource>, operation: Operation) -> ApiResult<Request> {
        let place = &ask.place;
        let writes = !matches!(operation, Operation::Get | Operation::List(_) | Operation::Watch(_));
        let headers = tonic::metadata::MetadataMap::from_headers(ask.headers.clone());
        // What is answered to an action on an object is no object of its kind.
        let of_its_kind = matches!(place.subresource.as_str(), "" | "status");
        let known = objects::answer_kind(&resource, &place.subresource).is_some();
        let protobuf = ask.wanted.encoding == Encoding::Protobuf && known;
        Ok(Request {
            identity: ask.identity.clone(),
            subresource: place.subresource.clone(),
            namespace: place.namespace.clone(),
            name: place.name.clone(),
            operation,
            accept: if protobuf { Format::Protobuf } else { Format::Json },
            metadata_only: ask.wanted.shape == Shape::Metadata && of_its_kind,
            cause: if writes { crate::grpc::cause(&headers)? } else { Default::default() },
            fence: if writes { crate::grpc::fence(&headers)? } else { None },
            resource,
        })
    }
}

/// The bare message in a sealed one.
#[cfg(test)]
pub fn open_sealed(body: &Bytes) -> Option<Bytes> {
    envelope::open(body).ok().map(|opened| opened.raw)
}

fn nothing_here(path: &str) -> ApiError {
    ApiError::no_such_resource(format!("the server could not find the requested resource: {path}"))
}

/// The code of an answer that is no refusal.
const OK: StatusCode = StatusCode::OK;
