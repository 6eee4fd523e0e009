//! TLS from files.
