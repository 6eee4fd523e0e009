//! What a cluster could leave behind on a machine, taken before and compared after.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::{Value, json};

use crate::cluster::{Cluster, eventually};
use crate::web::Web;

/// The machine's things that Skiff touches, as text, by what shows them.
pub fn snapshot() -> BTreeMap<&'static str, Vec<String>> {
    let lines = |program: &str, words: &[&str]| -> Vec<String> {
        let output = Command::new(program).args(words).output().unwrap();
        let mut lines: Vec<String> = String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let mut iptables = lines("iptables-save", &[]);
    // Comments carry the time; counters move.
    iptables.retain(|l| !l.starts_with('#') && !l.starts_with(':'));
    let mut links: Vec<String> = lines("ip", &["-o", "link"])
        .iter()
        .filter_map(|l| l.split(": ").nth(1).map(|n| n.split('@').next().unwrap_or(n).to_owned()))
        .collect();
    links.sort();
    let mounts: Vec<String> = {
        let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mut points: Vec<String> = table.lines().filter_map(|l| l.split(' ').nth(4)).map(str::to_owned).collect();
        points.retain(|p| !p.starts_with("/var/lib/docker"));
        points.sort();
        points
    };
    BTreeMap::from([
        ("docker ps -a", lines("docker", &["ps", "-a", "-q", "--no-trunc"])),
        ("ip netns", lines("ip", &["netns"])),
        ("ip link", links),
        ("ip route", lines("ip", &["route"])),
        ("iptables-save", iptables),
        ("mounts", mounts),
        ("cgroups", lines("find", &["/sys/fs/cgroup", "-type", "d", "-name", "*skiff*"])),
        ("processes", lines("pgrep", &["-f", "skiff-e2e-"])),
    ])
}

/// A cluster that was used leaves nothing, and two at once do not meet.
#[test]
fn down_leaves_nothing_behind() {
    let before = snapshot();
    {
        let one = Cluster::up_with("one", &["--nodes", "2"]);
        let two = Cluster::up_with("two", &["--nodes", "1"]);
        for cluster in [&one, &two] {
            cluster.apply(&workload());
            cluster.ctl(&["rollout", "status", "deployment/web", "--timeout", "60s"]);
        }
        assert_ne!(one.node_addresses(), two.node_addresses());
        assert_eq!(one.get(&["nodes"]).len(), 2);
        assert_eq!(two.get(&["nodes"]).len(), 1);

        // Down without --purge keeps the objects, and up finds them.
        super::cluster::expect_success("skiff down", &one.skiff(&["down"]));
        assert!(one.containers().is_empty());
        one.up_again(&[]);
        assert_eq!(one.get(&["deployment", "web"])[0]["spec"]["replicas"], 2);
        eventually("the Pods run again", || {
            let pods = one.pods("app=web");
            let ready = |pod: &Value| pod["status"]["containerStatuses"][0]["ready"] == true;
            (pods.len() == 2 && pods.iter().all(ready) && one.containers().len() >= 4).then_some(())
        });
    }
    let after = snapshot();
    for (what, lines) in &before {
        assert_eq!(lines, &after[what], "{what} is not as before");
    }
}

fn workload() -> String {
    let volumes = json!([
        {"name": "scratch", "emptyDir": {"medium": "Memory"}},
        {"name": "settings", "configMap": {"name": "settings"}},
    ]);
    let mounts = json!([{"name": "scratch", "mountPath": "/scratch"}, {"name": "settings", "mountPath": "/settings"}]);
    let web = Web::new(2).pod(json!({"volumes": volumes})).container(json!({"volumeMounts": mounts})).yaml();
    format!("{web}---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: settings}}\ndata: {{a: b}}\n")
}
