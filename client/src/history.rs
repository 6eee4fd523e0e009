//! What was: the writes that the API server's recorder holds, with their causes.

use skiff_proto::skiffv1::history_client::HistoryClient;
use skiff_proto::skiffv1::{ChangesReply, ChangesRequest, ObjectRef, ProgressReply, ProgressRequest, WritesRequest};

use crate::client::Client;
use crate::connection::Wire;
use crate::error::Error;

/// The server is asked for so many writes at a time.
const WRITES: usize = 64;
/// A reply holds a few megabytes of objects at most.
const MAX_MESSAGE: usize = 16 << 20;

impl Client {
    /// The writes of one object, oldest first, also of one that is gone.
    pub async fn changes(&self, request: ChangesRequest) -> Result<ChangesReply, Error> {
        let named = request.r#ref.clone().unwrap_or_default();
        let operation = format!("read the history of {} {}", named.resource, named.name);
        self.ask_history(&operation, async |mut api| api.changes(request).await).await
    }

    /// Single writes, each named by uid and revision. Those that are not held are left out.
    pub async fn writes(&self, writes: &[ObjectRef]) -> Result<ChangesReply, Error> {
        let mut all = ChangesReply::default();
        for some in writes.chunks(WRITES) {
            let request = WritesRequest { writes: some.to_vec() };
            let reply = self.ask_history("read causes", async |mut api| api.writes(request).await).await?;
            all.changes.extend(reply.changes);
            all.notices.extend(reply.notices);
            (all.oldest, all.newest) = (reply.oldest, reply.newest);
        }
        Ok(all)
    }

    /// How far the API server's own parts have come.
    pub async fn progress(&self) -> Result<ProgressReply, Error> {
        self.ask_history("ask how far the API server is", async |mut api| api.progress(ProgressRequest {}).await).await
    }

    async fn ask_history<T, F>(&self, operation: &str, call: F) -> Result<T, Error>
    where
        F: AsyncFnOnce(HistoryClient<Wire>) -> Result<tonic::Response<T>, tonic::Status>,
    {
        let answered = async {
            let api = HistoryClient::with_origin(self.wire().await?, self.origin());
            match call(api.max_decoding_message_size(MAX_MESSAGE)).await {
                Ok(reply) => Ok(reply.into_inner()),
                Err(status) => Err(Error::from_grpc(operation, &status)),
            }
        };
        match tokio::time::timeout(self.timeout(), answered).await {
            Ok(answer) => answer,
            Err(_) => Err(Error::Timeout { operation: operation.to_string(), after: self.timeout() }),
        }
    }
}
