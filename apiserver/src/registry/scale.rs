//! The scale subresource: the number of replicas alone, of any kind that has `spec.replicas`.

use super::Registry;
use super::error::{ApiError, ApiResult};
use super::patch;
use super::reply;
use super::request::{Body, Format, ObjectReply, PatchKind, Request};
use crate::resources::{JSON, Object, PROTOBUF, Resource, validation};
use prost::Message;
use serde_json::Value;
use skiff_proto::autoscalingv1::{Scale, ScaleSpec, ScaleStatus};
use skiff_proto::json::{self, Strictness};
use skiff_proto::labels::Selector;
use skiff_proto::metav1::{LabelSelector, ObjectMeta};

/// The Scale of an object.
fn scale_of(resource: &Resource, object: &dyn Object) -> Scale {
    let tree = object.to_json();
    let number = |path: &str| tree.pointer(path).and_then(Value::as_i64).and_then(|n| i32::try_from(n).ok());
    let paths = resource.strategy.scale_paths();
    let (wanted, actual) = paths.map_or(("/spec/replicas", "/status/replicas"), |p| (&p.wanted, &p.actual));
    let selector = match paths {
        None => selector_of(&tree),
        Some(paths) => paths.selector.as_ref().map(|path| skiff_proto::columns::text(&tree, path)).unwrap_or_default(),
    };
    let meta = object.meta();
    Scale {
        metadata: ObjectMeta {
            name: meta.name.clone(),
            namespace: meta.namespace.clone(),
            uid: meta.uid.clone(),
            resource_version: meta.resource_version.clone(),
            creation_timestamp: meta.creation_timestamp,
            ..Default::default()
        },
        spec: ScaleSpec { replicas: number(wanted).unwrap_or(i32::from(paths.is_none())) },
        status: ScaleStatus { replicas: number(actual).unwrap_or(0), selector },
    }
}

/// The object's selector, as a selector string.
fn selector_of(tree: &Value) -> String {
    let selector = tree.pointer("/spec/selector");
    let read = selector.and_then(|s| json::decode_value::<LabelSelector>(s, Strictness::Ignore).ok());
    read.and_then(|(s, _)| Selector::try_from(&s).ok()).map(|s| s.to_string()).unwrap_or_default()
}

/// Puts a value at a JSON pointer; objects on the way there are made.
fn put(tree: &mut Value, pointer: &str, value: Value) {
    let mut at = tree;
    for name in pointer.split('/').filter(|name| !name.is_empty()) {
        if !at.is_object() {
            *at = Value::Object(Default::default());
        }
        at = &mut at[name];
    }
    *at = value;
}

fn as_reply(request: &Request, scale: &Scale) -> ObjectReply {
    let (bytes, content_type) = match request.accept {
        Format::Protobuf => (scale.encode_to_vec().into(), PROTOBUF),
        Format::Json => (json::encode(scale).into(), JSON),
    };
    ObjectReply { bytes, content_type, warnings: Vec::new(), deleted: false, created: false }
}

impl Registry {
    /// Reads an object's Scale.
    pub(super) async fn get_scale(&self, request: &Request) -> ApiResult<ObjectReply> {
        self.catch_up().await?;
        let current = self.existing(request).await?;
        Ok(as_reply(request, &scale_of(&request.resource, current.object.as_ref())))
    }

    /// Replaces an object's Scale.
    pub(super) async fn update_scale(&self, request: &Request, body: &Body) -> ApiResult<ObjectReply> {
        let wrong = |why: String| ApiError::bad_request(format!("the body cannot be handled as a Scale: {why}"));
        let sent: Scale = match body.content_type.as_str() {
            PROTOBUF => Scale::decode(body.bytes.as_ref()).map_err(|e| wrong(e.to_string()))?,
            JSON => json::decode(&body.bytes, Strictness::Ignore).map_err(|e| wrong(e.to_string()))?.0,
            other => return Err(ApiError::unsupported_media_type(other, Format::SUPPORTED)),
        };
        self.scale_to(request, |_| Ok(sent.clone())).await
    }

    /// Patches an object's Scale.
    pub(super) async fn patch_scale(
        &self,
        request: &Request,
        kind: PatchKind,
        patch: &Value,
    ) -> ApiResult<ObjectReply> {
        // A Scale has no lists, so a strategic patch of one is a merge patch.
        let kind = if kind == PatchKind::Strategic { PatchKind::Merge } else { kind };
        self.scale_to(request, |scale| {
            let tree = json::encode_value(&scale);
            let mut scale_patched = patch::apply(request, kind, tree, patch)?;
            // A patch that does not name the revision holds for any.
            let names_it = patch.pointer("/metadata/resourceVersion").is_some();
            if let Some(meta) =
                scale_patched.pointer_mut("/metadata").and_then(Value::as_object_mut).filter(|_| !names_it)
            {
                meta.shift_remove("resourceVersion");
            }
            let decoded = json::decode_value(&scale_patched, Strictness::Ignore);
            decoded
                .map(|(scale, _)| scale)
                .map_err(|e| ApiError::bad_request(format!("the patched Scale is wrong: {e}")))
        })
        .await
    }

    async fn scale_to(
        &self,
        request: &Request,
        wish: impl Fn(Scale) -> ApiResult<Scale> + Sync,
    ) -> ApiResult<ObjectReply> {
        let resource = &request.resource;
        // The main resource is written: the wish goes through its defaults, validation and generation.
        let main = Request {
            identity: request.identity.clone(),
            resource: resource.clone(),
            subresource: String::new(),
            namespace: request.namespace.clone(),
            name: request.name.clone(),
            operation: super::Operation::Update(Body { dry_run: request.dry_run(), ..Default::default() }),
            accept: Format::Json,
            metadata_only: false,
            cause: request.cause.clone(),
            fence: request.fence.clone(),
        };
        let reply = self
            .modify(&main, |old| {
                let wished = wish(scale_of(resource, old))?;
                if wished.spec.replicas < 0 {
                    let mut errors = crate::resources::Errors::new();
                    errors.invalid("spec.replicas", wished.spec.replicas, validation::NON_NEGATIVE);
                    return Err(ApiError::invalid(resource, &request.name, &errors.into_vec()));
                }
                let mut tree = old.to_json();
                let path = resource.strategy.scale_paths().map_or("/spec/replicas", |paths| &paths.wanted);
                put(&mut tree, path, wished.spec.replicas.into());
                let (mut object, warnings) =
                    reply::decode(resource, resource.strategy.decode_tree(tree), super::FieldValidation::Ignore)?;
                object.meta_mut().resource_version = wished.metadata.resource_version;
                Ok((object, warnings))
            })
            .await?;
        let (object, _) =
            reply::decode(resource, resource.strategy.decode(&reply.bytes, JSON), super::FieldValidation::Ignore)?;
        Ok(as_reply(request, &scale_of(resource, object.as_ref())))
    }
}
