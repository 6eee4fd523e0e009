//! Streams to Pods: logs, exec, attach, port-forward. Each goes through the tunnel that the node's kubelet keeps open, by
//! the same authorisation and the same credit as over gRPC; only what the user's end speaks differs.

mod exec;
mod logs;
mod pipe;
mod portforward;
mod session;
mod socket;
pub mod spdy;
pub mod wire;

#[cfg(test)]
pub use exec::parts;
pub use socket::{UPGRADE, words};
#[cfg(test)]
pub use socket::{from_base64, limits};

use super::Rest;
use super::path::Place;
use super::query::Query;
use super::respond::Answer;
use crate::guard::{self, Asked};
use crate::registry::{ApiError, ApiResult};
use http::{Method, Request};
use skiff_world::Identity;
use tonic::body::Body;

/// Whether a path asks for a stream.
pub fn is_stream(place: &Place) -> bool {
    place.group.is_empty()
        && place.version == "v1"
        && place.resource == "pods"
        && matches!(place.subresource.as_str(), "log" | "exec" | "attach" | "portforward")
}

impl Rest {
    /// Talks with a user whose connection has changed over; a defect met there ends the talk and nothing else.
    fn converse(&self, name: &'static str, place: &Place, talk: impl Future<Output = ()> + Send + 'static) {
        let path = format!("{}/{}", place.namespace, place.name);
        let what = Asked { verb: name.into(), path, grpc: false };
        self.world.spawn(name, guard::contain(self.world.clone(), what, talk));
    }

    /// Opens a stream.
    pub(super) async fn stream(&self, identity: Identity, place: Place, request: Request<Body>) -> ApiResult<Answer> {
        let pods = self.registry.resource("", "v1", "pods")?;
        let method = request.method().clone();
        let query = Query::parse(request.uri().query());
        match (place.subresource.as_str(), method) {
            ("log", Method::GET) => self.logs(&identity, &place, &query).await,
            ("exec" | "attach", Method::GET | Method::POST) => self.exec(&identity, &place, &query, request).await,
            ("portforward", Method::GET | Method::POST) => self.port_forward(&identity, &place, &query, request).await,
            (_, method) => Err(ApiError::method_not_allowed(&pods, method.as_str())),
        }
    }
}
