//! examples/controller, the program itself, on a cluster: its kind is defined, and what is wished for in it comes true.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::cluster::{Cluster, eventually, expect_success};

const WEBSITE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/controller/website.yaml");

/// The program, running until it is dropped.
struct Controller(Child);

impl Drop for Controller {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The controller's binary: cargo builds it with the tests of its package, beside those of ours.
fn program() -> PathBuf {
    let beside = std::env::current_exe().unwrap().parent().unwrap().parent().unwrap().join("controller");
    assert!(beside.exists(), "{} is not built: cargo build -p controller", beside.display());
    beside
}

fn start(cluster: &Cluster) -> Controller {
    let mut command = Command::new(program());
    command.env("KUBECONFIG", cluster.kubeconfig()).stdout(Stdio::null());
    Controller(command.spawn().unwrap())
}

fn website(cluster: &Cluster) -> Option<Value> {
    let output = cluster.try_ctl(&["get", "website", "hello", "-o", "json"]);
    serde_json::from_slice(&output.stdout).ok()
}

/// A Website is made, grows, outlives a kill of its controller, and takes all with it when it goes.
pub fn the_example_runs(cluster: &Cluster) {
    let defined = Command::new(program()).arg("crd").output().unwrap();
    expect_success("controller crd", &defined);
    cluster.apply(&String::from_utf8(defined.stdout).unwrap());
    cluster.ctl(&["wait", "crd/websites.skiff.example", "--for=condition=Established", "--timeout=30s"]);
    let running = start(cluster);
    cluster.ctl(&["apply", "-f", WEBSITE]);
    let answers = |count: i64| move || website(cluster).filter(|site| site["status"]["ready"] == count).map(|_| ());
    eventually("two Pods answer", answers(2));
    let table = cluster.ctl(&["get", "websites"]);
    assert!(table.contains("RELEASE") && table.contains("one"), "{table}");
    let events = cluster.ctl(&["events", "--for", "website/hello"]);
    assert!(events.contains("Counted"), "{events}");

    drop(running);
    cluster.ctl(&["scale", "website/hello", "--replicas=3"]);
    let _running = start(cluster);
    eventually("three Pods answer", answers(3));
    assert!(cluster.refused(&["scale", "website/hello", "--replicas=21"]).contains("20"), "the kind's own limit");

    cluster.ctl(&["delete", "website", "hello"]);
    eventually("what it made is gone", || {
        let left = cluster.ctl(&["get", "deployments,services,pods", "-l", "website=hello", "-o", "name"]);
        left.trim().is_empty().then_some(())
    });
    cluster.ctl(&["delete", "crd", "websites.skiff.example"]);
}
