//! Reviews over REST: what may somebody do, and who am I. They are answered by `crate::reviews`.

use super::media::{self, Encoding};
use super::path::Place;
use super::respond::{self, Answer};
use super::{Ask, Rest, envelope};
use crate::registry::{ApiError, ApiResult, Format};
use crate::resources::{JSON, PROTOBUF, YAML};
use crate::reviews::{self, Kind, Sent};
use http::{Method, StatusCode};

/// Which review a path asks for, if it asks for one.
pub fn kind(place: &Place) -> Option<Kind> {
    Kind::of(&place.group, &place.version, &place.resource)
}

/// A review, in any form it may be sent in.
pub(super) fn sent(ask: &Ask) -> ApiResult<Sent> {
    let wrong = |why: String| ApiError::bad_request(format!("the body cannot be handled as a review: {why}"));
    match media::sent(&ask.headers).as_str() {
        PROTOBUF => Ok(Sent::Protobuf(envelope::open(&ask.body)?.raw)),
        JSON => serde_json::from_slice(&ask.body).map(Sent::Document).map_err(|e| wrong(e.to_string())),
        YAML => crate::resources::yaml_to_tree(&ask.body).map(Sent::Document).map_err(|e| wrong(e.to_string())),
        other => Err(ApiError::unsupported_media_type(other, Format::READABLE)),
    }
}

impl Rest {
    /// Answers a review.
    pub(super) fn review(&self, ask: &Ask, kind: Kind) -> ApiResult<Answer> {
        let place = &ask.place;
        let local = kind == Kind::LocalSubjectAccess;
        if ask.method != Method::POST || !place.name.is_empty() || place.namespace.is_empty() == local {
            return Err(ApiError::method_not_allowed_here(ask.method.as_str()));
        }
        let authorizer = self.registry.authorizer();
        let answer = reviews::answer(authorizer, &ask.identity, kind, &place.namespace, sent(ask)?)?;
        Ok(match (ask.wanted.encoding, answer.protobuf) {
            (Encoding::Protobuf, Some(raw)) => {
                let (kind, version) = kind.names();
                respond::protobuf(StatusCode::CREATED, envelope::seal(version, kind, raw.into()))
            }
            (encoding, _) => respond::tree(StatusCode::CREATED, encoding, &answer.tree),
        })
    }
}
