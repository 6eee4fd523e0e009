//! Logs and commands over HTTP, with a kubelet at the other end of the tunnel.

use super::super::tunnel::{Component, bound_pod, data, kubelet};
use super::*;
use futures::{SinkExt, StreamExt};
use pb::{stream_data, stream_open, tunnel_frame};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message as Said;
use tokio_tungstenite::tungstenite::protocol::Role;

const POD: &str = "/api/v1/namespaces/default/pods/a";

async fn node(server: &Server) -> Component {
    bound_pod(server).await;
    Component::attach(server, kubelet("n1"), "kubelet", "n1").await.expect("attached")
}

fn closed(exit_code: Option<i32>, failed: Option<(&str, &str)>) -> tunnel_frame::Body {
    let (reason, message) = failed.unwrap_or_default();
    tunnel_frame::Body::Close(pb::StreamClose {
        failed: failed.is_some(),
        reason: reason.into(),
        message: message.into(),
        exit_code,
    })
}

#[test]
fn logs_are_text_and_a_refusal_is_a_status() {
    with_server(|server| async move {
        let mut node = node(&server).await;
        let http = server.http();
        let path = format!("{POD}/log?follow=true&tailLines=5&timestamps=true&limitBytes=8");
        let asked = http.get(&path);
        let kubelet = async {
            let (id, body) = node.next().await;
            let tunnel_frame::Body::Open(open) = body else { panic!("{body:?}") };
            let Some(stream_open::Request::Logs(request)) = open.request else { panic!("{open:?}") };
            assert_eq!((request.follow, request.tail_lines, request.timestamps), (true, Some(5), true));
            node.send(id, tunnel_frame::Body::Data(data(b"hello\nworld\n"))).await;
            node.send(id, closed(None, None)).await;
        };
        let (got, ()) = tokio::join!(asked, kubelet);
        assert_eq!((got.code, got.content_type(), got.text().as_str()), (200, "text/plain", "hello\nwo"));

        let path = format!("{POD}/log?previous=true");
        let asked = http.get(&path);
        let kubelet = async {
            loop {
                if let (id, tunnel_frame::Body::Open(_)) = node.next().await {
                    return node
                        .send(id, closed(None, Some(("BadRequest", "previous terminated container not found"))))
                        .await;
                }
            }
        };
        let (got, ()) = tokio::join!(asked, kubelet);
        assert_eq!((got.code, &got.json()["message"]), (400, &json!("previous terminated container not found")));
        let got = http.get(&format!("{POD}/log?container=none")).await;
        assert_eq!((got.code, &got.json()["reason"]), (400, &json!("BadRequest")));
        let stranger = server.http_as(Identity::new("stranger", &[]));
        assert_eq!(stranger.get(&format!("{POD}/log")).await.code, 403);
        assert_eq!(stranger.ask("POST", &format!("{POD}/exec?command=ls"), &[], "").await.code, 403);
    });
}

#[test]
fn a_command_talks_over_a_websocket() {
    with_server(|server| async move {
        let mut node = node(&server).await;
        let http = server.http();
        let headers = [
            "connection: Upgrade",
            "upgrade: websocket",
            "sec-websocket-version: 13",
            "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
            "sec-websocket-protocol: v5.channel.k8s.io, v4.channel.k8s.io",
        ];
        let path = format!("{POD}/exec?command=cat&command=-&stdin=true&stdout=true&stderr=true");
        let response = http.send("GET", &path, &headers, "").await;
        assert_eq!(response.status(), 101);
        assert_eq!(response.headers()["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(response.headers()["sec-websocket-protocol"], "v5.channel.k8s.io");
        let upgraded = hyper::upgrade::on(response).await.expect("upgraded");
        let mut socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Client, None).await;

        let (id, body) = node.next().await;
        let tunnel_frame::Body::Open(open) = body else { panic!("{body:?}") };
        let Some(stream_open::Request::Exec(request)) = open.request else { panic!("{open:?}") };
        assert_eq!((request.command, request.stdin, request.attach), (vec!["cat".into(), "-".into()], true, false));
        for (said, channel, wanted, end) in [
            (&b"\0input"[..], stream_data::Channel::Stdin, &b"input"[..], false),
            (b"\x04{\"Width\":80,\"Height\":24}", stream_data::Channel::Resize, b"\0\x50\0\x18", false),
            (b"\xff\0", stream_data::Channel::Stdin, b"", true),
        ] {
            socket.send(Said::Binary(said.to_vec().into())).await.expect("sent");
            let (_, body) = node.next().await;
            let tunnel_frame::Body::Data(got) = body else { panic!("{body:?}") };
            assert_eq!((got.channel(), &got.data[..], got.end), (channel, wanted, end));
        }
        node.send(id, tunnel_frame::Body::Data(data(b"output"))).await;
        node.send(id, closed(Some(3), None)).await;
        assert_eq!(socket.next().await.expect("output").expect("no error").into_data()[..], *b"\x01output");
        let outcome = socket.next().await.expect("an outcome").expect("no error").into_data();
        let status: Value = serde_json::from_slice(&outcome[1..]).expect("JSON");
        assert_eq!((outcome[0], &status["reason"]), (3, &json!("NonZeroExitCode")));
        assert!(matches!(socket.next().await, Some(Ok(Said::Close(_)))));
    });
}

#[test]
fn a_client_that_speaks_text_says_channels_in_digits_and_data_in_base64() {
    with_server(|server| async move {
        let mut node = node(&server).await;
        let headers = [
            "connection: Upgrade",
            "upgrade: websocket",
            "sec-websocket-version: 13",
            "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
            "sec-websocket-protocol: v4.base64.channel.k8s.io",
        ];
        let path = format!("{POD}/exec?command=cat&stdin=true&stdout=true");
        let response = server.http().send("GET", &path, &headers, "").await;
        assert_eq!(response.headers()["sec-websocket-protocol"], "v4.base64.channel.k8s.io");
        let upgraded = hyper::upgrade::on(response).await.expect("upgraded");
        let mut socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Client, None).await;
        let (id, _) = node.next().await;
        socket.send(Said::text("0aW5wdXQ=")).await.expect("sent");
        assert!(matches!(node.next().await, (_, tunnel_frame::Body::Data(d)) if d.data == b"input"[..]));
        node.send(id, tunnel_frame::Body::Data(data(b"output"))).await;
        let said = socket.next().await.expect("output").expect("no error");
        assert_eq!(said, Said::text("1b3V0cHV0"));
        // What is no base64 ends it.
        socket.send(Said::text("0?")).await.expect("sent");
        assert!(matches!(socket.next().await, None | Some(Ok(Said::Close(_))) | Some(Err(_))));
    });
}

#[test]
fn what_is_not_spoken_is_refused_and_nothing_stays_open() {
    with_server(|server| async move {
        let mut node = node(&server).await;
        let http = server.http();
        for headers in [
            &["connection: Upgrade", "upgrade: SPDY/3.1", "x-stream-protocol-version: v9.other"][..],
            &["connection: Upgrade", "upgrade: websocket", "sec-websocket-key: x", "sec-websocket-protocol: v9.other"],
        ] {
            let got = http.ask("POST", &format!("{POD}/exec?command=ls"), headers, "").await;
            assert_eq!(got.code, 400);
            assert!(got.json()["message"].as_str().unwrap_or_default().contains("v5.channel.k8s.io"), "{}", got.text());
            assert!(matches!(node.next().await, (_, tunnel_frame::Body::Open(_))));
            assert!(matches!(node.next().await, (_, tunnel_frame::Body::Close(_))), "the kubelet is let go");
        }
    });
}

/// Opens ports of a Pod as the Python client does: two channels a port.
#[test]
fn ports_are_forwarded_over_numbered_channels() {
    with_server(|server| async move {
        let mut node = node(&server).await;
        let headers = [
            "connection: Upgrade",
            "upgrade: websocket",
            "sec-websocket-version: 13",
            "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
            "sec-websocket-protocol: v4.channel.k8s.io",
        ];
        let http = server.http();
        let response = http.send("GET", &format!("{POD}/portforward?ports=80&ports=81"), &headers, "").await;
        assert_eq!(response.status(), 101);
        let upgraded = hyper::upgrade::on(response).await.expect("upgraded");
        let mut socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Client, None).await;
        let mut greetings = vec![];
        for _ in 0..4 {
            greetings.push(socket.next().await.expect("a greeting").expect("no error").into_data().to_vec());
        }
        assert_eq!(greetings, [[0, 80, 0], [1, 80, 0], [2, 81, 0], [3, 81, 0]]);
        // Both are opened at once: either may come first.
        let mut ids = std::collections::BTreeMap::new();
        for _ in 0..2 {
            let (id, body) = node.next().await;
            let tunnel_frame::Body::Open(open) = body else { panic!("{body:?}") };
            let Some(stream_open::Request::PortForward(request)) = open.request else { panic!("{open:?}") };
            ids.insert(request.port, id);
        }
        let ids = [ids[&80], ids[&81]];
        socket.send(Said::Binary(b"\x02ask".to_vec().into())).await.expect("sent");
        let (id, body) = node.next().await;
        assert!(id == ids[1] && matches!(body, tunnel_frame::Body::Data(d) if d.data == b"ask"[..]));
        node.send(ids[1], tunnel_frame::Body::Data(data(b"answer"))).await;
        assert_eq!(socket.next().await.expect("data").expect("no error").into_data()[..], *b"\x02answer");
        node.send(ids[0], closed(None, Some(("InternalError", "refused")))).await;
        let words = socket.next().await.expect("words").expect("no error").into_data();
        assert!(words[0] == 1 && words.ends_with(b"refused"), "{words:?}");
        // With the last connection the WebSocket ends: a client that reads to the end comes to it.
        node.send(ids[1], closed(None, None)).await;
        assert!(matches!(socket.next().await, None | Some(Ok(Said::Close(_)))), "it is over");
        for (path, code) in [("portforward?ports=none", 400), ("portforward", 400)] {
            let got = http.ask("GET", &format!("{POD}/{path}"), &headers, "").await;
            assert_eq!(got.code, code, "{path}");
        }
        let other = http.ask("GET", "/api/v1/namespaces/default/pods/none/portforward?ports=80", &headers, "").await;
        assert_eq!(other.code, 404);
    });
}

/// Headers as an old kubectl sends them, in a stored block: `streamtype` and others.
fn syn(stream: u32, first: bool, headers: &[(&str, &str)]) -> Vec<u8> {
    let mut block = u32::try_from(headers.len()).expect("few").to_be_bytes().to_vec();
    for text in headers.iter().flat_map(|(name, value)| [name, value]) {
        block.extend_from_slice(&u32::try_from(text.len()).expect("short").to_be_bytes());
        block.extend_from_slice(text.as_bytes());
    }
    let length = u16::try_from(block.len()).expect("short");
    let mut body = [&stream.to_be_bytes()[..], &[0; 6], if first { &[0x78, 0x01] } else { &[] }, &[0]].concat();
    body.extend_from_slice(&length.to_le_bytes());
    body.extend_from_slice(&(!length).to_le_bytes());
    body.extend_from_slice(&block);
    [&[0x80, 3, 0, 1][..], &u32::try_from(body.len()).expect("short").to_be_bytes(), &body].concat()
}

/// The next frame: its stream if it carries data, its flags, and the data.
async fn spdy_frame(connection: &mut (impl tokio::io::AsyncRead + Unpin)) -> (Option<u32>, u8, Vec<u8>) {
    use tokio::io::AsyncReadExt;
    let mut head = [0; 8];
    connection.read_exact(&mut head).await.expect("a frame");
    let length = u32::from_be_bytes([0, head[5], head[6], head[7]]) as usize;
    let mut body = vec![0; length];
    connection.read_exact(&mut body).await.expect("its body");
    let word = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
    ((word >> 31 == 0).then_some(word), head[4], body)
}

#[test]
fn an_older_client_has_a_stream_of_spdy_for_each_channel() {
    use tokio::io::AsyncWriteExt;
    with_server(|server| async move {
        let mut node = node(&server).await;
        let headers = ["connection: Upgrade", "upgrade: SPDY/3.1", "x-stream-protocol-version: v4.channel.k8s.io"];
        let path = format!("{POD}/exec?command=cat&stdin=true&stdout=true");
        let response = server.http().send("POST", &path, &headers, "").await;
        assert_eq!(
            (response.status().as_u16(), &response.headers()["x-stream-protocol-version"]),
            (101, &"v4.channel.k8s.io".parse().expect("a value"))
        );
        let mut connection = TokioIo::new(hyper::upgrade::on(response).await.expect("upgraded"));
        for (i, (stream, kind)) in [(1, "error"), (3, "stdin"), (5, "stdout")].into_iter().enumerate() {
            connection.write_all(&syn(stream, i == 0, &[("streamtype", kind)])).await.expect("sent");
            let (data, _, body) = spdy_frame(&mut connection).await;
            assert!(data.is_none() && body.starts_with(&stream.to_be_bytes()), "a reply to stream {stream}");
        }
        let (id, _) = node.next().await;
        connection.write_all(&[&[0, 0, 0, 3, 1, 0, 0, 2][..], b"in"].concat()).await.expect("sent");
        connection.write_all(&[0, 0, 0, 3, 1, 0, 0, 0]).await.expect("sent");
        assert!(matches!(node.next().await, (_, tunnel_frame::Body::Data(d)) if d.data == b"in"[..]));
        assert!(matches!(node.next().await, (_, tunnel_frame::Body::Data(d)) if d.end));
        node.send(id, tunnel_frame::Body::Data(data(b"out"))).await;
        node.send(id, closed(Some(0), None)).await;
        assert_eq!(spdy_frame(&mut connection).await, (Some(5), 0, b"out".to_vec()));
        let (stream, _, outcome) = spdy_frame(&mut connection).await;
        let status: Value = serde_json::from_slice(&outcome).expect("JSON");
        assert_eq!((stream, &status["status"]), (Some(1), &json!("Success")));
        for stream in [5, 1] {
            assert_eq!(spdy_frame(&mut connection).await, (Some(stream), 1, vec![]), "each stream ends");
        }
    });
}

#[test]
fn ports_are_forwarded_over_spdy_and_an_error_has_a_stream_of_its_own() {
    use tokio::io::AsyncWriteExt;
    with_server(|server| async move {
        let mut node = node(&server).await;
        let headers = ["connection: Upgrade", "upgrade: SPDY/3.1", "x-stream-protocol-version: portforward.k8s.io"];
        let response = server.http().send("POST", &format!("{POD}/portforward"), &headers, "").await;
        assert_eq!(response.status(), 101);
        let mut connection = TokioIo::new(hyper::upgrade::on(response).await.expect("upgraded"));
        for (stream, kind) in [(1, "error"), (3, "data")] {
            let headers = [("streamtype", kind), ("port", "8080"), ("requestid", "0")];
            connection.write_all(&syn(stream, stream == 1, &headers)).await.expect("sent");
            assert!(spdy_frame(&mut connection).await.2.starts_with(&stream.to_be_bytes()));
        }
        let (id, body) = node.next().await;
        let tunnel_frame::Body::Open(open) = body else { panic!("{body:?}") };
        assert!(matches!(open.request, Some(stream_open::Request::PortForward(r)) if r.port == 8080));
        connection.write_all(&[&[0, 0, 0, 3, 0, 0, 0, 3][..], b"ask"].concat()).await.expect("sent");
        assert!(matches!(node.next().await, (_, tunnel_frame::Body::Data(d)) if d.data == b"ask"[..]));
        node.send(id, tunnel_frame::Body::Data(data(b"answer"))).await;
        assert_eq!(spdy_frame(&mut connection).await, (Some(3), 0, b"answer".to_vec()));
        node.send(id, closed(None, Some(("InternalError", "connection refused")))).await;
        let (stream, flags, words) = spdy_frame(&mut connection).await;
        assert_eq!((stream, flags), (Some(1), 1));
        assert!(words.ends_with(b"connection refused"));
        assert_eq!(spdy_frame(&mut connection).await, (Some(3), 1, vec![]));
        // A connection that is over makes room for the next of the same number.
        connection.write_all(&[0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 9]).await.expect("sent");
        assert_eq!(spdy_frame(&mut connection).await, (None, 0, vec![0, 0, 0, 9]));
    });
}
