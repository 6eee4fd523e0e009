//! Projections: what an informer keeps of each object.
//!
//! A decoded Pod is twenty times its encoding. A component that needs ten fields of 5,000 Pods keeps those ten.

/// Maps an object to what is kept of it. Changes that the projection does not show are not handed on.
pub trait Project<K>: Send + Sync + 'static {
    /// What is kept.
    type Out: PartialEq + Send + Sync + 'static;
    /// Makes it from the object.
    fn project(object: &K) -> Self::Out;
}

/// Keeps the whole object. (A clone: decoding leaves vectors larger than needed.)
#[derive(Clone, Copy, Debug)]
pub struct Whole;

impl<K: Clone + PartialEq + Send + Sync + 'static> Project<K> for Whole {
    type Out = K;
    fn project(object: &K) -> K {
        object.clone()
    }
}
