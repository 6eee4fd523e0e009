//! Skiff's tests.

pub mod simulation;
pub mod traps;
