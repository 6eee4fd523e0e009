//! Skiff's controllers.
