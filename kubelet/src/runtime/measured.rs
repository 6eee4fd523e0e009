//! A container engine whose calls are counted, under the operation names of Kubernetes' kubelet.

use std::future::Future;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use skiff_world::World;

use super::{
    ContainerConfig, ContainerReport, ContainerRuntime, ExecConfig, ImageReport, LogOptions, Output, RuntimeError,
    RuntimeEvent, RuntimeInfo, Session, SessionTarget,
};
use crate::metrics::Metrics;

/// An engine, with its measurements.
pub struct Measured {
    /// the engine
    pub runtime: Arc<dyn ContainerRuntime>,
    /// the clock
    pub world: World,
    /// where calls are counted
    pub metrics: Metrics,
}

impl Measured {
    async fn call<T>(
        &self,
        name: &'static str,
        call: impl Future<Output = Result<T, RuntimeError>>,
    ) -> Result<T, RuntimeError> {
        let began = self.world.now();
        let result = call.await;
        // That something is not there is an answer.
        let failed = result.as_ref().is_err_and(|error| !error.is_not_found());
        self.metrics.operation(name, self.world.now().saturating_duration_since(began), failed);
        result
    }
}

#[async_trait]
impl ContainerRuntime for Measured {
    async fn info(&self) -> Result<RuntimeInfo, RuntimeError> {
        self.call("status", self.runtime.info()).await
    }

    async fn containers(&self, pod_uid: Option<&str>) -> Result<Vec<ContainerReport>, RuntimeError> {
        self.call("list_containers", self.runtime.containers(pod_uid)).await
    }

    async fn create(&self, config: &ContainerConfig) -> Result<String, RuntimeError> {
        self.call("create_container", self.runtime.create(config)).await
    }

    async fn start(&self, id: &str) -> Result<(), RuntimeError> {
        self.call("start_container", self.runtime.start(id)).await
    }

    async fn signal(&self, id: &str, signal: &str) -> Result<(), RuntimeError> {
        self.call("stop_container", self.runtime.signal(id, signal)).await
    }

    async fn remove(&self, id: &str) -> Result<(), RuntimeError> {
        self.call("remove_container", self.runtime.remove(id)).await
    }

    async fn forget_pod(&self, pod_uid: &str) -> Result<(), RuntimeError> {
        self.call("remove_podsandbox", self.runtime.forget_pod(pod_uid)).await
    }

    async fn image(&self, reference: &str) -> Result<Option<ImageReport>, RuntimeError> {
        self.call("image_status", self.runtime.image(reference)).await
    }

    async fn pull(&self, reference: &str) -> Result<(), RuntimeError> {
        self.call("pull_image", self.runtime.pull(reference)).await
    }

    async fn load(&self, archive: Bytes) -> Result<(), RuntimeError> {
        self.call("load_image", self.runtime.load(archive)).await
    }

    async fn events(&self) -> Result<BoxStream<'static, Result<RuntimeEvent, RuntimeError>>, RuntimeError> {
        self.runtime.events().await
    }

    async fn logs(
        &self,
        id: &str,
        options: &LogOptions,
    ) -> Result<BoxStream<'static, Result<Output, RuntimeError>>, RuntimeError> {
        self.call("container_logs", self.runtime.logs(id, options)).await
    }

    async fn exec(&self, id: &str, config: &ExecConfig) -> Result<Session, RuntimeError> {
        self.call("exec", self.runtime.exec(id, config)).await
    }

    async fn attach(&self, id: &str, stdin: bool, replay: bool) -> Result<Session, RuntimeError> {
        self.call("attach", self.runtime.attach(id, stdin, replay)).await
    }

    async fn exit_code(&self, target: &SessionTarget) -> Result<Option<i32>, RuntimeError> {
        self.runtime.exit_code(target).await
    }

    async fn resize(&self, target: &SessionTarget, columns: u16, rows: u16) -> Result<(), RuntimeError> {
        self.runtime.resize(target, columns, rows).await
    }
}
