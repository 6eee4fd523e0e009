//! A cluster without faults to try one thing on, and somebody who waits for it.

use std::time::Duration;

use serde_json::{Value, json};
use skiff_client::{Client, DeleteOptions, DynamicApi, Error, ListOptions, Resource};
use skiff_tests::simulation::cluster::Cluster;
use skiff_world::sim::{Faults, Sim, Simulation};
use skiff_world::{Identity, World};

/// How long anything may take, in simulated time.
const PATIENCE: Duration = Duration::from_secs(600);

/// A user of a cluster that works.
pub struct User {
    /// The simulation.
    pub sim: Sim,
    /// The user's clock.
    pub world: World,
    /// How the user speaks to the API server.
    pub client: Client,
}

/// Runs a test with a cluster of so many nodes, under a few seeds: other delays, other orders.
pub fn with_cluster<F>(nodes: usize, test: impl Fn(User) -> F + Clone + Send + 'static)
where
    F: Future<Output = ()> + Send + 'static,
{
    for seed in 1..=3 {
        let test = test.clone();
        Simulation::new(seed).faults(Faults::none()).time_limit(Duration::from_secs(4 * 3600)).run(
            move |sim| async move {
                let cluster = Cluster::new(&sim, nodes);
                for part in cluster.parts() {
                    cluster.start(part);
                }
                let (world, client) = cluster.client("user", Identity::new("kubernetes-admin", &["system:masters"]));
                let user = User { sim, world, client };
                until!(user, "all nodes are ready", (user.ready_nodes().await == nodes));
                test(user).await;
            },
        );
    }
}

impl User {
    /// The objects of a kind.
    pub fn api(&self, resource: Resource) -> DynamicApi {
        DynamicApi::of(&self.client, resource)
    }

    /// One object, if it is there.
    pub async fn get(&self, resource: Resource, namespace: &str, name: &str) -> Option<Value> {
        self.api(resource).get_opt(namespace, name).await.expect("the API server answers")
    }

    /// All objects of a namespace.
    pub async fn list(&self, resource: Resource, namespace: &str) -> Vec<Value> {
        self.api(resource).list(namespace, &ListOptions::default()).await.expect("the API server answers").items
    }

    /// Makes an object, and returns it.
    pub async fn create(&self, resource: Resource, namespace: &str, object: Value) -> Value {
        let made = self.api(resource).create(namespace, &object).await;
        made.unwrap_or_else(|error| panic!("cannot create {object}: {error}"))
    }

    /// Deletes an object by a propagation policy.
    pub async fn delete(&self, resource: Resource, namespace: &str, name: &str, policy: &str) {
        let options = DeleteOptions { propagation_policy: policy.into(), ..DeleteOptions::default() };
        let deleted: Result<_, Error> = self.api(resource).delete(namespace, name, &options).await;
        deleted.unwrap_or_else(|error| panic!("cannot delete {name}: {error}"));
    }

    /// Begins to wait for something.
    pub fn wait(&self, what: &'static str) -> Wait<'_> {
        Wait { user: self, what, began: self.world.now() }
    }

    async fn ready_nodes(&self) -> usize {
        // The API server may not listen yet.
        let nodes = self.api(Resource::of::<skiff_proto::corev1::Node>());
        let Ok(nodes) = nodes.list("", &ListOptions::default()).await else { return 0 };
        nodes.items.iter().filter(|node| condition(node, "Ready").is_some_and(|(status, _)| status == "True")).count()
    }
}

/// Somebody waits.
pub struct Wait<'a> {
    user: &'a User,
    what: &'static str,
    began: tokio::time::Instant,
}

impl Wait<'_> {
    /// It is not so yet.
    pub async fn a_moment(&self) {
        let world = &self.user.world;
        assert!(world.now() - self.began < PATIENCE, "it never came about that {}", self.what);
        world.sleep(Duration::from_millis(100)).await;
    }
}

/// Waits until something is so. What is asked may await; a closure that does could not leave its thread.
macro_rules! until {
    ($user:expr, $what:literal, $is_so:expr) => {{
        let wait = $user.wait($what);
        while !$is_so {
            wait.a_moment().await;
        }
    }};
}
pub(crate) use until;

/// A condition's status and reason.
pub fn condition(object: &Value, kind: &str) -> Option<(String, String)> {
    let conditions = object["status"]["conditions"].as_array()?;
    let found = conditions.iter().find(|c| c["type"] == kind)?;
    let text = |field: &str| found[field].as_str().unwrap_or_default().to_string();
    Some((text("status"), text("reason")))
}

/// A Deployment of so many Pods.
pub fn deployment(name: &str, replicas: i32) -> Value {
    let labels = json!({ "app": name });
    json!({
        "metadata": { "name": name },
        "spec": {
            "replicas": replicas,
            "selector": { "matchLabels": labels },
            "template": {
                "metadata": { "labels": labels },
                "spec": { "containers": [{ "name": "app", "image": "v1" }] },
            },
        },
    })
}
