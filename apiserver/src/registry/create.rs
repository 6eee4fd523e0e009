//! Create: decode, fill in, admit, validate, commit.

use super::commit::{ATTEMPTS, Change, Outcome};
use super::error::{ApiError, ApiResult};
use super::request::{Body, ObjectReply, Request};
use super::{Registry, meta, reply};
use crate::resources::Object;
use bytes::Bytes;

/// A generated name that is taken is made anew so often.
const NAME_ATTEMPTS: usize = 8;

impl Registry {
    /// Creates an object, or a subresource of one.
    pub(super) async fn create(&self, request: &Request, body: &Body) -> ApiResult<ObjectReply> {
        match request.subresource.as_str() {
            "" => {}
            "binding" => return self.bind(request, body).await,
            "eviction" => return self.evict(request, body).await,
            "token" => return self.issue_token(request, body).await,
            _ => return Err(ApiError::method_not_allowed(&request.resource, "create")),
        }
        let resource = &request.resource;
        let decoded = resource.strategy.decode(&body.bytes, &body.content_type);
        let (mut object, mut warnings) = reply::decode(resource, decoded, body.field_validation)?;
        meta::address(resource, object.meta_mut(), &request.namespace, "")?;
        object.meta_mut().managed_fields.clear();
        if !object.meta().resource_version.is_empty() {
            return Err(ApiError::bad_request("resourceVersion should not be set on objects to be created"));
        }
        let generates = object.meta().name.is_empty() && !object.meta().generate_name.is_empty();
        if !generates {
            return self.create_one(request, object, &mut warnings).await;
        }
        for _ in 0..NAME_ATTEMPTS {
            let mut named = object.copy();
            named.meta_mut().name = meta::generated_name(&self.inner.world, &object.meta().generate_name);
            match self.create_one(request, named, &mut warnings).await {
                Err(error) if error.reason() == "AlreadyExists" => {}
                other => return other,
            }
        }
        Err(ApiError::internal("no free name was found"))
    }

    /// Refuses a name that is taken. What the cache still shows may have gone a moment ago.
    async fn is_free(&self, request: &Request, object: &dyn Object) -> ApiResult<()> {
        let (resource, meta) = (&request.resource, object.meta());
        let namespace = if resource.namespaced { meta.namespace.as_str() } else { "" };
        let taken = || self.inner.cache.get(resource.cached(), namespace, &meta.name).is_some();
        if taken() {
            self.catch_up().await?;
            if taken() {
                return Err(ApiError::already_exists(resource, &meta.name));
            }
        }
        Ok(())
    }

    /// Creates an object that has its name.
    pub(super) async fn create_one(
        &self,
        request: &Request,
        mut object: Box<dyn Object>,
        warnings: &mut Vec<String>,
    ) -> ApiResult<ObjectReply> {
        let resource = &request.resource;
        let strategy = &resource.strategy;
        meta::for_create(&self.inner.world, object.as_mut(), strategy.counts_generations());
        strategy.default(object.as_mut());
        self.fill_in(request, object.as_mut(), None).await?;
        strategy.prepare_for_create(object.as_mut());
        let mut errors =
            crate::resources::validation::object_meta(object.meta(), resource.namespaced, strategy.name_rule());
        errors.append(strategy.validate(object.as_ref()));
        errors.append(strategy.validate_create(object.as_ref()));
        if !errors.is_empty() {
            let name = if object.meta().name.is_empty() { &object.meta().generate_name } else { &object.meta().name };
            return Err(ApiError::invalid(resource, name, &errors.into_vec()));
        }
        warnings.extend(strategy.warnings(object.as_ref()));
        let mut turn = None;
        for _ in 0..ATTEMPTS {
            self.is_free(request, object.as_ref()).await?;
            let mut beside = self.admit(request, Some(object.as_ref()), None).await?;
            if !beside.also.is_empty() && turn.is_none() && !request.dry_run() {
                turn = Some(self.inner.turns.take(&object.meta().namespace).await);
                beside = self.admit(request, Some(object.as_ref()), None).await?;
            }
            beside.compare.extend(self.open_kind(request).await?);
            let mut given = object.copy();
            let reserved = self.allocate(request, given.as_mut(), None, &mut beside).await?;
            let bytes = Bytes::from(given.encode());
            match self.commit(request, given.meta(), Change::Create(bytes.clone()), beside).await {
                Ok(Outcome::Done(revision)) => {
                    if turn.is_some() {
                        // Whoever comes next finds what was charged; that it may have to look again is no fault of this write.
                        let _ = self.wait_for(revision).await;
                    }
                    return Ok(reply::written(request, given.as_mut(), &bytes, revision, std::mem::take(warnings)));
                }
                Ok(Outcome::Again) => self.release(reserved).await,
                Err(error) => {
                    // A write that may have happened keeps what it was given; the next start finds leftovers.
                    if error.code() < 500 {
                        self.release(reserved).await;
                    }
                    return Err(error);
                }
            }
        }
        Err(ApiError::modified(resource, &object.meta().name))
    }
}
