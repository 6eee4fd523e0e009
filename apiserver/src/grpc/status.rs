//! Errors on the wire: a gRPC status whose details are Kubernetes' `Status` in protobuf.

use crate::registry::ApiError;
use bytes::Bytes;
use prost::Message;
use tonic::{Code, Status};

/// The most details sent: they travel in a header.
const DETAILS_MAX: usize = 4 * 1024;
const MESSAGE_MAX: usize = 2 * 1024;

/// A refusal as gRPC carries it.
pub fn to_grpc(error: ApiError) -> Status {
    let code = match error.reason() {
        "NotFound" => Code::NotFound,
        "AlreadyExists" => Code::AlreadyExists,
        "Conflict" => Code::Aborted,
        "Invalid" | "BadRequest" | "UnsupportedMediaType" => Code::InvalidArgument,
        "Forbidden" => Code::PermissionDenied,
        "Unauthorized" => Code::Unauthenticated,
        "Expired" => Code::OutOfRange,
        "TooManyRequests" | "RequestEntityTooLarge" => Code::ResourceExhausted,
        "Timeout" => Code::DeadlineExceeded,
        "MethodNotAllowed" | "NotImplemented" => Code::Unimplemented,
        "ServiceUnavailable" => Code::Unavailable,
        _ => Code::Internal,
    };
    let mut status = error.status().clone();
    // Headers are bounded: long words are cut, then causes dropped from the end.
    status.message = cut(&status.message);
    while status.encoded_len() > DETAILS_MAX {
        match status.details.as_mut().filter(|details| !details.causes.is_empty()) {
            Some(details) => details.causes.truncate(details.causes.len() * 3 / 4),
            None => break,
        }
    }
    let message = status.message.clone();
    Status::with_details(code, message, Bytes::from(status.encode_to_vec()))
}

fn cut(message: &str) -> String {
    if message.len() <= MESSAGE_MAX {
        return message.to_string();
    }
    let end = (0..=MESSAGE_MAX).rev().find(|at| message.is_char_boundary(*at)).unwrap_or(0);
    format!("{}...", &message[..end])
}

#[cfg(test)]
mod tests {
    use super::*;
    use skiff_proto::metav1;

    #[test]
    fn the_details_are_the_status_and_stay_small() {
        let error = ApiError::bad_request("x".repeat(100_000));
        let grpc = to_grpc(error);
        assert_eq!(grpc.code(), Code::InvalidArgument);
        assert!(grpc.details().len() <= DETAILS_MAX && grpc.message().len() < DETAILS_MAX);
        let status = metav1::Status::decode(grpc.details()).expect("a Status");
        assert_eq!((status.code, status.reason.as_str()), (400, "BadRequest"));
    }
}
