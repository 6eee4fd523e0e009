//! Tables of objects as the server gives them, against what kubectl prints for them.

use serde_json::{Value, json};

use super::{TableOptions, of, table};

fn render(kind: &str, object: Value, wide: bool) -> String {
    let now = "2026-01-01T01:00:00Z".parse().unwrap();
    let options = TableOptions { wide, ..TableOptions::default() };
    table(&of(kind), &[object], &options, now).render(false).trim_end().to_owned()
}

fn pod(status: Value) -> Value {
    json!({
        "metadata": {"name": "p", "creationTimestamp": "2026-01-01T00:30:00Z"},
        "spec": {"containers": [{"name": "a"}, {"name": "b"}], "nodeName": "n"},
        "status": status,
    })
}

#[test]
fn pods_are_summed_up_in_a_word() {
    let running = json!({"name": "a", "ready": true, "state": {"running": {}}});
    for (status, expected) in [
        (json!({"phase": "Pending"}), "0/2   Pending"),
        (json!({"phase": "Running", "containerStatuses": [running, running]}), "2/2   Running"),
        (
            json!({"phase": "Running", "containerStatuses": [running, {"state": {"waiting": {"reason": "CrashLoopBackOff"}}}]}),
            "1/2   CrashLoopBackOff",
        ),
        (
            json!({"phase": "Failed", "containerStatuses": [{"state": {"terminated": {"exitCode": 3}}}]}),
            "0/2   ExitCode:3",
        ),
        (
            json!({"phase": "Failed", "containerStatuses": [{"state": {"terminated": {"exitCode": 137, "signal": 9}}}]}),
            "0/2   Signal:9",
        ),
        (json!({"phase": "Failed", "reason": "Evicted"}), "0/2   Evicted"),
        (
            json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}],
                   "containerStatuses": [{"state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}, running]}),
            "1/2   Running",
        ),
    ] {
        let line = render("Pod", pod(status), false);
        assert_eq!(line, format!("p   {expected}   0   30m"));
    }
}

#[test]
fn init_containers_come_first() {
    let mut object = pod(json!({"phase": "Pending", "initContainerStatuses": [
        {"name": "i", "state": {"terminated": {"exitCode": 0}}},
        {"name": "j", "state": {"running": {}}},
    ]}));
    object["spec"]["initContainers"] = json!([{"name": "i"}, {"name": "j"}]);
    assert_eq!(render("Pod", object.clone(), false), "p   0/2   Init:1/2   0   30m");
    object["status"]["initContainerStatuses"][1]["state"] = json!({"terminated": {"exitCode": 1, "reason": "Error"}});
    assert_eq!(render("Pod", object.clone(), false), "p   0/2   Init:Error   0   30m");
    object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:59:00Z");
    assert_eq!(render("Pod", object, false), "p   0/2   Terminating   0   30m");
}

#[test]
fn restarts_say_when_last() {
    let object = pod(json!({"phase": "Running", "containerStatuses": [{
        "ready": true, "restartCount": 2, "state": {"running": {}},
        "lastState": {"terminated": {"finishedAt": "2026-01-01T00:55:00Z"}},
    }]}));
    assert_eq!(render("Pod", object, false), "p   1/2   Running   2 (5m ago)   30m");
}

#[test]
fn services_show_node_ports_and_selectors() {
    let object = json!({
        "metadata": {"name": "s", "creationTimestamp": "2026-01-01T00:30:00Z"},
        "spec": {"type": "NodePort", "clusterIP": "10.96.0.9", "selector": {"app": "x"},
                 "ports": [{"port": 80, "nodePort": 30080, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}]},
    });
    assert_eq!(
        render("Service", object, true),
        "s   NodePort   10.96.0.9   <none>   80:30080/TCP,53/UDP   30m   app=x"
    );
}

#[test]
fn nodes_show_cordons() {
    let object = json!({
        "metadata": {"name": "n", "creationTimestamp": "2026-01-01T00:30:00Z", "labels": {"node-role.kubernetes.io/control-plane": ""}},
        "spec": {"unschedulable": true},
        "status": {"conditions": [{"type": "Ready", "status": "Unknown"}], "nodeInfo": {"kubeletVersion": "v1"}},
    });
    assert_eq!(render("Node", object, false), "n   NotReady,SchedulingDisabled   control-plane   30m   v1");
}

#[test]
fn deployments_show_their_selector_in_words() {
    let object = json!({
        "metadata": {"name": "d", "creationTimestamp": "2026-01-01T00:30:00Z"},
        "spec": {"replicas": 3,
            "selector": {"matchLabels": {"a": "b"}, "matchExpressions": [{"key": "k", "operator": "NotIn", "values": ["x", "y"]}]},
            "template": {"spec": {"containers": [{"name": "c", "image": "i"}]}}},
        "status": {"readyReplicas": 2, "updatedReplicas": 3, "availableReplicas": 1},
    });
    assert_eq!(render("Deployment", object, true), "d   2/3   3   1   30m   c   i   a=b,k notin (x,y)");
}

#[test]
fn a_label_has_a_column_when_it_is_asked_for() {
    let object = |labels: Value| json!({"metadata": {"name": "n", "labels": labels}});
    let objects = [object(json!({"topology.kubernetes.io/zone": "a", "tier": "db"})), object(json!({}))];
    let label_columns = vec!["topology.kubernetes.io/zone".to_owned(), "tier".to_owned()];
    let options = TableOptions { label_columns, ..TableOptions::default() };
    let table = table(&of("Other"), &objects, &options, "2026-01-01T01:00:00Z".parse().unwrap());
    let lines: Vec<String> =
        table.render(true).lines().map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(lines, ["NAME AGE ZONE TIER", "n <unknown> a db", "n <unknown> <none> <none>"]);
}
