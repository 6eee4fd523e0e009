//! Health and measurements over plain HTTP: the server's own, and those of components behind their tunnels.

use super::http::get;
use super::tunnel::{Component, data, kubelet};
use super::*;
use pb::{stream_open, tunnel_frame};
use std::time::Duration;

const KUBELET: &str = "/api/v1/nodes/n1/proxy/metrics";
const PROXY: &str = "/api/v1/nodes/n1:10249/proxy/metrics";

fn monitor() -> Option<Identity> {
    Some(Identity::new("skiff-monitoring", &["system:monitoring"]))
}

/// A component that answers every page with its name and the path.
fn answering(server: &Server, mut component: Component, text: &'static str) {
    let world = server.machine.world("component", None);
    world.clone().spawn("component", async move {
        let _alive = world;
        loop {
            let (id, body) = component.next().await;
            let tunnel_frame::Body::Open(open) = body else { continue };
            let Some(stream_open::Request::HttpGet(get)) = open.request else { panic!("{open:?}") };
            if get.path == "/nothing" {
                let message = "there is nothing at /nothing".into();
                let close = pb::StreamClose { failed: true, reason: "NotFound".into(), message, ..Default::default() };
                component.send(id, tunnel_frame::Body::Close(close)).await;
                continue;
            }
            component.send(id, tunnel_frame::Body::Data(data(text.as_bytes()))).await;
            component.send(id, tunnel_frame::Body::Data(data(get.path.as_bytes()))).await;
            component.send(id, tunnel_frame::Body::Close(pb::StreamClose::default())).await;
        }
    });
}

async fn node(server: &Server, name: &str) {
    server.admin().create("v1:nodes:", json!({"metadata": {"name": name}})).await.expect("made");
}

#[test]
fn the_server_counts_its_requests_under_kubernetes_names() {
    with_server(|server| async move {
        let admin = server.admin();
        admin.create("v1:configmaps:default", json!({"metadata": {"name": "m"}})).await.expect("made");
        admin.get("v1:pods:default/x").await.expect_err("not there");
        admin.get("v1:pods:default/x/made-up").await.expect_err("no such subresource");
        let watch = pb::WatchRequest { r#ref: Some(at("v1:configmaps:default")), ..Default::default() };
        let _open = admin.watch(watch).await.expect("a watch");
        let (code, body) = get(&server, monitor(), "/metrics").await;
        assert_eq!(code, 200);
        let labels = |verb: &str, resource: &str, scope: &str| {
            format!(
                "{{verb=\"{verb}\",dry_run=\"\",group=\"\",version=\"v1\",resource=\"{resource}\",subresource=\"\",\
                 scope=\"{scope}\",component=\"apiserver\""
            )
        };
        for line in [
            format!("apiserver_request_total{},code=\"201\"}} 1", labels("POST", "configmaps", "resource")),
            format!("apiserver_request_total{},code=\"404\"}} 2", labels("GET", "pods", "resource")),
            format!("apiserver_request_duration_seconds_count{}}} 2", labels("GET", "pods", "resource")),
            format!("apiserver_longrunning_requests{}}} 1", labels("WATCH", "configmaps", "namespace")),
            "apiserver_current_inflight_requests{request_kind=\"mutating\"} 0".to_owned(),
            "apiserver_resource_objects{group=\"\",resource=\"configmaps\"} 1".to_owned(),
        ] {
            assert!(body.lines().any(|found| found == line), "no {line} in\n{body}");
        }
        assert!(!body.contains("made-up"), "no client can make series");
        let value = |name: &str| -> f64 {
            let line = body.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.unwrap_or_else(|| panic!("no {name} in\n{body}")).parse().expect("a number")
        };
        assert_eq!(value("skiff_store_revision"), value("skiff_apiserver_cache_revision"));
        assert!(value("skiff_store_commit_duration_seconds_count{result=\"committed\"}") >= 1.0);
        assert!(value("skiff_apiserver_cache_lag_seconds") < 1.0);
    });
}

#[test]
fn components_are_read_through_their_tunnels() {
    with_server(|server| async move {
        node(&server, "n1").await;
        node(&server, "n2").await;
        let attach = async |user: &str, group: &str, component: &str, node: &str| {
            Component::attach(&server, Identity::new(user, &[group]), component, node).await.expect("attached")
        };
        answering(&server, attach("system:node:n1", "system:nodes", "kubelet", "n1").await, "k ");
        answering(&server, attach("system:kube-proxy:n1", "system:node-proxier", "proxy", "n1").await, "p ");
        assert_eq!(get(&server, monitor(), KUBELET).await, (200, "k /metrics".into()));
        assert_eq!(get(&server, monitor(), PROXY).await, (200, "p /metrics".into()));
        let admin = || Some(Identity::new("admin", &["system:masters"]));
        assert_eq!(get(&server, admin(), "/api/v1/nodes/n1/proxy/healthz").await, (200, "k /healthz".into()));

        let stranger = || Some(Identity::new("someone", &[]));
        let debug = "/api/v1/nodes/n1/proxy/debug/queues";
        for (who, path, code, words) in [
            (None, KUBELET, 401, "Unauthorized"),
            (stranger(), KUBELET, 403, "nodes/metrics"),
            (stranger(), "/metrics/scheduler", 403, "cannot get path"),
            (Some(kubelet("n1")), PROXY, 403, "nodes/metrics"),
            (monitor(), debug, 403, "nodes/proxy"),
            (monitor(), "/api/v1/nodes/n2/proxy/metrics", 503, "the kubelet of node \\\"n2\\\" has no tunnel open"),
            (monitor(), "/api/v1/nodes/n9/proxy/metrics", 404, "nodes \\\"n9\\\" not found"),
            (monitor(), "/api/v1/nodes/n1:80/proxy/metrics", 400, "its proxy at port 10249"),
            (monitor(), "/metrics/controllers", 503, "no process of the controllers has a tunnel open"),
            (monitor(), "/metrics/other", 404, "/metrics/targets"),
            (admin(), "/api/v1/nodes/n1/proxy/nothing", 404, "there is nothing at /nothing"),
        ] {
            let (found, body) = get(&server, who, path).await;
            assert!(found == code && body.contains(words), "{path}: {found}: {body}");
        }
    });
}

#[test]
fn of_several_schedulers_the_one_that_leads_is_shown() {
    with_server(|server| async move {
        let attach = async || {
            let identity = Identity::new("system:kube-scheduler", &[]);
            Component::attach(&server, identity, "scheduler", "").await.expect("attached")
        };
        answering(&server, attach().await, "leader_election_master_status{name=\"kube-scheduler\"} 1\n");
        answering(&server, attach().await, "leader_election_master_status{name=\"kube-scheduler\"} 0\n");
        let (code, body) = get(&server, monitor(), "/metrics/scheduler").await;
        assert!(code == 200 && body.contains("} 1\n"), "{body}");
    });
}

#[test]
fn a_component_that_does_not_answer_is_not_waited_for_for_ever() {
    with_server(|server| async move {
        node(&server, "n1").await;
        let mut silent = Component::attach(&server, kubelet("n1"), "kubelet", "n1").await.expect("attached");
        let (code, body) = get(&server, monitor(), KUBELET).await;
        assert!(code == 503 && body.contains("has not answered /metrics within 8 s"), "{body}");
        let (id, _) = silent.next().await;
        let (closed, body) = silent.next().await;
        assert!(closed == id && matches!(body, tunnel_frame::Body::Close(c) if c.failed), "it need not go on");
    });
}

#[test]
fn a_large_page_comes_whole() {
    with_server(|server| async move {
        node(&server, "n1").await;
        let mut component = Component::attach(&server, kubelet("n1"), "kubelet", "n1").await.expect("attached");
        let world = server.machine.world("component", None);
        world.clone().spawn("component", async move {
            let (id, _) = component.next().await;
            // More than the credit that a stream begins with.
            for n in 0..16 {
                component.send(id, tunnel_frame::Body::Data(data(&[b'x'; 32 * 1024]))).await;
                if (7..14).contains(&n) && n % 2 == 1 {
                    assert!(matches!(component.next().await, (_, tunnel_frame::Body::Window(_))));
                }
            }
            component.send(id, tunnel_frame::Body::Close(pb::StreamClose::default())).await;
            // What has not left it when it goes is lost.
            world.sleep(Duration::from_secs(60)).await;
        });
        let (code, body) = get(&server, monitor(), KUBELET).await;
        assert_eq!((code, body.len()), (200, 16 * 32 * 1024));
    });
}

#[test]
fn targets_name_every_node_at_the_address_that_was_asked() {
    with_server(|server| async move {
        node(&server, "n1").await;
        let (code, body) = get(&server, monitor(), "/metrics/targets").await;
        let targets: Value = serde_json::from_str(&body).expect("JSON");
        let all = targets.as_array().expect("a list");
        assert_eq!((code, all.len()), (200, 5), "{body}");
        assert!(all.iter().all(|target| target["targets"] == json!(["skiff"])), "{body}");
        let paths: Vec<_> = all.iter().filter_map(|target| target["labels"]["__metrics_path__"].as_str()).collect();
        assert_eq!(paths, ["/metrics", "/metrics/controllers", "/metrics/scheduler", KUBELET, PROXY]);
    });
}

#[test]
fn health_is_told_check_by_check() {
    with_server(|server| async move {
        let all = "[+]ping ok\n[+]cache ok\n[+]store ok\n[+]shutdown ok\nreadyz check passed\n";
        assert_eq!(get(&server, None, "/readyz?verbose").await, (200, all.into()));
        assert_eq!(get(&server, None, "/livez?verbose=true").await.1, "[+]ping ok\n[+]cache ok\nlivez check passed\n");
        assert_eq!(get(&server, None, "/healthz/store").await, (200, "ok".into()));
        let (code, body) = get(&server, None, "/healthz/other").await;
        assert!(code == 404 && body.contains("ping, cache, store"), "{body}");
        let excluded = get(&server, None, "/readyz?verbose&exclude=store").await.1;
        assert!(excluded.contains("[+]store excluded: ok"), "{excluded}");

        server.handle.registry().close();
        let (code, body) = get(&server, None, "/readyz").await;
        assert!(code == 500 && body.contains("[-]shutdown failed: reason withheld"), "{body}");
        let (_, body) = get(&server, monitor(), "/readyz").await;
        assert!(body.contains("[-]shutdown failed: the server is about to stop\n"), "{body}");
        assert_eq!(get(&server, None, "/livez").await.0, 200, "that is no reason to start it again");
    });
}

#[test]
fn events_are_kept_as_long_as_the_server_is_told() {
    let kept = |options: Options, life: u64| {
        Simulation::new(3).run(move |sim: Sim| async move {
            let server = Server::start(&sim, options).await;
            let admin = server.admin();
            let event = json!({
                "metadata": {"name": "e"}, "reason": "Started", "count": 1,
                "involvedObject": {"kind": "Pod", "namespace": "default", "name": "p"},
            });
            admin.create("v1:events:default", event).await.expect("made");
            server.world.sleep(Duration::from_secs(life - 5)).await;
            admin.merge("v1:events:default/e", json!({"count": 2})).await.expect("still there");
            server.world.sleep(Duration::from_secs(life - 5)).await;
            admin.get("v1:events:default/e").await.expect("each write begins its time anew");
            server.world.sleep(Duration::from_secs(20)).await;
            assert_eq!(admin.get("v1:events:default/e").await.expect_err("its time is over").reason(), "NotFound");
        });
    };
    kept(options(), 3600);
    kept(Options { event_ttl: Duration::from_secs(60), ..options() }, 60);
}
