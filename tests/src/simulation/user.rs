//! The simulated user: acts out a script through the API, tries again until it is told that it worked, and keeps the
//! receipts.

use std::time::Duration;

use serde_json::json;
use skiff_client::{Api, Client, DeleteOptions, Error, Patch};
use skiff_proto::Kind;
use skiff_proto::appsv1::Deployment;
use skiff_proto::corev1::{Pod, Service};
use skiff_world::World;
use skiff_world::sim::Sim;

use super::script::{Act, Script, Wish};

/// The namespace the user works in.
pub const NAMESPACE: &str = "default";

/// Names the act that made an object, so that a second try knows the first one's work.
const ACT: &str = "simulation.test/act";

/// How long the user tries, in simulated time, before something is wrong with the cluster.
const PATIENCE: Duration = Duration::from_secs(1800);

/// A write that the API server has acknowledged: it must never be lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The object's kind.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// The revision that the write was given.
    pub revision: u64,
}

/// Acts out the whole script.
pub async fn perform(world: &World, client: &Client, script: &Script, sim: &Sim) -> Vec<Receipt> {
    let mut receipts = Vec::new();
    for (number, (pause, act)) in script.acts.iter().enumerate() {
        world.sleep(*pause).await;
        sim.trace(format_args!("user: {act}"));
        let began = world.now();
        loop {
            match attempt(client, act, number).await {
                Ok(receipt) => {
                    receipts.extend(receipt);
                    break;
                }
                Err(error) => sim.trace(format_args!("user: not yet: {error}")),
            }
            assert!(world.now() - began < PATIENCE, "the user has tried for {PATIENCE:?} in vain: {act}");
            world.sleep(Duration::from_millis(200 + world.random_below(800))).await;
        }
    }
    receipts
}

/// One try. An act is done when its outcome is there, whoever's reply got lost.
async fn attempt(client: &Client, act: &Act, number: usize) -> Result<Option<Receipt>, Error> {
    let deployments = Api::<Deployment>::new(client);
    let services = Api::<Service>::new(client);
    match act {
        Act::Create(wish) => create(&deployments, &deployment(wish, number), number).await.map(Some),
        Act::Expose(name) => create(&services, &service(name, number), number).await.map(Some),
        Act::Scale { name, replicas } => {
            let patch = Patch::Merge(json!({ "spec": { "replicas": replicas } }));
            deployments.patch(NAMESPACE, name, patch, None).await.map(|object| Some(receipt(&object)))
        }
        Act::Roll { name, image } => {
            let containers = json!([{ "name": "app", "image": image }]);
            let patch = Patch::Strategic(json!({ "spec": { "template": { "spec": { "containers": containers } } } }));
            deployments.patch(NAMESPACE, name, patch, None).await.map(|object| Some(receipt(&object)))
        }
        Act::Delete(name) => delete(&deployments, name).await,
        Act::Unexpose(name) => delete(&services, name).await,
        Act::Ask(name) => create(&Api::<Pod>::new(client), &too_large(name, number), number).await.map(Some),
        Act::Withdraw(name) => delete(&Api::<Pod>::new(client), name).await,
    }
}

fn receipt<K: Kind>(object: &K) -> Receipt {
    let metadata = object.metadata();
    Receipt {
        kind: K::KIND,
        name: metadata.name.clone(),
        uid: metadata.uid.clone(),
        revision: metadata.resource_version.parse().expect("a revision is a number"),
    }
}

async fn create<K: Kind>(api: &Api<K>, object: &K, number: usize) -> Result<Receipt, Error> {
    match api.create(object).await {
        Ok(created) => Ok(receipt(&created)),
        Err(error) if error.is_already_exists() => {
            let there = api.get(NAMESPACE, &object.metadata().name).await?;
            // A predecessor that is on its way out is not what was asked for.
            let ours = there.metadata().annotations.get(ACT) == Some(&number.to_string());
            if ours { Ok(receipt(&there)) } else { Err(error) }
        }
        Err(error) => Err(error),
    }
}

async fn delete<K: Kind>(api: &Api<K>, name: &str) -> Result<Option<Receipt>, Error> {
    match api.delete(NAMESPACE, name, &DeleteOptions::default()).await {
        Ok(deletion) if deletion.gone => Ok(None),
        // Being deleted: the script goes on when it is gone, for the next act may create it anew.
        Ok(_) => Err(Error::api("wait for the deletion", Default::default())),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

fn deployment(wish: &Wish, number: usize) -> Deployment {
    let object = json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": { "name": wish.name, "namespace": NAMESPACE, "annotations": { ACT: number.to_string() } },
        "spec": {
            "replicas": wish.replicas,
            "selector": { "matchLabels": { "app": wish.name } },
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": { "maxSurge": wish.surge, "maxUnavailable": wish.unavailable }
            },
            "template": {
                "metadata": { "labels": { "app": wish.name } },
                "spec": {
                    "terminationGracePeriodSeconds": 5,
                    "containers": [{
                        "name": "app",
                        "image": wish.image,
                        "ports": [{ "containerPort": 8080 }],
                        "resources": { "requests": { "cpu": "10m", "memory": "8Mi" } }
                    }]
                }
            }
        }
    });
    serde_json::from_value(object).expect("the user writes valid Deployments")
}

fn service(name: &str, number: usize) -> Service {
    let object = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": name, "namespace": NAMESPACE, "annotations": { ACT: number.to_string() } },
        "spec": { "selector": { "app": name }, "ports": [{ "port": 80, "targetPort": 8080 }] }
    });
    serde_json::from_value(object).expect("the user writes valid Services")
}

/// A Pod that asks for more than any node has.
fn too_large(name: &str, number: usize) -> Pod {
    let object = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": name, "namespace": NAMESPACE, "annotations": { ACT: number.to_string() } },
        "spec": {
            "containers": [{
                "name": "app",
                "image": "registry.test/app:1",
                "resources": { "requests": { "cpu": "100" } }
            }]
        }
    });
    serde_json::from_value(object).expect("the user writes valid Pods")
}
