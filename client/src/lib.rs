//! How a component talks to the API server, and the loop that every component is.
//!
//! - [`Client`] and [`Api`]: calls, typed; each carries its cause.
//! - [`Informer`] and [`Store`]: what is there, kept up to date by list and watch without a gap.
//! - [`WorkQueue`], [`Reconciler`] and [`driver::run`]: take a key, observe, plan, gate, act.
//! - [`LeaderElection`]: one of several, with a fence around its writes.
//! - [`EventRecorder`]: tells people what happened.
//! - [`history`] and [`chain`]: what was, and why.
//! - [`stepping`]: a hand on a gate.
//! - [`tunnel`] and [`streams`]: logs, exec and metrics without anybody listening.

pub mod api;
pub mod cause;
pub mod chain;
mod client;
mod config;
mod connection;
mod controls;
pub mod driver;
pub mod dynamic;
pub mod effects;
pub mod election;
mod error;
pub mod events;
pub mod history;
mod informer;
mod key;
mod metrics;
#[cfg(feature = "mutants")]
mod mutants;
mod project;
pub mod queue;
pub mod stepping;
mod store;
pub mod streams;
pub mod tunnel;

#[cfg(test)]
mod fake;

pub use api::{Api, DeleteOptions, Deletion, List, ListOptions, Patch, WatchEvent, WatchStream, WriteOptions};
pub use client::{Client, JSON, PROTOBUF, WarningHandler};
pub use config::{ClientConfig, Impersonate, Pem, TlsFiles, Token};
pub use controls::Controls;
pub use driver::{Gate, Plan, Reconciler, Step};
pub use dynamic::{DynamicApi, DynamicWatch};
pub use effects::Effects;
pub use election::{Fence, LeaderElection, Leadership};
pub use error::{ActError, Error, Retry};
pub use events::EventRecorder;
pub use informer::Informer;
pub use key::{ObjectKey, Resource, revision_of};
pub use metrics::{Ended, QueueMetrics, seconds};
pub use project::{Project, Whole};
pub use queue::{Backoff, Trigger, TriggerSet, Work, WorkQueue};
pub use skiff_proto::skiffv1::ObjectRef;
pub use store::{Change, Held, IndexFn, Store};
pub use tunnel::{TunnelHandler, TunnelStream};
