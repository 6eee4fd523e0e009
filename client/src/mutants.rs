//! What a deliberate fault does here where that takes more than a line: see `skiff_world::mutants`. Nothing of this is
//! compiled without the feature `mutants`.

use std::time::Duration;

use skiff_proto::Kind;
use skiff_world::mutants::{Mutant, is_awake};

use crate::api::{Api, ListOptions};
use crate::client::Client;
use crate::error::Error;
use crate::key::Resource;

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
