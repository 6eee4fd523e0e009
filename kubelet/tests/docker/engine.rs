//! A node for a test: a network namespace, a directory, and a name for its containers; all of it goes at the end.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use nix::sched::{CloneFlags, unshare};
use skiff_kubelet::images::archive::{ImageArchive, ImageFile, architecture};
use skiff_kubelet::images::pause;
use skiff_kubelet::network::real::RealNetwork;
use skiff_kubelet::network::{Network, NodeNetwork, PodNetwork};
use skiff_kubelet::runtime::docker::{DockerOptions, DockerRuntime};
use skiff_kubelet::runtime::{
    ContainerConfig, ContainerReport, ContainerRuntime, Exit, Identity, LogOptions, NamespaceMode, Output, Role,
    SANDBOX_NAME,
};
use skiff_world::World;

pub const SOCKET: &str = "/var/run/docker.sock";
pub const POD_CIDR: &str = "10.231.7.0/24";

/// The program's image; compiled once per process.
pub fn app_image() -> &'static ImageArchive {
    static IMAGE: OnceLock<ImageArchive> = OnceLock::new();
    IMAGE.get_or_init(|| {
        let directory = tempfile::tempdir().expect("a directory");
        let program = directory.path().join("app");
        let status = Command::new(std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into()))
            .args(["--edition", "2021", "-C", "target-feature=+crt-static", "-C", "opt-level=1", "-C", "strip=symbols"])
            .arg("-o")
            .arg(&program)
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/docker/app/main.rs"))
            .status()
            .expect("rustc runs");
        assert!(status.success());
        let content = Bytes::from(std::fs::read(&program).expect("the program"));
        ImageArchive {
            reference: "skiff-test/app:1".into(),
            files: vec![ImageFile { path: "app".into(), content, mode: 0o755 }],
            entrypoint: vec!["/app".into()],
            user: String::new(),
            architecture: architecture(),
        }
    })
}

pub struct Node {
    pub world: World,
    pub runtime: Arc<DockerRuntime>,
    pub network: Arc<RealNetwork>,
    pub name: String,
    directory: tempfile::TempDir,
}

/// Runs a test on a node of its own; where there is no Docker or no root, says so and passes.
pub fn run<F: Future<Output = ()>>(name: &str, test: impl FnOnce(Arc<Node>) -> F) {
    if !nix::unistd::Uid::effective().is_root() || !Path::new(SOCKET).exists() {
        eprintln!("not run: needs root and a Docker Engine at {SOCKET}");
        return;
    }
    // This thread's namespace, and so that of every thread the runtime makes, is the node.
    unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let node = Arc::new(Node::new(name));
    let _cleanup = Cleanup(node.clone());
    runtime.block_on(async {
        node.prepare().await;
        tokio::time::timeout(Duration::from_secs(120), test(node.clone())).await.expect("the test takes too long");
        node.clean().await;
        assert!(node.runtime.containers(None).await.expect("list").is_empty(), "a container was left over");
    });
}

/// After a failure, too: containers by id, mounts by path.
struct Cleanup(Arc<Node>);

impl Drop for Cleanup {
    fn drop(&mut self) {
        let filter = format!("label=skiff.dev/cluster={}", self.0.name);
        let listed = Command::new("docker").args(["ps", "-aq", "--filter", &filter]).output().expect("docker runs");
        for id in String::from_utf8_lossy(&listed.stdout).split_whitespace() {
            let _ = Command::new("docker").args(["rm", "-f", id]).output();
        }
        let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
        let own = self.0.directory.path().display().to_string();
        for path in mounts.lines().filter_map(|line| line.split(' ').nth(1)).filter(|path| path.starts_with(&own)) {
            let _ = nix::mount::umount2(path, nix::mount::MntFlags::MNT_DETACH);
        }
    }
}

impl Node {
    fn new(test: &str) -> Node {
        let world = World::real("kubelet");
        let name = format!("test-{test}-{}", std::process::id());
        let directory = tempfile::tempdir().expect("a directory");
        let options = DockerOptions { socket: SOCKET.into(), cluster: name.clone(), node: "node-1".into() };
        let runtime = Arc::new(DockerRuntime::new(&world, options));
        let network = Arc::new(RealNetwork::new(&world, &name, "node-1", directory.path()));
        Node { world, runtime, network, name, directory }
    }

    /// An engine at a path where there is none.
    pub fn unreachable() -> DockerRuntime {
        let socket = "/nonexistent/docker.sock".into();
        let options = DockerOptions { socket, cluster: "x".into(), node: "y".into() };
        DockerRuntime::new(&World::real("kubelet"), options)
    }

    async fn prepare(&self) {
        pause::ensure(&*self.runtime).await.expect("the pause image");
        let image = app_image();
        self.runtime.load(image.to_tar().expect("an archive")).await.expect("load");
        let found = self.runtime.image(&image.reference).await.expect("look").expect("the image is there");
        assert_eq!(found.id, image.id().expect("a digest"), "the digest is what we say it is");
        let network = NodeNetwork { pod_cidr: POD_CIDR.parse().expect("a range"), node_ip: None };
        self.network.start(&network).await.expect("the node's network");
        self.network.start(&network).await.expect("twice");
    }

    async fn clean(&self) {
        for report in self.runtime.containers(None).await.expect("list") {
            self.runtime.remove(&report.id).await.expect("remove");
        }
        for uid in self.network.pods().await.expect("pods").into_keys() {
            self.network.remove(&uid).await.expect("remove");
        }
        for uid in ["uid-1", "uid-2", "uid-9"] {
            self.runtime.forget_pod(uid).await.expect("cgroups");
        }
        let cgroup = format!("/sys/fs/cgroup/memory{}", skiff_kubelet::runtime::cgroup_parent(&self.name));
        assert!(!Path::new(&cgroup).exists(), "a cgroup was left over: {cgroup}");
        self.network.stop().await.expect("stop");
    }

    pub fn directory(&self) -> PathBuf {
        self.directory.path().to_path_buf()
    }

    /// What a restarted kubelet would make of the same node.
    pub fn second_network(&self) -> RealNetwork {
        RealNetwork::new(&self.world, &self.name, "node-1", self.directory.path())
    }

    pub fn identity(&self, uid: &str, role: Role, container: &str, attempt: u32) -> Identity {
        Identity {
            cluster: self.name.clone(),
            node: "node-1".into(),
            pod_namespace: "default".into(),
            pod_name: "web".into(),
            pod_uid: uid.into(),
            role,
            container: container.into(),
            attempt,
            sandbox: String::new(),
            spec_hash: String::new(),
            backoff_seconds: 0,
            grace_seconds: 30,
            cause: "a test".into(),
        }
    }

    /// A Pod's namespace and its pause, running.
    pub async fn sandbox(&self, uid: &str, attempt: u32) -> (ContainerReport, PodNetwork) {
        let pod = self.network.add(uid).await.expect("the Pod's network");
        let identity = self.identity(uid, Role::Sandbox, SANDBOX_NAME, attempt);
        let hostname = uid.replace("uid", "web");
        (self.pause(identity, &pod.namespace, &hostname).await, pod)
    }

    /// pause in a namespace.
    pub async fn pause(&self, identity: Identity, namespace: &Path, hostname: &str) -> ContainerReport {
        let config = skiff_kubelet::sandbox::pause_config(identity, &pause::reference(), namespace, hostname);
        let report = self.start(&config).await;
        assert_eq!(config.ipc, NamespaceMode::Shareable);
        report
    }

    pub async fn start(&self, config: &ContainerConfig) -> ContainerReport {
        let id = self.runtime.create(config).await.expect("create");
        self.runtime.start(&id).await.expect("start");
        // pause enters its namespace right after it was started.
        tokio::time::sleep(Duration::from_millis(100)).await;
        self.report(&id).await
    }

    pub async fn report(&self, id: &str) -> ContainerReport {
        let all = self.runtime.containers(None).await.expect("list");
        all.into_iter().find(|report| report.id == id).expect("the container is there")
    }

    pub async fn wait_exit(&self, id: &str) -> Exit {
        for _ in 0..200 {
            if let Some(exit) = self.report(id).await.exit() {
                return exit.clone();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("container {id} did not end: {:?}", self.report(id).await);
    }

    pub async fn pieces(&self, id: &str, options: &LogOptions) -> Vec<Output> {
        let stream = self.runtime.logs(id, options).await.expect("logs");
        stream.map(|piece| piece.expect("a piece")).collect().await
    }

    pub async fn log(&self, id: &str) -> String {
        let pieces = self.pieces(id, &LogOptions::default()).await;
        pieces
            .iter()
            .map(|(Output::Stdout(bytes) | Output::Stderr(bytes))| String::from_utf8_lossy(bytes).into_owned())
            .collect()
    }

    /// The body of an HTTP answer, tried until somebody listens.
    pub async fn get(&self, address: &str) -> String {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        for _ in 0..100 {
            if let Ok(mut stream) = tokio::net::TcpStream::connect(address).await {
                stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("write");
                let mut answer = String::new();
                stream.read_to_string(&mut answer).await.expect("read");
                return answer.rsplit("\r\n\r\n").next().unwrap_or_default().to_string();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("nobody answers at {address}");
    }
}
