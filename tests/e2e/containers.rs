//! Containers that die, by themselves or by force.

use crate::cluster::{Cluster, docker, eventually, http_get};

const WEB: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec:
  containers:
    - name: one
      image: skiff/demo
      args: [front]
      livenessProbe:
        httpGet: {path: /healthz, port: 8080}
        periodSeconds: 1
        failureThreshold: 2
    - name: two
      image: skiff/demo
      args: [sleep]
---
apiVersion: v1
kind: Pod
metadata: {name: crasher}
spec:
  containers: [{name: c, image: skiff/demo, args: [exit, "3"]}]
---
apiVersion: v1
kind: Pod
metadata: {name: once}
spec:
  restartPolicy: Never
  containers: [{name: c, image: skiff/demo, args: [exit, "0"]}]
"#;

/// The Docker id of a Pod's container, as the API tells it.
fn container_id(cluster: &Cluster, pod: &str, container: &str) -> Option<String> {
    let pod = cluster.get(&["pod", pod]).remove(0);
    let status = pod["status"]["containerStatuses"].as_array()?.iter().find(|c| c["name"] == container)?.clone();
    status["state"].get("running")?;
    Some(status["containerID"].as_str()?.strip_prefix("docker://")?.to_owned())
}

fn restarts(cluster: &Cluster, pod: &str, container: &str) -> i64 {
    let pod = cluster.get(&["pod", pod]).remove(0);
    let statuses = pod["status"]["containerStatuses"].as_array().cloned().unwrap_or_default();
    statuses.iter().find(|c| c["name"] == container).and_then(|c| c["restartCount"].as_i64()).unwrap_or(0)
}

#[test]
fn what_dies_comes_back() {
    let cluster = Cluster::up_with("containers", &["--nodes", "1"]);
    cluster.apply(WEB);
    let one = eventually("the Pod runs", || container_id(&cluster, "web", "one"));
    let two = eventually("its second container runs", || container_id(&cluster, "web", "two"));
    let address = cluster.get(&["pod", "web"])[0]["status"]["podIP"].as_str().unwrap().to_owned();

    // An app container is killed: it alone is restarted.
    docker(&["kill", &one]);
    let again = eventually("the killed container is restarted", || {
        container_id(&cluster, "web", "one").filter(|id| *id != one)
    });
    assert_eq!(restarts(&cluster, "web", "one"), 1);
    assert_eq!(container_id(&cluster, "web", "two"), Some(two.clone()));

    // The pause container is removed: the Pod is rebuilt, with all its containers, at its address.
    let uid = cluster.get(&["pod", "web"])[0]["metadata"]["uid"].as_str().unwrap().to_owned();
    let label = format!("label={}={uid}", skiff_kubelet::runtime::POD_UID_LABEL);
    let all = docker(&["ps", "-q", "--no-trunc", "--filter", &label]);
    let pause = all.lines().find(|id| *id != again && *id != two).unwrap();
    docker(&["rm", "-f", pause]);
    eventually("both containers are new", || {
        let new_one = container_id(&cluster, "web", "one")?;
        let new_two = container_id(&cluster, "web", "two")?;
        (new_one != again && new_two != two).then_some(())
    });
    assert_eq!(cluster.get(&["pod", "web"])[0]["status"]["podIP"], address.as_str());
    let label_count = docker(&["ps", "-q", "--filter", &label]).lines().count();
    assert_eq!(label_count, 3, "a pause container and two others");

    // A failing liveness probe restarts the container.
    let before = restarts(&cluster, "web", "one");
    let node = cluster.name().to_owned();
    let namespace = format!("skiff.{node}.node-1");
    let url = format!("http://{address}:8080/health/off");
    eventually("the health switch answers", || {
        let output = std::process::Command::new("ip")
            .args(["netns", "exec", &namespace, "curl", "-sf", "--max-time", "2", &url])
            .output()
            .unwrap();
        output.status.success().then_some(())
    });
    eventually("the liveness probe restarts it", || (restarts(&cluster, "web", "one") > before).then_some(()));
    assert!(cluster.ctl(&["events", "--for", "pod/web"]).contains("Unhealthy"));

    // Restart policies.
    eventually("the crasher backs off", || {
        cluster.ctl(&["get", "pod", "crasher"]).contains("CrashLoopBackOff").then_some(())
    });
    assert!(restarts(&cluster, "crasher", "c") >= 1);
    eventually("the other one has completed", || {
        cluster.ctl(&["get", "pod", "once"]).contains("Completed").then_some(())
    });

    // A node's NodePort does not answer for Pods that are gone.
    cluster.ctl(&["delete", "pod", "web", "crasher", "once"]);
    assert!(cluster.get(&["pods"]).is_empty());
    eventually("no container is left of it", || {
        docker(&["ps", "-aq", "--filter", &label]).trim().is_empty().then_some(())
    });
    assert!(http_get(&format!("{}:30080", cluster.node_addresses()[0]), "/").is_err());
}
