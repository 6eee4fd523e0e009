//! A rolling update under load, and back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::json;

use crate::cluster::{Cluster, eventually, http_get};
use crate::web::Web;

fn web(release: &str) -> String {
    let web = Web::new(4).on_port(30083).probed();
    let web = web.spec(json!({"strategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}}));
    web.container(json!({"args": ["front", "--release", release]})).yaml()
}

#[test]
fn a_rolling_update_loses_no_request() {
    let cluster = Cluster::up_with("rollout", &["--nodes", "3"]);
    cluster.apply(&web("v1"));
    cluster.ctl(&["rollout", "status", "deployment/web", "--timeout", "90s"]);
    let addresses: Vec<String> = cluster.node_addresses().iter().map(|a| format!("{a}:30083")).collect();
    eventually("every node answers", || addresses.iter().all(|a| http_get(a, "/plain").is_ok()).then_some(()));

    // A client hammers all nodes during the whole update: at least 2,000 requests.
    let done = Arc::new(AtomicBool::new(false));
    let asked = Arc::new(AtomicUsize::new(0));
    let hammer = {
        let (done, asked) = (done.clone(), asked.clone());
        std::thread::spawn(move || {
            let mut failed = vec![];
            let mut next = 0;
            while !done.load(Ordering::SeqCst) || asked.load(Ordering::SeqCst) < 2000 {
                let address = &addresses[next % addresses.len()];
                next += 1;
                if let Err(e) = http_get(address, "/plain") {
                    failed.push(format!("request {next} to {address}: {e}"));
                }
                asked.fetch_add(1, Ordering::SeqCst);
            }
            failed
        })
    };
    let configured = cluster.apply(&web("v2"));
    assert!(
        configured.contains("deployment.apps/web configured") && configured.contains("service/web unchanged"),
        "{configured}"
    );
    cluster.ctl(&["rollout", "status", "deployment/web", "--timeout", "120s"]);
    eventually("only the new release answers", || (cluster.get(&["pods", "-l", "app=web"]).len() == 4).then_some(()));
    done.store(true, Ordering::SeqCst);
    let failed = hammer.join().unwrap();
    let asked = asked.load(Ordering::SeqCst);
    assert!(failed.is_empty(), "{} of {asked} requests failed: {:#?}", failed.len(), &failed[..failed.len().min(10)]);
    println!("{asked} requests during the update, none lost");

    let history = cluster.ctl(&["rollout", "history", "deployment/web"]);
    assert_eq!(history.lines().filter(|l| l.starts_with(['1', '2'])).count(), 2, "{history}");
    assert_eq!(cluster.ctl(&["rollout", "undo", "deployment/web"]), "deployment.apps/web rolled back\n");
    cluster.ctl(&["rollout", "status", "deployment/web", "--timeout", "120s"]);
    let deployment = cluster.get(&["deployment", "web"]).remove(0);
    assert_eq!(deployment["spec"]["template"]["spec"]["containers"][0]["args"][2], "v1");
    let sets = cluster.get(&["replicasets"]);
    assert_eq!(sets.len(), 2, "a rollback reuses the old ReplicaSet");

    cluster.ctl(&["rollout", "pause", "deployment/web"]);
    cluster.ctl(&["set", "env", "deployment/web", "NEW=1"]);
    let paused = cluster.refused(&["rollout", "status", "deployment/web", "--timeout", "1s"]);
    assert!(paused.contains("it is paused; `skiffctl rollout resume deployment/web`"), "{paused}");
}
