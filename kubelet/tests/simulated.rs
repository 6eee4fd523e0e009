//! The whole kubelet in a simulated world, against the real API server: its engine and network are fakes that outlive
//! it, and it is killed at any moment.

use std::time::Duration;

use serde_json::{Value, json};
use skiff_apiserver::{EmbeddedOptions, StoreOptions};
use skiff_client::{Api, Client, ClientConfig, DeleteOptions, ListOptions, Patch};
use skiff_kubelet::network::fake::FakeNetwork;
use skiff_kubelet::runtime::Role;
use skiff_kubelet::runtime::fake::{FakeRuntime, Health, Script};
use skiff_proto::corev1::{ConfigMap, Node, Pod, ServiceAccount};
use skiff_world::sim::{Faults, Machine, Sim, Simulation};
use skiff_world::{Address, Identity, World};

const NODE: &str = "node-1";

#[derive(Clone)]
struct Cluster {
    sim: Sim,
    machine: Machine,
    engine: FakeRuntime,
    network: FakeNetwork,
    admin: Client,
}

impl Cluster {
    async fn start(sim: &Sim) -> Cluster {
        let server =
            sim.machine("server").world("apiserver", Some(Identity::new("system:apiserver", &["system:masters"])));
        let service_accounts = skiff_apiserver::ServiceAccounts::generate().expect("a key");
        let options = skiff_apiserver::Options {
            service_accounts: Some(service_accounts),
            ..skiff_apiserver::Options::new(
                vec![Address::Pipe("server".into())],
                StoreOptions::Embedded(EmbeddedOptions::new("/store")),
            )
        };
        let handle = skiff_apiserver::run(server.clone(), options).await.expect("the API server");
        server.spawn("server", async move { handle.stopping().await.expect("the server runs until the test ends") });
        let kernel = sim.machine("kernel").world("kernel", None);
        let admin = sim.machine("admin").world("admin", Some(Identity::new("admin", &["system:masters"])));
        let cluster = Cluster {
            sim: sim.clone(),
            machine: sim.machine(NODE),
            engine: FakeRuntime::new(&kernel),
            network: FakeNetwork::new(&kernel),
            admin: client(&admin),
        };
        cluster.make_what_pods_stand_on().await;
        cluster.start_kubelet();
        let nodes = Api::<Node>::new(&cluster.admin);
        cluster.until("the node registers", async || nodes.get_opt("", NODE).await.ok().flatten().is_some()).await;
        let patch = Patch::Merge(json!({ "spec": { "podCIDR": "10.244.1.0/24" } }));
        nodes.patch("", NODE, patch, None).await.expect("the Pod CIDR");
        cluster.until("the node is ready", async || cluster.node_is("True").await).await;
        cluster
    }

    /// What a controller gives every namespace.
    async fn make_what_pods_stand_on(&self) {
        let account = json!({ "metadata": { "name": "default", "namespace": "default" } });
        let account = serde_json::from_value(account).expect("a service account");
        Api::<ServiceAccount>::new(&self.admin).create(&account).await.expect("created");
        let certificate = json!({
            "metadata": { "name": "kube-root-ca.crt", "namespace": "default" }, "data": { "ca.crt": "a certificate" },
        });
        let certificate = serde_json::from_value(certificate).expect("a ConfigMap");
        Api::<ConfigMap>::new(&self.admin).create(&certificate).await.expect("created");
    }

    /// What a Pod finds in a file of its service account.
    async fn file(&self, pod: &str, name: &str) -> String {
        let pod = self.get(pod).await;
        let volumes = pod.spec.volumes.iter().map(|volume| volume.name.as_str());
        let volume = volumes.into_iter().find(|name| name.starts_with("kube-api-access-")).expect("a volume");
        let path = format!("/var/lib/skiff/node/pods/{}/volumes/{volume}/{name}", pod.metadata.uid);
        String::from_utf8(self.machine.disk().read(path).expect("the file")).expect("text")
    }

    fn start_kubelet(&self) {
        let identity = Identity::new(&format!("system:node:{NODE}"), &["system:nodes"]);
        let world = self.machine.world("kubelet", Some(identity));
        let options = skiff_kubelet::Options::simulated(NODE, [10, 89, 0, 2].into(), &self.engine, &self.network);
        world.spawn("kubelet", skiff_kubelet::run(world.clone(), client(&world), options));
    }

    fn pods(&self) -> Api<Pod> {
        Api::new(&self.admin)
    }

    async fn create(&self, name: &str, image: &str, policy: &str) {
        let object: Value = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name, "namespace": "default" },
            "spec": { "nodeName": NODE, "restartPolicy": policy, "containers": [{ "name": "app", "image": image }] },
        });
        let pod: Pod = serde_json::from_value(object).expect("a Pod");
        self.pods().create(&pod).await.expect("created");
    }

    async fn get(&self, name: &str) -> Pod {
        self.pods().get("default", name).await.expect("the Pod")
    }

    async fn node_is(&self, ready: &str) -> bool {
        let Ok(node) = Api::<Node>::new(&self.admin).get("", NODE).await else {
            return false;
        };
        node.status.conditions.iter().any(|c| c.r#type == "Ready" && c.status == ready)
    }

    async fn is_ready(&self, name: &str) -> bool {
        let Ok(pod) = self.pods().get("default", name).await else {
            return false;
        };
        pod.status.conditions.iter().any(|c| c.r#type == "Ready" && c.status == "True")
    }

    async fn until(&self, what: &str, is: impl AsyncFn() -> bool) {
        for _ in 0..3000 {
            if is().await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let pods = self.pods().list("default", &ListOptions::default()).await.map(|list| list.items);
        panic!("not within 5 minutes: {what}: {:#?} {:#?}", self.engine.all(), pods);
    }
}

fn client(world: &World) -> Client {
    Client::new(world, ClientConfig::pipe("server", "test")).expect("a client")
}

/// Runs a story in a world of this seed; gives the run's fingerprint.
fn simulate<F: Future<Output = ()>>(seed: u64, story: impl FnOnce(Cluster) -> F) -> u64 {
    let calm = Simulation::new(seed).faults(Faults::none());
    let run = calm.run(move |sim| async move {
        let cluster = Cluster::start(&sim).await;
        story(cluster).await;
    });
    run.digest
}

#[test]
fn pods_run_restart_and_go() {
    simulate(1, |cluster| async move {
        cluster.create("web", "demo:1", "Always").await;
        cluster.until("ready", async || cluster.is_ready("web").await).await;
        let pod = cluster.get("web").await;
        assert_eq!(pod.status.pod_ip, "10.244.1.2");
        let app = cluster.engine.all().into_iter().find(|r| r.identity.role == Role::App).expect("the app");
        cluster.engine.end(&app.id, 1);
        cluster
            .until("restarted", async || cluster.get("web").await.status.container_statuses[0].restart_count == 1)
            .await;
        cluster.pods().delete("default", "web", &DeleteOptions::default()).await.expect("deleted");
        cluster
            .until("gone", async || cluster.pods().get_opt("default", "web").await.is_ok_and(|pod| pod.is_none()))
            .await;
        assert!(cluster.engine.all().is_empty());
        assert!(cluster.network.taken().is_empty());
    });
}

#[test]
fn a_token_is_kept_over_a_restart_and_renewed_before_it_ends() {
    simulate(11, |cluster| async move {
        cluster.create("web", "demo:1", "Always").await;
        cluster.until("ready", async || cluster.is_ready("web").await).await;
        assert_eq!(cluster.file("web", "namespace").await, "default");
        assert_eq!(cluster.file("web", "ca.crt").await, "a certificate");
        let first = cluster.file("web", "token").await;
        assert_eq!(first.split('.').count(), 3);

        tokio::time::sleep(Duration::from_secs(1000)).await;
        cluster.machine.kill().await;
        cluster.start_kubelet();
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(cluster.file("web", "token").await, first, "it is good for a while yet");

        // Four fifths of 3,607 seconds.
        tokio::time::sleep(Duration::from_secs(1700)).await;
        assert_eq!(cluster.file("web", "token").await, first);
        tokio::time::sleep(Duration::from_secs(200)).await;
        let second = cluster.file("web", "token").await;
        assert_ne!(second, first);
        assert_eq!(cluster.engine.starts(), 2, "nothing was started again for it");
    });
}

#[test]
fn a_kubelet_killed_at_any_moment_leaves_one_of_each() {
    for seed in 0..30 {
        simulate(seed, move |cluster| async move {
            for name in ["a", "b", "c"] {
                cluster.create(name, "demo:1", "Always").await;
            }
            for _ in 0..4 {
                tokio::time::sleep(Duration::from_millis(cluster.sim.random_below(700))).await;
                cluster.machine.kill().await;
                cluster.start_kubelet();
            }
            for name in ["a", "b", "c"] {
                cluster.until("ready", async || cluster.is_ready(name).await).await;
            }
            let running: Vec<String> = cluster
                .engine
                .all()
                .into_iter()
                .filter(|report| report.is_running())
                .map(|report| format!("{}/{}", report.identity.pod_name, report.identity.container))
                .collect();
            assert_eq!(running.len(), 6, "seed {seed}: {running:?}");
            assert_eq!(cluster.network.taken().len(), 3, "seed {seed}");
            assert_eq!(cluster.engine.starts(), 6, "seed {seed}: nothing was started twice");

            // Killed in the middle of deletions.
            for name in ["a", "b", "c"] {
                cluster.pods().delete("default", name, &DeleteOptions::default()).await.expect("deleted");
            }
            for _ in 0..3 {
                tokio::time::sleep(Duration::from_millis(cluster.sim.random_below(300))).await;
                cluster.machine.kill().await;
                cluster.start_kubelet();
            }
            cluster
                .until("all gone", async || {
                    let pods = cluster.pods().list("default", &ListOptions::default()).await;
                    pods.is_ok_and(|pods| pods.items.is_empty())
                        && cluster.engine.all().is_empty()
                        && cluster.network.taken().is_empty()
                })
                .await;
        });
    }
}

#[test]
fn a_hung_engine_makes_the_node_not_ready_and_nothing_worse() {
    simulate(7, |cluster| async move {
        cluster.create("web", "demo:1", "Always").await;
        cluster.until("ready", async || cluster.is_ready("web").await).await;
        let world = cluster.sim.machine("onlooker").world("onlooker", None);
        for health in [Health::Hung, Health::Down] {
            cluster.engine.set_health(health);
            cluster.until("not ready", async || cluster.node_is("False").await).await;
            cluster.engine.set_health(Health::Well);
            let well = world.now();
            cluster.until("ready again", async || cluster.node_is("True").await).await;
            let took = world.now() - well;
            assert!(took < Duration::from_secs(4), "Pods wait for it: {took:?}");
            assert_eq!(cluster.engine.starts(), 2, "nothing was touched");
        }
        // What ended while nobody could look is seen.
        cluster.engine.set_health(Health::Down);
        let app = cluster.engine.all().into_iter().find(|r| r.identity.role == Role::App).expect("the app");
        cluster.engine.end(&app.id, 1);
        tokio::time::sleep(Duration::from_secs(30)).await;
        cluster.engine.set_health(Health::Well);
        cluster
            .until("restarted", async || cluster.get("web").await.status.container_statuses[0].restart_count == 1)
            .await;
    });
}

#[test]
fn jobs_end_and_crash_loops_slow_down() {
    simulate(3, |cluster| async move {
        let exits = |after: u64, code| Script { exits: Some((Duration::from_secs(after), code)), ..Script::default() };
        cluster.engine.script("job:1", exits(5, 0));
        cluster.engine.script("crash:1", exits(1, 1));
        cluster.create("job", "job:1", "Never").await;
        cluster.create("crash", "crash:1", "Always").await;
        cluster.until("done", async || cluster.get("job").await.status.phase == "Succeeded").await;
        tokio::time::sleep(Duration::from_secs(300)).await;
        let crash = cluster.get("crash").await;
        let restarts = crash.status.container_statuses[0].restart_count;
        // 0, 10, 30, 70, 150 and 310 seconds: five restarts in about five minutes.
        assert!((4..=6).contains(&restarts), "{restarts}");
        let kept =
            cluster.engine.all().into_iter().filter(|r| r.identity.pod_name == "crash" && r.identity.role == Role::App);
        assert!(kept.count() <= 2, "the present and the last one");
    });
}

#[test]
fn one_seed_is_one_run() {
    let story = |cluster: Cluster| async move {
        cluster.create("web", "demo:1", "Always").await;
        cluster.until("ready", async || cluster.is_ready("web").await).await;
        cluster.machine.kill().await;
        cluster.start_kubelet();
        tokio::time::sleep(Duration::from_secs(100)).await;
    };
    assert_eq!(simulate(42, story), simulate(42, story));
}

#[test]
fn what_is_left_of_pods_that_went_meanwhile_is_cleared_away() {
    // With its containers; and with nothing but its address and files, as a crash leaves a Pod that is being made.
    for with_containers in [true, false] {
        simulate(5, move |cluster| async move {
            cluster.create("web", "demo:1", "Always").await;
            cluster.until("ready", async || cluster.is_ready("web").await).await;
            cluster.machine.kill().await;
            let now = DeleteOptions { grace_period_seconds: Some(0), ..DeleteOptions::default() };
            cluster.pods().delete("default", "web", &now).await.expect("deleted");
            if !with_containers {
                cluster.engine.remove_all();
            }
            cluster.start_kubelet();
            let nothing = async || cluster.engine.all().is_empty() && cluster.network.taken().is_empty();
            cluster.until("nothing is left", nothing).await;
        });
    }
}
