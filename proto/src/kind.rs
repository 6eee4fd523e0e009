//! What all kinds have in common.

use crate::metav1::ObjectMeta;

/// A message that stands alone as an object: a Pod, a Node, a Lease.
pub trait Kind:
    prost::Message
    + crate::json::Json
    + serde::Serialize
    + serde::de::DeserializeOwned
    + Default
    + Clone
    + PartialEq
    + std::fmt::Debug
    + Send
    + Sync
    + 'static
{
    /// The API group, "" for the core group.
    const GROUP: &'static str;
    /// The version within the group.
    const VERSION: &'static str;
    /// Group and version as documents write them: `v1`, `apps/v1`.
    const API_VERSION: &'static str;
    /// The kind's name: `Pod`.
    const KIND: &'static str;
    /// The plural in URLs: `pods`.
    const RESOURCE: &'static str;
    /// The singular that people may type: `pod`.
    const SINGULAR: &'static str;
    /// Whether objects of the kind live in namespaces.
    const NAMESPACED: bool;
    /// The abbreviations that people may type: `po`.
    const SHORT_NAMES: &'static [&'static str];

    /// The object's metadata.
    fn metadata(&self) -> &ObjectMeta;
    /// The object's metadata, to change.
    fn metadata_mut(&mut self) -> &mut ObjectMeta;
}
