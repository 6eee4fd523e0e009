//! Skiff's client.
