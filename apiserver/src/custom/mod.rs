//! Custom resources: kinds that a CustomResourceDefinition defines while the server runs.
//!
//! ```text
//! CustomResourceDefinition ──cache──> keeper ──> names (pure): status, by compare-and-swap
//!                                        └─────> definitions: rows of the table, one for each served version
//! an object ──> kind (its Strategy) ──> prune, default, check (pure), by the tree of structural
//! ```
//!
//! Every API server makes its table of its own cache, so all of them on one store serve the same, and so does one that is
//! started again. A definition that is deleted goes last: its objects go before it.

mod before;
mod check;
mod definition;
mod definitions;
mod format;
mod keeper;
mod kind;
mod names;
mod prune;
mod rules;
mod structural;
pub mod structure;
#[cfg(test)]
mod tests;

pub use definition::Definition;
pub use definitions::Definitions;
pub use keeper::keep;
pub use kind::ScalePaths;
pub use names::set as set_condition;

/// The group of CustomResourceDefinitions.
pub const GROUP: &str = "apiextensions.k8s.io";
/// Their plural.
pub const DEFINITIONS: &str = "customresourcedefinitions";
/// The finalizer that keeps a definition until its objects are gone.
pub const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";
