//! The `proxy` subresource of Pods and Services: an HTTP request, whatever its method, passed on to a Pod through the
//! tunnel of its node. Nodes have pages of their own (`monitoring/`).
//!
//! ```text
//! user ──> authorise ──> target (which Pod, which port) ──> wire (the tunnel as a connection) ──> exchange (HTTP)
//! ```
//!
//! The user's credentials stay here. A redirect is handed back, never followed. What is reached is a Pod at its own
//! address, as its kubelet knows it: no address that somebody has written into an object is ever dialled.

mod exchange;
pub mod target;
mod tls;
mod wire;

use super::path::{self, Place};
use super::respond::Answer;
use super::{Rest, nothing_here};
use crate::registry::{ApiError, ApiResult};
use crate::resources::Typed;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use prost::Message;
use skiff_proto::corev1::{Pod, Service};
use skiff_proto::discoveryv1::EndpointSlice;
use skiff_world::Identity;
use target::{Named, Target};
use tonic::body::Body;

/// The label that names an EndpointSlice's Service.
const OF_SERVICE: &str = "kubernetes.io/service-name";

/// Whether a path asks for a Pod or Service to be reached.
pub fn is_proxy(place: &Place) -> bool {
    place.group.is_empty()
        && place.version == "v1"
        && place.subresource == "proxy"
        && matches!(place.resource.as_str(), "pods" | "services")
}

/// The verb that a method stands for.
fn verb(method: &Method) -> Option<&'static str> {
    Some(match method.as_str() {
        "GET" | "HEAD" | "OPTIONS" => "get",
        "POST" => "create",
        "PUT" => "update",
        "PATCH" => "patch",
        "DELETE" => "delete",
        _ => return None,
    })
}

impl Rest {
    /// Passes a request on to a Pod.
    pub(super) async fn proxy(&self, identity: &Identity, place: &Place, request: Request<Body>) -> ApiResult<Answer> {
        let resource = self.registry.resource("", "v1", &place.resource)?;
        let method = request.method().as_str();
        let verb = verb(request.method()).ok_or_else(|| ApiError::method_not_allowed(&resource, method))?;
        let named = target::parse(&place.name)
            .ok_or_else(|| ApiError::bad_request(format!("invalid {} request {:?}", resource.singular, place.name)))?;
        let authorizer = self.registry.authorizer();
        authorizer.authorize_stream(identity, &resource, "proxy", verb, &place.namespace, named.name)?;
        let (prefix, suffix) = path::behind(request.uri().path(), place).ok_or_else(|| nothing_here(method))?;
        let reads = matches!(*request.method(), Method::GET | Method::HEAD);
        if suffix.is_empty() && reads && exchange::upgrade(request.headers()).is_none() {
            return Ok(with_slash(request.uri()));
        }
        let (prefix, suffix) = (prefix.to_string(), suffix.to_string());
        let target = match place.resource.as_str() {
            "pods" => target::of_pod(&self.typed::<Pod>("", "pods", &place.namespace, named.name).await?, &named)?,
            _ => self.of_service(&place.namespace, &named).await?,
        };
        let wire = self.wire_to(&target).await?;
        exchange::exchange(self, wire, &target, exchange::Paths { prefix, suffix }, request).await
    }

    /// A ready Pod behind a Service.
    async fn of_service(&self, namespace: &str, named: &Named<'_>) -> ApiResult<Target> {
        let service = self.typed::<Service>("", "services", namespace, named.name).await?;
        let port = target::service_port(&service, named)?;
        let slices = self.registry.resource("discovery.k8s.io", "v1", "endpointslices")?;
        let options = crate::cache::ListOptions { namespace: namespace.into(), ..Default::default() };
        let page = self.registry.cache().list(slices.cached(), &options).map_err(ApiError::internal)?;
        let ours = page.entries.iter().filter(|entry| entry.label(OF_SERVICE) == Some(named.name));
        let slices: Vec<EndpointSlice> = ours.filter_map(|entry| EndpointSlice::decode(entry.object()).ok()).collect();
        let ready = target::ready(&slices, &port, namespace);
        let chosen = usize::try_from(self.world.random_below(ready.len() as u64)).unwrap_or_default();
        let Some(endpoint) = ready.get(chosen) else {
            return Err(target::nobody(named.name, &port));
        };
        let pod = self.typed::<Pod>("", "pods", namespace, &endpoint.pod).await?;
        target::at(&pod, endpoint.port, named.scheme)
    }

    async fn typed<K: skiff_proto::Kind>(
        &self,
        group: &str,
        resource: &str,
        namespace: &str,
        name: &str,
    ) -> ApiResult<K> {
        let row = self.registry.resource(group, "v1", resource)?;
        let object = self.registry.read(&row, namespace, name).await?;
        match object.as_any().downcast_ref::<Typed<K>>() {
            Some(Typed(kind)) => Ok(kind.clone()),
            None => Err(ApiError::internal(format!("a {} was expected", K::KIND))),
        }
    }
}

/// Pages name others relative to themselves, so the first one's address has to end in a slash.
fn with_slash(uri: &http::Uri) -> Answer {
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    if let Ok(location) = HeaderValue::from_str(&format!("{}/{query}", uri.path())) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}
