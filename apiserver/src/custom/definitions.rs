//! Which custom resources are in the table, and how they come in and go out.

use super::definition::Definition;
use super::kind::CustomKind;
use super::names::{Taken, condition};
use super::{DEFINITIONS, GROUP};
use crate::cache::{Cache, CachedResource, Entry, FieldIndexer, ListOptions};
use crate::resources::{Fields, Resource, Strategy, Table};
use bytes::Bytes;
use prost::Message;
use skiff_proto::apiextensionsv1::{CustomResourceDefinition, CustomResourceDefinitionNames};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The custom resources of one server's table.
pub struct Definitions {
    cache: Cache,
    table: Table,
    served: Mutex<BTreeMap<String, Served>>,
}

/// What the rows of one definition were made of.
struct Served {
    uid: String,
    generation: i64,
    group: String,
    names: CustomResourceDefinitionNames,
}

impl Definitions {
    /// None yet.
    pub fn new(cache: Cache, table: Table) -> Definitions {
        Definitions { cache, table, served: Mutex::default() }
    }

    fn served(&self) -> MutexGuard<'_, BTreeMap<String, Served>> {
        self.served.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A definition as the cache has it.
    pub fn entry(&self, name: &str) -> Option<Arc<Entry>> {
        self.cache.get(self.table.get(GROUP, "v1", DEFINITIONS)?.cached(), "", name)
    }

    /// All of them.
    pub fn all(&self) -> Vec<Arc<Entry>> {
        let Some(row) = self.table.get(GROUP, "v1", DEFINITIONS) else { return Vec::new() };
        self.cache.list(row.cached(), &ListOptions::default()).map(|page| page.entries).unwrap_or_default()
    }

    /// Serves what a resource's definition says, if it is established. True: there was something to learn.
    pub fn learn(&self, group: &str, resource: &str) -> bool {
        let Some(entry) = self.entry(&format!("{resource}.{group}")) else { return false };
        let Ok(definition) = CustomResourceDefinition::decode(entry.stored().as_ref()) else { return false };
        condition(&definition.status, "Established") == Some(true) && self.serve(&definition, entry.stored().clone())
    }

    /// Serves a definition by the names that it has been given. False: it is served so already.
    pub fn serve(&self, definition: &CustomResourceDefinition, stored: Bytes) -> bool {
        let (name, names) = (&definition.metadata.name, &definition.status.accepted_names);
        let mut all = self.served();
        let known = all.get(name);
        let (uid, generation) = (&definition.metadata.uid, definition.metadata.generation);
        // That it is being deleted counts as a generation, and changes nothing of what is served.
        let going = definition.metadata.deletion_timestamp.is_some();
        if known.is_some_and(|k| &k.uid == uid && (going || k.generation == generation) && &k.names == names) {
            return false;
        }
        if known.is_some() {
            // Fields may become others.
            self.end_watches(&definition.spec.group, &names.plural);
        }
        let group = &definition.spec.group;
        self.table.replace(group, &names.plural, self.rows(definition, &stored));
        let served = Served { uid: uid.clone(), generation, group: group.clone(), names: names.clone() };
        all.insert(name.clone(), served);
        true
    }

    /// A row for each served version. They share their objects.
    fn rows(&self, of: &CustomResourceDefinition, stored: &Bytes) -> Vec<Resource> {
        let kinds: Vec<(&str, bool, bool, Arc<Definition>, CustomKind)> = of
            .spec
            .versions
            .iter()
            .map(|version| {
                let definition = Arc::new(Definition::new(&of.metadata.name, &version.name, stored.clone()));
                let kind = CustomKind::new(of, version, definition.clone());
                (version.name.as_str(), version.served, version.storage, definition, kind)
            })
            .collect();
        let names = &of.status.accepted_names;
        let (indexer, to_json) = kinds.iter().find(|(_, _, storage, ..)| *storage).map_or_else(
            || (FieldIndexer::default(), Arc::new(|bytes: &[u8]| Ok(Bytes::copy_from_slice(bytes))) as _),
            |(.., kind)| (FieldIndexer::new(kind.selectable()), kind.json_of_stored()),
        );
        let cached =
            self.cache.register(CachedResource::new(&of.spec.group, &names.plural, Arc::new(indexer), to_json));
        let rows = kinds.into_iter().filter(|(_, served, ..)| *served).map(|(version, _, _, definition, kind)| {
            let version_of = of.spec.versions.iter().find(|v| v.name == version);
            let subresources = version_of.and_then(|v| v.subresources.clone()).unwrap_or_default();
            let has = [("status", subresources.status.is_some()), ("scale", subresources.scale.is_some())];
            Resource {
                group: of.spec.group.clone(),
                version: version.to_owned(),
                resource: names.plural.clone(),
                kind: names.kind.clone(),
                singular: names.singular.clone(),
                short_names: names.short_names.clone(),
                categories: names.categories.clone(),
                namespaced: of.spec.scope == "Namespaced",
                subresources: has.iter().filter(|(_, has)| *has).map(|(name, _)| (*name).to_owned()).collect(),
                fields: Fields::Defined(definition),
                strategy: Box::new(kind),
                time_to_live: None,
                stored_as: None,
                cached: cached.into(),
            }
        });
        rows.collect()
    }

    /// Serves a definition no more; its group, if it was served.
    pub fn forget(&self, name: &str) -> Option<String> {
        let gone = self.served().remove(name)?;
        let cached = self.cached(&gone.group, &gone.names.plural);
        self.table.replace(&gone.group, &gone.names.plural, Vec::new());
        if let Some(cached) = cached {
            self.cache.end_watches(cached);
        }
        Some(gone.group)
    }

    fn cached(&self, group: &str, resource: &str) -> Option<crate::cache::ResourceId> {
        let rows = self.table.all();
        rows.values().find(|row| row.group == group && row.resource == resource).map(|row| row.cached())
    }

    fn end_watches(&self, group: &str, resource: &str) {
        if let Some(cached) = self.cached(group, resource) {
            self.cache.end_watches(cached);
        }
    }

    /// The names of those that are served.
    pub fn names(&self) -> Vec<String> {
        self.served().keys().cloned().collect()
    }

    /// The names that a definition may not have: those of the other kinds of its group.
    pub fn taken(&self, definition: &CustomResourceDefinition, others: &[CustomResourceDefinition]) -> Taken {
        let mut taken = Taken::default();
        let (name, group) = (&definition.metadata.name, &definition.spec.group);
        for other in others.iter().filter(|o| &o.spec.group == group && &o.metadata.name != name) {
            taken.add(&other.status.accepted_names);
        }
        for row in self.table.all().values().filter(|row| &row.group == group && !row.is_custom()) {
            taken.add(&CustomResourceDefinitionNames {
                plural: row.resource.clone(),
                singular: row.singular.clone(),
                short_names: row.short_names.clone(),
                kind: row.kind.clone(),
                list_kind: format!("{}List", row.kind),
                categories: Vec::new(),
            });
        }
        taken
    }
}
