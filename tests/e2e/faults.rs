//! Faults for real, under a rolling update: processes killed and stopped at any moment, links that flap, a full disk, a
//! Docker Engine that restarts, an etcd member that is lost, clocks that step. After each the cluster converges by itself,
//! no container has restarted that need not, and nothing is left over; the time that it took is printed.
//!
//! A few rounds in the suite; `make faults ROUNDS=100` takes many, `make faults FIRST=100 ROUNDS=20` the next twenty.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cluster::{Cluster, Etcd, eventually, expect_success, http_get};
use crate::web::Web;

fn workload() -> String {
    Web::new(3).on_port(30083).probed().pod(json!({"terminationGracePeriodSeconds": 2})).yaml()
}

/// The rounds in which a fault is tried. Many of them can be taken in several stretches: each round is the same wherever
/// one begins.
fn rounds(usual: u64) -> std::ops::Range<u64> {
    let number = |name: &str, usual| match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text}: not a number")),
        Err(_) => usual,
    };
    let first = number("SKIFF_FAULT_FIRST", 0);
    first..first + number("SKIFF_FAULT_ROUNDS", usual)
}

/// Numbers that differ from round to round and are the same in every run (SplitMix64's finish).
fn draw(round: u64, below: u64) -> u64 {
    let z = round.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (z ^ (z >> 31)) % below
}

fn send(signal: &str, pid: i32) {
    let status = Command::new("kill").args([signal, &pid.to_string()]).status().unwrap();
    assert!(status.success(), "kill {signal} {pid}");
}

fn deployed(cluster: &Cluster) {
    cluster.apply(&workload());
    cluster.ctl(&["rollout", "status", "deployment/web", "--timeout", "90s"]);
}

/// Asks for a new rollout; the server may be away right now.
fn roll(cluster: &Cluster) {
    eventually("a rollout can be asked for", || {
        let output = cluster.try_ctl(&["--request-timeout", "5", "rollout", "restart", "deployment/web"]);
        output.status.success().then_some(())
    });
}

/// Waits until the rollout is over and only its Pods are there, and prints how long that took.
fn converges(cluster: &Cluster, what: &str) {
    let began = Instant::now();
    eventually(&format!("the rollout is over after {what}"), || {
        let output =
            cluster.try_ctl(&["--request-timeout", "5", "rollout", "status", "deployment/web", "--timeout", "30s"]);
        output.status.success().then_some(())
    });
    eventually(&format!("three Pods and their containers, no more, after {what}"), || {
        let output = cluster.try_ctl(&["--request-timeout", "5", "get", "pods", "-l", "app=web", "-o", "json"]);
        let list: Value = serde_json::from_slice(&output.stdout).ok()?;
        let pods = list["items"].as_array()?;
        let ready = |pod: &Value| pod["status"]["containerStatuses"][0]["ready"] == true;
        (pods.len() == 3 && pods.iter().all(ready) && cluster.containers().len() == 6).then_some(())
    });
    println!("{what}: converged in {:.1} s", began.elapsed().as_secs_f64());
    for pod in cluster.pods("app=web") {
        let container = &pod["status"]["containerStatuses"][0];
        assert_eq!(container["restartCount"], 0, "after {what} a container has restarted: {container}");
    }
}

#[test]
fn processes_killed_in_the_middle_of_rollouts() {
    let cluster = Cluster::up_with("kills", &["--nodes", "2"]);
    deployed(&cluster);
    let victims = ["server", "agent-node-1", "agent-node-2"];
    for round in rounds(6) {
        roll(&cluster);
        std::thread::sleep(Duration::from_millis(draw(round, 1500)));
        let victim = victims[(round % victims.len() as u64) as usize];
        send("-9", cluster.process(victim));
        converges(&cluster, &format!("round {round}: kill -9 of {victim}"));
    }
}

#[test]
fn processes_stopped_in_the_middle_of_rollouts() {
    let cluster = Cluster::up_with("stops", &["--nodes", "2"]);
    deployed(&cluster);
    for (round, victim) in ["server", "agent-node-1", "agent-node-2", "supervisor"].iter().enumerate() {
        roll(&cluster);
        std::thread::sleep(Duration::from_millis(draw(round as u64, 800)));
        let pid = cluster.process(victim);
        send("-STOP", pid);
        std::thread::sleep(Duration::from_secs(4));
        send("-CONT", pid);
        converges(&cluster, &format!("SIGSTOP of {victim} for 4 s"));
        assert_eq!(cluster.process(victim), pid, "{victim} was only stopped, and is another process now");
    }
}

#[test]
fn links_that_flap() {
    let cluster = Cluster::up_with("flaps", &["--nodes", "2"]);
    deployed(&cluster);
    let switch = format!("skiff.{}.switch", cluster.name());
    let link = |node: &str, state: &str| {
        let output = Command::new("ip").args(["-n", &switch, "link", "set", node, state]).output().unwrap();
        expect_success("ip link set", &output);
    };
    roll(&cluster);
    for round in rounds(5) {
        let node = ["node-1", "node-2"][(round % 2) as usize];
        link(node, "down");
        std::thread::sleep(Duration::from_millis(200 + draw(round, 1800)));
        link(node, "up");
        std::thread::sleep(Duration::from_millis(draw(round + 100, 600)));
    }
    converges(&cluster, "links that flap");
}

/// A small file system of its own over a folder.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn over(folder: PathBuf, size: &str) -> SmallDisk {
        std::fs::create_dir_all(&folder).unwrap();
        let options = format!("size={size}");
        let output = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "skiff-e2e"]).arg(&folder).output();
        expect_success("mount a small disk", &output.unwrap());
        SmallDisk(folder)
    }

    fn fill(&self) {
        let mut chunk = 1 << 20;
        let mut file = std::fs::File::create(self.0.join("ballast")).unwrap();
        while chunk > 0 {
            if std::io::Write::write_all(&mut file, &vec![0; chunk]).is_err() {
                chunk /= 2;
            }
        }
    }

    fn free(&self) {
        std::fs::remove_file(self.0.join("ballast")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_under_the_store() {
    // Of the embedded store: etcd's disk is etcd's.
    let cluster = Cluster::new("full", vec![], vec![]);
    let disk = SmallDisk::over(cluster.dir().join("store"), "64m");
    cluster.up_again(&["--nodes", "2"]);
    deployed(&cluster);
    let address = format!("{}:30083", cluster.node_addresses()[0]);
    eventually("the Service answers", || http_get(&address, "/plain").ok());
    let containers = cluster.containers();

    disk.fill();
    // What is acknowledged from here on is there afterwards; what is refused says why.
    let write = |name: &str| {
        let file = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
        let text = format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{a: b}}\n");
        std::fs::write(file.path(), text).unwrap();
        cluster.try_ctl(&["--request-timeout", "3", "apply", "-f", file.path().to_str().unwrap()])
    };
    let mut acknowledged = vec![];
    eventually("writes are refused", || {
        let name = format!("c-{}", acknowledged.len());
        let output = write(&name);
        if output.status.success() {
            acknowledged.push(name);
        }
        (!output.status.success()).then_some(())
    });
    std::thread::sleep(Duration::from_secs(3));
    assert!(http_get(&address, "/plain").is_ok(), "packets need no store");
    assert_eq!(cluster.containers(), containers, "a full disk under the store restarts no container");

    disk.free();
    eventually("writes are taken again", || write("after").status.success().then_some(()));
    for name in &acknowledged {
        cluster.ctl(&["get", "configmap", name]);
    }
    roll(&cluster);
    converges(&cluster, "a full disk under the store");
}

#[test]
fn an_etcd_member_is_lost_and_comes_back() {
    let mut cluster = Cluster::new("etcd3", Etcd::start(3), vec![]);
    cluster.up_again(&["--nodes", "2"]);
    deployed(&cluster);
    let members = cluster.etcd.len();
    for round in rounds(members as u64) {
        let member = (round % members as u64) as usize;
        roll(&cluster);
        std::thread::sleep(Duration::from_millis(draw(round, 800)));
        cluster.etcd[member].kill();
        converges(&cluster, &format!("loss of etcd member {member} of {members}"));
        cluster.etcd[member].start_again();
        roll(&cluster);
        converges(&cluster, &format!("return of etcd member {member}"));
    }
}

/// A Docker Engine of this test's own: the machine's is not ours to restart.
struct Engine {
    dir: tempfile::TempDir,
    child: Child,
}

impl Engine {
    fn start() -> Engine {
        let dir = tempfile::Builder::new().prefix("skiff-e2e-docker-").tempdir().unwrap();
        let child = Engine::spawn(dir.path());
        let engine = Engine { dir, child };
        engine.until_it_answers();
        let mut save = Command::new("docker").args(["save", "skiff/demo"]).stdout(Stdio::piped()).spawn().unwrap();
        let load = Command::new("docker")
            .args(["-H", &engine.address(), "load"])
            .stdin(save.stdout.take().unwrap())
            .output()
            .unwrap();
        expect_success("docker load", &load);
        assert!(save.wait().unwrap().success());
        engine
    }

    fn spawn(dir: &std::path::Path) -> Child {
        std::fs::write(dir.join("daemon.json"), "{}").unwrap();
        let socket = format!("unix://{}", dir.join("docker.sock").display());
        Command::new("dockerd")
            .args(["--host", &socket, "--bridge", "none", "--iptables=false", "--ip6tables=false"])
            .arg("--config-file")
            .arg(dir.join("daemon.json"))
            .arg("--data-root")
            .arg(dir.join("data"))
            .arg("--exec-root")
            .arg(dir.join("exec"))
            .arg("--pidfile")
            .arg(dir.join("docker.pid"))
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(dir.join("log")).unwrap())
            .spawn()
            .expect("dockerd is not installed: apt-get install docker.io")
    }

    fn address(&self) -> String {
        format!("unix://{}", self.dir.path().join("docker.sock").display())
    }

    fn until_it_answers(&self) {
        eventually("the test's own Docker Engine answers", || {
            let output = Command::new("docker").args(["-H", &self.address(), "info"]).output().unwrap();
            output.status.success().then_some(())
        });
    }

    fn stop(&mut self) {
        send("-TERM", self.child.id() as i32);
        self.child.wait().unwrap();
    }

    fn start_again(&mut self) {
        self.child = Engine::spawn(self.dir.path());
        self.until_it_answers();
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        let _ = self.child.wait();
    }
}

/// Stopping Docker stops its containers: they have to come back, once each, and nothing beside them.
#[test]
fn docker_restarts() {
    let mut engine = Engine::start();
    {
        let cluster = Cluster::new("docker", vec![], vec![("DOCKER_HOST", engine.address())]);
        cluster.up_again(&["--nodes", "2"]);
        deployed(&cluster);
        let address = format!("{}:30083", cluster.node_addresses()[0]);
        let began = Instant::now();
        engine.stop();
        std::thread::sleep(Duration::from_secs(2));
        engine.start_again();
        eventually("three Pods and their containers run again", || {
            let pods = cluster.pods("app=web");
            let ready = |pod: &Value| pod["status"]["containerStatuses"][0]["ready"] == true;
            (pods.len() == 3 && pods.iter().all(ready) && cluster.containers().len() == 6).then_some(())
        });
        eventually("the Service answers", || http_get(&address, "/plain").ok());
        println!("Docker restarted: converged in {:.1} s", began.elapsed().as_secs_f64());
        roll(&cluster);
        eventually("a rollout goes through", || {
            let output = cluster.try_ctl(&["rollout", "status", "deployment/web", "--timeout", "30s"]);
            (output.status.success() && cluster.containers().len() == 6).then_some(())
        });
    }
}

/// A clock that every process of a cluster reads, and the machine does not.
struct Clock(tempfile::TempDir);

impl Clock {
    fn new() -> Clock {
        let clock = Clock(tempfile::tempdir().unwrap());
        clock.set(0);
        clock
    }

    /// Seconds from the machine's.
    fn set(&self, seconds: i64) {
        std::fs::write(self.0.path().join("clock"), format!("{seconds:+}")).unwrap();
    }

    /// What makes a process read it: the time of day alone, as when somebody sets a machine's clock.
    fn environment(&self) -> Vec<(&'static str, String)> {
        let library = format!("/usr/lib/{}-linux-gnu/faketime/libfaketimeMT.so.1", std::env::consts::ARCH);
        assert!(std::fs::exists(&library).unwrap(), "no {library}: ./setup.sh tests");
        vec![
            ("LD_PRELOAD", library),
            ("FAKETIME_TIMESTAMP_FILE", self.0.path().join("clock").display().to_string()),
            ("FAKETIME_NO_CACHE", "1".into()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()),
        ]
    }
}

#[test]
fn clocks_that_step() {
    let clock = Clock::new();
    let cluster = Cluster::new("clocks", vec![], clock.environment());
    cluster.up_again(&["--nodes", "2"]);
    deployed(&cluster);
    for (round, seconds) in [3600, -3600, 0].into_iter().enumerate() {
        roll(&cluster);
        std::thread::sleep(Duration::from_millis(300));
        clock.set(seconds);
        converges(&cluster, &format!("a clock that steps to {seconds} s from the machine's"));
        let name = format!("made-{round}");
        cluster.ctl(&["create", "configmap", &name]);
        let made = cluster.get(&["configmap", &name]).remove(0)["metadata"]["creationTimestamp"].to_string();
        let made: jiff::Timestamp = made.trim_matches('"').parse().unwrap();
        let ahead = made.as_second() - jiff::Timestamp::now().as_second();
        assert!((ahead - seconds).abs() < 60, "the server's clock is {ahead} s ahead, and {seconds} s were asked for");
    }
}
