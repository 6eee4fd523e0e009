//! The README's story: the guestbook on three nodes, and what a user then types.

use std::io::Write;
use std::process::Stdio;

use crate::cluster::{Cluster, eventually, http_get};

const GUESTBOOK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/guestbook.yaml");

#[test]
fn the_guestbook_counts_on_every_node() {
    let cluster = Cluster::up("guestbook");
    let applied = cluster.ctl(&["apply", "-f", GUESTBOOK]);
    assert_eq!(
        applied.lines().collect::<Vec<_>>(),
        [
            "service/counter created",
            "deployment.apps/counter created",
            "service/guestbook created",
            "deployment.apps/guestbook created"
        ]
    );
    let again = cluster.ctl(&["apply", "-f", GUESTBOOK]);
    assert!(again.lines().all(|l| l.ends_with(" unchanged")), "{again}");
    for deployment in ["deployment/counter", "deployment/guestbook"] {
        let status = cluster.ctl(&["rollout", "status", deployment, "--timeout", "90s"]);
        assert!(status.contains("successfully rolled out"), "{status}");
    }

    // From the host, through each node's NodePort; each visit counts once.
    let mut counts = vec![];
    for address in cluster.node_addresses() {
        let page = eventually("the page answers", || http_get(&format!("{address}:30080"), "/").ok());
        assert!(page.starts_with("Hello from guestbook-"), "{page}");
        let count: u64 = page.trim().trim_end_matches('.').rsplit(' ').next().unwrap().parse().unwrap();
        counts.push(count);
    }
    assert!(counts.windows(2).all(|w| w[0] < w[1]), "{counts:?}");

    // From a Pod, by the Service's address (its environment has it), which may be its own Pod.
    let pod = cluster.pods("app=guestbook")[0]["metadata"]["name"].as_str().unwrap().to_owned();
    let service = cluster.get(&["service", "guestbook"])[0]["spec"]["clusterIP"].as_str().unwrap().to_owned();
    for _ in 0..6 {
        let page = cluster.ctl(&["exec", &pod, "--", "/demo", "get", &format!("http://{service}:80/")]);
        assert!(page.contains("You are visitor number"), "{page}");
    }

    what_people_type(&cluster, &pod);
    scale_and_delete(&cluster);
}

fn what_people_type(cluster: &Cluster, pod: &str) {
    let wide = cluster.ctl(&["get", "pods", "-o", "wide"]);
    let header: Vec<&str> = wide.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(header[..7], ["NAME", "READY", "STATUS", "RESTARTS", "AGE", "IP", "NODE"]);
    assert_eq!(wide.lines().filter(|l| l.contains("Running")).count(), 4, "{wide}");
    let nodes: std::collections::BTreeSet<&str> =
        wide.lines().filter(|l| l.starts_with("guestbook-")).filter_map(|l| l.split_whitespace().nth(6)).collect();
    assert_eq!(nodes.len(), 3, "three replicas on three nodes: {wide}");

    let names = cluster.ctl(&["get", "deploy", "-o", "name"]);
    assert_eq!(names, "deployment.apps/counter\ndeployment.apps/guestbook\n");
    let yaml = cluster.ctl(&["get", "service", "guestbook", "-o", "yaml"]);
    assert!(yaml.starts_with("apiVersion: v1\nkind: Service\n"), "{yaml}");

    let logs = cluster.ctl(&["logs", pod]);
    assert!(logs.contains("serving on 0.0.0.0:8080"), "{logs}");
    let environment = cluster.ctl(&["exec", pod, "--", "/demo", "env"]);
    assert!(environment.contains("COUNTER_SERVICE_HOST=10."), "{environment}");
    assert!(environment.contains("KUBERNETES_SERVICE_HOST=10."), "{environment}");
    let failed = cluster.try_ctl(&["exec", pod, "--", "/demo", "exit", "7"]);
    assert_eq!(failed.status.code(), Some(7), "the command's exit code is ours");

    // Standard input through the tunnel, closed at its end.
    let mut child = cluster
        .ctl_command(&["exec", "-i", pod, "--", "/demo", "copy"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let text = "a line\n".repeat(20_000);
    let mut stdin = child.stdin.take().unwrap();
    let sent = text.clone();
    let writer = std::thread::spawn(move || stdin.write_all(sent.as_bytes()));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), text);

    let sheet = cluster.ctl(&["describe", "pod", pod]);
    for part in ["ReplicaSet/guestbook-", "Image:", "Scheduled", "Started"] {
        assert!(sheet.contains(part), "{part} is missing in\n{sheet}");
    }
    let sheet = cluster.ctl(&["describe", "service", "guestbook"]);
    assert_eq!(sheet.matches(":8080").count(), 3, "{sheet}");
    assert!(cluster.ctl(&["events"]).contains("ScalingReplicaSet"));
    assert!(cluster.ctl(&["version"]).contains("Server Version: v"));
}

fn scale_and_delete(cluster: &Cluster) {
    assert_eq!(
        cluster.ctl(&["scale", "deployment/guestbook", "--replicas", "5"]),
        "deployment.apps/guestbook scaled\n"
    );
    cluster.ctl(&["rollout", "status", "deployment/guestbook", "--timeout", "60s"]);
    assert_eq!(cluster.pods("app=guestbook").len(), 5);
    cluster.ctl(&["scale", "deployment/guestbook", "--replicas", "1"]);
    eventually("four Pods are gone", || (cluster.get(&["pods", "-l", "app=guestbook"]).len() == 1).then_some(()));

    let deleted = cluster.ctl(&["delete", "-f", GUESTBOOK]);
    assert!(deleted.contains("deployment.apps \"guestbook\" deleted"), "{deleted}");
    eventually("all Pods and ReplicaSets are gone", || {
        (cluster.get(&["pods"]).is_empty() && cluster.get(&["replicasets"]).is_empty()).then_some(())
    });
    eventually("all endpoint slices but the API server's are gone", || {
        (cluster.get(&["endpointslices"]).len() == 1).then_some(())
    });
}
