//! What bad input gets: a message that names file, document, field and remedy; exit code 1; and
//! nothing half applied.

use crate::cluster::Cluster;

#[test]
fn mistakes_are_named_and_nothing_is_applied() {
    let cluster = Cluster::up_with("bad", &["--nodes", "1"]);
    let refused = |yaml: &str| {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("web.yaml");
        std::fs::write(&file, yaml).unwrap();
        cluster.refused(&["apply", "-f", file.to_str().unwrap()])
    };
    let pod = |spec: &str| format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec:\n{spec}");

    for (yaml, expected) in [
        (pod("  contaners: [{name: a, image: i}]"), vec!["web.yaml", "spec.contaners", "did you mean \"containers\""]),
        (pod("  containers: [{name: a, image: i, ports: [{containerPort: eighty}]}]"), vec!["spec.containers[0].ports[0].containerPort"]),
        (pod("  containers: [{name: a, image: i, ports: [{containerPort: 70000}]}]"), vec!["spec.containers[0].ports[0].containerPort", "70000", "65535"]),
        (pod("  containers: [{name: a}]"), vec!["spec.containers[0].image", "Required"]),
        (pod("  containers: [{name: a, image: i}, {name: a, image: i}]"), vec!["spec.containers[1]", "Duplicate"]),
        (pod("  containers: [{name: a, image: i, resources: {requests: {cpu: lots}}}]"), vec!["cpu", "lots"]),
        (pod("  containers: [{name: A_b, image: i}]"), vec!["spec.containers[0].name", "A_b", "lower case"]),
        (pod("  containers: [{name: a, image: i}]\n  volumes: [{name: v, emptyDir: {mediumm: Memory}}]"), vec!["spec.volumes[0].emptyDir.mediumm"]),
        ("apiVersion: v1\nkind: Podd\nmetadata: {name: p}\n".to_owned(), vec!["Podd", "did you mean \"Pod\""]),
        ("apiVersion: apps/v1\nkind: Pod\nmetadata: {name: p}\n".to_owned(), vec!["apps/v1", "\"v1\""]),
        ("kind: Pod\nmetadata: {name: p}\n".to_owned(), vec!["apiVersion"]),
        ("a: [b\n".to_owned(), vec!["web.yaml", "line"]),
        (
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\nspec:\n  selector: {matchLabels: {app: one}}\n  template:\n    metadata: {labels: {app: two}}\n    spec: {containers: [{name: a, image: i}]}\n".to_owned(),
            vec!["spec.template.metadata.labels", "selector"],
        ),
        (bomb(), vec!["web.yaml"]),
        (format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: big}}\ndata: {{a: {:?}}}\n", "x".repeat(10 << 20)), vec!["MiB"]),
    ] {
        let error = refused(&yaml);
        for part in expected {
            assert!(error.contains(part), "{part:?} is missing in the answer to\n{:.300}\n{error}", yaml);
        }
    }

    // The second document is wrong: the first is not applied either.
    let error = refused(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: first}\n---\napiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {ports: [{port: 0}]}\n",
    );
    assert!(error.contains("document 2 (Service s)") && error.contains("spec.ports[0].port"), "{error}");
    assert!(cluster.get(&["configmaps", "--field-selector", "metadata.name=first"]).is_empty());
    assert!(cluster.get(&["pods"]).is_empty());

    let error = cluster.refused(&["get", "dploy"]);
    assert!(error.contains("did you mean \"deploy\""), "{error}");
    let error = cluster.refused(&["get", "pod", "nobody"]);
    assert!(error.contains("pods \"nobody\" not found"), "{error}");
    let error = cluster.refused(&["logs", "nobody"]);
    assert!(error.contains("nobody"), "{error}");

    // A missing image is told on the Pod, by Docker's own words.
    cluster.apply(&pod("  containers: [{name: a, image: no/such-image}]"));
    crate::cluster::eventually("the missing image shows", || {
        let status = cluster.ctl(&["get", "pods"]);
        (status.contains("ErrImagePull") || status.contains("ImagePullBackOff")).then_some(())
    });
    assert!(cluster.ctl(&["describe", "pod", "p"]).contains("no/such-image"));
}

/// Nine levels of nine aliases each: a few hundred bytes that would become gigabytes.
fn bomb() -> String {
    let mut text = "a0: &a0 [lol,lol,lol,lol,lol,lol,lol,lol,lol]\n".to_owned();
    for level in 1..10 {
        let alias = format!("*a{}", level - 1);
        text.push_str(&format!("a{level}: &a{level} [{}]\n", vec![alias; 9].join(",")));
    }
    text
}
