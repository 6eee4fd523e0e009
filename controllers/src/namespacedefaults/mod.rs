//! What every namespace has from the start: the service account `default`, and the certificate of
//! the API server's authority for pods that want to speak to it.

use std::fmt;
use std::sync::Arc;

use skiff_client::driver::{Plan, Reconciler};
use skiff_client::{ActError, Api, Change, Client, Error, ObjectKey, Resource, Store, WorkQueue};
use skiff_proto::Kind;
use skiff_proto::corev1::{ConfigMap, Namespace, ServiceAccount};
use skiff_proto::metav1::ObjectMeta;

use crate::caches::Caches;
use crate::inventory::{Inventory, MetaView, ObjectId};

const ACCOUNT: &str = "default";
const ROOT_CA: &str = "kube-root-ca.crt";

/// Gives every namespace what it should have.
pub struct Controller {
    caches: Caches,
    inventory: Arc<Inventory>,
    client: Client,
    root_ca: Option<String>,
}

impl Controller {
    /// Reads these caches and writes through this client. Without a `root_ca` there is no ConfigMap for it.
    pub fn new(caches: Caches, inventory: Arc<Inventory>, client: Client, root_ca: Option<String>) -> Controller {
        Controller { caches, inventory, client, root_ca }
    }

    fn has<K: Kind>(&self, namespace: &str, name: &str) -> bool {
        let id = ObjectId { resource: Resource::of::<K>(), key: ObjectKey::new(namespace, name) };
        self.inventory.get(&id).is_some()
    }
}

/// What there is to know about one namespace.
#[derive(Clone, Copy, Debug)]
pub struct Observed {
    deleting: bool,
    account: bool,
    root_ca: bool,
}

/// What a namespace can be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The service account `default`.
    CreateAccount,
    /// The ConfigMap `kube-root-ca.crt`.
    CreateRootCa,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::CreateAccount => write!(f, "create service account {ACCOUNT}"),
            Action::CreateRootCa => write!(f, "create config map {ROOT_CA}"),
        }
    }
}

/// The plan.
pub fn plan(observed: &Observed) -> Plan<Action> {
    let mut plan = Plan::nothing();
    if !observed.deleting && !observed.account {
        plan.step(Action::CreateAccount, "every namespace has one");
    }
    if !observed.deleting && !observed.root_ca {
        plan.step(Action::CreateRootCa, "every namespace has one");
    }
    plan
}

impl Reconciler for Controller {
    type Key = ObjectKey;
    type Observed = Observed;
    type Action = Action;
    const NAME: &'static str = "namespace-defaults";

    fn observe(&self, key: &ObjectKey) -> Option<Observed> {
        let namespace = self.caches.namespaces.get(key)?;
        Some(Observed {
            deleting: namespace.metadata.deletion_timestamp.is_some(),
            account: self.has::<ServiceAccount>(&key.name, ACCOUNT),
            root_ca: self.root_ca.is_none() || self.has::<ConfigMap>(&key.name, ROOT_CA),
        })
    }

    fn plan(&self, observed: &Observed, _: jiff::Timestamp) -> Plan<Action> {
        plan(observed)
    }

    async fn act(&self, key: &ObjectKey, action: &Action) -> Result<(), ActError> {
        let metadata =
            |name: &str| ObjectMeta { name: name.into(), namespace: key.name.clone(), ..ObjectMeta::default() };
        match action {
            Action::CreateAccount => {
                let account = ServiceAccount { metadata: metadata(ACCOUNT), ..ServiceAccount::default() };
                there_is_fine(Api::<ServiceAccount>::new(&self.client).create(&account).await)
            }
            Action::CreateRootCa => {
                let data = [("ca.crt".to_string(), self.root_ca.clone().unwrap_or_default())].into();
                let map = ConfigMap { metadata: metadata(ROOT_CA), data, ..ConfigMap::default() };
                there_is_fine(Api::<ConfigMap>::new(&self.client).create(&map).await)
            }
        }
    }
}

fn there_is_fine<T>(result: Result<T, Error>) -> Result<(), ActError> {
    match result {
        Err(error) if !error.is_already_exists() => Err(error.into()),
        _ => Ok(()),
    }
}

/// A namespace changed.
pub fn namespace_changed(queue: &WorkQueue<ObjectKey>, change: &Change<Namespace>) {
    queue.add(change.key(), change.trigger());
}

/// One of the two was deleted: it comes back.
pub fn object_changed(
    queue: &WorkQueue<ObjectKey>,
    namespaces: &Store<Namespace>,
    resource: &Resource,
    change: &Change<MetaView>,
) {
    let ours = resource.group.is_empty()
        && matches!(
            (resource.resource.as_ref(), change.object.name.as_str()),
            ("serviceaccounts", ACCOUNT) | ("configmaps", ROOT_CA)
        );
    let key = ObjectKey::new("", change.object.namespace.as_str());
    if ours && change.is_deletion() && namespaces.get(&key).is_some() {
        queue.add(key, change.trigger());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_made_unless_the_namespace_goes() {
        let planned = |deleting, account, root_ca| {
            plan(&Observed { deleting, account, root_ca }).steps.into_iter().map(|s| s.action).collect::<Vec<_>>()
        };
        assert_eq!(planned(false, false, false), [Action::CreateAccount, Action::CreateRootCa]);
        assert_eq!(planned(false, true, false), [Action::CreateRootCa]);
        assert!(planned(false, true, true).is_empty());
        assert!(planned(true, false, false).is_empty());
    }
}
