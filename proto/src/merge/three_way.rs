//! The patch behind `apply`: from what was applied last, what is to be applied, and what is there.
//! What was applied last and is no longer named goes; what is named and differs is set; what others
//! set stays.

use serde_json::{Map, Value, json};

use super::{DELETE_FROM, DIRECTIVE, RETAIN_KEYS, SET_ORDER};
use crate::Quantity;
use crate::schema::{Field, Merge, Object, Schema, Shape, Type};

/// A strategic merge patch; `{}` when there is nothing to do.
pub fn three_way(original: &Value, modified: &Value, current: &Value, schema: &Schema) -> Value {
    let differ = Differ { schema: Some(schema) };
    Value::Object(differ.object(original, modified, current, Some(schema.root())))
}

/// A JSON merge patch, for kinds without a Schema; `{}` when there is nothing to do.
pub fn three_way_json(original: &Value, modified: &Value, current: &Value) -> Value {
    Value::Object(Differ { schema: None }.object(original, modified, current, None))
}

struct Differ<'s> {
    schema: Option<&'s Schema>,
}

static NULL: Value = Value::Null;

impl<'s> Differ<'s> {
    fn object(
        &self,
        original: &Value,
        modified: &Value,
        current: &Value,
        object: Option<&'s Object>,
    ) -> Map<String, Value> {
        let mut patch = Map::new();
        let Value::Object(wanted) = modified else { return patch };
        for (key, value) in wanted {
            let field = object.and_then(|o| o.field(key));
            let was = original.get(key).unwrap_or(&NULL);
            match current.get(key) {
                _ if value.is_null() => {
                    if current.get(key).is_some_and(|c| !c.is_null()) {
                        patch.insert(key.clone(), Value::Null);
                    }
                }
                None | Some(Value::Null) => {
                    patch.insert(key.clone(), value.clone());
                }
                Some(is) => self.field(&mut patch, key, (was, value, is), field),
            }
        }
        for key in original.as_object().into_iter().flat_map(Map::keys) {
            let gone = !wanted.contains_key(key) && current.get(key).is_some_and(|c| !c.is_null());
            if gone {
                patch.insert(key.clone(), Value::Null);
            }
        }
        patch
    }

    /// A field that is wanted and is there.
    fn field(
        &self,
        patch: &mut Map<String, Value>,
        key: &str,
        (was, wanted, is): (&Value, &Value, &Value),
        field: Option<&'s Field>,
    ) {
        match (wanted, is, field) {
            (Value::Object(_), Value::Object(_), Some(f)) if f.merge == Merge::Replace => {
                if wanted != is {
                    patch.insert(key.to_owned(), wanted.clone());
                }
            }
            (Value::Object(map), Value::Object(_), field) => {
                let object = field.and_then(|f| self.schema?.object_of(f));
                let mut inner = match field.map(|f| (f.shape, f.of)) {
                    Some((Shape::Map, Type::Quantity)) => quantities(was, wanted, is),
                    _ => {
                        self.object(was, wanted, is, object.filter(|_| field.is_some_and(|f| f.shape == Shape::Single)))
                    }
                };
                if inner.is_empty() {
                    return;
                }
                if field.is_some_and(|f| f.retain_keys) {
                    inner.insert(RETAIN_KEYS.to_owned(), map.keys().cloned().collect());
                }
                patch.insert(key.to_owned(), Value::Object(inner));
            }
            (Value::Array(items), Value::Array(there), Some(f)) if f.merge == Merge::List => {
                self.list(patch, key, (was.as_array().map_or(&[], Vec::as_slice), items, there), f);
            }
            _ => {
                if !same(wanted, is, field) {
                    patch.insert(key.to_owned(), wanted.clone());
                }
            }
        }
    }

    /// A list that is merged.
    fn list(
        &self,
        patch: &mut Map<String, Value>,
        key: &str,
        (was, wanted, is): (&[Value], &[Value], &[Value]),
        field: &'s Field,
    ) {
        let Some(object) = self.schema.and_then(|s| s.object_of(field)) else {
            return scalars(patch, key, (was, wanted, is));
        };
        let merge_key = &*field.merge_key;
        let find = |list: &'_ [Value], id: &Value| list.iter().find(|i| &i[merge_key] == id).cloned();
        let mut items = vec![];
        for item in wanted {
            let id = &item[merge_key];
            match find(is, id) {
                None => items.push(item.clone()),
                Some(there) => {
                    let before = find(was, id).unwrap_or(Value::Null);
                    let mut change = self.object(&before, item, &there, Some(object));
                    if change.is_empty() {
                        continue;
                    }
                    if field.retain_keys {
                        let keys = item.as_object().into_iter().flat_map(Map::keys).cloned();
                        change.insert(RETAIN_KEYS.to_owned(), keys.collect());
                    }
                    change.insert(merge_key.to_owned(), id.clone());
                    items.push(Value::Object(change));
                }
            }
        }
        for item in was {
            let id = &item[merge_key];
            if find(wanted, id).is_none() && find(is, id).is_some() {
                items.push(json!({ DIRECTIVE: "delete", merge_key: id }));
            }
        }
        let ids = |list: &[Value]| list.iter().map(|i| i[merge_key].clone()).collect::<Vec<_>>();
        let wanted_ids = ids(wanted);
        let mut there_ids = ids(is);
        there_ids.retain(|id| wanted_ids.contains(id));
        let new_order = there_ids != wanted_ids;
        if items.is_empty() && !new_order {
            return;
        }
        let order: Vec<Value> = wanted_ids.iter().map(|id| json!({ merge_key: id })).collect();
        patch.insert(format!("{SET_ORDER}{key}"), Value::Array(order));
        if !items.is_empty() {
            patch.insert(key.to_owned(), Value::Array(items));
        }
    }
}

/// A list of scalars that is merged as a set.
fn scalars(patch: &mut Map<String, Value>, key: &str, (was, wanted, is): (&[Value], &[Value], &[Value])) {
    let added: Vec<Value> = wanted.iter().filter(|i| !is.contains(i)).cloned().collect();
    let gone: Vec<Value> = was.iter().filter(|i| !wanted.contains(i) && is.contains(i)).cloned().collect();
    if !gone.is_empty() {
        patch.insert(format!("{DELETE_FROM}{key}"), Value::Array(gone));
    }
    if !added.is_empty() {
        patch.insert(key.to_owned(), Value::Array(added));
    }
}

/// A map of amounts: `1000m` and `1` are no change.
fn quantities(was: &Value, wanted: &Value, is: &Value) -> Map<String, Value> {
    let mut patch = Differ { schema: None }.object(was, wanted, is, None);
    patch.retain(|name, value| value.is_null() || !is.get(name).is_some_and(|there| same_quantity(value, there)));
    patch
}

fn same(a: &Value, b: &Value, field: Option<&Field>) -> bool {
    a == b || field.is_some_and(|f| f.shape == Shape::Single && f.of == Type::Quantity) && same_quantity(a, b)
}

fn same_quantity(a: &Value, b: &Value) -> bool {
    let read = |v: &Value| match v {
        Value::String(text) => Quantity::parse(text).ok(),
        Value::Number(number) => Quantity::parse(&number.to_string()).ok(),
        _ => None,
    };
    read(a).is_some_and(|a| Some(a) == read(b))
}
