//! What a cluster shows of its own health over plain HTTP: to load balancers and to Prometheus.
//!
//! | path | what | who may |
//! |---|---|---|
//! | `/livez`, `/readyz`, `/healthz` (`/NAME`, `?verbose`, `?exclude=NAME`) | health | everybody |
//! | `/metrics` | the API server's measurements | who may `get` the path: administrators, `system:monitoring` |
//! | `/metrics/controllers`, `/metrics/scheduler` | those of the rest of the control plane, over its tunnel | the same |
//! | `/metrics/targets` | all of these paths and those of every node, as Prometheus' HTTP service discovery reads them | the same |
//! | `/api/v1/nodes/NODE/proxy/metrics` | those of a node's kubelet | `get nodes/metrics` |
//! | `/api/v1/nodes/NODE:10249/proxy/metrics` | those of a node's proxy | `get nodes/metrics` |
//! | `/api/v1/nodes/NODE[:PORT]/proxy/...` | what else a kubelet or proxy answers | `get nodes/proxy` |
//!
//! The ports are those on which Kubernetes' kubelet (10250) and kube-proxy (10249) listen; here nothing does, and they only
//! say which of the two is meant.

mod health;
mod scrape;
mod targets;

use crate::registry::{ApiError, ApiResult, Registry};
use crate::tunnel::Tunnels;
use bytes::Bytes;
use http::{HeaderMap, Method, Response, StatusCode, Uri, header};
use http_body_util::Full;
use skiff_world::{Identity, exposition};
use tonic::body::Body;

/// Answers for health and measurements. Cheap to clone.
#[derive(Clone)]
pub struct Monitoring {
    registry: Registry,
    tunnels: Tunnels,
}

/// What is answered: a content type and a document.
struct Page(StatusCode, &'static str, String);

impl Monitoring {
    /// Over a registry and the tunnels of its components.
    pub fn new(registry: Registry, tunnels: Tunnels) -> Self {
        Self { registry, tunnels }
    }

    /// The answer, if the path is one of these.
    pub async fn answer(
        &self,
        caller: Option<&Identity>,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Option<Response<Body>> {
        let path = uri.path();
        let segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        let ours = matches!(
            segments.as_slice(),
            ["livez" | "readyz" | "healthz" | "metrics", ..] | ["api", "v1", "nodes", _, "proxy", ..]
        );
        if !ours {
            return None;
        }
        let page = if method != Method::GET && method != Method::HEAD {
            Err(ApiError::not_allowed(format!("{method} is not answered here: {path} can only be read")))
        } else {
            self.page(caller, &segments, uri, host(uri, headers)).await
        };
        Some(page.map_or_else(|error| refusal(&error), response))
    }

    async fn page(&self, caller: Option<&Identity>, segments: &[&str], uri: &Uri, host: &str) -> ApiResult<Page> {
        let query = uri.query().unwrap_or_default();
        if let [kind @ ("livez" | "readyz" | "healthz"), check @ ..] = segments {
            let authorizer = self.registry.authorizer();
            let trusted = caller.is_some_and(|who| authorizer.decide_path(who, "get", "/metrics").is_some());
            return self.health(kind, &check.join("/"), query, trusted).await;
        }
        let caller = caller.ok_or_else(ApiError::unauthorized)?;
        if let ["api", "v1", "nodes", node, "proxy", rest @ ..] = segments {
            return self.node(caller, node, &format!("/{}", rest.join("/"))).await;
        }
        self.registry.authorizer().authorize_path(caller, "get", uri.path())?;
        match segments {
            ["metrics"] => Ok(Page(StatusCode::OK, exposition::CONTENT_TYPE, self.registry.metrics().await)),
            ["metrics", component @ ("controllers" | "scheduler")] => self.leader(component).await,
            ["metrics", "targets"] => self.targets(host),
            _ => Err(ApiError::no_such_resource(format!(
                "the server could not find the requested resource: there are /metrics, /metrics/controllers, \
                 /metrics/scheduler and /metrics/targets, not {}",
                uri.path()
            ))),
        }
    }
}

/// What the client calls this server.
fn host<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> &'a str {
    let named = || headers.get(header::HOST).and_then(|host| host.to_str().ok());
    uri.authority().map(|authority| authority.as_str()).or_else(named).unwrap_or_default()
}

fn response(Page(status, content_type, document): Page) -> Response<Body> {
    let mut response = Response::new(Body::new(Full::new(Bytes::from(document))));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, http::HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, http::HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, http::HeaderValue::from_static("nosniff"));
    response
}

fn refusal(error: &ApiError) -> Response<Body> {
    let status = u16::try_from(error.code()).ok().and_then(|code| StatusCode::from_u16(code).ok());
    let document = String::from_utf8_lossy(&skiff_proto::json::encode(error.status())).into_owned();
    response(Page(status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), "application/json", document))
}
