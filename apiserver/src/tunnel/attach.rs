//! The Tunnel service: components attach and stay.

use super::{Place, TO_COMPONENT, Tunnel, Tunnels};
use crate::auth;
use crate::grpc::{caller, to_grpc};
use crate::registry::{ApiError, ApiResult};
use skiff_proto::skiffv1::tunnel_server::Tunnel as TunnelApi;
use skiff_proto::skiffv1::{Hello, TunnelFrame, tunnel_frame};
use skiff_world::Identity;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

/// How long a component may take to say who it is.
const HELLO: Duration = Duration::from_secs(10);

/// The service. Cheap to clone.
#[derive(Clone)]
pub struct TunnelService {
    tunnels: Tunnels,
}

impl TunnelService {
    /// The service over all tunnels.
    pub fn new(tunnels: Tunnels) -> Self {
        Self { tunnels }
    }

    async fn welcome(&self, identity: &Identity, incoming: &mut Streaming<TunnelFrame>) -> ApiResult<(Place, String)> {
        let first = match tokio::time::timeout(HELLO, incoming.message()).await {
            Ok(Ok(first)) => first,
            Ok(Err(_)) | Err(_) => return Err(ApiError::bad_request("no hello came")),
        };
        match first.and_then(|frame| frame.body) {
            Some(tunnel_frame::Body::Hello(hello)) => {
                check(identity, &hello)?;
                Ok(((hello.component, hello.node), hello.instance))
            }
            _ => Err(ApiError::bad_request("a tunnel begins with a hello")),
        }
    }
}

/// A component can only be itself.
fn check(identity: &Identity, hello: &Hello) -> ApiResult<()> {
    let in_group = |group: &str| identity.groups.iter().any(|g| g == group);
    let fits = match hello.component.as_str() {
        "kubelet" => auth::node_name(identity) == Some(hello.node.as_str()),
        "proxy" => {
            in_group(auth::PROXIES) && identity.user.strip_prefix("system:kube-proxy:") == Some(hello.node.as_str())
        }
        "scheduler" => identity.user == "system:kube-scheduler" && hello.node.is_empty(),
        "controllers" => identity.user == "system:kube-controller-manager" && hello.node.is_empty(),
        _ => false,
    };
    if fits {
        return Ok(());
    }
    let on = if hello.node.is_empty() { String::new() } else { format!(" of node {:?}", hello.node) };
    Err(ApiError::forbidden_here(format!(
        "{:?} is not the {}{on} and cannot open its tunnel",
        identity.user, hello.component
    )))
}

#[tonic::async_trait]
impl TunnelApi for TunnelService {
    type AttachStream = ReceiverStream<Result<TunnelFrame, Status>>;

    async fn attach(&self, request: Request<Streaming<TunnelFrame>>) -> Result<Response<Self::AttachStream>, Status> {
        let identity = caller(request.extensions()).map_err(to_grpc)?;
        let mut incoming = request.into_inner();
        let (place, instance) = self.welcome(&identity, &mut incoming).await.map_err(to_grpc)?;
        let (to_component, outgoing) = mpsc::channel(TO_COMPONENT);
        let tunnel = Arc::new(Tunnel { id: self.tunnels.new_id(), instance, to_component, streams: Mutex::default() });
        self.tunnels.add(place.clone(), tunnel.clone());
        let tunnels = self.tunnels.clone();
        self.tunnels.world.spawn("tunnel", async move {
            tracing::debug!(component = place.0, node = place.1, "a component attached its tunnel");
            tokio::select! {
                biased;
                () = tunnels.registry.closing() => {}
                () = read(&tunnel, incoming) => {}
            }
            tunnels.remove(&place, tunnel.id);
            tunnel.end_all();
            tracing::debug!(component = place.0, node = place.1, "a tunnel ended");
        });
        Ok(Response::new(ReceiverStream::new(outgoing)))
    }
}

/// Passes on what the component sends, until it or its connection ends.
async fn read(tunnel: &Tunnel, mut incoming: Streaming<TunnelFrame>) {
    loop {
        let next = tokio::select! {
            biased;
            // Its last words come first: where the component goes right after them both are true at once.
            next = incoming.message() => next,
            () = tunnel.to_component.closed() => return,
        };
        let Ok(Some(frame)) = next else { return };
        let stream = frame.stream;
        if let Some(close) = tunnel.take(frame) {
            // The component hears of it when it next has room; it must not hold up the other streams.
            let frame = TunnelFrame { stream, body: Some(tunnel_frame::Body::Close(close)) };
            let _ = tunnel.to_component.try_send(Ok(frame));
        }
    }
}
