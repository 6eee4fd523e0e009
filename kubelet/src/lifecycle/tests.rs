//! Stories of Pods, as tables.
