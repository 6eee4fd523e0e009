//! Walking documents by their Schema: what a document names, and what two of them differ in.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::set::{FieldSet, Step};
use super::text::key_step;
use crate::schema::{Field, ListType, Object, Presence, Schema, Shape, Type, with_metadata};

/// A document that cannot be applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {problem}")]
pub struct BadConfiguration {
    /// The field.
    pub path: String,
    /// What is wrong.
    pub problem: String,
}

/// What is different in the second of two documents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Fields that only the second has.
    pub added: FieldSet,
    /// Fields that both have, with other values.
    pub modified: FieldSet,
    /// Fields that only the first has.
    pub removed: FieldSet,
}

impl Changes {
    /// Whether the documents are the same.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.modified.is_empty() && self.removed.is_empty()
    }
}

/// Deeper documents are owned as a whole from there.
const MAX_DEPTH: usize = 128;

/// What a value is to an apply.
#[derive(Clone, Copy)]
pub(super) enum Is<'s> {
    /// Fields with owners of their own. `value`: it is part of what is around it, and never there or gone by itself.
    Object { schema: &'s Schema, object: &'s Object, value: bool },
    /// Keys with owners of their own.
    Map { schema: &'s Schema, field: &'s Field },
    /// Items with owners of their own.
    List { schema: &'s Schema, field: &'s Field },
    /// Something of which the Schema knows nothing: objects are taken apart, the rest is not.
    Free,
    /// One owner for all of it.
    Leaf,
}

/// A value inside another.
pub(super) struct Child<'s, 'v> {
    pub step: Step,
    pub is: Is<'s>,
    pub value: &'v Value,
}

impl<'s> Is<'s> {
    pub(super) fn root(schema: &'s Schema) -> Is<'s> {
        Is::Object { schema, object: schema.root(), value: true }
    }

    fn field(schema: &'s Schema, field: &'s Field) -> Is<'s> {
        match field.shape {
            Shape::List if field.list == ListType::Atomic => Is::Leaf,
            Shape::List => Is::List { schema, field },
            Shape::Map if field.atomic => Is::Leaf,
            Shape::Map => Is::Map { schema, field },
            Shape::Single if field.atomic => Is::Leaf,
            Shape::Single => Is::item(schema, field),
        }
    }

    fn item(schema: &'s Schema, field: &'s Field) -> Is<'s> {
        let value = field.shape == Shape::Single && field.presence == Presence::Always;
        match field.of {
            Type::Object(place) if schema.object(place).atomic => Is::Leaf,
            Type::Object(place) => Is::Object { schema, object: schema.object(place), value },
            Type::Nested(_) => schema.nested(field).map_or(Is::Free, |inner| Is::field(schema, inner)),
            Type::Any => Is::Free,
            _ => Is::Leaf,
        }
    }

    /// What the value at one step inside is.
    pub(super) fn inside(self, name: &str) -> Is<'s> {
        match self {
            Is::Object { schema, object, .. } => match object.field(name) {
                Some(field) => Is::field(schema, field),
                None if name == "metadata" && std::ptr::eq(object, schema.root()) => metadata(),
                None => Is::Free,
            },
            Is::Map { schema, field } | Is::List { schema, field } => Is::item(schema, field),
            Is::Free => Is::Free,
            Is::Leaf => Is::Leaf,
        }
    }

    /// The step to an item of a list; `None` when it lacks its keys.
    pub(super) fn step_to(self, item: &Value) -> Option<Step> {
        let Is::List { schema, field } = self else { return None };
        if field.list == ListType::Set {
            return Some(Step::Value(item.to_string()));
        }
        let object = schema.object_within(field);
        let mut keys = BTreeMap::new();
        for name in field.list_map_keys.iter() {
            let default = || object?.field(name).map(|f| &*f.default).filter(|d| !d.is_empty()).map(Value::from);
            if let Some(value) = item.get(&**name).filter(|v| !v.is_null()).cloned().or_else(default) {
                keys.insert(name.to_string(), value);
            }
        }
        (!keys.is_empty()).then(|| key_step(&keys))
    }

    /// What is inside a value; `None` when it is one field for all purposes.
    pub(super) fn children<'v>(self, value: &'v Value) -> Option<Vec<Child<'s, 'v>>> {
        match (self, value) {
            (Is::Object { .. } | Is::Map { .. } | Is::Free, Value::Object(map)) => {
                let there = map.iter().filter(|(_, value)| !value.is_null());
                let child =
                    |(name, value)| Child { step: Step::Field(String::clone(name)), is: self.inside(name), value };
                Some(there.map(child).collect())
            }
            (Is::List { .. }, Value::Array(items)) => {
                let child = |value| Some(Child { step: self.step_to(value)?, is: self.inside(""), value });
                Some(items.iter().filter_map(child).collect())
            }
            _ => None,
        }
    }

    /// Whether it is there or not apart from what is in it.
    fn stands_alone(self) -> bool {
        !matches!(self, Is::Object { value: true, .. })
    }
}

/// The metadata of kinds whose Schema was made at run time and does not describe it.
fn metadata() -> Is<'static> {
    Is::root(with_metadata()).inside("metadata")
}

/// The fields that a document names: what its author means to own. Nulls name nothing.
pub fn fields_of(document: &Value, schema: &Schema) -> Result<FieldSet, BadConfiguration> {
    let mut set = FieldSet::default();
    collect(Is::root(schema), document, &mut vec![], &mut set)?;
    Ok(set)
}

fn collect(is: Is<'_>, value: &Value, path: &mut Vec<Step>, set: &mut FieldSet) -> Result<(), BadConfiguration> {
    let children = is.children(value).unwrap_or_default();
    if let (Is::List { .. }, Value::Array(items)) = (is, value) {
        identified(items, &children, path)?;
    }
    if children.is_empty() || path.len() >= MAX_DEPTH {
        set.insert(path);
        return Ok(());
    }
    for child in children {
        path.push(child.step);
        // Items of lists and keys of maps are owned beside what is in them; fields of objects are not.
        if !matches!(is, Is::Object { .. }) {
            set.insert(path);
        }
        collect(child.is, child.value, path, set)?;
        path.pop();
    }
    Ok(())
}

/// Refuses a list in which an item cannot be told from another.
fn identified(items: &[Value], children: &[Child], path: &[Step]) -> Result<(), BadConfiguration> {
    if children.len() < items.len() {
        return Err(bad(path, "an item lacks the fields that identify it"));
    }
    let mut seen = BTreeSet::new();
    match children.iter().position(|child| !seen.insert(&child.step)) {
        Some(place) => {
            let mut item = path.to_vec();
            item.push(Step::Index(place));
            Err(bad(&item, format!("Duplicate value: an item before it is {} too", children[place].step)))
        }
        None => Ok(()),
    }
}

fn bad(path: &[Step], problem: impl Into<String>) -> BadConfiguration {
    let path: String = path.iter().map(Step::to_string).collect();
    BadConfiguration { path: path.trim_start_matches('.').into(), problem: problem.into() }
}

/// What is different in `new`, seen from `old`.
pub fn compare(old: &Value, new: &Value, schema: &Schema) -> Changes {
    let mut changes = Changes::default();
    differ(Is::root(schema), Some(old), Some(new), &mut vec![], &mut changes);
    changes
}

fn differ(is: Is<'_>, old: Option<&Value>, new: Option<&Value>, path: &mut Vec<Step>, changes: &mut Changes) {
    let (before, after) = (old.and_then(|v| is.children(v)), new.and_then(|v| is.children(v)));
    let empty = |children: &Option<Vec<Child>>| children.as_ref().is_none_or(Vec::is_empty);
    let apart = before.is_some() || after.is_some();
    if !apart || path.len() >= MAX_DEPTH || (empty(&before) && empty(&after)) {
        return leaf(old, new, path, changes);
    }
    match (old, new) {
        (None, _) if is.stands_alone() => changes.added.insert(path),
        (_, None) if is.stands_alone() => changes.removed.insert(path),
        _ => {}
    }
    let mut both: BTreeMap<Step, (Is, Option<&Value>, Option<&Value>)> = BTreeMap::new();
    for child in before.into_iter().flatten() {
        both.entry(child.step).or_insert((child.is, Some(child.value), None));
    }
    for child in after.into_iter().flatten() {
        let slot = both.entry(child.step).or_insert((child.is, None, None));
        slot.2.get_or_insert(child.value);
    }
    for (step, (is, old, new)) in both {
        path.push(step);
        differ(is, old, new, path, changes);
        path.pop();
    }
}

fn leaf(old: Option<&Value>, new: Option<&Value>, path: &[Step], changes: &mut Changes) {
    match (old, new) {
        (None, Some(_)) => changes.added.insert(path),
        (Some(_), None) => changes.removed.insert(path),
        (Some(old), Some(new)) if old != new => changes.modified.insert(path),
        _ => {}
    }
}
