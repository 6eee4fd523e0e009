//! The kind that the program defines. (That it also runs is shown by the end-to-end tests, which start it on a cluster.)

use std::process::Command;

use serde_json::{Value, json};

#[test]
fn the_program_prints_its_definition() {
    let output = Command::new(env!("CARGO_BIN_EXE_controller")).arg("crd").output().expect("it runs");
    let crd: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(crd["metadata"]["name"], "websites.skiff.example");
    let version = &crd["spec"]["versions"][0];
    let replicas = &version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["replicas"];
    assert_eq!((&replicas["default"], &replicas["maximum"]), (&json!(1), &json!(20.0)), "{replicas}");
    assert_eq!(version["subresources"]["scale"]["specReplicasPath"], ".spec.replicas");
}
