//! Skiff's proto.
