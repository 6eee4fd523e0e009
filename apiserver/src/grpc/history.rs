//! The History service.

use super::{caller, to_grpc};
use crate::history::History;
use skiff_proto::skiffv1 as pb;
use skiff_proto::skiffv1::history_server::History as HistoryApi;
use tonic::{Request, Response, Status};

/// The service. Cheap to clone.
#[derive(Clone)]
pub struct HistoryService {
    history: History,
}

impl HistoryService {
    /// The face of what was.
    pub fn new(history: History) -> Self {
        Self { history }
    }
}

#[tonic::async_trait]
impl HistoryApi for HistoryService {
    async fn changes(&self, request: Request<pb::ChangesRequest>) -> Result<Response<pb::ChangesReply>, Status> {
        let identity = caller(request.extensions()).map_err(to_grpc)?;
        self.history.changes(identity, request.into_inner()).await.map(Response::new).map_err(to_grpc)
    }

    async fn writes(&self, request: Request<pb::WritesRequest>) -> Result<Response<pb::ChangesReply>, Status> {
        let identity = caller(request.extensions()).map_err(to_grpc)?;
        self.history.writes(identity, request.into_inner()).await.map(Response::new).map_err(to_grpc)
    }

    async fn progress(&self, request: Request<pb::ProgressRequest>) -> Result<Response<pb::ProgressReply>, Status> {
        caller(request.extensions()).map_err(to_grpc)?;
        self.history.progress().await.map(Response::new).map_err(to_grpc)
    }
}
