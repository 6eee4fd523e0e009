//! Skiff's proxy: makes Services work on a node by writing iptables rules.
//!
//! ```text
//! Services, EndpointSlices --project--> services/ --view--> rules/ --batches--> apply/ --> kernel
//! ```
//!
//! [`services`] cuts the API objects down to small data; [`rules`] turns that into a rule set, purely, and finds
//! what differs from what is in the kernel; [`apply`] is the edge. [`packet`] walks virtual packets through
//! tables, for tests, simulations and whoever asks where a Service's packets go. [`sync`] keeps the tables right:
//! it reads back, plans and restores; [`run`] makes a component of it all, with informers and the driver's loop.

pub mod apply;
pub mod metrics;
pub mod packet;
pub mod rules;
mod run;
pub mod services;
pub mod sync;

pub use apply::{ApplyError, FakeApplier, Iptables, IptablesOptions, RuleApplier};
pub use run::{Options, Rules, run};
pub use sync::cleanup;
