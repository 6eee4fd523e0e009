//! The cluster as the cache shows it: what plugins read.

use crate::cache::{Cache, Entry, ListOptions};
use crate::registry::{ApiError, ApiResult};
use crate::resources::{Resource, Table};
use skiff_proto::Kind;
use std::sync::Arc;

/// Reads objects of any kind from the cache.
#[derive(Clone, Copy)]
pub struct Cluster<'a> {
    cache: &'a Cache,
    table: &'a Table,
}

impl<'a> Cluster<'a> {
    /// What this cache shows of the resources in this table.
    pub fn new(cache: &'a Cache, table: &'a Table) -> Self {
        Self { cache, table }
    }

    /// An object, decoded.
    pub fn get<K: Kind>(&self, namespace: &str, name: &str) -> ApiResult<Option<K>> {
        self.entry::<K>(namespace, name)?.map(|entry| decode(&entry)).transpose()
    }

    /// All objects of a kind in a namespace (in all of them: `""`), by name.
    pub fn list<K: Kind>(&self, namespace: &str) -> ApiResult<Vec<K>> {
        let all = ListOptions { namespace: namespace.into(), ..ListOptions::default() };
        let page = self.cache.list(self.resource::<K>()?.cached(), &all).map_err(ApiError::internal)?;
        page.entries.iter().map(|entry| decode(entry)).collect()
    }

    /// An object as the cache holds it: not decoded, with the revision of its last write.
    pub fn entry<K: Kind>(&self, namespace: &str, name: &str) -> ApiResult<Option<Arc<Entry>>> {
        Ok(self.cache.get(self.resource::<K>()?.cached(), namespace, name))
    }

    /// The row of a kind.
    pub fn resource<K: Kind>(&self) -> ApiResult<Arc<Resource>> {
        let row = self.table.get(K::GROUP, K::VERSION, K::RESOURCE);
        row.ok_or_else(|| ApiError::internal(format!("{} are not in the table of resources", K::RESOURCE)))
    }
}

fn decode<K: Kind>(entry: &Entry) -> ApiResult<K> {
    K::decode(entry.object())
        .map_err(|e| ApiError::internal(format!("the stored {} {:?} cannot be read: {e}", K::SINGULAR, entry.key())))
}
