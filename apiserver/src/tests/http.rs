//! The plain HTTP beside gRPC: health and version for all, everything else refused in words.

use super::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

pub(super) async fn get(server: &Server, identity: Option<Identity>, path: &str) -> (u16, String) {
    let world = server.machine.world("browser", identity.or(Some(Identity::new("", &[]))));
    let mut connection = world.connect(&address()).await.expect("connected");
    let request = format!("GET {path} HTTP/1.1\r\nHost: skiff\r\nConnection: close\r\n\r\n");
    connection.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.expect("answered");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let code = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a code");
    (code, body.to_string())
}

#[test]
fn health_and_version_are_open_and_nothing_else_is() {
    with_server(|server| async move {
        for path in ["/healthz", "/livez", "/readyz"] {
            assert_eq!(get(&server, None, path).await, (200, "ok".into()), "{path}");
        }
        let (code, body) = get(&server, None, "/version").await;
        let version: Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!((code, &version["major"]), (200, &json!("1")));
        for path in ["/", "/api/v1/pods", "/metrics", "/skiff.v1.Resources/Get"] {
            let (code, body) = get(&server, None, path).await;
            let status: Value = serde_json::from_str(&body).expect("JSON");
            assert_eq!(
                (code, &status["kind"], &status["reason"]),
                (401, &json!("Status"), &json!("Unauthorized")),
                "{path}"
            );
        }
        let (code, _) = get(&server, Some(Identity::new("someone", &[])), "/metrics").await;
        assert_eq!(code, 403, "metrics are for administrators and monitors");
        let (code, body) = get(&server, Some(Identity::new("someone", &[])), "/api/v1/pods").await;
        assert_eq!(code, 403);
        assert!(body.contains("cannot list resource"), "{body}");
    });
}

#[test]
fn a_stopped_server_lets_go_of_its_address_and_its_store() {
    Simulation::new(5).run(|sim: Sim| async move {
        let server = Server::start(&sim, options()).await;
        let admin = server.admin();
        let made = admin.create("v1:configmaps:default", json!({"metadata": {"name": "m"}})).await.expect("made");
        let watch = pb::WatchRequest { r#ref: Some(at("v1:configmaps:default")), ..Default::default() };
        let mut open = admin.watch(watch).await.expect("a watch");
        let before = server.world.now();
        server.handle.stop().await;
        assert!((server.world.now() - before).as_secs() < 3, "open watches hold the server up");
        // A stream that was open ends in order.
        while open.message().await.expect("no error").is_some() {}
        let again = Server::start(&sim, options()).await;
        assert_eq!(again.admin().get("v1:configmaps:default/m").await.expect("there"), made);
    });
}

#[test]
fn one_seed_is_one_run() {
    let run = |seed| {
        Simulation::new(seed).run(|sim: Sim| async move {
            let server = Server::start(&sim, options()).await;
            let admin = server.admin();
            let work = (0..10).map(|i| {
                let client = admin.clone();
                async move {
                    client.create("v1:pods:default", pod(&format!("p{i}"))).await.expect("made");
                    client
                        .merge(&format!("v1:pods:default/p{i}"), json!({"metadata": {"labels": {"a": "b"}}}))
                        .await
                        .expect("patched");
                }
            });
            futures::future::join_all(work).await;
            admin.names("v1:pods:", "", "").await.expect("listed");
            sim.digest()
        })
    };
    assert_eq!(run(11).value, run(11).value);
    assert_ne!(run(11).value, run(12).value);
}
