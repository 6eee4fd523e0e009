//! The plugins, a file each. To add one: a file here, a line in `Profile::standard`, and in
//! `Template` what it reads of a pod.

pub mod affinity;
pub mod balanced;
pub mod fit;
pub mod node_name;
pub mod ports;
pub mod spread;
pub mod taints;
pub mod unschedulable;

#[cfg(test)]
mod tests;
