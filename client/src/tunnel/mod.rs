//! The tunnel's component end. No component listens: each keeps a stream open to every API server, and what a user
//! opens to it (logs, exec, port-forward, metrics) comes in over that, many streams in one, with credit each way.

mod credit;
mod stream;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use skiff_proto::skiffv1::tunnel_client::TunnelClient;
use skiff_proto::skiffv1::tunnel_frame::Body;
use skiff_proto::skiffv1::{Hello, StreamOpen, TunnelFrame, stream_open};
use skiff_world::World;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::client::Client;
use crate::config::ClientConfig;
use crate::controls::Controls;
use crate::driver::settled::Views;
use crate::error::Error;
use crate::queue::Backoff;
use crate::stepping;

pub use credit::INITIAL as INITIAL_WINDOW;
pub use stream::{Channel, Close, Closed, MAX_DATA, Stream, StreamEvent, StreamReceiver, StreamSender};
pub(crate) use stream::{Feed, Frame, Sink, pair, tunnel_frame};

/// The component's end of one stream.
pub type TunnelStream = Stream;

const BACKOFF: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));
const ATTACH_TIMEOUT: Duration = Duration::from_secs(10);
/// Frames on their way out, over all streams of a tunnel.
const OUTGOING: usize = 64;
/// A component serves so many streams at once per API server.
const MAX_STREAMS: usize = 256;
/// How long a handler may go on after its stream was closed.
const AFTERMATH: Duration = Duration::from_secs(2);

/// Where every component says how far its informers are: `GROUP/RESOURCE REVISION`, a line each, with ` selected` behind
/// those that do not hear of every write to their resource.
pub const INFORMERS: &str = "/debug/informers";

/// Serves what comes in over the tunnel.
#[async_trait]
pub trait TunnelHandler: Send + Sync + 'static {
    /// Serves one stream, and closes it. It is dropped soon after the other end has closed.
    async fn open(&self, request: StreamOpen, stream: TunnelStream);
}

/// Answers for every component how far its informers are, and leaves the rest to its handler.
struct Served {
    views: Views,
    handler: Arc<dyn TunnelHandler>,
}

#[async_trait]
impl TunnelHandler for Served {
    async fn open(&self, request: StreamOpen, stream: TunnelStream) {
        match &request.request {
            Some(stream_open::Request::HttpGet(get)) if get.path == INFORMERS => {
                let how = stream.send(Channel::Stdout, self.views.print()).await.map_or(Close::Done, |()| Close::Done);
                stream.close(how).await;
            }
            _ => self.handler.open(request, stream).await,
        }
    }
}

/// Keeps a tunnel open to every API server of the client's, for ever.
pub async fn serve(world: &World, client: &Client, hello: Hello, handler: Arc<dyn TunnelHandler>) {
    let handler: Arc<dyn TunnelHandler> = Arc::new(Served { views: client.views().clone(), handler });
    let config = client.config();
    let ends = config.servers.iter().map(|server| {
        let config = ClientConfig { servers: vec![server.clone()], ..config.clone() };
        attach_for_ever(world, config, hello.clone(), handler.clone())
    });
    futures::future::join_all(ends).await;
}

async fn attach_for_ever(world: &World, config: ClientConfig, hello: Hello, handler: Arc<dyn TunnelHandler>) {
    let server = config.servers.first().map(ToString::to_string).unwrap_or_default();
    let client = match Client::new(world, config) {
        Ok(client) => client,
        Err(error) => return tracing::error!(%error, "no tunnel"),
    };
    let mut failures = 0u32;
    loop {
        let started = world.now();
        let ended = attach(world, &client, hello.clone(), &handler).await;
        if world.now().saturating_duration_since(started) > ATTACH_TIMEOUT {
            failures = 0;
        }
        failures = failures.saturating_add(1);
        let error = ended.err().map_or("closed by the API server".to_string(), |error| error.to_string());
        tracing::debug!(server, error, "the tunnel ended; opening it again");
        world.sleep(BACKOFF.jittered(failures, world)).await;
    }
}

/// Opens the tunnel once and serves it until it ends.
async fn attach(world: &World, client: &Client, hello: Hello, handler: &Arc<dyn TunnelHandler>) -> Result<(), Error> {
    let (frames, outgoing) = mpsc::channel(OUTGOING);
    let greeting = TunnelFrame { stream: 0, body: Some(Body::Hello(hello)) };
    // There is room: it is the first.
    let _ = frames.try_send(greeting);
    let attached = async {
        let mut api = TunnelClient::with_origin(client.wire().await?, client.origin());
        api.attach(ReceiverStream::new(outgoing)).await.map_err(|status| Error::from_grpc("attach", &status))
    };
    let mut incoming = match tokio::time::timeout(ATTACH_TIMEOUT, attached).await {
        Ok(attached) => attached?.into_inner(),
        Err(_) => {
            return Err(Error::Timeout { operation: "attach".into(), after: ATTACH_TIMEOUT });
        }
    };
    let mut streams = Streams { world, handler, frames, open: BTreeMap::new() };
    loop {
        match incoming.message().await {
            Ok(Some(frame)) => streams.take(frame),
            Ok(None) => return Ok(()),
            Err(status) => return Err(Error::from_grpc("attach", &status)),
        }
    }
}

/// The streams of one tunnel. When it ends, so do they.
struct Streams<'a> {
    world: &'a World,
    handler: &'a Arc<dyn TunnelHandler>,
    frames: mpsc::Sender<TunnelFrame>,
    open: BTreeMap<u64, Feed>,
}

impl Streams<'_> {
    fn take(&mut self, frame: TunnelFrame) {
        let stream = frame.stream;
        match (frame.body, self.open.get(&stream)) {
            (Some(Body::Open(request)), None) => self.serve(stream, request),
            (Some(Body::Data(data)), Some(feed)) => feed.data(data),
            (Some(Body::Window(window)), Some(feed)) => feed.window(window.bytes),
            (Some(Body::Close(close)), Some(feed)) => {
                feed.close(close.into());
                self.open.remove(&stream);
            }
            // Frames for a stream that has ended here were sent before the other end knew.
            _ => {}
        }
    }

    fn serve(&mut self, id: u64, request: StreamOpen) {
        self.open.retain(|_, feed| !feed.is_over());
        if self.open.len() >= MAX_STREAMS {
            let close = Close::failed("TooManyRequests", format!("{MAX_STREAMS} streams are open already"));
            let _ = self.frames.try_send(tunnel_frame(id, Frame::Close(close.into())));
            return;
        }
        let (stream, feed) = pair(Sink::Tunnel { stream: id, frames: self.frames.clone() });
        self.open.insert(id, feed);
        let (handler, end) = (self.handler.clone(), stream.sender());
        self.world.spawn("tunnel-stream", async move {
            let gone = async {
                end.closed().await;
                tokio::time::sleep(AFTERMATH).await;
            };
            tokio::select! {
                biased;
                () = handler.open(request, stream) => {}
                () = gone => {}
            }
            // If the handler has not said how it went.
            end.close(Close::Done).await;
        });
    }
}

impl Drop for Streams<'_> {
    fn drop(&mut self) {
        self.open.values().for_each(|feed| feed.close(Close::lost()));
    }
}

/// The handler of a component that has nothing to offer but its controls: `/healthz`, `/metrics`, `/debug/...`.
pub struct Inspect {
    /// What is shown.
    pub controls: Controls,
}

#[async_trait]
impl TunnelHandler for Inspect {
    async fn open(&self, request: StreamOpen, stream: TunnelStream) {
        let (stream, user) = stream.split();
        let how = match &request.request {
            Some(stream_open::Request::HttpGet(get)) => match self.controls.http_get(&get.path) {
                // If it cannot be sent, nobody is there to be told.
                Some(text) => stream.send(Channel::Stdout, text).await.map_or(Close::Done, |()| Close::Done),
                None => Close::failed("NotFound", format!("there is nothing at {}", get.path)),
            },
            Some(stream_open::Request::Step(step)) => stepping::serve(&self.controls, step, &stream, user).await,
            _ => Close::failed("BadRequest", format!("a {} has no containers", request.component)),
        };
        stream.close(how).await;
    }
}

#[cfg(test)]
mod tests;
