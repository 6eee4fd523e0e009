//! Skiff's world.
