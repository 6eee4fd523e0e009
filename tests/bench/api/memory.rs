//! Memory (PSS) of the whole control plane: idle, an object's share, and with 1,000 nodes and 5,000 Pods.

use std::time::Duration;

use anyhow::Result;
use futures::{StreamExt, TryStreamExt};
use serde_json::{Value, json};

use super::beside_bar;
use super::creates::fill;
use super::server::Server;
use super::wire::H2;
use crate::cluster::Store;
use crate::line;

const OBJECTS: usize = 10_000;
const NODES: usize = 1_000;
const PODS: usize = 5_000;
const IN_FLIGHT: usize = 32;
const KIB_OF_MB: f64 = 1024.0 / 1e6;

/// All figures of memory.
pub async fn all() -> Result<()> {
    let server = Server::start(Store::Embedded).await?;
    settle().await;
    let idle = server.pss()?;
    beside_bar("control plane, idle, no nodes (PSS)", idle * KIB_OF_MB, " MB", 25.0);
    fill(&server, OBJECTS, &mut 0).await?;
    settle().await;
    let each = (server.pss()? - idle) / OBJECTS as f64;
    line(&format!("memory of an object of 1 KB, of {OBJECTS} (PSS)"), &format!("{each:.2} KiB"), "", "");
    drop(server);

    let server = Server::start(Store::Embedded).await?;
    let h2 = H2::open(&server).await?;
    each_of(NODES, |i| node(&h2, i)).await?;
    each_of(PODS, |i| pod(&h2, i)).await?;
    settle().await;
    let what = format!("control plane, {NODES} nodes and {PODS} Pods (PSS)");
    beside_bar(&what, server.pss()? * KIB_OF_MB, " MB", 100.0);
    Ok(())
}

async fn settle() {
    tokio::time::sleep(Duration::from_secs(8)).await;
}

async fn each_of<F: Future<Output = Result<()>>>(count: usize, make: impl Fn(usize) -> F) -> Result<()> {
    futures::stream::iter((0..count).map(make)).buffer_unordered(IN_FLIGHT).try_collect().await
}

async fn send(h2: &H2, method: &str, path: &str, body: Value) -> Result<()> {
    let media = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
    let request = http::Request::builder().method(method).header("content-type", media);
    let mut answer = h2.send(request, path, body.to_string().into()).await?;
    while let Some(piece) = answer.data().await {
        answer.flow_control().release_capacity(piece?.len())?;
    }
    Ok(())
}

fn name(i: usize) -> String {
    format!("node-{i:04}")
}

/// A node as its kubelet writes it, with its Lease.
async fn node(h2: &H2, i: usize) -> Result<()> {
    let (name, now) = (name(i), jiff::Timestamp::now());
    let labels = json!({
        "kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64",
        "topology.kubernetes.io/zone": format!("zone-{}", i % 3),
    });
    send(h2, "POST", "/api/v1/nodes", json!({"metadata": {"name": name, "labels": labels}})).await?;
    let at = now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let condition = |kind: &str, status: &str| {
        json!({"type": kind, "status": status, "reason": "KubeletSaysSo", "message": "as the kubelet sees it",
               "lastHeartbeatTime": at, "lastTransitionTime": at})
    };
    let amounts = json!({"cpu": "8", "memory": "32Gi", "pods": "110", "ephemeral-storage": "100Gi"});
    let status = json!({
        "capacity": amounts, "allocatable": amounts,
        "conditions": [
            condition("Ready", "True"), condition("MemoryPressure", "False"),
            condition("DiskPressure", "False"), condition("PIDPressure", "False"),
        ],
        "addresses": [
            {"type": "InternalIP", "address": format!("10.1.{}.{}", i / 250, i % 250 + 1)},
            {"type": "Hostname", "address": name},
        ],
        "nodeInfo": {
            "machineID": "0123456789abcdef0123456789abcdef", "kernelVersion": "6.18.0", "osImage": "Debian 12",
            "containerRuntimeVersion": "docker://20.10.24", "kubeletVersion": "v1.36.0", "operatingSystem": "linux",
            "architecture": "amd64",
        },
    });
    send(h2, "PATCH", &format!("/api/v1/nodes/{name}/status"), json!({"status": status})).await?;
    let lease = json!({
        "metadata": {"name": name, "namespace": "kube-node-lease"},
        "spec": {"holderIdentity": name, "leaseDurationSeconds": 40,
                 "renewTime": now.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()},
    });
    send(h2, "POST", "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases", lease).await
}

/// A Pod that runs on its node.
async fn pod(h2: &H2, i: usize) -> Result<()> {
    let name = format!("web-6f7d8c9b5-{i:05}");
    let requests = json!({"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "256Mi"}});
    let pod = json!({
        "metadata": {"name": name, "namespace": "default",
                     "labels": {"app": "web", "pod-template-hash": "6f7d8c9b5", "tier": "front"}},
        "spec": {
            "nodeName": self::name(i % NODES),
            "containers": [{
                "name": "app", "image": "registry.example/web:1.2.3", "args": ["serve", "--port=8080"],
                "env": [{"name": "LEVEL", "value": "info"}, {"name": "PEER", "value": "http://api.default.svc"}],
                "ports": [{"containerPort": 8080, "name": "http"}], "resources": requests,
                "readinessProbe": {"httpGet": {"path": "/ready", "port": 8080}, "periodSeconds": 5},
            }],
        },
    });
    send(h2, "POST", "/api/v1/namespaces/default/pods", pod).await?;
    let at = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let condition = |kind: &str| json!({"type": kind, "status": "True", "lastTransitionTime": at});
    let address = format!("10.244.{}.{}", i % 250, i / 250 + 2);
    let status = json!({
        "phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "hostIP": "10.1.0.1", "startTime": at,
        "conditions": [condition("PodScheduled"), condition("Initialized"), condition("ContainersReady"),
                       condition("Ready")],
        "containerStatuses": [{
            "name": "app", "ready": true, "started": true, "restartCount": 0, "image": "registry.example/web:1.2.3",
            "imageID": "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
            "containerID": "docker://fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210",
            "state": {"running": {"startedAt": at}},
        }],
    });
    send(h2, "PATCH", &format!("/api/v1/namespaces/default/pods/{name}/status"), json!({"status": status})).await
}
