//! What examples/monitoring promises, on a real cluster: every part can be scraped with a certificate that may do nothing
//! else, `promtool` finds no fault, alerts and dashboard ask for what there is, and a real Prometheus sees all targets up.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

use crate::cluster::{Cluster, eventually, expect_success};

const WEB: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: skiff/demo, args: [front]}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080}]
"#;

/// Kubernetes' name for a gauge, which promtool would have otherwise.
const TOLERATED: &str = "kubeproxy_sync_proxy_rules_iptables_total non-counter metrics should not have";

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/monitoring")
}

/// Runs promtool in a folder; it must succeed.
fn promtool(folder: &Path, words: &[&str]) {
    let output = Command::new("promtool").args(words).current_dir(folder).output();
    expect_success(&words.join(" "), &output.expect("promtool is not installed: apt-get install prometheus"));
}

/// A folder as prepare.sh makes it, and the address that it was given.
struct Folder {
    dir: tempfile::TempDir,
    server: String,
}

impl Folder {
    fn prepare(cluster: &Cluster) -> Folder {
        let dir = tempfile::tempdir().unwrap();
        let home = cluster.dir().ancestors().nth(2).unwrap().to_owned();
        let output = Command::new(examples().join("prepare.sh"))
            .args([dir.path().to_str().unwrap(), cluster.name()])
            .env("SKIFF_HOME", home)
            .output()
            .unwrap();
        expect_success("prepare.sh", &output);
        let config = std::fs::read_to_string(dir.path().join("prometheus.yml")).unwrap();
        let (_, rest) = config.split_once("url: ").unwrap();
        let server = rest.split("/metrics").next().unwrap().to_owned();
        Folder { dir, server }
    }

    /// GET with the monitoring certificate, or with none: the code and the body.
    fn get(&self, path: &str, certificate: bool) -> (String, String) {
        let mut command = Command::new("curl");
        command.args(["-sS", "--max-time", "20", "--cacert", "ca.crt", "-w", "\n%{http_code}"]);
        if certificate {
            command.args(["--cert", "monitoring.crt", "--key", "monitoring.key"]);
        }
        let output = command.arg(format!("{}{path}", self.server)).current_dir(self.dir.path()).output().unwrap();
        expect_success(&format!("curl {path}"), &output);
        let text = String::from_utf8(output.stdout).unwrap();
        let (body, code) = text.rsplit_once('\n').unwrap();
        (code.to_owned(), body.to_owned())
    }
}

/// What promtool has against a page of measurements.
fn faults(page: &str) -> Vec<String> {
    let mut child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is not installed: apt-get install prometheus");
    child.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
    let Output { stdout, stderr, .. } = child.wait_with_output().unwrap();
    let words = [stdout, stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    words.lines().filter(|line| !line.contains(TOLERATED)).map(str::to_owned).collect()
}

/// The names of a page's series.
fn series(page: &str) -> BTreeSet<String> {
    let samples = page.lines().filter(|line| !line.starts_with('#'));
    samples.filter_map(|line| line.split(['{', ' ']).next()).map(str::to_owned).collect()
}

/// The series that an expression asks for.
fn asked(expression: &str) -> BTreeSet<String> {
    let mut bare = String::new();
    let (mut braces, mut brackets) = (0, 0);
    for c in expression.chars() {
        match c {
            '{' => braces += 1,
            '}' => braces -= 1,
            '[' => brackets += 1,
            ']' => brackets -= 1,
            c if braces == 0 && brackets == 0 => bare.push(c),
            _ => {}
        }
    }
    // Labels that are grouped or joined by are no series.
    for word in ["by (", "on (", "group_right (", "group_left ("] {
        while let Some(at) = bare.find(word) {
            let end = bare[at..].find(')').unwrap() + at;
            bare.replace_range(at..=end, " ");
        }
    }
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut found = BTreeSet::new();
    let mut rest = bare.as_str();
    while let Some(at) = rest.find(|c: char| c.is_ascii_alphabetic()) {
        let word: String = rest[at..].chars().take_while(|c| is_name(*c)).collect();
        rest = &rest[at + word.len()..];
        let called = rest.trim_start().starts_with('(');
        let keyword = ["or", "and", "unless", "by", "on", "group_right", "group_left", "sum", "max"];
        if !called && !keyword.contains(&word.as_str()) {
            found.insert(word);
        }
    }
    found
}

#[test]
fn an_expression_s_series_are_found() {
    let names = |expression: &str| asked(expression).into_iter().collect::<Vec<_>>();
    assert_eq!(names("sum by (le, verb) (rate(a_bucket{x=\"y\"}[5m])) / b > 0.5"), ["a_bucket", "b"]);
    assert_eq!(names("max by (g) (r) - on (g) group_right i or vector(0)"), ["i", "r"]);
    assert_eq!(names("absent(up{job=\"x\"}) or time() - t_seconds > 180"), ["t_seconds", "up"]);
}

/// Every `expr` of the alert rules and of the dashboard.
fn expressions() -> Vec<String> {
    let read = |name: &str| std::fs::read_to_string(examples().join(name)).unwrap();
    let rules: Value = serde_yaml::from_str(&read("alerts.yml")).unwrap();
    let dashboard: Value = serde_json::from_str(&read("dashboard.json")).unwrap();
    let mut found = Vec::new();
    for tree in [rules, dashboard] {
        let mut open = vec![tree];
        while let Some(next) = open.pop() {
            match next {
                Value::Object(fields) => {
                    for (name, value) in fields {
                        match value {
                            Value::String(text) if name == "expr" => found.push(text),
                            value => open.push(value),
                        }
                    }
                }
                Value::Array(items) => open.extend(items),
                _ => {}
            }
        }
    }
    assert!(found.len() > 50, "only {} expressions found", found.len());
    found
}

/// A running Prometheus.
struct Prometheus {
    child: Child,
    address: String,
    _data: tempfile::TempDir,
}

impl Prometheus {
    fn start(folder: &Folder) -> Prometheus {
        let port = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
        let address = format!("127.0.0.1:{port}");
        let config = folder.dir.path().join("prometheus.yml");
        // Quicker than anybody would want it in earnest.
        let text = std::fs::read_to_string(&config).unwrap().replace("interval: 15s", "interval: 3s");
        std::fs::write(&config, text.replace("refresh_interval: 30s", "refresh_interval: 3s")).unwrap();
        let data = tempfile::tempdir().unwrap();
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", data.path().display()))
            .arg(format!("--web.listen-address={address}"))
            .args(["--log.level=error"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("prometheus is not installed: apt-get install prometheus");
        Prometheus { child, address, _data: data }
    }

    /// Which targets are up and which are down, as `job instance`.
    fn targets(&self) -> Option<(BTreeSet<String>, BTreeSet<String>)> {
        let answer = http_get_plain(&self.address, "/api/v1/query?query=up")?;
        let answer: Value = serde_json::from_str(&answer).ok()?;
        let (mut up, mut down) = (BTreeSet::new(), BTreeSet::new());
        for result in answer["data"]["result"].as_array()? {
            let label = |name: &str| result["metric"][name].as_str().unwrap_or_default().to_owned();
            let name = format!("{} {}", label("job"), label("node"));
            if result["value"][1] == "1" {
                up.insert(name)
            } else {
                down.insert(name)
            };
        }
        Some((up, down))
    }
}

/// A GET whose answer may come in chunks.
fn http_get_plain(address: &str, path: &str) -> Option<String> {
    let output = Command::new("curl").args(["-sf", "--max-time", "5", &format!("http://{address}{path}")]).output();
    let output = output.ok().filter(|output| output.status.success())?;
    String::from_utf8(output.stdout).ok()
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn prometheus_sees_all_of_a_cluster() {
    let cluster = Cluster::up_with("monitoring", &["--nodes", "2", "--log-format", "json", "--event-ttl", "30"]);
    cluster.apply(WEB);
    cluster.ctl(&["rollout", "status", "deployment/web", "--timeout", "90s"]);
    let started = || cluster.get(&["events"]).iter().filter(|event| event["reason"] == "Started").count();
    eventually("the Pods' starts are told", || (started() >= 2).then_some(()));
    let folder = Folder::prepare(&cluster);

    // What there is to scrape can be scraped, and promtool has nothing against it.
    let (code, targets) = folder.get("/metrics/targets", true);
    let targets: Value = serde_json::from_str(&targets).unwrap();
    let targets = targets.as_array().unwrap();
    assert_eq!((code.as_str(), targets.len()), ("200", 7), "{targets:?}");
    let wanted: BTreeSet<String> = expressions().iter().flat_map(|expression| asked(expression)).collect();
    let missing = || {
        let mut there = BTreeSet::from(["up".to_owned()]);
        for target in targets {
            let path = target["labels"]["__metrics_path__"].as_str().unwrap();
            let (code, page) = folder.get(path, true);
            assert_eq!(code, "200", "{path}: {page}");
            assert_eq!(faults(&page), Vec::<String>::new(), "{path}");
            assert!(page.contains("\nprocess_resident_memory_bytes "), "{path}");
            there.extend(series(&page));
        }
        wanted.difference(&there).cloned().collect::<Vec<_>>()
    };
    // The proxies' first rules may take a moment.
    eventually("alerts and dashboard ask for what there is", || {
        let missing = missing();
        if !missing.is_empty() {
            eprintln!("not there (yet): {missing:?}");
        }
        missing.is_empty().then_some(())
    });

    // The certificate is good for that and for nothing else.
    assert_eq!(folder.get("/metrics", false).0, "401");
    assert_eq!(folder.get("/readyz?verbose", false).0, "200");
    for path in ["/api/v1/nodes/node-1/proxy/debug/queues", "/api/v1/nodes/node-1:10249/proxy/debug/effects"] {
        assert_eq!(folder.get(path, true).0, "403", "{path}");
    }

    promtool(folder.dir.path(), &["check", "config", "prometheus.yml"]);
    let prometheus = Prometheus::start(&folder);
    let all: BTreeSet<String> = [
        "kube-apiserver ",
        "kube-controller-manager ",
        "kube-scheduler ",
        "kubelet node-1",
        "kubelet node-2",
        "kube-proxy node-1",
        "kube-proxy node-2",
    ]
    .map(str::to_owned)
    .into();
    eventually("all targets are up", || prometheus.targets().filter(|(up, down)| *up == all && down.is_empty()));

    // A node that is silent is seen to be down, and the others are not.
    let agent = cluster.process("agent-node-2").to_string();
    let signal = |name: &str| assert!(Command::new("kill").args([name, &agent]).status().unwrap().success());
    signal("-STOP");
    let lost = BTreeSet::from(["kubelet node-2".to_owned(), "kube-proxy node-2".to_owned()]);
    let seen = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        eventually("the silent node is down", || prometheus.targets().filter(|(_, down)| *down == lost));
    }));
    signal("-CONT");
    seen.unwrap();
    eventually("it is up again", || prometheus.targets().filter(|(up, _)| *up == all));

    // Logs are objects, and those of a reconcile have its id.
    let (mut lines, mut of_reconciles) = (0, 0);
    for name in ["supervisor", "server", "agent-node-1", "agent-node-2"] {
        let log = std::fs::read_to_string(cluster.dir().join("logs").join(format!("{name}.log"))).unwrap();
        for line in log.lines() {
            let line: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{name}: {e}: {line}"));
            lines += 1;
            if line["span"]["name"] == "reconcile" {
                assert_eq!(line["span"]["id"].as_str().map(str::len), Some(10), "{line}");
                of_reconciles += 1;
            }
        }
    }
    assert!(lines > 10 && of_reconciles > 2, "{of_reconciles} of {lines} lines are a reconcile's");
    eventually("Events run out", || (started() == 0).then_some(()));
}

#[test]
fn rules_and_dashboard_are_sound() {
    promtool(&examples(), &["check", "rules", "alerts.yml"]);
    promtool(&examples(), &["test", "rules", "alerts_test.yml"]);
    promtool(&examples(), &["check", "config", "--syntax-only", "prometheus.yml"]);
    // The dashboard's expressions, as rules: promtool reads them.
    let rules: Vec<Value> = (expressions().iter().enumerate())
        .map(|(n, expression)| {
            let expr = expression.replace("$__rate_interval", "5m");
            serde_json::json!({ "record": format!("panel_{n}"), "expr": expr })
        })
        .collect();
    let dir = tempfile::tempdir().unwrap();
    let groups = serde_json::json!({ "groups": [{ "name": "dashboard", "rules": rules }] });
    std::fs::write(dir.path().join("panels.yml"), groups.to_string()).unwrap();
    promtool(dir.path(), &["check", "rules", "panels.yml"]);
}
