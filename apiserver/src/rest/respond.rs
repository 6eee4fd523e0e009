//! Answers on the wire: documents, refusals, warnings.

use super::envelope;
use super::media::Encoding;
use crate::registry::ApiError;
use crate::resources::{JSON, PROTOBUF, YAML};
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use prost::Message;
use tonic::body::Body;

/// An answer.
pub type Answer = Response<Body>;

/// A document of some content type.
pub fn document(status: StatusCode, content_type: &str, body: impl Into<Bytes>) -> Answer {
    stream(status, content_type, Body::new(Full::new(body.into())))
}

/// A body that is made while it is sent.
pub fn stream(status: StatusCode, content_type: &str, body: Body) -> Answer {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(content_type) {
        headers.insert(header::CONTENT_TYPE, value);
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

/// A JSON document in the form wanted. Protobuf is made where the object is; what comes here has none.
pub fn json(status: StatusCode, encoding: Encoding, body: Bytes) -> Answer {
    match encoding {
        Encoding::Yaml => match serde_json::from_slice(&body) {
            Ok(tree) => document(status, YAML, skiff_proto::yaml::write(&tree)),
            Err(error) => refusal(&ApiError::internal(error)),
        },
        Encoding::Json | Encoding::Protobuf => document(status, JSON, body),
    }
}

/// A small JSON tree.
pub fn tree(status: StatusCode, encoding: Encoding, tree: &serde_json::Value) -> Answer {
    json(status, encoding, tree.to_string().into())
}

/// An object in protobuf, in Kubernetes' envelope.
pub fn protobuf(status: StatusCode, body: Bytes) -> Answer {
    document(status, PROTOBUF, body)
}

/// A refusal: Kubernetes' Status.
pub fn refusal(error: &ApiError) -> Answer {
    refusal_in(Encoding::Json, error)
}

/// A refusal in the form wanted.
pub fn refusal_in(encoding: Encoding, error: &ApiError) -> Answer {
    let status = u16::try_from(error.code()).ok().and_then(|code| StatusCode::from_u16(code).ok());
    let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = match encoding {
        Encoding::Protobuf => protobuf(status, envelope::seal("v1", "Status", error.status().encode_to_vec().into())),
        _ => json(status, encoding, skiff_proto::json::encode(error.status()).into()),
    };
    let after = error.status().details.as_ref().map_or(0, |details| details.retry_after_seconds);
    if after > 0 {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(after));
    }
    response
}

/// The most warnings of one answer, and the most bytes of each: headers are bounded.
const WARNINGS_MAX: usize = 20;
const WARNING_MAX: usize = 1024;

/// With `Warning: 299` headers, as kubectl prints them.
pub fn with_warnings(mut response: Answer, warnings: &[String]) -> Answer {
    for warning in warnings.iter().take(WARNINGS_MAX) {
        let mut text = String::with_capacity(warning.len() + 8);
        for c in warning.chars().filter(|c| !c.is_control()) {
            if text.len() >= WARNING_MAX {
                break;
            }
            if matches!(c, '"' | '\\') {
                text.push('\\');
            }
            text.push(c);
        }
        if let Ok(value) = HeaderValue::from_bytes(format!("299 - \"{text}\"").as_bytes()) {
            response.headers_mut().append(header::WARNING, value);
        }
    }
    response
}
