//! The API server: one registry behind two faces, over a store that is durable before it acknowledges.
//!
//! ```text
//! http (one port) ─┬ grpc/ ┬ Request ─> registry/ ─> store/ ──one watch──> cache/ ─> get, list, watch
//!        │         └ rest/ ┘              │  │                      └──> recorder/ ─> history
//!        └─ tunnel/ (logs, exec)          │  └─ resources/: the table of kinds, a strategy each
//!                                         └─ auth/, admission/, audit/
//! ```
//!
//! Start reading at [`registry::Registry::serve`]: every request goes through it.

pub mod admission;
pub mod audit;
pub mod auth;
mod bootstrap;
pub mod cache;
mod cork;
pub mod custom;
pub mod envelope;
#[cfg(test)]
mod fuzz;
pub mod grpc;
mod guard;
pub mod history;
mod http;
mod managers;
mod monitoring;
pub mod recorder;
pub mod registry;
pub mod resources;
mod rest;
pub mod reviews;
mod server;
pub mod store;
#[cfg(test)]
mod tests;
pub mod tunnel;

pub use auth::tokens::{ISSUER, ServiceAccounts};
pub use server::{Error, Handle, Options, StoreOptions, run, run_on};
pub use store::embedded::{EmbeddedOptions, Retention};

/// The version of this server.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
