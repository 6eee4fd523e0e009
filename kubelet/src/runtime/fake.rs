//! A container runtime for the simulation: containers are entries in a table, programs are scripts by image name.
//!
//! The engine outlives the kubelet, as Docker does: it runs in the World of the *machine*, so a simulated crash of the
//! kubelet stops nothing here. Latencies are drawn from that World's randomness, so one seed is one run. As with Docker,
//! whoever begins to follow the events is first told those of the last seconds again.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use skiff_world::World;
use skiff_world::watch;
use tokio::sync::broadcast;

use super::{
    ContainerConfig, ContainerReport, ContainerRuntime, ExecConfig, Exit, ImageReport, LogOptions, Output, RunState,
    RuntimeError, RuntimeEvent, RuntimeInfo, Session, SessionTarget,
};

/// How far back a new reader of the events is told what it may know already; the kubelet asks Docker for as much.
const REPLAYED: Duration = Duration::from_secs(3);

/// How the programs of an image behave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    /// ends by itself after so long, with this code
    pub exits: Option<(Duration, i32)>,
    /// how long it takes to end when asked to; None: it does not listen
    pub stops_within: Option<Duration>,
    /// cannot be started, with these words
    pub start_error: Option<String>,
    /// exit code of commands run in it, by the command's first word; 0 for others
    pub commands: BTreeMap<String, i32>,
}

impl Default for Script {
    /// Runs until it is told to stop, and then stops at once.
    fn default() -> Script {
        Script {
            exits: None,
            stops_within: Some(Duration::from_millis(20)),
            start_error: None,
            commands: BTreeMap::new(),
        }
    }
}

/// What is wrong with the engine as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// nothing
    Well,
    /// it takes connections and never answers
    Hung,
    /// nobody is there
    Down,
}

struct Container {
    config: ContainerConfig,
    state: RunState,
    log: Vec<Output>,
}

struct Engine {
    containers: BTreeMap<String, Container>,
    images: BTreeMap<String, ()>,
    scripts: BTreeMap<String, Script>,
    missing: Vec<String>,
    sessions: BTreeMap<String, i32>,
    health: Health,
    next: u32,
    starts: u64,
    recent: VecDeque<(tokio::time::Instant, RuntimeEvent)>,
}

/// The engine of one simulated machine. Clones are the same engine.
#[derive(Clone)]
pub struct FakeRuntime {
    machine: World,
    engine: Arc<Mutex<Engine>>,
    events: broadcast::Sender<RuntimeEvent>,
    changed: Arc<watch::Sender<u64>>,
}

impl FakeRuntime {
    /// An engine without containers. Every image can be pulled unless [`FakeRuntime::lose_image`] says otherwise.
    pub fn new(machine: &World) -> FakeRuntime {
        let engine = Engine {
            containers: BTreeMap::new(),
            images: BTreeMap::new(),
            scripts: BTreeMap::new(),
            missing: Vec::new(),
            sessions: BTreeMap::new(),
            health: Health::Well,
            next: 1,
            starts: 0,
            recent: VecDeque::new(),
        };
        FakeRuntime {
            machine: machine.clone(),
            engine: Arc::new(Mutex::new(engine)),
            events: broadcast::channel(256).0,
            changed: Arc::new(watch::channel(0).0),
        }
    }

    /// How programs of this image behave from now on.
    pub fn script(&self, image: &str, script: Script) {
        self.lock().scripts.insert(image.to_string(), script);
    }

    /// The registry does not have this image.
    pub fn lose_image(&self, image: &str) {
        let mut engine = self.lock();
        engine.images.remove(image);
        engine.missing.push(image.to_string());
    }

    /// The engine falls ill or recovers.
    pub fn set_health(&self, health: Health) {
        self.lock().health = health;
        self.changed.send_modify(|count| *count += 1);
    }

    /// How many times a container was started, ever.
    pub fn starts(&self) -> u64 {
        self.lock().starts
    }

    /// All containers, as the engine itself knows them, whatever its health.
    pub fn all(&self) -> Vec<ContainerReport> {
        let engine = self.lock();
        engine.containers.iter().map(|(id, container)| report(id, container)).collect()
    }

    /// Ends a container from outside, as `docker kill` or the kernel does.
    pub fn end(&self, id: &str, code: i32) {
        self.exit(id, code);
    }

    /// Removes every container from outside, as `docker rm -f` does.
    pub fn remove_all(&self) {
        for container in self.all() {
            self.exit(&container.id, 137);
            self.lock().containers.remove(&container.id);
            self.announce(&container.identity.pod_uid, "destroy");
        }
    }

    /// Makes the program print.
    pub fn print(&self, id: &str, text: &str) {
        if let Some(container) = self.lock().containers.get_mut(id) {
            container.log.push(Output::Stdout(Bytes::copy_from_slice(text.as_bytes())));
        }
        self.changed.send_modify(|count| *count += 1);
    }

    fn lock(&self) -> MutexGuard<'_, Engine> {
        self.engine.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// A call takes a while, and fails where the engine is ill.
    async fn call(&self, operation: &str, least_ms: u64, most_ms: u64) -> Result<(), RuntimeError> {
        let spread = self.machine.random_below(most_ms - least_ms + 1);
        self.machine.sleep(Duration::from_millis(least_ms + spread)).await;
        let after = Duration::from_secs(10);
        // A hung engine that goes on, as one that was stopped does, answers the calls that still wait.
        let mut changes = self.changed.subscribe();
        let answers = changes.wait_for(|_| self.lock().health != Health::Hung);
        let health = tokio::select! {
            biased;
            _ = answers => self.lock().health,
            () = self.machine.sleep(after) => Health::Hung,
        };
        match health {
            Health::Well => Ok(()),
            Health::Hung => Err(RuntimeError::Timeout { operation: operation.to_string(), after }),
            Health::Down => Err(RuntimeError::Unreachable {
                operation: operation.to_string(),
                reason: "connection refused".to_string(),
            }),
        }
    }

    fn announce(&self, pod_uid: &str, action: &str) {
        let event = RuntimeEvent { pod_uid: pod_uid.to_string(), action: action.to_string() };
        let now = self.machine.now();
        {
            let mut engine = self.lock();
            engine.recent.push_back((now, event.clone()));
            while engine.recent.front().is_some_and(|(at, _)| now.duration_since(*at) > REPLAYED) {
                engine.recent.pop_front();
            }
        }
        // Nobody listening is fine: the kubelet lists when it comes back.
        let _ = self.events.send(event);
        self.changed.send_modify(|count| *count += 1);
    }

    fn exit(&self, id: &str, code: i32) {
        let uid = {
            let mut engine = self.lock();
            let Some(container) = engine.containers.get_mut(id) else {
                return;
            };
            let RunState::Running { started_at, .. } = container.state else {
                return;
            };
            container.state = RunState::Exited(Exit {
                code,
                oom_killed: false,
                start_error: None,
                started_at: Some(started_at),
                finished_at: self.machine.wall(),
            });
            container.config.identity.pod_uid.clone()
        };
        self.announce(&uid, "die");
    }

    /// Ends a container after a while, if it is still the same run.
    fn exit_later(&self, id: &str, after: Duration, code: i32) {
        let (engine, id) = (self.clone(), id.to_string());
        self.machine.spawn("fake container", async move {
            engine.machine.sleep(after).await;
            engine.exit(&id, code);
        });
    }

    fn find(&self, operation: &str, id: &str) -> Result<ContainerReport, RuntimeError> {
        let engine = self.lock();
        let container = engine.containers.get(id).ok_or_else(|| not_found(operation, id))?;
        Ok(report(id, container))
    }

    fn script_of(&self, image: &str) -> Script {
        self.lock().scripts.get(image).cloned().unwrap_or_default()
    }
}

fn not_found(operation: &str, id: &str) -> RuntimeError {
    RuntimeError::NotFound { operation: operation.to_string(), message: format!("No such container: {id}") }
}

fn refused(operation: &str, message: String) -> RuntimeError {
    RuntimeError::Refused { operation: operation.to_string(), message }
}

fn report(id: &str, container: &Container) -> ContainerReport {
    ContainerReport {
        id: id.to_string(),
        identity: container.config.identity.clone(),
        image: container.config.image.clone(),
        image_id: format!("sha256:{}", container.config.image),
        stop_signal: "TERM".to_string(),
        state: container.state.clone(),
    }
}

#[async_trait]
impl ContainerRuntime for FakeRuntime {
    async fn info(&self) -> Result<RuntimeInfo, RuntimeError> {
        self.call("say how it is", 1, 2).await?;
        Ok(RuntimeInfo {
            version: "fake://1".into(),
            os: "linux".into(),
            architecture: "amd64".into(),
            kernel: "simulated".into(),
            os_image: "simulated".into(),
        })
    }

    async fn containers(&self, pod_uid: Option<&str>) -> Result<Vec<ContainerReport>, RuntimeError> {
        self.call("list containers", 1, 5).await?;
        let mut all = self.all();
        all.retain(|report| pod_uid.is_none_or(|uid| report.identity.pod_uid == uid));
        all.sort_by_key(|report| report.identity.container_name());
        Ok(all)
    }

    async fn create(&self, config: &ContainerConfig) -> Result<String, RuntimeError> {
        let operation = format!("create container {}", config.identity.container_name());
        self.call(&operation, 5, 40).await?;
        let mut engine = self.lock();
        if !engine.images.contains_key(&config.image) {
            let message = format!("No such image: {}", config.image);
            return Err(RuntimeError::NotFound { operation, message });
        }
        let name = config.identity.container_name();
        if let Some((id, _)) = engine.containers.iter().find(|(_, c)| c.config.identity.container_name() == name) {
            return Ok(id.clone());
        }
        let id = format!("{:012x}", engine.next);
        engine.next += 1;
        let container = Container { config: config.clone(), state: RunState::Created, log: Vec::new() };
        engine.containers.insert(id.clone(), container);
        Ok(id)
    }

    async fn start(&self, id: &str) -> Result<(), RuntimeError> {
        let operation = "start the container";
        self.call(operation, 20, 90).await?;
        let report = self.find(operation, id)?;
        if report.state != RunState::Created {
            return Ok(());
        }
        let script = self.script_of(&report.image);
        {
            let mut engine = self.lock();
            engine.starts += 1;
            engine.next += 1;
            let pid = engine.next;
            let Some(container) = engine.containers.get_mut(id) else {
                return Err(not_found(operation, id));
            };
            let now = self.machine.wall();
            if let Some(words) = script.start_error {
                container.state = RunState::Exited(Exit {
                    code: 127,
                    oom_killed: false,
                    start_error: Some(words.clone()),
                    started_at: None,
                    finished_at: now,
                });
                return Err(refused(operation, words));
            }
            container.state = RunState::Running { pid, started_at: now };
        }
        self.announce(&report.identity.pod_uid, "start");
        if let Some((after, code)) = script.exits {
            self.exit_later(id, after, code);
        }
        Ok(())
    }

    async fn signal(&self, id: &str, signal: &str) -> Result<(), RuntimeError> {
        let operation = format!("send {signal} to container {id}");
        self.call(&operation, 1, 5).await?;
        let Ok(report) = self.find(&operation, id) else {
            return Ok(());
        };
        if !report.is_running() {
            return Ok(());
        }
        match signal {
            "KILL" => self.exit(id, 137),
            _ => {
                if let Some(after) = self.script_of(&report.image).stops_within {
                    self.exit_later(id, after, 0);
                }
            }
        }
        Ok(())
    }

    async fn remove(&self, id: &str) -> Result<(), RuntimeError> {
        self.call(&format!("remove container {id}"), 5, 40).await?;
        let removed = self.lock().containers.remove(id);
        if let Some(container) = removed {
            self.announce(&container.config.identity.pod_uid, "destroy");
        }
        Ok(())
    }

    async fn forget_pod(&self, _pod_uid: &str) -> Result<(), RuntimeError> {
        self.call("remove the Pod's cgroup", 1, 2).await
    }

    async fn image(&self, reference: &str) -> Result<Option<ImageReport>, RuntimeError> {
        self.call(&format!("look for image {reference}"), 1, 5).await?;
        let there = self.lock().images.contains_key(reference);
        Ok(there.then(|| ImageReport { id: format!("sha256:{reference}"), user: String::new() }))
    }

    async fn pull(&self, reference: &str) -> Result<(), RuntimeError> {
        let operation = format!("pull image {reference}");
        self.call(&operation, 100, 1500).await?;
        let mut engine = self.lock();
        if engine.missing.iter().any(|missing| missing == reference) {
            return Err(refused(&operation, format!("pull access denied for {reference}, repository does not exist")));
        }
        engine.images.insert(reference.to_string(), ());
        Ok(())
    }

    async fn load(&self, archive: Bytes) -> Result<(), RuntimeError> {
        self.call("load an image", 20, 100).await?;
        for reference in references(&archive).unwrap_or_default() {
            self.lock().images.insert(reference, ());
        }
        Ok(())
    }

    async fn events(&self) -> Result<BoxStream<'static, Result<RuntimeEvent, RuntimeError>>, RuntimeError> {
        let receiver = self.events.subscribe();
        let now = self.machine.now();
        let recent = self.lock().recent.clone();
        self.call("follow its events", 1, 3).await?;
        let again =
            recent.into_iter().filter(move |(at, _)| now.duration_since(*at) <= REPLAYED).map(|(_, event)| Ok(event));
        // A reader that is too slow loses its stream, as with Docker; it lists and asks again.
        let stream = futures::stream::unfold(receiver, |mut receiver| async move {
            receiver.recv().await.ok().map(|event| (Ok(event), receiver))
        });
        Ok(futures::stream::iter(again).chain(stream).boxed())
    }

    async fn logs(
        &self,
        id: &str,
        options: &LogOptions,
    ) -> Result<BoxStream<'static, Result<Output, RuntimeError>>, RuntimeError> {
        let operation = "read its log";
        self.call(operation, 1, 5).await?;
        self.find(operation, id)?;
        let length = self.lock().containers.get(id).map_or(0, |container| container.log.len());
        let start = options.tail.map_or(0, |lines| length.saturating_sub(usize::try_from(lines).unwrap_or(usize::MAX)));
        let (engine, id, follow) = (self.clone(), id.to_string(), options.follow);
        let changes = self.changed.subscribe();
        let stream = futures::stream::unfold((start, changes), move |(at, mut changes)| {
            let (engine, id) = (engine.clone(), id.clone());
            async move {
                loop {
                    {
                        let state = engine.lock();
                        let container = state.containers.get(&id)?;
                        if let Some(piece) = container.log.get(at) {
                            return Some((Ok(piece.clone()), (at + 1, changes.clone())));
                        }
                        if !follow || matches!(container.state, RunState::Exited(_)) {
                            return None;
                        }
                    }
                    changes.changed().await.ok()?;
                }
            }
        });
        Ok(stream.boxed())
    }

    async fn exec(&self, id: &str, config: &ExecConfig) -> Result<Session, RuntimeError> {
        let operation = "run a command in the container";
        self.call(operation, 5, 30).await?;
        let report = self.find(operation, id)?;
        if !report.is_running() {
            return Err(refused(operation, format!("Container {id} is not running")));
        }
        let word = config.command.first().cloned().unwrap_or_default();
        let code = self.script_of(&report.image).commands.get(&word).copied().unwrap_or(0);
        let mut engine = self.lock();
        let session = format!("exec-{}", engine.next);
        engine.next += 1;
        engine.sessions.insert(session.clone(), code);
        let echo = Output::Stdout(format!("{}\n", config.command.join(" ")).into());
        Ok(Session {
            target: SessionTarget::Exec(session),
            output: futures::stream::iter([Ok(echo)]).boxed(),
            input: Box::pin(tokio::io::sink()),
        })
    }

    async fn attach(&self, id: &str, _stdin: bool, replay: bool) -> Result<Session, RuntimeError> {
        let tail = (!replay).then_some(0);
        let output = self.logs(id, &LogOptions { follow: true, tail, ..LogOptions::default() }).await?;
        Ok(Session { target: SessionTarget::Container(id.to_string()), output, input: Box::pin(tokio::io::sink()) })
    }

    async fn exit_code(&self, target: &SessionTarget) -> Result<Option<i32>, RuntimeError> {
        self.call("ask for an exit code", 1, 2).await?;
        match target {
            SessionTarget::Exec(id) => Ok(self.lock().sessions.get(id).copied()),
            SessionTarget::Container(id) => Ok(self.find("ask for an exit code", id)?.exit().map(|exit| exit.code)),
        }
    }

    async fn resize(&self, _target: &SessionTarget, _columns: u16, _rows: u16) -> Result<(), RuntimeError> {
        self.call("resize the terminal", 1, 2).await
    }
}

/// The references that an image archive gives its images.
fn references(archive: &[u8]) -> Option<Vec<String>> {
    let mut archive = tar::Archive::new(archive);
    for entry in archive.entries().ok()? {
        let entry = entry.ok()?;
        if entry.path().ok()?.to_str() != Some("manifest.json") {
            continue;
        }
        let manifest: serde_json::Value = serde_json::from_reader(entry).ok()?;
        let images = manifest.as_array()?.iter();
        let tags = images.filter_map(|image| image["RepoTags"].as_array()).flatten();
        return Some(tags.filter_map(|tag| tag.as_str().map(String::from)).collect());
    }
    None
}
