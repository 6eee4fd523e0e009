//! A cluster of one test, and looking at it as a user would.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// A running cluster. Dropping it takes it down with all its data.
pub struct Cluster {
    name: String,
    home: tempfile::TempDir,
    /// The etcd servers it is on, if it is not on the embedded store.
    pub etcd: Vec<Etcd>,
    /// What its processes find in their environment, and the Docker client of the test too.
    environment: Vec<(&'static str, String)>,
}

/// How long anything in these tests may take to come true.
pub const PATIENCE: Duration = Duration::from_secs(90);

impl Cluster {
    /// `skiff up` with three nodes.
    pub fn up(name: &str) -> Cluster {
        Cluster::up_with(name, &["--nodes", "3"])
    }

    /// `skiff up` with more words.
    pub fn up_with(name: &str, words: &[&str]) -> Cluster {
        let cluster = Cluster::new(name, Etcd::start_as_asked(), vec![]);
        cluster.up_again(words);
        cluster
    }

    /// A cluster that is not up yet, on these etcd servers (none: the embedded store), with this in its environment.
    pub fn new(name: &str, etcd: Vec<Etcd>, environment: Vec<(&'static str, String)>) -> Cluster {
        let home = tempfile::Builder::new().prefix("skiff-e2e-").tempdir().unwrap();
        Cluster { name: format!("e2e-{name}"), home, etcd, environment }
    }

    /// `skiff up` on what is there.
    pub fn up_again(&self, words: &[&str]) {
        let mut all = vec!["up"];
        all.extend(words);
        let urls: Vec<&str> = self.etcd.iter().map(|e| e.url.as_str()).collect();
        let store = format!("etcd={}", urls.join(","));
        if !urls.is_empty() {
            all.extend(["--store", &store]);
        }
        let output = self.skiff(&all);
        if !output.status.success() {
            for log in self.logs() {
                eprintln!("---- {log}");
            }
        }
        expect_success("skiff up", &output);
    }

    /// The last lines of every process's log.
    fn logs(&self) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.dir().join("logs")) else { return vec![] };
        entries
            .flatten()
            .map(|e| {
                let text = std::fs::read_to_string(e.path()).unwrap_or_default();
                let lines: Vec<&str> = text.lines().collect();
                let tail = lines[lines.len().saturating_sub(40)..].join("\n");
                format!("{}\n{tail}", e.path().display())
            })
            .collect()
    }

    /// The cluster's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// SKIFF_HOME.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// The cluster's folder.
    pub fn dir(&self) -> PathBuf {
        self.home.path().join("clusters").join(&self.name)
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.dir().join("admin.kubeconfig")
    }

    /// Runs `skiff WORDS --name NAME`.
    pub fn skiff(&self, words: &[&str]) -> Output {
        let mut command = Command::new(binary("skiff"));
        command.arg("--home").arg(self.home.path()).args(words).args(["--name", &self.name]);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.output().unwrap()
    }

    /// A `skiffctl` command line, not yet run.
    pub fn ctl_command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(binary("skiffctl"));
        command.args(words).env("KUBECONFIG", self.kubeconfig());
        command
    }

    /// Runs `skiffctl`, whatever comes of it.
    pub fn try_ctl(&self, words: &[&str]) -> Output {
        self.ctl_command(words).output().unwrap()
    }

    /// Runs `skiffctl`, which must succeed; its standard output.
    pub fn ctl(&self, words: &[&str]) -> String {
        let output = self.try_ctl(words);
        expect_success(&format!("skiffctl {}", words.join(" ")), &output);
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs `skiffctl`, which must fail with exit code 1; its standard error.
    pub fn refused(&self, words: &[&str]) -> String {
        let output = self.try_ctl(words);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "skiffctl {}: {error}", words.join(" "));
        error
    }

    /// Applies YAML text.
    pub fn apply(&self, yaml: &str) -> String {
        let file = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
        std::fs::write(file.path(), yaml).unwrap();
        self.ctl(&["apply", "-f", file.path().to_str().unwrap()])
    }

    /// Objects as JSON; their items where they are several.
    pub fn get(&self, words: &[&str]) -> Vec<Value> {
        let mut all = vec!["get"];
        all.extend(words);
        all.extend(["-o", "json"]);
        let value: Value = serde_json::from_str(&self.ctl(&all)).unwrap();
        match value.get("items") {
            Some(Value::Array(items)) => items.clone(),
            _ => vec![value],
        }
    }

    /// The Pods with these labels that are not being deleted.
    pub fn pods(&self, labels: &str) -> Vec<Value> {
        let mut pods = self.get(&["pods", "-l", labels]);
        pods.retain(|p| p["metadata"]["deletionTimestamp"].is_null());
        pods
    }

    /// The nodes' addresses in the order of their names.
    pub fn node_addresses(&self) -> Vec<String> {
        self.get(&["nodes"])
            .iter()
            .map(|n| {
                let addresses = n["status"]["addresses"].as_array().unwrap();
                let internal = addresses.iter().find(|a| a["type"] == "InternalIP").unwrap();
                internal["address"].as_str().unwrap().to_owned()
            })
            .collect()
    }

    /// The process ids of the cluster's processes, by name.
    pub fn processes(&self) -> Vec<(String, i32)> {
        let mut all = vec![];
        for entry in std::fs::read_dir(self.dir().join("run")).unwrap().flatten() {
            let name = entry.file_name().into_string().unwrap();
            let Some(name) = name.strip_suffix(".lock") else { continue };
            if let Ok(pid) = std::fs::read_to_string(entry.path()).unwrap().trim().parse() {
                all.push((name.to_owned(), pid));
            }
        }
        all.sort();
        all
    }

    /// The process id of one of the cluster's processes.
    pub fn process(&self, name: &str) -> i32 {
        let all = self.processes();
        let (_, pid) = all.iter().find(|(n, _)| n == name).unwrap_or_else(|| panic!("{name} is not among {all:?}"));
        *pid
    }

    /// The running containers of this cluster: id and start time, which changes at a restart.
    pub fn containers(&self) -> Vec<(String, String)> {
        let label = format!("label={}={}", skiff_kubelet::runtime::CLUSTER_LABEL, self.name);
        let docker = || {
            let mut command = Command::new("docker");
            command.envs(self.environment.iter().map(|(name, value)| (name, value)));
            command
        };
        let listed = docker().args(["ps", "-q", "--no-trunc", "--filter", &label]).output().unwrap();
        expect_success("docker ps", &listed);
        let ids = String::from_utf8(listed.stdout).unwrap();
        let mut all: Vec<(String, String)> = ids
            .lines()
            .filter_map(|id| {
                // One that is being removed just now may be gone since it was listed.
                let output = docker().args(["inspect", "-f", "{{.State.StartedAt}}", id]).output().unwrap();
                let started = String::from_utf8_lossy(&output.stdout).trim().to_owned();
                output.status.success().then(|| (id.to_owned(), started))
            })
            .collect();
        all.sort();
        all
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // A second panic here would end the process, and bury why the test failed.
        let looked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.take_down()));
        if looked.is_err() {
            eprintln!("cluster {} could not be taken down; the test's own failure stands above", self.name);
        }
    }
}

impl Cluster {
    fn take_down(&self) {
        if std::thread::panicking() {
            for log in self.logs() {
                eprintln!("---- {log}");
            }
            // Without its kubeconfig it has never answered.
            let looks = [&["get", "pods", "-A", "-o", "wide"][..], &["get", "nodes"], &["events", "-A"]];
            for words in looks.into_iter().filter(|_| self.kubeconfig().exists()) {
                let seen = self.ctl_command(words).args(["--request-timeout", "10s"]).output();
                let seen = seen.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
                eprintln!("---- skiffctl {}\n{}", words.join(" "), seen.unwrap_or_else(|error| error.to_string()));
            }
        }
        let output = self.skiff(&["down", "--purge"]);
        if !output.status.success() {
            eprintln!("skiff down: {}", String::from_utf8_lossy(&output.stderr));
        }
    }
}

/// A real etcd server in a folder of its own; one of several, maybe.
pub struct Etcd {
    child: Child,
    words: Vec<String>,
    url: String,
    _dir: tempfile::TempDir,
}

impl Etcd {
    /// What SKIFF_E2E_STORE asks for: one server, or none.
    fn start_as_asked() -> Vec<Etcd> {
        match std::env::var("SKIFF_E2E_STORE").as_deref() {
            Ok("etcd") => Etcd::start(1),
            Ok("embedded") | Err(_) => vec![],
            Ok(other) => panic!("SKIFF_E2E_STORE={other}: there are `embedded` and `etcd`"),
        }
    }

    /// A cluster of so many.
    pub fn start(count: usize) -> Vec<Etcd> {
        let ports: Vec<(u16, u16)> = (0..count).map(|_| (free_port(), free_port())).collect();
        let members: Vec<String> =
            ports.iter().enumerate().map(|(i, (_, peer))| format!("e2e-{i}=http://127.0.0.1:{peer}")).collect();
        let all = (ports.iter().enumerate())
            .map(|(i, (client, peer))| {
                let dir = tempfile::tempdir().unwrap();
                let url = format!("http://127.0.0.1:{client}");
                let peer = format!("http://127.0.0.1:{peer}");
                let mut words: Vec<String> =
                    vec!["--name".into(), format!("e2e-{i}"), "--log-level".into(), "error".into()];
                for (word, value) in [
                    ("--listen-client-urls", &url),
                    ("--advertise-client-urls", &url),
                    ("--listen-peer-urls", &peer),
                    ("--initial-advertise-peer-urls", &peer),
                    ("--initial-cluster", &members.join(",")),
                    ("--data-dir", &dir.path().display().to_string()),
                ] {
                    words.extend([word.to_owned(), value.clone()]);
                }
                Etcd { child: Etcd::spawn(&words), words, url, _dir: dir }
            })
            .collect();
        for (client, _) in ports {
            eventually("etcd answers", || std::net::TcpStream::connect(("127.0.0.1", client)).ok());
        }
        all
    }

    fn spawn(words: &[String]) -> Child {
        let mut command = Command::new("etcd");
        command.args(words).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().expect("etcd is not installed: apt-get install etcd-server")
    }

    /// kill -9.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Runs again, on what it had.
    pub fn start_again(&mut self) {
        self.child = Etcd::spawn(&self.words);
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

/// One of our binaries: in $SKIFF_BIN, or beside the test's own.
pub fn binary(name: &str) -> PathBuf {
    let beside = || std::env::current_exe().unwrap().parent().and_then(Path::parent).unwrap().to_owned();
    let path = std::env::var_os("SKIFF_BIN").map_or_else(beside, PathBuf::from).join(name);
    assert!(path.exists(), "{} is not built: run the end-to-end tests with `make e2e`", path.display());
    path
}

/// Runs `docker`, which must succeed.
pub fn docker(words: &[&str]) -> String {
    let output = Command::new("docker").args(words).output().unwrap();
    expect_success(&format!("docker {}", words.join(" ")), &output);
    String::from_utf8(output.stdout).unwrap()
}

/// Fails with what the command printed unless it succeeded.
pub fn expect_success(what: &str, output: &Output) {
    assert!(
        output.status.success(),
        "{what}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Waits until `look` sees what it looks for.
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "after {} s still not: {what}", PATIENCE.as_secs());
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// One HTTP GET; the body of a 200, or what went wrong.
pub fn http_get(address: &str, path: &str) -> Result<String, String> {
    use std::io::{Read, Write};
    let target = address.parse().map_err(|e| format!("{address}: {e}"))?;
    let mut stream =
        std::net::TcpStream::connect_timeout(&target, Duration::from_secs(3)).map_err(|e| e.to_string())?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).map_err(|e| e.to_string())?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").map_err(|e| e.to_string())?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply).map_err(|e| e.to_string())?;
    let (head, body) = reply.split_once("\r\n\r\n").ok_or_else(|| format!("cut short: {reply:?}"))?;
    match head.split(' ').nth(1) {
        Some("200") => Ok(body.to_owned()),
        _ => Err(head.lines().next().unwrap_or_default().to_owned()),
    }
}
