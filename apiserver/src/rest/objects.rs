//! One object: get, create, update, patch, delete.

use super::media::{self, Shape};
use super::query::is_dry;
use super::respond::{self, Answer};
use super::{Ask, OK, Rest, envelope, events, tables};
use crate::registry::{ApiError, ApiResult, Body, DeleteOptions, Format, ObjectReply, Operation, PatchKind, Reply};
use crate::resources::{JSON, PROTOBUF, Resource, YAML};
use bytes::Bytes;
use http::{Method, StatusCode};
use skiff_proto::json::{self, Strictness};
use skiff_proto::metav1;
use std::sync::Arc;

/// The media types of patches.
const PATCHES: &[(&str, PatchKind)] = &[
    ("application/json-patch+json", PatchKind::Json),
    ("application/merge-patch+json", PatchKind::Merge),
    ("application/strategic-merge-patch+json", PatchKind::Strategic),
    ("application/apply-patch+yaml", PatchKind::Apply),
];

impl Rest {
    /// Serves an operation on one object.
    pub(super) async fn object(&self, ask: &Ask, resource: Arc<Resource>) -> ApiResult<Answer> {
        let named = !ask.place.name.is_empty();
        // A new object's place is its namespace; only its subresources have one of their own.
        let creatable = if ask.place.subresource.is_empty() {
            !named && (!resource.namespaced || !ask.place.namespace.is_empty())
        } else {
            named
        };
        let operation = match ask.method {
            Method::POST if creatable => Operation::Create(body(ask, &resource)?),
            Method::GET | Method::HEAD if named => Operation::Get,
            Method::PUT if named => Operation::Update(body(ask, &resource)?),
            Method::PATCH if named => patch(ask, &resource)?,
            Method::DELETE if named => Operation::Delete(delete_options(ask)?),
            _ => return Err(ApiError::method_not_allowed(&resource, ask.method.as_str())),
        };
        let status = if ask.method == Method::POST { StatusCode::CREATED } else { OK };
        let request = self.request(ask, resource.clone(), operation)?;
        let shown = Shown { resource, metadata_only: request.metadata_only, status };
        match self.registry.serve(request).await? {
            Reply::Object(reply) => {
                let status = if reply.created { StatusCode::CREATED } else { shown.status };
                self.show(ask, &Shown { status, ..shown }, reply)
            }
            _ => Err(ApiError::internal("an object was expected")),
        }
    }

    fn show(&self, ask: &Ask, shown: &Shown, mut reply: ObjectReply) -> ApiResult<Answer> {
        let resource = &shown.resource;
        if ask.wanted.shape == Shape::Whole {
            reply.bytes = events::shown(resource, reply.bytes, reply.content_type)?;
        }
        let answer = match ask.wanted.shape {
            _ if reply.content_type == PROTOBUF => {
                let (api_version, kind) = match shown.metadata_only {
                    true => ("meta.k8s.io/v1".to_string(), "PartialObjectMetadata"),
                    false => answer_kind(resource, &ask.place.subresource)
                        .ok_or_else(|| ApiError::internal("an answer without a kind"))?,
                };
                respond::protobuf(shown.status, envelope::seal(&api_version, kind, reply.bytes))
            }
            Shape::Table(version) if ask.place.subresource.is_empty() => {
                let table = tables::Table::new(resource, version, ask.query.get("includeObject"), self.world.wall());
                respond::json(shown.status, ask.wanted.encoding, table.of_one(&reply.bytes)?)
            }
            _ => respond::json(shown.status, ask.wanted.encoding, reply.bytes),
        };
        Ok(respond::with_warnings(answer, &reply.warnings))
    }
}

/// What answers to a request for an object or one of its subresources are, where that is known: version and kind.
pub fn answer_kind<'a>(resource: &'a Resource, subresource: &str) -> Option<(String, &'a str)> {
    match subresource {
        "" | "status" | "finalize" | "ephemeralcontainers" => Some((resource.api_version(), resource.kind.as_str())),
        "scale" => Some(("autoscaling/v1".into(), "Scale")),
        "binding" | "eviction" => Some(("v1".into(), "Status")),
        _ => None,
    }
}

/// What has to be known of a request when its reply is there.
struct Shown {
    resource: Arc<Resource>,
    metadata_only: bool,
    status: StatusCode,
}

/// The body of a create or an update.
fn body(ask: &Ask, resource: &Resource) -> ApiResult<Body> {
    let (bytes, content_type) = match media::sent(&ask.headers).as_str() {
        PROTOBUF => {
            let opened = envelope::open(&ask.body)?;
            // Subresources have kinds of their own.
            if matches!(ask.place.subresource.as_str(), "" | "status") {
                same_kind(resource, &opened.api_version, &opened.kind)?;
            }
            (opened.raw, PROTOBUF)
        }
        JSON => (ask.body.clone(), JSON),
        YAML | "text/yaml" | "application/x-yaml" => (ask.body.clone(), YAML),
        other => return Err(ApiError::unsupported_media_type(other, Format::READABLE)),
    };
    options(ask, events::read(resource, bytes, content_type)?, content_type)
}

/// A body that says it is of another kind is not read as this one.
fn same_kind(resource: &Resource, api_version: &str, kind: &str) -> ApiResult<()> {
    let differs = |found: &str, wanted: &str| !found.is_empty() && found != wanted;
    if differs(api_version, &resource.api_version()) || differs(kind, &resource.kind) {
        return Err(ApiError::bad_request(format!(
            "the object provided is a {kind:?} of {api_version:?}, which does not match the expected {:?} of {:?}",
            resource.kind,
            resource.api_version()
        )));
    }
    Ok(())
}

fn options(ask: &Ask, bytes: Bytes, content_type: &str) -> ApiResult<Body> {
    Ok(Body {
        bytes,
        content_type: content_type.into(),
        dry_run: ask.query.dry_run()?,
        field_validation: ask.query.field_validation()?,
        field_manager: match ask.query.get("fieldManager") {
            "" => agent(ask).into(),
            named => named.into(),
        },
        force: ask.query.is_on("force"),
    })
}

/// The program that asks: `kubectl` of `kubectl/v1.32.0 (linux/amd64)`.
fn agent(ask: &Ask) -> &str {
    let said = ask.headers.get(http::header::USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    said.split('/').next().unwrap_or_default()
}

fn patch(ask: &Ask, resource: &Resource) -> ApiResult<Operation> {
    let sent = media::sent(&ask.headers);
    // Who manages which fields is told in the core group's names, so applying is for that group.
    let patches = || PATCHES.iter().filter(|(_, kind)| *kind != PatchKind::Apply || resource.group != events::GROUP);
    let Some((_, kind)) = patches().find(|(media_type, _)| *media_type == sent) else {
        let readable: Vec<&str> = patches().map(|(media_type, _)| *media_type).collect();
        return Err(ApiError::unsupported_media_type(&sent, &readable));
    };
    let applies = *kind == PatchKind::Apply;
    let content_type = if applies { YAML } else { JSON };
    let mut body = options(ask, events::read(resource, ask.body.clone(), content_type)?, content_type)?;
    if applies {
        // Who applies says in whose name: what it names no longer is taken out.
        body.field_manager = ask.query.get("fieldManager").into();
    } else if body.force {
        return Err(ApiError::invalid_options("force: Forbidden: may not be specified for non-apply patch"));
    }
    Ok(Operation::Patch { kind: *kind, body })
}

/// How to delete: what the body says, and where it is silent the query.
pub fn delete_options(ask: &Ask) -> ApiResult<DeleteOptions> {
    let mut options = ask.query.delete()?;
    if ask.body.is_empty() {
        return Ok(options);
    }
    let wrong = |why: String| ApiError::bad_request(format!("the body cannot be handled as DeleteOptions: {why}"));
    let tree = match media::sent(&ask.headers).as_str() {
        PROTOBUF => None,
        JSON => Some(serde_json::from_slice(&ask.body).map_err(|e| wrong(e.to_string()))?),
        YAML => Some(crate::resources::yaml_to_tree(&ask.body).map_err(|e| wrong(e.to_string()))?),
        other => return Err(ApiError::unsupported_media_type(other, Format::READABLE)),
    };
    let sent: metav1::DeleteOptions = match tree {
        None => prost::Message::decode(envelope::open(&ask.body)?.raw).map_err(|e| wrong(e.to_string()))?,
        Some(mut tree) => {
            // Every group has DeleteOptions, and they are all the same.
            if let Some(map) = serde_json::Value::as_object_mut(&mut tree) {
                map.shift_remove("apiVersion");
            }
            json::decode_value(&tree, Strictness::Ignore).map_err(|e| wrong(e.to_string()))?.0
        }
    };
    options.dry_run |= is_dry(&sent.dry_run)?;
    options.grace_period_seconds = sent.grace_period_seconds.or(options.grace_period_seconds);
    match (sent.propagation_policy, sent.orphan_dependents) {
        (Some(policy), _) => options.propagation_policy = policy,
        (None, Some(true)) => options.propagation_policy = "Orphan".into(),
        (None, Some(false)) => options.propagation_policy = "Background".into(),
        (None, None) => {}
    }
    let preconditions = sent.preconditions.unwrap_or_default();
    options.precondition_uid = preconditions.uid.unwrap_or_default();
    options.precondition_resource_version = preconditions.resource_version.unwrap_or_default();
    Ok(options)
}
