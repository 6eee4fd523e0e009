//! What was done, and how a line of the log says it.

use crate::auth::Grant;
use crate::registry::{ApiError, ApiResult, Operation, Reply, Request};
use crate::resources::{JSON, PROTOBUF, Resource};
use bytes::Bytes;
use prost::Message;
use serde::{Deserialize, Serialize};
use skiff_proto::metav1::PartialObjectMetadata;
use skiff_world::{Identity, World};
use std::collections::BTreeMap;

/// The code of a stream that begins.
const SWITCHING: i32 = 101;
/// How long a request's name is.
const ID_LEN: usize = 16;

/// What was done to which object: everything that a line says.
#[derive(Clone, Debug)]
pub struct Done {
    /// Names the request.
    pub id: String,
    /// Who asked; and as whom, if as somebody else: then these are the rights that counted.
    pub user: Identity,
    /// `create`, ...
    pub verb: &'static str,
    /// To what.
    pub object: Object,
    /// A new object as it was answered or else sent: it has the name that the address has not. And what it is.
    pub named_by: Option<(Bytes, String)>,
    /// The program that asked, as it calls itself.
    pub program: String,
    /// The answer's code.
    pub code: i32,
    /// Of a refusal: its reason and words.
    pub refusal: Option<(String, String)>,
    /// Why it was allowed; absent if it was not, or never came to that.
    pub allowed: Option<Grant>,
    /// Whether it was a dry run.
    pub dry_run: bool,
    /// When it came, and when it was answered.
    pub between: (jiff::Timestamp, jiff::Timestamp),
}

impl Done {
    /// What a request did, and was answered. Nothing is printed yet.
    pub fn of(
        world: &World,
        request: &Request,
        answer: &ApiResult<Reply>,
        granted: Option<Grant>,
        came: jiff::Timestamp,
    ) -> Self {
        let (created, named_by) = match (&request.operation, answer) {
            (Operation::Create(_), Ok(Reply::Object(reply))) => {
                (true, Some((reply.bytes.clone(), reply.content_type.to_owned())))
            }
            (Operation::Create(body), _) => (false, Some((body.bytes.clone(), body.content_type.clone()))),
            (_, Ok(Reply::Object(reply))) => (reply.created, None),
            _ => (false, None),
        };
        let refused = answer.as_ref().err();
        Self {
            id: world.random_suffix(ID_LEN),
            user: request.identity.clone(),
            verb: request.verb(),
            object: Object {
                namespace: request.namespace.clone(),
                name: request.object_name().to_owned(),
                subresource: request.subresource.clone(),
                ..Object::all(&request.resource)
            },
            named_by: named_by.filter(|_| request.name.is_empty()),
            program: request.cause.actor.as_ref().map_or_else(String::new, |actor| actor.component.clone()),
            code: refused.map_or(if created { 201 } else { 200 }, |error| error.code()),
            refusal: refused.map(|error| (error.reason().to_owned(), error.message().to_owned())),
            allowed: granted,
            dry_run: request.dry_run(),
            between: (came, world.wall()),
        }
    }

    /// That a stream was opened, or refused.
    pub fn opened(
        world: &World,
        who: &Identity,
        verb: &'static str,
        object: Object,
        granted: &ApiResult<Grant>,
        came: jiff::Timestamp,
    ) -> Self {
        let refused = granted.as_ref().err();
        Self {
            id: world.random_suffix(ID_LEN),
            user: who.clone(),
            verb,
            object,
            named_by: None,
            program: String::new(),
            code: refused.map_or(SWITCHING, ApiError::code),
            refusal: refused.map(|error| (error.reason().to_owned(), error.message().to_owned())),
            allowed: granted.as_ref().ok().cloned(),
            dry_run: false,
            between: (came, world.wall()),
        }
    }

    /// The object with its name, where only the body says it.
    fn named(&self) -> Object {
        let mut object = self.object.clone();
        let Some((bytes, content_type)) = &self.named_by else { return object };
        object.name = match content_type.as_str() {
            JSON => serde_json::from_slice::<Named>(bytes).unwrap_or_default().metadata.name,
            PROTOBUF => PartialObjectMetadata::decode(bytes.clone()).unwrap_or_default().metadata.name,
            _ => String::new(),
        };
        object
    }
}

impl Object {
    /// All objects of a resource.
    pub fn all(resource: &Resource) -> Self {
        Self {
            resource: resource.resource.clone(),
            api_group: resource.group.clone(),
            api_version: resource.version.clone(),
            ..Self::default()
        }
    }
}

/// As much of a JSON document as its name.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Named {
    metadata: Meta,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Meta {
    name: String,
}

/// An object, or many, as an address.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Object {
    /// The plural.
    pub resource: String,
    /// Empty for many, and for what lives in no namespace.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Empty for many.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The API group.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub api_group: String,
    /// The API version.
    pub api_version: String,
    /// The subresource.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub subresource: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a> {
    kind: &'static str,
    api_version: &'static str,
    level: &'static str,
    #[serde(rename = "auditID")]
    audit_id: &'a str,
    stage: &'static str,
    #[serde(rename = "requestURI")]
    request_uri: String,
    verb: &'static str,
    user: User<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    impersonated_user: Option<User<'a>>,
    #[serde(skip_serializing_if = "str::is_empty")]
    user_agent: &'a str,
    object_ref: &'a Object,
    response_status: Status<'a>,
    request_received_timestamp: String,
    stage_timestamp: String,
    annotations: BTreeMap<&'static str, String>,
}

#[derive(Serialize)]
struct User<'a> {
    username: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    uid: &'a str,
    groups: &'a [String],
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    extra: &'a BTreeMap<String, Vec<String>>,
}

#[derive(Serialize)]
struct Status<'a> {
    metadata: BTreeMap<(), ()>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    code: i32,
}

fn user(who: &Identity) -> User<'_> {
    User { username: &who.user, uid: &who.uid, groups: &who.groups, extra: &who.extra }
}

/// The path at which Kubernetes' API has an object.
fn path(object: &Object) -> String {
    let mut path = match object.api_group.as_str() {
        "" => format!("/api/{}", object.api_version),
        group => format!("/apis/{group}/{}", object.api_version),
    };
    if !object.namespace.is_empty() {
        path.push_str(&format!("/namespaces/{}", object.namespace));
    }
    for part in [&object.resource, &object.name, &object.subresource] {
        if !part.is_empty() {
            path.push('/');
            path.push_str(part);
        }
    }
    path
}

fn time(at: jiff::Timestamp) -> String {
    format!("{at:.6}")
}

/// Adds the line of what was done.
pub fn line(done: &Done, lines: &mut Vec<u8>) {
    let mut annotations = BTreeMap::new();
    match &done.allowed {
        Some(why) => {
            annotations.insert("authorization.k8s.io/decision", "allow".to_owned());
            annotations.insert("authorization.k8s.io/reason", why.to_string());
        }
        None if done.code == 403 => drop(annotations.insert("authorization.k8s.io/decision", "forbid".to_owned())),
        None => {}
    }
    if done.dry_run {
        annotations.insert("skiff.dev/dry-run", "true".to_owned());
    }
    let (asked, judged) = match done.user.impersonator.as_deref() {
        Some(by) => (by, Some(&done.user)),
        None => (&done.user, None),
    };
    let object = done.named();
    let line = Line {
        kind: "Event",
        api_version: "audit.k8s.io/v1",
        level: "Metadata",
        audit_id: &done.id,
        stage: "ResponseComplete",
        request_uri: path(&object),
        verb: done.verb,
        user: user(asked),
        impersonated_user: judged.map(user),
        user_agent: &done.program,
        object_ref: &object,
        response_status: Status {
            metadata: BTreeMap::new(),
            status: done.refusal.as_ref().map(|_| "Failure"),
            message: done.refusal.as_ref().map(|(_, words)| words.as_str()),
            reason: done.refusal.as_ref().map(|(reason, _)| reason.as_str()),
            code: done.code,
        },
        request_received_timestamp: time(done.between.0),
        stage_timestamp: time(done.between.1),
        annotations,
    };
    let before = lines.len();
    match serde_json::to_writer(&mut *lines, &line) {
        Ok(()) => lines.push(b'\n'),
        // Half a line is none.
        Err(why) => {
            lines.truncate(before);
            tracing::error!(%why, "an event cannot be written to the audit log");
        }
    }
}
