//! One write: the store's transaction with everything the decision stood on as comparisons, and the cause inside.

use super::error::{ApiError, ApiResult};
use super::request::{Fence, Request};
use super::{Registry, meta};
use crate::cache::CacheError;
use crate::envelope::{ContentType, Envelope};
use crate::resources::{Object, Resource};
use crate::store::{Compare, MAX_VALUE, Op, StoreError, Txn, TxnResult, tombstone_key};
use bytes::Bytes;
use prost::Message;
use skiff_proto::coordinationv1::Lease;
use skiff_proto::metav1::{ObjectMeta, PartialObjectMetadata};
use skiff_proto::skiffv1;
use skiff_world::mutants::{Mutant, is_awake};
use std::time::Duration;

/// How long the cause of a final delete is kept.
const TOMBSTONE_LIFE: Duration = Duration::from_secs(3600);
/// How long the cache may need to see what the store has acknowledged.
const PATIENCE: Duration = Duration::from_secs(3);
/// A write that names no revision is tried so often before it is given back as a conflict.
pub const ATTEMPTS: usize = 64;
/// The most a client may say about why.
const CAUSE_MAX: usize = 1024;

/// An object as it is now.
pub struct Current {
    /// Decoded, its resourceVersion set.
    pub object: Box<dyn Object>,
    /// As it is stored.
    pub stored: Bytes,
    /// The revision of its last write.
    pub revision: u64,
}

/// What became of a write.
pub enum Outcome {
    /// Written, at this revision.
    Done(u64),
    /// Something it stood on has changed; the cache has seen how by now. Work it out again.
    Again,
}

/// One change to be written.
pub enum Change {
    /// A new object, encoded.
    Create(Bytes),
    /// An object, encoded, in place of the one at this revision.
    Replace(Bytes, u64),
    /// The end of the object that was at this revision.
    Remove(u64),
}

/// Other comparisons and operations, for the same transaction.
#[derive(Default)]
pub struct Beside {
    /// What else must hold.
    pub compare: Vec<Compare>,
    /// What else is done.
    pub ops: Vec<Op>,
    /// Other objects that change with this one.
    pub also: Vec<Also>,
}

/// Another object, put in place of itself as it was at a revision.
pub struct Also {
    /// Its key.
    pub key: Bytes,
    /// The object as it is stored: in protobuf, without resourceVersion.
    pub object: Bytes,
    /// The revision of its last write.
    pub revision: u64,
}

impl Registry {
    /// Reads an object as the cache knows it.
    pub(super) fn current(&self, resource: &Resource, namespace: &str, name: &str) -> ApiResult<Option<Current>> {
        let namespace = if resource.namespaced { namespace } else { "" };
        let Some(entry) = self.inner.cache.get(resource.cached(), namespace, name) else { return Ok(None) };
        let decoded = resource.strategy.decode_stored(&entry.object(), entry.content_type()).map_err(|e| {
            ApiError::internal(format!("the stored {} {name:?} cannot be read: {e}", resource.qualified()))
        })?;
        let mut object = decoded.object;
        object.meta_mut().resource_version = entry.mod_revision.to_string();
        Ok(Some(Current { object, stored: entry.stored().clone(), revision: entry.mod_revision }))
    }

    /// Reads an object that must exist. Where the cache knows of none, the store is asked how far it is first, so that
    /// a client never misses what it has just written.
    pub(super) async fn existing(&self, request: &Request) -> ApiResult<Current> {
        let look = || self.current(&request.resource, &request.namespace, &request.name);
        if let Some(current) = look()? {
            return Ok(current);
        }
        self.catch_up().await?;
        look()?.ok_or_else(|| ApiError::not_found(&request.resource, &request.name))
    }

    /// Reads an object that must exist and must be this incarnation at this revision, where they are given. What the
    /// cache shows may be old: it catches up before anything is refused.
    pub(super) async fn existing_if(&self, request: &Request, uid: &str, version: &str) -> ApiResult<Current> {
        let current = self.existing(request).await?;
        if meta::preconditions(&request.resource, current.object.meta(), uid, version).is_ok() {
            return Ok(current);
        }
        self.catch_up().await?;
        let current = self.existing(request).await?;
        meta::preconditions(&request.resource, current.object.meta(), uid, version)?;
        Ok(current)
    }

    /// Reads an object for a part of the server itself; as new as everything acknowledged before.
    pub async fn read(&self, resource: &Resource, namespace: &str, name: &str) -> ApiResult<Box<dyn Object>> {
        self.catch_up().await?;
        match self.current(resource, namespace, name)? {
            Some(current) => Ok(current.object),
            None => Err(ApiError::not_found(resource, name)),
        }
    }

    /// Waits until the cache has seen everything acknowledged so far.
    pub(crate) async fn catch_up(&self) -> ApiResult<()> {
        let head = self.inner.store.head().await.map_err(store_error)?;
        self.wait_for(head).await
    }

    /// Waits until the cache has seen a revision.
    pub(super) async fn wait_for(&self, revision: u64) -> ApiResult<()> {
        self.inner.cache.wait_until(revision, PATIENCE).await.map_err(cache_error)
    }

    /// Checks that the kind of a new object of a custom resource stays; the comparison holds that for the time of the write.
    pub(super) async fn open_kind(&self, request: &Request) -> ApiResult<Option<Compare>> {
        let Some(definition) = request.resource.strategy.definition() else { return Ok(None) };
        let definitions = self.resource(crate::custom::GROUP, "v1", crate::custom::DEFINITIONS)?;
        let Some(entry) = self.inner.cache.get(definitions.cached(), "", &definition.name) else {
            return Err(ApiError::no_such_resource("the server could not find the requested resource"));
        };
        // What follows the metadata is skipped unread.
        let partial = PartialObjectMetadata::decode(entry.stored().as_ref()).map_err(ApiError::internal)?;
        if partial.metadata.deletion_timestamp.is_some() {
            let why = "create not allowed while custom resource definition is terminating";
            return Err(ApiError::not_allowed(why));
        }
        Ok(Some(Compare { key: definitions.key("", &definition.name), mod_revision: entry.mod_revision }))
    }

    /// Writes a change with its cause, if what it stands on still holds.
    /// `meta` says where: only its namespace, name and uid are looked at.
    pub(super) async fn commit(
        &self,
        request: &Request,
        meta: &ObjectMeta,
        change: Change,
        beside: Beside,
    ) -> ApiResult<Outcome> {
        let resource = &request.resource;
        let key = resource.key(&meta.namespace, &meta.name);
        let (object, replaced) = match change {
            Change::Create(object) => (Some(object), 0),
            Change::Replace(object, revision) => (Some(object), revision),
            Change::Remove(revision) => (None, revision),
        };
        let value = self.envelope(request, object.clone(), replaced)?;
        let mut txn = Txn::default().expect(key.clone(), replaced);
        txn = match object {
            Some(_) => txn.and(Op::Put { key, value, ttl: resource.time_to_live }),
            // A delete has no value: its cause is put beside it.
            None => {
                let tombstone = tombstone_key(&key, &meta.uid);
                txn.and(Op::Delete { key }).and(Op::Put { key: tombstone, value, ttl: Some(TOMBSTONE_LIFE) })
            }
        };
        txn.ops.extend(beside.ops);
        for also in beside.also {
            let value = self.envelope_also(request, meta, &also)?;
            txn = txn.expect(also.key.clone(), also.revision).and(Op::Put { key: also.key, value, ttl: None });
        }
        txn.compare.extend(beside.compare);
        if let Some(fence) = request.fence.as_ref().filter(|_| !is_awake(Mutant::NoFence)) {
            txn.compare.push(self.fence(fence).await?);
        }
        if request.dry_run() {
            return Ok(Outcome::Done(0));
        }
        let began = self.inner.world.now();
        let ended = self.inner.store.txn(txn).await;
        let committed = ended.as_ref().ok().map(|result| matches!(result, TxnResult::Committed { .. }));
        self.inner.metrics.committed(committed, self.inner.world.now().saturating_duration_since(began));
        match ended.map_err(store_error)? {
            TxnResult::Committed { revision } => Ok(Outcome::Done(revision)),
            TxnResult::Conflict { revision, .. } => {
                self.wait_for(revision).await?;
                Ok(Outcome::Again)
            }
        }
    }

    /// The stored value: the object without its resourceVersion, and why it was written.
    fn envelope(&self, request: &Request, object: Option<Bytes>, replaced: u64) -> ApiResult<Bytes> {
        let cause = self.cause(request, replaced)?.encode_to_vec().into();
        let content_type = request.resource.strategy.stored_as();
        let value = Envelope { content_type, object: object.unwrap_or_default(), cause }.encode();
        if value.len() > MAX_VALUE {
            return Err(ApiError::too_large("the object", value.len(), MAX_VALUE));
        }
        Ok(value)
    }

    /// The stored value of an object that changes because another one is written: the cause names that one.
    fn envelope_also(&self, request: &Request, written: &ObjectMeta, also: &Also) -> ApiResult<Bytes> {
        let mut cause = self.cause(request, also.revision)?;
        cause.reason = format!(
            "written with {} {}/{}: {}",
            request.resource.qualified(),
            written.namespace,
            written.name,
            cause.verb
        );
        cause.verb = "update".into();
        let object = also.object.clone();
        let envelope = Envelope { content_type: ContentType::Protobuf, object, cause: cause.encode_to_vec().into() };
        Ok(envelope.encode())
    }

    /// The cause as it is stored: the client's words with what only the server knows.
    fn cause(&self, request: &Request, replaced: u64) -> ApiResult<skiffv1::Cause> {
        let mut cause = request.cause.clone();
        // Who it was is for the server to say; only which program it says it was, and since when, comes with the request.
        let told = cause.actor.take().unwrap_or_default();
        let (component, process_start) = (told.component, told.process_start);
        // Measured without what the server adds: a client that keeps to the limit is never refused.
        let size = cause.encoded_len();
        if size > CAUSE_MAX {
            return Err(ApiError::too_large("the cause of this write", size, CAUSE_MAX));
        }
        let node = crate::auth::node_name(&request.identity).unwrap_or_default().into();
        let user = request.identity.user.clone();
        cause.actor = Some(skiffv1::Actor { user, component, node, process_start });
        // An apply that finds no object makes one.
        cause.verb = if replaced == 0 { "create".into() } else { request.verb().into() };
        if !request.subresource.is_empty() {
            cause.verb = format!("{} {}", cause.verb, request.subresource);
        }
        cause.replaced_revision = replaced;
        Ok(cause)
    }

    /// The comparison that lets a deposed leader's write fail: the Lease is held as the writer says, and stays so until
    /// the write has happened.
    async fn fence(&self, fence: &Fence) -> ApiResult<Compare> {
        match self.fence_once(fence) {
            Ok(compare) => Ok(compare),
            // The Lease may have been taken a moment ago.
            Err(_) => {
                self.catch_up().await?;
                self.fence_once(fence)
            }
        }
    }

    fn fence_once(&self, fence: &Fence) -> ApiResult<Compare> {
        let resource = self.resource("coordination.k8s.io", "v1", "leases")?;
        let refuse = |found: String| {
            ApiError::conflict(
                &resource,
                &fence.name,
                format!(
                    "this write is fenced by the Lease {}/{}, which must be held by {:?} with {} transitions: {found}; \
                     the writer is no longer the leader",
                    fence.namespace, fence.name, fence.holder, fence.transitions
                ),
            )
        };
        let Some(current) = self.current(&resource, &fence.namespace, &fence.name)? else {
            return Err(refuse("there is no such Lease".into()));
        };
        let lease = current.object.as_any().downcast_ref::<crate::resources::Typed<Lease>>();
        let spec = lease.map(|typed| &typed.0.spec);
        let holder = spec.and_then(|s| s.holder_identity.as_deref()).unwrap_or_default();
        let transitions = spec.and_then(|s| s.lease_transitions).unwrap_or_default();
        if holder != fence.holder || transitions != fence.transitions {
            return Err(refuse(format!("it is held by {holder:?} with {transitions}")));
        }
        Ok(Compare { key: resource.key(&fence.namespace, &fence.name), mod_revision: current.revision })
    }
}

/// A refusal by the store, in the API's words.
pub fn store_error(error: StoreError) -> ApiError {
    match error {
        StoreError::Compacted { .. } | StoreError::Restored => {
            ApiError::expired(format!("The resourceVersion is too old: {error}"))
        }
        StoreError::FutureRevision { asked, head } => ApiError::revision_too_large(asked, head),
        StoreError::Timeout { .. } => ApiError::timeout(format!("{error}; a write may or may not have happened")),
        StoreError::Invalid(why) => ApiError::bad_request(why),
        StoreError::Unavailable(_) | StoreError::Closed | StoreError::Lagging => {
            ApiError::unavailable(error.to_string())
        }
        StoreError::NewerFormat { .. } | StoreError::Corrupt(_) => ApiError::internal(error),
    }
}

/// A refusal by the cache, in the API's words.
pub fn cache_error(error: CacheError) -> ApiError {
    match error {
        CacheError::Expired { .. } | CacheError::Lagging | CacheError::Ended => ApiError::expired(error.to_string()),
        CacheError::Behind { asked, current } => ApiError::revision_too_large(asked, current),
        CacheError::Store(error) => store_error(error),
        CacheError::UnknownField(_) => ApiError::bad_request(error.to_string()),
        CacheError::UnknownResource => ApiError::internal(error),
    }
}
