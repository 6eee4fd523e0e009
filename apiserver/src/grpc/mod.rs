//! The gRPC face: one service for every resource, thin. It turns messages into `registry::Request` and replies into
//! messages; nothing is decided here.

mod history;
mod metadata;
mod resources;
mod status;

pub use history::HistoryService;
pub use metadata::{Caller, identity as caller};
pub(crate) use metadata::{cause, fence};
pub use resources::ResourcesService;
pub use status::to_grpc;
