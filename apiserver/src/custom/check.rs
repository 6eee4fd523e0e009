//! Whether an object is what its schema says: everything that is wrong with it, in Kubernetes' words. Of a change, what is
//! wrong with what changed: see [`super::before`].

use super::before;
use super::format;
use super::prune::within;
use super::structural::{Bound, Kind, List, Node};
use crate::resources::{Errors, Shown, validation};
use serde_json::{Map, Value};
use std::collections::BTreeSet;

/// Everything wrong with an object, its metadata aside; of a change, only with what is not as it was.
pub fn check(node: &Node, object: &Map<String, Value>, old: Option<&Map<String, Value>>) -> Errors {
    let mut checker = Checker { errors: Errors::new() };
    if old.is_some_and(|old| before::is_same_but_metadata(old, object)) {
        return checker.errors;
    }
    checker.object(node, object, old, &mut String::new());
    checker.junctors(node, &Value::Object(object.clone()), &mut String::new());
    checker.errors
}

/// Everything wrong with a value by itself, as a default is.
pub fn check_value(node: &Node, value: &Value) -> Errors {
    problems(node, value, &mut String::new())
}

struct Checker {
    errors: Errors,
}

/// The type of a value, as Kubernetes names it.
fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_f64() && n.as_f64().is_some_and(|n| n.fract() != 0.0) => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// A value as an error shows it: of what has parts only what it is.
fn shown(value: &Value) -> Value {
    match value {
        Value::Object(_) | Value::Array(_) | Value::Null => type_of(value).into(),
        simple => simple.clone(),
    }
}

fn is_kind(kind: Kind, value: &Value) -> bool {
    match kind {
        Kind::Object => value.is_object(),
        Kind::Array => value.is_array(),
        Kind::String => value.is_string(),
        Kind::Boolean => value.is_boolean(),
        Kind::Number => value.is_number(),
        Kind::Integer => type_of(value) == "integer",
    }
}

/// A number as JSON has it: without a point if it is whole.
fn number(n: f64) -> String {
    if n.fract() == 0.0 && n.abs() < 1e15 { format!("{}", n as i64) } else { format!("{n}") }
}

impl Checker {
    fn invalid(&mut self, path: &str, value: &Value, what: String) {
        self.errors.invalid(path, shown(value), format!("{path} in body {what}"));
    }

    fn value(&mut self, node: &Node, value: &Value, old: Option<&Value>, path: &mut String) {
        if old == Some(value) {
            return;
        }
        if value.is_null() && (node.nullable || (node.kind.is_none() && node.preserves)) {
            return;
        }
        if !self.of_kind(node, value, path) {
            return;
        }
        self.listed(node, value, path);
        match value {
            Value::String(text) => self.text(node, text, path),
            Value::Number(n) => self.number(node, n, path),
            Value::Array(items) => self.items(node, items, old, path),
            Value::Object(map) => self.object(node, map, old.and_then(Value::as_object), path),
            _ => {}
        }
        self.junctors(node, value, path);
    }

    fn of_kind(&mut self, node: &Node, value: &Value, path: &str) -> bool {
        let (fits, wanted) = match node.kind {
            _ if node.int_or_string => (value.is_string() || is_kind(Kind::Integer, value), "integer,string"),
            Some(kind) => (is_kind(kind, value), kind.name()),
            None => (true, ""),
        };
        if !fits {
            let found = type_of(value);
            self.errors.invalid(path, found, format!("{path} in body must be of type {wanted}: {found:?}"));
        }
        fits
    }

    fn listed(&mut self, node: &Node, value: &Value, path: &str) {
        if node.one_of_values.is_empty() || node.one_of_values.iter().any(|one| same(one, value)) {
            return;
        }
        let words: Vec<String> =
            node.one_of_values.iter().map(|v| v.as_str().map_or_else(|| v.to_string(), String::from)).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        self.errors.not_supported(path, shown(value), &words);
    }

    fn text(&mut self, node: &Node, text: &str, path: &str) {
        let value = Value::from(text);
        let length = i64::try_from(text.chars().count()).unwrap_or(i64::MAX);
        if let Some(least) = node.length.0.filter(|least| length < *least) {
            self.invalid(path, &value, format!("should be at least {least} chars long"));
        }
        if let Some(most) = node.length.1.filter(|most| length > *most) {
            self.errors.too_long(path, usize::try_from(most).unwrap_or(0));
        }
        if node.pattern.as_ref().is_some_and(|pattern| !pattern.is_match(text)) {
            self.invalid(path, &value, format!("should match '{}'", node.pattern_text));
        }
        if !format::fits(&node.format, text) {
            self.invalid(path, &value, format!("must be of type {}: {text:?}", node.format));
        }
    }

    fn number(&mut self, node: &Node, n: &serde_json::Number, path: &str) {
        let value = Value::Number(n.clone());
        let at = n.as_f64().unwrap_or(0.0);
        let beyond = |bound: &Bound, outside: bool| outside || (bound.exclusive && at == bound.at);
        if let Some(bound) = node.maximum.filter(|b| beyond(b, at > b.at)) {
            let or = if bound.exclusive { "" } else { "or equal to " };
            self.invalid(path, &value, format!("should be less than {or}{}", number(bound.at)));
        }
        if let Some(bound) = node.minimum.filter(|b| beyond(b, at < b.at)) {
            let or = if bound.exclusive { "" } else { "or equal to " };
            self.invalid(path, &value, format!("should be greater than {or}{}", number(bound.at)));
        }
        if let Some(step) = node.multiple_of.filter(|step| *step > 0.0 && !is_multiple(at, *step)) {
            self.invalid(path, &value, format!("should be a multiple of {}", number(step)));
        }
        if !format::fits_number(&node.format, n) {
            self.invalid(path, &value, format!("must be of type {}: \"{n}\"", node.format));
        }
    }

    fn items(&mut self, node: &Node, items: &[Value], old: Option<&Value>, path: &mut String) {
        let count = i64::try_from(items.len()).unwrap_or(i64::MAX);
        if let Some(least) = node.count.0.filter(|least| count < *least) {
            self.invalid(path, &Value::Array(Vec::new()), format!("should have at least {least} items"));
        }
        if let Some(most) = node.count.1.filter(|most| count > *most) {
            self.errors.too_many(path.as_str(), items.len(), most);
        }
        if let Some(inner) = &node.items {
            for (i, item) in items.iter().enumerate() {
                let old = before::item(&node.list, item, old);
                within(path, &format!("[{i}]"), |path| self.value(inner, item, old, path));
            }
        }
        self.told_apart(&node.list, items, path);
    }

    fn told_apart(&mut self, list: &List, items: &[Value], path: &str) {
        let mut seen = BTreeSet::new();
        for (i, item) in items.iter().enumerate() {
            let identity = match list {
                List::Atomic => return,
                List::Set => item.clone(),
                List::Map(keys) => {
                    let fields = keys.iter().filter_map(|key| Some((key.clone(), item.get(key)?.clone())));
                    Value::Object(fields.collect())
                }
            };
            if !seen.insert(canonical(&identity)) {
                self.errors.duplicate(format!("{path}[{i}]"), identity);
            }
        }
    }

    fn object(&mut self, node: &Node, map: &Map<String, Value>, old: Option<&Map<String, Value>>, path: &mut String) {
        let at = |path: &str, name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        let size = i64::try_from(map.len()).unwrap_or(i64::MAX);
        if let Some(least) = node.size.0.filter(|least| size < *least) {
            self.invalid(path, &Value::Object(Map::new()), format!("should have at least {least} properties"));
        }
        if let Some(most) = node.size.1.filter(|most| size > *most) {
            self.errors.too_many(path.as_str(), map.len(), most);
        }
        for name in node.required.iter().filter(|name| !map.contains_key(*name)) {
            // What every object has was checked before.
            if !(path.is_empty() && ["apiVersion", "kind", "metadata"].contains(&name.as_str())) {
                self.errors.required(at(path, name), "");
            }
        }
        if node.embedded {
            self.embedded(map, path);
        }
        for (name, value) in map {
            if let Some(inner) = node.properties.get(name).or(node.values.as_deref()) {
                let step = if path.is_empty() { name.clone() } else { format!(".{name}") };
                let old = old.and_then(|old| old.get(name));
                within(path, &step, |path| self.value(inner, value, old, path));
            }
        }
    }

    /// An object inside an object says what it is.
    fn embedded(&mut self, map: &Map<String, Value>, path: &str) {
        for name in ["apiVersion", "kind"] {
            if map.get(name).and_then(Value::as_str).is_none_or(str::is_empty) {
                self.errors.required(format!("{path}.{name}"), "must not be empty");
            }
        }
        let Some(metadata) = map.get("metadata") else { return };
        let read = skiff_proto::json::decode_value(metadata, skiff_proto::json::Strictness::Ignore);
        match read.map(|(meta, _)| meta) {
            Err(error) => self.errors.invalid(format!("{path}.metadata"), shown(metadata), error.to_string()),
            Ok::<skiff_proto::metav1::ObjectMeta, _>(meta) => {
                self.errors.append(validation::labels(&meta.labels, &format!("{path}.metadata.labels")));
            }
        }
    }

    /// The schemas beside this one that must hold too.
    fn junctors(&mut self, node: &Node, value: &Value, path: &mut String) {
        for (i, one) in node.all_of.iter().enumerate() {
            let found = problems(one, value, path);
            if !found.is_empty() {
                self.errors.append(found);
                if i + 1 == node.all_of.len() {
                    let what = format!("{path:?} must validate all the schemas (allOf)");
                    self.errors.invalid(path.as_str(), shown(value), what);
                }
            }
        }
        if !node.any_of.is_empty() && !node.any_of.iter().any(|one| problems(one, value, path).is_empty()) {
            let what = format!("{path:?} must validate at least one schema (anyOf)");
            self.best(&node.any_of, value, path);
            self.errors.invalid(path.as_str(), shown(value), what);
        }
        if !node.one_of.is_empty() {
            let valid = node.one_of.iter().filter(|one| problems(one, value, path).is_empty()).count();
            if valid != 1 {
                let found = if valid == 0 { "none valid".to_owned() } else { format!("{valid} valid alternatives") };
                let what = format!("{path:?} must validate one and only one schema (oneOf). Found {found}");
                if valid == 0 {
                    self.best(&node.one_of, value, path);
                }
                self.errors.invalid(path.as_str(), shown(value), what);
            }
        }
        if let Some(not) = node.not.as_ref().filter(|not| problems(not, value, path).is_empty()) {
            let _ = not;
            let what = format!("{path:?} must not validate the schema (not)");
            self.errors.invalid(path.as_str(), shown(value), what);
        }
    }

    /// What is wrong by the alternative that fits best.
    fn best(&mut self, alternatives: &[Node], value: &Value, path: &mut String) {
        let found = alternatives.iter().map(|one| problems(one, value, path).into_vec());
        if let Some(best) = found.min_by_key(Vec::len) {
            self.errors.extend(best);
        }
    }
}

/// What is wrong with a value by a schema that stands beside the main one.
fn problems(node: &Node, value: &Value, path: &mut String) -> Errors {
    let mut checker = Checker { errors: Errors::new() };
    checker.value(node, value, None, path);
    checker.errors
}

/// Whether a number is a whole number of steps, as far as a double can tell.
fn is_multiple(number: f64, step: f64) -> bool {
    let steps = number / step;
    (steps - steps.round()).abs() < 1e-9 * steps.abs().max(1.0)
}

/// Equality of JSON: 1 and 1.0 are the same number.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        _ => a == b,
    }
}

/// Text that is the same for equal values.
fn canonical(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let sorted: std::collections::BTreeMap<_, _> = map.iter().map(|(k, v)| (k, canonical(v))).collect();
            format!("{sorted:?}")
        }
        Value::Array(items) => format!("{:?}", items.iter().map(canonical).collect::<Vec<_>>()),
        Value::Number(n) => n.as_f64().map_or_else(|| n.to_string(), |n| n.to_string()),
        other => other.to_string(),
    }
}

impl Shown for Value {
    fn shown(&self) -> String {
        match self {
            Value::String(text) => text.shown(),
            other => other.to_string().chars().take(256).collect(),
        }
    }
}
