//! The whole kubelet on the real engine and the real kernel, with the real API server beside it in one process.

use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use skiff_apiserver::{EmbeddedOptions, StoreOptions};
use skiff_client::{Api, Client, ClientConfig, DeleteOptions, ListOptions, Patch};
use skiff_kubelet::images::pause;
use skiff_kubelet::network::Network;
use skiff_kubelet::runtime::{ContainerReport, ContainerRuntime, Role, RunState};
use skiff_kubelet::volumes::files::DnsSettings;
use skiff_proto::Kind;
use skiff_proto::corev1::{ConfigMap, Event, Node as NodeObject, Pod, Secret, Service};
use skiff_world::{Address, Identity, World};

use crate::engine::{Node, POD_CIDR, app_image, run};

const NODE: &str = "node-1";

struct Cluster {
    node: Arc<Node>,
    admin: Client,
    kubelet: tokio::sync::Mutex<Option<World>>,
}

/// Runs a test on a node with a kubelet and an API server.
fn with_kubelet<F: Future<Output = ()>>(name: &str, test: impl FnOnce(Arc<Cluster>) -> F) {
    run(name, |node| async move {
        let server = node.world.child("apiserver", Some(Identity::new("system:apiserver", &["system:masters"])));
        let store = StoreOptions::Embedded(EmbeddedOptions::new(node.directory().join("store")));
        let options = skiff_apiserver::Options::new(vec![Address::Pipe("api".into())], store);
        let handle = skiff_apiserver::run(server, options).await.expect("the API server");
        let admin = client(&node.world.child("admin", Some(Identity::new("admin", &["system:masters"]))));
        let cluster = Arc::new(Cluster { node, admin, kubelet: tokio::sync::Mutex::default() });
        cluster.start_kubelet().await;
        cluster.give_network().await;
        test(cluster.clone()).await;
        cluster.leave_nothing().await;
        cluster.kill_kubelet().await;
        handle.stop().await;
    });
}

fn client(world: &World) -> Client {
    let config = ClientConfig::pipe("api", "test");
    Client::new(world, config).expect("a client")
}

impl Cluster {
    async fn start_kubelet(&self) {
        let identity = Identity::new(&format!("system:node:{NODE}"), &["system:nodes"]);
        let world = self.node.world.child("kubelet", Some(identity));
        let directory = self.node.directory();
        let (runtime, network) = (self.node.runtime.clone(), self.node.network.clone());
        let options = skiff_kubelet::Options {
            address: Some(IpAddr::from([127, 0, 0, 1])),
            dns: DnsSettings {
                cluster_dns: vec!["10.96.0.10".into()],
                cluster_domain: "cluster.local".into(),
                ..DnsSettings::default()
            },
            ..skiff_kubelet::Options::new(&self.node.name, NODE, &directory, runtime, network)
        };
        world.spawn("kubelet", skiff_kubelet::run(world.clone(), client(&world), options));
        *self.kubelet.lock().await = Some(world);
    }

    async fn kill_kubelet(&self) {
        if let Some(world) = self.kubelet.lock().await.take() {
            world.stop().await;
        }
    }

    /// As the node controller does.
    async fn give_network(&self) {
        let api = self.api::<NodeObject>();
        eventually("the node registers", || async { api.get_opt("", NODE).await.ok().flatten() }).await;
        let patch = Patch::Merge(json!({ "spec": { "podCIDR": POD_CIDR, "podCIDRs": [POD_CIDR] } }));
        api.patch("", NODE, patch, None).await.expect("the Pod CIDR");
        eventually("the node is ready", || async {
            let node = api.get("", NODE).await.ok()?;
            node.status.conditions.iter().any(|c| c.r#type == "Ready" && c.status == "True").then_some(())
        })
        .await;
    }

    fn api<K: Kind>(&self) -> Api<K> {
        Api::new(&self.admin)
    }

    async fn create<K: Kind>(&self, object: Value) -> K {
        let object: K = serde_json::from_value(object).expect("a well-formed object");
        self.api::<K>().create(&object).await.expect("created")
    }

    async fn pod(&self, name: &str) -> Pod {
        self.api::<Pod>().get("default", name).await.expect("the Pod")
    }

    /// Waits until the Pod is as described.
    async fn until(&self, name: &str, what: &str, is: impl Fn(&Pod) -> bool) -> Pod {
        for _ in 0..300 {
            if let Ok(pod) = self.api::<Pod>().get("default", name).await
                && is(&pod)
            {
                return pod;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("{name} is not {what}: {:#?}\n{:#?}", self.pod(name).await.status, self.events().await);
    }

    async fn events(&self) -> Vec<String> {
        let events = self.api::<Event>().list("default", &ListOptions::default()).await.expect("events").items;
        events
            .into_iter()
            .map(|e| format!("{} {} {}: {}", e.involved_object.name, e.r#type, e.reason, e.message))
            .collect()
    }

    async fn containers(&self, pod: &Pod) -> Vec<ContainerReport> {
        self.node.runtime.containers(Some(&pod.metadata.uid)).await.expect("list")
    }

    async fn running(&self, pod: &Pod, name: &str) -> ContainerReport {
        let all = self.containers(pod).await;
        all.into_iter().find(|r| r.identity.container == name && r.is_running()).expect("it runs")
    }

    async fn delete(&self, name: &str) {
        self.api::<Pod>().delete("default", name, &DeleteOptions::default()).await.expect("deleted");
        eventually("the Pod goes", || async {
            self.api::<Pod>().get_opt("default", name).await.ok()?.is_none().then_some(())
        })
        .await;
    }

    /// With all Pods deleted, nothing of them is on the node.
    async fn leave_nothing(&self) {
        for pod in self.api::<Pod>().list("default", &ListOptions::default()).await.expect("pods").items {
            let now = DeleteOptions { grace_period_seconds: Some(1), ..DeleteOptions::default() };
            self.api::<Pod>().delete("default", &pod.metadata.name, &now).await.expect("deleted");
        }
        eventually("nothing is left", || async {
            let pods = self.api::<Pod>().list("default", &ListOptions::default()).await.ok()?.items;
            let containers = self.node.runtime.containers(None).await.ok()?;
            let networks = self.node.network.pods().await.ok()?;
            let files = std::fs::read_dir(self.node.directory().join("pods")).map_or(0, |d| d.count());
            (pods.is_empty() && containers.is_empty() && networks.is_empty() && files == 0).then_some(())
        })
        .await;
    }
}

async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, ask: impl Fn() -> F) -> T {
    for _ in 0..300 {
        if let Some(answer) = ask().await {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("not within 30 s: {what}");
}

fn is_ready(pod: &Pod) -> bool {
    pod.status.conditions.iter().any(|c| c.r#type == "Ready" && c.status == "True")
}

fn started_at(report: &ContainerReport) -> jiff::Timestamp {
    match report.state {
        RunState::Running { started_at, .. } => started_at,
        _ => panic!("{} does not run", report.identity.container),
    }
}

fn simple(name: &str, container: Value) -> Value {
    let mut container = container;
    container["name"] = json!("app");
    container["image"] = json!(app_image().reference);
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name, "namespace": "default" },
        "spec": { "nodeName": NODE, "containers": [container], "terminationGracePeriodSeconds": 2 },
    })
}

#[test]
fn a_pod_lives() {
    with_kubelet("lives", |cluster| async move {
        let probe = json!({ "httpGet": { "path": "/", "port": 8080 }, "periodSeconds": 1 });
        let web = json!({ "args": ["http", "8080"], "readinessProbe": probe, "livenessProbe": probe });
        let clock = cluster.node.world.now();
        cluster.create::<Pod>(simple("web", web)).await;
        let pod = cluster.until("web", "ready", is_ready).await;
        eprintln!("created to ready: {:?}", cluster.node.world.now() - clock);
        assert_eq!(pod.status.phase, "Running");
        assert_eq!(pod.status.host_ip, "127.0.0.1");
        let address = format!("{}:8080", pod.status.pod_ip);
        assert_eq!(cluster.node.get(&address).await, "web", "the Pod's name is its hostname");

        // The app is killed: it is started again in the same sandbox.
        let app = cluster.running(&pod, "app").await;
        let sandbox = cluster.running(&pod, "POD").await;
        cluster.node.runtime.signal(&app.id, "KILL").await.expect("kill");
        let restarted = |pod: &Pod| pod.status.container_statuses[0].restart_count == 1 && is_ready(pod);
        let pod = cluster.until("web", "restarted", restarted).await;
        let last = pod.status.container_statuses[0].last_state.terminated.clone().expect("the last state");
        assert_eq!(last.exit_code, 137);
        assert_eq!(cluster.running(&pod, "POD").await.id, sandbox.id);

        // The sandbox is removed: the Pod is rebuilt, at the same address.
        cluster.node.runtime.remove(&sandbox.id).await.expect("remove");
        let rebuilt = |pod: &Pod| pod.status.container_statuses[0].restart_count == 2 && is_ready(pod);
        let again = cluster.until("web", "rebuilt", rebuilt).await;
        assert_eq!(again.status.pod_ip, pod.status.pod_ip);
        assert_ne!(cluster.running(&pod, "POD").await.id, sandbox.id);
        assert_eq!(cluster.node.get(&address).await, "web");

        // The app is removed by hand: the count goes on.
        let app = cluster.running(&pod, "app").await;
        cluster.node.runtime.remove(&app.id).await.expect("remove");
        cluster
            .until("web", "started again", |pod| pod.status.container_statuses[0].restart_count >= 3 && is_ready(pod))
            .await;
        cluster.delete("web").await;
        assert!(cluster.containers(&pod).await.is_empty());
    });
}

#[test]
fn a_kubelet_that_is_killed_disturbs_nobody() {
    with_kubelet("killed", |cluster| async move {
        for name in ["stays", "goes"] {
            cluster.create::<Pod>(simple(name, json!({ "args": ["http", "80"] }))).await;
        }
        let stays = cluster.until("stays", "ready", is_ready).await;
        let goes = cluster.until("goes", "ready", is_ready).await;
        let before: Vec<_> = cluster.containers(&stays).await.iter().map(|r| (r.id.clone(), started_at(r))).collect();
        cluster.kill_kubelet().await;
        // Deleted for good while nobody looks, and one that ended meanwhile.
        let now = DeleteOptions { grace_period_seconds: Some(0), ..DeleteOptions::default() };
        cluster.api::<Pod>().delete("default", "goes", &now).await.expect("deleted");
        cluster.start_kubelet().await;
        eventually("the orphan is removed", || async { cluster.containers(&goes).await.is_empty().then_some(()) })
            .await;
        let after: Vec<_> = cluster.containers(&stays).await.iter().map(|r| (r.id.clone(), started_at(r))).collect();
        assert_eq!(before, after, "nothing that ran was touched");
        let pod = cluster.pod("stays").await;
        assert!(is_ready(&pod));
        assert_eq!(pod.status.container_statuses[0].restart_count, 0);
    });
}

#[test]
fn a_pod_is_given_what_its_spec_says() {
    with_kubelet("given", |cluster| async move {
        cluster
            .create::<Service>(json!({
                "apiVersion": "v1", "kind": "Service", "metadata": { "name": "back-end", "namespace": "default" },
                "spec": { "ports": [{ "port": 6379 }], "selector": { "a": "b" } },
            }))
            .await;
        cluster
            .create::<ConfigMap>(json!({
                "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "settings", "namespace": "default" },
                "data": { "colour": "blue", "file.txt": "from the map" },
            }))
            .await;
        cluster
            .create::<Secret>(json!({
                "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "key", "namespace": "default" },
                "data": { "token": "czNjcmV0" },
            }))
            .await;
        // The kubelet's view of Services is behind by as much as a message takes.
        tokio::time::sleep(Duration::from_millis(300)).await;
        let print = "$(COLOUR) $(NAME) $(BACK_END_SERVICE_PORT) $(IP)";
        cluster.create::<Pod>(json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "given", "namespace": "default" },
            "spec": {
                "nodeName": NODE, "restartPolicy": "Never",
                "initContainers": [
                    { "name": "first", "image": app_image().reference, "args": ["print", "init"] },
                ],
                "containers": [
                    { "name": "env", "image": app_image().reference, "args": ["print", print], "env": [
                        { "name": "COLOUR", "valueFrom": { "configMapKeyRef": { "name": "settings", "key": "colour" } } },
                        { "name": "NAME", "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } } },
                        { "name": "IP", "valueFrom": { "fieldRef": { "fieldPath": "status.podIP" } } },
                    ] },
                    { "name": "files", "image": app_image().reference,
                      "args": ["cat", "/m/file.txt", "/s/token", "/etc/resolv.conf", "/etc/hostname"],
                      "resources": { "limits": { "memory": "32Mi", "cpu": "500m" } },
                      "volumeMounts": [
                        { "name": "m", "mountPath": "/m" }, { "name": "s", "mountPath": "/s" }, { "name": "e", "mountPath": "/e" },
                    ] },
                ],
                "volumes": [
                    { "name": "m", "configMap": { "name": "settings" } },
                    { "name": "s", "secret": { "secretName": "key" } },
                    { "name": "e", "emptyDir": {} },
                ],
            },
        })).await;
        let pod = cluster.until("given", "done", |pod| pod.status.phase == "Succeeded").await;
        let log = async |name: &str| {
            let all = cluster.containers(&pod).await;
            let report =
                all.into_iter().find(|r| r.identity.container == name).expect("its container stays for its log");
            cluster.node.log(&report.id).await
        };
        let printed = format!("blue given 6379 {}", pod.status.pod_ip);
        assert!(log("env").await.contains(&printed), "{}", log("env").await);
        let files = log("files").await;
        for part in ["from the map", "s3cret", "nameserver 10.96.0.10", "search default.svc.cluster.local", "given"] {
            assert!(files.contains(part), "{part} in {files}");
        }
        // Done: the sandbox and the address are given up.
        eventually("the sandbox goes", || async {
            cluster.containers(&pod).await.iter().all(|r| r.identity.role != Role::Sandbox).then_some(())
        })
        .await;
        assert_eq!(pod.status.init_container_statuses[0].state.terminated.as_ref().expect("done").exit_code, 0);
    });
}

#[test]
fn what_cannot_run_says_why() {
    with_kubelet("why", |cluster| async move {
        let waiting = |pod: &Pod| {
            let state = pod.status.container_statuses.first().and_then(|c| c.state.waiting.as_ref());
            state.map(|waiting| (waiting.reason.clone(), waiting.message.clone())).unwrap_or_default()
        };
        cluster.create::<Pod>(simple("crashes", json!({ "args": ["exit", "3"] }))).await;
        let from = json!([{ "configMapRef": { "name": "later" } }]);
        cluster.create::<Pod>(simple("needs", json!({ "args": ["sleep"], "envFrom": from }))).await;
        cluster.create::<Pod>(simple("never", json!({ "args": ["sleep"], "imagePullPolicy": "Never" }))).await;
        let patch = json!({ "spec": { "containers": [{ "name": "app", "image": "127.0.0.1:1/absent:1" }] } });
        cluster.api::<Pod>().patch("default", "never", Patch::Strategic(patch), None).await.expect("another image");
        let mut pulls = simple("pulls", json!({ "args": ["sleep"] }));
        pulls["spec"]["containers"][0]["image"] = json!("127.0.0.1:1/absent:1");
        cluster.create::<Pod>(pulls).await;
        let broken = json!({ "command": ["/no/such/program"] });
        cluster.create::<Pod>(simple("broken", broken)).await;

        let pod = cluster.until("crashes", "in a crash loop", |pod| waiting(pod).0 == "CrashLoopBackOff").await;
        assert_eq!(pod.status.container_statuses[0].last_state.terminated.as_ref().expect("ended").exit_code, 3);
        assert_eq!(pod.status.phase, "Running");
        let pod = cluster.until("needs", "waiting", |pod| waiting(pod).0 == "CreateContainerConfigError").await;
        assert_eq!(waiting(&pod).1, "configmap \"later\" not found");
        let pod = cluster.until("pulls", "waiting", |pod| waiting(pod).0.contains("Image")).await;
        assert!(waiting(&pod).1.contains("127.0.0.1:1"), "{}", waiting(&pod).1);
        cluster.until("pulls", "backing off", |pod| waiting(pod).0 == "ImagePullBackOff").await;
        let pod = cluster.until("broken", "failing", |pod| waiting(pod).0 == "CrashLoopBackOff").await;
        let last = pod.status.container_statuses[0].last_state.terminated.clone().expect("the last state");
        assert_eq!((last.reason.as_str(), last.exit_code), ("ContainerCannotRun", 127));
        assert!(last.message.contains("/no/such/program"), "{}", last.message);

        // What was missing comes: the Pod runs.
        cluster.create::<ConfigMap>(json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "later", "namespace": "default" }, "data": { "a": "b" },
        })).await;
        cluster.until("needs", "running", is_ready).await;
        let events = cluster.events().await;
        for part in ["Back-off restarting failed container", "Failed to pull image", "Started container app"] {
            assert!(events.iter().any(|event| event.contains(part)), "{part} in {events:#?}");
        }
    });
}

#[test]
fn liveness_restarts_and_stopping_is_graceful() {
    with_kubelet("probes", |cluster| async move {
        let probe = json!({ "httpGet": { "path": "/fail", "port": 80 }, "periodSeconds": 1, "failureThreshold": 2 });
        cluster.create::<Pod>(simple("sick", json!({ "args": ["http", "80"], "livenessProbe": probe }))).await;
        cluster
            .until("sick", "restarted", |pod| {
                pod.status.container_statuses.first().is_some_and(|c| c.restart_count > 0)
            })
            .await;
        assert!(
            cluster
                .events()
                .await
                .iter()
                .any(|e| e.contains("Liveness probe failed: HTTP probe failed with statuscode: 500"))
        );

        // Ready only once the command succeeds; the hook runs before TERM.
        let mut pod = simple(
            "exec",
            json!({
                "args": ["sleep"],
                "readinessProbe": { "exec": { "command": ["/app", "exit", "1"] }, "periodSeconds": 1 },
            }),
        );
        pod["spec"]["hostNetwork"] = json!(true);
        cluster.create::<Pod>(pod).await;
        let pod = cluster.until("exec", "running", |pod| pod.status.phase == "Running").await;
        assert_eq!(pod.status.pod_ip, "127.0.0.1", "the node's");
        tokio::time::sleep(Duration::from_millis(1500)).await;
        assert!(!is_ready(&cluster.pod("exec").await));
        // It ignores TERM, and is killed after two seconds.
        let clock = cluster.node.world.now();
        cluster.delete("exec").await;
        let took = cluster.node.world.now() - clock;
        assert!(took >= Duration::from_secs(2), "{took:?}");
    });
}

#[test]
fn the_pause_image_is_the_kubelets_own() {
    with_kubelet("pause", |cluster| async move {
        cluster.create::<Pod>(simple("web", json!({ "args": ["sleep"] }))).await;
        let pod = cluster.until("web", "ready", is_ready).await;
        let sandbox = cluster.running(&pod, "POD").await;
        assert_eq!(sandbox.image, pause::reference());
    });
}
