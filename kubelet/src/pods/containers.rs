//! Starting, probing and stopping containers.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Weak;
use std::time::Duration;

use futures::StreamExt;
use skiff_client::ActError;
use skiff_proto::corev1::{Container, LifecycleHandler, Pod};
use tracing::Instrument;

use super::{Pods, lock};
use crate::config::{Parts, container_config};
use crate::environment::{environment, needs, service_variables};
use crate::lifecycle::containers::spec_hash;
use crate::lifecycle::{PodKey, Stopping, ephemeral};
use crate::probes::check::{Question, Target, ask};
use crate::probes::state::Verdict;
use crate::probes::watch::{News, Watch};
use crate::runtime::{ContainerReport, Identity, LogOptions, Output, Role, RuntimeError};
use crate::status::published;
use crate::volumes::container_mounts;

/// A postStart hook that has no end is ended.
const HOOK_LIMIT: Duration = Duration::from_secs(120);
/// A killed container that is still there is killed again after so long.
const KILL_AGAIN_AFTER: Duration = Duration::from_secs(10);
/// How much of the log's end becomes the message of a container that failed, if its spec asks for that.
const LOG_LINES: u64 = 80;
const LOG_BYTES: usize = 2048;

/// What keeps a container from being made: reason and words.
struct Refusal(&'static str, String);

impl Pods {
    /// A handle for background tasks, which must not keep a stopped kubelet alive.
    pub(super) fn handle(&self) -> Weak<Pods> {
        self.own.get().cloned().unwrap_or_default()
    }

    pub(super) async fn start_container(
        &self,
        key: &PodKey,
        name: &str,
        role: Role,
        attempt: u32,
        sandbox: &str,
        backoff_seconds: u32,
    ) -> Result<(), ActError> {
        let pod = self.spec(key)?;
        let Some(container) = find(&pod, role, name) else {
            return Err(ActError::Changed(format!("container {name} is not in the Pod's spec any more")));
        };
        self.await_namespace(key, &pod, sandbox).await.map_err(ActError::Changed)?;
        self.shared.metrics.container(role);
        let identity = Identity {
            sandbox: sandbox.to_string(),
            spec_hash: spec_hash(&container),
            backoff_seconds,
            ..self.identity(key, &pod, role, name, attempt)
        };
        let about = self.reference(key);
        let events = &self.shared.events;
        let id = match self.make(key, &pod, &container, identity).await {
            Ok(id) => id,
            Err(Refusal(reason, words)) => {
                self.shared.metrics.container_failed(role, reason);
                events.warning(&about, "Failed", &format!("Error: {words}"));
                return Err(self.setback(key, name, reason, words));
            }
        };
        self.overcome(key, name);
        let hook = container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.post_start.as_deref());
        if hook.is_some() {
            self.with(key, |record| record.hooks.insert(id.clone()));
        }
        let started = self.shared.runtime.start(&id).await;
        if started.is_ok() {
            self.effect(key, format!("container {name} started: {}", short(&id)));
        }
        // Failed or not, the runtime tells how it is now.
        let looked = self.look(key).await;
        match started {
            Ok(()) => events.normal(&about, "Started", &format!("Started container {name}")),
            Err(error) => {
                self.shared.metrics.container_failed(role, "RunContainerError");
                events.warning(
                    &about,
                    "Failed",
                    &format!("Error: failed to start container \"{name}\": {}", error.words()),
                );
                if error.is_engine_down() {
                    return Err(self.setback(key, name, "RunContainerError", error.to_string()));
                }
            }
        }
        looked.map_err(ActError::failed)?;
        if let Some(hook) = hook {
            self.run_post_start(key, &pod, &container, &id, hook);
        }
        Ok(())
    }

    /// Makes (or finds) the container; it is not started.
    async fn make(
        &self,
        key: &PodKey,
        pod: &Pod,
        container: &Container,
        identity: Identity,
    ) -> Result<String, Refusal> {
        let config = |words: String| Refusal("CreateContainerConfigError", words);
        let runtime = |error: RuntimeError| Refusal("CreateContainerError", error.words());
        let sources = self.sources(&key.namespace, needs(container)).await.map_err(|e| config(e.to_string()))?;
        let facts = self.facts(key, pod);
        let services = self.service_variables(pod);
        let environment =
            environment(pod, container, &services, &sources, &facts).map_err(|e| config(e.to_string()))?;
        let volumes = &self.shared.volumes;
        let message = volumes.prepare_message(&key.uid, &container.name, identity.attempt).await;
        let message = message.map_err(|e| config(e.to_string()))?;
        let variables: BTreeMap<String, String> = environment.iter().cloned().collect();
        let mounts =
            container_mounts(volumes, pod, container, &variables, &message).map_err(|e| config(e.to_string()))?;
        let image = self.shared.runtime.image(&container.image).await.map_err(runtime)?;
        let Some(image) = image else {
            // It was there when it was looked for: look again.
            lock(&self.images).remove(&container.image);
            return Err(Refusal("CreateContainerError", format!("image {} is gone", container.image)));
        };
        let node_memory = self.node().status.capacity.get("memory").map_or(0, |quantity| quantity.value());
        let name = container.name.clone();
        let looks_into = self.looks_into(key, pod, &identity)?;
        let image_user = &image.user;
        let parts = Parts { pod, container, identity, environment, mounts, image_user, node_memory, looks_into };
        let config = container_config(parts).map_err(|e| config(e.to_string()))?;
        let id = self.shared.runtime.create(&config).await.map_err(runtime)?;
        self.shared.events.normal(&self.reference(key), "Created", &format!("Created container {name}"));
        Ok(id)
    }

    /// The id of the container whose processes a new one is to see, if there is such a one.
    fn looks_into(&self, key: &PodKey, pod: &Pod, identity: &Identity) -> Result<Option<String>, Refusal> {
        let target = match identity.role {
            Role::Ephemeral => ephemeral::target(pod, &identity.container),
            _ => "",
        };
        if target.is_empty() {
            return Ok(None);
        }
        let containers = self.containers(key);
        let found = containers.iter().find(|report| {
            let role = report.identity.role;
            report.is_running() && report.identity.container == target && matches!(role, Role::App | Role::Init)
        });
        let gone = || Refusal("CreateContainerError", format!("its target container {target} does not run"));
        found.map(|report| Some(report.id.clone())).ok_or_else(gone)
    }

    fn service_variables(&self, pod: &Pod) -> Vec<(String, String)> {
        let Some(services) = self.services.get() else {
            return Vec::new();
        };
        let links = pod.spec.enable_service_links != Some(false);
        let own = if links { services.in_namespace(&pod.metadata.namespace) } else { Vec::new() };
        // The API server's own is told everywhere.
        let api = services.get(&skiff_client::ObjectKey::new("default", "kubernetes"));
        let elsewhere = api.filter(|_| !links || pod.metadata.namespace != "default");
        service_variables(own.iter().chain(&elsewhere).map(|service| &**service))
    }

    // --- probes and hooks ---

    fn target(&self, key: &PodKey, pod: &Pod, container: &Container, id: &str) -> Option<Target> {
        let ip = self.facts(key, pod).pod_ip.parse().ok()?;
        Some(Target { id: id.to_string(), ip, container: container.clone() })
    }

    pub(super) fn start_probes(&self, key: &PodKey, name: &str, id: &str) {
        let Some(pod) = self.pod(key) else { return };
        let role = if find(&pod, Role::App, name).is_some() { Role::App } else { Role::Init };
        let Some(container) = find(&pod, role, name) else {
            return;
        };
        let Some(target) = self.target(key, &pod, &container, id) else {
            return;
        };
        let mut verdict = Verdict::initial(&container);
        // A container that an earlier kubelet saw come up need not show it again.
        let old = published(&pod.status, role, name);
        if old.is_some_and(|old| old.started == Some(true) && old.container_id == crate::status::container_id(id)) {
            verdict.started = Some(true);
        }
        let (pods, about, events) = (self.handle(), self.reference(key), self.shared.events.clone());
        let of = key.clone();
        let tell = move |news: News| match news {
            News::Changed => {
                if let Some(pods) = pods.upgrade() {
                    pods.wake(&of, "a probe's verdict changed");
                }
            }
            News::Failed { kind, words } => {
                events.warning(&about, "Unhealthy", &format!("{} probe failed: {words}", kind.word()));
            }
        };
        let watch = Watch::start(&self.shared.world, self.shared.runtime.clone(), target, verdict, tell);
        self.with(key, |record| record.watches.insert(id.to_string(), watch));
        self.wake(key, "its probes were started");
    }

    fn run_post_start(&self, key: &PodKey, pod: &Pod, container: &Container, id: &str, hook: &LifecycleHandler) {
        let Some(target) = self.target(key, pod, container, id) else {
            return;
        };
        let question = Question::of_hook(hook);
        let (pods, key, name) = (self.handle(), key.clone(), container.name.clone());
        let grace = crate::lifecycle::containers::grace(pod);
        let hook = async move {
            let Some(pods) = pods.upgrade() else { return };
            let answer = ask(&pods.shared.world, &*pods.shared.runtime, &target, &question, HOOK_LIMIT).await;
            if let Err(words) = answer {
                let message = format!("PostStartHook of container {name} failed: {words}");
                pods.shared.events.warning(&pods.reference(&key), "FailedPostStartHook", &message);
                pods.stop_container(&key, &name, &target.id, grace);
            }
            pods.with(&key, |record| record.hooks.remove(&target.id));
            pods.wake(&key, "its postStart hook has ended");
        };
        self.shared.world.spawn("postStart", hook.in_current_span());
    }

    // --- stopping ---

    /// preStop, then TERM, in the background; the plan kills what is still there at the deadline.
    pub(super) fn stop_container(&self, key: &PodKey, name: &str, id: &str, grace: Duration) {
        let deadline = self.shared.world.wall() + grace;
        let already = self.with(key, |record| {
            let already = record.stopping.get(id).copied();
            let deadline = already.map_or(deadline, |before| before.deadline.min(deadline));
            record.stopping.insert(id.to_string(), Stopping { deadline });
            already.is_some()
        });
        self.wake(key, "a container is being stopped");
        if already {
            return;
        }
        self.effect(key, format!("container {name} told to stop within {} s", grace.as_secs()));
        let report = self.with(key, |record| record.containers.iter().find(|report| report.id == id).cloned());
        let pod = self.pod(key);
        let container = pod.as_ref().zip(report.as_ref()).and_then(|(pod, r)| find(pod, r.identity.role, name));
        let lifecycle = container.as_ref().and_then(|container| container.lifecycle.as_deref());
        let hook = lifecycle.and_then(|lifecycle| lifecycle.pre_stop.as_deref()).map(Question::of_hook);
        let target =
            pod.as_ref().zip(container.as_ref()).and_then(|(pod, container)| self.target(key, pod, container, id));
        let signal = lifecycle
            .and_then(|lifecycle| lifecycle.stop_signal.clone())
            .or_else(|| report.map(|report| report.stop_signal))
            .unwrap_or_else(|| "TERM".into());
        let about = self.reference(key);
        self.shared.events.normal(&about, "Killing", &format!("Stopping container {name}"));
        let (pods, key, name, id) = (self.handle(), key.clone(), name.to_string(), id.to_string());
        let stop = async move {
            let Some(pods) = pods.upgrade() else { return };
            let shared = &pods.shared;
            if let Some((target, hook)) = target.zip(hook)
                && let Err(words) = ask(&shared.world, &*shared.runtime, &target, &hook, grace).await
            {
                let message = format!("PreStopHook of container {name} failed: {words}");
                shared.events.warning(&about, "FailedPreStopHook", &message);
            }
            if let Err(error) = shared.runtime.signal(&id, &signal).await {
                tracing::warn!(pod = %key, container = name, %error, "cannot ask the container to stop");
            }
        };
        // What it logs belongs to the reconcile that began it.
        self.shared.world.spawn("stop", stop.in_current_span());
    }

    pub(super) async fn kill_container(&self, key: &PodKey, id: &str) -> Result<(), ActError> {
        let deadline = self.shared.world.wall() + KILL_AGAIN_AFTER;
        self.with(key, |record| record.stopping.insert(id.to_string(), Stopping { deadline }));
        self.shared.runtime.signal(id, "KILL").await.map_err(ActError::failed)?;
        self.effect(key, format!("container {} killed", short(id)));
        self.look(key).await.map_err(ActError::failed)
    }

    /// The end of a failed container's log, where its spec wants that as its message.
    pub(super) async fn end_of_log(&self, key: &PodKey, report: &ContainerReport) -> String {
        let pod = self.pod(key);
        let container = pod.as_ref().and_then(|pod| find(pod, report.identity.role, &report.identity.container));
        let wanted = container.is_some_and(|c| c.termination_message_policy == "FallbackToLogsOnError");
        if !wanted || report.exit().is_none_or(|exit| exit.code == 0 || exit.start_error.is_some()) {
            return String::new();
        }
        let options = LogOptions { tail: Some(LOG_LINES), ..LogOptions::default() };
        let Ok(mut log) = self.shared.runtime.logs(&report.id, &options).await else {
            return String::new();
        };
        let mut text = Vec::new();
        while let Some(Ok(Output::Stdout(bytes) | Output::Stderr(bytes))) = log.next().await {
            text.extend_from_slice(&bytes);
        }
        let start = text.len().saturating_sub(LOG_BYTES);
        String::from_utf8_lossy(&text[start..]).into_owned()
    }
}

/// As much of a container's id as people read.
fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

/// A container of the spec.
pub(super) fn find<'a>(pod: &'a Pod, role: Role, name: &str) -> Option<Cow<'a, Container>> {
    let list = match role {
        Role::Ephemeral => return ephemeral::all(pod).find(|container| container.name == name).map(Cow::Owned),
        Role::Init => &pod.spec.init_containers,
        Role::App | Role::Sandbox => &pod.spec.containers,
    };
    list.iter().find(|container| container.name == name).map(Cow::Borrowed)
}
