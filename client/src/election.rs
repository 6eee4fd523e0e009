//! Leader election on a Lease, with a fence.
//!
//! A lock in a store cannot by itself keep two leaders apart: the old one may be paused, and write when it wakes. So
//! each term has a number (`leaseTransitions`), each write of a leader carries it ([`Fence`]), and the API server
//! refuses writes of any term but the current one.
//!
//! - A Lease is free when nobody holds it, or when it has not changed for its duration *on our own clock*: clocks of
//!   different machines are never compared.
//! - A leader that starts again under its identity takes its Lease back at once, as a new term: its former self,
//!   if it still lives, is fenced off.
//! - All writes compare the resourceVersion: of several candidates one wins.
//!
//! [`decide`] is all the thinking.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;
use serde_json::json;
use skiff_proto::coordinationv1::{Lease, LeaseSpec};
use skiff_proto::metav1::{MicroTime, ObjectMeta};
use skiff_world::watch;
use skiff_world::{Task, World};
use tokio::time::Instant;

use crate::api::{Api, Patch};
use crate::client::Client;
use crate::controls::Controls;
use crate::error::Error;

/// Which term of which leader a write belongs to. Prints as `namespace/name/holder/transitions`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fence {
    /// The Lease's namespace.
    pub namespace: String,
    /// The Lease's name.
    pub name: String,
    /// Who leads.
    pub holder: String,
    /// The term's number.
    pub transitions: i32,
}

impl fmt::Display for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}/{}", self.namespace, self.name, self.holder, self.transitions)
    }
}

/// How long things take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// A Lease that has not changed for so long is free.
    pub lease: Duration,
    /// A leader renews it so often,
    pub renew: Duration,
    /// and gives up if it has not managed to for so long; less than `lease`.
    pub deadline: Duration,
    /// Between tries.
    pub retry: Duration,
}

impl Default for Terms {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Terms { lease: seconds(15), renew: seconds(5), deadline: seconds(10), retry: seconds(2) }
    }
}

/// What a candidate does next.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Decision {
    /// There is no Lease: make it.
    Create,
    /// It is free, or ours from an earlier life: take it as this term.
    Take { transitions: i32 },
    /// Somebody leads: look again after this.
    Wait(Duration),
}

fn decide(lease: Option<&Lease>, unchanged_for: Duration, me: &str, terms: &Terms) -> Decision {
    let Some(lease) = lease else {
        return Decision::Create;
    };
    let holder = lease.spec.holder_identity.as_deref().unwrap_or_default();
    // The holder's own promise counts, if it made one.
    let promised = lease.spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    let duration = promised.map_or(terms.lease, Duration::from_secs);
    if holder.is_empty() || holder == me || unchanged_for >= duration {
        let transitions = lease.spec.lease_transitions.unwrap_or(0).saturating_add(1);
        return Decision::Take { transitions };
    }
    Decision::Wait((duration - unchanged_for).min(terms.retry))
}

/// Whether the Lease is still what the leader of this term left.
fn still_ours(lease: &Lease, fence: &Fence) -> bool {
    lease.spec.holder_identity.as_deref() == Some(&fence.holder)
        && lease.spec.lease_transitions.unwrap_or(0) == fence.transitions
}

/// A candidacy.
#[derive(Clone)]
pub struct LeaderElection {
    world: World,
    client: Client,
    namespace: String,
    name: String,
    identity: String,
    terms: Terms,
    shown: Gauge,
}

impl LeaderElection {
    /// A candidacy for the Lease `namespace/name`. `identity` stays the same when the process starts again.
    pub fn new(world: &World, client: &Client, namespace: &str, name: &str, identity: &str) -> LeaderElection {
        LeaderElection {
            world: world.clone(),
            client: client.clone(),
            namespace: namespace.to_string(),
            name: name.to_string(),
            identity: identity.to_string(),
            terms: Terms::default(),
            shown: Gauge::default(),
        }
    }

    /// The same with other durations.
    pub fn with_terms(self, terms: Terms) -> LeaderElection {
        LeaderElection { terms, ..self }
    }

    /// The same, which shows among a component's measurements whether it leads.
    pub fn shown_in(self, controls: &Controls) -> LeaderElection {
        LeaderElection { shown: controls.leading(&self.name), ..self }
    }

    /// Waits until this candidate leads.
    pub async fn acquire(&self) -> Leadership {
        let mut seen = (String::new(), self.world.now());
        loop {
            let started = self.world.now();
            match self.try_once(&mut seen).await {
                Ok(Ok(lease)) => return self.leadership(lease, started),
                Ok(Err(wait)) => self.world.sleep(wait).await,
                Err(error) => {
                    // Another candidate was quicker: that is how elections go.
                    if !(error.is_conflict() || error.is_already_exists()) {
                        tracing::warn!(lease = self.name, %error, "cannot stand for election; trying again");
                    }
                    let spread = u64::try_from(self.terms.retry.as_millis()).unwrap_or(2000);
                    let jitter = Duration::from_millis(self.world.random_below(spread.max(1)));
                    self.world.sleep(self.terms.retry / 2 + jitter).await;
                }
            }
        }
    }

    /// Waits until this candidate leads, then runs `work` with a client whose writes are fenced, until it ends or the
    /// leadership is lost (then its future is dropped). Gives the Lease back at the end.
    pub async fn lead<F: Future<Output = ()>>(&self, work: impl FnOnce(Client) -> F) {
        let leadership = self.acquire().await;
        let _shown = Shown::new(&self.shown);
        tracing::info!(fence = %leadership.fence(), "leading");
        let client = self.client.with_fence(leadership.fence());
        tokio::select! {
            biased;
            () = leadership.lost() => tracing::warn!(fence = %leadership.fence(), "no longer leading"),
            () = work(client) => {}
        }
        leadership.release().await;
    }

    /// One look at the Lease: leading, or how long to wait.
    async fn try_once(&self, seen: &mut (String, Instant)) -> Result<Result<Lease, Duration>, Error> {
        let api = Api::<Lease>::new(&self.client);
        let lease = api.get_opt(&self.namespace, &self.name).await?;
        let version = lease.as_ref().map(|lease| lease.metadata.resource_version.clone()).unwrap_or_default();
        if seen.0 != version {
            *seen = (version.clone(), self.world.now());
        }
        let unchanged_for = self.world.now().saturating_duration_since(seen.1);
        match decide(lease.as_ref(), unchanged_for, &self.identity, &self.terms) {
            Decision::Wait(time) => Ok(Err(time)),
            Decision::Create => api.create(&self.first_lease()).await.map(Ok),
            Decision::Take { transitions } => {
                let now = MicroTime::from(self.world.wall());
                let patch = json!({
                    "metadata": {"resourceVersion": version},
                    "spec": {
                        "holderIdentity": self.identity,
                        "leaseDurationSeconds": self.terms.lease.as_secs(),
                        "acquireTime": now,
                        "renewTime": now,
                        "leaseTransitions": transitions,
                    },
                });
                api.patch(&self.namespace, &self.name, Patch::Merge(patch), None).await.map(Ok)
            }
        }
    }

    fn first_lease(&self) -> Lease {
        let now = MicroTime::from(self.world.wall());
        Lease {
            metadata: ObjectMeta {
                namespace: self.namespace.clone(),
                name: self.name.clone(),
                ..ObjectMeta::default()
            },
            spec: LeaseSpec {
                holder_identity: Some(self.identity.clone()),
                lease_duration_seconds: i32::try_from(self.terms.lease.as_secs()).ok(),
                acquire_time: Some(now),
                renew_time: Some(now),
                lease_transitions: Some(1),
                ..LeaseSpec::default()
            },
        }
    }

    fn leadership(&self, lease: Lease, renewed: Instant) -> Leadership {
        let fence = Fence {
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            holder: self.identity.clone(),
            transitions: lease.spec.lease_transitions.unwrap_or(0),
        };
        let (lost, is_lost) = watch::channel(false);
        let renewing = Renewing {
            election: self.clone(),
            fence: fence.clone(),
            version: lease.metadata.resource_version,
            renewed,
        };
        let task = self.world.spawn("lease-renewal", async move {
            let why = renewing.until_lost().await;
            tracing::warn!(why, "the leadership is lost");
            let _ = lost.send(true);
        });
        Leadership { election: self.clone(), fence, is_lost, task }
    }
}

/// Shows 1 for as long as it lives.
struct Shown<'a>(&'a Gauge);

impl Shown<'_> {
    fn new(gauge: &Gauge) -> Shown<'_> {
        gauge.set(1);
        Shown(gauge)
    }
}

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        self.0.set(0);
    }
}

/// Keeps a Lease.
struct Renewing {
    election: LeaderElection,
    fence: Fence,
    version: String,
    /// When the last renewal that succeeded was sent: from then on the others count.
    renewed: Instant,
}

impl Renewing {
    /// Renews until that fails for good; says why.
    async fn until_lost(mut self) -> String {
        let LeaderElection { world, terms, .. } = self.election.clone();
        let mut wait = terms.renew;
        loop {
            let deadline = self.renewed + terms.deadline;
            world.sleep(wait.min(deadline.saturating_duration_since(world.now()))).await;
            let started = world.now();
            wait = match tokio::time::timeout_at(deadline, self.renew()).await {
                Ok(Ok(())) => {
                    self.renewed = started;
                    terms.renew
                }
                Ok(Err(Renewal::Deposed(holder))) => return format!("{holder:?} leads now"),
                Ok(Err(Renewal::Failed(error))) if world.now() < deadline => {
                    tracing::debug!(%error, "renewing the lease failed; trying again");
                    terms.retry
                }
                Ok(Err(Renewal::Failed(error))) => {
                    return format!("it could not be renewed in time: {error}");
                }
                Err(_) => return "it could not be renewed in time".to_string(),
            };
        }
    }

    async fn renew(&mut self) -> Result<(), Renewal> {
        let api = Api::<Lease>::new(&self.election.client);
        let (namespace, name) = (&self.fence.namespace, &self.fence.name);
        let patch = json!({
            "metadata": {"resourceVersion": self.version},
            "spec": {"renewTime": MicroTime::from(self.election.world.wall())},
        });
        match api.patch(namespace, name, Patch::Merge(patch), None).await {
            Ok(lease) => {
                self.version = lease.metadata.resource_version;
                Ok(())
            }
            Err(error) if error.is_not_found() => Err(Renewal::Deposed("nobody".into())),
            Err(error) if error.is_conflict() => {
                // Perhaps our own renewal, whose answer was lost.
                let lease = api.get(namespace, name).await.map_err(Renewal::Failed)?;
                if !still_ours(&lease, &self.fence) {
                    return Err(Renewal::Deposed(lease.spec.holder_identity.unwrap_or_default()));
                }
                self.version = lease.metadata.resource_version;
                Err(Renewal::Failed(error))
            }
            Err(error) => Err(Renewal::Failed(error)),
        }
    }
}

enum Renewal {
    /// Somebody else leads, or we do in another term.
    Deposed(String),
    /// It may work the next time.
    Failed(Error),
}

/// A term as leader. It is renewed until it is released or dropped.
pub struct Leadership {
    election: LeaderElection,
    fence: Fence,
    is_lost: watch::Receiver<bool>,
    task: Task,
}

impl Leadership {
    /// What this term's writes carry: see [`Client::with_fence`].
    pub fn fence(&self) -> &Fence {
        &self.fence
    }

    /// Waits until the leadership is lost.
    pub async fn lost(&self) {
        let mut is_lost = self.is_lost.clone();
        // An error means that the renewal has ended, which is no better.
        let _ = is_lost.wait_for(|lost| *lost).await;
    }

    /// Whether it is lost.
    pub fn is_lost(&self) -> bool {
        *self.is_lost.borrow()
    }

    /// Gives the Lease back, so that somebody else can lead at once.
    pub async fn release(self) {
        self.task.abort();
        if self.is_lost() {
            return;
        }
        let api = Api::<Lease>::new(&self.election.client);
        let (namespace, name) = (&self.fence.namespace, &self.fence.name);
        let given_back = async {
            let lease = api.get(namespace, name).await?;
            if !still_ours(&lease, &self.fence) {
                return Ok(());
            }
            let patch = json!({
                "metadata": {"resourceVersion": lease.metadata.resource_version},
                "spec": {"holderIdentity": "", "leaseDurationSeconds": 1},
            });
            api.patch(namespace, name, Patch::Merge(patch), None).await.map(drop)
        };
        match tokio::time::timeout(self.election.terms.retry, given_back).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::debug!(%error, "the lease could not be given back; it will run out")
            }
            Err(_) => tracing::debug!("the lease could not be given back in time; it will run out"),
        }
    }
}

impl Drop for Leadership {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[cfg(test)]
mod tests;
