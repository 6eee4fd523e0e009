//! The official Python client against a real cluster, unchanged: typed and dynamic objects, watches, logs, streams.

use std::process::Command;

use crate::cluster::{Cluster, expect_success};

const PROGRAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/e2e/python_client.py");

#[test]
fn the_python_client_works_unchanged() {
    let cluster = Cluster::up_with("python", &["--nodes", "1"]);
    // The system's own Python: that is where Debian's python3-kubernetes is.
    let mut python = Command::new("timeout");
    let output = python
        .args(["150", "/usr/bin/python3", PROGRAM])
        .env("KUBECONFIG", cluster.kubeconfig())
        .output()
        .expect("./setup.sh tests");
    expect_success("the Python client", &output);
    assert!(String::from_utf8_lossy(&output.stdout).ends_with("all is well\n"), "it ran to its end");
}
