//! `Api<K>`: the verbs of one kind, typed.

use std::marker::PhantomData;

use prost::Message;
use serde_json::Value;
use skiff_proto::Kind;
use skiff_proto::{authenticationv1, corev1, skiffv1};

use crate::client::{Client, PROTOBUF};
use crate::error::Error;
use crate::key::Resource;

/// Which objects, and how many at a time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListOptions {
    /// A label selector: `app=web,tier!=db`.
    pub labels: String,
    /// A field selector: `spec.nodeName=n1`.
    pub fields: String,
    /// The size of a page; 0 lets the server choose. Pages are followed in any case.
    pub limit: i64,
    /// The list is at least as new as this; empty: the newest.
    pub resource_version: String,
}

impl ListOptions {
    /// Selects by labels.
    pub fn labels(selector: impl Into<String>) -> ListOptions {
        ListOptions { labels: selector.into(), ..ListOptions::default() }
    }

    /// Selects by fields.
    pub fn fields(selector: impl Into<String>) -> ListOptions {
        ListOptions { fields: selector.into(), ..ListOptions::default() }
    }
}

/// A list, and the revision at which it was true.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct List<K> {
    /// The objects, in the order of their keys.
    pub items: Vec<K>,
    /// Where to watch from.
    pub resource_version: String,
}

/// How to write.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WriteOptions {
    /// Check and answer as if, but change nothing.
    pub dry_run: bool,
    /// The name under which managedFields records the fields written; empty: from the user agent.
    pub field_manager: String,
    /// What to do about unknown fields: `Ignore`, `Warn` or `Strict`; empty: the server's default.
    pub field_validation: String,
}

/// How to delete.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteOptions {
    /// How long the object may take to go; none: its own time.
    pub grace_period_seconds: Option<i64>,
    /// `Background`, `Foreground` or `Orphan`; empty: the resource's default.
    pub propagation_policy: String,
    /// Only if the object has this uid.
    pub uid: String,
    /// Only if the object has this resourceVersion.
    pub resource_version: String,
    /// Check and answer as if, but change nothing.
    pub dry_run: bool,
}

impl DeleteOptions {
    /// Only if the object is the one that has this uid, not a later one of the same name.
    pub fn of_uid(uid: impl Into<String>) -> DeleteOptions {
        DeleteOptions { uid: uid.into(), ..DeleteOptions::default() }
    }
}

/// What a delete did.
#[derive(Clone, Debug, PartialEq)]
pub struct Deletion<K> {
    /// Whether the object is gone; otherwise it is on its way.
    pub gone: bool,
    /// The object as it is now, or last was.
    pub object: K,
}

/// A change to parts of an object.
#[derive(Clone, Debug, PartialEq)]
pub enum Patch {
    /// RFC 7386: what is named is replaced, null removes. With `metadata.resourceVersion` in it,
    /// it only applies to that version.
    Merge(Value),
    /// Kubernetes' strategic merge: lists are merged by their keys.
    Strategic(Value),
    /// RFC 6902: a list of operations.
    Json(Value),
    /// Server-side apply.
    Apply {
        /// The fields that the manager wants.
        object: Value,
        /// Who manages them.
        manager: String,
        /// Take fields over from others.
        force: bool,
    },
}

/// What a watch tells.
#[derive(Clone, Debug, PartialEq)]
pub enum WatchEvent<K> {
    /// The object came (or came to be selected).
    Added {
        /// The object.
        object: K,
        /// When.
        revision: u64,
    },
    /// The object changed.
    Modified {
        /// The object.
        object: K,
        /// When.
        revision: u64,
    },
    /// The object went (or is no longer selected).
    Deleted {
        /// What it last was.
        object: K,
        /// When it went.
        revision: u64,
    },
    /// Everything up to here has been told.
    Bookmark {
        /// Up to here.
        revision: u64,
        /// The objects that existed at the start have all been told.
        initial_events_end: bool,
    },
}

/// The same, not yet decoded.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum RawEvent {
    Put { object: Vec<u8>, revision: u64, added: bool },
    Deleted { object: Vec<u8>, revision: u64 },
    Bookmark { revision: u64, initial_events_end: bool },
}

/// One page of a list, not yet decoded.
pub(crate) struct Page {
    pub(crate) items: Vec<Vec<u8>>,
    pub(crate) resource_version: String,
    pub(crate) revision: u64,
    /// The token for the next page; empty at the end.
    pub(crate) next: String,
}

/// An open watch, not yet decoded.
pub(crate) struct RawWatch {
    pub(crate) operation: String,
    pub(crate) events: tonic::Streaming<skiffv1::WatchEvent>,
}

impl RawWatch {
    /// The next event; an error event is an error. `None` at the stream's orderly end.
    pub(crate) async fn next(&mut self) -> Option<Result<RawEvent, Error>> {
        match self.events.message().await {
            Ok(None) => None,
            Ok(Some(event)) => Some(raw_event(&self.operation, event)),
            Err(status) => Some(Err(Error::from_grpc(&self.operation, &status))),
        }
    }
}

fn raw_event(operation: &str, event: skiffv1::WatchEvent) -> Result<RawEvent, Error> {
    use skiffv1::watch_event::Type;
    let broken = |reason: String| Error::Decode { operation: operation.to_string(), reason };
    let object = event.object.to_vec();
    if event.r#type() == Type::Error {
        let status = skiff_proto::metav1::Status::decode(object.as_slice()).map_err(|e| broken(e.to_string()))?;
        return Err(Error::api(operation, status));
    }
    let revision = (event.resource_version.parse())
        .map_err(|_| broken(format!("an event has the resourceVersion {:?}", event.resource_version)))?;
    match event.r#type() {
        Type::Added => Ok(RawEvent::Put { object, revision, added: true }),
        Type::Modified => Ok(RawEvent::Put { object, revision, added: false }),
        Type::Deleted => Ok(RawEvent::Deleted { object, revision }),
        Type::Bookmark => Ok(RawEvent::Bookmark { revision, initial_events_end: event.initial_events_end }),
        Type::Unknown | Type::Error => Err(broken(format!("an event has the unknown type {}", event.r#type))),
    }
}

/// An open watch. It ends when the server or the connection does; an [`crate::Informer`] is what goes on.
pub struct WatchStream<K> {
    raw: RawWatch,
    kind: PhantomData<fn() -> K>,
}

impl<K: Message + Default> WatchStream<K> {
    /// The next event; `None` at the stream's orderly end.
    pub async fn next(&mut self) -> Option<Result<WatchEvent<K>, Error>> {
        let event = match self.raw.next().await? {
            Ok(event) => event,
            Err(error) => return Some(Err(error)),
        };
        let decode = |bytes: &[u8]| decode::<K>(&self.raw.operation, bytes);
        Some(match event {
            RawEvent::Put { object, revision, added: true } => {
                decode(&object).map(|object| WatchEvent::Added { object, revision })
            }
            RawEvent::Put { object, revision, added: false } => {
                decode(&object).map(|object| WatchEvent::Modified { object, revision })
            }
            RawEvent::Deleted { object, revision } => {
                decode(&object).map(|object| WatchEvent::Deleted { object, revision })
            }
            RawEvent::Bookmark { revision, initial_events_end } => {
                Ok(WatchEvent::Bookmark { revision, initial_events_end })
            }
        })
    }
}

fn decode<K: Message + Default>(operation: &str, bytes: &[u8]) -> Result<K, Error> {
    K::decode(bytes).map_err(|error| Error::Decode { operation: operation.to_string(), reason: error.to_string() })
}

/// The verbs of one kind.
pub struct Api<K> {
    client: Client,
    resource: Resource,
    options: WriteOptions,
    kind: PhantomData<fn() -> K>,
}

impl<K> Clone for Api<K> {
    fn clone(&self) -> Self {
        Api {
            client: self.client.clone(),
            resource: self.resource.clone(),
            options: self.options.clone(),
            kind: PhantomData,
        }
    }
}

impl<K: Kind> Api<K> {
    /// The verbs of `K` through this client.
    pub fn new(client: &Client) -> Api<K> {
        let options = WriteOptions::default();
        Api { client: client.clone(), resource: Resource::of::<K>(), options, kind: PhantomData }
    }

    /// The same, writing with these options.
    pub fn with_options(&self, options: WriteOptions) -> Api<K> {
        Api { options, ..self.clone() }
    }

    /// The resource's names.
    pub fn resource(&self) -> &Resource {
        &self.resource
    }

    /// One object.
    pub async fn get(&self, namespace: &str, name: &str) -> Result<K, Error> {
        let reply = self.client.get(&self.resource, namespace, name, "", PROTOBUF, false).await?;
        decode("get", &reply.object)
    }

    /// One object, or `None` if it does not exist.
    pub async fn get_opt(&self, namespace: &str, name: &str) -> Result<Option<K>, Error> {
        match self.get(namespace, name).await {
            Ok(object) => Ok(Some(object)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All objects of a namespace (`""`: of all namespaces); pages are followed.
    pub async fn list(&self, namespace: &str, options: &ListOptions) -> Result<List<K>, Error> {
        let (items, resource_version) =
            self.client.list_all(&self.resource, namespace, options, PROTOBUF, |item| decode("list", item)).await?;
        Ok(List { items, resource_version })
    }

    /// What happens after `resource_version`.
    pub async fn watch(
        &self,
        namespace: &str,
        options: &ListOptions,
        resource_version: &str,
    ) -> Result<WatchStream<K>, Error> {
        let raw = self.client.open_watch(&self.resource, namespace, options, false, resource_version, 0).await?;
        Ok(WatchStream { raw, kind: PhantomData })
    }

    /// Makes an object; its metadata says where.
    pub async fn create(&self, object: &K) -> Result<K, Error> {
        let bytes = object.encode_to_vec();
        let namespace = &object.metadata().namespace;
        let reply = self.client.create(&self.resource, namespace, bytes, PROTOBUF, &self.options).await?;
        decode("create", &reply.object)
    }

    /// Replaces an object that this component created; its metadata's resourceVersion must be the current one.
    pub async fn update(&self, object: &K) -> Result<K, Error> {
        self.put(object, "").await
    }

    /// Replaces an object's status only.
    pub async fn update_status(&self, object: &K) -> Result<K, Error> {
        self.put(object, "status").await
    }

    async fn put(&self, object: &K, subresource: &str) -> Result<K, Error> {
        let (metadata, bytes) = (object.metadata(), object.encode_to_vec());
        let (namespace, name) = (&metadata.namespace, &metadata.name);
        let reply =
            self.client.update(&self.resource, namespace, name, subresource, bytes, PROTOBUF, &self.options).await?;
        decode("update", &reply.object)
    }

    /// Deletes an object, at once or by its grace period.
    pub async fn delete(&self, namespace: &str, name: &str, options: &DeleteOptions) -> Result<Deletion<K>, Error> {
        let reply = self.client.delete(&self.resource, namespace, name, PROTOBUF, options).await?;
        Ok(Deletion { gone: reply.deleted, object: decode("delete", &reply.object)? })
    }

    /// Changes parts of an object, or of a subresource (`Some("scale")`).
    pub async fn patch(
        &self,
        namespace: &str,
        name: &str,
        patch: Patch,
        subresource: Option<&str>,
    ) -> Result<K, Error> {
        let subresource = subresource.unwrap_or_default();
        let reply =
            self.client.patch(&self.resource, namespace, name, subresource, patch, PROTOBUF, &self.options).await?;
        decode("patch", &reply.object)
    }

    /// Changes parts of an object's status.
    pub async fn patch_status(&self, namespace: &str, name: &str, patch: Patch) -> Result<K, Error> {
        #[cfg(feature = "mutants")]
        crate::mutants::before_status(self, namespace, name).await?;
        self.patch(namespace, name, patch, Some("status")).await
    }

    /// Posts a subresource of an object: a Pod's `binding` or `eviction`.
    pub async fn create_sub<B: Message>(
        &self,
        namespace: &str,
        name: &str,
        subresource: &str,
        body: &B,
    ) -> Result<(), Error> {
        let bytes = body.encode_to_vec();
        self.client.create_sub(&self.resource, namespace, name, subresource, bytes, PROTOBUF, &self.options).await?;
        Ok(())
    }
}

impl Api<corev1::Pod> {
    /// Gives a Pod its node.
    pub async fn bind(&self, binding: &corev1::Binding) -> Result<(), Error> {
        let metadata = &binding.metadata;
        self.create_sub(&metadata.namespace, &metadata.name, "binding", binding).await
    }
}

impl Api<corev1::ServiceAccount> {
    /// Asks for a token of a service account.
    pub async fn token(
        &self,
        namespace: &str,
        name: &str,
        asked: &authenticationv1::TokenRequest,
    ) -> Result<authenticationv1::TokenRequest, Error> {
        let bytes = asked.encode_to_vec();
        let reply =
            self.client.create_sub(&self.resource, namespace, name, "token", bytes, PROTOBUF, &self.options).await?;
        decode("create the token", &reply.object)
    }
}

#[cfg(test)]
mod tests;
