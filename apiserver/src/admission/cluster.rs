//! The cluster as the cache shows it: what plugins read.

use crate::cache::{Cache, Entry, ListOptions};
use crate::registry::{ApiError, ApiResult};
use crate::resources::{Resource, Table};
use skiff_proto::Kind;
use std::collections::BTreeMap;
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
        self.entries::<K>(namespace)?.iter().map(|entry| decode(entry)).collect()
    }

    /// The same, not decoded.
    pub fn entries<K: Kind>(&self, namespace: &str) -> ApiResult<Vec<Arc<Entry>>> {
        self.entries_of(&*self.resource::<K>()?, namespace)
    }

    /// How many objects of a resource a namespace has.
    pub fn count(&self, resource: &Resource, namespace: &str) -> ApiResult<usize> {
        Ok(self.entries_of(resource, namespace)?.len())
    }

    /// All resources whose objects are in namespaces; one version of each.
    pub fn namespaced(&self) -> Vec<Arc<Resource>> {
        let rows = self.table.all();
        let named = rows.values().filter(|row| row.namespaced).map(|row| ((&row.group, &row.resource), row));
        named.collect::<BTreeMap<_, _>>().into_values().cloned().collect()
    }

    fn entries_of(&self, resource: &Resource, namespace: &str) -> ApiResult<Vec<Arc<Entry>>> {
        let all = ListOptions { namespace: namespace.into(), ..ListOptions::default() };
        Ok(self.cache.list(resource.cached(), &all).map_err(ApiError::internal)?.entries)
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

/// The object of an entry.
pub(super) fn decode<K: Kind>(entry: &Entry) -> ApiResult<K> {
    K::decode(entry.object())
        .map_err(|e| ApiError::internal(format!("the stored {} {:?} cannot be read: {e}", K::SINGULAR, entry.key())))
}
