//! What users ask of a node, through the tunnel: logs, exec, attach, port-forward, metrics. The kubelet listens nowhere.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use skiff_client::tunnel::{Channel, Close, StreamEvent, StreamReceiver, StreamSender};
use skiff_client::{Controls, TunnelHandler, TunnelStream, stepping};
use skiff_proto::skiffv1::stream_open::Request;
use skiff_proto::skiffv1::{ExecRequest, LogsRequest, PortForwardRequest, StreamOpen};
use skiff_world::{Address, Connection};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::lifecycle::{PodKey, ephemeral};
use crate::network::ByteStream;
use crate::pods::Pods;
use crate::runtime::{ContainerReport, ExecConfig, LogOptions, Output, Role, RuntimeError, Session};

/// After its output has ended a process may take a moment to be counted as ended.
const EXIT_CODE_TRIES: u32 = 50;
const EXIT_CODE_PAUSE: Duration = Duration::from_millis(20);
const READ_SIZE: usize = 16 * 1024;
/// How long connecting to a Pod may take.
const DIAL: Duration = Duration::from_secs(10);

/// Serves one node's Pods.
pub struct Server {
    /// the Pods
    pub pods: Arc<Pods>,
    /// gates, queues and measurements
    pub controls: Controls,
}

#[async_trait]
impl TunnelHandler for Server {
    async fn open(&self, request: StreamOpen, stream: TunnelStream) {
        let (sender, receiver) = stream.split();
        let served = match request.request {
            Some(Request::Logs(logs)) => self.logs(&logs, &sender).await,
            Some(Request::Exec(exec)) => self.exec(&exec, &sender, receiver).await,
            Some(Request::PortForward(forward)) => self.port_forward(&forward, &sender, receiver).await,
            Some(Request::HttpGet(get)) => match self.page(&get.path) {
                Some(text) => {
                    // If it cannot be sent, nobody is there to be told.
                    let _ = sender.send(Channel::Stdout, text).await;
                    Ok(Close::Done)
                }
                None => Err(Close::failed("NotFound", format!("there is nothing at {}", get.path))),
            },
            Some(Request::Step(step)) => Ok(stepping::serve(&self.controls, &step, &sender, receiver).await),
            None => Err(Close::failed("BadRequest", "the stream asks for nothing that a kubelet knows")),
        };
        sender.close(served.unwrap_or_else(|close| close)).await;
    }
}

fn internal(error: impl std::fmt::Display) -> Close {
    Close::failed("InternalError", error.to_string())
}

fn runtime(error: RuntimeError) -> Close {
    if error.is_not_found() { Close::failed("NotFound", error.to_string()) } else { internal(error) }
}

/// Whether an address can be a Pod's: none of the machine's own, and none of a link's own.
fn may_be_dialled(ip: IpAddr) -> bool {
    let link_local = match ip.to_canonical() {
        IpAddr::V4(ip) => ip.is_link_local() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    let ip = ip.to_canonical();
    !(ip.is_loopback() || ip.is_unspecified() || ip.is_multicast() || link_local)
}

impl Server {
    /// A page about this node.
    fn page(&self, path: &str) -> Option<String> {
        match path {
            "/pods" => Some(self.pods_page()),
            path => self.controls.http_get(path),
        }
    }

    /// The Pods of this node, as its kubelet knows them.
    fn pods_page(&self) -> String {
        let pods = self.pods.keys().into_iter().filter_map(|key| self.pods.pod(&key));
        let items: Vec<String> =
            pods.map(|pod| String::from_utf8_lossy(&skiff_proto::json::encode(pod.as_ref())).into_owned()).collect();
        format!(r#"{{"kind":"PodList","apiVersion":"v1","metadata":{{}},"items":[{}]}}"#, items.join(","))
    }

    /// The Pod that is meant: of this uid, if one is given.
    fn pod(&self, namespace: &str, name: &str, uid: &str) -> Result<PodKey, Close> {
        let mut keys = self.pods.keys().into_iter();
        let found = keys.find(|key| {
            key.namespace == namespace
                && key.name == name
                && (if uid.is_empty() { self.pods.pod(key).is_some() } else { key.uid == uid })
        });
        found.ok_or_else(|| Close::failed("NotFound", format!("Pod {namespace}/{name} is not on this node")))
    }

    /// The latest container of the name, or the one before.
    fn container(&self, key: &PodKey, name: &str, previous: bool) -> Result<ContainerReport, Close> {
        let name = match name {
            "" => self.only_container(key)?,
            name => name.to_string(),
        };
        let mut all = self.pods.containers(key);
        all.retain(|report| report.identity.role != Role::Sandbox && report.identity.container == name);
        all.sort_by_key(|report| report.identity.attempt);
        let latest = all.pop();
        let found = if previous { all.pop() } else { latest };
        found.ok_or_else(|| {
            let which = if previous { "previous terminated container" } else { "container" };
            Close::failed(
                "BadRequest",
                format!("{which} \"{name}\" in pod \"{}\" not found or not started yet", key.name),
            )
        })
    }

    fn only_container(&self, key: &PodKey) -> Result<String, Close> {
        let pod = self.pods.pod(key).ok_or_else(|| Close::failed("NotFound", format!("Pod {key} is gone")))?;
        let names: Vec<&str> = pod.spec.containers.iter().map(|container| container.name.as_str()).collect();
        match names.as_slice() {
            [one] => Ok(one.to_string()),
            several => {
                let message = format!(
                    "a container name must be specified for pod {}, choose one of: [{}]",
                    key.name,
                    several.join(" ")
                );
                Err(Close::failed("BadRequest", message))
            }
        }
    }

    async fn logs(&self, request: &LogsRequest, sender: &StreamSender) -> Result<Close, Close> {
        let key = self.pod(&request.namespace, &request.pod, &request.pod_uid)?;
        let container = self.container(&key, &request.container, request.previous)?;
        let now = self.pods.shared.world.wall();
        let seconds = request.since_seconds.and_then(|seconds| u64::try_from(seconds).ok());
        let options = LogOptions {
            follow: request.follow,
            tail: request.tail_lines.and_then(|lines| u64::try_from(lines).ok()),
            since: seconds.and_then(|seconds| now.checked_sub(Duration::from_secs(seconds)).ok()),
            timestamps: request.timestamps,
        };
        let mut log = self.pods.shared.runtime.logs(&container.id, &options).await.map_err(runtime)?;
        while let Some(piece) = log.next().await {
            // A log is one text, whichever way it was printed.
            let (Output::Stdout(bytes) | Output::Stderr(bytes)) = piece.map_err(runtime)?;
            if sender.send(Channel::Stdout, bytes).await.is_err() {
                break;
            }
        }
        Ok(Close::Done)
    }

    async fn exec(&self, request: &ExecRequest, sender: &StreamSender, input: StreamReceiver) -> Result<Close, Close> {
        let key = self.pod(&request.namespace, &request.pod, &request.pod_uid)?;
        let container = self.container(&key, &request.container, false)?;
        if !container.is_running() {
            let name = &container.identity.container;
            return Err(Close::failed("BadRequest", format!("container {name} of pod {} is not running", key.name)));
        }
        let runtime_of = &self.pods.shared.runtime;
        let session = if request.attach {
            runtime_of.attach(&container.id, request.stdin, request.replay).await
        } else if request.command.is_empty() {
            return Err(Close::failed("BadRequest", "you must specify at least one command for the container"));
        } else {
            let config = ExecConfig { command: request.command.clone(), stdin: request.stdin, tty: request.tty };
            runtime_of.exec(&container.id, &config).await
        };
        let hears_the_end = !request.attach || self.hears_the_end(&key, &container.identity.container);
        self.converse(session.map_err(runtime)?, sender, input, hears_the_end).await
    }

    /// Whether a container's input ends with that of whoever attaches first: its `stdinOnce`. For any other the engine takes
    /// an end as the wish to hear nothing more, and what the container still says would be lost.
    fn hears_the_end(&self, key: &PodKey, container: &str) -> bool {
        let Some(pod) = self.pods.pod(key) else { return false };
        let plain = pod.spec.init_containers.iter().chain(&pod.spec.containers).cloned();
        plain.chain(ephemeral::all(&pod)).any(|c| c.name == container && c.stdin_once)
    }

    /// Between a process and the user, until the process has ended or the user is gone.
    async fn converse(
        &self,
        session: Session,
        sender: &StreamSender,
        mut user: StreamReceiver,
        hears_the_end: bool,
    ) -> Result<Close, Close> {
        let Session { target, mut output, mut input } = session;
        let runtime_of = &self.pods.shared.runtime;
        let mut stdin_open = true;
        loop {
            tokio::select! {
                biased;
                piece = output.next() => {
                    let sent = match piece {
                        Some(Ok(Output::Stdout(bytes))) => sender.send(Channel::Stdout, bytes).await,
                        Some(Ok(Output::Stderr(bytes))) => sender.send(Channel::Stderr, bytes).await,
                        Some(Err(error)) => return Err(runtime(error)),
                        None => break,
                    };
                    if sent.is_err() {
                        return Ok(Close::Done);
                    }
                }
                event = user.recv() => match event {
                    Some(StreamEvent::Data { channel: Channel::Stdin, bytes }) if stdin_open => {
                        // A process that reads no more is no failure.
                        stdin_open = input.write_all(&bytes).await.is_ok() && input.flush().await.is_ok();
                    }
                    Some(StreamEvent::Data { channel: Channel::Resize, bytes }) => {
                        if let [a, b, c, d] = bytes[..] {
                            let (columns, rows) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
                            if let Err(error) = runtime_of.resize(&target, columns, rows).await {
                                tracing::debug!(%error, "cannot resize the terminal");
                            }
                        }
                    }
                    Some(StreamEvent::End(Channel::Stdin)) => {
                        stdin_open = false;
                        if hears_the_end {
                            let _ = input.shutdown().await;
                        }
                    }
                    Some(StreamEvent::Closed(_)) | None => return Ok(Close::Done),
                    Some(_) => {}
                },
            }
        }
        for _ in 0..EXIT_CODE_TRIES {
            if let Some(code) = runtime_of.exit_code(&target).await.map_err(runtime)? {
                return Ok(Close::Exit(code));
            }
            self.pods.shared.world.sleep(EXIT_CODE_PAUSE).await;
        }
        Ok(Close::Done)
    }

    /// Connects to a Pod from the node. Its address is the one that this kubelet has given it.
    async fn dial(&self, ip: IpAddr, port: u16) -> Result<Connection, Close> {
        let to = SocketAddr::new(ip, port).to_string();
        let unreachable = |why: String| Close::failed("ServiceUnavailable", format!("dial tcp {to}: {why}"));
        if !may_be_dialled(ip) {
            return Err(unreachable("the address is not allowed".into()));
        }
        let address = Address::Tcp(to.clone());
        match tokio::time::timeout(DIAL, self.pods.shared.world.connect(&address)).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => Err(unreachable(error.to_string())),
            Err(_) => Err(unreachable(format!("no connection within {} s", DIAL.as_secs()))),
        }
    }

    async fn port_forward(
        &self,
        request: &PortForwardRequest,
        sender: &StreamSender,
        mut user: StreamReceiver,
    ) -> Result<Close, Close> {
        let key = self.pod(&request.namespace, &request.pod, &request.pod_uid)?;
        let bad = || Close::failed("BadRequest", format!("{} is not a port", request.port));
        let port = u16::try_from(request.port).ok().filter(|port| *port > 0).ok_or_else(bad)?;
        let connection: Box<dyn ByteStream> = if request.by_address {
            let address = self
                .pods
                .address(&key)
                .ok_or_else(|| Close::failed("ServiceUnavailable", format!("pod {} has no address yet", key.name)))?;
            Box::new(self.dial(address, port).await?)
        } else {
            let host_network = self.pods.pod(&key).is_some_and(|pod| pod.spec.host_network);
            let uid = (!host_network).then_some(key.uid.as_str());
            self.pods.shared.network.dial(uid, port).await.map_err(internal)?
        };
        let (mut from_pod, mut to_pod) = tokio::io::split(connection);
        let out = async {
            let mut buffer = vec![0; READ_SIZE];
            while let Ok(length @ 1..) = from_pod.read(&mut buffer).await {
                if sender.send(Channel::Stdout, buffer[..length].to_vec()).await.is_err() {
                    return;
                }
            }
            let _ = sender.end(Channel::Stdout).await;
        };
        let inward = async {
            while let Some(event) = user.recv().await {
                match event {
                    StreamEvent::Data { channel: Channel::Stdin, bytes } => {
                        let written = to_pod.write_all(&bytes).await;
                        if written.is_err() {
                            return;
                        }
                    }
                    StreamEvent::End(Channel::Stdin) => {
                        let _ = to_pod.shutdown().await;
                    }
                    StreamEvent::Closed(_) => return,
                    _ => {}
                }
            }
        };
        // The Pod's end decides: a user who has sent all may still wait for the answer.
        tokio::select! {
            biased;
            () = out => {}
            () = inward => {}
        }
        Ok(Close::Done)
    }
}
