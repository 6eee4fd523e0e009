//! References between objects: owners, and what a cause points to.

use crate::Kind;
use crate::corev1::ObjectReference;
use crate::metav1::{ObjectMeta, OwnerReference};
use crate::skiffv1::{ObjectRef, ResourceRef};

/// The reference by which `owner` owns another object; as its controller, it also waits for it
/// when it is deleted in the foreground.
pub fn owner_reference<K: Kind>(owner: &K, controller: bool) -> OwnerReference {
    OwnerReference {
        api_version: K::API_VERSION.to_owned(),
        kind: K::KIND.to_owned(),
        name: owner.metadata().name.clone(),
        uid: owner.metadata().uid.clone(),
        controller: controller.then_some(true),
        block_owner_deletion: controller.then_some(true),
    }
}

/// The one owner that manages the object, if it has one.
pub fn controller_of(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references.iter().find(|o| o.controller == Some(true))
}

/// Whether `owner` manages the object. The uid decides: names come back, uids don't.
pub fn is_controlled_by(meta: &ObjectMeta, owner: &ObjectMeta) -> bool {
    controller_of(meta).is_some_and(|o| !owner.uid.is_empty() && o.uid == owner.uid)
}

/// The object at its revision, as a cause's trigger or input. A revision that is no number is 0.
pub fn object_ref<K: Kind>(object: &K) -> ObjectRef {
    object_ref_of(K::GROUP, K::RESOURCE, object.metadata())
}

/// The same where the kind is known by name only.
pub fn object_ref_of(group: &str, resource: &str, meta: &ObjectMeta) -> ObjectRef {
    ObjectRef {
        resource: resource.to_owned(),
        group: group.to_owned(),
        namespace: meta.namespace.clone(),
        name: meta.name.clone(),
        uid: meta.uid.clone(),
        revision: meta.resource_version.parse().unwrap_or_default(),
    }
}

/// How an Event names the object that it is about.
pub fn object_reference<K: Kind>(object: &K) -> ObjectReference {
    let meta = object.metadata();
    ObjectReference {
        api_version: K::API_VERSION.to_owned(),
        kind: K::KIND.to_owned(),
        namespace: meta.namespace.clone(),
        name: meta.name.clone(),
        uid: meta.uid.clone(),
        resource_version: meta.resource_version.clone(),
        ..Default::default()
    }
}

/// One object of kind `K`, or with no name the collection, in requests to the API server.
pub fn resource_ref<K: Kind>(namespace: &str, name: &str) -> ResourceRef {
    ResourceRef {
        group: K::GROUP.to_owned(),
        version: K::VERSION.to_owned(),
        resource: K::RESOURCE.to_owned(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        subresource: String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::appsv1::ReplicaSet;
    use crate::corev1::Pod;

    #[test]
    fn the_controller_is_the_owner_with_the_flag_and_the_uid() {
        let mut owner = ReplicaSet::default();
        owner.metadata.name = "web".into();
        owner.metadata.uid = "1".into();
        let mut pod = Pod::default();
        pod.metadata.owner_references = vec![owner_reference(&owner, false)];
        assert_eq!(controller_of(&pod.metadata), None);
        pod.metadata.owner_references.push(owner_reference(&owner, true));
        assert_eq!(controller_of(&pod.metadata).unwrap().kind, "ReplicaSet");
        assert_eq!(controller_of(&pod.metadata).unwrap().api_version, "apps/v1");
        assert!(is_controlled_by(&pod.metadata, &owner.metadata));
        owner.metadata.uid = "2".into();
        assert!(!is_controlled_by(&pod.metadata, &owner.metadata));
    }

    #[test]
    fn a_reference_has_the_revision() {
        let mut pod = Pod::default();
        pod.metadata.resource_version = "42".into();
        assert_eq!(object_ref(&pod).revision, 42);
        assert_eq!(object_ref(&Pod::default()).revision, 0);
    }
}
