//! Both ends of the tunnel, with a relay between them as small as can be.

use std::pin::Pin;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use skiff_proto::skiffv1::streams_server::{Streams as StreamsService, StreamsServer};
use skiff_proto::skiffv1::tunnel_server::{Tunnel, TunnelServer};
use skiff_proto::skiffv1::{ExecRequest, HttpGet, StreamFrame, stream_frame};
use skiff_world::Address;
use skiff_world::sim::{Faults, Sim, Simulation};
use tokio_stream::StreamExt;
use tonic::{Request, Response, Status, Streaming};

use super::*;
use crate::streams;

/// Passes frames between users and the one component that is attached.
#[derive(Clone, Default)]
struct Relay {
    component: Arc<Mutex<Option<Way<TunnelFrame>>>>,
    users: Arc<Mutex<BTreeMap<u64, Way<StreamFrame>>>>,
    next: Arc<Mutex<u64>>,
    world: Arc<Mutex<Option<World>>>,
    attached: Arc<AtomicUsize>,
}

type Way<T> = mpsc::Sender<Result<T, Status>>;
type Frames<T> = Pin<Box<dyn futures::Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Tunnel for Relay {
    type AttachStream = Frames<TunnelFrame>;

    async fn attach(&self, request: Request<Streaming<TunnelFrame>>) -> Result<Response<Self::AttachStream>, Status> {
        let mut incoming = request.into_inner();
        let (sender, frames) = mpsc::channel(16);
        *self.component.lock().unwrap() = Some(sender);
        let relay = self.clone();
        let world = self.world.lock().unwrap().clone().unwrap();
        world.spawn("relay", async move {
            while let Ok(Some(frame)) = incoming.message().await {
                let body = match frame.body.unwrap() {
                    Body::Hello(hello) => {
                        assert_eq!((frame.stream, hello.component.as_str()), (0, "kubelet"));
                        relay.attached.fetch_add(1, Ordering::SeqCst);
                        continue;
                    }
                    Body::Open(_) => panic!("a component opens nothing"),
                    Body::Data(data) => stream_frame::Body::Data(data),
                    Body::Window(window) => stream_frame::Body::Window(window),
                    Body::Close(close) => stream_frame::Body::Close(close),
                };
                let user = relay.users.lock().unwrap().get(&frame.stream).cloned();
                if let Some(user) = user {
                    let _ = user.send(Ok(StreamFrame { body: Some(body) })).await;
                }
            }
        });
        Ok(Response::new(Box::pin(tokio_stream::wrappers::ReceiverStream::new(frames))))
    }
}

#[tonic::async_trait]
impl StreamsService for Relay {
    type OpenStream = Frames<StreamFrame>;

    async fn open(&self, request: Request<Streaming<StreamFrame>>) -> Result<Response<Self::OpenStream>, Status> {
        let mut incoming = request.into_inner();
        let component = self.component.lock().unwrap().clone();
        let component = component.ok_or_else(|| Status::not_found("the kubelet of n1 is not connected"))?;
        let id = {
            let mut next = self.next.lock().unwrap();
            *next += 1;
            *next
        };
        let (sender, frames) = mpsc::channel(16);
        self.users.lock().unwrap().insert(id, sender);
        let world = self.world.lock().unwrap().clone().unwrap();
        world.spawn("relay", async move {
            let mut closed = false;
            while let Ok(Some(frame)) = incoming.message().await {
                let body = match frame.body.unwrap() {
                    stream_frame::Body::Open(open) => Body::Open(open),
                    stream_frame::Body::Data(data) => Body::Data(data),
                    stream_frame::Body::Window(window) => Body::Window(window),
                    stream_frame::Body::Close(close) => {
                        closed = true;
                        Body::Close(close)
                    }
                };
                let _ = component.send(Ok(TunnelFrame { stream: id, body: Some(body) })).await;
            }
            if !closed {
                let body = Some(Body::Close(Close::lost().into()));
                let _ = component.send(Ok(TunnelFrame { stream: id, body })).await;
            }
        });
        Ok(Response::new(Box::pin(tokio_stream::wrappers::ReceiverStream::new(frames).map(|frame| frame))))
    }
}

impl Relay {
    async fn serve(&self, world: &World) {
        *self.world.lock().unwrap() = Some(world.clone());
        let mut listener = world.listen(&Address::Pipe("relay".into())).await.unwrap();
        let (relay, inner) = (self.clone(), world.clone());
        world.spawn("relay", async move {
            while let Ok(connection) = listener.accept().await {
                let mut routes = tonic::service::Routes::builder();
                routes.add_service(TunnelServer::new(relay.clone()));
                routes.add_service(StreamsServer::new(relay.clone()));
                let service = TowerToHyperService::new(routes.routes().prepare());
                let serving = hyper::server::conn::http2::Builder::new(inner.executor())
                    .timer(hyper_util::rt::TokioTimer::new())
                    .serve_connection(TokioIo::new(connection), service);
                inner.spawn("relay-connection", async move { drop(serving.await) });
            }
        });
    }
}

/// A component that does as the command says.
#[derive(Default)]
struct Echo {
    living: Arc<AtomicUsize>,
    sent: Arc<AtomicUsize>,
}

struct Alive(Arc<AtomicUsize>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl TunnelHandler for Echo {
    async fn open(&self, request: StreamOpen, mut stream: TunnelStream) {
        self.living.fetch_add(1, Ordering::SeqCst);
        let _alive = Alive(self.living.clone());
        let Some(stream_open::Request::Exec(exec)) = request.request else {
            return stream.close(Close::failed("BadRequest", "only exec")).await;
        };
        match exec.command[0].as_str() {
            // Gives back what comes in, until that ends; then the number of bytes as exit code.
            "cat" => {
                let mut bytes = 0;
                while let Some(event) = stream.recv().await {
                    match event {
                        StreamEvent::Data { channel, bytes: data } => {
                            assert_eq!(channel, Channel::Stdin);
                            bytes += data.len();
                            stream.send(Channel::Stdout, data).await.unwrap();
                        }
                        StreamEvent::End(_) => break,
                        StreamEvent::Closed(_) => return,
                    }
                }
                stream.close(Close::Exit(bytes as i32)).await;
            }
            // Sends until nobody takes it.
            "yes" => {
                while stream.send(Channel::Stdout, vec![b'y'; 10_000]).await.is_ok() {
                    self.sent.fetch_add(10_000, Ordering::SeqCst);
                }
            }
            "sleep" => std::future::pending().await,
            _ => {}
        }
    }
}

struct Scene {
    relay: Relay,
    echo: Arc<Echo>,
    world: World,
    client: Client,
}

async fn scene(sim: &Sim) -> Scene {
    let relay = Relay::default();
    relay.serve(&sim.machine("server").world("api", None)).await;
    let (node, user) = (sim.machine("node").world("kubelet", None), sim.machine("user").world("skiffctl", None));
    let echo = Arc::new(Echo::default());
    let client = |world| Client::new(world, ClientConfig::pipe("relay", "test/0")).unwrap();
    let (handler, component, inner) = (echo.clone(), client(&node), node.clone());
    let hello = Hello { component: "kubelet".into(), node: "n1".into(), instance: "1".into() };
    node.spawn("tunnel", async move { serve(&inner, &component, hello, handler).await });
    let scene = Scene { relay, echo, client: client(&user), world: user };
    scene.until("attached", |s| s.relay.attached.load(Ordering::SeqCst) == 1).await;
    scene
}

impl Scene {
    async fn exec(&self, command: &str) -> Stream {
        let exec = ExecRequest { command: vec![command.into()], ..ExecRequest::default() };
        streams::open(&self.client, open(stream_open::Request::Exec(exec))).await.unwrap()
    }

    async fn until(&self, what: &str, done: impl Fn(&Scene) -> bool) {
        for _ in 0..6_000 {
            if done(self) {
                return;
            }
            self.world.sleep(Duration::from_millis(10)).await;
        }
        panic!("not within a minute: {what}");
    }

    fn living(&self) -> usize {
        self.echo.living.load(Ordering::SeqCst)
    }
}

fn open(request: stream_open::Request) -> StreamOpen {
    StreamOpen { component: "kubelet".into(), node: "n1".into(), request: Some(request) }
}

fn simulate<F: Future<Output = ()>>(scenario: impl Fn(Sim) -> F + Copy) {
    for seed in 0..5 {
        Simulation::new(seed).faults(Faults::none()).run(scenario);
    }
}

#[test]
fn bytes_go_both_ways_in_order_and_the_exit_code_comes_back() {
    simulate(async |sim: Sim| {
        let scene = scene(&sim).await;
        let (sender, mut receiver) = scene.exec("cat").await.split();
        // Much more than a window and a frame, so that credit has to come back.
        let sent: Vec<u8> = (0..1_500_000u32).map(|n| (n % 251) as u8).collect();
        let bytes = sent.clone();
        scene.world.spawn("typing", async move {
            sender.send(Channel::Stdin, bytes).await.unwrap();
            sender.end(Channel::Stdin).await.unwrap();
        });
        let mut received = Vec::new();
        let close = loop {
            match receiver.recv().await.unwrap() {
                StreamEvent::Data { bytes, .. } => received.extend_from_slice(&bytes),
                StreamEvent::End(_) => panic!("nobody ended anything"),
                StreamEvent::Closed(how) => break how,
            }
        };
        assert!(received == sent, "{} of {} bytes", received.len(), sent.len());
        assert_eq!(close, Close::Exit(1_500_000));
        assert_eq!(receiver.recv().await, None);
    });
}

#[test]
fn a_slow_reader_stops_its_sender_and_nobody_else() {
    simulate(async |sim: Sim| {
        let scene = scene(&sim).await;
        let slow = scene.exec("yes").await;
        scene.world.sleep(Duration::from_secs(5)).await;
        let sent = scene.echo.sent.load(Ordering::SeqCst);
        assert!(sent <= INITIAL_WINDOW as usize, "{sent} bytes for somebody who reads none");
        let mut quick = scene.exec("cat").await;
        quick.send(Channel::Stdin, "hello").await.unwrap();
        let data = StreamEvent::Data { channel: Channel::Stdout, bytes: "hello".into() };
        assert_eq!(quick.recv().await, Some(data));
        drop(slow);
    });
}

#[test]
fn who_hangs_up_ends_the_handler_also_one_that_does_not_listen() {
    simulate(async |sim: Sim| {
        let scene = scene(&sim).await;
        for command in ["cat", "yes", "sleep"] {
            let stream = scene.exec(command).await;
            scene.until("the handler runs", |s| s.living() == 1).await;
            stream.close(Close::Done).await;
            scene.until("the handler is gone", |s| s.living() == 0).await;
        }
    });
}

#[test]
fn a_handler_that_says_nothing_is_done() {
    simulate(async |sim: Sim| {
        let scene = scene(&sim).await;
        let mut stream = scene.exec("nothing").await;
        assert_eq!(stream.recv().await, Some(StreamEvent::Closed(Close::Done)));
        assert_eq!(stream.send(Channel::Stdin, "x").await, Err(Closed));
    });
}

#[test]
fn a_failure_has_words() {
    simulate(async |sim: Sim| {
        let scene = scene(&sim).await;
        let request = open(stream_open::Request::HttpGet(HttpGet { path: "/metrics".into() }));
        let mut stream = streams::open(&scene.client, request).await.unwrap();
        let failure = Close::failed("BadRequest", "only exec");
        assert_eq!(stream.recv().await, Some(StreamEvent::Closed(failure)));
    });
}

#[test]
fn a_component_that_is_not_there_is_an_error() {
    simulate(async |sim: Sim| {
        let scene = scene(&sim).await;
        *scene.relay.component.lock().unwrap() = None;
        let request = open(stream_open::Request::Exec(ExecRequest::default()));
        let Err(error) = streams::open(&scene.client, request).await else { panic!("opened") };
        assert!(error.is_not_found(), "{error}");
    });
}

#[test]
fn a_cut_tunnel_ends_its_streams_and_is_opened_again() {
    simulate(async |sim: Sim| {
        let scene = scene(&sim).await;
        let _stream = scene.exec("sleep").await;
        scene.until("the handler runs", |s| s.living() == 1).await;
        sim.cut("server", "node");
        scene.until("attached again", |s| s.relay.attached.load(Ordering::SeqCst) == 2).await;
        scene.until("the handler is gone", |s| s.living() == 0).await;
        let mut again = scene.exec("cat").await;
        again.end(Channel::Stdin).await.unwrap();
        assert_eq!(again.recv().await, Some(StreamEvent::Closed(Close::Exit(0))));
    });
}

#[test]
fn inspection_shows_the_controls() {
    simulate(async |sim: Sim| {
        let world = sim.machine("node").world("scheduler", None);
        let inspect = Inspect { controls: Controls::new() };
        let ask = async |path: &str| {
            let (frames, mut outgoing) = mpsc::channel(8);
            let (stream, _feed) = pair(Sink::Call(frames));
            inspect.open(open(stream_open::Request::HttpGet(HttpGet { path: path.into() })), stream).await;
            let mut bodies = Vec::new();
            while let Ok(frame) = outgoing.try_recv() {
                bodies.push(frame.body.unwrap());
            }
            bodies
        };
        let _queue = inspect.controls.queue::<String>(&world, "pods");
        let [stream_frame::Body::Data(data), stream_frame::Body::Close(close)] = &ask("/debug/queues").await[..] else {
            panic!("data and a close")
        };
        assert!(data.data.starts_with(b"pods:") && !close.failed);
        let [stream_frame::Body::Close(close)] = &ask("/secret").await[..] else { panic!("a close") };
        assert_eq!(close.reason, "NotFound");
    });
}
