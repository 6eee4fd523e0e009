//! Objects as answers: in the form asked for, whole or metadata only.

use super::error::{ApiError, ApiResult};
use super::request::{Format, ObjectReply, Request};
use crate::envelope::{ContentType, with_resource_version};
use crate::resources::{JSON, Object, PROTOBUF, Resource};
use bytes::Bytes;
use prost::Message;
use skiff_proto::metav1::{PartialObjectMetadata, Status};

/// An object as the answer to a request.
pub fn object(request: &Request, object: &dyn Object, warnings: Vec<String>) -> ObjectReply {
    let (bytes, content_type) = if request.metadata_only {
        metadata(object, request.accept)
    } else {
        whole(&request.resource, object, request.accept)
    };
    ObjectReply { bytes, content_type, warnings, deleted: false, created: false }
}

/// An object that was just written, as the answer: the very bytes that are stored, with their revision.
/// `revision` 0: it was not written after all (a dry run).
pub fn written(
    request: &Request,
    object: &mut dyn Object,
    stored: &[u8],
    revision: u64,
    warnings: Vec<String>,
) -> ObjectReply {
    let content_type = request.resource.strategy.stored_as();
    if revision != 0 && request.accept == Format::Protobuf && content_type == ContentType::Protobuf {
        let bytes = with_resource_version(content_type, stored, revision);
        return ObjectReply { bytes, content_type: PROTOBUF, warnings, deleted: false, created: false };
    }
    if revision != 0 {
        object.meta_mut().resource_version = revision.to_string();
    }
    self::object(request, object, warnings)
}

/// The whole object in a form. Kinds without protobuf are answered in JSON.
fn whole(resource: &Resource, object: &dyn Object, format: Format) -> (Bytes, &'static str) {
    if format == Format::Protobuf && resource.strategy.stored_as() == ContentType::Protobuf {
        (object.encode().into(), PROTOBUF)
    } else {
        (object.json_bytes().into(), JSON)
    }
}

/// The metadata alone, in a form.
pub fn metadata(object: &dyn Object, format: Format) -> (Bytes, &'static str) {
    let partial = PartialObjectMetadata { metadata: object.meta().clone() };
    match format {
        Format::Protobuf => (partial.encode_to_vec().into(), PROTOBUF),
        Format::Json => (skiff_proto::json::encode(&partial).into(), JSON),
    }
}

/// `Status: Success`, the answer where there is no object to show.
pub fn success(request: &Request) -> ObjectReply {
    let status = Status { status: "Success".into(), code: 200, ..Default::default() };
    let (bytes, content_type) = match request.accept {
        Format::Protobuf => (status.encode_to_vec().into(), PROTOBUF),
        Format::Json => (skiff_proto::json::encode(&status).into(), JSON),
    };
    ObjectReply { bytes, content_type, warnings: Vec::new(), deleted: false, created: false }
}

/// A body decoded, with what strict validation has to say turned into a refusal or into warnings.
pub fn decode(
    resource: &Resource,
    decoded: Result<crate::resources::Decoded, crate::resources::DecodeError>,
    validation: super::request::FieldValidation,
) -> ApiResult<(Box<dyn Object>, Vec<String>)> {
    use super::request::FieldValidation;
    let decoded = decoded.map_err(|error| match error {
        crate::resources::DecodeError::ContentType(found) => ApiError::unsupported_media_type(&found, Format::READABLE),
        crate::resources::DecodeError::Malformed(why) => ApiError::bad_request(format!(
            "{} in version {:?} cannot be handled as a {}: {why}",
            resource.kind,
            resource.api_version(),
            resource.kind
        )),
    })?;
    let warnings = match validation {
        FieldValidation::Ignore => Vec::new(),
        FieldValidation::Warn => decoded.complaints,
        FieldValidation::Strict if decoded.complaints.is_empty() => Vec::new(),
        FieldValidation::Strict => {
            return Err(ApiError::bad_request(format!("strict decoding error: {}", decoded.complaints.join(", "))));
        }
    };
    Ok((decoded.object, warnings))
}
