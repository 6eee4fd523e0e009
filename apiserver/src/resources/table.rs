//! The table of resources, looked up at run time by group, version and plural name; it may grow while the server runs.

use super::strategy::Strategy;
use crate::cache::{self, Cache, CachedResource, FieldIndexer};
use crate::custom::Definition;
use crate::store::{object_key, resource_prefix};
use bytes::Bytes;
use skiff_proto::Schema;
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock, RwLock};

/// Names a resource: group, version, plural.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ResourceId {
    /// `""` for the core group.
    pub group: String,
    /// `v1`.
    pub version: String,
    /// The plural: `pods`.
    pub resource: String,
}

/// Where a kind's Schema comes from.
pub enum Fields {
    /// From its message.
    BuiltIn(Arc<Schema>),
    /// From its definition, when it is first asked for.
    Defined(Arc<Definition>),
}

/// One row: everything the server knows of a resource.
pub struct Resource {
    /// `""` for the core group.
    pub group: String,
    /// `v1`.
    pub version: String,
    /// The plural: `pods`.
    pub resource: String,
    /// `Pod`.
    pub kind: String,
    /// `pod`.
    pub singular: String,
    /// `po`.
    pub short_names: Vec<String>,
    /// `all`: what `get all` shows.
    pub categories: Vec<String>,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
    /// `status`, `scale`, `binding`, ...
    pub subresources: Vec<String>,
    /// Fields, merge keys, descriptions.
    pub fields: Fields,
    /// What is particular to the kind.
    pub strategy: Box<dyn Strategy>,
    /// Objects vanish this long after their last write.
    pub time_to_live: Option<std::time::Duration>,
    /// The group and plural under which its objects are stored, where that is another resource.
    pub stored_as: Option<(String, String)>,
    /// Where the cache keeps its objects; set by `register`.
    pub cached: OnceLock<cache::ResourceId>,
}

impl Resource {
    /// Tells the cache how to index its objects and make JSON of them.
    pub fn register(&self, cache: &Cache) {
        let indexer = Arc::new(FieldIndexer::new(self.strategy.selectable()));
        let registered = CachedResource::new(&self.group, &self.resource, indexer, self.strategy.json_of_stored());
        // A row is registered once, before it enters the table.
        let _ = self.cached.set(cache.register(registered));
    }

    /// Fields, merge keys, descriptions.
    pub fn schema(&self) -> &Schema {
        match &self.fields {
            Fields::BuiltIn(schema) => schema,
            Fields::Defined(definition) => &definition.compiled().schema,
        }
    }

    /// Whether it is a custom resource.
    pub fn is_custom(&self) -> bool {
        matches!(self.fields, Fields::Defined(_))
    }

    /// Where the cache keeps its objects.
    pub fn cached(&self) -> cache::ResourceId {
        *self.cached.get().expect("a row enters the table only after the cache knows it")
    }

    /// The name as errors show it: `deployments.apps`.
    pub fn qualified(&self) -> String {
        if self.group.is_empty() { self.resource.clone() } else { format!("{}.{}", self.resource, self.group) }
    }

    /// `apps/v1`, or `v1`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }

    /// What the keys of its objects in a namespace begin with; of all of them when the namespace is empty.
    pub fn prefix(&self, namespace: &str) -> Bytes {
        let (group, resource) = self.home();
        resource_prefix(group, resource, namespace)
    }

    /// The key of an object.
    pub fn key(&self, namespace: &str, name: &str) -> Bytes {
        let (group, resource) = self.home();
        object_key(group, resource, if self.namespaced { namespace } else { "" }, name)
    }

    fn home(&self) -> (&str, &str) {
        match &self.stored_as {
            Some((group, resource)) => (group, resource),
            None => (&self.group, &self.resource),
        }
    }

    /// The verbs it answers.
    pub fn verbs(&self) -> Vec<String> {
        ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"].map(String::from).to_vec()
    }

    /// Whether it has a subresource.
    pub fn has(&self, subresource: &str) -> bool {
        subresource.is_empty() || self.subresources.iter().any(|s| s == subresource)
    }

    /// Its id.
    pub fn id(&self) -> ResourceId {
        ResourceId { group: self.group.clone(), version: self.version.clone(), resource: self.resource.clone() }
    }
}

/// Whether a version comes before another, as Kubernetes orders them: v10, v2, v1, v11beta2, v10beta3, v3alpha1, foo1, foo10.
pub fn newer_version(a: &str, b: &str) -> std::cmp::Ordering {
    match (stability(a), stability(b)) {
        (Some(a), Some(b)) => b.cmp(&a),
        (Some(_), None) => std::cmp::Ordering::Less,
        (None, Some(_)) => std::cmp::Ordering::Greater,
        (None, None) => a.cmp(b),
    }
}

/// Of `v1beta2`: how stable, then the numbers.
fn stability(version: &str) -> Option<(u8, u32, u32)> {
    let rest = version.strip_prefix('v')?;
    let (major, rest) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len()));
    let major = major.parse().ok()?;
    let of = |level, minor: &str| Some((level, major, minor.parse().ok()?));
    match rest {
        "" => Some((3, major, 0)),
        _ => match (rest.strip_prefix("beta"), rest.strip_prefix("alpha")) {
            (Some(minor), _) => of(2, minor),
            (_, Some(minor)) => of(1, minor),
            _ => None,
        },
    }
}

/// The rows at one moment.
pub type Rows = Arc<BTreeMap<ResourceId, Arc<Resource>>>;

/// All resources. Cloning shares the table.
#[derive(Clone, Default)]
pub struct Table {
    rows: Arc<RwLock<Rows>>,
}

impl Table {
    /// An empty table.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a row, or replaces it.
    pub fn add(&self, resource: Resource) -> Arc<Resource> {
        let resource = Arc::new(resource);
        let mut rows = self.rows.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        Arc::make_mut(&mut rows).insert(resource.id(), resource.clone());
        resource
    }

    /// Puts rows in the place of all those of a resource, whatever their versions.
    pub fn replace(&self, group: &str, resource: &str, with: Vec<Resource>) {
        let mut rows = self.rows.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        let rows = Arc::make_mut(&mut rows);
        rows.retain(|id, _| id.group != group || id.resource != resource);
        rows.extend(with.into_iter().map(|row| (row.id(), Arc::new(row))));
    }

    /// Looks a row up.
    pub fn get(&self, group: &str, version: &str, resource: &str) -> Option<Arc<Resource>> {
        let id = ResourceId { group: group.into(), version: version.into(), resource: resource.into() };
        self.all().get(&id).cloned()
    }

    /// Looks a row up by kind, as owner references name it.
    pub fn by_kind(&self, api_version: &str, kind: &str) -> Option<Arc<Resource>> {
        self.all().values().find(|r| r.kind == kind && r.api_version() == api_version).cloned()
    }

    /// All rows, as they are now.
    pub fn all(&self) -> Rows {
        self.rows.read().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::newer_version;

    #[test]
    fn versions_are_ordered_as_kubernetes_does() {
        let wanted =
            ["v10", "v2", "v1", "v11beta2", "v10beta3", "v3beta1", "v12alpha1", "v11alpha2", "foo1", "foo10", "v1x"];
        let mut versions = wanted.map(String::from);
        versions.sort();
        versions.sort_by(|a, b| newer_version(a, b));
        assert_eq!(versions, wanted);
    }
}
