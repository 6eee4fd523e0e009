//! The loop that follows the definitions in the cache: gives them names, serves them, and lets those go that are deleted,
//! after their objects. What it does for one is decided anew by what the cache shows, so it may be done again.

use super::names::{self, condition};
use super::{CLEANUP, DEFINITIONS, GROUP};
use crate::cache::{WatchEvent, WatchFrom, WatchOptions};
use crate::registry::{
    ApiError, ApiResult, Body, DeleteOptions, Format, Operation, Registry, Reply, Request, WatchOptions as Follow,
};
use crate::resources::{PROTOBUF, Resource};
use prost::Message;
use skiff_proto::Time;
use skiff_proto::apiextensionsv1::CustomResourceDefinition;
use skiff_world::Identity;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// The wait after a failure.
const PAUSE: Duration = Duration::from_millis(500);

/// Follows the definitions until the server stops.
pub async fn keep(registry: Registry) {
    let Some(row) = registry.table().get(GROUP, "v1", DEFINITIONS) else { return };
    loop {
        let options = WatchOptions {
            namespace: String::new(),
            filter: None,
            only: None,
            from: WatchFrom::State,
            bookmarks: None,
        };
        let Ok(mut watch) = registry.cache().watch(row.cached(), options) else { return };
        let mut keeper = Keeper { registry: registry.clone(), due: BTreeSet::new() };
        // What went while nobody followed is seen by its absence.
        keeper.due.extend(registry.definitions().names());
        loop {
            while let Some(event) = watch.try_next() {
                keeper.hear(&event);
            }
            if keeper.due.is_empty() {
                let event = tokio::select! {
                    biased;
                    () = registry.closing() => return,
                    event = watch.next() => event,
                };
                match event {
                    Ok(event) => keeper.hear(&event),
                    Err(_) => break,
                }
                continue;
            }
            if keeper.work().await.is_err() {
                registry.world().sleep(PAUSE).await;
            }
        }
        registry.world().sleep(PAUSE).await;
        if registry.is_closing() || registry.health().is_err() {
            return;
        }
    }
}

struct Keeper {
    registry: Registry,
    /// The definitions that may have to be looked at.
    due: BTreeSet<String>,
}

impl Keeper {
    fn hear(&mut self, event: &WatchEvent) {
        if let WatchEvent::Object(event) = event {
            self.due.insert(event.entry.name().to_owned());
        }
    }

    /// Does what is due. What fails stays due.
    async fn work(&mut self) -> ApiResult<()> {
        while let Some(name) = self.due.first().cloned() {
            match self.look(&name).await {
                Ok(()) => drop(self.due.remove(&name)),
                Err(error) => {
                    tracing::warn!(definition = name, %error, "a custom resource cannot be kept; trying again");
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Brings one definition in line with what it asks for.
    async fn look(&mut self, name: &str) -> ApiResult<()> {
        let definitions = self.registry.definitions();
        let Some(entry) = definitions.entry(name) else {
            if let Some(group) = definitions.forget(name) {
                self.wake_group(&group);
            }
            return Ok(());
        };
        let read = |bytes: &[u8]| CustomResourceDefinition::decode(bytes).map_err(ApiError::internal);
        let mut definition = read(entry.stored())?;
        if definition.metadata.deletion_timestamp.is_some() {
            if condition(&definition.status, "Established") == Some(true) {
                definitions.serve(&definition, entry.stored().clone());
            }
            if definition.metadata.finalizers.iter().any(|f| f == CLEANUP) {
                let registry = self.registry.clone();
                let world = registry.world().clone();
                world.spawn("custom-cleanup", clean_up(registry, definition));
            }
            return Ok(());
        }
        let others: Vec<CustomResourceDefinition> =
            definitions.all().iter().filter_map(|entry| read(entry.stored()).ok()).collect();
        let now = Time::from_unix(self.registry.world().wall().as_second());
        let wanted = names::decide(&definition, &definitions.taken(&definition, &others), now);
        let changed = wanted != definition.status;
        definition.status = wanted;
        // It is served before its status says so: whoever reads that may use it.
        if condition(&definition.status, "Established") == Some(true) {
            definitions.serve(&definition, entry.stored().clone());
        }
        if changed {
            definition.metadata.resource_version = entry.mod_revision.to_string();
            self.write(&definition, "status").await?;
        }
        Ok(())
    }

    /// Names have become free.
    fn wake_group(&mut self, group: &str) {
        let behind = format!(".{group}");
        let all = self.registry.definitions().all();
        self.due.extend(all.iter().map(|e| e.name().to_owned()).filter(|name| name.ends_with(&behind)));
    }

    async fn write(&self, definition: &CustomResourceDefinition, subresource: &str) -> ApiResult<()> {
        write(&self.registry, definition, subresource, "its names were looked at").await
    }
}

/// Writes a definition. Another server may have been quicker: then the change is heard of, and looked at again.
async fn write(registry: &Registry, object: &CustomResourceDefinition, subresource: &str, why: &str) -> ApiResult<()> {
    let row = registry.resource(GROUP, "v1", DEFINITIONS)?;
    let body = Body { bytes: object.encode_to_vec().into(), content_type: PROTOBUF.into(), ..Default::default() };
    let mut request = request(row, "", &object.metadata.name, Operation::Update(body), why);
    request.subresource = subresource.into();
    match registry.serve(request).await {
        Err(error) if !["Conflict", "NotFound"].contains(&error.reason()) => Err(error),
        _ => Ok(()),
    }
}

fn request(resource: Arc<Resource>, namespace: &str, name: &str, operation: Operation, why: &str) -> Request {
    Request {
        identity: Identity::new("system:apiserver", &[crate::auth::MASTERS]),
        resource,
        subresource: String::new(),
        namespace: namespace.into(),
        name: name.into(),
        operation,
        accept: Format::Json,
        metadata_only: true,
        cause: skiff_proto::skiffv1::Cause { reason: why.into(), ..Default::default() },
        fence: None,
    }
}

/// Deletes all objects of a definition that is being deleted, waits until they are gone, and lets it go.
async fn clean_up(registry: Registry, definition: CustomResourceDefinition) {
    loop {
        match empty(&registry, &definition).await {
            Ok(true) => return,
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(definition = definition.metadata.name, %error, "objects cannot be deleted; trying again");
                registry.world().sleep(PAUSE).await;
            }
        }
        if registry.is_closing() || registry.health().is_err() {
            return;
        }
    }
}

/// One turn of it. True: nothing is left to do.
async fn empty(registry: &Registry, definition: &CustomResourceDefinition) -> ApiResult<bool> {
    let name = &definition.metadata.name;
    registry.catch_up().await?;
    let Some(entry) = registry.definitions().entry(name) else { return Ok(true) };
    let mut current = CustomResourceDefinition::decode(entry.stored().as_ref()).map_err(ApiError::internal)?;
    if current.metadata.uid != definition.metadata.uid || !current.metadata.finalizers.iter().any(|f| f == CLEANUP) {
        return Ok(true);
    }
    let rows = registry.table().all();
    let plural = &current.status.accepted_names.plural;
    let row = rows.values().find(|row| row.group == current.spec.group && &row.resource == plural && row.is_custom());
    if let Some(row) = row {
        // Nothing comes any more: creating asks for a definition that stays.
        let left = delete_all(registry, row).await?;
        if left > 0 {
            wait_for_change(registry, row).await?;
            return Ok(false);
        }
    }
    current.metadata.finalizers.retain(|f| f != CLEANUP);
    current.metadata.resource_version = entry.mod_revision.to_string();
    write(registry, &current, "", "all its objects are gone").await?;
    Ok(false)
}

/// Asks every object to go; how many are still there.
async fn delete_all(registry: &Registry, row: &Arc<Resource>) -> ApiResult<usize> {
    let list = || crate::cache::ListOptions::default();
    let page = registry.cache().list(row.cached(), &list()).map_err(ApiError::internal)?;
    for entry in page.entries {
        let options = DeleteOptions { precondition_uid: entry.uid().to_owned(), ..Default::default() };
        let why = "its CustomResourceDefinition is being deleted";
        let request = request(row.clone(), entry.namespace(), entry.name(), Operation::Delete(options), why);
        match registry.serve(request).await {
            Err(error) if !["Conflict", "NotFound"].contains(&error.reason()) => return Err(error),
            _ => {}
        }
    }
    registry.catch_up().await?;
    Ok(registry.cache().count(row.cached()))
}

/// Waits until an object has changed: one that something holds may go then.
async fn wait_for_change(registry: &Registry, row: &Arc<Resource>) -> ApiResult<()> {
    let from = registry.cache().revision().to_string();
    let follow = Follow { resource_version: from, ..Default::default() };
    let request = request(row.clone(), "", "", Operation::Watch(follow), "");
    if let Reply::Watch(mut watch) = registry.serve(request).await?
        && registry.cache().count(row.cached()) > 0
    {
        watch.next().await;
    }
    Ok(())
}
