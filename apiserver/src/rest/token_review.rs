//! TokenReview: whose is this token? For services that are shown tokens of this cluster.

use super::path::Place;
use super::respond::{self, Answer};
use super::reviews::sent;
use super::{Ask, Rest};
use crate::auth::Asked;
use crate::registry::{ApiError, ApiResult};
use crate::reviews::{AUTHENTICATION, user_info};
use http::{Method, StatusCode};
use prost::Message;
use serde::Deserialize;
use serde_json::json;

const RESOURCE: &str = "tokenreviews";

/// Whether a path asks for one.
pub fn is_one(place: &Place) -> bool {
    (place.group.as_str(), place.version.as_str(), place.resource.as_str()) == (AUTHENTICATION, "v1", RESOURCE)
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default)]
struct Review {
    #[prost(message, optional, tag = "2")]
    spec: Option<Spec>,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default)]
struct Spec {
    #[prost(string, tag = "1")]
    token: String,
    #[prost(string, repeated, tag = "2")]
    audiences: Vec<String>,
}

impl Rest {
    /// Answers one. Only who may create them is told whose a token is.
    pub(super) async fn token_review(&self, ask: &Ask) -> ApiResult<Answer> {
        if ask.method != Method::POST || !ask.place.name.is_empty() {
            return Err(ApiError::method_not_allowed_here(ask.method.as_str()));
        }
        let asked = Asked {
            verb: "create",
            group: AUTHENTICATION,
            resource: RESOURCE,
            subresource: "",
            namespace: "",
            name: "",
        };
        self.registry.authorizer().authorize_review(&ask.identity, &asked)?;
        let spec = sent(ask)?.read::<Review>()?.spec.unwrap_or_default();
        if spec.token.is_empty() {
            return Err(ApiError::bad_request("token is required for TokenReview in authentication"));
        }
        let status = match self.registry.token_holder(&spec.token, &spec.audiences).await {
            Ok(holder) => json!({
                "authenticated": true,
                "user": user_info(&holder.identity),
                "audiences": holder.audiences,
            }),
            Err(why) => json!({"user": {}, "error": why.to_string()}),
        };
        let tree = json!({
            "kind": "TokenReview",
            "apiVersion": format!("{AUTHENTICATION}/v1"),
            "metadata": {"creationTimestamp": null},
            "spec": {"token": spec.token, "audiences": spec.audiences},
            "status": status,
        });
        Ok(respond::tree(StatusCode::CREATED, ask.wanted.encoding, &tree))
    }
}
