//! From starting the control plane's process to its first answered request.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::Result;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use skiff_client::Api;
use skiff_proto::corev1::Namespace;

use crate::cluster::Cluster;
use crate::{line, median, seconds};

/// Kills the server while the supervisor sleeps, and starts it by hand: process start, store, cache,
/// certificates, listening, and one authenticated read.
pub async fn cold(cluster: &Cluster) -> Result<()> {
    let supervisor = Pid::from_raw(cluster.pid("supervisor")?);
    kill(supervisor, Signal::SIGSTOP)?;
    kill(Pid::from_raw(cluster.pid("server")?), Signal::SIGKILL)?;
    let mut times = vec![];
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let began = Instant::now();
        let mut server = cluster
            .skiff()
            .args(["server", "--name", cluster.name()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        loop {
            // A new client a try, so that no backoff of ours is measured.
            let api = Api::<Namespace>::new(&cluster.client()?.with_timeout(Duration::from_secs(1)));
            if api.get("", "default").await.is_ok() {
                break;
            }
            anyhow::ensure!(began.elapsed() < Duration::from_secs(30), "the server does not answer");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        times.push(began.elapsed().as_secs_f64());
        server.kill()?;
        server.wait()?;
    }
    kill(supervisor, Signal::SIGCONT)?;
    line(
        "control plane, process start to first answer (of 5)",
        &seconds(Duration::from_secs_f64(median(times))),
        "",
        "",
    );
    let api = Api::<Namespace>::new(&cluster.client()?);
    for _ in 0..200 {
        if api.get("", "default").await.is_ok() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    anyhow::bail!("the supervisor does not bring the server back")
}
