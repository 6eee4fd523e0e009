//! The kubelet.
pub mod images;
pub mod network;
pub mod runtime;
pub mod sandbox;
