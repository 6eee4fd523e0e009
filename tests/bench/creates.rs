//! Creates per second through the whole API server (TLS, authentication, admission, validation,
//! a durable write), and the proof that each was durable before it was acknowledged.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use skiff_client::Api;
use skiff_proto::corev1::ConfigMap;

use crate::cluster::{Cluster, Store};
use crate::{line, median};

const IN_FLIGHT: u64 = 64;
const ROUND: Duration = Duration::from_secs(4);

/// A ConfigMap of 1 KB.
pub fn config_map(name: String) -> ConfigMap {
    let mut object = ConfigMap::default();
    object.metadata.namespace = "default".to_owned();
    object.metadata.name = name;
    object.data.insert("text".to_owned(), "x".repeat(900));
    object
}

/// 64 in flight over four connections.
pub async fn throughput(cluster: &Cluster) -> Result<()> {
    let clients = [cluster.client()?, cluster.client()?, cluster.client()?, cluster.client()?];
    let done = Arc::new(AtomicU64::new(0));
    let began = Instant::now();
    let mut tasks = vec![];
    for worker in 0..IN_FLIGHT {
        let api = Api::<ConfigMap>::new(&clients[(worker % 4) as usize]);
        let done = done.clone();
        tasks.push(tokio::spawn(async move {
            for i in 0.. {
                if began.elapsed() > ROUND {
                    break;
                }
                api.create(&config_map(format!("t-{worker}-{i}"))).await?;
                done.fetch_add(1, Ordering::Relaxed);
            }
            anyhow::Ok(())
        }));
    }
    for task in tasks {
        task.await??;
    }
    let rate = done.load(Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64();
    match &cluster.etcd_url {
        None => line("creates/s, 1 KB, 64 in flight, embedded", &format!("{rate:.0}/s"), "", ""),
        Some(url) => {
            let raw = raw_puts(url).await?;
            let beside = format!("etcd {raw:.0}/s");
            line(
                "creates/s, 1 KB, 64 in flight, etcd",
                &format!("{rate:.0}/s"),
                &beside,
                &format!("{:.2}", rate / raw),
            );
        }
    }
    Ok(())
}

/// etcd's own put of a value of the same size, as many in flight.
pub async fn raw_puts(url: &str) -> Result<f64> {
    let done = Arc::new(AtomicU64::new(0));
    let mut clients = vec![];
    for _ in 0..4 {
        clients.push(etcd_client::Client::connect([url], None).await?);
    }
    let began = Instant::now();
    let mut tasks = vec![];
    for worker in 0..IN_FLIGHT {
        let mut client = clients[(worker % 4) as usize].clone();
        let done = done.clone();
        tasks.push(tokio::spawn(async move {
            let value = vec![b'x'; 1100];
            for i in 0.. {
                if began.elapsed() > ROUND {
                    break;
                }
                client.put(format!("/raw/{worker}/{i}"), value.clone(), None).await?;
                done.fetch_add(1, Ordering::Relaxed);
            }
            anyhow::Ok(())
        }));
    }
    for task in tasks {
        task.await??;
    }
    Ok(done.load(Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64())
}

/// The latency of one create after the other.
pub async fn one_at_a_time(cluster: &Cluster) -> Result<()> {
    let api = Api::<ConfigMap>::new(&cluster.client()?);
    let mut times = vec![];
    for i in 0..500 {
        let object = config_map(format!("one-{i}"));
        let began = Instant::now();
        api.create(&object).await?;
        times.push(began.elapsed().as_secs_f64() * 1000.0);
    }
    let what = format!("one create after the other, {:?}", cluster.store);
    line(&what, &format!("{:.2} ms", median(times)), "", "");
    Ok(())
}

/// Counts the server's (or etcd's) fsyncs from outside while creates go one after the other: there
/// are at least as many.
pub async fn fsyncs(cluster: &Cluster) -> Result<()> {
    const CREATES: usize = 200;
    let pid = match cluster.store {
        Store::Embedded => cluster.pid("server")?.to_string(),
        Store::Etcd => {
            let output = Command::new("pgrep").args(["-n", "-f", "etcd --name bench"]).output()?;
            String::from_utf8_lossy(&output.stdout).trim().to_owned()
        }
    };
    let report = tempfile::NamedTempFile::new()?;
    let mut strace = Command::new("strace")
        .args(["-f", "-q", "-e", "trace=fsync,fdatasync", "-o"])
        .arg(report.path())
        .args(["-p", &pid])
        .stderr(Stdio::null())
        .spawn()
        .context("start strace (apt-get install strace)")?;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let api = Api::<ConfigMap>::new(&cluster.client()?);
    for i in 0..CREATES {
        api.create(&config_map(format!("sync-{i}"))).await?;
    }
    // strace detaches and writes its report at SIGINT.
    Command::new("kill").args(["-INT", &strace.id().to_string()]).status()?;
    strace.wait()?;
    let text = std::fs::read_to_string(report.path())?;
    let syncs =
        text.lines().filter(|l| (l.contains("fsync(") || l.contains("fdatasync(")) && !l.contains("resumed")).count();
    let what = format!("fsyncs seen by strace during {CREATES} creates, {:?}", cluster.store);
    line(&what, &syncs.to_string(), "", "");
    anyhow::ensure!(
        syncs >= CREATES,
        "{syncs} fsyncs for {CREATES} creates: some were acknowledged before they were durable"
    );
    Ok(())
}
