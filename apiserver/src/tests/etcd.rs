//! The whole server on a real etcd: from empty, beside another cluster, and again after a restart.

use super::*;
use std::collections::BTreeSet;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// An etcd of the test's own; it ends with the value, also when the test fails.
struct TestEtcd {
    process: Child,
    endpoint: String,
    _dir: tempfile::TempDir,
}

impl TestEtcd {
    fn start() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let listeners = [(); 2].map(|()| std::net::TcpListener::bind("127.0.0.1:0").expect("a free port"));
        let [client, peer] = listeners.each_ref().map(|l| {
            let port = l.local_addr().expect("a bound address").port();
            format!("http://127.0.0.1:{port}")
        });
        drop(listeners);
        let process = Command::new("etcd")
            .args(["--name", "test", "--log-level", "error", "--data-dir"])
            .arg(dir.path())
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("test={peer}")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("this test needs a real etcd: install it (Debian and Ubuntu: apt-get install etcd-server)");
        Self { process, endpoint: client, _dir: dir }
    }

    /// Starts a server of a cluster on it, and a client of its administrator.
    async fn server(&self, world: &World, cluster: &str) -> (Handle, Client) {
        let pipe = Address::Pipe(format!("apiserver-of-{cluster}"));
        let store = StoreOptions::Etcd { endpoints: vec![self.endpoint.clone()], tls: None };
        let options = Options { cluster_name: cluster.into(), ..Options::new(vec![pipe.clone()], store) };
        let handle = run(world.child("apiserver", None), options).await.expect("the server starts");
        let inside = world.child("client", Some(Identity::new("admin", &["system:masters"])));
        let executor = inside.executor();
        let connector = tower::service_fn(move |_: ::http::Uri| {
            let (inside, pipe) = (inside.clone(), pipe.clone());
            async move { inside.connect(&pipe).await.map(TokioIo::new) }
        });
        let channel = Endpoint::from_static("http://skiff").executor(executor).connect_with_connector_lazy(connector);
        (handle, Client { grpc: ResourcesClient::new(channel), metadata: Vec::new() })
    }
}

impl Drop for TestEtcd {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to kill.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_lives_on_an_etcd_that_it_shares() {
    let case = async {
        let (world, etcd) = (World::real("test"), TestEtcd::start());
        let (one, admin) = etcd.server(&world, "one").await;
        let creates = (0..10).map(|i| {
            let (client, name) = (admin.clone(), format!("s{i}"));
            let service = json!({"metadata": {"name": name}, "spec": {"type": "NodePort", "ports": [{"port": 80}]}});
            async move { client.create("v1:services:default", service).await.expect("made") }
        });
        let made = futures::future::join_all(creates).await;
        let given =
            |path: &str| made.iter().map(|s| s.pointer(path).map(Value::to_string)).collect::<BTreeSet<_>>().len();
        assert_eq!((given("/spec/clusterIP"), given("/spec/ports/0/nodePort")), (10, 10));

        let first = admin.create("v1:pods:default", pod("a")).await.expect("made");
        admin.create("v1:pods:default/a/binding", json!({"target": {"name": "n"}})).await.expect("bound");
        for i in 0..5 {
            let labels = json!({"metadata": {"labels": {"i": i.to_string()}}});
            admin.merge("v1:pods:default/a", labels).await.expect("patched");
        }
        let from = revision(&first).to_string();
        let watch =
            pb::WatchRequest { r#ref: Some(at("v1:pods:default")), resource_version: from, ..Default::default() };
        let mut events = admin.watch(watch).await.expect("a watch");
        for _ in 0..6 {
            let event = events.message().await.expect("no error").expect("an event");
            assert_eq!(event.r#type(), pb::watch_event::Type::Modified);
        }

        let (two, stranger) = etcd.server(&world, "two").await;
        assert!(stranger.names("v1:pods:", "", "").await.expect("listed").is_empty(), "clusters see each other's Pods");
        stranger.create("v1:pods:default", pod("a")).await.expect("the name is free there");
        two.stop().await;
        one.stop().await;
        let (one, admin) = etcd.server(&world, "one").await;
        assert_eq!(admin.names("v1:pods:", "", "").await.expect("listed"), ["a"]);
        let now = pb::DeleteRequest {
            r#ref: Some(at("v1:pods:default/a")),
            grace_period_seconds: Some(0),
            ..Default::default()
        };
        assert_eq!(admin.delete_with(now).await.expect("deleted")["_deleted"], true);
        admin.create("v1:pods:default", pod("a")).await.expect("free at once");
        one.stop().await;
        world.stop().await;
    };
    tokio::time::timeout(Duration::from_secs(60), case).await.expect("the test hangs");
}
