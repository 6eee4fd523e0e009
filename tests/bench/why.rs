//! `skiffctl why` where there is much to look through, beside one `get` by the same program.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures::{StreamExt, TryStreamExt};
use skiff_client::{Api, ListOptions};
use skiff_proto::corev1::Pod;

use crate::cluster::Cluster;
use crate::rollout::ctl;
use crate::{creates, line, median, seconds};

/// So many of each, in turns.
const ROUNDS: usize = 21;
const IN_FLIGHT: usize = 64;

/// Why a Pod of a Deployment is there, asked for after `objects` other writes.
pub async fn among_many(cluster: &Cluster, objects: usize) -> Result<()> {
    ctl(cluster, &["create", "deployment", "why", "--image=skiff/demo", "--", "/demo", "sleep"]).await?;
    ctl(cluster, &["rollout", "status", "deployment/why", "--timeout", "60s"]).await?;
    let client = cluster.client()?;
    let pods = Api::<Pod>::new(&client).list("default", &ListOptions::labels("app=why")).await?.items;
    let pod = format!("pod/{}", pods.first().context("the Deployment has no Pod")?.metadata.name);
    let api = Api::new(&client);
    let made = futures::stream::iter(0..objects).map(|i| {
        let api = &api;
        async move { api.create(&creates::config_map(format!("many-{i}"))).await.map(drop) }
    });
    made.buffer_unordered(IN_FLIGHT).try_collect::<Vec<()>>().await?;

    let (mut why, mut get) = (vec![], vec![]);
    for _ in 0..ROUNDS {
        for (times, words) in [(&mut why, ["why", &pod]), (&mut get, ["get", &pod])] {
            let began = Instant::now();
            ctl(cluster, &words).await?;
            times.push(began.elapsed().as_secs_f64());
        }
    }
    let (why, get) = (median(why), median(get));
    line(
        &format!("skiffctl why pod/x among {objects} objects (of {ROUNDS})"),
        &seconds(Duration::from_secs_f64(why)),
        &format!("get {}", seconds(Duration::from_secs_f64(get))),
        &format!("{:.2}", why / get),
    );
    ctl(cluster, &["delete", "deployment/why"]).await
}
