//! Get: one object, as new as everything acknowledged before the question.

use super::Registry;
use super::error::{ApiError, ApiResult};
use super::list::content;
use super::request::{ObjectReply, Request};

impl Registry {
    /// Reads one object, or a subresource that can be read.
    pub(super) async fn get(&self, request: &Request) -> ApiResult<ObjectReply> {
        match request.subresource.as_str() {
            "" | "status" | "ephemeralcontainers" => {}
            "scale" => return self.get_scale(request).await,
            _ => return Err(ApiError::method_not_allowed(&request.resource, "get")),
        }
        self.catch_up().await?;
        let resource = &request.resource;
        let entry = self
            .inner
            .cache
            .get(resource.cached(), &request.namespace, &request.name)
            .ok_or_else(|| ApiError::not_found(resource, &request.name))?;
        let (bytes, content_type) = content(resource, &entry, request.accept, request.metadata_only)?;
        Ok(ObjectReply { bytes, content_type, warnings: Vec::new(), deleted: false, created: false })
    }
}
