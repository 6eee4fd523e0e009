//! Skiff's scheduler.
