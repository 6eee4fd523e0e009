//! From `apply` to Running, beside the raw Docker API doing the same containers: a pause container
//! with `--network none` and an app container that joins it, for each Pod.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bollard::Docker;
use bollard::models::{ContainerCreateBody, HostConfig};
use bollard::query_parameters::{CreateContainerOptionsBuilder, RemoveContainerOptionsBuilder};
use futures::{StreamExt, TryStreamExt};
use skiff_client::{Api, ListOptions, WatchEvent};
use skiff_proto::corev1::Pod;

use crate::cluster::Cluster;
use crate::{line, median, seconds};

const ROUNDS: usize = 3;
const LABEL: &str = "skiff.bench";
/// As many Pods as two cores start side by side without getting in each other's way.
pub const FEW: usize = 4;

/// Pairs of rounds: ours, then the floor; medians, and the median of the ratios.
pub async fn apply_to_running(cluster: &Cluster, count: usize) -> Result<()> {
    let docker = Docker::connect_with_local_defaults().context("connect to Docker")?;
    let (mut ours, mut floor) = (vec![], vec![]);
    for round in 0..ROUNDS {
        ours.push(skiff(cluster, count, round).await?.as_secs_f64());
        // The Engine is quicker when it is not asked for everything at once: the better way is the floor.
        let mut best = f64::INFINITY;
        for at_once in [count, FEW.min(count)] {
            let raw = raw(&docker, count, at_once).await;
            clean_up(&docker).await?;
            best = best.min(raw?.as_secs_f64());
        }
        floor.push(best);
    }
    let ratio = median(ours.iter().zip(&floor).map(|(a, b)| a / b).collect());
    line(
        &format!("{count} Pods (pause and app), apply to Running (of {ROUNDS})"),
        &seconds(Duration::from_secs_f64(median(ours))),
        &format!("docker {}", seconds(Duration::from_secs_f64(median(floor)))),
        &format!("{ratio:.2}"),
    );
    Ok(())
}

/// The user's way: one file, one `skiffctl apply`, until the last Pod is Running.
async fn skiff(cluster: &Cluster, count: usize, round: usize) -> Result<Duration> {
    let file = tempfile::Builder::new().suffix(".yaml").tempfile()?;
    let text: String = (0..count)
        .map(|i| {
            format!(
                "apiVersion: v1\nkind: Pod\nmetadata: {{name: p-{round}-{i}, labels: {{bench: pods}}}}\nspec:\n  terminationGracePeriodSeconds: 1\n  containers: [{{name: app, image: skiff/demo, args: [sleep]}}]\n---\n"
            )
        })
        .collect();
    std::fs::write(file.path(), text)?;
    let api = Api::<Pod>::new(&cluster.client()?);
    let began = Instant::now();
    let mut apply = tokio::process::Command::new(crate::cluster::binary("skiffctl"))
        .arg("apply")
        .arg("-f")
        .arg(file.path())
        .env("KUBECONFIG", cluster.kubeconfig())
        .stdout(std::process::Stdio::null())
        .spawn()?;
    let took = tokio::time::timeout(Duration::from_secs(120), until_running(&api, count, began)).await??;
    anyhow::ensure!(apply.wait().await?.success(), "skiffctl apply failed");
    let delete = tokio::process::Command::new(crate::cluster::binary("skiffctl"))
        .args(["delete", "pods", "-l", "bench=pods"])
        .env("KUBECONFIG", cluster.kubeconfig())
        .stdout(std::process::Stdio::null())
        .status()
        .await?;
    anyhow::ensure!(delete.success(), "skiffctl delete failed");
    Ok(took)
}

async fn until_running(api: &Api<Pod>, count: usize, began: Instant) -> Result<Duration> {
    let options = ListOptions::labels("bench=pods");
    let list = api.list("default", &options).await?;
    let mut running = std::collections::BTreeSet::new();
    let mut see = |pod: &Pod| {
        if pod.status.phase == "Running" {
            running.insert(pod.metadata.name.clone());
        }
        running.len() == count
    };
    if list.items.iter().any(&mut see) {
        return Ok(began.elapsed());
    }
    let mut events = api.watch("default", &options, &list.resource_version).await?;
    while let Some(event) = events.next().await {
        if let WatchEvent::Added { object, .. } | WatchEvent::Modified { object, .. } = event?
            && see(&object)
        {
            return Ok(began.elapsed());
        }
    }
    anyhow::bail!("the watch ended")
}

/// The floor: so many Pods at a time, each its two containers one after the other.
pub async fn raw(docker: &Docker, count: usize, at_once: usize) -> Result<Duration> {
    let began = Instant::now();
    let pods = futures::stream::iter(0..count).map(|i| async move {
        let pause = container(docker, &format!("skiff-bench-{i}-pause"), "none").await?;
        container(docker, &format!("skiff-bench-{i}-app"), &format!("container:{pause}")).await
    });
    pods.buffer_unordered(at_once).try_collect::<Vec<String>>().await?;
    Ok(began.elapsed())
}

async fn container(docker: &Docker, name: &str, network: &str) -> Result<String> {
    let body = ContainerCreateBody {
        image: Some("skiff/demo".to_owned()),
        cmd: Some(vec!["sleep".to_owned()]),
        labels: Some([(LABEL.to_owned(), "raw".to_owned())].into()),
        host_config: Some(HostConfig { network_mode: Some(network.to_owned()), ..HostConfig::default() }),
        ..ContainerCreateBody::default()
    };
    let options = CreateContainerOptionsBuilder::default().name(name).build();
    let created = docker.create_container(Some(options), body).await.with_context(|| format!("create {name}"))?;
    docker.start_container(&created.id, None).await.with_context(|| format!("start {name}"))?;
    Ok(created.id)
}

async fn clean_up(docker: &Docker) -> Result<()> {
    remove(docker, 1).await
}

/// Removes what the floor has made, so many containers at a time.
pub async fn remove(docker: &Docker, at_once: usize) -> Result<()> {
    let filters = [("label".to_owned(), vec![LABEL.to_owned()])].into();
    let options =
        bollard::query_parameters::ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
    let ids = docker.list_containers(Some(options)).await?.into_iter().filter_map(|container| container.id);
    let removed = futures::stream::iter(ids).map(|id| async move {
        let force = RemoveContainerOptionsBuilder::default().force(true).build();
        docker.remove_container(&id, Some(force)).await
    });
    Ok(removed.buffer_unordered(at_once).try_collect().await?)
}
