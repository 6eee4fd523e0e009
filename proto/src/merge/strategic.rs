//! Applying a strategic merge patch: objects are merged, lists too where the Schema says by which
//! key, and directives (`$patch`, `$retainKeys`, `$deleteFromPrimitiveList`, `$setElementOrder`) say
//! what a merge alone cannot.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::{DELETE_FROM, DIRECTIVE, RETAIN_KEYS, SET_ORDER};
use crate::schema::{Field, Merge, Object, Schema, Shape};

/// What is wrong with a strategic merge patch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {problem}")]
pub struct BadPatch {
    /// The field.
    pub path: String,
    /// What is wrong, and what was expected.
    pub problem: String,
}

/// Deeper patches are refused.
const MAX_DEPTH: usize = 128;

/// Applies `patch` to `document`. Fields that the Schema does not know are merged as JSON merge
/// patches do. After an error the document is half patched: throw it away.
pub fn strategic(document: &mut Value, patch: &Value, schema: &Schema) -> Result<(), BadPatch> {
    let Value::Object(patch) = patch else {
        return Err(bad("", "a patch is an object"));
    };
    let merger = Merger { schema };
    merger.object(document, patch, Some(schema.root()), "", 0)
}

fn bad(path: &str, problem: impl Into<String>) -> BadPatch {
    let path = if path.is_empty() { "the patch".to_owned() } else { path.to_owned() };
    BadPatch { path, problem: problem.into() }
}

struct Merger<'s> {
    schema: &'s Schema,
}

impl Merger<'_> {
    fn object(
        &self,
        document: &mut Value,
        patch: &Map<String, Value>,
        object: Option<&Object>,
        path: &str,
        depth: usize,
    ) -> Result<(), BadPatch> {
        if depth > MAX_DEPTH {
            return Err(bad(path, format!("nested deeper than {MAX_DEPTH} levels")));
        }
        match patch.get(DIRECTIVE).map(|d| d.as_str()) {
            None | Some(Some("merge")) => {}
            Some(Some("replace")) => {
                let mut whole = patch.clone();
                whole.shift_remove(DIRECTIVE);
                *document = Value::Object(whole);
                return Ok(());
            }
            Some(Some("delete")) => {
                *document = Value::Object(Map::new());
                return Ok(());
            }
            Some(_) => return Err(bad(path, "$patch must be \"merge\", \"replace\" or \"delete\"")),
        }
        if !document.is_object() {
            *document = Value::Object(Map::new());
        }
        let Value::Object(target) = document else { return Ok(()) };
        retain(target, patch.get(RETAIN_KEYS), path)?;
        for (key, value) in patch {
            if let Some(name) = key.strip_prefix(DELETE_FROM) {
                delete_from(target, name, value);
            }
        }
        for (key, value) in patch {
            if key.starts_with('$') {
                continue;
            }
            let at = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            let field = object.and_then(|o| o.field(key));
            self.field(target, key, value, field, &at, depth)?;
        }
        for (key, order) in patch {
            if let Some(name) = key.strip_prefix(SET_ORDER) {
                let field = object.and_then(|o| o.field(name));
                let merge_key = field.map(|f| &*f.merge_key).unwrap_or_default();
                set_order(target.get_mut(name), order, merge_key);
            }
        }
        Ok(())
    }

    fn field(
        &self,
        target: &mut Map<String, Value>,
        key: &str,
        value: &Value,
        field: Option<&Field>,
        path: &str,
        depth: usize,
    ) -> Result<(), BadPatch> {
        match (value, field) {
            (Value::Null, _) => {
                target.shift_remove(key);
            }
            (Value::Object(_), Some(field)) if field.merge == Merge::Replace => {
                target.insert(key.to_owned(), value.clone());
            }
            (Value::Object(inner), field) => {
                let object = field.filter(|f| f.shape == Shape::Single).and_then(|f| self.schema.object_of(f));
                let values = field.filter(|f| f.shape == Shape::Map).and_then(|f| self.schema.object_of(f));
                let slot = target.entry(key.to_owned()).or_insert(Value::Null);
                if values.is_some() {
                    self.map(slot, inner, values, path, depth + 1)?;
                } else {
                    self.object(slot, inner, object, path, depth + 1)?;
                }
            }
            (Value::Array(items), Some(field)) if field.merge == Merge::List => {
                let slot = target.entry(key.to_owned()).or_insert_with(|| Value::Array(vec![]));
                self.list(slot, items, field, path, depth + 1)?;
            }
            _ => {
                target.insert(key.to_owned(), value.clone());
            }
        }
        Ok(())
    }

    /// A map whose values are objects.
    fn map(
        &self,
        slot: &mut Value,
        patch: &Map<String, Value>,
        values: Option<&Object>,
        path: &str,
        depth: usize,
    ) -> Result<(), BadPatch> {
        if !slot.is_object() {
            *slot = Value::Object(Map::new());
        }
        let Value::Object(target) = slot else { return Ok(()) };
        for (key, value) in patch {
            match value {
                Value::Null => {
                    target.shift_remove(key);
                }
                Value::Object(inner) => {
                    let slot = target.entry(key.clone()).or_insert(Value::Null);
                    self.object(slot, inner, values, &format!("{path}[{key}]"), depth + 1)?;
                }
                other => {
                    target.insert(key.clone(), other.clone());
                }
            }
        }
        Ok(())
    }

    fn list(&self, slot: &mut Value, items: &[Value], field: &Field, path: &str, depth: usize) -> Result<(), BadPatch> {
        if !slot.is_array() {
            *slot = Value::Array(vec![]);
        }
        let Value::Array(list) = slot else { return Ok(()) };
        let Some(object) = self.schema.object_of(field) else {
            add_scalars(list, items);
            return Ok(());
        };
        if items.iter().any(|i| i.get(DIRECTIVE).is_some_and(|d| d == "replace")) {
            let plain = items.iter().filter(|i| i.get(DIRECTIVE).is_none());
            *list = plain.cloned().collect();
            return Ok(());
        }
        let merge_key = &*field.merge_key;
        let mut keyed = Keyed::take(list, merge_key);
        for (i, item) in items.iter().enumerate() {
            let at = format!("{path}[{i}]");
            let Value::Object(patch) = item else {
                return Err(bad(&at, "an object is expected here"));
            };
            let Some(id) = patch.get(merge_key) else {
                return Err(bad(&at, format!("the list is merged by {merge_key:?}, which this item does not have")));
            };
            if patch.get(DIRECTIVE).is_some_and(|d| d == "delete") {
                keyed.remove(id);
            } else {
                self.object(keyed.entry(id), patch, Some(object), &at, depth + 1)?;
            }
        }
        *list = keyed.into_list();
        Ok(())
    }
}

/// A list of objects by their merge key: long lists and long patches stay cheap.
struct Keyed {
    items: Vec<Option<Value>>,
    places: BTreeMap<String, Vec<usize>>,
}

impl Keyed {
    fn take(list: &mut Vec<Value>, merge_key: &str) -> Keyed {
        let mut places: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (place, item) in list.iter().enumerate() {
            if let Some(id) = item.get(merge_key) {
                places.entry(id.to_string()).or_default().push(place);
            }
        }
        Keyed { items: std::mem::take(list).into_iter().map(Some).collect(), places }
    }

    /// The first item with the key, or a new one at the end.
    fn entry(&mut self, id: &Value) -> &mut Value {
        let places = self.places.entry(id.to_string()).or_default();
        let place = match places.first() {
            Some(place) => *place,
            None => {
                places.push(self.items.len());
                self.items.push(None);
                self.items.len() - 1
            }
        };
        self.items[place].get_or_insert_with(|| Value::Object(Map::new()))
    }

    fn remove(&mut self, id: &Value) {
        for place in self.places.remove(&id.to_string()).unwrap_or_default() {
            self.items[place] = None;
        }
    }

    fn into_list(self) -> Vec<Value> {
        self.items.into_iter().flatten().collect()
    }
}

/// A list of scalars is a set: what is there already is not added again.
fn add_scalars(list: &mut Vec<Value>, items: &[Value]) {
    let mut there: BTreeSet<String> = list.iter().map(Value::to_string).collect();
    list.extend(items.iter().filter(|item| there.insert(item.to_string())).cloned());
}

/// Of a union, only the named keys stay.
fn retain(target: &mut Map<String, Value>, keys: Option<&Value>, path: &str) -> Result<(), BadPatch> {
    match keys {
        None => Ok(()),
        Some(Value::Array(keys)) => {
            target.retain(|key, _| keys.iter().any(|k| k == key));
            Ok(())
        }
        Some(_) => Err(bad(path, "$retainKeys must be a list of names")),
    }
}

fn delete_from(target: &mut Map<String, Value>, name: &str, gone: &Value) {
    if let (Some(Value::Array(list)), Value::Array(gone)) = (target.get_mut(name), gone) {
        let gone: BTreeSet<String> = gone.iter().map(Value::to_string).collect();
        list.retain(|item| !gone.contains(&item.to_string()));
    }
}

/// Puts a list into the order that the patch wants. Items that the order does not name are the
/// server's own: each keeps its place.
fn set_order(list: Option<&mut Value>, order: &Value, merge_key: &str) {
    let (Some(Value::Array(list)), Value::Array(order)) = (list, order) else { return };
    let id = |item: &Value| if merge_key.is_empty() { item.to_string() } else { item[merge_key].to_string() };
    let ranks: BTreeMap<String, usize> = order.iter().map(id).enumerate().map(|(rank, id)| (id, rank)).collect();
    let ids: Vec<Option<usize>> = list.iter().map(|item| ranks.get(&id(item)).copied()).collect();
    let mut ranked: Vec<(usize, Value)> =
        ids.iter().zip(list.iter()).filter_map(|(r, i)| Some(((*r)?, i.clone()))).collect();
    ranked.sort_by_key(|(rank, _)| *rank);
    let mut in_order = ranked.into_iter().map(|(_, item)| item);
    for (rank, item) in ids.iter().zip(list.iter_mut()) {
        if let Some(next) = rank.and_then(|_| in_order.next()) {
            *item = next;
        }
    }
}
