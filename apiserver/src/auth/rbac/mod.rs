//! Rights from RBAC objects: Roles, ClusterRoles and their bindings, as the cache has them.
//!
//! ```text
//! cache ──each change, in order──> Observer ──> Index <── every request
//! ```
//!
//! The index is changed in the same step as the cache: whoever reads an object from the cache is judged by it.

mod index;
mod matching;
#[cfg(test)]
mod tests;

pub use index::{Binding, Bound, Index};
pub use matching::{Asked, allows, missing};

use crate::cache::{self, Cache, Entry};
use crate::envelope::ContentType;
use crate::resources::Table;
use skiff_proto::Kind;
use skiff_proto::json::{self, Strictness};
use skiff_proto::rbacv1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use std::marker::PhantomData;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

/// The API group of roles and bindings.
pub const GROUP: &str = "rbac.authorization.k8s.io";

/// The index, kept as the cache is. Cheap to clone.
#[derive(Clone, Default)]
pub struct Rights(Arc<RwLock<Index>>);

impl Rights {
    /// The rights that a cache's objects give, from now on.
    pub fn follow(cache: &Cache, table: &Table) -> Self {
        let rights = Self::default();
        rights.follow_kind::<Role>(cache, table);
        rights.follow_kind::<ClusterRole>(cache, table);
        rights.follow_kind::<RoleBinding>(cache, table);
        rights.follow_kind::<ClusterRoleBinding>(cache, table);
        rights
    }

    fn follow_kind<K: Indexed>(&self, cache: &Cache, table: &Table) {
        if let Some(row) = table.get(K::GROUP, K::VERSION, K::RESOURCE) {
            cache.observe(row.cached(), Arc::new(Follower::<K>(self.clone(), PhantomData)));
        }
    }

    /// The index as it is now. Nothing that takes time is done while it is held.
    pub fn read(&self) -> RwLockReadGuard<'_, Index> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A kind that the index is made of.
trait Indexed: Kind {
    fn forget(index: &mut Index);
    fn put(self, index: &mut Index, namespace: &str, name: &str);
    fn remove(index: &mut Index, namespace: &str, name: &str);
}

impl Indexed for Role {
    fn forget(index: &mut Index) {
        index.forget_roles(true);
    }
    fn put(self, index: &mut Index, namespace: &str, name: &str) {
        index.set_role(namespace, name, Some(self.rules));
    }
    fn remove(index: &mut Index, namespace: &str, name: &str) {
        index.set_role(namespace, name, None);
    }
}

impl Indexed for ClusterRole {
    fn forget(index: &mut Index) {
        index.forget_roles(false);
    }
    fn put(self, index: &mut Index, _namespace: &str, name: &str) {
        index.set_role("", name, Some(self.rules));
    }
    fn remove(index: &mut Index, _namespace: &str, name: &str) {
        index.set_role("", name, None);
    }
}

impl Indexed for RoleBinding {
    fn forget(index: &mut Index) {
        index.forget_bindings(true);
    }
    fn put(self, index: &mut Index, namespace: &str, name: &str) {
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        index.set_binding(Binding { namespace, name, role: self.role_ref, subjects: self.subjects });
    }
    fn remove(index: &mut Index, namespace: &str, name: &str) {
        index.drop_binding(namespace, name);
    }
}

impl Indexed for ClusterRoleBinding {
    fn forget(index: &mut Index) {
        index.forget_bindings(false);
    }
    fn put(self, index: &mut Index, _namespace: &str, name: &str) {
        let (namespace, name) = (String::new(), name.to_owned());
        index.set_binding(Binding { namespace, name, role: self.role_ref, subjects: self.subjects });
    }
    fn remove(index: &mut Index, _namespace: &str, name: &str) {
        index.drop_binding("", name);
    }
}

/// Keeps one kind's part of the index.
struct Follower<K>(Rights, PhantomData<fn() -> K>);

impl<K: Indexed> Follower<K> {
    /// Whatever cannot be read gives nothing, and what it gave before is gone.
    fn put(index: &mut Index, entry: &Entry) {
        let decoded = match entry.content_type() {
            ContentType::Protobuf => K::decode(entry.stored().clone()).map_err(|e| e.to_string()),
            ContentType::Json => {
                json::decode::<K>(entry.stored(), Strictness::Ignore).map(|(kind, _)| kind).map_err(|e| e.to_string())
            }
        };
        match decoded {
            Ok(object) => object.put(index, entry.namespace(), entry.name()),
            Err(why) => {
                tracing::error!(kind = K::KIND, key = entry.key(), why, "cannot be read, and gives no rights");
                K::remove(index, entry.namespace(), entry.name());
            }
        }
    }
}

impl<K: Indexed> cache::Observer for Follower<K> {
    fn reset(&self, objects: &mut dyn Iterator<Item = &Arc<Entry>>) {
        let mut index = self.0.0.write().unwrap_or_else(PoisonError::into_inner);
        K::forget(&mut index);
        objects.for_each(|entry| Self::put(&mut index, entry));
    }

    fn changed(&self, previous: Option<&Entry>, current: Option<&Entry>) {
        let mut index = self.0.0.write().unwrap_or_else(PoisonError::into_inner);
        match (current, previous) {
            (Some(entry), _) => Self::put(&mut index, entry),
            (None, Some(gone)) => K::remove(&mut index, gone.namespace(), gone.name()),
            (None, None) => {}
        }
    }
}
