//! The Resources service.

use super::metadata::{self, cause, fence, identity};
use super::to_grpc;
use crate::registry::{
    ApiError, ApiResult, Body, DeleteOptions, FieldValidation, Format, ListOptions, ObjectReply, Operation, PatchKind,
    Registry, Reply, Request, WatchEventKind, WatchOptions, WatchReply,
};
use crate::resources::{JSON, PROTOBUF, newer_version};
use crate::reviews;
use futures::Stream;
use prost::Message;
use skiff_proto::skiffv1 as pb;
use skiff_proto::skiffv1::resources_server::Resources;
use skiff_world::Identity;
use std::pin::Pin;
use tonic::{Extensions, Response, Status};

/// The service. Cheap to clone.
#[derive(Clone)]
pub struct ResourcesService {
    registry: Registry,
}

/// What every message says.
struct Common {
    reference: Option<pb::ResourceRef>,
    accept: String,
    metadata_only: bool,
}

impl ResourcesService {
    /// The face of a registry.
    pub fn new(registry: Registry) -> Self {
        Self { registry }
    }

    fn request(
        &self,
        extensions: &Extensions,
        headers: &tonic::metadata::MetadataMap,
        common: Common,
        operation: Operation,
    ) -> ApiResult<Request> {
        let identity = identity(extensions)?;
        let reference = common.reference.ok_or_else(|| ApiError::bad_request("the request names no resource"))?;
        let accept = Format::parse(&common.accept)
            .ok_or_else(|| ApiError::unsupported_media_type(&common.accept, Format::SUPPORTED))?;
        let writes = !matches!(operation, Operation::Get | Operation::List(_) | Operation::Watch(_));
        Ok(Request {
            identity,
            resource: self.registry.resource(&reference.group, &reference.version, &reference.resource)?,
            subresource: reference.subresource,
            namespace: reference.namespace,
            name: reference.name,
            operation,
            accept,
            metadata_only: common.metadata_only,
            cause: if writes { cause(headers)? } else { Default::default() },
            fence: if writes { fence(headers)? } else { None },
        })
    }

    /// A review is no object of the table: it is answered, and gone.
    fn review(
        &self,
        caller: &Identity,
        kind: reviews::Kind,
        namespace: &str,
        m: &pb::CreateRequest,
    ) -> ApiResult<pb::ObjectReply> {
        let wrong = |why: String| ApiError::bad_request(format!("the body cannot be handled as a review: {why}"));
        let sent = match m.content_type.as_str() {
            JSON => serde_json::from_slice(&m.object).map(reviews::Sent::Document).map_err(|e| wrong(e.to_string()))?,
            _ => reviews::Sent::Protobuf(m.object.clone()),
        };
        let answer = reviews::answer(self.registry.authorizer(), caller, kind, namespace, sent)?;
        let (object, content_type) = match (answer.protobuf, m.accept.as_str()) {
            (Some(raw), accept) if accept != JSON => (raw.into(), PROTOBUF),
            _ => (answer.tree.to_string().into_bytes().into(), JSON),
        };
        Ok(pb::ObjectReply { object, content_type: content_type.into(), ..Default::default() })
    }

    async fn object(&self, request: ApiResult<Request>) -> Result<Response<pb::ObjectReply>, Status> {
        let serve = async {
            match self.registry.serve(request?).await? {
                Reply::Object(reply) => Ok(object_reply(reply)),
                _ => Err(ApiError::internal("an object was expected")),
            }
        };
        serve.await.map(Response::new).map_err(to_grpc)
    }
}

fn object_reply(reply: ObjectReply) -> pb::ObjectReply {
    pb::ObjectReply {
        object: reply.bytes,
        content_type: reply.content_type.into(),
        warnings: reply.warnings,
        deleted: reply.deleted,
        created: reply.created,
    }
}

fn validation(name: &str) -> ApiResult<FieldValidation> {
    FieldValidation::parse(name).ok_or_else(|| {
        ApiError::bad_request(format!(
            "fieldValidation: Unsupported value: {name:?}: supported values: \"Ignore\", \"Strict\", \"Warn\""
        ))
    })
}

fn options_of_watch(m: &mut pb::WatchRequest) -> WatchOptions {
    WatchOptions {
        label_selector: std::mem::take(&mut m.label_selector),
        field_selector: std::mem::take(&mut m.field_selector),
        resource_version: std::mem::take(&mut m.resource_version),
        allow_bookmarks: m.allow_bookmarks,
        send_initial_events: m.send_initial_events,
        skip_initial_events: false,
        timeout_seconds: u64::try_from(m.timeout_seconds).unwrap_or(0),
    }
}

type EventStream = Pin<Box<dyn Stream<Item = Result<pb::WatchEvent, Status>> + Send>>;

/// A watch as a stream of messages.
fn events(watch: WatchReply) -> EventStream {
    Box::pin(futures::stream::unfold(watch, |mut watch| async move {
        let event = watch.next().await?;
        let kind = match event.kind {
            WatchEventKind::Added => pb::watch_event::Type::Added,
            WatchEventKind::Modified => pb::watch_event::Type::Modified,
            WatchEventKind::Deleted => pb::watch_event::Type::Deleted,
            WatchEventKind::Bookmark => pb::watch_event::Type::Bookmark,
            WatchEventKind::Error => pb::watch_event::Type::Error,
        };
        let object = match event.error {
            // The Status of an error is protobuf, whatever the objects are.
            Some(error) => error.status().encode_to_vec().into(),
            None => event.object,
        };
        let message = pb::WatchEvent {
            r#type: kind.into(),
            object,
            resource_version: event.revision.to_string(),
            initial_events_end: event.initial_events_end,
        };
        Some((Ok(message), watch))
    }))
}

#[tonic::async_trait]
impl Resources for ResourcesService {
    async fn get(&self, request: tonic::Request<pb::GetRequest>) -> Result<Response<pb::ObjectReply>, Status> {
        let (headers, extensions, m) = request.into_parts();
        let common = Common { reference: m.r#ref, accept: m.accept, metadata_only: m.metadata_only };
        self.object(self.request(&extensions, &headers, common, Operation::Get)).await
    }

    async fn list(&self, request: tonic::Request<pb::ListRequest>) -> Result<Response<pb::ListReply>, Status> {
        let (headers, extensions, m) = request.into_parts();
        let common = Common { reference: m.r#ref, accept: m.accept, metadata_only: m.metadata_only };
        let options = ListOptions {
            label_selector: m.label_selector,
            field_selector: m.field_selector,
            limit: usize::try_from(m.limit).unwrap_or(0),
            continue_token: m.r#continue,
            resource_version: m.resource_version,
            resource_version_match: m.resource_version_match,
            unpaged: false,
        };
        let request = self.request(&extensions, &headers, common, Operation::List(options)).map_err(to_grpc)?;
        match self.registry.serve(request).await.map_err(to_grpc)? {
            Reply::List(page) => Ok(Response::new(pb::ListReply {
                items: page.items,
                content_type: page.content_type.into(),
                resource_version: page.resource_version,
                r#continue: page.continue_token,
                remaining: page.remaining.unwrap_or(0),
            })),
            _ => Err(to_grpc(ApiError::internal("a list was expected"))),
        }
    }

    type WatchStream = EventStream;

    async fn watch(&self, request: tonic::Request<pb::WatchRequest>) -> Result<Response<EventStream>, Status> {
        let (headers, extensions, mut m) = request.into_parts();
        let options = options_of_watch(&mut m);
        let common = Common { reference: m.r#ref, accept: m.accept, metadata_only: m.metadata_only };
        let request = self.request(&extensions, &headers, common, Operation::Watch(options)).map_err(to_grpc)?;
        match self.registry.serve(request).await.map_err(to_grpc)? {
            Reply::Watch(watch) => Ok(Response::new(events(watch))),
            _ => Err(to_grpc(ApiError::internal("a watch was expected"))),
        }
    }

    async fn create(&self, request: tonic::Request<pb::CreateRequest>) -> Result<Response<pb::ObjectReply>, Status> {
        let (headers, extensions, m) = request.into_parts();
        if let Some(at) = &m.r#ref
            && let Some(kind) = reviews::Kind::of(&at.group, &at.version, &at.resource)
        {
            let reply = identity(&extensions).and_then(|caller| self.review(&caller, kind, &at.namespace, &m));
            return reply.map(Response::new).map_err(to_grpc);
        }
        let request = validation(&m.field_validation).and_then(|field_validation| {
            let body = Body {
                bytes: m.object,
                content_type: m.content_type,
                dry_run: m.dry_run,
                field_validation,
                field_manager: m.field_manager,
                force: false,
            };
            let common = Common { reference: m.r#ref, accept: m.accept, metadata_only: false };
            self.request(&extensions, &headers, common, Operation::Create(body))
        });
        self.object(request).await
    }

    async fn update(&self, request: tonic::Request<pb::UpdateRequest>) -> Result<Response<pb::ObjectReply>, Status> {
        let (headers, extensions, m) = request.into_parts();
        let request = validation(&m.field_validation).and_then(|field_validation| {
            let body = Body {
                bytes: m.object,
                content_type: m.content_type,
                dry_run: m.dry_run,
                field_validation,
                field_manager: m.field_manager,
                force: false,
            };
            let common = Common { reference: m.r#ref, accept: m.accept, metadata_only: false };
            self.request(&extensions, &headers, common, Operation::Update(body))
        });
        self.object(request).await
    }

    async fn patch(&self, request: tonic::Request<pb::PatchRequest>) -> Result<Response<pb::ObjectReply>, Status> {
        let (headers, extensions, m) = request.into_parts();
        let kind = match m.r#type() {
            pb::patch_request::Type::Json => Some(PatchKind::Json),
            pb::patch_request::Type::Merge => Some(PatchKind::Merge),
            pb::patch_request::Type::Strategic => Some(PatchKind::Strategic),
            pb::patch_request::Type::Apply => Some(PatchKind::Apply),
            pb::patch_request::Type::Unknown => None,
        };
        let request = kind
            .ok_or_else(|| ApiError::bad_request("the request does not say which type of patch it is"))
            .and_then(|kind| Ok((kind, validation(&m.field_validation)?)))
            .and_then(|(kind, field_validation)| {
                let body = Body {
                    bytes: m.patch,
                    content_type: crate::resources::JSON.into(),
                    dry_run: m.dry_run,
                    field_validation,
                    field_manager: m.field_manager,
                    force: m.force,
                };
                let common = Common { reference: m.r#ref, accept: m.accept, metadata_only: false };
                self.request(&extensions, &headers, common, Operation::Patch { kind, body })
            });
        self.object(request).await
    }

    async fn delete(&self, request: tonic::Request<pb::DeleteRequest>) -> Result<Response<pb::ObjectReply>, Status> {
        let (headers, extensions, m) = request.into_parts();
        let options = DeleteOptions {
            dry_run: m.dry_run,
            grace_period_seconds: m.grace_period_seconds,
            propagation_policy: m.propagation_policy,
            precondition_uid: m.precondition_uid,
            precondition_resource_version: m.precondition_resource_version,
        };
        let common = Common { reference: m.r#ref, accept: m.accept, metadata_only: false };
        self.object(self.request(&extensions, &headers, common, Operation::Delete(options))).await
    }

    async fn explain(&self, request: tonic::Request<pb::ExplainRequest>) -> Result<Response<pb::ExplainReply>, Status> {
        metadata::identity(request.extensions()).map_err(to_grpc)?;
        let asked = request.into_inner();
        let row = self.registry.resource(&asked.group, &asked.version, &asked.resource).map_err(to_grpc)?;
        let schema = row.strategy.definition().map(|definition| definition.schema());
        Ok(Response::new(pb::ExplainReply { schema }))
    }

    async fn discover(
        &self,
        request: tonic::Request<pb::DiscoverRequest>,
    ) -> Result<Response<pb::DiscoverReply>, Status> {
        metadata::identity(request.extensions()).map_err(to_grpc)?;
        let rows = self.registry.table().all();
        let mut rows: Vec<_> = rows.values().collect();
        // Of one group and resource the version to use comes first.
        rows.sort_by(|a, b| {
            (&a.group, &a.resource).cmp(&(&b.group, &b.resource)).then_with(|| newer_version(&a.version, &b.version))
        });
        let resources = rows.into_iter().map(|row| pb::ResourceInfo {
            group: row.group.clone(),
            version: row.version.clone(),
            resource: row.resource.clone(),
            kind: row.kind.clone(),
            singular: row.singular.clone(),
            short_names: row.short_names.clone(),
            categories: row.categories.clone(),
            namespaced: row.namespaced,
            verbs: row.verbs(),
            subresources: row.subresources.clone(),
            custom: row.is_custom(),
            columns: row.strategy.column_definitions().to_vec(),
        });
        Ok(Response::new(pb::DiscoverReply { resources: resources.collect(), server_version: crate::VERSION.into() }))
    }
}
