//! What every namespace has from the start: the certificate of the API server's authority, by which Pods know the server,
//! and the service account `default`, as which they run. Both come back when they are deleted, and the certificate also
//! when somebody changes it.
//!
//! The certificate comes first: Pods are admitted once the account is there, and then mount the certificate.

mod certificate;

pub use certificate::follow;

use std::fmt;
use std::sync::Arc;

use serde_json::json;
use skiff_client::driver::{Plan, Reconciler};
use skiff_client::{ActError, Api, Change, Client, Error, ObjectKey, Patch, Resource, Store, WorkQueue};
use skiff_proto::Kind;
use skiff_proto::corev1::{ConfigMap, Namespace, ServiceAccount};
use skiff_proto::metav1::ObjectMeta;

use crate::caches::Caches;
use crate::inventory::{Inventory, MetaView, ObjectId};
use certificate::{KEY, Kept, NAME as ROOT_CA};

const ACCOUNT: &str = "default";

/// Gives every namespace what it should have.
pub struct Controller {
    caches: Caches,
    inventory: Arc<Inventory>,
    certificates: Store<Kept>,
    client: Client,
    root_ca: Option<String>,
}

impl Controller {
    /// Reads these caches and writes through this client. Without a `root_ca` there is no ConfigMap for it.
    pub fn new(
        caches: Caches,
        inventory: Arc<Inventory>,
        certificates: Store<Kept>,
        client: Client,
        root_ca: Option<String>,
    ) -> Controller {
        Controller { caches, inventory, certificates, client, root_ca }
    }

    /// What is the matter with a namespace's certificate.
    fn certificate(&self, namespace: &str) -> Certificate {
        let kept = self.certificates.get(&ObjectKey::new(namespace, ROOT_CA));
        match (&self.root_ca, kept) {
            (None, _) => Certificate::Right,
            (Some(_), None) => Certificate::Missing,
            (Some(right), Some(kept)) if kept.certificate == *right && !kept.others => Certificate::Right,
            (Some(_), Some(_)) => Certificate::Wrong,
        }
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
    certificate: Certificate,
}

/// How a namespace's certificate is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certificate {
    /// There, and as it should be; or nobody has said how it should be.
    Right,
    /// Changed.
    Wrong,
    /// Not there.
    Missing,
}

/// What a namespace can be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The service account `default`.
    CreateAccount,
    /// The ConfigMap `kube-root-ca.crt`.
    CreateRootCa,
    /// What that ConfigMap should hold.
    RestoreRootCa,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::CreateAccount => write!(f, "create service account {ACCOUNT}"),
            Action::CreateRootCa => write!(f, "create config map {ROOT_CA}"),
            Action::RestoreRootCa => write!(f, "restore config map {ROOT_CA}"),
        }
    }
}

/// The plan.
pub fn plan(observed: &Observed) -> Plan<Action> {
    let mut plan = Plan::nothing();
    if observed.deleting {
        return plan;
    }
    let certificate = match observed.certificate {
        Certificate::Missing => Some((Action::CreateRootCa, "every namespace has one")),
        Certificate::Wrong => Some((Action::RestoreRootCa, "it is not what the API server is known by")),
        Certificate::Right => None,
    };
    if let Some((action, reason)) = certificate {
        plan.step(action, reason);
    }
    if !observed.account {
        plan.step(Action::CreateAccount, "every namespace has one");
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
            certificate: self.certificate(&key.name),
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
                let data = [(KEY.to_string(), self.root_ca.clone().unwrap_or_default())].into();
                let map = ConfigMap { metadata: metadata(ROOT_CA), data, ..ConfigMap::default() };
                there_is_fine(Api::<ConfigMap>::new(&self.client).create(&map).await)
            }
            Action::RestoreRootCa => {
                // All values are ours: whatever else is there goes.
                let data = json!({KEY: self.root_ca.clone().unwrap_or_default()});
                let patch = Patch::Json(json!([
                    {"op": "add", "path": "/data", "value": data},
                    {"op": "add", "path": "/binaryData", "value": {}},
                ]));
                Api::<ConfigMap>::new(&self.client).patch(&key.name, ROOT_CA, patch, None).await?;
                Ok(())
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

/// The account was deleted: it comes back.
pub fn object_changed(
    queue: &WorkQueue<ObjectKey>,
    namespaces: &Store<Namespace>,
    resource: &Resource,
    change: &Change<MetaView>,
) {
    let ours = resource.group.is_empty()
        && matches!((resource.resource.as_ref(), change.object.name.as_str()), ("serviceaccounts", ACCOUNT));
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
        use Certificate::{Missing, Right, Wrong};
        let planned = |deleting, account, certificate| {
            plan(&Observed { deleting, account, certificate }).steps.into_iter().map(|s| s.action).collect::<Vec<_>>()
        };
        // Pods come once the account is there: what they mount is there before it.
        assert_eq!(planned(false, false, Missing), [Action::CreateRootCa, Action::CreateAccount]);
        assert_eq!(planned(false, true, Missing), [Action::CreateRootCa]);
        assert_eq!(planned(false, true, Wrong), [Action::RestoreRootCa]);
        assert!(planned(false, true, Right).is_empty());
        for certificate in [Missing, Wrong] {
            assert!(planned(true, false, certificate).is_empty());
        }
    }
}
