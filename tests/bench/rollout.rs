//! A rolling update, from `set image` to the last old Pod gone, beside what the raw Docker API takes to start as many
//! Pods' containers and to remove as many.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bollard::Docker;
use bollard::query_parameters::{RemoveImageOptionsBuilder, TagImageOptionsBuilder};
use skiff_client::{Api, ListOptions};
use skiff_proto::corev1::Pod;

use crate::cluster::Cluster;
use crate::{line, pods, seconds};

/// The same image under another name: to a rollout it is another one.
const NEXT: &str = "skiff/demo:bench-next";
/// A round that takes longer has failed.
const PATIENCE: &str = "600s";

/// One rollout with the usual strategy (a quarter more, a quarter less), and one round of the floor.
pub async fn image_to_complete(cluster: &Cluster, count: usize) -> Result<()> {
    let docker = Docker::connect_with_local_defaults().context("connect to Docker")?;
    let tag = TagImageOptionsBuilder::default().repo("skiff/demo").tag("bench-next").build();
    docker.tag_image("skiff/demo", Some(tag)).await.context("give the demo image another name")?;
    let measured = rollout(cluster, count).await;
    delete(cluster).await?;
    let (complete, gone) = measured?;

    let mut best = Duration::MAX;
    for at_once in [count, pods::FEW] {
        let began = Instant::now();
        let raw = pods::raw(&docker, count, at_once).await;
        pods::remove(&docker, at_once).await?;
        raw?;
        best = best.min(began.elapsed());
    }
    forget_name(&docker).await.context("take the other name away")?;

    let beside = format!("docker {}", seconds(best));
    line(&format!("rollout of {count} Pods, set image to complete"), &seconds(complete), "", "");
    let ratio = format!("{:.2}", gone.as_secs_f64() / best.as_secs_f64());
    line(&format!("rollout of {count} Pods, until the old ones are gone"), &seconds(gone), &beside, &ratio);
    Ok(())
}

/// Takes away what a bench that was ended early has made in Docker itself.
pub async fn leave_nothing() -> Result<()> {
    let docker = Docker::connect_with_local_defaults().context("connect to Docker")?;
    pods::remove(&docker, 1).await?;
    // Most often it was never given.
    let _ = forget_name(&docker).await;
    Ok(())
}

async fn forget_name(docker: &Docker) -> Result<()> {
    let remove = RemoveImageOptionsBuilder::default().build();
    docker.remove_image(NEXT, Some(remove), None).await?;
    Ok(())
}

/// How long until it was complete, and until no old Pod was left.
async fn rollout(cluster: &Cluster, count: usize) -> Result<(Duration, Duration)> {
    let file = tempfile::Builder::new().suffix(".yaml").tempfile()?;
    let text = format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: bench}}\nspec:\n  replicas: {count}\n  \
         selector: {{matchLabels: {{bench: rollout}}}}\n  template:\n    metadata: {{labels: {{bench: rollout}}}}\n    \
         spec:\n      terminationGracePeriodSeconds: 1\n      \
         containers: [{{name: app, image: skiff/demo, args: [sleep]}}]\n"
    );
    std::fs::write(file.path(), text)?;
    ctl(cluster, &["apply", "-f", &file.path().display().to_string()]).await?;
    let wait = ["rollout", "status", "deployment/bench", "--timeout", PATIENCE];
    ctl(cluster, &wait).await?;

    let began = Instant::now();
    ctl(cluster, &["set", "image", "deployment/bench", &format!("app={NEXT}")]).await?;
    ctl(cluster, &wait).await?;
    let complete = began.elapsed();
    let api = Api::<Pod>::new(&cluster.client()?);
    let options = ListOptions::labels("bench=rollout");
    loop {
        let left = api.list("default", &options).await?.items;
        if left.len() == count && left.iter().all(|pod| pod.spec.containers.iter().all(|c| c.image == NEXT)) {
            return Ok((complete, began.elapsed()));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn delete(cluster: &Cluster) -> Result<()> {
    ctl(cluster, &["delete", "deployment/bench"]).await?;
    let api = Api::<Pod>::new(&cluster.client()?);
    while !api.list("default", &ListOptions::labels("bench=rollout")).await?.items.is_empty() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

/// Runs `skiffctl`, which must succeed.
pub async fn ctl(cluster: &Cluster, words: &[&str]) -> Result<()> {
    let mut command = tokio::process::Command::new(crate::cluster::binary("skiffctl"));
    command.args(words).env("KUBECONFIG", cluster.kubeconfig()).stdout(Stdio::null());
    anyhow::ensure!(command.status().await?.success(), "skiffctl {} failed", words.join(" "));
    Ok(())
}
