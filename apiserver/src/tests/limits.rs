//! What a client may not do to the others: send too much, too slowly, too often, or something that meets a defect.

use super::rest::Http;
use super::*;
use bytes::Bytes;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_stream::StreamExt;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

impl Server {
    async fn raw(&self) -> skiff_world::Connection {
        let identity = Identity::new("kubernetes-admin", &["system:masters"]);
        self.machine.world("browser", Some(identity)).connect(&address()).await.expect("connected")
    }
}

/// Reads to the end; how many seconds that took, and what came.
async fn to_the_end(server: &Server, connection: &mut skiff_world::Connection) -> (u64, String) {
    let began = server.world.now();
    let mut all = Vec::new();
    let patience = Duration::from_secs(600);
    let ended = tokio::time::timeout(patience, connection.read_to_end(&mut all)).await;
    assert!(ended.is_ok(), "the connection stays open: {}", String::from_utf8_lossy(&all));
    ((server.world.now() - began).as_secs(), String::from_utf8_lossy(&all).into_owned())
}

#[test]
fn who_connects_and_asks_nothing_is_let_go() {
    with_server(|server| async move {
        // Nothing at all; half of HTTP/2's greeting; half of a head; a head in drops.
        for said in
            [&b""[..], b"PRI * HTTP/2.0\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0", b"GET / HT"]
        {
            let mut connection = server.raw().await;
            connection.write_all(said).await.expect("sent");
            let (seconds, _) = to_the_end(&server, &mut connection).await;
            assert!((5..=40).contains(&seconds), "{said:?}: {seconds} s");
        }
        let (mut reader, mut writer) = tokio::io::split(server.raw().await);
        let drops = async {
            for _ in 0..1000 {
                if writer.write_all(b"x").await.is_err() {
                    return;
                }
                server.world.sleep(Duration::from_secs(1)).await;
            }
        };
        let began = server.world.now();
        let mut all = Vec::new();
        tokio::select! {
            biased;
            _ = reader.read_to_end(&mut all) => {}
            () = drops => {}
        }
        assert!((server.world.now() - began).as_secs() <= 40, "a head in drops is not waited for");
    });
}

#[test]
fn a_body_that_does_not_come_is_not_waited_for() {
    with_server(|server| async move {
        let mut connection = server.raw().await;
        let head = format!("POST {MAPS} HTTP/1.1\r\nHost: skiff\r\nContent-Length: 100\r\nConnection: close\r\n\r\n{{");
        connection.write_all(head.as_bytes()).await.expect("sent");
        let (seconds, answer) = to_the_end(&server, &mut connection).await;
        assert!((30..=70).contains(&seconds) && answer.contains("504"), "{seconds} s: {answer}");

        // Over gRPC a message that never comes, and one that comes by halves.
        let never = futures::stream::pending::<Result<Bytes, std::io::Error>>();
        let half = futures::stream::iter([Ok(Bytes::from_static(&[0, 0, 0, 0, 9, 1]))]).chain(never);
        let channel = server.channel(Some(Identity::new("kubernetes-admin", &["system:masters"])));
        let body = tonic::body::Body::new(http_body_util::StreamBody::new(half.map(|b| b.map(http_body::Frame::data))));
        let request = ::http::Request::post("http://skiff/skiff.v1.Resources/Get")
            .header("content-type", "application/grpc")
            .body(body)
            .expect("a request");
        let began = server.world.now();
        let answer = tower::ServiceExt::oneshot(channel, request).await.expect("an answer");
        assert_eq!(answer.headers()["grpc-status"], "4", "{answer:?}");
        assert!((server.world.now() - began).as_secs() <= 70);
    });
}

#[test]
fn heads_bodies_and_depths_are_bounded() {
    with_server(|server| async move {
        let http = server.http();
        let long = format!("x-long: {}", "x".repeat(100_000));
        assert_eq!(http.ask("GET", MAPS, &[&long], "").await.code, 431);
        let many: Vec<String> = (0..200).map(|i| format!("x-{i}: x")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(http.ask("GET", MAPS, &many, "").await.code, 431);
        let size = server.handle.registry().limits().body_bytes;
        let got = http.post(MAPS, &json!({"metadata": {"name": "a"}, "data": {"a": "x".repeat(size)}})).await;
        assert_eq!((got.code, &got.json()["reason"]), (413, &json!("RequestEntityTooLarge")));
        // Without a length the body is cut off where it becomes too long.
        let mut connection = server.raw().await;
        let head =
            format!("POST {MAPS} HTTP/1.1\r\nHost: skiff\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n");
        connection.write_all(head.as_bytes()).await.expect("sent");
        let (mut reader, mut writer) = tokio::io::split(connection);
        let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
        let mut sent = 0;
        let mut answer = Vec::new();
        let write = async {
            while writer.write_all(chunk.as_bytes()).await.is_ok() && sent < 10 * size {
                sent += chunk.len();
            }
            std::future::pending::<()>().await
        };
        tokio::select! {
            biased;
            _ = reader.read_to_end(&mut answer) => {}
            () = write => {}
        }
        assert!(String::from_utf8_lossy(&answer).contains("413"), "{}", String::from_utf8_lossy(&answer));

        let deep = format!(r#"{{"metadata":{{"name":"a"}},"data":{}{}}}"#, "[".repeat(50_000), "]".repeat(50_000));
        let yaml = format!("metadata: {{name: a}}\ndata: {}{}\n", "[".repeat(50_000), "]".repeat(50_000));
        let mut bomb = "a0: &a0 [lol,lol,lol,lol,lol,lol,lol,lol,lol]\n".to_string();
        for i in 1..10 {
            bomb.push_str(&format!("a{i}: &a{i} [{}]\n", vec![format!("*a{}", i - 1); 9].join(",")));
        }
        for (method, path, kind, body) in [
            ("POST", MAPS, "application/json", &deep),
            ("POST", MAPS, "application/yaml", &yaml),
            ("POST", MAPS, "application/yaml", &bomb),
            ("PATCH", "/api/v1/namespaces/default/configmaps/a", "application/apply-patch+yaml", &bomb),
            ("PATCH", "/api/v1/namespaces/default/configmaps/kube-root-ca.crt", "application/merge-patch+json", &deep),
            ("DELETE", "/api/v1/namespaces/default/configmaps/a", "application/json", &deep),
        ] {
            let path = if method == "PATCH" { format!("{path}?fieldManager=x") } else { path.to_string() };
            let got = http.ask(method, &path, &[&format!("content-type: {kind}")], body.clone()).await;
            assert_eq!(got.code, 400, "{method} {kind}: {}", got.text());
        }
    });
}

/// A frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

const GREETING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// A request without a body: GET of a path.
fn get(stream: u32, path: &str) -> Vec<u8> {
    let length = u8::try_from(path.len()).expect("short");
    let block = [&[0x82, 0x86, 0x04, length], path.as_bytes(), &[0x01, 5], b"skiff"].concat();
    frame(1, 5, stream, &block)
}

/// Reads frames until one is what is looked for.
async fn find(
    connection: &mut (impl AsyncReadExt + Unpin),
    wanted: impl Fn(u8, u32, &[u8]) -> bool,
) -> Option<Vec<u8>> {
    loop {
        let mut head = [0; 9];
        connection.read_exact(&mut head).await.ok()?;
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        connection.read_exact(&mut payload).await.ok()?;
        if wanted(head[3], u32::from_be_bytes([head[5], head[6], head[7], head[8]]), &payload) {
            return Some(payload);
        }
    }
}

#[test]
fn one_connection_has_so_many_streams_and_may_not_reset_without_end() {
    with_server(|server| async move {
        let (mut reader, mut writer) = tokio::io::split(server.raw().await);
        writer.write_all(GREETING).await.expect("sent");
        let settings = find(&mut reader, |kind, _, payload| kind == 4 && !payload.is_empty()).await.expect("settings");
        let limit = settings.chunks(6).find(|s| s[..2] == [0, 3]).map(|s| u32::from_be_bytes([s[2], s[3], s[4], s[5]]));
        let limit = limit.expect("a limit of streams");
        let last = 2 * limit + 1;
        for i in 0..=limit {
            writer.write_all(&get(2 * i + 1, &format!("{MAPS}?watch=1"))).await.expect("sent");
        }
        let refused = find(&mut reader, |kind, stream, _| kind == 3 && stream == last).await.expect("a refusal");
        assert_eq!(refused, [0, 0, 0, 7], "the stream beyond the limit is refused");
        drop((reader, writer));

        let (mut reader, mut writer) = tokio::io::split(server.raw().await);
        let mut burst = GREETING.to_vec();
        for i in 0..20_000 {
            burst.extend(get(2 * i + 1, MAPS));
            burst.extend(frame(3, 0, 2 * i + 1, &[0, 0, 0, 8]));
        }
        let write = async {
            let _ = writer.write_all(&burst).await;
            std::future::pending::<()>().await
        };
        let goodbye = tokio::select! {
            biased;
            goodbye = find(&mut reader, |kind, _, _| kind == 7) => goodbye,
            () = write => None,
        };
        let goodbye = goodbye.expect("the connection is ended");
        assert_eq!(goodbye[4..8], [0, 0, 0, 11], "for making trouble");
        // Others are served meanwhile and afterwards.
        assert_eq!(server.http().get(MAPS).await.code, 200);
    });
}

#[test]
fn so_many_requests_are_served_at_once_and_the_next_is_told_to_wait() {
    let limits = Limits { in_flight: 1, ..Limits::default() };
    with_limits(limits, |server| async move {
        let (first, second) = (server.http(), server.http());
        // It waits for a revision that does not come.
        let ahead = format!("{MAPS}?resourceVersion=100000");
        let later = async {
            server.world.sleep(Duration::from_millis(500)).await;
            second.get(MAPS).await
        };
        let (waiting, got) = tokio::join!(first.get(&ahead), later);
        assert_eq!(waiting.code, 504, "{}", waiting.text());
        assert_eq!((got.code, &got.json()["reason"]), (429, &json!("TooManyRequests")));
        assert_eq!(got.headers["retry-after"], "1");
        assert_eq!(server.http().get("/healthz").await.code, 200, "whoever looks after the server is answered");
    });
}

#[test]
fn a_defect_is_an_answer_with_a_number_and_the_server_goes_on() {
    with_server(|server| async move {
        let http: Http = server.http();
        let got = http.ask("GET", MAPS, &["x-meet-a-defect: yes"], "").await;
        let status = got.json();
        assert_eq!((got.code, &status["kind"], &status["reason"]), (500, &json!("Status"), &json!("InternalError")));
        let words = status["message"].as_str().unwrap_or_default();
        assert!(words.contains("about request ") && !words.contains("deliberate"), "{words}");
        let mut admin = server.admin();
        let mut request =
            tonic::Request::new(pb::GetRequest { r#ref: Some(at("v1:namespaces:/default")), ..Default::default() });
        request.metadata_mut().insert("x-meet-a-defect", "yes".parse().expect("a value"));
        let refused = admin.grpc.get(request).await.expect_err("a defect");
        assert_eq!(refused.code(), tonic::Code::Internal);
        assert!(refused.message().contains("about request "), "{refused:?}");
        assert_eq!(http.get(MAPS).await.code, 200);
    });
}
