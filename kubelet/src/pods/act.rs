//! One action of a plan, done. What to do was decided; here it is only carried out, and what went wrong is told.

use std::sync::Arc;
use std::time::Duration;

use skiff_client::{ActError, DeleteOptions};
use skiff_proto::corev1::Pod;
use tracing::Instrument;

use super::{Pods, lock};
use crate::images::pause;
use crate::images::pull::PullFailure;
use crate::lifecycle::{Action, PodKey};
use crate::metrics::Phase;
use crate::runtime::{Identity, Role, RunState, RuntimeError, SANDBOX_NAME};
use crate::sandbox::pause_config;
use crate::volumes::Filled;
use crate::volumes::files::{Etc, hostname};

/// How long pause may take to enter its namespace after it was started.
const PAUSE_ENTERS_WITHIN: Duration = Duration::from_secs(5);

impl Pods {
    /// Does an action, and measures it where it is part of a Pod's start.
    pub(super) async fn perform(&self, key: &PodKey, action: &Action) -> Result<(), ActError> {
        let Some(phase) = Phase::of(action) else { return self.carry_out(key, action).await };
        let began = self.shared.world.now();
        let result = self.carry_out(key, action).await;
        let took = self.shared.world.now().saturating_duration_since(began);
        self.shared.metrics.phase(phase, took, result.is_err());
        result
    }

    async fn carry_out(&self, key: &PodKey, action: &Action) -> Result<(), ActError> {
        match action {
            Action::SetUpNetwork => self.set_up_network(key).await,
            Action::PrepareVolumes => self.prepare_volumes(key).await,
            Action::RenewTokens => {
                self.renew_tokens(key).await;
                Ok(())
            }
            Action::StartSandbox { attempt } => self.start_sandbox(key, *attempt).await,
            Action::LookForImage { image } => self.look_for_image(key, image).await,
            Action::PullImage { image, container, attempt } => {
                self.pull_image(key, image, container, *attempt);
                Ok(())
            }
            Action::StartContainer { container, role, attempt, sandbox, backoff_seconds } => {
                self.start_container(key, container, *role, *attempt, sandbox, *backoff_seconds).await
            }
            Action::StartProbes { container, id } => {
                self.start_probes(key, container, id);
                Ok(())
            }
            Action::StopContainer { container, id, grace } => {
                self.stop_container(key, container, id, *grace);
                Ok(())
            }
            Action::KillContainer { id, .. } => self.kill_container(key, id).await,
            Action::RemoveContainer { container, id } => {
                self.shared.runtime.remove(id).await.map_err(ActError::failed)?;
                self.effect(key, format!("container {container} removed"));
                self.look(key).await.map_err(ActError::failed)
            }
            Action::TearDownNetwork => {
                self.shared.network.remove(&key.uid).await.map_err(ActError::failed)?;
                self.effect(key, "network torn down");
                self.with(key, |record| record.network = None);
                Ok(())
            }
            Action::RemoveVolumes => {
                self.shared.volumes.remove(&key.uid).await.map_err(ActError::failed)?;
                self.with(key, |record| (record.volumes_ready, record.volumes_left) = (false, false));
                Ok(())
            }
            Action::RemoveCgroup => self.shared.runtime.forget_pod(&key.uid).await.map_err(ActError::failed),
            Action::PublishStatus { status } => self.publish(key, status).await,
            Action::FinishDeletion => self.finish_deletion(key).await,
            Action::Forget => {
                self.with(key, |record| record.cleared = true);
                self.wake(key, "nothing is left of it");
                Ok(())
            }
        }
    }

    /// The Pod's spec, which every preparing action needs.
    pub(super) fn spec(&self, key: &PodKey) -> Result<Arc<Pod>, ActError> {
        self.pod(key).ok_or_else(|| ActError::Changed(format!("Pod {key} is gone from the API")))
    }

    /// Asks the runtime how the Pod's containers are. Each look waits for the one before, so the record never goes back.
    pub async fn look(&self, key: &PodKey) -> Result<(), RuntimeError> {
        let looking = self.with(key, |record| record.looking.clone());
        let _one_at_a_time = looking.lock().await;
        let containers = self.shared.runtime.containers(Some(&key.uid)).await?;
        let mut read = Vec::new();
        for report in
            containers.iter().filter(|report| report.exit().is_some() && report.identity.role != Role::Sandbox)
        {
            if self.with(key, |record| record.messages.contains_key(&report.id)) {
                continue;
            }
            let (name, attempt) = (&report.identity.container, report.identity.attempt);
            let message = match self.shared.volumes.message(&key.uid, name, attempt).await.filter(|m| !m.is_empty()) {
                Some(message) => message,
                None => self.end_of_log(key, report).await,
            };
            read.push((report.id.clone(), message));
        }
        let (changed, ended) = self.with(key, |record| {
            record.messages.extend(read);
            let ended = record.ended(&containers);
            (record.reported(containers), ended)
        });
        for what in ended {
            self.effect(key, what);
        }
        if changed {
            self.wake(key, "its containers changed");
        }
        Ok(())
    }

    async fn set_up_network(&self, key: &PodKey) -> Result<(), ActError> {
        let pod = self.spec(key)?;
        // The tokens are asked for meanwhile; if they cannot be had, preparing the volumes says so.
        let (network, tokens) = futures::join!(self.shared.network.add(&key.uid), self.tokens(key, &pod));
        self.with(key, |record| record.fetched = tokens.ok());
        match network {
            Ok(network) => {
                self.effect(key, format!("network set up: {}", network.ip));
                self.with(key, |record| {
                    record.network = Some(network);
                    record.cleared = false;
                });
                self.overcome(key, "");
                self.wake(key, "it has a network");
                Ok(())
            }
            Err(error) => Err(self.prepare_failed(key, "FailedCreatePodSandBox", error.to_string())),
        }
    }

    /// A failure of the Pod as a whole: an Event, and its containers wait for that reason.
    fn prepare_failed(&self, key: &PodKey, event: &str, message: String) -> ActError {
        self.shared.events.warning(&self.reference(key), event, &message);
        let reason = if event == "FailedMount" { "FailedMount" } else { "ContainerCreating" };
        self.setback(key, "", reason, message)
    }

    async fn prepare_volumes(&self, key: &PodKey) -> Result<(), ActError> {
        let pod = self.spec(key)?;
        let facts = self.facts(key, &pod);
        if facts.pod_ip.is_empty() {
            return Err(ActError::Changed("the Pod has no address yet".into()));
        }
        self.with(key, |record| (record.volumes_left, record.cleared) = (true, false));
        let prepared = async {
            let needed = pod.spec.volumes.iter().flat_map(crate::volumes::content::needs).collect();
            let fetched = self.with(key, |record| record.fetched.take());
            let tokens = async {
                match fetched {
                    Some(tokens) => Ok(tokens),
                    None => self.tokens(key, &pod).await,
                }
            };
            let (sources, tokens) = futures::join!(self.sources(&key.namespace, needed), tokens);
            let sources = sources.map_err(|error| error.to_string())?;
            let fetched = tokens.map_err(|error| format!("service account token: {error}"))?;
            let mut filled = Vec::new();
            for volume in &pod.spec.volumes {
                let files = crate::volumes::content(&pod, volume, &sources, &facts, &fetched.tokens)
                    .map_err(|e| e.to_string())?;
                filled.push(Filled { volume: volume.clone(), files });
            }
            let etc = Etc::of(&pod, &facts.pod_ip, &self.shared.dns);
            self.shared.volumes.prepare(&pod, filled, etc).await.map_err(|error| error.to_string())?;
            Ok(fetched.renew_at)
        };
        match prepared.await {
            Ok(renew_at) => {
                self.with(key, |record| (record.volumes_ready, record.renew_tokens_at) = (true, renew_at));
                self.overcome(key, "");
                self.wake(key, "its files are in place");
                Ok(())
            }
            Err(words) => Err(self.prepare_failed(key, "FailedMount", words)),
        }
    }

    async fn start_sandbox(&self, key: &PodKey, attempt: u32) -> Result<(), ActError> {
        let pod = self.spec(key)?;
        match self.make_sandbox(key, &pod, attempt).await {
            Ok(()) => {
                self.effect(key, format!("sandbox started, attempt {attempt}"));
                self.overcome(key, "");
                Ok(())
            }
            Err(words) => {
                let message = format!("Failed to create pod sandbox: {words}");
                Err(self.prepare_failed(key, "FailedCreatePodSandBox", message))
            }
        }
    }

    async fn make_sandbox(&self, key: &PodKey, pod: &Pod, attempt: u32) -> Result<(), String> {
        let words = |error: RuntimeError| error.to_string();
        let runtime = &self.shared.runtime;
        let image = self.pause.get_or_try_init(|| pause::ensure(&**runtime)).await.map_err(words)?;
        let namespace = self.namespace(key, pod).await?;
        // With the node's network comes the node's name.
        let name = if pod.spec.host_network { String::new() } else { hostname(pod) };
        let identity = self.identity(key, pod, Role::Sandbox, SANDBOX_NAME, attempt);
        let config = pause_config(identity, image, &namespace, &name);
        let id = match runtime.create(&config).await {
            Err(error) if error.is_not_found() => {
                // Somebody has removed the image since.
                pause::ensure(&**runtime).await.map_err(words)?;
                runtime.create(&config).await.map_err(words)?
            }
            other => other.map_err(words)?,
        };
        runtime.start(&id).await.map_err(words)?;
        self.look(key).await.map_err(words)?;
        self.await_namespace(key, pod, &id).await
    }

    /// The file of the namespace that the Pod's containers are to be in.
    async fn namespace(&self, key: &PodKey, pod: &Pod) -> Result<std::path::PathBuf, String> {
        if pod.spec.host_network {
            return self.shared.network.node_namespace().await.map_err(|error| error.to_string());
        }
        let own = self.with(key, |record| record.network.as_ref().map(|network| network.namespace.clone()));
        own.ok_or_else(|| "the Pod has no network yet".to_string())
    }

    /// Waits until the sandbox *is* in the Pod's namespace: before that, nothing may join it.
    pub(super) async fn await_namespace(&self, key: &PodKey, pod: &Pod, sandbox: &str) -> Result<(), String> {
        let namespace = self.namespace(key, pod).await?;
        let deadline = self.shared.world.now() + PAUSE_ENTERS_WITHIN;
        let mut pause = Duration::from_millis(1);
        loop {
            let state = self.with(key, |record| {
                record.containers.iter().find(|report| report.id == sandbox).map(|report| report.state.clone())
            });
            let failure = match state {
                Some(RunState::Running { pid, .. }) => match self.shared.network.check(&namespace, pid).await {
                    Ok(()) => return Ok(()),
                    Err(error) => error.to_string(),
                },
                _ => "the sandbox does not run".to_string(),
            };
            if self.shared.world.now() >= deadline {
                return Err(failure);
            }
            self.shared.world.sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(100));
            if pause > Duration::from_millis(50) {
                self.look(key).await.map_err(|error| error.to_string())?;
            }
        }
    }

    pub(super) fn identity(&self, key: &PodKey, pod: &Pod, role: Role, container: &str, attempt: u32) -> Identity {
        let grace = pod.spec.termination_grace_period_seconds.unwrap_or(30);
        Identity {
            cluster: self.shared.cluster.clone(),
            node: self.shared.node_name.clone(),
            pod_namespace: key.namespace.clone(),
            pod_name: key.name.clone(),
            pod_uid: key.uid.clone(),
            role,
            container: container.to_string(),
            attempt,
            sandbox: String::new(),
            spec_hash: String::new(),
            backoff_seconds: 0,
            grace_seconds: u32::try_from(grace).unwrap_or(30),
            cause: format!("pods/{}@{}", pod.metadata.uid, pod.metadata.resource_version),
        }
    }

    async fn look_for_image(&self, key: &PodKey, image: &str) -> Result<(), ActError> {
        let found = self.shared.runtime.image(image).await;
        let present = match found {
            Ok(found) => found.is_some(),
            Err(error) => {
                return Err(self.setback(key, "", "ImageInspectError", error.to_string()));
            }
        };
        lock(&self.images).entry(image.to_string()).or_default().present = Some(present);
        self.wake(key, "an image was looked for");
        Ok(())
    }

    /// In the background: a pull may take minutes, and the Pod may be deleted meanwhile.
    fn pull_image(&self, key: &PodKey, image: &str, container: &str, attempt: u32) {
        let start = {
            let mut images = lock(&self.images);
            let state = images.entry(image.to_string()).or_default();
            !std::mem::replace(&mut state.pulling, true)
        };
        if !start {
            return;
        }
        self.effect(key, format!("pull of image {image} begun"));
        let events = self.shared.events.clone();
        let about = self.reference(key);
        events.normal(&about, "Pulling", &format!("Pulling image \"{image}\""));
        let (pods, key) = (self.handle(), key.clone());
        let (image, container) = (image.to_string(), container.to_string());
        let pull = async move {
            let Some(pods) = pods.upgrade() else { return };
            let began = pods.shared.world.now();
            let result = pods.shared.runtime.pull(&image).await;
            let took = pods.shared.world.now().saturating_duration_since(began);
            pods.shared.metrics.phase(Phase::Image, took, result.is_err());
            pods.with(&key, |record| record.start.pulled(took));
            let now = pods.shared.world.wall();
            {
                let mut images = lock(&pods.images);
                let state = images.entry(image.clone()).or_default();
                state.pulling = false;
                state.failure = match &result {
                    Ok(()) => {
                        state.present = Some(true);
                        None
                    }
                    Err(error) => Some(PullFailure::after(state.failure.as_ref(), error.to_string(), now)),
                };
            }
            match &result {
                Ok(()) => {
                    pods.effect(&key, format!("image {image} pulled"));
                    pods.with(&key, |record| record.pulled.insert((container, attempt)));
                    events.normal(&about, "Pulled", &format!("Successfully pulled image \"{image}\""));
                }
                Err(error) => {
                    let message = format!("Failed to pull image \"{image}\": {}", error.words());
                    events.warning(&about, "Failed", &message);
                }
            }
            // Others may have waited for the same image.
            for other in pods.keys() {
                pods.wake(&other, "an image was pulled");
            }
        };
        // What it logs belongs to the reconcile that began it.
        self.shared.world.spawn("pull", pull.in_current_span());
    }

    async fn finish_deletion(&self, key: &PodKey) -> Result<(), ActError> {
        let options = DeleteOptions { grace_period_seconds: Some(0), ..DeleteOptions::of_uid(&key.uid) };
        match self.api.delete(&key.namespace, &key.name, &options).await {
            Ok(_) => {}
            // Gone already, or another Pod has the name by now.
            Err(error) if error.is_not_found() || error.is_conflict() => {}
            Err(error) => return Err(error.into()),
        }
        self.with(key, |record| record.cleared = true);
        Ok(())
    }
}
