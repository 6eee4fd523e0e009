//! Delete: at once, gracefully, or held by finalizers.
//!
//! ```text
//! live --delete--> gone                              nothing holds it, no grace
//! live --delete--> deleting (deletionTimestamp set)  a grace period, or finalizers
//! deleting --delete with less grace--> deleting (sooner), or gone at 0
//! deleting --last finalizer removed, no grace left--> gone   (in update.rs)
//! ```

use super::commit::{ATTEMPTS, Beside, Change, Current, Outcome};
use super::error::{ApiError, ApiResult};
use super::request::{DeleteOptions, ObjectReply, Request};
use super::{Registry, meta, reply};
use skiff_proto::Time;
use skiff_proto::metav1::ObjectMeta;

impl Registry {
    /// Deletes an object, or begins to.
    pub(super) async fn delete(&self, request: &Request, options: &DeleteOptions) -> ApiResult<ObjectReply> {
        if !request.subresource.is_empty() {
            return Err(ApiError::method_not_allowed(&request.resource, "delete"));
        }
        self.delete_object(request, options).await
    }

    pub(super) async fn delete_object(&self, request: &Request, options: &DeleteOptions) -> ApiResult<ObjectReply> {
        check_options(options)?;
        for _ in 0..ATTEMPTS {
            let (uid, version) = (&options.precondition_uid, &options.precondition_resource_version);
            let current = self.existing_if(request, uid, version).await?;
            let old = current.object.as_ref();
            let beside = self.admit(request, None, Some(old)).await?;
            if let Some(reply) = self.delete_once(request, options, &current, beside).await? {
                return Ok(reply);
            }
        }
        Err(ApiError::modified(&request.resource, &request.name))
    }

    async fn delete_once(
        &self,
        request: &Request,
        options: &DeleteOptions,
        current: &Current,
        beside: Beside,
    ) -> ApiResult<Option<ObjectReply>> {
        let resource = &request.resource;
        let old = current.object.as_ref();
        let mut new = old.copy();
        propagation(new.meta_mut(), &options.propagation_policy);
        let already = old.meta().deletion_timestamp.is_some();
        if already {
            shorten(new.meta_mut(), options.grace_period_seconds);
        } else {
            let grace = resource.strategy.grace_period(old, options.grace_period_seconds);
            let at = meta::now(&self.inner.world).unix() + grace;
            let meta = new.meta_mut();
            meta.deletion_timestamp = Some(Time::from_unix(at));
            meta.deletion_grace_period_seconds = Some(grace);
            if meta.generation > 0 {
                meta.generation += 1;
            }
            resource.strategy.begin_deletion(new.as_mut());
        }
        if !meta::may_go(resource, new.as_ref()) {
            return self.swap(request, new, current, Vec::new(), beside).await;
        }
        // What goes is the object as it was: an event and a reply show its last state, at the revision of its end.
        let mut last = if already { new } else { old.copy() };
        let removal = Change::Remove(current.revision);
        match self.commit(request, old.meta(), removal, beside).await? {
            Outcome::Again => Ok(None),
            Outcome::Done(revision) => {
                self.release_after(request, old, None).await;
                if revision != 0 {
                    last.meta_mut().resource_version = revision.to_string();
                }
                let mut reply = reply::object(request, last.as_ref(), Vec::new());
                reply.deleted = true;
                Ok(Some(reply))
            }
        }
    }
}

fn check_options(options: &DeleteOptions) -> ApiResult<()> {
    if options.grace_period_seconds.is_some_and(|s| s < 0) {
        return Err(ApiError::bad_request("gracePeriodSeconds: must be greater than or equal to 0"));
    }
    match options.propagation_policy.as_str() {
        "" | "Background" | "Foreground" | "Orphan" => Ok(()),
        other => Err(ApiError::bad_request(format!(
            "propagationPolicy: Unsupported value: {other:?}: supported values: \"Background\", \"Foreground\", \"Orphan\""
        ))),
    }
}

/// Sets the finalizers that a propagation policy means. Unset: those there are stay.
fn propagation(meta: &mut ObjectMeta, policy: &str) {
    let wanted = match policy {
        "Foreground" => Some(meta::FOREGROUND),
        "Orphan" => Some(meta::ORPHAN),
        "Background" => None,
        _ => return,
    };
    meta.finalizers.retain(|f| f != meta::FOREGROUND && f != meta::ORPHAN);
    meta.finalizers.extend(wanted.map(String::from));
}

/// A further delete may only make the grace period shorter.
fn shorten(meta: &mut ObjectMeta, requested: Option<i64>) {
    let now = meta.deletion_grace_period_seconds.unwrap_or(0);
    if let (Some(seconds), Some(at)) = (requested.filter(|s| *s < now), &meta.deletion_timestamp) {
        meta.deletion_timestamp = Some(Time::from_unix(at.unix() - now + seconds));
        meta.deletion_grace_period_seconds = Some(seconds);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grace_only_shrinks() {
        let mut meta = ObjectMeta {
            deletion_timestamp: Some(Time::from_unix(1030)),
            deletion_grace_period_seconds: Some(30),
            ..Default::default()
        };
        shorten(&mut meta, Some(60));
        shorten(&mut meta, None);
        assert_eq!(meta.deletion_grace_period_seconds, Some(30));
        shorten(&mut meta, Some(10));
        assert_eq!(meta.deletion_timestamp, Some(Time::from_unix(1010)));
        shorten(&mut meta, Some(0));
        assert_eq!(
            (meta.deletion_timestamp, meta.deletion_grace_period_seconds),
            (Some(Time::from_unix(1000)), Some(0))
        );
    }

    #[test]
    fn a_policy_replaces_the_one_before() {
        let mut meta = ObjectMeta { finalizers: vec!["a/b".into()], ..Default::default() };
        propagation(&mut meta, "Foreground");
        assert_eq!(meta.finalizers, ["a/b", "foregroundDeletion"]);
        propagation(&mut meta, "Orphan");
        assert_eq!(meta.finalizers, ["a/b", "orphan"]);
        propagation(&mut meta, "");
        assert_eq!(meta.finalizers, ["a/b", "orphan"]);
        propagation(&mut meta, "Background");
        assert_eq!(meta.finalizers, ["a/b"]);
    }
}
