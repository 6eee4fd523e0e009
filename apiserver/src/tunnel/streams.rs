//! The Streams service: a user opens a stream to a component; it is authorised, addressed, and passed on.

use super::{Allowance, Link, STREAMS, TO_USER, Tunnel, Tunnels, failed};
use crate::grpc::{caller, to_grpc};
use crate::registry::{ApiError, ApiResult};
use crate::resources::Typed;
use futures::{Stream, StreamExt};
use skiff_proto::corev1::Pod;
use skiff_proto::skiffv1::streams_server::Streams;
use skiff_proto::skiffv1::{StreamFrame, StreamOpen, stream_frame, stream_open, tunnel_frame};
use skiff_world::Identity;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

/// How long a user may take to say what is wanted.
const OPEN: Duration = Duration::from_secs(10);
/// The longest path of an HTTP GET.
const PATH_MAX: usize = 4096;

/// The service. Cheap to clone.
#[derive(Clone)]
pub struct StreamsService {
    tunnels: Tunnels,
}

impl StreamsService {
    /// The service over all tunnels.
    pub fn new(tunnels: Tunnels) -> Self {
        Self { tunnels }
    }
}

/// What a user wants to open: the first thing that comes.
async fn opening(incoming: &mut Streaming<StreamFrame>) -> ApiResult<StreamOpen> {
    let first = match tokio::time::timeout(OPEN, incoming.message()).await {
        Ok(Ok(first)) => first.and_then(|frame| frame.body),
        Ok(Err(_)) | Err(_) => None,
    };
    match first {
        Some(stream_frame::Body::Open(open)) => Ok(open),
        _ => Err(ApiError::bad_request("a stream begins with what is to be opened")),
    }
}

/// What comes from a component to a user.
pub type FromComponent = mpsc::Receiver<Result<StreamFrame, Status>>;

impl Tunnels {
    /// Opens a stream for a user, whichever face the user came through: authorised, addressed, and passed on. What
    /// `incoming` yields goes to the component; when it ends, the stream is closed there.
    pub async fn open<S>(&self, identity: &Identity, mut open: StreamOpen, incoming: S) -> ApiResult<FromComponent>
    where
        S: Stream<Item = Result<StreamFrame, Status>> + Send + Unpin + 'static,
    {
        self.address(identity, &mut open).await?;
        self.connect(open, incoming).await
    }

    /// Opens a stream that has been authorised and addressed.
    pub(crate) async fn connect<S>(&self, open: StreamOpen, incoming: S) -> ApiResult<FromComponent>
    where
        S: Stream<Item = Result<StreamFrame, Status>> + Send + Unpin + 'static,
    {
        let tunnel = self.find(&open.component, &open.node).ok_or_else(|| not_attached(&open))?;
        let (to_user, outgoing) = mpsc::channel(TO_USER);
        let link = Arc::new(Link { to_user, from_user: Allowance::new(), from_component: Allowance::new() });
        let id = self.new_id();
        {
            let mut streams = tunnel.streams();
            if streams.len() >= STREAMS {
                let words =
                    format!("{STREAMS} streams to the {} are open already; please try again later", open.component);
                return Err(ApiError::too_many_requests(words, 1));
            }
            streams.insert(id, link.clone());
        }
        if !tunnel.send(id, tunnel_frame::Body::Open(open.clone())).await {
            tunnel.streams().remove(&id);
            return Err(not_attached(&open));
        }
        self.world.spawn("stream", pass_on(tunnel, link, id, incoming));
        Ok(outgoing)
    }

    /// Whether ports of a Pod may be forwarded by this user; each connection is asked for again when it is opened.
    pub async fn may_forward(&self, identity: &Identity, namespace: &str, pod: &str) -> ApiResult<()> {
        host(&self.pod(identity, "portforward", "create", namespace, pod).await?).map(drop)
    }

    /// Authorises what is asked, and fills in which component of which node it goes to.
    async fn address(&self, identity: &Identity, open: &mut StreamOpen) -> ApiResult<()> {
        use stream_open::Request as Asked;
        let place = match &mut open.request {
            Some(Asked::Logs(r)) => {
                let pod = self.pod(identity, "log", "get", &r.namespace, &r.pod).await?;
                r.container = container(&pod, &r.container)?;
                r.pod_uid = pod.metadata.uid.clone();
                host(&pod)?
            }
            Some(Asked::Exec(r)) => {
                let subresource = if r.attach { "attach" } else { "exec" };
                let pod = self.pod(identity, subresource, "create", &r.namespace, &r.pod).await?;
                if !r.attach && r.command.is_empty() {
                    return Err(ApiError::bad_request("you must specify at least one command for the container"));
                }
                r.container = container(&pod, &r.container)?;
                r.pod_uid = pod.metadata.uid.clone();
                host(&pod)?
            }
            Some(Asked::PortForward(r)) => {
                let pod = self.pod(identity, "portforward", "create", &r.namespace, &r.pod).await?;
                if !(1..=65535).contains(&r.port) {
                    return Err(ApiError::bad_request(format!(
                        "{} is not a port: it must be between 1 and 65535",
                        r.port
                    )));
                }
                r.pod_uid = pod.metadata.uid.clone();
                host(&pod)?
            }
            Some(Asked::HttpGet(r)) => {
                if !r.path.starts_with('/') || r.path.len() > PATH_MAX {
                    return Err(ApiError::bad_request("the path of an HTTP GET begins with / and is short"));
                }
                return self.inspect(identity, "get", &open.node);
            }
            // To hold a component up is more than to look at it.
            Some(Asked::Step(_)) => return self.inspect(identity, "update", &open.node),
            None => return Err(ApiError::bad_request("the stream does not say what is to be opened")),
        };
        open.component = "kubelet".into();
        open.node = place;
        Ok(())
    }

    /// Authorises a look into a component, or a hand on it.
    fn inspect(&self, identity: &Identity, verb: &'static str, node: &str) -> ApiResult<()> {
        let registry = &self.registry;
        let nodes = registry.resource("", "v1", "nodes")?;
        registry.open_stream(identity, &nodes, "proxy", verb, ("", node))
    }

    async fn pod(
        &self,
        identity: &Identity,
        subresource: &str,
        verb: &'static str,
        namespace: &str,
        name: &str,
    ) -> ApiResult<Pod> {
        let registry = &self.registry;
        let pods = registry.resource("", "v1", "pods")?;
        registry.open_stream(identity, &pods, subresource, verb, (namespace, name))?;
        let object = registry.read(&pods, namespace, name).await?;
        match object.as_any().downcast_ref::<Typed<Pod>>() {
            Some(Typed(pod)) => Ok(pod.clone()),
            None => Err(ApiError::internal("a Pod was expected")),
        }
    }
}

fn not_attached(open: &StreamOpen) -> ApiError {
    let whose = if open.node.is_empty() { String::new() } else { format!(" of node {:?}", open.node) };
    ApiError::unavailable(format!(
        "the {}{whose} has no tunnel open to this API server: it is not running, cut off, or starting; see `skiffctl get nodes`",
        open.component
    ))
}

fn host(pod: &Pod) -> ApiResult<String> {
    if pod.spec.node_name.is_empty() {
        return Err(ApiError::bad_request(format!("pod {} does not have a host assigned", pod.metadata.name)));
    }
    Ok(pod.spec.node_name.clone())
}

/// The container asked for; the only one if none was.
fn container(pod: &Pod, asked: &str) -> ApiResult<String> {
    let names = || pod.spec.containers.iter().map(|c| c.name.as_str());
    let added = || pod.spec.ephemeral_containers.iter().map(|c| c.ephemeral_container_common.name.as_str());
    let all = || names().chain(pod.spec.init_containers.iter().map(|c| c.name.as_str())).chain(added());
    let choose = || names().collect::<Vec<_>>().join(" ");
    let name = &pod.metadata.name;
    match (asked, pod.spec.containers.as_slice()) {
        ("", [only]) => Ok(only.name.clone()),
        ("", _) => Err(ApiError::bad_request(format!(
            "a container name must be specified for pod {name}, choose one of: [{}]",
            choose()
        ))),
        (asked, _) if all().any(|n| n == asked) => Ok(asked.into()),
        (asked, _) => Err(ApiError::bad_request(format!(
            "container {asked} is not valid for pod {name}, choose one of: [{}]",
            choose()
        ))),
    }
}

#[tonic::async_trait]
impl Streams for StreamsService {
    type OpenStream = ReceiverStream<Result<StreamFrame, Status>>;

    async fn open(&self, request: Request<Streaming<StreamFrame>>) -> Result<Response<Self::OpenStream>, Status> {
        let identity = caller(request.extensions()).map_err(to_grpc)?;
        let mut incoming = request.into_inner();
        let open = opening(&mut incoming).await.map_err(to_grpc)?;
        let outgoing = self.tunnels.open(&identity, open, incoming).await.map_err(to_grpc)?;
        Ok(Response::new(ReceiverStream::new(outgoing)))
    }
}

/// Passes on what the user sends. When the user is gone, the stream is closed at the component too.
async fn pass_on<S>(tunnel: Arc<Tunnel>, link: Arc<Link>, id: u64, mut incoming: S)
where
    S: Stream<Item = Result<StreamFrame, Status>> + Send + Unpin + 'static,
{
    let gone = || failed("Canceled", "the user is gone");
    let close = loop {
        let next = tokio::select! {
            biased;
            () = link.to_user.closed() => break gone(),
            next = incoming.next() => next,
        };
        let body = match next {
            Some(Ok(StreamFrame { body: Some(body) })) => body,
            Some(Ok(StreamFrame { body: None })) => continue,
            None | Some(Err(_)) => break gone(),
        };
        let body = match body {
            stream_frame::Body::Data(data) => {
                if !link.from_user.take(data.data.len()) {
                    let close = failed("BadRequest", "more was sent than the other end allowed");
                    tunnel.end(id, &link, close.clone());
                    break close;
                }
                tunnel_frame::Body::Data(data)
            }
            stream_frame::Body::Window(window) => {
                link.from_component.give(window.bytes);
                tunnel_frame::Body::Window(window)
            }
            stream_frame::Body::Close(close) => break close,
            stream_frame::Body::Open(_) => continue,
        };
        if !tunnel.streams().contains_key(&id) {
            // The component has closed it; nothing more needs to reach it.
            return;
        }
        if !tunnel.send(id, body).await {
            return;
        }
    };
    if tunnel.streams().remove(&id).is_some() {
        tunnel.send(id, tunnel_frame::Body::Close(close)).await;
    }
}
