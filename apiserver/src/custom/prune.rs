//! Pruning and defaults: what of an object its schema does not name goes, and what it lacks is filled in.

use super::structural::Node;
use serde_json::{Map, Value};
use skiff_proto::json::Problem;

/// What every object has, whatever its schema says.
const OF_ALL: [&str; 3] = ["apiVersion", "kind", "metadata"];
/// More than anybody reads are not collected.
const MAX_PROBLEMS: usize = 100;

/// Takes out of an object what its schema does not name, and tells each with its path. What belongs to every object stays.
pub fn prune(node: &Node, object: &mut Map<String, Value>) -> Vec<Problem> {
    let mut pruner = Pruner { problems: Vec::new() };
    pruner.object(node, object, &mut String::new(), true);
    pruner.problems
}

struct Pruner {
    problems: Vec<Problem>,
}

impl Pruner {
    fn value(&mut self, node: &Node, value: &mut Value, path: &mut String) {
        match value {
            Value::Object(map) => self.object(node, map, path, node.embedded),
            Value::Array(items) => {
                let Some(inner) = &node.items else { return };
                for (i, item) in items.iter_mut().enumerate() {
                    within(path, &format!("[{i}]"), |path| self.value(inner, item, path));
                }
            }
            _ => {}
        }
    }

    fn object(&mut self, node: &Node, map: &mut Map<String, Value>, path: &mut String, is_object: bool) {
        let keeps = node.preserves || node.any_values || node.values.is_some();
        if !keeps {
            let names: Vec<&str> = node.properties.keys().map(String::as_str).collect();
            map.retain(|name, _| {
                let known = node.properties.contains_key(name) || (is_object && OF_ALL.contains(&name.as_str()));
                if !known && self.problems.len() < MAX_PROBLEMS {
                    let full = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                    self.problems.push(Problem::unknown(full, name, &names));
                }
                known
            });
        }
        for (name, value) in map.iter_mut() {
            if is_object && OF_ALL.contains(&name.as_str()) {
                continue;
            }
            let Some(inner) = node.properties.get(name).or(node.values.as_deref()) else { continue };
            let step = if path.is_empty() { name.clone() } else { format!(".{name}") };
            within(path, &step, |path| self.value(inner, value, path));
        }
    }
}

/// Goes one step down a path, and back.
pub fn within<T>(path: &mut String, step: &str, visit: impl FnOnce(&mut String) -> T) -> T {
    let length = path.len();
    path.push_str(step);
    let out = visit(path);
    path.truncate(length);
    out
}

/// Fills in what is absent and has a default. A null where none may be counts as absent, and goes where there is no default.
pub fn default(node: &Node, object: &mut Map<String, Value>) {
    for (name, inner) in &node.properties {
        let is_void = |value: &Value| value.is_null() && !inner.nullable && !inner.accepts_null();
        match object.get(name) {
            Some(value) if !is_void(value) => {}
            found => match &inner.default {
                Some(default) => drop(object.insert(name.clone(), default.clone())),
                None if found.is_some() => drop(object.shift_remove(name)),
                None => {}
            },
        }
    }
    for (name, value) in object.iter_mut() {
        if let Some(inner) = node.properties.get(name).or(node.values.as_deref()) {
            default_value(inner, value);
        }
    }
}

fn default_value(node: &Node, value: &mut Value) {
    match value {
        Value::Object(map) => default(node, map),
        Value::Array(items) => {
            let Some(inner) = &node.items else { return };
            items.iter_mut().for_each(|item| default_value(inner, item));
        }
        _ => {}
    }
}

impl Node {
    /// Whether anything goes here, null too.
    fn accepts_null(&self) -> bool {
        self.kind.is_none() && self.preserves
    }

    /// Whether anything is filled in, here or below.
    pub fn has_defaults(&self) -> bool {
        self.default.is_some()
            || self.properties.values().any(Node::has_defaults)
            || self.values.iter().chain(&self.items).any(|inner| inner.has_defaults())
    }
}
