//! kill -9 of each process, of all of them, and of `skiff` in the middle of writes.

use std::process::Command;

use crate::cluster::{Cluster, eventually, http_get};
use crate::web::Web;

fn kill9(pid: i32) {
    let status = Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap();
    assert!(status.success());
}

#[test]
fn no_death_of_a_process_restarts_a_container() {
    let cluster = Cluster::up_with("processes", &["--nodes", "2"]);
    cluster.apply(&Web::new(3).on_port(30081).yaml());
    cluster.ctl(&["rollout", "status", "deployment/web", "--timeout", "90s"]);
    let address = format!("{}:30081", cluster.node_addresses()[0]);
    eventually("the Service answers", || http_get(&address, "/plain").ok());
    let containers = cluster.containers();

    for (replicas, name) in (4..).zip(["server", "agent-node-1", "agent-node-2"]) {
        let (_, pid) = cluster.processes().into_iter().find(|(n, _)| n == name).unwrap();
        kill9(pid);
        assert!(http_get(&address, "/plain").is_ok(), "packets need no process");
        eventually("the supervisor brings it back", || {
            cluster.processes().into_iter().find(|(n, p)| n == name && *p != pid)
        });
        // It works again: a scale goes all the way.
        eventually("the API answers", || {
            cluster
                .try_ctl(&["scale", "deployment/web", "--replicas", &replicas.to_string()])
                .status
                .success()
                .then_some(())
        });
        cluster.ctl(&["rollout", "status", "deployment/web", "--timeout", "60s"]);
        let now = cluster.containers();
        for container in &containers {
            assert!(now.contains(container), "after the death of {name} a container restarted");
        }
    }

    // What the killed kubelet did is still known: it is in a file on its node.
    for pod in cluster.pods("app=web") {
        let name = format!("pod/{}", pod["metadata"]["name"].as_str().unwrap());
        let why = cluster.ctl(&["why", &name]);
        assert!(why.contains("container web started"), "{why}");
    }

    // Everything at once, the supervisor too.
    let containers = cluster.containers();
    for (_, pid) in cluster.processes() {
        let _ = Command::new("kill").args(["-9", &pid.to_string()]).status();
    }
    assert!(http_get(&address, "/plain").is_ok(), "packets need no process");
    cluster.up_again(&[]);
    cluster.ctl(&["rollout", "status", "deployment/web", "--timeout", "60s"]);
    eventually("the Service answers", || http_get(&address, "/plain").ok());
    assert_eq!(cluster.containers(), containers, "kill -9 of everything, then up: the same containers");

    // The supervisor alone: its processes go on, and `skiff up` brings it back to adopt them.
    let before = cluster.processes();
    let (_, supervisor) = before.iter().find(|(n, _)| n == "supervisor").unwrap();
    kill9(*supervisor);
    cluster.up_again(&[]);
    let after = cluster.processes();
    for (name, pid) in &before {
        assert_eq!(after.contains(&(name.clone(), *pid)), name != "supervisor", "{name}");
    }
}

#[test]
fn no_acknowledged_write_is_lost() {
    let cluster = Cluster::up_with("durable", &["--nodes", "1"]);
    let mut acknowledged = vec![];
    for round in 0..3 {
        let (_, pid) = cluster.processes().into_iter().find(|(n, _)| n == "server").unwrap();
        let killer = std::thread::spawn(move || {
            std::thread::sleep(std::time::Duration::from_millis(300));
            kill9(pid);
        });
        for i in 0..40 {
            let name = format!("c-{round}-{i}");
            let yaml = format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{a: b}}\n");
            let file = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
            std::fs::write(file.path(), yaml).unwrap();
            let output = cluster.try_ctl(&["--request-timeout", "2", "apply", "-f", file.path().to_str().unwrap()]);
            if output.status.success() {
                acknowledged.push(name);
            }
            if killer.is_finished() && i > 10 {
                break;
            }
        }
        killer.join().unwrap();
        eventually("the API answers", || cluster.try_ctl(&["get", "nodes"]).status.success().then_some(()));
        let there: Vec<String> =
            cluster.get(&["configmaps"]).iter().map(|c| c["metadata"]["name"].as_str().unwrap().to_owned()).collect();
        for name in &acknowledged {
            assert!(there.contains(name), "{name} was acknowledged and is lost");
        }
    }
    assert!(acknowledged.len() > 3, "only {} writes were acknowledged: the test tests nothing", acknowledged.len());
}
