//! Update, and what patch shares with it: work out the new object from the newest, and swap them.

use super::commit::{ATTEMPTS, Beside, Change, Current, Outcome};
use super::error::{ApiError, ApiResult};
use super::request::{Body, ObjectReply, Request};
use super::{Registry, meta, reply};
use crate::resources::{Errors, FieldError, Object, validation};
use bytes::Bytes;

/// What a write makes of the object it finds: the new one, and what the writer should know.
pub type Changed = (Box<dyn Object>, Vec<String>);

impl Registry {
    /// Replaces an object, or one of its subresources.
    pub(super) async fn update(&self, request: &Request, body: &Body) -> ApiResult<ObjectReply> {
        match request.subresource.as_str() {
            "" | "status" | "ephemeralcontainers" => {}
            "scale" => return self.update_scale(request, body).await,
            "finalize" => return self.finalize(request, body).await,
            _ => return Err(ApiError::method_not_allowed(&request.resource, "update")),
        }
        let resource = &request.resource;
        let decoded = resource.strategy.decode(&body.bytes, &body.content_type);
        let (mut sent, warnings) = reply::decode(resource, decoded, body.field_validation)?;
        meta::address(resource, sent.meta_mut(), &request.namespace, &request.name)?;
        if sent.meta().resource_version.is_empty() && !resource.strategy.allows_unconditional_update() {
            let error = FieldError {
                path: "metadata.resourceVersion".into(),
                kind: crate::resources::FieldErrorKind::Invalid,
                value: "0x0".into(),
                detail: "must be specified for an update".into(),
            };
            return Err(ApiError::invalid(resource, &request.name, &[error]));
        }
        self.modify(request, |_| Ok((sent.copy(), warnings.clone()))).await
    }

    /// Changes an object by a function of what it is now, as often as it takes. What the function returns is a user's
    /// wish: it goes through status isolation, defaults and validation like any other.
    pub(super) async fn modify(
        &self,
        request: &Request,
        change: impl Fn(&dyn Object) -> ApiResult<Changed> + Sync,
    ) -> ApiResult<ObjectReply> {
        self.modify_as(request, change, |new, old| self.track(request, new, old)).await
    }

    /// The same, with a say about who owns which fields of the outcome.
    pub(super) async fn modify_as(
        &self,
        request: &Request,
        change: impl Fn(&dyn Object) -> ApiResult<Changed> + Sync,
        own: impl Fn(&mut dyn Object, &dyn Object) -> ApiResult<()> + Sync,
    ) -> ApiResult<ObjectReply> {
        for _ in 0..ATTEMPTS {
            let current = self.existing(request).await?;
            let (mut new, mut warnings) = change(current.object.as_ref())?;
            if self.is_stale(request, new.as_ref(), &current).await? {
                continue;
            }
            let old = current.object.as_ref();
            self.settle(request, new.as_mut(), old, &mut warnings).await?;
            own(new.as_mut(), old)?;
            let beside = self.admit(request, Some(new.as_ref()), Some(old)).await?;
            if let Some(reply) = self.swap(request, new, &current, warnings, beside).await? {
                return Ok(reply);
            }
        }
        Err(ApiError::modified(&request.resource, &request.name))
    }

    /// Holds the revision a writer names against the newest. A writer that has seen more than the cache has is waited
    /// for (then the object is to be read again); one that has seen less is refused.
    async fn is_stale(&self, request: &Request, new: &dyn Object, current: &Current) -> ApiResult<bool> {
        let named = &new.meta().resource_version;
        if named.is_empty() || *named == current.revision.to_string() {
            return Ok(false);
        }
        let revision: u64 = named.parse().map_err(|_| {
            ApiError::bad_request(format!("metadata.resourceVersion: {named:?} is not a revision of this cluster"))
        })?;
        if revision > current.revision && revision > self.inner.cache.revision() {
            self.wait_for(revision).await?;
            return Ok(true);
        }
        Err(ApiError::modified(&request.resource, &request.name))
    }

    /// Makes a wish into the object to be stored: isolation, defaults, metadata, validation, generation.
    async fn settle(
        &self,
        request: &Request,
        new: &mut dyn Object,
        old: &dyn Object,
        warnings: &mut Vec<String>,
    ) -> ApiResult<()> {
        let resource = &request.resource;
        let strategy = &resource.strategy;
        if !new.meta().uid.is_empty() && new.meta().uid != old.meta().uid {
            let why = format!(
                "Precondition failed: UID in precondition: {}, UID in object meta: {}",
                new.meta().uid,
                old.meta().uid
            );
            return Err(ApiError::conflict(resource, &request.name, why));
        }
        let mut errors: Errors;
        strategy.default(new);
        self.fill_in(request, new, Some(old)).await?;
        if request.subresource == "ephemeralcontainers" {
            errors = super::subresources::ephemeral_containers(new, old)?;
            if strategy.desired_changed(new, old) {
                new.meta_mut().generation = old.meta().generation + 1;
            }
        } else if request.subresource == "status" {
            meta::for_status_update(new.meta_mut(), old.meta());
            strategy.prepare_for_status_update(new, old);
            errors = strategy.validate_status_update(new, old);
        } else {
            meta::for_update(new.meta_mut(), old.meta());
            strategy.prepare_for_update(new, old);
            errors = validation::object_meta(new.meta(), resource.namespaced, strategy.name_rule());
            errors.append(validation::object_meta_update(new.meta(), old.meta()));
            errors.append(strategy.validate(new));
            errors.append(strategy.validate_update(new, old));
            if strategy.counts_generations() && strategy.desired_changed(new, old) {
                new.meta_mut().generation = old.meta().generation + 1;
            }
            warnings.extend(strategy.warnings(new));
        }
        if !errors.is_empty() {
            return Err(ApiError::invalid(resource, &request.name, &errors.into_vec()));
        }
        Ok(())
    }

    /// Writes the new object in place of the current one; nothing if they are the same; the end of it if nothing holds
    /// it any longer. `None`: others were quicker.
    pub(super) async fn swap(
        &self,
        request: &Request,
        mut new: Box<dyn Object>,
        current: &Current,
        warnings: Vec<String>,
        mut beside: Beside,
    ) -> ApiResult<Option<ObjectReply>> {
        let old = current.object.as_ref();
        let reserved = self.allocate(request, new.as_mut(), Some(old), &mut beside).await?;
        new.meta_mut().resource_version.clear();
        let bytes = Bytes::from(new.encode());
        if bytes == current.stored {
            // No comparison holds this against the store: what seems to change nothing may only be seen too early.
            self.catch_up().await?;
            let (resource, name) = (&request.resource, &current.object.meta().name);
            let namespace = if resource.namespaced { request.namespace.as_str() } else { "" };
            let now = self.inner.cache.get(resource.cached(), namespace, name);
            if now.is_none_or(|entry| entry.mod_revision != current.revision) {
                return Ok(None);
            }
            return Ok(Some(reply::written(request, new.as_mut(), &bytes, current.revision, warnings)));
        }
        let gone = meta::may_go(&request.resource, new.as_ref());
        let change =
            if gone { Change::Remove(current.revision) } else { Change::Replace(bytes.clone(), current.revision) };
        match self.commit(request, new.meta(), change, beside).await {
            Ok(Outcome::Done(revision)) => {
                self.release_after(request, old, (!gone).then_some(new.as_ref())).await;
                let mut reply = reply::written(request, new.as_mut(), &bytes, revision, warnings);
                reply.deleted = gone;
                Ok(Some(reply))
            }
            Ok(Outcome::Again) => {
                self.release(reserved).await;
                Ok(None)
            }
            Err(error) => {
                if error.code() < 500 {
                    self.release(reserved).await;
                }
                Err(error)
            }
        }
    }
}
