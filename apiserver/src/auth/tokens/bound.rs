//! What a token is bound to must still be there: its account, and the Pod, Secret or Node that it was made for.

use super::{Named, Subject};
use crate::cache::Cache;
use crate::resources::Table;
use prost::Message;
use skiff_proto::metav1::PartialObjectMetadata;

/// An object that should have ended is believed in for so long, in seconds; as in Kubernetes.
const GRACE: i64 = 60;

/// Says what is missing, if anything is.
pub fn exists(cache: &Cache, table: &Table, subject: &Subject, now: i64) -> Result<(), String> {
    let namespace = subject.namespace.as_str();
    let look = |resource, namespace, named: &Named| incarnation(cache, table, (resource, namespace), named, now);
    look("serviceaccounts", namespace, &subject.serviceaccount)?;
    match (&subject.pod, &subject.secret, &subject.node) {
        // The node of a Pod is said for information only.
        (Some(pod), ..) => look("pods", namespace, pod),
        (None, Some(secret), _) => look("secrets", namespace, secret),
        (None, None, Some(node)) => look("nodes", "", node),
        (None, None, None) => Ok(()),
    }
}

fn incarnation(
    cache: &Cache,
    table: &Table,
    (resource, namespace): (&str, &str),
    named: &Named,
    now: i64,
) -> Result<(), String> {
    let row = table.get("", "v1", resource);
    let entry = row.and_then(|row| cache.get(row.cached(), namespace, &named.name));
    let gone = |how: &str| Err(format!("{resource} {:?}, which it is bound to, {how}", named.name));
    let Some(entry) = entry else { return gone("does not exist") };
    if entry.uid() != named.uid {
        return gone("is another one by now");
    }
    // Only the metadata is decoded; the rest is skipped.
    let ended = PartialObjectMetadata::decode(entry.stored().as_ref())
        .ok()
        .and_then(|object| object.metadata.deletion_timestamp)
        .is_some_and(|end| end.unix() + GRACE < now);
    if ended { gone("should have ended long ago") } else { Ok(()) }
}
