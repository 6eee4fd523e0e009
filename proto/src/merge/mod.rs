//! Patches on value trees, guided by the Schema: Kubernetes' strategic merge, the three-way merge
//! behind `apply`, and JSON merge patches (RFC 7386).

mod strategic;
mod three_way;

pub use strategic::{BadPatch, strategic};
pub use three_way::{three_way, three_way_json};

use serde_json::{Map, Value};

/// What a strategic patch says about itself, beside the fields it changes.
const DIRECTIVE: &str = "$patch";
/// The keys of a union that are to stay.
const RETAIN_KEYS: &str = "$retainKeys";
/// `$deleteFromPrimitiveList/FIELD`: the scalars to take out of a list.
const DELETE_FROM: &str = "$deleteFromPrimitiveList/";
/// `$setElementOrder/FIELD`: how a merged list is to be ordered.
const SET_ORDER: &str = "$setElementOrder/";

/// Applies a JSON merge patch: what is named is replaced, null removes.
pub fn merge_patch(document: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *document = patch.clone();
        return;
    };
    if !document.is_object() {
        *document = Value::Object(Map::new());
    }
    let Value::Object(document) = document else { return };
    for (key, value) in patch {
        if value.is_null() {
            document.shift_remove(key);
        } else {
            merge_patch(document.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

#[cfg(test)]
mod tests;
