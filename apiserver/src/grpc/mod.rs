//! The gRPC face: one service for every resource, thin. It turns messages into `registry::Request` and replies into
//! messages; nothing is decided here.

mod metadata;
mod resources;
mod status;

pub use metadata::{Caller, identity as caller};
pub use resources::ResourcesService;
pub use status::to_grpc;
