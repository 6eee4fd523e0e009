//! What the real world promises.
