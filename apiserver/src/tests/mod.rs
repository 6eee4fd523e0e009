//! The whole server in a simulated world: real gRPC over pipes, paused time, the embedded store on a simulated disk.

mod admission;
mod apply;
mod audit;
mod budgets;
mod custom;
mod ephemeral;
mod etcd;
mod history;
mod http;
mod lifecycle;
mod limits;
mod monitoring;
mod quotas;
mod rbac;
mod reads;
mod rest;
mod services;
mod tls;
mod tokens;
mod tunnel;
mod writes;

use crate::registry::Limits;
use crate::{EmbeddedOptions, Handle, Options, StoreOptions, run};
use hyper_util::rt::TokioIo;
use prost::Message;
use serde_json::{Value, json};
use skiff_proto::metav1;
use skiff_proto::skiffv1 as pb;
use skiff_proto::skiffv1::resources_client::ResourcesClient;
use skiff_world::sim::{Machine, Sim, Simulation};
use skiff_world::{Address, Identity, World};
use std::future::Future;
use tonic::transport::{Channel, Endpoint};

const JSON: &str = "application/json";

/// A server to test against.
pub struct Server {
    pub machine: Machine,
    pub world: World,
    pub handle: Handle,
}

fn address() -> Address {
    Address::Pipe("apiserver".into())
}

fn options() -> Options {
    Options {
        advertise: vec![("10.89.0.1".parse().expect("an address"), 6443)],
        ..Options::new(vec![address()], StoreOptions::Embedded(EmbeddedOptions::new("/store")))
    }
}

impl Server {
    pub async fn start(sim: &Sim, options: Options) -> Self {
        let machine = sim.machine("server");
        let world = machine.world("apiserver", Some(Identity::new("system:apiserver", &["system:masters"])));
        let handle = run(world.clone(), options).await.expect("the server starts");
        Self { machine, world, handle }
    }

    /// A client with an identity of its own.
    pub fn client(&self, user: &str, groups: &[&str]) -> Client {
        self.client_as(Some(Identity::new(user, groups)))
    }

    pub fn admin(&self) -> Client {
        self.client("kubernetes-admin", &["system:masters"])
    }

    pub fn node(&self, name: &str) -> Client {
        self.client(&format!("system:node:{name}"), &["system:nodes"])
    }

    pub fn client_as(&self, identity: Option<Identity>) -> Client {
        let grpc = ResourcesClient::new(self.channel(identity)).max_decoding_message_size(64 << 20);
        Client { grpc, metadata: Vec::new() }
    }

    pub fn channel(&self, identity: Option<Identity>) -> Channel {
        let world = self.machine.world("client", identity);
        let executor = world.executor();
        let connector = tower::service_fn(move |_: ::http::Uri| {
            let world = world.clone();
            async move { world.connect(&address()).await.map(TokioIo::new) }
        });
        Endpoint::from_static("http://skiff").executor(executor).connect_with_connector_lazy(connector)
    }
}

/// A handler with a defect: over either face, at once or in the midst of its answer.
pub fn meet_a_defect<B>(request: &::http::Request<B>) {
    assert!(!request.headers().contains_key("x-meet-a-defect"), "deliberate");
}

/// Runs a test against a fresh server.
pub fn with_server<F>(test: impl FnOnce(Server) -> F + Send + 'static)
where
    F: Future<Output = ()> + Send + 'static,
{
    with_options(options(), test);
}

/// Runs a test against a server with limits of its own.
pub fn with_limits<F>(limits: Limits, test: impl FnOnce(Server) -> F + Send + 'static)
where
    F: Future<Output = ()> + Send + 'static,
{
    with_options(Options { limits, ..options() }, test);
}

fn with_options<F>(options: Options, test: impl FnOnce(Server) -> F + Send + 'static)
where
    F: Future<Output = ()> + Send + 'static,
{
    Simulation::new(1).run(move |sim: Sim| async move {
        let server = Server::start(&sim, options).await;
        test(server).await;
    });
}

/// Runs a test in several seeds' worlds: other delays, other orders.
pub fn in_many_worlds<F>(test: impl Fn(Server) -> F + Clone + Send + 'static)
where
    F: Future<Output = ()> + Send + 'static,
{
    for seed in 1..=8 {
        let test = test.clone();
        Simulation::new(seed).run(move |sim: Sim| async move {
            let server = Server::start(&sim, options()).await;
            test(server).await;
        });
    }
}

/// A refusal as a client sees it.
#[derive(Debug)]
pub struct Refused {
    pub grpc: tonic::Status,
    pub status: metav1::Status,
}

impl Refused {
    pub fn reason(&self) -> &str {
        &self.status.reason
    }

    pub fn message(&self) -> &str {
        &self.status.message
    }
}

impl From<tonic::Status> for Refused {
    fn from(grpc: tonic::Status) -> Self {
        let status = metav1::Status::decode(grpc.details()).unwrap_or_default();
        Self { grpc, status }
    }
}

pub type Answer = Result<Value, Refused>;

/// A client that speaks JSON.
#[derive(Clone)]
pub struct Client {
    pub grpc: ResourcesClient<Channel>,
    metadata: Vec<(&'static str, String)>,
}

/// `apps/v1:deployments:default/web/status`.
pub fn at(path: &str) -> pb::ResourceRef {
    // Names may have colons of their own.
    let mut parts = path.splitn(3, ':');
    let api_version = parts.next().unwrap_or_default();
    let resource = parts.next().unwrap_or_default();
    let mut names = parts.next().unwrap_or_default().split('/');
    let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
    let mut next = || names.next().unwrap_or_default().to_string();
    pb::ResourceRef {
        group: group.into(),
        version: version.into(),
        resource: resource.into(),
        namespace: next(),
        name: next(),
        subresource: next(),
    }
}

fn object(reply: tonic::Response<pb::ObjectReply>) -> Value {
    let reply = reply.into_inner();
    let mut value: Value = serde_json::from_slice(&reply.object).expect("JSON was asked for");
    if !reply.warnings.is_empty() {
        value["_warnings"] = json!(reply.warnings);
    }
    if reply.deleted {
        value["_deleted"] = json!(true);
    }
    if reply.created {
        value["_created"] = json!(true);
    }
    value
}

impl Client {
    /// The same client, with metadata on every request.
    pub fn with(mut self, key: &'static str, value: &str) -> Self {
        self.metadata.push((key, value.into()));
        self
    }

    fn request<M>(&self, message: M) -> tonic::Request<M> {
        let mut request = tonic::Request::new(message);
        for (key, value) in &self.metadata {
            request.metadata_mut().insert(*key, value.parse().expect("metadata"));
        }
        request
    }

    pub async fn get(&self, path: &str) -> Answer {
        let m = pb::GetRequest { r#ref: Some(at(path)), accept: JSON.into(), ..Default::default() };
        Ok(object(self.grpc.clone().get(self.request(m)).await?))
    }

    pub async fn create(&self, path: &str, value: Value) -> Answer {
        self.create_with(pb::CreateRequest {
            r#ref: Some(at(path)),
            object: value.to_string().into_bytes().into(),
            ..Default::default()
        })
        .await
    }

    pub async fn create_with(&self, mut m: pb::CreateRequest) -> Answer {
        m.accept = JSON.into();
        if m.content_type.is_empty() {
            m.content_type = JSON.into();
        }
        Ok(object(self.grpc.clone().create(self.request(m)).await?))
    }

    pub async fn update(&self, path: &str, value: &Value) -> Answer {
        let m = pb::UpdateRequest {
            r#ref: Some(at(path)),
            object: value.to_string().into_bytes().into(),
            content_type: JSON.into(),
            accept: JSON.into(),
            ..Default::default()
        };
        Ok(object(self.grpc.clone().update(self.request(m)).await?))
    }

    pub async fn patch(&self, path: &str, kind: pb::patch_request::Type, patch: Value) -> Answer {
        let m = pb::PatchRequest {
            r#ref: Some(at(path)),
            r#type: kind.into(),
            patch: patch.to_string().into_bytes().into(),
            accept: JSON.into(),
            ..Default::default()
        };
        Ok(object(self.grpc.clone().patch(self.request(m)).await?))
    }

    /// Server-side apply.
    pub async fn apply(&self, path: &str, manager: &str, force: bool, document: Value) -> Answer {
        let m = pb::PatchRequest {
            r#ref: Some(at(path)),
            r#type: pb::patch_request::Type::Apply.into(),
            patch: document.to_string().into_bytes().into(),
            accept: JSON.into(),
            field_manager: manager.into(),
            force,
            ..Default::default()
        };
        Ok(object(self.grpc.clone().patch(self.request(m)).await?))
    }

    pub async fn merge(&self, path: &str, patch: Value) -> Answer {
        self.patch(path, pb::patch_request::Type::Merge, patch).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.delete_with(pb::DeleteRequest { r#ref: Some(at(path)), ..Default::default() }).await
    }

    pub async fn delete_with(&self, mut m: pb::DeleteRequest) -> Answer {
        m.accept = JSON.into();
        Ok(object(self.grpc.clone().delete(self.request(m)).await?))
    }

    pub async fn page(&self, mut m: pb::ListRequest) -> Result<pb::ListReply, Refused> {
        m.accept = JSON.into();
        Ok(self.grpc.clone().list(self.request(m)).await?.into_inner())
    }

    /// All names of a collection.
    pub async fn names(&self, path: &str, labels: &str, fields: &str) -> Result<Vec<String>, Refused> {
        let m = pb::ListRequest {
            r#ref: Some(at(path)),
            label_selector: labels.into(),
            field_selector: fields.into(),
            ..Default::default()
        };
        let page = self.page(m).await?;
        Ok(page.items.iter().map(|item| name(&serde_json::from_slice(item).expect("JSON"))).collect())
    }

    pub async fn watch(&self, mut m: pb::WatchRequest) -> Result<tonic::Streaming<pb::WatchEvent>, Refused> {
        m.accept = JSON.into();
        Ok(self.grpc.clone().watch(self.request(m)).await?.into_inner())
    }
}

pub fn name(object: &Value) -> String {
    object["metadata"]["name"].as_str().unwrap_or_default().to_string()
}

pub fn revision(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"]
        .as_str()
        .and_then(|v| v.parse().ok())
        .expect("an object that was read has a revision")
}

/// A small Pod.
pub fn pod(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "main", "image": "demo:1"}]}})
}

/// A small Deployment.
pub fn deployment(name: &str) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "main", "image": "demo:1"}]},
            },
        },
    })
}
