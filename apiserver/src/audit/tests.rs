//! The log's lines and files.

use super::event::{Done, Object, line};
use super::{Audit, AuditOptions};
use serde_json::{Value, json};
use skiff_world::Identity;
use skiff_world::sim::{Sim, Simulation};

fn done(name: &str) -> Done {
    Done {
        id: "7f".into(),
        user: Identity::new("ann", &["dev"]),
        verb: "create",
        object: Object {
            resource: "deployments".into(),
            namespace: "default".into(),
            name: name.into(),
            api_group: "apps".into(),
            api_version: "v1".into(),
            subresource: "scale".into(),
        },
        program: "kubectl".into(),
        code: 201,
        refusal: None,
        named_by: None,
        allowed: Some(crate::auth::Grant::Node),
        dry_run: false,
        between: (jiff::Timestamp::UNIX_EPOCH, jiff::Timestamp::from_millisecond(1500).expect("in range")),
    }
}

fn read(done: &Done) -> Value {
    let mut lines = Vec::new();
    line(done, &mut lines);
    assert_eq!(lines.iter().filter(|byte| **byte == b'\n').count(), 1, "one line");
    serde_json::from_slice(&lines).expect("JSON")
}

#[test]
fn a_line_says_who_did_what_and_why_they_could() {
    let line = read(&done("web"));
    assert_eq!(
        line,
        json!({
            "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "Metadata", "auditID": "7f",
            "stage": "ResponseComplete", "verb": "create", "userAgent": "kubectl",
            "requestURI": "/apis/apps/v1/namespaces/default/deployments/web/scale",
            "user": {"username": "ann", "groups": ["dev"]},
            "objectRef": {
                "resource": "deployments", "namespace": "default", "name": "web", "apiGroup": "apps",
                "apiVersion": "v1", "subresource": "scale",
            },
            "responseStatus": {"metadata": {}, "code": 201},
            "requestReceivedTimestamp": "1970-01-01T00:00:00.000000Z",
            "stageTimestamp": "1970-01-01T00:00:01.500000Z",
            "annotations": {"authorization.k8s.io/decision": "allow", "authorization.k8s.io/reason": "allowed to a node, for what its Pods need"},
        })
    );
    let admin = Identity::new("admin", &["system:masters"]);
    let refused = Done {
        user: Identity { impersonator: Some(Box::new(admin)), ..Identity::new("ann", &["dev"]) },
        code: 403,
        refusal: Some(("Forbidden".into(), "no\n\"really\"".into())),
        allowed: None,
        ..done("a\nb")
    };
    let line = read(&refused);
    assert_eq!((&line["user"]["username"], &line["impersonatedUser"]["username"]), (&json!("admin"), &json!("ann")));
    assert_eq!(line["annotations"], json!({"authorization.k8s.io/decision": "forbid"}));
    assert_eq!(line["responseStatus"]["message"], "no\n\"really\"");
}

#[test]
fn the_log_is_bounded_and_goes_on_where_it_was() {
    Simulation::new(1).run(|sim: Sim| async move {
        let machine = sim.machine("server");
        let options = AuditOptions { file: "/audit/audit.log".into(), file_bytes: 2_000, older: 2 };
        let world = machine.world("apiserver", None);
        let audit = Audit::open(&world, options.clone()).await.expect("opened");
        for n in 0..40 {
            audit.record(done(&format!("web-{n}")));
            audit.flush().await;
        }
        world.stop().await;

        let world = machine.world("apiserver", None);
        let audit = Audit::open(&world, options).await.expect("opened again");
        audit.record(done("last"));
        audit.flush().await;
        let disk = world.disk();
        let names = |file: &str| -> Vec<String> {
            let bytes = disk.read(file).expect("there");
            assert!(bytes.len() < 3_000, "{file}: {} bytes", bytes.len());
            let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
            let names = lines.map(|line| serde_json::from_slice::<Value>(line).expect("a whole line"));
            names.map(|line| line["objectRef"]["name"].as_str().expect("a name").to_owned()).collect()
        };
        let all: Vec<String> =
            ["/audit/audit.log.2", "/audit/audit.log.1", "/audit/audit.log"].iter().flat_map(|f| names(f)).collect();
        let first = all[0].strip_prefix("web-").and_then(|n| n.parse::<u32>().ok()).expect("a number");
        let expected: Vec<String> = (first..40).map(|n| format!("web-{n}")).chain(["last".to_owned()]).collect();
        assert_eq!(all, expected, "the newest are there, in order, none twice");
        assert!(!disk.exists("/audit/audit.log.3"), "the oldest goes");
    });
}
