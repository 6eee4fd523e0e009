//! What may I do, and who am I: `kubectl auth can-i` and `whoami`, answered from the same allow tables that decide.

use super::media;
use super::path::Place;
use super::respond::{self, Answer};
use super::{Ask, Rest, envelope};
use crate::auth::Question;
use crate::registry::{ApiError, ApiResult, Format};
use crate::resources::{JSON, PROTOBUF, YAML};
use http::{Method, StatusCode};
use prost::Message;
use serde::Deserialize;
use serde_json::{Value, json};

const AUTHORIZATION: &str = "authorization.k8s.io";
const AUTHENTICATION: &str = "authentication.k8s.io";

/// Whether a path asks for one.
pub fn is_review(place: &Place) -> bool {
    place.version == "v1"
        && matches!(
            (place.group.as_str(), place.resource.as_str()),
            (AUTHORIZATION, "selfsubjectaccessreviews" | "selfsubjectrulesreviews")
                | (AUTHENTICATION, "selfsubjectreviews")
        )
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Review {
    #[prost(message, optional, tag = "2")]
    spec: Option<Spec>,
}

/// The spec of an access review; that of a rules review has `namespace` as its field 1.
#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    #[prost(message, optional, tag = "1")]
    resource_attributes: Option<ResourceAttributes>,
    #[prost(message, optional, tag = "2")]
    non_resource_attributes: Option<NonResourceAttributes>,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ResourceAttributes {
    #[prost(string, tag = "1")]
    namespace: String,
    #[prost(string, tag = "2")]
    verb: String,
    #[prost(string, tag = "3")]
    group: String,
    #[prost(string, tag = "4")]
    version: String,
    #[prost(string, tag = "5")]
    resource: String,
    #[prost(string, tag = "6")]
    subresource: String,
    #[prost(string, tag = "7")]
    name: String,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct NonResourceAttributes {
    #[prost(string, tag = "1")]
    path: String,
    #[prost(string, tag = "2")]
    verb: String,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default)]
struct RulesReview {
    #[prost(message, optional, tag = "2")]
    spec: Option<RulesSpec>,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default)]
struct RulesSpec {
    #[prost(string, tag = "1")]
    namespace: String,
}

/// Reads a review in any form it may be sent in.
fn read<M: Message + Default + for<'de> Deserialize<'de>>(ask: &Ask) -> ApiResult<M> {
    let wrong = |why: String| ApiError::bad_request(format!("the body cannot be handled as a review: {why}"));
    match media::sent(&ask.headers).as_str() {
        PROTOBUF => M::decode(envelope::open(&ask.body)?.raw).map_err(|e| wrong(e.to_string())),
        JSON => serde_json::from_slice(&ask.body).map_err(|e| wrong(e.to_string())),
        YAML => {
            let tree = crate::resources::yaml_to_tree(&ask.body).map_err(|e| wrong(e.to_string()))?;
            serde_json::from_value(tree).map_err(|e| wrong(e.to_string()))
        }
        other => Err(ApiError::unsupported_media_type(other, Format::READABLE)),
    }
}

impl Rest {
    /// Answers a review. Everybody who is somebody may ask about themselves.
    pub(super) fn review(&self, ask: &Ask) -> ApiResult<Answer> {
        if ask.method != Method::POST || !ask.place.name.is_empty() {
            return Err(ApiError::method_not_allowed_here(ask.method.as_str()));
        }
        let tree = match ask.place.resource.as_str() {
            "selfsubjectreviews" => who(ask),
            "selfsubjectrulesreviews" => self.rules(ask, &read::<RulesReview>(ask)?.spec.unwrap_or_default()),
            _ => self.access(ask, &read::<Review>(ask)?.spec.unwrap_or_default())?,
        };
        Ok(respond::tree(StatusCode::CREATED, ask.wanted.encoding, &tree))
    }

    fn access(&self, ask: &Ask, spec: &Spec) -> ApiResult<Value> {
        let (allowed, attributes) = match (&spec.resource_attributes, &spec.non_resource_attributes) {
            (Some(a), None) => {
                let question = Question {
                    verb: &a.verb,
                    group: &a.group,
                    resource: &a.resource,
                    subresource: &a.subresource,
                    namespace: &a.namespace,
                    name: &a.name,
                };
                let attributes = json!({"resourceAttributes": {
                    "namespace": a.namespace, "verb": a.verb, "group": a.group, "version": a.version,
                    "resource": a.resource, "subresource": a.subresource, "name": a.name,
                }});
                (self.registry.authorizer().may(&ask.identity, &question), attributes)
            }
            (None, Some(a)) => {
                let open = ["/version", "/healthz", "/livez", "/readyz", "/api", "/apis", "/openapi"];
                let is_open = a.verb == "get"
                    && open.iter().any(|path| a.path == *path || a.path.starts_with(&format!("{path}/")));
                let allowed = crate::auth::is_admin(&ask.identity) || is_open;
                (allowed, json!({"nonResourceAttributes": {"path": a.path, "verb": a.verb}}))
            }
            _ => {
                return Err(ApiError::bad_request(
                    "spec: exactly one of resourceAttributes and nonResourceAttributes must be there",
                ));
            }
        };
        Ok(json!({
            "kind": "SelfSubjectAccessReview",
            "apiVersion": "authorization.k8s.io/v1",
            "metadata": {"creationTimestamp": null},
            "spec": attributes,
            "status": {"allowed": allowed},
        }))
    }

    fn rules(&self, ask: &Ask, spec: &RulesSpec) -> Value {
        let own = crate::auth::rules_of(&ask.identity, &spec.namespace);
        let mut resources: Vec<Value> = own
            .into_iter()
            .map(|(verbs, group, resources)| json!({"verbs": verbs, "apiGroups": [group], "resources": resources}))
            .collect();
        resources.push(json!({
            "verbs": ["create"],
            "apiGroups": [AUTHORIZATION],
            "resources": ["selfsubjectaccessreviews", "selfsubjectrulesreviews"],
        }));
        resources
            .push(json!({"verbs": ["create"], "apiGroups": [AUTHENTICATION], "resources": ["selfsubjectreviews"]}));
        let mut paths = vec![json!({
            "verbs": ["get"],
            "nonResourceURLs": ["/version", "/healthz", "/livez", "/readyz", "/api", "/api/*", "/apis", "/apis/*", "/openapi", "/openapi/*"],
        })];
        if crate::auth::is_admin(&ask.identity) {
            paths.push(json!({"verbs": ["*"], "nonResourceURLs": ["*"]}));
        }
        json!({
            "kind": "SelfSubjectRulesReview",
            "apiVersion": "authorization.k8s.io/v1",
            "metadata": {"creationTimestamp": null},
            "spec": {},
            // A node's reads and writes are narrowed further, to its own and what its Pods need.
            "status": {
                "resourceRules": resources,
                "nonResourceRules": paths,
                "incomplete": crate::auth::node_name(&ask.identity).is_some(),
            },
        })
    }
}

fn who(ask: &Ask) -> Value {
    let who = &ask.identity;
    let mut user = json!({"username": who.user, "groups": who.groups});
    if !who.uid.is_empty() {
        user["uid"] = who.uid.as_str().into();
    }
    if !who.extra.is_empty() {
        user["extra"] = json!(who.extra);
    }
    json!({
        "kind": "SelfSubjectReview",
        "apiVersion": "authentication.k8s.io/v1",
        "metadata": {"creationTimestamp": null},
        "status": {"userInfo": user},
    })
}
