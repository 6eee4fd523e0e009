//! Where things lie in the store: `/skiff/<group or "core">/<resource>/<namespace>/<name>`, cluster-scoped ones without
//! the namespace. Skiff's own book-keeping lies under the group `-`, which no API group can be called.

use bytes::Bytes;

/// Everything Skiff keeps lies beneath it.
pub const ROOT: &str = "/skiff/";

/// The name that the empty group has in keys.
const CORE: &str = "core";
const TOMBSTONES: &str = "-/tombstones/";

/// A key taken apart. Borrowed from the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObjectName<'a> {
    /// The API group; empty for core.
    pub group: &'a str,
    /// The plural.
    pub resource: &'a str,
    /// Empty for cluster-scoped objects.
    pub namespace: &'a str,
    /// The object's name.
    pub name: &'a str,
}

/// A key that no object can have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the store holds a key that names no object: {0:?}")]
pub struct KeyError(pub String);

/// The key of one object. The parts must have been validated as Kubernetes names (no slash).
pub fn object_key(group: &str, resource: &str, namespace: &str, name: &str) -> Bytes {
    let mut key = String::from_utf8_lossy(&resource_prefix(group, resource, namespace)).into_owned();
    key.push_str(name);
    Bytes::from(key)
}

/// What the keys of a resource begin with; of one namespace, if it is not empty. Ends with a slash.
pub fn resource_prefix(group: &str, resource: &str, namespace: &str) -> Bytes {
    let group = if group.is_empty() { CORE } else { group };
    let mut key = format!("{ROOT}{group}/{resource}/");
    if !namespace.is_empty() {
        key.push_str(namespace);
        key.push('/');
    }
    Bytes::from(key)
}

/// Where the cause of a final delete is put, in the same transaction, with a time to live: the deleted object's key and
/// uid. Its value is an envelope with an empty object.
pub fn tombstone_key(object_key: &[u8], uid: &str) -> Bytes {
    let path = String::from_utf8_lossy(object_key);
    let path = path.strip_prefix(ROOT).unwrap_or(&path);
    Bytes::from(format!("{ROOT}{TOMBSTONES}{path}/{uid}"))
}

/// The object's key whose tombstone this is.
pub(crate) fn tombstone_of(key: &[u8]) -> Option<String> {
    let rest = std::str::from_utf8(key).ok()?.strip_prefix(ROOT)?.strip_prefix(TOMBSTONES)?;
    Some(format!("{ROOT}{}", rest.rsplit_once('/')?.0))
}

/// True for Skiff's own book-keeping, which is no object.
pub(crate) fn is_bookkeeping(key: &[u8]) -> bool {
    key.strip_prefix(ROOT.as_bytes()).is_some_and(|rest| rest.starts_with(b"-/"))
}

/// Takes an object's key apart.
pub fn parse_key(key: &[u8]) -> Result<ObjectName<'_>, KeyError> {
    let broken = || KeyError(String::from_utf8_lossy(key).into_owned());
    let text = std::str::from_utf8(key).map_err(|_| broken())?;
    let mut parts = text.strip_prefix(ROOT).ok_or_else(broken)?.split('/');
    let (group, resource) = (parts.next().ok_or_else(broken)?, parts.next().ok_or_else(broken)?);
    let group = if group == CORE { "" } else { group };
    let (namespace, name) = match (parts.next(), parts.next(), parts.next()) {
        (Some(name), None, None) => ("", name),
        (Some(namespace), Some(name), None) => (namespace, name),
        _ => return Err(broken()),
    };
    if resource.is_empty() || name.is_empty() || group == "-" {
        return Err(broken());
    }
    Ok(ObjectName { group, resource, namespace, name })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_say_what_they_name() {
        for (group, resource, namespace, name, key) in [
            ("", "pods", "default", "web-1", "/skiff/core/pods/default/web-1"),
            ("apps", "deployments", "a", "b", "/skiff/apps/deployments/a/b"),
            ("", "nodes", "", "node-1", "/skiff/core/nodes/node-1"),
        ] {
            let made = object_key(group, resource, namespace, name);
            assert_eq!(made, key);
            assert_eq!(parse_key(&made), Ok(ObjectName { group, resource, namespace, name }));
            assert!(made.starts_with(&resource_prefix(group, resource, namespace)));
            let tombstone = tombstone_key(&made, "0-1");
            assert_eq!(tombstone_of(&tombstone).as_deref(), Some(key));
            assert!(is_bookkeeping(&tombstone) && !is_bookkeeping(&made));
        }
    }

    #[test]
    fn what_names_no_object_is_refused() {
        for key in [
            "",
            "/skiff/",
            "/skiff/core/pods",
            "/skiff/core/pods/",
            "/other/core/pods/a/b",
            "/skiff/core/pods/a/b/c",
            "/skiff/-/base/x",
        ] {
            assert!(parse_key(key.as_bytes()).is_err(), "{key}");
        }
        assert!(parse_key(&[b'/', 0xff]).is_err());
    }
}
