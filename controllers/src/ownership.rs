//! Who controls what. An object belongs to the one controller that its owner reference names by
//! uid; labels only say what a controller may take if nobody has it.
//!
//! Both have to agree: a controller never touches what another one controls, however the labels
//! match, and lets go of what it controls when the labels match no longer.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use skiff_client::ObjectKey;
use skiff_proto::metav1::{LabelSelector, ObjectMeta, OwnerReference};
use skiff_world::mutants::{Mutant, is_awake};

/// The controller of an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Owner {
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its uid: what counts.
    pub uid: String,
}

impl Owner {
    /// The controller that an object names.
    pub fn of(metadata: &ObjectMeta) -> Option<Owner> {
        let owner = metadata.owner_references.iter().find(|o| o.controller == Some(true))?;
        Some(Owner { kind: owner.kind.clone(), name: owner.name.clone(), uid: owner.uid.clone() })
    }
}

/// What can be owned.
pub trait Owned {
    /// Namespace and name.
    fn key(&self) -> &ObjectKey;
    /// Its labels.
    fn labels(&self) -> &BTreeMap<String, String>;
    /// Its controller.
    fn owner(&self) -> Option<&Owner>;
    /// It is being deleted.
    fn is_deleting(&self) -> bool;
}

/// What a controller has to do with an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// It is ours.
    Ours,
    /// Nobody's, and our labels: to be taken.
    Adopt,
    /// Ours by reference, but no longer by label: to be let go.
    Release,
    /// None of our business.
    NotOurs,
}

/// Decides what the controller `uid` has to do with `object`. A controller that is being deleted takes nothing.
pub fn claim(
    object: &impl Owned,
    uid: &str,
    deleting: bool,
    matches: impl Fn(&BTreeMap<String, String>) -> bool,
) -> Claim {
    match object.owner() {
        Some(_) if is_awake(Mutant::LabelsAlone) && matches(object.labels()) => Claim::Ours,
        Some(owner) if owner.uid != uid => Claim::NotOurs,
        Some(_) if matches(object.labels()) => Claim::Ours,
        Some(_) if deleting => Claim::NotOurs,
        Some(_) => Claim::Release,
        None if deleting || object.is_deleting() || !matches(object.labels()) => Claim::NotOurs,
        None => Claim::Adopt,
    }
}

/// The reference that makes `owner` the controller of what carries it.
pub fn controller_reference(api_version: &str, kind: &str, owner: &ObjectMeta) -> OwnerReference {
    OwnerReference {
        api_version: api_version.into(),
        kind: kind.into(),
        name: owner.name.clone(),
        uid: owner.uid.clone(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// A strategic merge patch that adds the reference; fails if `uid` is no longer the object's.
pub fn adoption(uid: &str, owner: &OwnerReference) -> Value {
    let owner = json!({
        "apiVersion": owner.api_version, "kind": owner.kind, "name": owner.name, "uid": owner.uid,
        "controller": true, "blockOwnerDeletion": true,
    });
    json!({ "metadata": { "uid": uid, "ownerReferences": [owner] } })
}

/// A strategic merge patch that removes the reference to `owner`.
pub fn release(uid: &str, owner: &str) -> Value {
    json!({ "metadata": { "uid": uid, "ownerReferences": [{ "$patch": "delete", "uid": owner }] } })
}

/// Whether a label selector selects these labels. None, or an empty one, selects nothing here:
/// a workload without a selector must not take the whole namespace.
pub fn selects(selector: Option<&LabelSelector>, labels: &BTreeMap<String, String>) -> bool {
    let Some(selector) = selector else { return false };
    if selector.match_labels.is_empty() && selector.match_expressions.is_empty() {
        return false;
    }
    selector.match_labels.iter().all(|(k, v)| labels.get(k) == Some(v))
        && selector.match_expressions.iter().all(|r| {
            let value = labels.get(&r.key);
            let listed = value.is_some_and(|v| r.values.contains(v));
            match r.operator.as_str() {
                "In" => listed,
                "NotIn" => !listed,
                "Exists" => value.is_some(),
                "DoesNotExist" => value.is_none(),
                _ => false,
            }
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pods::PodView;

    #[test]
    fn a_claim_needs_both_the_reference_and_the_labels() {
        let owner = |uid: &str| Some(Owner { kind: "ReplicaSet".into(), name: "web".into(), uid: uid.into() });
        // (owner, label, pod deleting, controller deleting) -> claim
        let table = [
            (owner("me"), "web", false, false, Claim::Ours),
            (owner("me"), "web", true, true, Claim::Ours),
            (owner("me"), "other", false, false, Claim::Release),
            (owner("me"), "other", false, true, Claim::NotOurs),
            (owner("another"), "web", false, false, Claim::NotOurs),
            (None, "web", false, false, Claim::Adopt),
            (None, "web", true, false, Claim::NotOurs),
            (None, "web", false, true, Claim::NotOurs),
            (None, "other", false, false, Claim::NotOurs),
        ];
        for (owner, label, pod_deleting, deleting, expected) in table {
            let labels = [("app".to_string(), label.to_string())].into();
            let pod = PodView { owner, labels, deleting: pod_deleting, ..PodView::default() };
            let web = |labels: &BTreeMap<String, String>| labels.get("app").is_some_and(|v| v == "web");
            assert_eq!(claim(&pod, "me", deleting, web), expected, "{pod:?}, controller deleting: {deleting}");
        }
    }

    #[test]
    fn no_selector_and_an_empty_one_select_nothing() {
        let labels = [("app".to_string(), "web".to_string())].into();
        assert!(!selects(None, &labels));
        assert!(!selects(Some(&LabelSelector::default()), &labels));
    }
}
