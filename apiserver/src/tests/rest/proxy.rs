//! HTTP passed on to Pods, with a kubelet and a Pod at the other end of the tunnel.

use super::super::tunnel::{Component, bound_pod, data, kubelet};
use super::*;
use pb::{stream_data, stream_open, tunnel_frame};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const POD: &str = "/api/v1/namespaces/default/pods";
const SERVICE: &str = "/api/v1/namespaces/default/services";

/// A node with a Pod that has an address.
async fn node(server: &Server) -> Component {
    bound_pod(server).await;
    address_of_a(server, "10.244.0.7").await;
    Component::attach(server, kubelet("n1"), "kubelet", "n1").await.expect("attached")
}

async fn address_of_a(server: &Server, ip: &str) {
    let patch = json!({"status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}]}});
    let merge = &["content-type: application/merge-patch+json"];
    let got = server.http().ask("PATCH", &format!("{POD}/a/status"), merge, patch.to_string()).await;
    assert_eq!(got.code, 200, "{}", got.text());
}

/// What the Pod is asked: the stream, the port, the head and what of the body came with it.
async fn asked(node: &mut Component, until: &str) -> (u64, u32, String) {
    let (id, body) = node.next().await;
    let tunnel_frame::Body::Open(open) = body else { panic!("{body:?}") };
    let Some(stream_open::Request::PortForward(request)) = open.request else { panic!("{open:?}") };
    assert!(request.by_address && request.pod == "a" && open.node == "n1", "{request:?}");
    let mut text = String::new();
    while !text.contains(until) {
        if let (_, tunnel_frame::Body::Data(data)) = node.next().await {
            text.push_str(&String::from_utf8_lossy(&data.data));
        }
    }
    (id, request.port, text)
}

async fn say(node: &Component, id: u64, text: &str) {
    node.send(id, tunnel_frame::Body::Data(data(text.as_bytes()))).await;
}

/// Waits until the stream is closed from the user's side.
async fn closed(node: &mut Component) {
    loop {
        match node.next().await.1 {
            tunnel_frame::Body::Close(_) => return,
            tunnel_frame::Body::Data(_) | tunnel_frame::Body::Window(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_request_reaches_the_pod_without_what_is_the_users_and_the_answer_comes_back() {
    with_server(|server| async move {
        let mut node = node(&server).await;
        let http = server.http();
        let headers = [
            "x-remote-user: root",
            "connection: close, x-hop",
            "x-hop: one",
            "x-own: kept",
            "cookie: a=b",
            "content-type: text/plain",
        ];
        let path = format!("{POD}/a:8080/proxy/a%2Fb//c/?q=1%202&r");
        let sent = http.ask("PUT", &path, &headers, "the body");
        let pod = async {
            let (id, port, text) = asked(&mut node, "the body").await;
            say(&node, id, "HTTP/1.1 418 Teapot\r\nX-Own: back\r\nConnection: x-hop\r\nX-Hop: two\r\nContent-Length: 5\r\n\r\nshort").await;
            (port, text)
        };
        let (got, (port, text)) = tokio::join!(sent, pod);
        let lower = text.to_ascii_lowercase();
        assert!(port == 8080 && text.starts_with("PUT /a%2Fb//c/?q=1%202&r HTTP/1.1\r\n"), "{text}");
        for kept in ["host: 10.244.0.7:8080\r\n", "x-own: kept\r\n", "cookie: a=b\r\n", "x-forwarded-host: skiff\r\n"] {
            assert!(lower.contains(kept), "{kept} is missing: {text}");
        }
        for gone in ["x-remote-user", "x-hop", "connection:"] {
            assert!(!lower.contains(gone), "{gone} was passed on: {text}");
        }
        assert_eq!((got.code, got.text().as_str(), got.headers["x-own"].as_bytes()), (418, "short", &b"back"[..]));
        assert!(!got.headers.contains_key("x-hop"));
        closed(&mut node).await;
    });
}

#[test]
fn an_empty_path_gets_its_slash_and_a_redirect_is_handed_back() {
    with_server(|server| async move {
        let mut node = node(&server).await;
        let http = server.http();
        let got = http.get(&format!("{POD}/a/proxy?x=y")).await;
        assert_eq!((got.code, got.headers["location"].as_bytes()), (301, format!("{POD}/a/proxy/?x=y").as_bytes()));
        for (location, wanted) in [
            ("/login", format!("{POD}/a:80/proxy/login")),
            ("http://10.244.0.7:80/login?a", format!("{POD}/a:80/proxy/login?a")),
            ("https://elsewhere/", "https://elsewhere/".into()),
            ("//elsewhere/", "//elsewhere/".into()),
            ("http://10.244.0.7:8080/", "http://10.244.0.7:8080/".into()),
            ("next", "next".into()),
        ] {
            let path = format!("{POD}/a:80/proxy/");
            let sent = http.get(&path);
            let pod = async {
                let (id, _, _) = asked(&mut node, "\r\n\r\n").await;
                say(&node, id, &format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"))
                    .await;
                closed(&mut node).await;
            };
            let (got, ()) = tokio::join!(sent, pod);
            assert_eq!((got.code, got.headers["location"].as_bytes()), (302, wanted.as_bytes()), "not followed");
        }
    });
}

#[test]
fn a_service_leads_to_a_ready_pod() {
    with_server(|server| async move {
        let mut node = node(&server).await;
        let http = server.http();
        let spec = json!({"selector": {"a": "b"}, "ports": [{"name": "web", "port": 80, "targetPort": 8080}]});
        http.post(SERVICE, &json!({"metadata": {"name": "s"}, "spec": spec})).await;
        let got = http.get(&format!("{SERVICE}/s/proxy/")).await;
        assert_eq!((got.code, &got.json()["reason"]), (503, &json!("ServiceUnavailable")));
        let endpoint = |name: &str, namespace: &str, ready: bool| {
            json!({"addresses": ["10.0.0.9"], "conditions": {"ready": ready},
                "targetRef": {"kind": "Pod", "name": name, "namespace": namespace}})
        };
        let slice = json!({
            "metadata": {"name": "s-1", "labels": {"kubernetes.io/service-name": "s"}},
            "addressType": "IPv4",
            "ports": [{"name": "web", "port": 8080, "protocol": "TCP"}],
            "endpoints": [endpoint("b", "default", false), endpoint("a", "default", true), endpoint("c", "kube-system", true)],
        });
        let made = http.post("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices", &slice).await;
        assert_eq!(made.code, 201, "{}", made.text());
        for name in ["s", "s:web", "s:80", "http:s:web"] {
            let path = format!("{SERVICE}/{name}/proxy/x");
            let sent = http.get(&path);
            let pod = async {
                let (id, port, text) = asked(&mut node, "\r\n\r\n").await;
                assert!(port == 8080 && text.starts_with("GET /x HTTP/1.1"), "{port} {text}");
                say(&node, id, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
                closed(&mut node).await;
            };
            let (got, ()) = tokio::join!(sent, pod);
            assert_eq!((got.code, got.text().as_str()), (200, "ok"), "{name}");
        }
        for (path, code) in [
            (format!("{SERVICE}/none/proxy/"), 404),
            (format!("{SERVICE}/s:other/proxy/"), 503),
            (format!("{SERVICE}/ftp:s:80/proxy/"), 400),
            (format!("{POD}/none/proxy/"), 404),
        ] {
            assert_eq!(http.get(&path).await.code, code, "{path}");
        }
    });
}

#[test]
fn who_may_not_is_refused_and_no_address_of_a_machine_is_reached() {
    with_server(|server| async move {
        let mut node = node(&server).await;
        let stranger = server.http_as(Identity::new("stranger", &[]));
        for path in [format!("{POD}/a/proxy/"), format!("{SERVICE}/s/proxy/"), "/api/v1/nodes/n1/proxy/pods".into()] {
            assert_eq!(stranger.get(&path).await.code, 403, "{path}");
        }
        let http = server.http();
        for ip in ["127.0.0.1", "169.254.169.254"] {
            address_of_a(&server, ip).await;
            let got = http.get(&format!("{POD}/a/proxy/")).await;
            assert_eq!(got.code, 400, "{ip}: {}", got.text());
        }
        address_of_a(&server, "10.244.0.7").await;
        // What the kubelet cannot reach is said in its words.
        let path = format!("{POD}/a/proxy/");
        let sent = http.get(&path);
        let pod = async {
            let (id, _) = node.next().await;
            let close = pb::StreamClose {
                failed: true,
                reason: "ServiceUnavailable".into(),
                message: "dial tcp 10.244.0.7:80: connection refused".into(),
                exit_code: None,
            };
            node.send(id, tunnel_frame::Body::Close(close)).await;
        };
        let (got, ()) = tokio::join!(sent, pod);
        let words = "error trying to reach service: dial tcp 10.244.0.7:80: connection refused";
        assert_eq!((got.code, &got.json()["message"]), (503, &json!(words)));
    });
}

const UPGRADE: [&str; 5] = [
    "connection: Upgrade",
    "upgrade: websocket",
    "sec-websocket-version: 13",
    "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
    "sec-websocket-protocol: base64url.bearer.authorization.k8s.io.c2VzYW1l, chat",
];

#[test]
fn an_upgrade_that_is_granted_passes_bytes_both_ways() {
    with_server(|server| async move {
        let mut node = node(&server).await;
        let http = server.http();
        let path = format!("{POD}/a/proxy/chat");
        let sent = http.send("GET", &path, &UPGRADE, "");
        let pod = async {
            let (id, _, text) = asked(&mut node, "\r\n\r\n").await;
            let lower = text.to_ascii_lowercase();
            assert!(lower.contains("connection: upgrade\r\n") && lower.contains("upgrade: websocket\r\n"), "{text}");
            assert!(lower.contains("sec-websocket-protocol: chat\r\n"), "the token stays here: {text}");
            say(&node, id, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\nfirst").await;
            id
        };
        let (response, id) = tokio::join!(sent, pod);
        assert_eq!(
            (response.status().as_u16(), response.headers()["sec-websocket-accept"].as_bytes()),
            (101, &b"x"[..])
        );
        let mut user = TokioIo::new(hyper::upgrade::on(response).await.expect("upgraded"));
        let mut buffer = [0; 5];
        user.read_exact(&mut buffer).await.expect("data");
        assert_eq!(&buffer, b"first");
        user.write_all(b"said").await.expect("sent");
        loop {
            if let (_, tunnel_frame::Body::Data(data)) = node.next().await {
                assert_eq!((data.channel(), &data.data[..]), (stream_data::Channel::Stdin, &b"said"[..]));
                break;
            }
        }
        say(&node, id, "again").await;
        user.read_exact(&mut buffer).await.expect("data");
        assert_eq!(&buffer, b"again");
        node.send(id, tunnel_frame::Body::Close(pb::StreamClose::default())).await;
        assert_eq!(user.read(&mut buffer).await.expect("the end"), 0);
    });
}

/// What follows a refused upgrade on the user's connection must not reach the Pod.
#[test]
fn an_upgrade_that_is_not_granted_closes_the_way_to_the_pod() {
    for refusal in [
        "HTTP/1.1 403 Forbidden\r\nContent-Length: 4\r\n\r\nnono",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nnono\r\n0\r\n\r\n",
    ] {
        with_server(move |server| async move {
            let mut node = node(&server).await;
            let http = server.http();
            let path = format!("{POD}/a/proxy/chat");
            let sent = http.ask("GET", &path, &UPGRADE, "");
            let pod = async {
                let (id, _, _) = asked(&mut node, "\r\n\r\n").await;
                say(&node, id, refusal).await;
                closed(&mut node).await;
            };
            let (got, ()) = tokio::join!(sent, pod);
            assert!(matches!(got.code, 200 | 403) && got.text() == "nono", "{} {}", got.code, got.text());
        });
    }
    // No answer at all; and one that grants what was not asked for.
    for (headers, said) in
        [(&UPGRADE[..], ""), (&[][..], "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")]
    {
        with_server(move |server| async move {
            let mut node = node(&server).await;
            let http = server.http();
            let path = format!("{POD}/a/proxy/chat");
            let sent = http.ask("GET", &path, headers, "");
            let pod = async {
                let (id, _, _) = asked(&mut node, "\r\n\r\n").await;
                say(&node, id, said).await;
                if said.is_empty() {
                    node.send(id, tunnel_frame::Body::Close(pb::StreamClose::default())).await;
                } else {
                    closed(&mut node).await;
                }
            };
            let (got, ()) = tokio::join!(sent, pod);
            assert_eq!(got.code, 503, "{}", got.text());
        });
    }
}

#[test]
fn a_user_who_goes_lets_the_pod_go() {
    with_server(|server| async move {
        let mut node = node(&server).await;
        let http = server.http();
        let path = format!("{POD}/a/proxy/slow");
        let sent = http.get(&path);
        let pod = async {
            asked(&mut node, "\r\n\r\n").await;
        };
        tokio::select! {
            biased;
            _ = sent => panic!("nothing was answered"),
            () = async { pod.await; server.world.sleep(std::time::Duration::from_secs(1)).await } => {}
        }
        closed(&mut node).await;
    });
}
