//! A set of fields of a document, as a tree of the steps that lead to them.

use std::collections::{BTreeMap, BTreeSet};

/// One step on the way to a field.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// A field of an object, or a key of a map.
    Field(String),
    /// An item of a list of type map: the JSON object of its key fields, in the order of their names.
    Key(String),
    /// An item of a list of type set: its JSON.
    Value(String),
    /// An item of a list by its place; Skiff makes none, others may have.
    Index(usize),
}

impl std::fmt::Display for Step {
    /// As paths of conflicts have it: `.spec`, `[name="web"]`, `[="x"]`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Step::Field(name) => write!(f, ".{name}"),
            Step::Value(value) => write!(f, "[={value}]"),
            Step::Index(index) => write!(f, "[{index}]"),
            Step::Key(keys) => {
                let keys: BTreeMap<String, serde_json::Value> = serde_json::from_str(keys).unwrap_or_default();
                let keys: Vec<String> = keys.iter().map(|(name, value)| format!("{name}={value}")).collect();
                write!(f, "[{}]", keys.join(","))
            }
        }
    }
}

/// A set of fields. An object can be in it without what is inside it, and the other way round.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSet {
    pub(super) members: BTreeSet<Step>,
    /// Never holds an empty set.
    pub(super) inside: BTreeMap<Step, FieldSet>,
}

impl FieldSet {
    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty() && self.inside.is_empty()
    }

    /// Adds the field at a path; the empty path is no field.
    pub fn insert(&mut self, path: &[Step]) {
        match path {
            [] => {}
            [last] => {
                self.members.insert(last.clone());
            }
            [first, rest @ ..] => self.inside.entry(first.clone()).or_default().insert(rest),
        }
    }

    /// Whether the field at a path is in it.
    pub fn contains(&self, path: &[Step]) -> bool {
        match path {
            [] => false,
            [last] => self.members.contains(last),
            [first, rest @ ..] => self.inside.get(first).is_some_and(|inside| inside.contains(rest)),
        }
    }

    /// What is in either.
    pub fn union(&self, other: &FieldSet) -> FieldSet {
        let mut both = self.clone();
        both.members.extend(other.members.iter().cloned());
        for (step, inside) in &other.inside {
            let merged = both.inside.get(step).map_or_else(|| inside.clone(), |mine| mine.union(inside));
            both.inside.insert(step.clone(), merged);
        }
        both
    }

    /// What is in both.
    pub fn intersection(&self, other: &FieldSet) -> FieldSet {
        let members = self.members.intersection(&other.members).cloned().collect();
        let inside = self.inside.iter().filter_map(|(step, mine)| {
            let both = mine.intersection(other.inside.get(step)?);
            (!both.is_empty()).then(|| (step.clone(), both))
        });
        FieldSet { members, inside: inside.collect() }
    }

    /// What is in this one and not in the other. A field stays when only the object around it is in the other.
    pub fn difference(&self, other: &FieldSet) -> FieldSet {
        let members = self.members.difference(&other.members).cloned().collect();
        let inside = self.inside.iter().filter_map(|(step, mine)| {
            let rest = other.inside.get(step).map_or_else(|| mine.clone(), |theirs| mine.difference(theirs));
            (!rest.is_empty()).then(|| (step.clone(), rest))
        });
        FieldSet { members, inside: inside.collect() }
    }

    /// What is in this one and neither in the other nor inside a field that is.
    pub fn recursive_difference(&self, other: &FieldSet) -> FieldSet {
        let members = self.members.difference(&other.members).cloned().collect();
        let inside = self.inside.iter().filter(|(step, _)| !other.members.contains(step)).filter_map(|(step, mine)| {
            let rest = other.inside.get(step).map_or_else(|| mine.clone(), |theirs| mine.recursive_difference(theirs));
            (!rest.is_empty()).then(|| (step.clone(), rest))
        });
        FieldSet { members, inside: inside.collect() }
    }

    /// The same set, and every object and map around what is in it. (Not list items: who set a field of an item need
    /// not hold the item.)
    pub fn with_parents(&self) -> FieldSet {
        let parents = self.inside.keys().filter(|step| matches!(step, Step::Field(_)));
        FieldSet {
            members: self.members.iter().chain(parents).cloned().collect(),
            inside: self.inside.iter().map(|(step, inside)| (step.clone(), inside.with_parents())).collect(),
        }
    }

    /// The part inside one field of the document, and that field.
    pub fn only(&self, name: &str) -> FieldSet {
        let step = Step::Field(name.to_owned());
        FieldSet {
            members: self.members.get(&step).cloned().into_iter().collect(),
            inside: self.inside.get(&step).map(|inside| (step.clone(), inside.clone())).into_iter().collect(),
        }
    }

    /// Everything but one field of the document and what is in it.
    pub fn without(&self, name: &str) -> FieldSet {
        let step = Step::Field(name.to_owned());
        let mut rest = self.clone();
        rest.members.remove(&step);
        rest.inside.remove(&step);
        rest
    }

    /// The paths of all fields, in order: `.spec.replicas`, `.spec.containers[name="web"].image`.
    pub fn paths(&self) -> Vec<String> {
        let mut paths = vec![];
        self.collect("", &mut paths);
        paths
    }

    fn collect(&self, before: &str, paths: &mut Vec<String>) {
        for step in self.steps() {
            let path = format!("{before}{step}");
            let inside = self.inside.get(step);
            if self.members.contains(step) {
                paths.push(path.clone());
            }
            if let Some(inside) = inside {
                inside.collect(&path, paths);
            }
        }
    }

    /// The first steps of all paths, in order, each once.
    pub(super) fn steps(&self) -> BTreeSet<&Step> {
        self.members.iter().chain(self.inside.keys()).collect()
    }
}

impl<'a> FromIterator<&'a [Step]> for FieldSet {
    fn from_iter<T: IntoIterator<Item = &'a [Step]>>(paths: T) -> Self {
        let mut set = FieldSet::default();
        paths.into_iter().for_each(|path| set.insert(path));
        set
    }
}
