//! Subresources that are actions: binding a Pod to a node, evicting it, letting a namespace go.

use super::Registry;
use super::commit::ATTEMPTS;
use super::error::{ApiError, ApiResult};
use super::request::{Body, DeleteOptions, ObjectReply, Operation, Request};
use super::{meta, reply};
use crate::resources::{Errors, JSON, Object, PROTOBUF, Typed, take_ephemeral_containers};
use skiff_proto::Kind;
use skiff_proto::corev1::{Binding, Namespace, Pod, PodCondition};
use skiff_proto::json::{self, Strictness};
use skiff_proto::policyv1::Eviction;

/// Reads a body as a kind that is not stored.
pub(super) fn read<K: Kind>(body: &Body) -> ApiResult<K> {
    let malformed = |why: String| ApiError::bad_request(format!("the body cannot be handled as a {}: {why}", K::KIND));
    match body.content_type.as_str() {
        PROTOBUF => K::decode(body.bytes.as_ref()).map_err(|e| malformed(e.to_string())),
        JSON => json::decode::<K>(&body.bytes, Strictness::Ignore)
            .map(|(kind, _)| kind)
            .map_err(|e| malformed(e.to_string())),
        other => Err(ApiError::unsupported_media_type(other, &[JSON, PROTOBUF])),
    }
}

/// A Pod in the registry's hands.
fn pod_of(object: &mut dyn Object) -> ApiResult<&mut Pod> {
    match object.as_any_mut().downcast_mut::<Typed<Pod>>() {
        Some(typed) => Ok(&mut typed.0),
        None => Err(ApiError::internal("a Pod was expected")),
    }
}

/// Lets of a written Pod only its new ephemeral containers stand.
pub fn ephemeral_containers(new: &mut dyn Object, old: &dyn Object) -> ApiResult<Errors> {
    match old.as_any().downcast_ref::<Typed<Pod>>() {
        Some(Typed(old)) => Ok(take_ephemeral_containers(pod_of(new)?, old)),
        None => Err(ApiError::internal("a Pod was expected")),
    }
}

impl Registry {
    /// Assigns a Pod to a node; once, and never while it is being deleted.
    pub(super) async fn bind(&self, request: &Request, body: &Body) -> ApiResult<ObjectReply> {
        let binding: Binding = read(body)?;
        let target = &binding.target;
        if !binding.metadata.name.is_empty() && binding.metadata.name != request.name {
            return Err(ApiError::bad_request("the name of the Binding does not match the Pod in the request"));
        }
        if !target.kind.is_empty() && target.kind != "Node" {
            return Err(ApiError::bad_request(format!(
                "target.kind: Unsupported value: {:?}: supported values: \"Node\"",
                target.kind
            )));
        }
        if target.name.is_empty() {
            return Err(ApiError::bad_request("target.name: Required value: the node to bind the Pod to"));
        }
        for _ in 0..ATTEMPTS {
            let named = &binding.metadata;
            let current = self.existing_if(request, &named.uid, &named.resource_version).await?;
            let mut new = current.object.copy();
            self.assign(request, pod_of(new.as_mut())?, &binding)?;
            self.track(request, new.as_mut(), current.object.as_ref())?;
            let beside = self.admit(request, Some(new.as_ref()), Some(current.object.as_ref())).await?;
            if self.swap(request, new, &current, Vec::new(), beside).await?.is_some() {
                return Ok(reply::success(request));
            }
        }
        Err(ApiError::modified(&request.resource, &request.name))
    }

    fn assign(&self, request: &Request, pod: &mut Pod, binding: &Binding) -> ApiResult<()> {
        let refuse = |why: String| Err(ApiError::conflict(&request.resource, &request.name, why));
        if pod.metadata.deletion_timestamp.is_some() {
            return refuse(format!("pod {} is being deleted, cannot be assigned to a host", pod.metadata.name));
        }
        if !pod.spec.node_name.is_empty() {
            return refuse(format!("pod {} is already assigned to node {:?}", pod.metadata.name, pod.spec.node_name));
        }
        pod.spec.node_name = binding.target.name.clone();
        for (key, value) in &binding.metadata.annotations {
            pod.metadata.annotations.insert(key.clone(), value.clone());
        }
        for (key, value) in &binding.metadata.labels {
            pod.metadata.labels.insert(key.clone(), value.clone());
        }
        let scheduled = PodCondition {
            r#type: "PodScheduled".into(),
            status: "True".into(),
            last_transition_time: Some(meta::now(&self.inner.world)),
            ..Default::default()
        };
        match pod.status.conditions.iter_mut().find(|c| c.r#type == "PodScheduled") {
            Some(condition) if condition.status == "True" => {}
            Some(condition) => *condition = scheduled,
            None => pod.status.conditions.push(scheduled),
        }
        Ok(())
    }

    /// Deletes a Pod by asking: its disruption budget may say no.
    pub(super) async fn evict(&self, request: &Request, body: &Body) -> ApiResult<ObjectReply> {
        let eviction: Eviction = read(body)?;
        if !eviction.metadata.name.is_empty() && eviction.metadata.name != request.name {
            return Err(ApiError::bad_request("the name of the Eviction does not match the Pod in the request"));
        }
        let sent = eviction.delete_options.unwrap_or_default();
        let preconditions = sent.preconditions.clone().unwrap_or_default();
        let options = DeleteOptions {
            dry_run: body.dry_run || !sent.dry_run.is_empty(),
            grace_period_seconds: sent.grace_period_seconds,
            propagation_policy: sent.propagation_policy.clone().unwrap_or_default(),
            precondition_uid: preconditions.uid.clone().unwrap_or_default(),
            precondition_resource_version: preconditions.resource_version.clone().unwrap_or_default(),
        };
        // That it is a dry run may stand in the body alone: what follows has to see it.
        let evicting = Request {
            identity: request.identity.clone(),
            resource: request.resource.clone(),
            subresource: request.subresource.clone(),
            namespace: request.namespace.clone(),
            name: request.name.clone(),
            operation: Operation::Create(Body { dry_run: options.dry_run, ..Body::default() }),
            accept: request.accept,
            metadata_only: request.metadata_only,
            cause: request.cause.clone(),
            fence: request.fence.clone(),
        };
        // That it is the Pod that was meant comes first: no budget is charged for another one's sake.
        let (uid, version) = (&options.precondition_uid, &options.precondition_resource_version);
        self.existing_if(&evicting, uid, version).await?;
        self.charge_budget(&evicting, options.dry_run).await?;
        self.delete_object(&evicting, &options).await?;
        Ok(reply::success(request))
    }

    /// Replaces a namespace's `spec.finalizers`; the last one taken from a deleted namespace lets it go.
    pub(super) async fn finalize(&self, request: &Request, body: &Body) -> ApiResult<ObjectReply> {
        let sent: Namespace = read(body)?;
        for _ in 0..ATTEMPTS {
            let named = &sent.metadata;
            let current = self.existing_if(request, &named.uid, &named.resource_version).await?;
            let mut new = current.object.copy();
            match new.as_any_mut().downcast_mut::<Typed<Namespace>>() {
                Some(typed) => typed.0.spec.finalizers = sent.spec.finalizers.clone(),
                None => return Err(ApiError::method_not_allowed(&request.resource, "finalize")),
            }
            self.track(request, new.as_mut(), current.object.as_ref())?;
            let beside = self.admit(request, Some(new.as_ref()), Some(current.object.as_ref())).await?;
            if let Some(reply) = self.swap(request, new, &current, Vec::new(), beside).await? {
                return Ok(reply);
            }
        }
        Err(ApiError::modified(&request.resource, &request.name))
    }
}
