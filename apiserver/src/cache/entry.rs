//! One cached object: its bytes as the store holds them, and its index.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use super::index::{IndexError, Indexer, Meta};
use crate::envelope::{ContentType, Envelope, with_resource_version};
use crate::store::StoreError;

/// Makes the JSON document of a protobuf object, resourceVersion included.
pub type ToJson = Arc<dyn Fn(&[u8]) -> Result<Bytes, String> + Send + Sync>;

/// What the cache has to know about a resource to serve it.
#[derive(Clone)]
pub struct CachedResource {
    /// The API group; empty for core.
    pub group: String,
    /// The plural.
    pub resource: String,
    /// Reads the index.
    pub indexer: Arc<dyn Indexer>,
    /// Makes the JSON document of a stored object.
    pub to_json: ToJson,
    /// How many changes a watch can resume from.
    pub history: usize,
}

impl CachedResource {
    /// A resource with the usual history.
    pub fn new(group: &str, resource: &str, indexer: Arc<dyn Indexer>, to_json: ToJson) -> CachedResource {
        CachedResource { group: group.into(), resource: resource.into(), indexer, to_json, history: HISTORY }
    }
}

/// Changes that are kept per resource, unless said otherwise.
pub const HISTORY: usize = 4_096;

/// An object at one revision. Its bytes are shared with the store; nothing is decoded.
pub struct Entry {
    /// `namespace/name`, or `name`.
    key: Bytes,
    object: Bytes,
    cause: Bytes,
    content_type: ContentType,
    /// The revision that made the object.
    pub create_revision: u64,
    /// The revision that made this state of it: its resourceVersion. In a DELETED event, the revision of the delete.
    pub mod_revision: u64,
    meta: Meta,
    resource: Option<Arc<CachedResource>>,
    json: OnceLock<Bytes>,
}

/// A change of one object, as the store's watch tells it.
pub(super) struct StoredState<'a> {
    pub(super) store_key: &'a [u8],
    pub(super) key: Bytes,
    pub(super) value: &'a Bytes,
    pub(super) create_revision: u64,
    pub(super) mod_revision: u64,
}

impl Entry {
    /// Reads the envelope and the index. An object that cannot be indexed is kept without one, and named in the log:
    /// it can still be read and deleted by name.
    pub(super) fn read(state: StoredState<'_>, resource: Option<&Arc<CachedResource>>) -> Result<Entry, StoreError> {
        let envelope = Envelope::decode(state.store_key, state.value)?;
        let meta = resource.map_or(Ok(Meta::default()), |r| r.indexer.index(&envelope.object, envelope.content_type));
        let meta = meta.unwrap_or_else(|IndexError(why)| {
            tracing::warn!(key = %String::from_utf8_lossy(state.store_key), why, "an object cannot be indexed");
            Meta::default()
        });
        Ok(Entry {
            key: state.key,
            object: envelope.object,
            cause: envelope.cause,
            content_type: envelope.content_type,
            create_revision: state.create_revision,
            mod_revision: state.mod_revision,
            meta,
            resource: resource.cloned(),
            json: OnceLock::new(),
        })
    }

    /// The same object under another revision: as it was last seen when it went away.
    pub(super) fn last_seen_at(&self, revision: u64) -> Entry {
        self.with(self.resource.clone(), self.meta.clone(), revision)
    }

    /// The same object, indexed anew.
    pub(super) fn registered(&self, resource: &Arc<CachedResource>) -> Entry {
        let meta = resource.indexer.index(&self.object, self.content_type).unwrap_or_default();
        self.with(Some(resource.clone()), meta, self.mod_revision)
    }

    fn with(&self, resource: Option<Arc<CachedResource>>, meta: Meta, mod_revision: u64) -> Entry {
        Entry {
            key: self.key.clone(),
            object: self.object.clone(),
            cause: self.cause.clone(),
            content_type: self.content_type,
            create_revision: self.create_revision,
            mod_revision,
            meta,
            resource,
            json: OnceLock::new(),
        }
    }

    /// `namespace/name`, or `name`.
    pub fn key(&self) -> &str {
        // Only keys that are UTF-8 enter the cache.
        std::str::from_utf8(&self.key).unwrap_or_default()
    }

    /// The key's bytes, shared.
    pub(super) fn key_bytes(&self) -> &Bytes {
        &self.key
    }

    /// The object's name.
    pub fn name(&self) -> &str {
        self.key().rsplit_once('/').map_or(self.key(), |(_, name)| name)
    }

    /// Empty for cluster-scoped objects.
    pub fn namespace(&self) -> &str {
        self.key().rsplit_once('/').map_or("", |(namespace, _)| namespace)
    }

    /// metadata.uid.
    pub fn uid(&self) -> &str {
        &self.meta.uid
    }

    /// The value of a label.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.labels().find(|(found, _)| *found == key).map(|(_, value)| value)
    }

    /// All labels, sorted by key.
    pub fn labels(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut strings = self.meta.labels.iter();
        std::iter::from_fn(move || Some((strings.next()?, strings.next()?)))
    }

    /// The value of a selectable field as a selector writes it; `None` if this resource has no such field.
    pub fn field(&self, path: &str) -> Option<&str> {
        match path {
            "metadata.name" => Some(self.name()),
            "metadata.namespace" => Some(self.namespace()),
            _ => {
                let index = self.resource.as_ref()?.indexer.fields().iter().position(|name| name == path)?;
                self.field_at(index)
            }
        }
    }

    /// The value of the indexer's n-th field.
    pub(super) fn field_at(&self, index: usize) -> Option<&str> {
        self.meta.fields.get(index)
    }

    /// How the object is stored.
    pub fn content_type(&self) -> ContentType {
        self.content_type
    }

    /// The object as it is stored, without resourceVersion.
    pub fn stored(&self) -> &Bytes {
        &self.object
    }

    /// The encoded cause of this state; empty if there is none.
    pub fn cause(&self) -> &Bytes {
        &self.cause
    }

    /// The object as clients see it, as it is stored: with its resourceVersion.
    pub fn object(&self) -> Bytes {
        with_resource_version(self.content_type, &self.object, self.mod_revision)
    }

    /// The object as a JSON document with its resourceVersion. Made once, and shared by all who ask.
    pub fn json(&self) -> Result<Bytes, String> {
        if let Some(json) = self.json.get() {
            return Ok(json.clone());
        }
        let made = match (self.content_type, &self.resource) {
            (_, Some(resource)) => (resource.to_json)(&self.object())?,
            (ContentType::Json, None) => self.object(),
            (ContentType::Protobuf, None) => return Err(format!("{} is of an unknown resource", self.key())),
        };
        Ok(self.json.get_or_init(|| made).clone())
    }

    /// About how much memory its bytes take.
    pub(super) fn weight(&self) -> usize {
        self.key.len() + self.object.len() + self.cause.len() + size_of::<Entry>()
    }
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entry").field("key", &self.key()).field("revision", &self.mod_revision).finish_non_exhaustive()
    }
}
