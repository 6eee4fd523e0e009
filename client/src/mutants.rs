//! Deliberate faults, for showing that the simulation finds such faults: each is one that small orchestrators really
//! have. Nothing of this is compiled without the feature `mutants`, which only the tests turn on: the binaries have none.
//!
//! A mutant lives in the thread that woke it, and a simulation runs in one thread.

use std::cell::Cell;
use std::time::Duration;

use skiff_proto::Kind;

use crate::api::{Api, ListOptions};
use crate::client::Client;
use crate::error::Error;
use crate::key::Resource;

/// A fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// A status is written by reading the whole object and, a little later, putting the whole object back, whoever has
    /// changed it meanwhile.
    BlindStatus,
    /// A watch begins at now, in place of where the list or the last watch stopped.
    GapBeforeWatch,
    /// A key that is added while it is being worked on is not worked on again.
    DroppedKey,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Mutant; 3] = [Mutant::BlindStatus, Mutant::GapBeforeWatch, Mutant::DroppedKey];
}

thread_local! {
    static AWAKE: Cell<Option<Mutant>> = const { Cell::new(None) };
}

/// Runs `f` with the mutant awake.
pub fn with<T>(mutant: Mutant, f: impl FnOnce() -> T) -> T {
    struct Asleep;
    impl Drop for Asleep {
        fn drop(&mut self) {
            AWAKE.set(None);
        }
    }
    AWAKE.set(Some(mutant));
    let _asleep = Asleep;
    f()
}

pub(crate) fn is_awake(mutant: Mutant) -> bool {
    AWAKE.get() == Some(mutant)
}

/// Where a watch begins that should begin at `revision`.
pub(crate) async fn watch_from(client: &Client, resource: &Resource, revision: u64) -> u64 {
    if !is_awake(Mutant::GapBeforeWatch) {
        return revision;
    }
    let first = ListOptions { limit: 1, ..ListOptions::default() };
    match client.page(resource, "", &first, true, "").await {
        Ok(page) => page.revision.max(revision),
        Err(_) => revision,
    }
}

/// Puts an object back as it was a moment ago, before its status is written.
pub(crate) async fn before_status<K: Kind>(api: &Api<K>, namespace: &str, name: &str) -> Result<(), Error> {
    if !is_awake(Mutant::BlindStatus) || !["Deployment", "ReplicaSet"].contains(&K::KIND) {
        return Ok(());
    }
    let mut object = api.get(namespace, name).await?;
    tokio::time::sleep(Duration::from_millis(50)).await;
    object.metadata_mut().resource_version.clear();
    api.update(&object).await?;
    Ok(())
}
