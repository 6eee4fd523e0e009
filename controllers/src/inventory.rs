//! The metadata of every object of every resource: who exists, who owns whom, who is on the way out.
//!
//! The list of resources is the server's own and may grow while we run, so garbage collection and
//! the deletion of namespaces work for kinds that nobody had thought of when this was written.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use skiff_client::{Change, Client, Error, Informer, ObjectKey, Project, Resource, Store};
use skiff_proto::metav1::PartialObjectMetadata;
use skiff_proto::skiffv1::ResourceInfo;
use skiff_world::World;

/// Events are many, own nothing and are owned by nobody: their metadata is not worth its memory.
const LEFT_OUT: [&str; 1] = ["events"];
/// How long a resource that may go again is waited for.
const PATIENCE: Duration = Duration::from_secs(5);
const FOR_EVER: Duration = Duration::from_secs(365 * 24 * 3600);
const BY_UID: &str = "uid";
const BY_OWNER: &str = "owner";

/// The finalizer that keeps an object until its dependents are gone.
pub const FOREGROUND: &str = "foregroundDeletion";

/// What is kept of each object.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MetaView {
    /// Its uid.
    pub uid: String,
    /// Its owners.
    pub owners: Vec<OwnerView>,
    /// Its finalizers.
    pub finalizers: Vec<String>,
    /// It is being deleted.
    pub deleting: bool,
}

impl MetaView {
    /// It is being deleted, and only waits for its dependents to go.
    pub fn waits_for_dependents(&self) -> bool {
        self.deleting && self.finalizers.iter().any(|f| f == FOREGROUND)
    }
}

/// An owner of an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OwnerView {
    /// `v1`, `apps/v1`.
    pub api_version: String,
    /// `Deployment`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its uid: what counts.
    pub uid: String,
    /// It must not go before the object has.
    pub blocks: bool,
}

struct MetaProjection;

impl Project<PartialObjectMetadata> for MetaProjection {
    type Out = MetaView;

    fn project(object: &PartialObjectMetadata) -> MetaView {
        let meta = &object.metadata;
        let owners = meta.owner_references.iter().map(|o| OwnerView {
            api_version: o.api_version.clone(),
            kind: o.kind.clone(),
            name: o.name.clone(),
            uid: o.uid.clone(),
            blocks: o.block_owner_deletion == Some(true),
        });
        MetaView {
            uid: meta.uid.clone(),
            owners: owners.collect(),
            finalizers: meta.finalizers.clone(),
            deleting: meta.deletion_timestamp.is_some(),
        }
    }
}

/// What changes with every write, its status included.
struct AnyChange;

impl Project<PartialObjectMetadata> for AnyChange {
    type Out = String;

    fn project(object: &PartialObjectMetadata) -> String {
        object.metadata.resource_version.clone()
    }
}

/// One object of any resource.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectId {
    /// Its resource.
    pub resource: Resource,
    /// Its namespace and name.
    pub key: ObjectKey,
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.resource, self.key)
    }
}

/// An object with what is known of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// Which one.
    pub id: ObjectId,
    /// At which revision.
    pub revision: u64,
    /// What is known.
    pub meta: Arc<MetaView>,
}

type Handler = dyn Fn(&Inventory, &Resource, &Change<MetaView>) + Send + Sync;

/// All objects.
pub struct Inventory {
    world: World,
    client: Client,
    stores: RwLock<BTreeMap<Resource, Store<MetaView>>>,
    left_out: RwLock<BTreeSet<Resource>>,
    handler: Box<Handler>,
}

impl Inventory {
    /// An inventory of nothing yet; `handler` hears of every change.
    pub fn new(
        world: &World,
        client: &Client,
        handler: impl Fn(&Inventory, &Resource, &Change<MetaView>) + Send + Sync + 'static,
    ) -> Arc<Inventory> {
        let (world, client) = (world.clone(), client.clone());
        let (stores, left_out) = Default::default();
        Arc::new(Inventory { world, client, stores, left_out, handler: Box::new(handler) })
    }

    /// Asks the server which resources there are, and starts to watch those that are new.
    pub async fn discover(self: &Arc<Self>) -> Result<(), Error> {
        let reply = self.client.discover().await?;
        let known = newest_versions(reply.resources);
        self.drop_all_but(&known);
        let mut added = Vec::new();
        for info in known {
            let resource = Resource::from_info(&info);
            if LEFT_OUT.contains(&info.resource.as_str()) {
                self.left_out.write().unwrap_or_else(PoisonError::into_inner).insert(resource);
                continue;
            }
            if self.stores().contains_key(&resource) {
                continue;
            }
            let inventory = self.clone();
            let of = resource.clone();
            let informer = Informer::<PartialObjectMetadata, MetaProjection>::metadata(&self.client, &info)
                .index(BY_UID, |_, meta: &MetaView| vec![meta.uid.clone()])
                .index(BY_OWNER, |_, meta: &MetaView| meta.owners.iter().map(|o| o.uid.clone()).collect());
            let store = informer.run(&self.world, move |change| (inventory.handler)(&inventory, &of, &change));
            self.stores.write().unwrap_or_else(PoisonError::into_inner).insert(resource, store.clone());
            added.push((info.custom, store));
        }
        for (custom, store) in added {
            // A custom resource may go again before anybody has listed it.
            let patience = if custom { PATIENCE } else { FOR_EVER };
            let _ = tokio::time::timeout(patience, store.synced()).await;
        }
        Ok(())
    }

    /// Forgets the resources that the server has no more. Their objects are gone, whoever was told of it.
    fn drop_all_but(&self, known: &[ResourceInfo]) {
        let known: BTreeSet<Resource> = known.iter().map(Resource::from_info).collect();
        let gone: Vec<(Resource, Store<MetaView>)> =
            self.stores().iter().filter(|(r, _)| !known.contains(r)).map(|(r, s)| (r.clone(), s.clone())).collect();
        for (resource, store) in gone {
            store.stop();
            for key in store.keys() {
                if let Some(change) = store.remove(&key, u64::MAX) {
                    (self.handler)(self, &resource, &change);
                }
            }
            self.stores.write().unwrap_or_else(PoisonError::into_inner).remove(&resource);
        }
    }

    /// Calls back whenever the definition of a custom resource changes: there may be others then.
    pub fn on_definitions(&self, changed: impl Fn() + Send + Sync + 'static) -> Store<String> {
        let definitions = ResourceInfo {
            group: "apiextensions.k8s.io".into(),
            version: "v1".into(),
            resource: "customresourcedefinitions".into(),
            kind: "CustomResourceDefinition".into(),
            ..ResourceInfo::default()
        };
        let informer = Informer::<PartialObjectMetadata, AnyChange>::metadata(&self.client, &definitions);
        informer.run(&self.world, move |_| changed())
    }

    /// Everything, for a first look at all of it.
    pub fn all(&self) -> Vec<ObjectId> {
        let of = |(resource, store): (&Resource, &Store<MetaView>)| {
            let resource = resource.clone();
            store.keys().into_iter().map(move |key| ObjectId { resource: resource.clone(), key }).collect::<Vec<_>>()
        };
        self.stores().iter().flat_map(of).collect()
    }

    /// One object.
    pub fn get(&self, id: &ObjectId) -> Option<Item> {
        let held = self.stores().get(&id.resource)?.held(&id.key)?;
        Some(Item { id: id.clone(), revision: held.revision, meta: held.value })
    }

    /// The object with this uid.
    pub fn by_uid(&self, uid: &str) -> Option<Item> {
        self.indexed(BY_UID, uid).into_iter().next()
    }

    /// The objects that name this uid as an owner.
    pub fn dependents(&self, uid: &str) -> Vec<Item> {
        self.indexed(BY_OWNER, uid)
    }

    /// The uids of all owners of an object, and of their owners, that only wait for their dependents to go.
    pub fn waiting_ancestors(&self, item: &Item) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let mut next: Vec<Arc<MetaView>> = vec![item.meta.clone()];
        while let Some(meta) = next.pop() {
            for owner in meta.owners.iter().filter_map(|o| self.by_uid(&o.uid)) {
                if owner.meta.waits_for_dependents() && found.insert(owner.meta.uid.clone()) {
                    next.push(owner.meta);
                }
            }
        }
        found
    }

    /// Everything in a namespace.
    pub fn in_namespace(&self, namespace: &str) -> Vec<Item> {
        let mut items = Vec::new();
        for (resource, store) in self.stores().iter().filter(|(r, _)| r.namespaced) {
            let snapshot = store.snapshot();
            let from = ObjectKey::new(namespace, "");
            for (key, held) in snapshot.range(from..).take_while(|(key, _)| key.namespace == namespace) {
                let id = ObjectId { resource: resource.clone(), key: key.clone() };
                items.push(Item { id, revision: held.revision, meta: held.value.clone() });
            }
        }
        items
    }

    /// The namespaced resources whose objects are not kept here, though they exist.
    pub fn left_out(&self) -> Vec<Resource> {
        self.left_out.read().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// Whether the objects of a kind exist, but are not kept here.
    pub fn leaves_out(&self, api_version: &str, kind: &str) -> bool {
        let group = group_of(api_version);
        self.left_out().iter().any(|r| r.group == group && r.kind == kind)
    }

    /// All resources that are kept here.
    pub fn resources(&self) -> Vec<Resource> {
        self.stores().keys().cloned().collect()
    }

    /// The namespaced resources.
    pub fn namespaced(&self) -> Vec<Resource> {
        self.stores().keys().filter(|r| r.namespaced).cloned().collect()
    }

    /// The resource of a kind, by `apiVersion` and `kind`. Another version of the same group will do.
    pub fn resource(&self, api_version: &str, kind: &str) -> Option<Resource> {
        let group = group_of(api_version);
        self.stores().keys().find(|r| r.group == group && r.kind == kind).cloned()
    }

    fn indexed(&self, index: &str, value: &str) -> Vec<Item> {
        let mut items = Vec::new();
        for (resource, store) in self.stores().iter() {
            for key in store.keys_by_index(index, value) {
                items.extend(store.held(&key).map(|held| Item {
                    id: ObjectId { resource: resource.clone(), key },
                    revision: held.revision,
                    meta: held.value,
                }));
            }
        }
        items
    }

    fn stores(&self) -> RwLockReadGuard<'_, BTreeMap<Resource, Store<MetaView>>> {
        self.stores.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `apps` of `apps/v1`, nothing of `v1`.
fn group_of(api_version: &str) -> &str {
    api_version.rsplit_once('/').map_or("", |(group, _)| group)
}

/// One version of each resource (the one the server names first), if it can be listed and watched.
fn newest_versions(resources: Vec<ResourceInfo>) -> Vec<ResourceInfo> {
    let mut seen = BTreeSet::new();
    let usable = |info: &ResourceInfo| {
        let can = |verb: &str| info.verbs.is_empty() || info.verbs.iter().any(|v| v == verb);
        can("list") && can("watch")
    };
    resources
        .into_iter()
        .filter(usable)
        .filter(|info| seen.insert((info.group.clone(), info.resource.clone())))
        .collect()
}
