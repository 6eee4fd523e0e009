//! Names: an object's key, and the names under which the API server knows a resource.

use std::borrow::Cow;
use std::fmt;

use skiff_proto::Kind;
use skiff_proto::metav1::ObjectMeta;
use skiff_proto::skiffv1;

/// An object's name within its resource: `namespace/name`, or just `name` when it is
/// cluster-scoped. This is what work queues carry and stores are keyed by.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    /// The namespace; empty for a cluster-scoped object.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl ObjectKey {
    /// The key of `name` in `namespace` (`""` for a cluster-scoped object).
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> ObjectKey {
        ObjectKey { namespace: namespace.into(), name: name.into() }
    }

    /// The key of the object that has this metadata.
    pub fn of(metadata: &ObjectMeta) -> ObjectKey {
        ObjectKey::new(metadata.namespace.as_str(), metadata.name.as_str())
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.namespace.as_str() {
            "" => f.write_str(&self.name),
            namespace => write!(f, "{namespace}/{}", self.name),
        }
    }
}

/// A resource as the API server's table names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Resource {
    /// The API group; empty for the core group.
    pub group: Cow<'static, str>,
    /// The version, `v1`.
    pub version: Cow<'static, str>,
    /// The plural, `pods`.
    pub resource: Cow<'static, str>,
    /// The kind, `Pod`.
    pub kind: Cow<'static, str>,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
}

impl Resource {
    /// The resource of a built-in kind.
    pub fn of<K: Kind>() -> Resource {
        Resource {
            group: Cow::Borrowed(K::GROUP),
            version: Cow::Borrowed(K::VERSION),
            resource: Cow::Borrowed(K::RESOURCE),
            kind: Cow::Borrowed(K::KIND),
            namespaced: K::NAMESPACED,
        }
    }

    /// The resource that a row of the server's table describes.
    pub fn from_info(info: &skiffv1::ResourceInfo) -> Resource {
        Resource {
            group: Cow::Owned(info.group.clone()),
            version: Cow::Owned(info.version.clone()),
            resource: Cow::Owned(info.resource.clone()),
            kind: Cow::Owned(info.kind.clone()),
            namespaced: info.namespaced,
        }
    }

    /// `apps/v1`, or `v1` for the core group.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.to_string() } else { format!("{}/{}", self.group, self.version) }
    }

    /// How a request names one object, or a collection when `name` is empty.
    /// The namespace is left out for a cluster-scoped resource.
    pub fn reference(&self, namespace: &str, name: &str, subresource: &str) -> skiffv1::ResourceRef {
        skiffv1::ResourceRef {
            group: self.group.to_string(),
            version: self.version.to_string(),
            resource: self.resource.to_string(),
            namespace: if self.namespaced { namespace.to_string() } else { String::new() },
            name: name.to_string(),
            subresource: subresource.to_string(),
        }
    }

    /// How a cause names one version of an object.
    pub fn object(&self, metadata: &ObjectMeta) -> skiffv1::ObjectRef {
        skiffv1::ObjectRef {
            resource: self.resource.to_string(),
            group: self.group.to_string(),
            namespace: metadata.namespace.clone(),
            name: metadata.name.clone(),
            uid: metadata.uid.clone(),
            revision: revision_of(metadata),
        }
    }
}

impl fmt::Display for Resource {
    /// `pods`, `deployments.apps`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.group.as_ref() {
            "" => f.write_str(&self.resource),
            group => write!(f, "{}.{group}", self.resource),
        }
    }
}

/// The revision in an object's metadata; 0 when it has none (it was never stored).
pub fn revision_of(metadata: &ObjectMeta) -> u64 {
    metadata.resource_version.parse().unwrap_or(0)
}
