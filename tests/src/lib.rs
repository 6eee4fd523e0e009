//! Skiff's tests.
