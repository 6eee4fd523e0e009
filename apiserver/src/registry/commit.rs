//! One write: the store's transaction with everything the decision stood on as comparisons, and the cause inside.

use super::error::{ApiError, ApiResult};
use super::request::{Fence, Request};
use super::Registry;
use crate::resources::{Object, Resource};
use crate::store::{Compare, Op, StoreError, Txn, TxnResult, tombstone_key};
use crate::cache::CacheError;
use crate::envelope::Envelope;
use bytes::Bytes;
use prost::Message;
use skiff_proto::coordinationv1::Lease;
use skiff_proto::skiffv1;
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
pub enum Change<'a> {
    /// A new object.
    Create(&'a dyn Object),
    /// An object in place of the one at this revision.
    Replace(&'a dyn Object, u64),
    /// The end of the object that was at this revision.
    Remove(&'a dyn Object, u64),
}

/// Other comparisons and at most one more operation, for the same transaction.
#[derive(Default)]
pub struct Beside {
    /// What else must hold.
    pub compare: Vec<Compare>,
    /// What else is done.
    pub op: Option<Op>,
}

impl Registry {
    /// Reads an object as the cache knows it.
    pub(super) fn current(&self, resource: &Resource, namespace: &str, name: &str) -> ApiResult<Option<Current>> {
        let namespace = if resource.namespaced { namespace } else { "" };
        let Some(entry) = self.inner.cache.get(resource.cached(), namespace, name) else { return Ok(None) };
        let decoded = resource
            .strategy
            .decode(&entry.object(), entry.content_type().as_str())
            .map_err(|e| ApiError::internal(format!("the stored {} {name:?} cannot be read: {e}", resource.qualified())))?;
        let mut object = decoded.object;
        object.meta_mut().resource_version = entry.mod_revision.to_string();
        Ok(Some(Current { object, revision: entry.mod_revision }))
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

    /// Reads an object for a part of the server itself; as new as everything acknowledged before.
    pub async fn read(&self, resource: &Resource, namespace: &str, name: &str) -> ApiResult<Box<dyn Object>> {
        self.catch_up().await?;
        match self.current(resource, namespace, name)? {
            Some(current) => Ok(current.object),
            None => Err(ApiError::not_found(resource, name)),
        }
    }

    /// Waits until the cache has seen everything acknowledged so far.
    pub(super) async fn catch_up(&self) -> ApiResult<()> {
        let head = self.inner.store.head().await.map_err(store_error)?;
        self.wait_for(head).await
    }

    /// Waits until the cache has seen a revision.
    pub(super) async fn wait_for(&self, revision: u64) -> ApiResult<()> {
        self.inner.cache.wait_until(revision, PATIENCE).await.map_err(cache_error)
    }

    /// The comparison that keeps new objects out of a namespace that is missing or going: it must stay as it is seen
    /// here until the write has happened.
    pub(super) async fn open_namespace(&self, request: &Request, object: &dyn Object) -> ApiResult<Option<Compare>> {
        let resource = &request.resource;
        if !resource.namespaced {
            return Ok(None);
        }
        let namespaces = self.resource("", "v1", "namespaces")?;
        let name = &object.meta().namespace;
        let look = || self.inner.cache.get(namespaces.cached(), "", name);
        let found = match look() {
            Some(entry) => Some(entry),
            None => {
                self.catch_up().await?;
                look()
            }
        };
        let entry = found.ok_or_else(|| ApiError::not_found(&namespaces, name))?;
        if entry.field("status.phase") == Some("Terminating") {
            let why = format!("unable to create new content in namespace {name} because it is being terminated");
            return Err(ApiError::forbidden(resource, &object.meta().name, why).because(
                "NamespaceTerminating",
                &format!("namespace {name} is being terminated"),
                "metadata.namespace",
            ));
        }
        Ok(Some(Compare { key: namespaces.key("", name), mod_revision: entry.mod_revision }))
    }

    /// Writes a change with its cause, if what it stands on still holds.
    pub(super) async fn commit(&self, request: &Request, change: Change<'_>, beside: Beside) -> ApiResult<Outcome> {
        let resource = &request.resource;
        let (object, replaced) = match change {
            Change::Create(object) => (object, 0),
            Change::Replace(object, revision) | Change::Remove(object, revision) => (object, revision),
        };
        let key = resource.key(&object.meta().namespace, &object.meta().name);
        let cause = self.cause(request, replaced)?;
        let mut txn = Txn { compare: vec![Compare { key: key.clone(), mod_revision: replaced }], ops: Vec::new() };
        txn.ops.push(match change {
            Change::Remove(..) => Op::Delete { key: key.clone() },
            _ => Op::Put { key: key.clone(), value: envelope(resource, Some(object), cause.clone())?, ttl: resource.time_to_live },
        });
        if let Change::Remove(..) = change {
            txn.ops.push(Op::Put {
                key: tombstone_key(&key, &object.meta().uid),
                value: envelope(resource, None, cause)?,
                ttl: Some(TOMBSTONE_LIFE),
            });
        }
        txn.ops.extend(beside.op);
        txn.compare.extend(beside.compare);
        if let Some(fence) = &request.fence {
            txn.compare.push(self.fence(fence)?);
        }
        if request.dry_run() {
            return Ok(Outcome::Done(0));
        }
        match self.inner.store.txn(txn).await.map_err(store_error)? {
            TxnResult::Committed { revision } => Ok(Outcome::Done(revision)),
            TxnResult::Conflict { revision, .. } => {
                self.wait_for(revision).await?;
                Ok(Outcome::Again)
            }
        }
    }

    /// The cause as it is stored: the client's words, cut to size, with what only the server knows.
    fn cause(&self, request: &Request, replaced: u64) -> ApiResult<skiffv1::Cause> {
        let mut cause = request.cause.clone();
        let size = cause.encoded_len();
        if size > CAUSE_MAX {
            return Err(ApiError::too_large("the cause of this write", size, CAUSE_MAX));
        }
        let actor = cause.actor.get_or_insert_default();
        actor.user = request.identity.user.clone();
        cause.verb = request.verb().into();
        if !request.subresource.is_empty() {
            cause.verb = format!("{} {}", cause.verb, request.subresource);
        }
        cause.replaced_revision = replaced;
        Ok(cause)
    }

    /// The comparison that lets a deposed leader's write fail: the Lease is held as the writer says, and stays so until
    /// the write has happened.
    fn fence(&self, fence: &Fence) -> ApiResult<Compare> {
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

/// The stored value: the object without its resourceVersion, and why it was written.
fn envelope(resource: &Resource, object: Option<&dyn Object>, cause: skiffv1::Cause) -> ApiResult<Bytes> {
    let bytes = match object {
        None => Vec::new(),
        Some(object) => {
            let mut stored = object.copy();
            stored.meta_mut().resource_version.clear();
            stored.encode()
        }
    };
    let content_type = resource.strategy.stored_as();
    Ok(Envelope { content_type, object: bytes.into(), cause: cause.encode_to_vec().into() }.encode())
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
        StoreError::Unavailable(_) | StoreError::Closed | StoreError::Lagging => ApiError::unavailable(error.to_string()),
        StoreError::NewerFormat { .. } | StoreError::Corrupt(_) => ApiError::internal(error),
    }
}

/// A refusal by the cache, in the API's words.
pub fn cache_error(error: CacheError) -> ApiError {
    match error {
        CacheError::Expired { .. } | CacheError::Lagging => ApiError::expired(error.to_string()),
        CacheError::Behind { asked, current } => ApiError::revision_too_large(asked, current),
        CacheError::Store(error) => store_error(error),
        CacheError::UnknownField(_) => ApiError::bad_request(error.to_string()),
        CacheError::UnknownResource => ApiError::internal(error),
    }
}

/// An object with the revision it was written at.
pub fn at_revision(object: &mut dyn Object, revision: u64) {
    object.meta_mut().resource_version = if revision == 0 { String::new() } else { revision.to_string() };
}
