//! `DynamicApi`: the verbs of any resource in the server's table, on JSON values.

use serde_json::Value;
use skiff_proto::skiffv1::{ObjectReply, ResourceInfo};

use crate::api::{DeleteOptions, Deletion, List, ListOptions, Patch, RawEvent, RawWatch, WatchEvent, WriteOptions};
use crate::client::{Client, JSON};
use crate::error::Error;
use crate::key::Resource;

/// The verbs of one resource, on JSON.
#[derive(Clone)]
pub struct DynamicApi {
    client: Client,
    resource: Resource,
    options: WriteOptions,
}

impl DynamicApi {
    /// The verbs of the resource that a row of the server's table describes.
    pub fn new(client: &Client, info: &ResourceInfo) -> DynamicApi {
        DynamicApi::of(client, Resource::from_info(info))
    }

    /// The verbs of a resource.
    pub fn of(client: &Client, resource: Resource) -> DynamicApi {
        DynamicApi { client: client.clone(), resource, options: WriteOptions::default() }
    }

    /// The same, writing with these options.
    pub fn with_options(&self, options: WriteOptions) -> DynamicApi {
        DynamicApi { options, ..self.clone() }
    }

    /// The whole resource table.
    pub async fn discover(client: &Client) -> Result<Vec<ResourceInfo>, Error> {
        Ok(client.discover().await?.resources)
    }

    /// The resource's names.
    pub fn resource(&self) -> &Resource {
        &self.resource
    }

    /// One object.
    pub async fn get(&self, namespace: &str, name: &str) -> Result<Value, Error> {
        self.get_sub(namespace, name, "").await
    }

    /// A subresource of one object.
    pub async fn get_sub(&self, namespace: &str, name: &str, subresource: &str) -> Result<Value, Error> {
        let reply = self.client.get(&self.resource, namespace, name, subresource, JSON, false).await?;
        parse("get", &reply.object)
    }

    /// One object, or `None` if it does not exist.
    pub async fn get_opt(&self, namespace: &str, name: &str) -> Result<Option<Value>, Error> {
        match self.get(namespace, name).await {
            Ok(object) => Ok(Some(object)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All objects of a namespace (`""`: of all); pages are followed.
    pub async fn list(&self, namespace: &str, options: &ListOptions) -> Result<List<Value>, Error> {
        let (items, resource_version) =
            self.client.list_all(&self.resource, namespace, options, JSON, |item| parse("list", item)).await?;
        Ok(List { items, resource_version })
    }

    /// What happens after `resource_version`.
    pub async fn watch(
        &self,
        namespace: &str,
        options: &ListOptions,
        resource_version: &str,
    ) -> Result<DynamicWatch, Error> {
        let raw =
            self.client.open_watch_as(&self.resource, namespace, options, JSON, false, resource_version, 0).await?;
        Ok(DynamicWatch { raw })
    }

    /// Makes an object in `namespace`.
    pub async fn create(&self, namespace: &str, object: &Value) -> Result<Value, Error> {
        let body = object.to_string().into_bytes();
        let reply = self.client.create(&self.resource, namespace, body, JSON, &self.options).await?;
        parse("create", &reply.object)
    }

    /// Posts a subresource of an object.
    pub async fn create_sub(
        &self,
        namespace: &str,
        name: &str,
        subresource: &str,
        body: &Value,
    ) -> Result<Value, Error> {
        let body = body.to_string().into_bytes();
        let reply =
            self.client.create_sub(&self.resource, namespace, name, subresource, body, JSON, &self.options).await?;
        parse("create", &reply.object)
    }

    /// Replaces an object; its metadata says which, and its resourceVersion must be the current one.
    pub async fn update(&self, namespace: &str, name: &str, object: &Value) -> Result<Value, Error> {
        let body = object.to_string().into_bytes();
        let reply = self.client.update(&self.resource, namespace, name, "", body, JSON, &self.options).await?;
        parse("update", &reply.object)
    }

    /// Changes parts of an object, or of a subresource.
    pub async fn patch(
        &self,
        namespace: &str,
        name: &str,
        patch: Patch,
        subresource: Option<&str>,
    ) -> Result<Value, Error> {
        let subresource = subresource.unwrap_or_default();
        let reply = self.client.patch(&self.resource, namespace, name, subresource, patch, JSON, &self.options).await?;
        parse("patch", &reply.object)
    }

    /// Deletes an object, at once or by its grace period.
    pub async fn delete(&self, namespace: &str, name: &str, options: &DeleteOptions) -> Result<Deletion<Value>, Error> {
        let ObjectReply { object, deleted, .. } =
            self.client.delete(&self.resource, namespace, name, JSON, options).await?;
        Ok(Deletion { gone: deleted, object: parse("delete", &object)? })
    }
}

fn parse(operation: &str, bytes: &[u8]) -> Result<Value, Error> {
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(bytes)
        .map_err(|error| Error::Decode { operation: operation.to_string(), reason: error.to_string() })
}

/// An open watch on JSON.
pub struct DynamicWatch {
    raw: RawWatch,
}

impl DynamicWatch {
    /// The next event; `None` at the stream's orderly end.
    pub async fn next(&mut self) -> Option<Result<WatchEvent<Value>, Error>> {
        let event = match self.raw.next().await? {
            Ok(event) => event,
            Err(error) => return Some(Err(error)),
        };
        Some(match event {
            RawEvent::Put { object, revision, added: true } => {
                parse("watch", &object).map(|object| WatchEvent::Added { object, revision })
            }
            RawEvent::Put { object, revision, added: false } => {
                parse("watch", &object).map(|object| WatchEvent::Modified { object, revision })
            }
            RawEvent::Deleted { object, revision } => {
                parse("watch", &object).map(|object| WatchEvent::Deleted { object, revision })
            }
            RawEvent::Bookmark { revision, initial_events_end } => {
                Ok(WatchEvent::Bookmark { revision, initial_events_end })
            }
        })
    }
}
