//! kube-rs against a real cluster, unchanged: what Rust programs for Kubernetes do, from typed objects to controllers that
//! live through a crash of the API server. One cluster for the whole conversation.

mod controlling;
mod example;
mod objects;
mod streams;
mod watching;

use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod};
use kube::api::{Api, DeleteParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::Status;
use kube::runtime::wait::{await_condition, conditions};
use kube::{Client, ResourceExt};
use serde_json::json;

use crate::cluster::{Cluster, PATIENCE};

/// The namespace of everything here.
const SPACE: &str = "kube-rs";

#[test]
fn kube_rs_works_unchanged() {
    let cluster = Cluster::up_with("kube-rs", &["--nodes", "1"]);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(conversation(&cluster));
}

async fn conversation(cluster: &Cluster) {
    let client = connect(cluster, true).await;
    let spaces: Api<Namespace> = Api::all(client.clone());
    let space = serde_json::from_value(json!({"metadata": {"name": SPACE}})).unwrap();
    spaces.create(&PostParams::default(), &space).await.unwrap();
    // The streams' Pod starts while the objects are talked about.
    streams::prepare(&client).await;
    objects::the_server(&client).await;
    objects::discovery(&client).await;
    objects::plain(&client).await;
    objects::chunks(&client).await;
    objects::patches(&client).await;
    objects::applied(&client).await;
    objects::metadata(&client).await;
    objects::dynamic(&client).await;
    objects::subresources(&client).await;
    streams::logs(&client).await;
    streams::commands(&client).await;
    streams::attached(&client).await;
    streams::forwarded(&client).await;
    controlling::reconciles(&client).await;
    tokio::task::block_in_place(|| example::the_example_runs(cluster));
    watching::through_a_crash(&client, cluster).await;
    streams::evicted(&connect(cluster, false).await).await;
    let uid = spaces.get(SPACE).await.unwrap().uid().unwrap();
    spaces.delete(SPACE, &DeleteParams::default()).await.unwrap();
    within("the namespace is gone", await_condition(spaces, SPACE, conditions::is_deleted(&uid))).await.unwrap();
}

/// A client from the administrator's kubeconfig. It tries again by itself when it is asked to come later, if it shall.
async fn connect(cluster: &Cluster, tries_again: bool) -> Client {
    let file = Kubeconfig::read_from(cluster.kubeconfig()).unwrap();
    let mut config = kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.unwrap();
    config.default_retry = tries_again;
    Client::try_from(config).unwrap()
}

/// What comes of it, which it must soon.
async fn within<T>(what: &str, wanted: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, wanted)
        .await
        .unwrap_or_else(|_| panic!("after {} s still not: {what}", PATIENCE.as_secs()))
}

/// The Status of a refusal.
fn refused<T: std::fmt::Debug>(reply: Result<T, kube::Error>, code: u16, reason: &str) -> Box<Status> {
    match reply {
        Err(kube::Error::Api(status)) if status.code == code && status.reason == reason => status,
        other => panic!("it was to be refused with {code} {reason}: {other:?}"),
    }
}

fn maps(client: &Client) -> Api<ConfigMap> {
    Api::namespaced(client.clone(), SPACE)
}

fn pods(client: &Client) -> Api<Pod> {
    Api::namespaced(client.clone(), SPACE)
}

/// A ConfigMap with one entry.
fn map(name: &str, value: &str) -> ConfigMap {
    let labels = json!({"of": "kube-rs"});
    serde_json::from_value(json!({"metadata": {"name": name, "labels": labels}, "data": {"value": value}})).unwrap()
}

/// The entry of such a ConfigMap.
fn value(map: &ConfigMap) -> String {
    map.data.as_ref().and_then(|data| data.get("value")).cloned().unwrap_or_default()
}

/// A short wait between two looks.
async fn a_moment() {
    tokio::time::sleep(Duration::from_millis(50)).await;
}
