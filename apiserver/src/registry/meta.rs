//! The rules of metadata that hold for every kind: what the server fills in, what a writer may not touch, generations,
//! and when a deleted object finally goes.

use super::error::{ApiError, ApiResult};
use crate::resources::{Object, Resource};
use skiff_proto::Time;
use skiff_proto::metav1::ObjectMeta;
use skiff_world::World;

/// The finalizer that keeps an owner until its dependents are gone.
pub const FOREGROUND: &str = "foregroundDeletion";
/// The finalizer that keeps an owner until its dependents no longer name it.
pub const ORPHAN: &str = "orphan";

/// The longest name that `generateName` may make: a DNS label.
const GENERATED_MAX: usize = 63;
const SUFFIX: usize = 5;

/// A name made from a prefix.
pub fn generated_name(world: &World, prefix: &str) -> String {
    let mut end = prefix.len().min(GENERATED_MAX - SUFFIX);
    while !prefix.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{}", &prefix[..end], world.random_suffix(SUFFIX))
}

/// Now, as objects carry it.
pub fn now(world: &World) -> Time {
    Time::from_unix(world.wall().as_second())
}

/// Fills in what the server alone decides about a new object.
pub fn for_create(world: &World, object: &mut dyn Object, counts_generations: bool) {
    let meta = object.meta_mut();
    meta.uid = world.uuid();
    meta.creation_timestamp = Some(now(world));
    meta.deletion_timestamp = None;
    meta.deletion_grace_period_seconds = None;
    meta.generation = i64::from(counts_generations);
    meta.self_link.clear();
    meta.resource_version.clear();
}

/// Checks that the namespace and name in the body are those of the address, and fills them in.
pub fn address(resource: &Resource, meta: &mut ObjectMeta, namespace: &str, name: &str) -> ApiResult<()> {
    if resource.namespaced {
        if meta.namespace.is_empty() {
            meta.namespace = namespace.into();
        } else if meta.namespace != namespace {
            return Err(ApiError::bad_request(format!(
                "the namespace of the provided object does not match the namespace sent on the request: {:?} and {namespace:?}",
                meta.namespace
            )));
        }
    } else {
        meta.namespace.clear();
    }
    if !name.is_empty() {
        if meta.name.is_empty() {
            meta.name = name.into();
        } else if meta.name != name {
            return Err(ApiError::bad_request(format!(
                "the name of the object ({}) does not match the name on the request ({name})",
                meta.name
            )));
        }
    }
    Ok(())
}

/// Restores what no update may change, whoever writes.
pub fn for_update(new: &mut ObjectMeta, old: &ObjectMeta) {
    new.creation_timestamp = old.creation_timestamp;
    new.deletion_timestamp = old.deletion_timestamp;
    new.deletion_grace_period_seconds = old.deletion_grace_period_seconds;
    new.generation = old.generation;
    new.generate_name = old.generate_name.clone();
    new.self_link = old.self_link.clone();
    if new.uid.is_empty() {
        new.uid = old.uid.clone();
    }
    // Null and absent metadata mean that the writer does not know of managed fields.
    if new.managed_fields.is_empty() {
        new.managed_fields = old.managed_fields.clone();
    }
}

/// A status write changes the status: of the metadata nothing.
pub fn for_status_update(new: &mut ObjectMeta, old: &ObjectMeta) {
    let (uid, resource_version) = (std::mem::take(&mut new.uid), std::mem::take(&mut new.resource_version));
    *new = old.clone();
    if !uid.is_empty() {
        new.uid = uid;
    }
    new.resource_version = resource_version;
}

/// Refuses a write meant for another incarnation or another revision.
pub fn preconditions(resource: &Resource, meta: &ObjectMeta, uid: &str, resource_version: &str) -> ApiResult<()> {
    if !uid.is_empty() && uid != meta.uid {
        let why = format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {}", meta.uid);
        return Err(ApiError::conflict(resource, &meta.name, why));
    }
    if !resource_version.is_empty() && resource_version != meta.resource_version {
        let why = format!(
            "Precondition failed: ResourceVersion in precondition: {resource_version}, ResourceVersion in object meta: {}",
            meta.resource_version
        );
        return Err(ApiError::conflict(resource, &meta.name, why));
    }
    Ok(())
}

/// Whether nothing holds a deleted object any longer.
pub fn may_go(resource: &Resource, object: &dyn Object) -> bool {
    let meta = object.meta();
    meta.deletion_timestamp.is_some()
        && meta.finalizers.is_empty()
        && meta.deletion_grace_period_seconds.unwrap_or(0) == 0
        && !resource.strategy.is_held(object)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_names_fit_a_label_and_keep_their_prefix() {
        let world = World::real("test");
        assert!(generated_name(&world, "web-").starts_with("web-"));
        let long = generated_name(&world, &"a".repeat(200));
        assert_eq!(long.len(), GENERATED_MAX);
        assert_ne!(generated_name(&world, "a-"), generated_name(&world, "a-"));
    }

    #[test]
    fn an_update_cannot_touch_what_the_server_owns() {
        let old = ObjectMeta {
            name: "a".into(),
            uid: "1".into(),
            generation: 3,
            creation_timestamp: Some(Time::from_unix(5)),
            ..Default::default()
        };
        let mut new = ObjectMeta {
            name: "a".into(),
            generation: 9,
            deletion_timestamp: Some(Time::from_unix(7)),
            ..Default::default()
        };
        for_update(&mut new, &old);
        assert_eq!(new, old);
    }

    #[test]
    fn a_status_update_keeps_labels() {
        let mut old = ObjectMeta { uid: "1".into(), ..Default::default() };
        old.labels.insert("a".into(), "b".into());
        let mut new = ObjectMeta { resource_version: "7".into(), ..Default::default() };
        for_status_update(&mut new, &old);
        assert_eq!(new.labels, old.labels);
        assert_eq!(new.resource_version, "7");
    }
}
