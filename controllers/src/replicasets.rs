//! A ReplicaSet as something that can be owned.

use std::collections::BTreeMap;

use skiff_client::ObjectKey;
use skiff_proto::appsv1::ReplicaSet;

use crate::ownership::{Owned, Owner};

/// What ownership asks of a ReplicaSet.
pub struct SetView<'a> {
    key: ObjectKey,
    owner: Option<Owner>,
    set: &'a ReplicaSet,
}

impl<'a> SetView<'a> {
    /// Of this ReplicaSet.
    pub fn of(set: &'a ReplicaSet) -> SetView<'a> {
        SetView { key: ObjectKey::of(&set.metadata), owner: Owner::of(&set.metadata), set }
    }
}

impl Owned for SetView<'_> {
    fn key(&self) -> &ObjectKey {
        &self.key
    }
    fn labels(&self) -> &BTreeMap<String, String> {
        &self.set.metadata.labels
    }
    fn owner(&self) -> Option<&Owner> {
        self.owner.as_ref()
    }
    fn is_deleting(&self) -> bool {
        self.set.metadata.deletion_timestamp.is_some()
    }
}
