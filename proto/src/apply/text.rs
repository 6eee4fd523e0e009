//! `FieldsV1`: the JSON in which a set of fields stands in `metadata.managedFields`.
//!
//! `{"f:spec": {"f:containers": {"k:{\"name\":\"web\"}": {".": {}, "f:image": {}}}}}`: a step per key, `.` for the field
//! itself where something inside it follows, and nothing for a field that ends there.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::set::{FieldSet, Step};
use crate::FieldsV1;

/// Text that is no set of fields.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("fieldsV1: {0}")]
pub struct BadFields(String);

/// Deeper sets are refused.
const MAX_DEPTH: usize = 128;

impl FieldSet {
    /// As it is written in `managedFields`.
    pub fn to_fields_v1(&self) -> FieldsV1 {
        FieldsV1::from_value(&Value::Object(self.to_json()))
    }

    /// Reads what stands in `managedFields`.
    pub fn from_fields_v1(fields: &FieldsV1) -> Result<FieldSet, BadFields> {
        if fields.raw.is_empty() {
            return Ok(FieldSet::default());
        }
        let value: Value = serde_json::from_slice(&fields.raw).map_err(|e| BadFields(format!("not JSON: {e}")))?;
        let Value::Object(map) = value else { return Err(BadFields("an object is expected".into())) };
        read(&map, 0)
    }

    fn to_json(&self) -> Map<String, Value> {
        let of = |step: &Step| {
            let mut inside = Map::new();
            if let Some(set) = self.inside.get(step) {
                if self.members.contains(step) {
                    inside.insert(".".into(), Value::Object(Map::new()));
                }
                inside.extend(set.to_json());
            }
            (name(step), Value::Object(inside))
        };
        self.steps().into_iter().map(of).collect()
    }
}

fn name(step: &Step) -> String {
    match step {
        Step::Field(name) => format!("f:{name}"),
        Step::Key(keys) => format!("k:{keys}"),
        Step::Value(value) => format!("v:{value}"),
        Step::Index(index) => format!("i:{index}"),
    }
}

fn read(map: &Map<String, Value>, depth: usize) -> Result<FieldSet, BadFields> {
    if depth > MAX_DEPTH {
        return Err(BadFields(format!("nested deeper than {MAX_DEPTH} levels")));
    }
    let mut set = FieldSet::default();
    for (key, value) in map {
        let Value::Object(inside) = value else {
            return Err(BadFields(format!("{key:?} must hold an object")));
        };
        if key == "." {
            continue; // said of the field around it, which looks for it
        }
        let step = parse(key)?;
        if inside.is_empty() || inside.contains_key(".") {
            set.members.insert(step.clone());
        }
        let inside = read(inside, depth + 1)?;
        if !inside.is_empty() {
            set.inside.insert(step, inside);
        }
    }
    Ok(set)
}

fn parse(key: &str) -> Result<Step, BadFields> {
    let bad = || BadFields(format!("{key:?} is no step: f:NAME, k:KEYS, v:VALUE and i:PLACE are known"));
    let (kind, rest) = key.split_once(':').ok_or_else(bad)?;
    match kind {
        "f" => Ok(Step::Field(rest.into())),
        "i" => rest.parse().map(Step::Index).map_err(|_| bad()),
        "v" => serde_json::from_str::<Value>(rest).map(|v| Step::Value(v.to_string())).map_err(|_| bad()),
        "k" => serde_json::from_str::<BTreeMap<String, Value>>(rest).map(|keys| key_step(&keys)).map_err(|_| bad()),
        _ => Err(bad()),
    }
}

/// The step to the item of a list with these keys.
pub(super) fn key_step(keys: &BTreeMap<String, Value>) -> Step {
    Step::Key(serde_json::to_string(keys).unwrap_or_default())
}
