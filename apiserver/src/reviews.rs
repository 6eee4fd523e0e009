//! What may somebody do, and who am I: `auth can-i`, `whoami`, and what other servers ask about their callers. Both faces
//! come here, and the answer is the authorizer's own: by the same code and objects that let requests through.

use crate::auth::{Asked, Authorizer, Grant};
use crate::registry::{ApiError, ApiResult};
use prost::Message;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use skiff_proto::metav1::ObjectMeta;
use skiff_world::Identity;
use std::collections::BTreeMap;

/// The group of questions about rights.
pub const AUTHORIZATION: &str = "authorization.k8s.io";
/// The group of questions about identities.
pub const AUTHENTICATION: &str = "authentication.k8s.io";

/// A kind of review: a question that is never stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// May I?
    SelfSubjectAccess,
    /// May they?
    SubjectAccess,
    /// May they, in this namespace?
    LocalSubjectAccess,
    /// What may I?
    SelfSubjectRules,
    /// Who am I?
    SelfSubject,
}

impl Kind {
    /// The kind that a resource's name means.
    pub fn of(group: &str, version: &str, resource: &str) -> Option<Self> {
        Some(match (group, version, resource) {
            (AUTHORIZATION, "v1", "selfsubjectaccessreviews") => Self::SelfSubjectAccess,
            (AUTHORIZATION, "v1", "subjectaccessreviews") => Self::SubjectAccess,
            (AUTHORIZATION, "v1", "localsubjectaccessreviews") => Self::LocalSubjectAccess,
            (AUTHORIZATION, "v1", "selfsubjectrulesreviews") => Self::SelfSubjectRules,
            (AUTHENTICATION, "v1", "selfsubjectreviews") => Self::SelfSubject,
            _ => return None,
        })
    }

    /// Its name in documents, and its API version.
    pub fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::SelfSubjectAccess => ("SelfSubjectAccessReview", "authorization.k8s.io/v1"),
            Self::SubjectAccess => ("SubjectAccessReview", "authorization.k8s.io/v1"),
            Self::LocalSubjectAccess => ("LocalSubjectAccessReview", "authorization.k8s.io/v1"),
            Self::SelfSubjectRules => ("SelfSubjectRulesReview", "authorization.k8s.io/v1"),
            Self::SelfSubject => ("SelfSubjectReview", "authentication.k8s.io/v1"),
        }
    }

    fn address(self) -> (&'static str, String) {
        let (kind, version) = self.names();
        (version.trim_end_matches("/v1"), format!("{}s", kind.to_lowercase()))
    }
}

/// A question of access. The fields of its spec are the same for all three kinds; two of them have fewer.
#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default)]
struct Access {
    #[prost(message, optional, tag = "1")]
    metadata: Option<ObjectMeta>,
    #[prost(message, optional, tag = "2")]
    spec: Option<AccessSpec>,
    #[prost(message, optional, tag = "3")]
    #[serde(skip)]
    status: Option<AccessStatus>,
}

#[derive(Clone, PartialEq, Message, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
struct AccessSpec {
    #[prost(message, optional, tag = "1")]
    #[serde(skip_serializing_if = "Option::is_none")]
    resource_attributes: Option<ResourceAttributes>,
    #[prost(message, optional, tag = "2")]
    #[serde(skip_serializing_if = "Option::is_none")]
    non_resource_attributes: Option<NonResourceAttributes>,
    #[prost(string, tag = "3")]
    #[serde(skip_serializing_if = "String::is_empty")]
    user: String,
    #[prost(string, repeated, tag = "4")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    groups: Vec<String>,
    #[prost(btree_map = "string, message", tag = "5")]
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    extra: BTreeMap<String, ExtraValue>,
    #[prost(string, tag = "6")]
    #[serde(skip_serializing_if = "String::is_empty")]
    uid: String,
}

/// In JSON, a list.
#[derive(Clone, PartialEq, Message, Deserialize, Serialize)]
#[serde(transparent)]
struct ExtraValue {
    #[prost(string, repeated, tag = "1")]
    items: Vec<String>,
}

#[derive(Clone, PartialEq, Message, Deserialize, Serialize)]
#[serde(default)]
struct ResourceAttributes {
    #[prost(string, tag = "1")]
    #[serde(skip_serializing_if = "String::is_empty")]
    namespace: String,
    #[prost(string, tag = "2")]
    #[serde(skip_serializing_if = "String::is_empty")]
    verb: String,
    #[prost(string, tag = "3")]
    #[serde(skip_serializing_if = "String::is_empty")]
    group: String,
    #[prost(string, tag = "4")]
    #[serde(skip_serializing_if = "String::is_empty")]
    version: String,
    #[prost(string, tag = "5")]
    #[serde(skip_serializing_if = "String::is_empty")]
    resource: String,
    #[prost(string, tag = "6")]
    #[serde(skip_serializing_if = "String::is_empty")]
    subresource: String,
    #[prost(string, tag = "7")]
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
}

#[derive(Clone, PartialEq, Message, Deserialize, Serialize)]
#[serde(default)]
struct NonResourceAttributes {
    #[prost(string, tag = "1")]
    #[serde(skip_serializing_if = "String::is_empty")]
    path: String,
    #[prost(string, tag = "2")]
    #[serde(skip_serializing_if = "String::is_empty")]
    verb: String,
}

#[derive(Clone, PartialEq, Message, Serialize)]
struct AccessStatus {
    #[prost(bool, tag = "1")]
    allowed: bool,
    #[prost(string, tag = "2")]
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default)]
struct Rules {
    #[prost(message, optional, tag = "2")]
    spec: Option<RulesSpec>,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default)]
struct RulesSpec {
    #[prost(string, tag = "1")]
    namespace: String,
}

/// A question, as it came.
pub enum Sent {
    /// Bare protobuf.
    Protobuf(bytes::Bytes),
    /// A document.
    Document(Value),
}

impl Sent {
    /// Reads it as a review of its kind.
    pub fn read<M: Message + Default + for<'de> Deserialize<'de>>(self) -> ApiResult<M> {
        let wrong = |why: String| ApiError::bad_request(format!("the body cannot be handled as a review: {why}"));
        match self {
            Self::Protobuf(bytes) => M::decode(bytes).map_err(|e| wrong(e.to_string())),
            Self::Document(tree) => serde_json::from_value(tree).map_err(|e| wrong(e.to_string())),
        }
    }
}

/// An answer, in both forms; the second has no protobuf where clients take JSON for it.
pub struct Answer {
    /// As a document.
    pub tree: Value,
    /// As Kubernetes' protobuf, without its envelope.
    pub protobuf: Option<Vec<u8>>,
}

/// Answers a review of an identity, who needs the right to ask it.
pub fn answer(
    authorizer: &Authorizer,
    caller: &Identity,
    kind: Kind,
    namespace: &str,
    sent: Sent,
) -> ApiResult<Answer> {
    let (group, resource) = kind.address();
    let asked = Asked { verb: "create", group, resource: &resource, subresource: "", namespace, name: "" };
    authorizer.authorize_review(caller, &asked)?;
    let document = match kind {
        Kind::SelfSubject => {
            json!({"metadata": {"creationTimestamp": null}, "status": {"userInfo": user_info(caller)}})
        }
        Kind::SelfSubjectRules => rules(authorizer, caller, &sent.read::<Rules>()?.spec.unwrap_or_default()),
        _ => return access(authorizer, caller, kind, namespace, sent.read()?),
    };
    Ok(Answer { tree: named(kind, document), protobuf: None })
}

fn named(kind: Kind, mut document: Value) -> Value {
    let (name, version) = kind.names();
    document["kind"] = name.into();
    document["apiVersion"] = version.into();
    document
}

/// A user, as reviews show it.
pub fn user_info(who: &Identity) -> Value {
    let mut user = json!({"username": who.user, "groups": who.groups});
    if !who.uid.is_empty() {
        user["uid"] = who.uid.as_str().into();
    }
    if !who.extra.is_empty() {
        user["extra"] = json!(who.extra);
    }
    user
}

fn access(
    authorizer: &Authorizer,
    caller: &Identity,
    kind: Kind,
    namespace: &str,
    mut review: Access,
) -> ApiResult<Answer> {
    let spec = review.spec.get_or_insert_default();
    let about = match kind {
        Kind::SelfSubjectAccess => {
            // Of others nobody asks here.
            *spec = AccessSpec {
                resource_attributes: spec.resource_attributes.take(),
                non_resource_attributes: spec.non_resource_attributes.take(),
                ..AccessSpec::default()
            };
            caller.clone()
        }
        _ => somebody(spec)?,
    };
    if kind == Kind::LocalSubjectAccess && spec.resource_attributes.as_ref().is_none_or(|a| a.namespace != namespace) {
        return Err(ApiError::bad_request(format!(
            "spec.resourceAttributes.namespace: must be the namespace of the review, {namespace:?}"
        )));
    }
    let (grant, place) = decide(authorizer, &about, spec)?;
    let status = AccessStatus {
        allowed: grant.is_some(),
        reason: grant.map_or_else(|| authorizer.why_not(&about, &place), |grant| grant.to_string()),
    };
    let tree = json!({"metadata": {"creationTimestamp": null}, "spec": spec, "status": status});
    review.status = Some(status);
    Ok(Answer { tree: named(kind, tree), protobuf: Some(review.encode_to_vec()) })
}

/// Whom a review for others is about.
fn somebody(spec: &AccessSpec) -> ApiResult<Identity> {
    if spec.user.is_empty() && spec.groups.is_empty() {
        return Err(ApiError::bad_request("spec.user: at least one of user and groups must be there"));
    }
    Ok(Identity {
        user: spec.user.clone(),
        groups: spec.groups.clone(),
        uid: spec.uid.clone(),
        extra: spec.extra.iter().map(|(key, value)| (key.clone(), value.items.clone())).collect(),
        impersonator: None,
    })
}

/// The decision, and the namespace that it was about.
fn decide(authorizer: &Authorizer, about: &Identity, spec: &AccessSpec) -> ApiResult<(Option<Grant>, String)> {
    match (&spec.resource_attributes, &spec.non_resource_attributes) {
        (Some(a), None) => {
            let asked = Asked {
                verb: &a.verb,
                group: &a.group,
                resource: &a.resource,
                subresource: &a.subresource,
                namespace: &a.namespace,
                name: &a.name,
            };
            Ok((authorizer.decide(about, &asked), a.namespace.clone()))
        }
        (None, Some(a)) => Ok((authorizer.decide_path(about, &a.verb, &a.path), String::new())),
        _ => Err(ApiError::bad_request(
            "spec: exactly one of resourceAttributes and nonResourceAttributes must be there",
        )),
    }
}

fn rules(authorizer: &Authorizer, caller: &Identity, spec: &RulesSpec) -> Value {
    let held = authorizer.rules(caller, &spec.namespace);
    let (paths, resources): (Vec<_>, Vec<_>) = held.iter().partition(|rule| rule.resources.is_empty());
    let resources: Vec<Value> = resources
        .into_iter()
        .map(|rule| {
            let mut tree = json!({"verbs": rule.verbs, "apiGroups": rule.api_groups, "resources": rule.resources});
            if !rule.resource_names.is_empty() {
                tree["resourceNames"] = json!(rule.resource_names);
            }
            tree
        })
        .collect();
    let paths: Vec<Value> =
        paths.into_iter().map(|rule| json!({"verbs": rule.verbs, "nonResourceURLs": rule.non_resource_urls})).collect();
    json!({
        "metadata": {"creationTimestamp": null},
        "spec": {},
        // A node's reads and writes are narrowed further, to its own and what its Pods need.
        "status": {
            "resourceRules": resources,
            "nonResourceRules": paths,
            "incomplete": crate::auth::node_name(caller).is_some(),
        },
    })
}
