//! Delete a collection: every object that is selected, one by one, by the same rules as a delete of each.

use super::Registry;
use super::error::ApiResult;
use super::request::{DeleteOptions, ListOptions, ListReply, Operation, Request};
use super::selection::Selection;
use crate::cache;

impl Registry {
    /// Deletes what is selected, as of now; what comes meanwhile stays. An object that goes by itself is no error.
    pub(super) async fn delete_collection(
        &self,
        request: &Request,
        options: &DeleteOptions,
        list: &ListOptions,
    ) -> ApiResult<ListReply> {
        self.catch_up().await?;
        let resource = &request.resource;
        let selection = Selection::parse(resource, &list.label_selector, &list.field_selector)?;
        let wanted = cache::ListOptions {
            namespace: request.namespace.clone(),
            filter: selection.filter(),
            limit: list.limit,
            after_key: None,
            at: None,
        };
        let page = self.inner.cache.list(resource.cached(), &wanted).map_err(super::commit::cache_error)?;
        let mut reply = ListReply {
            content_type: super::list::content_type(request),
            resource_version: page.revision.to_string(),
            ..ListReply::default()
        };
        for entry in page.entries {
            let mut options = options.clone();
            if options.precondition_uid.is_empty() {
                // Not an object of the same name that came since.
                options.precondition_uid = entry.uid().to_string();
            }
            let one = Request {
                identity: request.identity.clone(),
                resource: resource.clone(),
                subresource: String::new(),
                namespace: entry.namespace().to_string(),
                name: entry.name().to_string(),
                operation: Operation::Delete(options.clone()),
                accept: request.accept,
                metadata_only: request.metadata_only,
                cause: request.cause.clone(),
                fence: request.fence.clone(),
            };
            match self.delete_object(&one, &options).await {
                Ok(deleted) => reply.items.push(deleted.bytes),
                Err(error) if error.reason() == "NotFound" => {}
                Err(error) => return Err(error),
            }
        }
        Ok(reply)
    }
}
