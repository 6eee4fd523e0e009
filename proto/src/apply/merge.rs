//! Putting a document into another, and taking fields out of one.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::set::{FieldSet, Step};
use super::walk::Is;
use crate::schema::Schema;

/// `document` with everything that `configuration` names, as it names it. Nulls name nothing.
pub fn merge(document: &mut Value, configuration: &Value, schema: &Schema) {
    put(Is::root(schema), document, configuration);
}

fn put(is: Is<'_>, target: &mut Value, wanted: &Value) {
    match (is, wanted) {
        (Is::Object { .. } | Is::Map { .. } | Is::Free, Value::Object(wanted)) => {
            if !target.is_object() {
                *target = Value::Object(Map::new());
            }
            let Value::Object(target) = target else { return };
            for (name, value) in wanted.iter().filter(|(_, value)| !value.is_null()) {
                put(is.inside(name), target.entry(name.clone()).or_insert(Value::Null), value);
            }
        }
        (Is::List { .. }, Value::Array(wanted)) => {
            let there = match target.take() {
                Value::Array(items) => items,
                _ => vec![],
            };
            *target = Value::Array(put_items(is, there, wanted));
        }
        _ => *target = wanted.clone(),
    }
}

/// Wanted items come in the order in which they are wanted; those that nobody here speaks of stay where they stood
/// among them.
fn put_items(is: Is<'_>, there: Vec<Value>, wanted: &[Value]) -> Vec<Value> {
    let steps: Vec<Option<Step>> = wanted.iter().map(|item| is.step_to(item)).collect();
    let mut old: Vec<(Option<Step>, Option<Value>)> = there.into_iter().map(|v| (is.step_to(&v), Some(v))).collect();
    let mut places = BTreeMap::new();
    for (place, (step, _)) in old.iter().enumerate() {
        places.entry(step.clone()).or_insert(place);
    }
    let named = |step: &Option<Step>| step.is_some() && steps.contains(step);
    let (mut merged, mut next) = (vec![], 0);
    for (item, step) in wanted.iter().zip(&steps) {
        let place = step.as_ref().and_then(|_| places.get(step).copied());
        let before = place.unwrap_or_else(|| {
            let unnamed = old.iter().skip(next).take_while(|(step, _)| !named(step)).count();
            next + unnamed
        });
        for (step, left) in old.iter_mut().take(before).skip(next) {
            merged.extend((!named(step)).then(|| left.take()).flatten());
        }
        next = next.max(before);
        let mut value = place.and_then(|place| old[place].1.take()).unwrap_or_default();
        put(is.inside(""), &mut value, item);
        merged.push(value);
    }
    merged.extend(old.into_iter().filter(|(step, _)| !named(step)).filter_map(|(_, left)| left));
    merged
}

/// Takes out the fields of a set, with everything in them. Parts of objects that are always there (`metadata`, `spec`)
/// stay, whatever the set says.
pub fn remove(document: &mut Value, fields: &FieldSet, schema: &Schema) {
    take(Is::root(schema), document, fields);
}

fn take(is: Is<'_>, value: &mut Value, fields: &FieldSet) {
    match value {
        Value::Object(map) => map.retain(|name, inner| {
            let step = Step::Field(name.clone());
            let is = is.inside(name);
            let part = matches!(is, Is::Object { value: true, .. });
            keep(is, inner, &step, fields, part)
        }),
        Value::Array(items) if matches!(is, Is::List { .. }) => items.retain_mut(|item| match is.step_to(item) {
            Some(step) => keep(is.inside(""), item, &step, fields, false),
            None => true,
        }),
        _ => {}
    }
}

fn keep(is: Is<'_>, value: &mut Value, step: &Step, fields: &FieldSet, part: bool) -> bool {
    if fields.members.contains(step) && !part {
        return false;
    }
    if let Some(inside) = fields.inside.get(step) {
        take(is, value, inside);
    }
    true
}
