//! Tunnels: who may attach, what reaches whom, credit, and that both ends learn when the other is gone.

use super::*;
use pb::streams_client::StreamsClient;
use pb::tunnel_client::TunnelClient;
use pb::{stream_frame, stream_open, tunnel_frame};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

pub struct Component {
    out: mpsc::Sender<pb::TunnelFrame>,
    incoming: Streaming<pb::TunnelFrame>,
}

impl Component {
    pub async fn attach(server: &Server, identity: Identity, component: &str, node: &str) -> Result<Self, Refused> {
        let (out, outgoing) = mpsc::channel(1000);
        let hello = pb::Hello { component: component.into(), node: node.into(), instance: server.world.uuid() };
        out.send(pb::TunnelFrame { stream: 0, body: Some(tunnel_frame::Body::Hello(hello)) }).await.expect("room");
        let mut client = TunnelClient::new(server.channel(Some(identity)));
        let incoming = client.attach(ReceiverStream::new(outgoing)).await?.into_inner();
        Ok(Self { out, incoming })
    }

    pub async fn next(&mut self) -> (u64, tunnel_frame::Body) {
        let frame = self.incoming.message().await.expect("no error").expect("not over");
        (frame.stream, frame.body.expect("a body"))
    }

    pub async fn send(&self, stream: u64, body: tunnel_frame::Body) {
        self.out.send(pb::TunnelFrame { stream, body: Some(body) }).await.expect("attached");
    }
}

struct User {
    out: mpsc::Sender<pb::StreamFrame>,
    incoming: Streaming<pb::StreamFrame>,
}

impl User {
    async fn open(server: &Server, identity: Identity, open: pb::StreamOpen) -> Result<Self, Refused> {
        let (out, outgoing) = mpsc::channel(1000);
        out.send(pb::StreamFrame { body: Some(stream_frame::Body::Open(open)) }).await.expect("room");
        let mut client = StreamsClient::new(server.channel(Some(identity)));
        let incoming = client.open(ReceiverStream::new(outgoing)).await?.into_inner();
        Ok(Self { out, incoming })
    }

    async fn next(&mut self) -> stream_frame::Body {
        self.incoming.message().await.expect("no error").expect("not over").body.expect("a body")
    }

    async fn send(&self, body: stream_frame::Body) {
        self.out.send(pb::StreamFrame { body: Some(body) }).await.expect("open");
    }
}

fn admin() -> Identity {
    Identity::new("kubernetes-admin", &["system:masters"])
}

pub fn kubelet(node: &str) -> Identity {
    Identity::new(&format!("system:node:{node}"), &["system:nodes"])
}

fn logs(pod: &str, container: &str) -> pb::StreamOpen {
    let request = pb::LogsRequest {
        namespace: "default".into(),
        pod: pod.into(),
        container: container.into(),
        ..Default::default()
    };
    pb::StreamOpen { request: Some(stream_open::Request::Logs(request)), ..Default::default() }
}

pub fn data(bytes: &[u8]) -> pb::StreamData {
    pb::StreamData { channel: pb::stream_data::Channel::Stdout.into(), data: bytes.to_vec().into(), end: false }
}

pub async fn bound_pod(server: &Server) {
    let client = server.admin();
    client.create("v1:pods:default", pod("a")).await.expect("made");
    client.create("v1:pods:default/a/binding", json!({"target": {"name": "n1"}})).await.expect("bound");
}

#[test]
fn a_component_can_only_attach_as_itself() {
    with_server(|server| async move {
        for (identity, component, node, fits) in [
            (kubelet("n1"), "kubelet", "n1", true),
            (kubelet("n1"), "kubelet", "n2", false),
            (kubelet("n1"), "scheduler", "", false),
            (admin(), "kubelet", "n1", false),
            (Identity::new("system:kube-proxy:n1", &["system:node-proxier"]), "proxy", "n1", true),
            (Identity::new("system:kube-proxy:n1", &["system:node-proxier"]), "proxy", "n2", false),
            (Identity::new("system:kube-scheduler", &[]), "scheduler", "", true),
            (Identity::new("system:kube-controller-manager", &[]), "controllers", "", true),
            (Identity::new("stranger", &[]), "controllers", "", false),
        ] {
            let attached = Component::attach(&server, identity.clone(), component, node).await;
            match attached {
                Ok(_) => assert!(fits, "{identity} attached as {component} {node}"),
                Err(refused) => {
                    assert!(!fits && refused.reason() == "Forbidden", "{identity} {component} {node}: {refused:?}")
                }
            }
        }
    });
}

#[test]
fn logs_reach_the_node_of_the_pod_and_come_back() {
    with_server(|server| async move {
        bound_pod(&server).await;
        let mut node = Component::attach(&server, kubelet("n1"), "kubelet", "n1").await.expect("attached");
        let mut user = User::open(&server, admin(), logs("a", "")).await.expect("opened");
        let (id, body) = node.next().await;
        let tunnel_frame::Body::Open(open) = body else { panic!("{body:?}") };
        let Some(stream_open::Request::Logs(request)) = open.request else { panic!("{open:?}") };
        assert_eq!(
            (open.component.as_str(), open.node.as_str(), request.container.as_str()),
            ("kubelet", "n1", "main")
        );
        assert_eq!(request.pod_uid.len(), 36);
        node.send(id, tunnel_frame::Body::Data(data(b"hello"))).await;
        node.send(id, tunnel_frame::Body::Close(pb::StreamClose::default())).await;
        assert!(matches!(user.next().await, stream_frame::Body::Data(d) if d.data == b"hello"[..]));
        assert!(matches!(user.next().await, stream_frame::Body::Close(c) if !c.failed));
    });
}

#[test]
fn what_cannot_be_opened_is_refused_in_words() {
    with_server(|server| async move {
        bound_pod(&server).await;
        server.admin().create("v1:pods:default", pod("unbound")).await.expect("made");
        let get = |component: &str, node: &str| pb::StreamOpen {
            component: component.into(),
            node: node.into(),
            request: Some(stream_open::Request::HttpGet(pb::HttpGet { path: "/metrics".into() })),
        };
        let stranger = Identity::new("stranger", &[]);
        for (who, open, reason, words) in [
            (admin(), logs("a", ""), "ServiceUnavailable", "the kubelet of node \"n1\" has no tunnel open"),
            (admin(), logs("b", ""), "NotFound", "pods \"b\" not found"),
            (admin(), logs("unbound", ""), "BadRequest", "does not have a host assigned"),
            (admin(), logs("a", "nope"), "BadRequest", "container nope is not valid for pod a, choose one of: [main]"),
            (stranger.clone(), logs("a", ""), "Forbidden", "cannot get resource \"pods/log\""),
            (stranger, get("kubelet", "n1"), "Forbidden", "cannot get resource \"nodes/proxy\""),
            (kubelet("n1"), logs("a", ""), "Forbidden", "pods/log"),
            (admin(), get("scheduler", ""), "ServiceUnavailable", "the scheduler has no tunnel open"),
            (admin(), pb::StreamOpen::default(), "BadRequest", "does not say what"),
        ] {
            let refused = User::open(&server, who, open).await.err().expect("refused");
            assert_eq!(refused.reason(), reason, "{refused:?}");
            assert!(refused.message().contains(words), "{}", refused.message());
        }
    });
}

#[test]
fn when_one_end_is_gone_the_other_is_told() {
    with_server(|server| async move {
        bound_pod(&server).await;
        let mut node = Component::attach(&server, kubelet("n1"), "kubelet", "n1").await.expect("attached");
        let user = User::open(&server, admin(), logs("a", "")).await.expect("opened");
        let (id, _) = node.next().await;
        drop(user);
        let (closed, body) = node.next().await;
        assert!(closed == id && matches!(body, tunnel_frame::Body::Close(c) if c.failed));
        let mut user = User::open(&server, admin(), logs("a", "")).await.expect("opened");
        node.next().await;
        drop(node);
        assert!(matches!(user.next().await, stream_frame::Body::Close(c) if c.reason == "ServiceUnavailable"));
        let refused = User::open(&server, admin(), logs("a", "")).await.err().expect("no tunnel any more");
        assert_eq!(refused.reason(), "ServiceUnavailable");
    });
}

#[test]
fn the_last_words_of_a_component_that_goes_are_passed_on() {
    in_many_worlds(|server| async move {
        bound_pod(&server).await;
        let mut node = Component::attach(&server, kubelet("n1"), "kubelet", "n1").await.expect("attached");
        let mut user = User::open(&server, admin(), logs("a", "")).await.expect("opened");
        let (id, _) = node.next().await;
        for _ in 0..20 {
            node.send(id, tunnel_frame::Body::Data(data(b"last words"))).await;
        }
        node.send(id, tunnel_frame::Body::Close(pb::StreamClose::default())).await;
        // They have left it, and it goes right behind them.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        drop(node);
        for i in 0..20 {
            let body = user.next().await;
            assert!(matches!(body, stream_frame::Body::Data(_)), "{i}: {body:?}");
        }
        assert!(matches!(user.next().await, stream_frame::Body::Close(c) if !c.failed));
    });
}

#[test]
fn a_reattached_component_takes_over() {
    with_server(|server| async move {
        bound_pod(&server).await;
        let _stale = Component::attach(&server, kubelet("n1"), "kubelet", "n1").await.expect("attached");
        let mut fresh = Component::attach(&server, kubelet("n1"), "kubelet", "n1").await.expect("attached again");
        let _user = User::open(&server, admin(), logs("a", "")).await.expect("opened");
        assert!(matches!(fresh.next().await.1, tunnel_frame::Body::Open(_)));
    });
}

#[test]
fn a_sender_without_credit_is_cut_off_and_others_are_not() {
    with_server(|server| async move {
        bound_pod(&server).await;
        let mut node = Component::attach(&server, kubelet("n1"), "kubelet", "n1").await.expect("attached");
        let mut greedy = User::open(&server, admin(), logs("a", "")).await.expect("opened");
        let (first, _) = node.next().await;
        let mut modest = User::open(&server, admin(), logs("a", "")).await.expect("opened");
        let (second, _) = node.next().await;
        // Nine times 32 KiB where eight are allowed, and nobody reads the first stream meanwhile.
        for _ in 0..9 {
            node.send(first, tunnel_frame::Body::Data(data(&[b'x'; 32 * 1024]))).await;
        }
        node.send(second, tunnel_frame::Body::Data(data(b"fine"))).await;
        assert!(matches!(modest.next().await, stream_frame::Body::Data(d) if d.data == b"fine"[..]));
        for _ in 0..8 {
            assert!(matches!(greedy.next().await, stream_frame::Body::Data(_)));
        }
        assert!(matches!(greedy.next().await, stream_frame::Body::Close(c) if c.failed));
        let (closed, body) = node.next().await;
        assert!(closed == first && matches!(body, tunnel_frame::Body::Close(c) if c.failed));
        // With credit given, more comes.
        modest.send(stream_frame::Body::Window(pb::StreamWindow { bytes: 64 * 1024 })).await;
        assert!(
            matches!(node.next().await, (id, tunnel_frame::Body::Window(w)) if id == second && w.bytes == 64 * 1024)
        );
        for _ in 0..9 {
            node.send(second, tunnel_frame::Body::Data(data(&[b'y'; 32 * 1024]))).await;
        }
        for _ in 0..9 {
            assert!(matches!(modest.next().await, stream_frame::Body::Data(_)));
        }
    });
}
