//! How the registry asks the admission chain: on what the cache shows, and once more on what it shows when it has caught up,
//! before anything is refused. What a writer of roles may give away is asked with it.

use super::Registry;
use super::commit::Beside;
use super::error::ApiResult;
use super::request::Request;
use crate::admission::service_account::DEFAULT;
use crate::admission::{self, Cluster, Facts, Verb};
use crate::cache::{Entry, WatchFrom, WatchOptions};
use crate::resources::{Object, Typed};
use skiff_proto::corev1::Pod;
use std::sync::Arc;
use std::time::Duration;

/// How long a Pod waits for the service account of a namespace that is new.
const ACCOUNT: Duration = Duration::from_secs(1);

/// Writes that change the same other object (a quota that they are charged to) would only get in each other's way: within
/// one server they take turns, by namespace. Between servers the comparison of revisions decides.
#[derive(Default)]
pub struct Turns([tokio::sync::Mutex<()>; 32]);

impl Turns {
    /// Waits for one's turn in a namespace; it lasts until the guard is dropped.
    pub(super) async fn take(&self, namespace: &str) -> tokio::sync::MutexGuard<'_, ()> {
        let sum = namespace.bytes().fold(0usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
        self.0[sum % self.0.len()].lock().await
    }
}

impl Registry {
    /// Lets the chain fill in a new or changed object.
    pub(super) async fn fill_in(
        &self,
        request: &Request,
        new: &mut dyn Object,
        old: Option<&dyn Object>,
    ) -> ApiResult<()> {
        let verb = if old.is_some() { Verb::Update } else { Verb::Create };
        let facts = self.facts(request, verb, old);
        if !admission::needs_newest(&facts) && admission::mutate(&facts, new).is_ok() {
            return Ok(());
        }
        self.catch_up().await?;
        match admission::mutate(&facts, new) {
            Err(_) if self.account_came(request, new).await => admission::mutate(&facts, new),
            settled => settled,
        }
    }

    /// The service account `default` of a new namespace is made by a controller, a moment after the namespace: a Pod that
    /// is quicker waits for it a little. True if it had to wait, and need not any more.
    async fn account_came(&self, request: &Request, new: &dyn Object) -> bool {
        let Some(Typed(pod)) = new.as_any().downcast_ref::<Typed<Pod>>() else { return false };
        let namespace = &pod.metadata.namespace;
        let (cache, table) = (&self.inner.cache, &self.inner.table);
        let rows = (table.get("", "v1", "namespaces"), table.get("", "v1", "serviceaccounts"));
        let (Some(namespaces), Some(accounts)) = rows else { return false };
        let is_open = cache
            .get(namespaces.cached(), "", namespace)
            .is_some_and(|entry| entry.field("status.phase") != Some("Terminating"));
        let is_missing = || cache.get(accounts.cached(), namespace, DEFAULT).is_none();
        if request.dry_run() || !is_open || pod.spec.service_account_name != DEFAULT || !is_missing() {
            return false;
        }
        let wanted = WatchOptions {
            namespace: namespace.clone(),
            filter: Some(Arc::new(|entry: &Entry| entry.name() == DEFAULT)),
            only: None,
            from: WatchFrom::State,
            bookmarks: None,
        };
        let Ok(mut watch) = cache.watch(accounts.cached(), wanted) else { return false };
        let came = async {
            while is_missing() {
                if watch.next().await.is_err() {
                    return false;
                }
            }
            true
        };
        tokio::time::timeout(ACCOUNT, came).await.unwrap_or(false)
    }

    /// Asks the chain about a write: a create without `old`, a delete without `new`. What the write stands on goes into
    /// its transaction.
    pub(super) async fn admit(
        &self,
        request: &Request,
        new: Option<&dyn Object>,
        old: Option<&dyn Object>,
    ) -> ApiResult<Beside> {
        let verb = match (new, old) {
            (Some(_), None) => Verb::Create,
            (Some(_), Some(_)) => Verb::Update,
            (None, _) => Verb::Delete,
        };
        let facts = self.facts(request, verb, old);
        let check = || {
            if let Some(new) = new {
                crate::auth::check_escalation(&self.inner.authorizer, request, new, old)?;
            }
            admission::check(&facts, new)
        };
        if let Ok(beside) = check() {
            return Ok(beside);
        }
        self.catch_up().await?;
        check()
    }

    fn facts<'a>(&'a self, request: &'a Request, verb: Verb, old: Option<&'a dyn Object>) -> Facts<'a> {
        Facts {
            identity: &request.identity,
            verb,
            resource: &request.resource,
            subresource: &request.subresource,
            name: &request.name,
            old,
            cluster: Cluster::new(&self.inner.cache, &self.inner.table),
            settings: &self.inner.settings,
        }
    }
}
