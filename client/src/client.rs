//! The client: every call to the API server, on bytes. [`crate::Api`] and [`crate::DynamicApi`] give them types.
//!
//! Each call has a timeout. Each write carries its cause (`cause.rs`) and, in a leader's hands, its fence; each write
//! that succeeds is noted for the driver (`driver/settled.rs`).

mod writes;

use std::sync::Arc;
use std::time::Duration;

use skiff_proto::skiffv1::resources_client::ResourcesClient;
use skiff_proto::skiffv1::{self, ObjectReply};
use skiff_world::World;

use crate::api::{ListOptions, Page, RawWatch};
use crate::config::ClientConfig;
use crate::connection::{Connection, SharedConnection, Wire};
use crate::driver::settled::Views;
use crate::election::Fence;
use crate::error::Error;
use crate::key::Resource;

/// The content type of bare protobuf messages.
pub const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
/// The content type of JSON.
pub const JSON: &str = "application/json";

const TIMEOUT: Duration = Duration::from_secs(30);
/// Objects are at most 1.5 MiB and pages about 1 MiB; this leaves room.
const MAX_MESSAGE: usize = 16 << 20;

/// Takes warnings that the server sends with a reply.
pub type WarningHandler = Arc<dyn Fn(&str) + Send + Sync>;

/// A way to the API server. Cheap to clone; clones share the connection.
#[derive(Clone)]
pub struct Client {
    world: World,
    connection: SharedConnection,
    views: Views,
    fence: Option<Fence>,
    warnings: Option<WarningHandler>,
    timeout: Duration,
    /// When this process made its client, RFC 3339: what tells its writes from those of the process before it.
    started: Arc<str>,
}

impl Client {
    /// A client that will connect when it is first used.
    pub fn new(world: &World, config: ClientConfig) -> Result<Client, Error> {
        Ok(Client {
            world: world.clone(),
            connection: Arc::new(Connection::new(world, config)?),
            views: Views::default(),
            fence: None,
            warnings: None,
            timeout: TIMEOUT,
            started: world.wall().to_string().into(),
        })
    }

    /// The same client, whose writes fail once the leadership behind the fence has passed to somebody else.
    pub fn with_fence(&self, fence: &Fence) -> Client {
        Client { fence: Some(fence.clone()), ..self.clone() }
    }

    /// The same client, with another time allowed for each call.
    pub fn with_timeout(&self, timeout: Duration) -> Client {
        Client { timeout, ..self.clone() }
    }

    /// The same client, which hands the server's warnings to `handler` instead of logging them.
    pub fn with_warnings(&self, handler: WarningHandler) -> Client {
        Client { warnings: Some(handler), ..self.clone() }
    }

    /// The World it lives in.
    pub fn world(&self) -> &World {
        &self.world
    }

    /// What it was made from.
    pub fn config(&self) -> &ClientConfig {
        self.connection.config()
    }

    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    pub(crate) fn views(&self) -> &Views {
        &self.views
    }

    pub(crate) async fn wire(&self) -> Result<Wire, Error> {
        self.connection.wire().await
    }

    /// Every resource the server knows, and its version.
    pub async fn discover(&self) -> Result<skiffv1::DiscoverReply, Error> {
        self.call("discover the resources", async |mut api| api.discover(skiffv1::DiscoverRequest {}).await).await
    }

    /// What an object of a custom resource may hold; `None` for kinds that are built in.
    pub async fn explain(
        &self,
        resource: &skiffv1::ResourceInfo,
    ) -> Result<Option<skiff_proto::apiextensionsv1::JsonSchemaProps>, Error> {
        let request = skiffv1::ExplainRequest {
            group: resource.group.clone(),
            version: resource.version.clone(),
            resource: resource.resource.clone(),
        };
        let operation = format!("explain {}", resource.resource);
        Ok(self.call(&operation, async |mut api| api.explain(request).await).await?.schema)
    }

    /// One object as bytes.
    pub async fn get(
        &self,
        resource: &Resource,
        namespace: &str,
        name: &str,
        subresource: &str,
        accept: &str,
        metadata_only: bool,
    ) -> Result<ObjectReply, Error> {
        let request = skiffv1::GetRequest {
            r#ref: Some(resource.reference(namespace, name, subresource)),
            accept: accept.to_string(),
            metadata_only,
        };
        let operation = operation("get", resource, namespace, name, subresource);
        self.call(&operation, async |mut api| api.get(request).await).await
    }

    pub(crate) async fn page(
        &self,
        resource: &Resource,
        namespace: &str,
        options: &ListOptions,
        metadata_only: bool,
        token: &str,
    ) -> Result<Page, Error> {
        self.page_as(resource, namespace, options, PROTOBUF, metadata_only, token).await
    }

    pub(crate) async fn page_as(
        &self,
        resource: &Resource,
        namespace: &str,
        options: &ListOptions,
        accept: &str,
        metadata_only: bool,
        token: &str,
    ) -> Result<Page, Error> {
        // A token holds the revision of the first page; to name one beside it is an error.
        let from = if token.is_empty() { options.resource_version.as_str() } else { "" };
        let request = skiffv1::ListRequest {
            r#ref: Some(resource.reference(namespace, "", "")),
            accept: accept.to_string(),
            metadata_only,
            label_selector: options.labels.clone(),
            field_selector: options.fields.clone(),
            limit: options.limit,
            r#continue: token.to_string(),
            resource_version: from.to_string(),
            resource_version_match: if from.is_empty() { String::new() } else { "NotOlderThan".to_string() },
        };
        let operation = operation("list", resource, namespace, "", "");
        let reply = self.call(&operation, async |mut api| api.list(request).await).await?;
        let revision = reply.resource_version.parse().map_err(|_| Error::Decode {
            operation,
            reason: format!("the list has the resourceVersion {:?}", reply.resource_version),
        })?;
        let items = reply.items.into_iter().map(Into::into).collect();
        Ok(Page { items, resource_version: reply.resource_version, revision, next: reply.r#continue })
    }

    /// All pages of a list, decoded as they come.
    pub(crate) async fn list_all<T>(
        &self,
        resource: &Resource,
        namespace: &str,
        options: &ListOptions,
        accept: &str,
        decode: impl Fn(&[u8]) -> Result<T, Error>,
    ) -> Result<(Vec<T>, String), Error> {
        let mut all = Vec::new();
        let mut token = String::new();
        loop {
            let page = self.page_as(resource, namespace, options, accept, false, &token).await?;
            for item in &page.items {
                all.push(decode(item)?);
            }
            token = page.next;
            if token.is_empty() {
                return Ok((all, page.resource_version));
            }
        }
    }

    pub(crate) async fn open_watch(
        &self,
        resource: &Resource,
        namespace: &str,
        options: &ListOptions,
        metadata_only: bool,
        resource_version: &str,
        seconds: u64,
    ) -> Result<RawWatch, Error> {
        self.open_watch_as(resource, namespace, options, PROTOBUF, metadata_only, resource_version, seconds).await
    }

    #[allow(clippy::too_many_arguments, reason = "the arguments are the request")]
    pub(crate) async fn open_watch_as(
        &self,
        resource: &Resource,
        namespace: &str,
        options: &ListOptions,
        accept: &str,
        metadata_only: bool,
        resource_version: &str,
        seconds: u64,
    ) -> Result<RawWatch, Error> {
        let request = skiffv1::WatchRequest {
            r#ref: Some(resource.reference(namespace, "", "")),
            accept: accept.to_string(),
            metadata_only,
            label_selector: options.labels.clone(),
            field_selector: options.fields.clone(),
            resource_version: resource_version.to_string(),
            allow_bookmarks: true,
            send_initial_events: false,
            timeout_seconds: i64::try_from(seconds).unwrap_or(i64::MAX),
        };
        let operation = operation("watch", resource, namespace, "", "");
        let events = self.call(&operation, async |mut api| api.watch(request).await).await?;
        Ok(RawWatch { operation, events })
    }

    async fn call<T, F>(&self, operation: &str, call: F) -> Result<T, Error>
    where
        F: AsyncFnOnce(ResourcesClient<Wire>) -> Result<tonic::Response<T>, tonic::Status>,
    {
        let answered = async {
            let api = ResourcesClient::with_origin(self.wire().await?, self.origin());
            let api = api.max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE);
            match call(api).await {
                Ok(reply) => Ok(reply.into_inner()),
                Err(status) => Err(Error::from_grpc(operation, &status)),
            }
        };
        match tokio::time::timeout(self.timeout, answered).await {
            Ok(answer) => answer,
            Err(_) => Err(Error::Timeout { operation: operation.to_string(), after: self.timeout }),
        }
    }

    pub(crate) fn origin(&self) -> http::Uri {
        http::Uri::from_static(if self.config().tls.is_some() { "https://skiff" } else { "http://skiff" })
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("servers", &self.config().servers).field("fence", &self.fence).finish()
    }
}

/// What is asked, for errors: `patch pods/status default/web`.
fn operation(verb: &str, resource: &Resource, namespace: &str, name: &str, subresource: &str) -> String {
    let mut text = format!("{verb} {resource}");
    if !subresource.is_empty() {
        text = format!("{text}/{subresource}");
    }
    match (namespace, name) {
        ("", "") => text,
        (namespace, "") => format!("{text} in {namespace}"),
        ("", name) => format!("{text} {name}"),
        (namespace, name) => format!("{text} {namespace}/{name}"),
    }
}
