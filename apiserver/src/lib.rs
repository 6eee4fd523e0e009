//! Skiff's apiserver.

pub mod store;
