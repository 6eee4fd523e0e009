//! The writes of a client: each carries its cause and its fence, and is noted for the driver once it has succeeded.

use bytes::Bytes;
use prost::Message;
use skiff_proto::metav1::{ObjectMeta, PartialObjectMetadata};
use skiff_proto::skiffv1::{self, ObjectReply};
use tonic::metadata::MetadataValue;

use super::{Client, JSON, operation};
use crate::api::{DeleteOptions, Patch, WriteOptions};
use crate::cause;
use crate::driver::settled::{Note, Write};
use crate::error::Error;
use crate::key::{ObjectKey, Resource};

impl Client {
    /// Makes an object.
    pub async fn create(
        &self,
        resource: &Resource,
        namespace: &str,
        object: Vec<u8>,
        content_type: &str,
        options: &WriteOptions,
    ) -> Result<ObjectReply, Error> {
        let target = Target { resource, namespace, name: "", subresource: "" };
        self.post(target, object, content_type, options).await
    }

    /// Posts a subresource: a Pod's `binding` or `eviction`.
    #[allow(clippy::too_many_arguments, reason = "the arguments are the request")]
    pub async fn create_sub(
        &self,
        resource: &Resource,
        namespace: &str,
        name: &str,
        subresource: &str,
        object: Vec<u8>,
        content_type: &str,
        options: &WriteOptions,
    ) -> Result<ObjectReply, Error> {
        let target = Target { resource, namespace, name, subresource };
        self.post(target, object, content_type, options).await
    }

    async fn post(
        &self,
        target: Target<'_>,
        object: Vec<u8>,
        content_type: &str,
        options: &WriteOptions,
    ) -> Result<ObjectReply, Error> {
        let request = skiffv1::CreateRequest {
            r#ref: Some(target.reference()),
            object: object.into(),
            content_type: content_type.to_string(),
            accept: content_type.to_string(),
            dry_run: options.dry_run,
            field_manager: options.field_manager.clone(),
            field_validation: options.field_validation.clone(),
        };
        let request = self.write_request(request)?;
        let operation = target.operation("create");
        let answer = self.call(&operation, async |mut api| api.create(request).await).await;
        self.written(target, options.dry_run, answer)
    }

    /// Replaces an object or its status.
    #[allow(clippy::too_many_arguments, reason = "the arguments are the request")]
    pub async fn update(
        &self,
        resource: &Resource,
        namespace: &str,
        name: &str,
        subresource: &str,
        object: Vec<u8>,
        content_type: &str,
        options: &WriteOptions,
    ) -> Result<ObjectReply, Error> {
        let target = Target { resource, namespace, name, subresource };
        let request = skiffv1::UpdateRequest {
            r#ref: Some(target.reference()),
            object: object.into(),
            content_type: content_type.to_string(),
            accept: content_type.to_string(),
            dry_run: options.dry_run,
            field_manager: options.field_manager.clone(),
            field_validation: options.field_validation.clone(),
        };
        let request = self.write_request(request)?;
        let operation = target.operation("update");
        let answer = self.call(&operation, async |mut api| api.update(request).await).await;
        self.written(target, options.dry_run, answer)
    }

    /// Changes parts of an object.
    #[allow(clippy::too_many_arguments, reason = "the arguments are the request")]
    pub async fn patch(
        &self,
        resource: &Resource,
        namespace: &str,
        name: &str,
        subresource: &str,
        patch: Patch,
        accept: &str,
        options: &WriteOptions,
    ) -> Result<ObjectReply, Error> {
        use skiffv1::patch_request::Type;
        let target = Target { resource, namespace, name, subresource };
        let (kind, body, manager, force) = match patch {
            Patch::Json(body) => (Type::Json, body, None, false),
            Patch::Merge(body) => (Type::Merge, body, None, false),
            Patch::Strategic(body) => (Type::Strategic, body, None, false),
            Patch::Apply { object, manager, force } => (Type::Apply, object, Some(manager), force),
        };
        let request = skiffv1::PatchRequest {
            r#ref: Some(target.reference()),
            r#type: kind.into(),
            patch: body.to_string().into_bytes().into(),
            accept: accept.to_string(),
            dry_run: options.dry_run,
            field_manager: manager.unwrap_or_else(|| options.field_manager.clone()),
            field_validation: options.field_validation.clone(),
            force,
        };
        let request = self.write_request(request)?;
        let operation = target.operation("patch");
        let answer = self.call(&operation, async |mut api| api.patch(request).await).await;
        self.written(target, options.dry_run, answer)
    }

    /// Deletes an object.
    pub async fn delete(
        &self,
        resource: &Resource,
        namespace: &str,
        name: &str,
        accept: &str,
        options: &DeleteOptions,
    ) -> Result<ObjectReply, Error> {
        let target = Target { resource, namespace, name, subresource: "" };
        let request = skiffv1::DeleteRequest {
            r#ref: Some(target.reference()),
            accept: accept.to_string(),
            dry_run: options.dry_run,
            grace_period_seconds: options.grace_period_seconds,
            propagation_policy: options.propagation_policy.clone(),
            precondition_uid: options.uid.clone(),
            precondition_resource_version: options.resource_version.clone(),
        };
        let request = self.write_request(request)?;
        let operation = target.operation("delete");
        let answer = self.call(&operation, async |mut api| api.delete(request).await).await;
        self.written(target, options.dry_run, answer)
    }

    /// A write carries why, and who leads.
    fn write_request<T>(&self, message: T) -> Result<tonic::Request<T>, Error> {
        let mut request = tonic::Request::new(message);
        let cause = cause::current(self.world.random_suffix(12));
        request.metadata_mut().insert_bin("skiff-cause-bin", MetadataValue::from_bytes(&cause));
        if let Ok(started) = self.started.parse() {
            request.metadata_mut().insert("skiff-process-start", started);
        }
        if let Some(fence) = &self.fence {
            let text = fence.to_string();
            let value = text.parse().map_err(|_| Error::Encode {
                operation: "a leader's write".into(),
                reason: format!("the fence {text:?} has characters that a header cannot carry"),
            })?;
            request.metadata_mut().insert("skiff-fence", value);
        }
        Ok(request)
    }

    /// Hands on warnings, and notes the write for the key's next look; also one of which nobody knows whether it happened.
    fn written(
        &self,
        target: Target<'_>,
        dry_run: bool,
        answer: Result<ObjectReply, Error>,
    ) -> Result<ObjectReply, Error> {
        let reply = match answer {
            Ok(reply) => reply,
            Err(error) => {
                if !dry_run && error.may_have_been_done() {
                    cause::note(|| Note::Doubt(self.views.of(target.resource)));
                }
                return Err(error);
            }
        };
        for warning in &reply.warnings {
            match &self.warnings {
                Some(handler) => handler(warning),
                None => {
                    tracing::warn!(resource = %target.resource, name = target.name, warning, "the API server warns")
                }
            }
        }
        if !dry_run {
            cause::note(|| Note::Write(self.note(target, &reply)));
        }
        Ok(reply)
    }

    fn note(&self, target: Target<'_>, reply: &ObjectReply) -> Write {
        let written = metadata_of(reply).filter(|_| target.subresource.is_empty() || target.subresource == "status");
        let revision = written.as_ref().map_or(0, crate::key::revision_of);
        let name = written.as_ref().map_or(target.name, |metadata| metadata.name.as_str());
        let object = ObjectKey::new(if target.resource.namespaced { target.namespace } else { "" }, name);
        let views = self.views.awaiting(target.resource, &object, revision);
        Write { resource: target.resource.clone(), object, revision, views }
    }
}

#[derive(Clone, Copy)]
struct Target<'a> {
    resource: &'a Resource,
    namespace: &'a str,
    name: &'a str,
    subresource: &'a str,
}

impl Target<'_> {
    fn reference(&self) -> skiffv1::ResourceRef {
        self.resource.reference(self.namespace, self.name, self.subresource)
    }

    fn operation(&self, verb: &str) -> String {
        operation(verb, self.resource, self.namespace, self.name, self.subresource)
    }
}

/// The metadata of an object in a reply, without decoding the rest: every kind has it in field 1.
fn metadata_of(reply: &ObjectReply) -> Option<ObjectMeta> {
    let bytes: &Bytes = &reply.object;
    if reply.content_type.starts_with(JSON) {
        let value: serde_json::Value = serde_json::from_slice(bytes).ok()?;
        let text = |name: &str| value["metadata"][name].as_str().unwrap_or_default().to_string();
        let metadata = ObjectMeta {
            name: text("name"),
            namespace: text("namespace"),
            uid: text("uid"),
            resource_version: text("resourceVersion"),
            ..ObjectMeta::default()
        };
        return Some(metadata);
    }
    PartialObjectMetadata::decode(bytes.clone()).ok().map(|object| object.metadata)
}
