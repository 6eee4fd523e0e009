//! The Docker Engine as a container runtime, over its unix socket.
//!
//! - Every call has a timeout, because an engine that hangs must make the node NotReady and nothing worse.
//! - `create` that meets its own name (409) adopts what is there: an earlier call may have succeeded unseen.
//! - Docker's events only wake: it keeps 256 of them and drops what a slow reader misses, so each (re)connection asks
//!   from a little before now, and the kubelet lists after it.
//! - Docker leaves the cgroup of a Pod behind; `forget_pod` removes it.

use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use bollard::Docker;
use bollard::exec::{CreateExecOptions, StartExecOptions, StartExecResults};
use bollard::models::ContainerInspectResponse;
use bollard::query_parameters as query;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use skiff_world::World;
use skiff_world::mutants::{Mutant, is_awake};

use super::docker_convert as convert;
use super::{
    ContainerConfig, ContainerReport, ContainerRuntime, ExecConfig, ImageReport, LogOptions, Output, RuntimeError,
    RuntimeEvent, RuntimeInfo, Session, SessionTarget,
};

/// For what is answered from memory: inspect, list, signal.
const QUICK: Duration = Duration::from_secs(10);
/// For what sets up or tears down a container on a busy machine.
const SLOW: Duration = Duration::from_secs(120);
/// A pull that moves no byte for so long has died.
const PULL_IDLE: Duration = Duration::from_secs(120);
/// The HTTP client's own limit; ours are the ones that count.
const CLIENT_LIMIT_SECONDS: u64 = 24 * 3600;
/// Events are asked for from so long ago, to leave no gap between two connections.
const EVENT_OVERLAP_SECONDS: i64 = 3;

/// Which engine, and whose containers.
#[derive(Clone, Debug)]
pub struct DockerOptions {
    /// "/var/run/docker.sock"
    pub socket: PathBuf,
    /// name of the cluster
    pub cluster: String,
    /// name of the node
    pub node: String,
}

/// A Docker Engine.
pub struct DockerRuntime {
    world: World,
    options: DockerOptions,
    connection: Mutex<Option<Docker>>,
    systemd_cgroups: Mutex<Option<bool>>,
}

impl DockerRuntime {
    /// No I/O happens here: an engine that is not there yet is reported by every call until it is.
    pub fn new(world: &World, options: DockerOptions) -> DockerRuntime {
        DockerRuntime { world: world.clone(), options, connection: Mutex::new(None), systemd_cgroups: Mutex::new(None) }
    }

    /// The connection, made and its API version agreed on at first use.
    async fn docker(&self, operation: &str) -> Result<Docker, RuntimeError> {
        if let Some(docker) = self.connection.lock().unwrap_or_else(|p| p.into_inner()).clone() {
            return Ok(docker);
        }
        let path = self.options.socket.to_string_lossy().into_owned();
        let connect = async {
            let docker = Docker::connect_with_unix(&path, CLIENT_LIMIT_SECONDS, bollard::API_DEFAULT_VERSION)?;
            docker.negotiate_version().await
        };
        let docker = within(operation, QUICK, connect).await?;
        *self.connection.lock().unwrap_or_else(|p| p.into_inner()) = Some(docker.clone());
        Ok(docker)
    }

    /// Where the cgroups of a Pod go, in the notation of the engine's cgroup driver.
    async fn cgroup_parent(&self, docker: &Docker, pod_uid: &str) -> Result<String, RuntimeError> {
        let known = *self.systemd_cgroups.lock().unwrap_or_else(|p| p.into_inner());
        let systemd = match known {
            Some(systemd) => systemd,
            None => {
                let info = within("ask for its cgroup driver", QUICK, docker.info()).await?;
                let systemd = info.cgroup_driver.is_some_and(|driver| driver.to_string() == "systemd");
                *self.systemd_cgroups.lock().unwrap_or_else(|p| p.into_inner()) = Some(systemd);
                systemd
            }
        };
        Ok(convert::cgroup_parent(&self.options, pod_uid, systemd))
    }

    async fn inspect(&self, docker: &Docker, id: &str) -> Result<Option<ContainerReport>, RuntimeError> {
        let operation = format!("inspect container {id}");
        match within(&operation, QUICK, docker.inspect_container(id, None)).await {
            Ok(found) => Ok(convert::report(found)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What goes by this name, whoever made it.
    async fn by_name(&self, docker: &Docker, name: &str) -> Result<Option<ContainerInspectResponse>, RuntimeError> {
        let operation = format!("inspect container {name}");
        match within(&operation, QUICK, docker.inspect_container(name, None)).await {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }
}

#[async_trait]
impl ContainerRuntime for DockerRuntime {
    async fn info(&self) -> Result<RuntimeInfo, RuntimeError> {
        let operation = "say how it is";
        let docker = self.docker(operation).await?;
        let info = within(operation, QUICK, docker.info()).await?;
        Ok(RuntimeInfo {
            version: format!("docker://{}", info.server_version.unwrap_or_default()),
            os: info.os_type.unwrap_or_default(),
            architecture: convert::architecture(&info.architecture.unwrap_or_default()),
            kernel: info.kernel_version.unwrap_or_default(),
            os_image: info.operating_system.unwrap_or_default(),
        })
    }

    async fn containers(&self, pod_uid: Option<&str>) -> Result<Vec<ContainerReport>, RuntimeError> {
        let operation = "list containers";
        let docker = self.docker(operation).await?;
        let filters = convert::filters(&self.options, pod_uid);
        let options = query::ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
        let listed = within(operation, QUICK, docker.list_containers(Some(options))).await?;
        let ids = listed.into_iter().filter_map(|summary| summary.id);
        let mut found: Vec<ContainerReport> = futures::stream::iter(ids)
            .map(|id| {
                let docker = docker.clone();
                async move { self.inspect(&docker, &id).await }
            })
            .buffered(8)
            .try_filter_map(|report| async move { Ok(report) })
            .try_collect()
            .await?;
        found.sort_by_key(|report| report.identity.container_name());
        Ok(found)
    }

    async fn create(&self, config: &ContainerConfig) -> Result<String, RuntimeError> {
        let name = config.identity.container_name();
        let operation = format!("create container {name}");
        let docker = self.docker(&operation).await?;
        let parent = self.cgroup_parent(&docker, &config.identity.pod_uid).await?;
        let options = query::CreateContainerOptionsBuilder::default().name(&name).build();
        let body = convert::create_body(config, &parent);
        // Docker answers 409 for a name in use, whether an earlier attempt of ours made it or somebody else did.
        match within(&operation, SLOW, docker.create_container(Some(options), body)).await {
            Ok(created) => Ok(created.id),
            Err(error) => match self.by_name(&docker, &name).await? {
                None => Err(error),
                Some(found) => convert::adopt(found, &config.identity)
                    .map_err(|message| RuntimeError::Refused { operation, message }),
            },
        }
    }

    async fn start(&self, id: &str) -> Result<(), RuntimeError> {
        let operation = "start the container";
        let docker = self.docker(operation).await?;
        ignore_unchanged(within(operation, SLOW, docker.start_container(id, None)).await)
    }

    async fn signal(&self, id: &str, signal: &str) -> Result<(), RuntimeError> {
        let operation = format!("send {signal} to container {id}");
        let docker = self.docker(&operation).await?;
        let options = query::KillContainerOptionsBuilder::default().signal(signal).build();
        match within(&operation, QUICK, docker.kill_container(id, Some(options))).await {
            Ok(()) => Ok(()),
            Err(error) if error.is_not_found() => Ok(()),
            // 409: it is not running.
            Err(error) => match self.inspect(&docker, id).await? {
                Some(report) if report.is_running() => Err(error),
                _ => Ok(()),
            },
        }
    }

    async fn remove(&self, id: &str) -> Result<(), RuntimeError> {
        let operation = format!("remove container {id}");
        let docker = self.docker(&operation).await?;
        let options = query::RemoveContainerOptionsBuilder::default().force(true).v(true).build();
        match within(&operation, SLOW, docker.remove_container(id, Some(options))).await {
            Err(error) if error.is_not_found() => Ok(()),
            // 409 while another removal of it is on its way: gone soon, and looked at again.
            Err(RuntimeError::Refused { message, .. }) if message.contains("already in progress") => Ok(()),
            other => other,
        }
    }

    async fn forget_pod(&self, pod_uid: &str) -> Result<(), RuntimeError> {
        let docker = self.docker("remove the Pod's cgroup").await?;
        let parent = self.cgroup_parent(&docker, pod_uid).await?;
        self.world.blocking(move || convert::remove_cgroups(&parent)).await.map_err(|error| RuntimeError::Refused {
            operation: format!("remove the cgroups of Pod {pod_uid}"),
            message: error.to_string(),
        })
    }

    async fn image(&self, reference: &str) -> Result<Option<ImageReport>, RuntimeError> {
        let operation = format!("look for image {reference}");
        let docker = self.docker(&operation).await?;
        match within(&operation, QUICK, docker.inspect_image(reference)).await {
            Ok(found) => Ok(Some(ImageReport {
                id: found.id.unwrap_or_default(),
                user: found.config.and_then(|config| config.user).unwrap_or_default(),
            })),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn pull(&self, reference: &str) -> Result<(), RuntimeError> {
        let operation = format!("pull image {reference}");
        let docker = self.docker(&operation).await?;
        let (name, tag) = convert::split_reference(reference);
        let options = query::CreateImageOptionsBuilder::default().from_image(name).tag(tag).build();
        let mut progress = Box::pin(docker.create_image(Some(options), None, None));
        while let Some(step) = within_next(&operation, PULL_IDLE, progress.next()).await? {
            step.map_err(|error| convert::error(&operation, error))?;
        }
        Ok(())
    }

    async fn load(&self, archive: Bytes) -> Result<(), RuntimeError> {
        let operation = "load an image";
        let docker = self.docker(operation).await?;
        let options = query::ImportImageOptionsBuilder::default().quiet(true).build();
        let mut progress = Box::pin(docker.import_image(options, bollard::body_full(archive), None));
        while let Some(step) = within_next(operation, SLOW, progress.next()).await? {
            step.map_err(|error| convert::error(operation, error))?;
        }
        Ok(())
    }

    async fn events(&self) -> Result<BoxStream<'static, Result<RuntimeEvent, RuntimeError>>, RuntimeError> {
        let operation = "follow its events";
        let docker = self.docker(operation).await?;
        within(operation, QUICK, docker.ping()).await?;
        let filters = convert::event_filters(&self.options);
        let since = (self.world.wall().as_second() - EVENT_OVERLAP_SECONDS).to_string();
        let options = query::EventsOptionsBuilder::default().since(&since).filters(&filters).build();
        let stream = docker.events(Some(options));
        Ok(stream.map_ok(convert::event).map_err(move |error| convert::error(operation, error)).boxed())
    }

    async fn logs(
        &self,
        id: &str,
        options: &LogOptions,
    ) -> Result<BoxStream<'static, Result<Output, RuntimeError>>, RuntimeError> {
        let operation = "read its log";
        let docker = self.docker(operation).await?;
        within(operation, QUICK, docker.inspect_container(id, None)).await?;
        let tail = options.tail.map_or("all".to_string(), |lines| lines.to_string());
        let since = options.since.map_or(0, |time| i32::try_from(time.as_second()).unwrap_or(0));
        let options = query::LogsOptionsBuilder::default()
            .stdout(true)
            .stderr(true)
            .follow(options.follow)
            .tail(&tail)
            .since(since)
            .timestamps(options.timestamps)
            .build();
        let stream = docker.logs(id, Some(options));
        Ok(stream.map_ok(convert::output).map_err(move |error| convert::error(operation, error)).boxed())
    }

    async fn exec(&self, id: &str, config: &ExecConfig) -> Result<Session, RuntimeError> {
        let operation = "run a command in the container";
        let docker = self.docker(operation).await?;
        let create = CreateExecOptions::<String> {
            attach_stdin: Some(config.stdin),
            attach_stdout: Some(true),
            attach_stderr: Some(!config.tty),
            tty: Some(config.tty),
            cmd: Some(config.command.clone()),
            ..Default::default()
        };
        let exec = within(operation, QUICK, docker.create_exec(id, create)).await?;
        let start = StartExecOptions { detach: false, tty: config.tty, output_capacity: None };
        match within(operation, SLOW, docker.start_exec(&exec.id, Some(start))).await? {
            StartExecResults::Attached { output, input } => Ok(Session {
                target: SessionTarget::Exec(exec.id),
                output: output.map_ok(convert::output).map_err(move |e| convert::error(operation, e)).boxed(),
                input,
            }),
            StartExecResults::Detached => Err(RuntimeError::Refused {
                operation: operation.to_string(),
                message: "the engine did not attach to it".to_string(),
            }),
        }
    }

    async fn attach(&self, id: &str, stdin: bool, replay: bool) -> Result<Session, RuntimeError> {
        let operation = "attach to the container";
        let docker = self.docker(operation).await?;
        // With `logs` the engine sends its log first. It listens before it reads the log, so nothing is missing between
        // the two; what is written in that very moment may come twice.
        let options = query::AttachContainerOptionsBuilder::default()
            .stdin(stdin)
            .stdout(true)
            .stderr(true)
            .stream(true)
            .logs(replay)
            .build();
        let attached = within(operation, QUICK, docker.attach_container(id, Some(options))).await?;
        // The engine attaches to a container that has ended, too, and says nothing until it is started again. From
        // here on the stream ends with the container.
        if !self.inspect(&docker, id).await?.is_some_and(|report| report.is_running()) {
            return Err(RuntimeError::Refused {
                operation: operation.to_string(),
                message: "it is not running any more".to_string(),
            });
        }
        Ok(Session {
            target: SessionTarget::Container(id.to_string()),
            output: attached.output.map_ok(convert::output).map_err(move |e| convert::error(operation, e)).boxed(),
            input: attached.input,
        })
    }

    async fn exit_code(&self, target: &SessionTarget) -> Result<Option<i32>, RuntimeError> {
        let operation = "ask for an exit code";
        let docker = self.docker(operation).await?;
        match target {
            SessionTarget::Exec(id) => {
                let exec = within(operation, QUICK, docker.inspect_exec(id)).await?;
                let ended = exec.running == Some(false);
                Ok(exec.exit_code.filter(|_| ended).and_then(|code| i32::try_from(code).ok()))
            }
            SessionTarget::Container(id) => {
                Ok(self.inspect(&docker, id).await?.and_then(|report| report.exit().map(|exit| exit.code)))
            }
        }
    }

    async fn resize(&self, target: &SessionTarget, columns: u16, rows: u16) -> Result<(), RuntimeError> {
        let operation = "resize the terminal";
        let docker = self.docker(operation).await?;
        let (w, h) = (i32::from(columns), i32::from(rows));
        match target {
            SessionTarget::Exec(id) => {
                let options = query::ResizeExecOptionsBuilder::default().w(w).h(h).build();
                within(operation, QUICK, docker.resize_exec(id, options)).await
            }
            SessionTarget::Container(id) => {
                let options = query::ResizeContainerTTYOptionsBuilder::default().w(w).h(h).build();
                within(operation, QUICK, docker.resize_container_tty(id, options)).await
            }
        }
    }
}

/// One call with its limit, its error in our terms.
async fn within<T>(
    operation: &str,
    limit: Duration,
    call: impl Future<Output = Result<T, bollard::errors::Error>>,
) -> Result<T, RuntimeError> {
    let limit = if is_awake(Mutant::HungEngine) { Duration::from_secs(1 << 30) } else { limit };
    match tokio::time::timeout(limit, call).await {
        Ok(result) => result.map_err(|error| convert::error(operation, error)),
        Err(_) => Err(RuntimeError::Timeout { operation: operation.to_string(), after: limit }),
    }
}

/// The next item of a stream, within the limit.
async fn within_next<T>(operation: &str, limit: Duration, next: impl Future<Output = T>) -> Result<T, RuntimeError> {
    tokio::time::timeout(limit, next)
        .await
        .map_err(|_| RuntimeError::Timeout { operation: operation.to_string(), after: limit })
}

/// 304 is how Docker says that it is so already.
fn ignore_unchanged(result: Result<(), RuntimeError>) -> Result<(), RuntimeError> {
    match result {
        Err(RuntimeError::Refused { message, .. }) if message == convert::NOT_MODIFIED => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A daemon that hangs still takes connections: the kernel does that for it.
    #[tokio::test(start_paused = true)]
    async fn an_engine_that_takes_connections_and_never_answers_is_given_up() {
        let place = tempfile::tempdir().expect("a directory");
        let socket = place.path().join("docker.sock");
        let _hung = tokio::net::UnixListener::bind(&socket).expect("nobody has that socket");
        let world = World::real("hung-engine");
        let options = DockerOptions { socket, cluster: "test".into(), node: "node-1".into() };
        let engine = DockerRuntime::new(&world, options);
        let began = world.now();
        let error = engine.info().await.expect_err("it does not answer");
        assert!(error.is_engine_down(), "{error}");
        assert_eq!(world.now() - began, QUICK, "{error}");
    }
}
