//! Causes across a whole cluster: five actors write, one after the other, and the last write says how it came about.

use std::pin::Pin;
use std::time::Duration;

use serde_json::{Value, json};
use skiff_client::chain::{self, Chain};
use skiff_client::streams::{self, Channel, StreamEvent};
use skiff_client::{Api, Client, ClientConfig, DeleteOptions, Patch, cause};
use skiff_proto::Kind;
use skiff_proto::appsv1::Deployment;
use skiff_proto::corev1::{ConfigMap, Node, NodeCondition, Pod, Service};
use skiff_proto::discoveryv1::EndpointSlice;
use skiff_proto::skiffv1::{Cause, ChangesRequest, HttpGet, Recorded, ResourceRef, StreamOpen, stream_open};
use skiff_tests::simulation::cluster::{Cluster, SERVER};
use skiff_world::sim::{Faults, Sim, Simulation};
use skiff_world::{Identity, World};

const NAMESPACE: &str = "default";

/// A cluster of one node, and two users: one with skiffctl, one with a client that knows nothing of causes.
struct Scene {
    world: World,
    admin: Client,
    alice: Client,
}

impl Scene {
    async fn new(sim: &Sim) -> Scene {
        let cluster = Cluster::new(sim, 1);
        cluster.parts().into_iter().for_each(|part| cluster.start(part));
        let (world, admin) = cluster.client("admin", Identity::new("kubernetes-admin", &["system:masters"]));
        let (other, _) = cluster.client("alice", Identity::new("alice", &["system:masters"]));
        let alice = Client::new(&other, ClientConfig::pipe(SERVER, "kubectl/v1.33")).expect("a good configuration");
        let scene = Scene { world, admin, alice };
        while !scene.is_ready().await {
            scene.pause().await;
        }
        scene
    }

    async fn pause(&self) {
        self.world.sleep(Duration::from_millis(500)).await;
    }

    async fn is_ready(&self) -> bool {
        let ready = |c: &NodeCondition| c.r#type == "Ready" && c.status == "True";
        match Api::<Node>::new(&self.admin).list("", &Default::default()).await {
            Ok(nodes) => nodes.items.iter().any(|node| node.status.conditions.iter().any(ready)),
            Err(_) => false,
        }
    }

    /// As skiffctl does it.
    async fn apply<F: Future>(&self, verb: &str, act: F) -> F::Output {
        cause::with(Cause { reason: format!("skiffctl {verb}"), ..Cause::default() }, act).await
    }

    /// All Pods, once there are so many and all are ready.
    async fn running(&self, count: usize) -> Vec<Pod> {
        let ready = |pod: &Pod| pod.status.conditions.iter().any(|c| c.r#type == "Ready" && c.status == "True");
        loop {
            let pods = Api::<Pod>::new(&self.admin).list(NAMESPACE, &Default::default()).await.expect("a list").items;
            if pods.len() == count && pods.iter().all(ready) {
                return pods;
            }
            self.pause().await;
        }
    }

    async fn history<K: Kind>(&self, name: &str) -> Vec<Recorded> {
        let reference = ResourceRef {
            group: K::GROUP.into(),
            version: K::VERSION.into(),
            resource: K::RESOURCE.into(),
            namespace: NAMESPACE.into(),
            name: name.into(),
            subresource: String::new(),
        };
        let request = ChangesRequest { r#ref: Some(reference), ..ChangesRequest::default() };
        self.admin.changes(request).await.expect("a history").changes
    }

    async fn why<K: Kind>(&self, name: &str) -> Chain {
        let last = self.history::<K>(name).await.pop().expect("a last write");
        chain::trace(&self.admin, last).await.expect("a chain")
    }

    async fn effects(&self, component: &str) -> Vec<Value> {
        let request = stream_open::Request::HttpGet(HttpGet { path: "/debug/effects".into() });
        let open = StreamOpen { component: component.into(), node: "node-1".into(), request: Some(request) };
        let mut stream = streams::open(&self.admin, open).await.expect("a stream");
        let mut text = Vec::new();
        while let Some(event) = stream.recv().await {
            match event {
                StreamEvent::Data { channel: Channel::Stdout, bytes } => text.extend_from_slice(&bytes),
                StreamEvent::Closed(_) => break,
                _ => {}
            }
        }
        let lines = String::from_utf8(text).expect("text");
        lines.lines().map(|line| serde_json::from_str(line).expect("a JSON document")).collect()
    }
}

fn deployment() -> Deployment {
    let object = json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": { "name": "web", "namespace": NAMESPACE },
        "spec": {
            "replicas": 1,
            "selector": { "matchLabels": { "app": "web" } },
            "template": {
                "metadata": { "labels": { "app": "web" } },
                "spec": { "containers": [{ "name": "app", "image": "registry.test/app:1" }] }
            }
        }
    });
    serde_json::from_value(object).expect("a valid Deployment")
}

fn service() -> Service {
    let object = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": "web", "namespace": NAMESPACE },
        "spec": { "selector": { "app": "web" }, "ports": [{ "port": 80, "targetPort": 8080 }] }
    });
    serde_json::from_value(object).expect("a valid Service")
}

fn revision(write: &Recorded) -> u64 {
    write.object.as_ref().map_or(0, |object| object.revision)
}

/// A line for each link: how it follows from the one before, who, what, why.
fn told(chain: &Chain) -> Vec<String> {
    assert!(chain.notices.is_empty(), "{:?}", chain.notices);
    let line = |link: &chain::Link| {
        let cause = link.write.cause.clone().unwrap_or_default();
        let actor = cause.actor.unwrap_or_default();
        let edge = link.edge.map_or("".into(), |edge| format!("[{}] ", edge.word()));
        let who = match cause.controller.as_str() {
            "" => format!("{} ({})", actor.user, actor.component),
            controller => format!("{} ({controller})", actor.user),
        };
        let resource = link.write.object.as_ref().map_or("", |object| object.resource.as_str());
        let reason = if cause.reason.is_empty() { String::new() } else { format!(": {}", cause.reason) };
        format!("{edge}{who} {} {resource}{reason}", cause.verb)
    };
    chain.links.iter().map(line).collect()
}

/// The kubelet tells in one write or in several how a container comes up: the last of them stands for all.
fn shortened(mut told: Vec<String>) -> Vec<String> {
    let tells = |line: &str| line.ends_with("patch status pods: what runs differs from what is published");
    told.dedup_by(|later, earlier| tells(later) && tells(earlier));
    told.iter_mut().filter(|line| tells(line)).for_each(|line| *line = "the kubelet tells".into());
    told
}

/// On the heap: what a whole cluster needs is much for a test's stack.
fn scene<F: Future<Output = ()> + Send + 'static>(test: impl FnOnce(Scene) -> F + Send + 'static) {
    let limited = Simulation::new(11).faults(Faults::none()).time_limit(Duration::from_secs(3600));
    limited.run(|sim| -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move {
            let scene = Box::pin(Scene::new(&sim)).await;
            Box::pin(test(scene)).await;
        })
    });
}

#[test]
fn a_pods_last_write_leads_back_to_the_act_through_every_actor() {
    scene(|scene| async move {
        let made = deployment();
        scene.apply("apply", Api::new(&scene.admin).create(&made)).await.expect("it is made");
        let first = scene.running(1).await.remove(0);
        let chain = scene.why::<Pod>(&first.metadata.name).await;
        let expected = [
            "kubernetes-admin (skiff-admin/simulated) create deployments: skiffctl apply",
            "[woke] system:kube-controller-manager (deployment) create replicasets: \
             no replica set has the template of revision 1",
            "[woke] system:kube-controller-manager (replicaset) create pods: 0 of 1 replicas exist",
            "[woke] system:kube-scheduler (scheduler) create binding pods: \
             best of 1 feasible nodes out of 1, score 496",
            "the kubelet tells",
        ];
        assert_eq!(shortened(told(&chain)), expected);

        // A client without causes: its write has a user and an agent, and everything after it has causes again.
        let scale = Patch::Merge(json!({ "spec": { "replicas": 2 } }));
        Api::<Deployment>::new(&scene.alice).patch(NAMESPACE, "web", scale, None).await.expect("it is scaled");
        let pods = scene.running(2).await;
        let second = pods.iter().find(|pod| pod.metadata.uid != first.metadata.uid).expect("another one");
        let chain = scene.why::<Pod>(&second.metadata.name).await;
        let expected = [
            "alice (kubectl/v1.33) patch deployments",
            "[woke] system:kube-controller-manager (deployment) patch replicasets: the deployment was resized",
            "[woke] system:kube-controller-manager (replicaset) create pods: 1 of 2 replicas exist",
            "[woke] system:kube-scheduler (scheduler) create binding pods: \
             best of 1 feasible nodes out of 1, score 494",
            "the kubelet tells",
        ];
        assert_eq!(shortened(told(&chain)), expected);
        let scaled = chain.links[0].before.as_ref().expect("what it replaced is held");
        assert!(scaled.object.as_ref().map(|o| o.revision) < chain.links[0].write.object.as_ref().map(|o| o.revision));

        // What the node did is no write; the write that tells of it names it.
        let effects = scene.effects("kubelet").await;
        let own = |effect: &&Value| effect["object"]["uid"] == *second.metadata.uid;
        let what: Vec<&str> = effects.iter().filter(own).filter_map(|effect| effect["what"].as_str()).collect();
        assert!(
            what[0].starts_with("network set up: 10.244.0.") && what[1] == "sandbox started, attempt 0",
            "{what:?}"
        );
        let started =
            |effect: &&Value| effect["what"].as_str().is_some_and(|t| t.starts_with("container app started: "));
        let started = effects.iter().filter(own).find(started).expect("it was started");
        assert_eq!(started["cause"]["reason"], "it is not there");
        let history = scene.history::<Pod>(&second.metadata.name).await;
        let names =
            |write: &Recorded| write.cause.as_ref().is_some_and(|c| c.effects.iter().any(|id| started["id"] == **id));
        assert_eq!(history.iter().filter(|write| names(write)).count(), 1, "exactly one write tells of it");
        let processes = history.iter().filter_map(|write| write.cause.as_ref()?.actor.as_ref());
        assert!(processes.clone().count() > 2 && processes.clone().all(|actor| !actor.process_start.is_empty()));
        let input = started["cause"]["inputs"][0]["revision"].as_u64().expect("a revision");
        assert!(history.iter().any(|write| revision(write) == input), "what it was done for is a write of the Pod");
    });
}

#[test]
fn chains_of_objects_that_are_gone_are_held() {
    scene(|scene| async move {
        let (deployments, made) = (Api::<Deployment>::new(&scene.admin), deployment());
        scene.apply("apply", deployments.create(&made)).await.expect("it is made");
        let pod = scene.running(1).await.remove(0);
        let options = DeleteOptions::default();
        scene.apply("delete", deployments.delete(NAMESPACE, "web", &options)).await.expect("it is deleted");
        scene.running(0).await;
        let chain = scene.why::<Pod>(&pod.metadata.name).await;
        let lines = shortened(told(&chain));
        let collected = "system:kube-controller-manager (garbage-collector) delete";
        assert_eq!(lines[0], "kubernetes-admin (skiff-admin/simulated) delete deployments: skiffctl delete");
        assert_eq!(lines[1], format!("[woke] {collected} replicasets: all its owners are gone"));
        assert_eq!(lines[2], format!("[woke] {collected} pods: all its owners are gone"));
        let end = "system:node:node-1 (pods) delete pods: nothing is left of the Pod on this node";
        assert!(lines.last().is_some_and(|line| line.ends_with(end)), "{lines:?}");
        assert!(chain.links.last().is_some_and(|link| link.write.deleted));
    });
}

#[test]
fn a_proxys_chain_has_its_grounds_and_an_owner_is_only_inferred() {
    scene(|scene| async move {
        let made = deployment();
        scene.apply("apply", Api::new(&scene.admin).create(&made)).await.expect("it is made");
        scene.running(1).await;
        let service = service();
        scene.apply("expose", Api::new(&scene.admin).create(&service)).await.expect("it is made");
        let effect = loop {
            let web = |effect: &Value| effect["object"]["name"] == "web";
            let replaced = |effect: &Value| effect["what"].as_str().is_some_and(|t| t.starts_with("chains replaced: "));
            if let Some(effect) = scene.effects("proxy").await.into_iter().find(|e| web(e) && replaced(e)) {
                break effect;
            }
            scene.pause().await;
        };
        let slice = &effect["cause"]["triggers"][0]["object"];
        assert_eq!(slice["resource"], "endpointslices");
        let chain = scene.why::<EndpointSlice>(slice["name"].as_str().expect("a name")).await;
        assert_eq!(chain.links.last().map(|link| revision(&link.write)), slice["revision"].as_u64());
        let expected = [
            "kubernetes-admin (skiff-admin/simulated) create services: skiffctl expose",
            "[woke] system:kube-controller-manager (endpointslice) create endpointslices: \
             the pods behind the service have changed",
        ];
        assert_eq!(told(&chain), expected);

        // A foreign controller says whose its objects are, and not why it made them.
        let owner = Api::<Deployment>::new(&scene.admin).get(NAMESPACE, "web").await.expect("it is there");
        let child = json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": { "name": "child", "namespace": NAMESPACE, "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": owner.metadata.uid, "controller": true
            }] }
        });
        let child: ConfigMap = serde_json::from_value(child).expect("a valid ConfigMap");
        Api::new(&scene.alice).create(&child).await.expect("it is made");
        let chain = scene.why::<ConfigMap>("child").await;
        let edges: Vec<bool> = chain.links.iter().filter_map(|link| link.edge).map(|edge| edge.is_recorded()).collect();
        assert!(edges.len() > 1 && edges[..edges.len() - 1].iter().all(|recorded| *recorded), "{edges:?}");
        assert_eq!(edges.last(), Some(&false), "only the last is a guess");
        assert_eq!(
            told(&chain).last().map(String::as_str),
            Some("[inferred: owner] alice (kubectl/v1.33) create configmaps")
        );
    });
}
