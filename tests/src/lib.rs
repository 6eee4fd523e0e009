//! Skiff's tests.

pub mod simulation;
