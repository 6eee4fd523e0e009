//! What a value was before a change, as far as that can be told.
//!
//! A definition may become stricter while objects are there. What was wrong before and was not touched does not fail a
//! change, or nobody could change anything else of such an object: neither its finalizers nor what would mend it step by
//! step. So what is as it was is not looked at again, but by rules of changes.

use super::structural::List;
use serde_json::{Map, Value};

/// The item of the old list that is the same one; only the keys of a map tell.
pub fn item<'v>(list: &List, item: &Value, old: Option<&'v Value>) -> Option<&'v Value> {
    let List::Map(keys) = list else { return None };
    let same = |other: &&Value| keys.iter().all(|key| other.get(key) == item.get(key));
    old?.as_array()?.iter().find(same)
}

/// Whether two objects are the same, whatever stands in their metadata: of that, schemas and rules see the names only,
/// and those never change.
pub fn is_same_but_metadata(old: &Map<String, Value>, new: &Map<String, Value>) -> bool {
    let names = || old.keys().chain(new.keys()).filter(|name| *name != "metadata");
    names().all(|name| old.get(name) == new.get(name))
}
