//! Every refusal of the API server, as Kubernetes' `Status`: a reason programs act on, a code, and words people act on.

use crate::resources::{FieldError, Resource};
use skiff_proto::metav1;

/// A refusal. Made by its constructors only, so that each reason has one wording.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{}", .0.message)]
pub struct ApiError(Box<metav1::Status>);

/// What an operation of the registry answers.
pub type ApiResult<T> = Result<T, ApiError>;

impl ApiError {
    fn new(code: i32, reason: &str, message: impl Into<String>) -> Self {
        Self(Box::new(metav1::Status {
            status: "Failure".into(),
            message: message.into(),
            reason: reason.into(),
            code,
            ..Default::default()
        }))
    }

    fn about(mut self, resource: &Resource, name: &str) -> Self {
        let details = self.details();
        details.name = name.into();
        details.group = resource.group.clone();
        details.kind = resource.resource.clone();
        self
    }

    fn details(&mut self) -> &mut metav1::StatusDetails {
        self.0.details.get_or_insert_with(Default::default)
    }

    fn cause(mut self, reason: &str, message: &str, field: &str) -> Self {
        self.details().causes.push(metav1::StatusCause {
            reason: reason.into(),
            message: message.into(),
            field: field.into(),
        });
        self
    }

    /// 400: the request itself is wrong.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// 401: nobody is asking.
    pub fn unauthorized() -> Self {
        Self::new(
            401,
            "Unauthorized",
            "Unauthorized: this request carries neither a valid client certificate nor a bearer token; use a kubeconfig of this cluster",
        )
    }

    /// 401: what is shown as proof of who asks is no proof.
    pub fn bad_token(why: &dyn std::fmt::Display) -> Self {
        Self::new(401, "Unauthorized", format!("Unauthorized: the bearer token is refused: {why}"))
    }

    /// 403: this identity may not do that.
    pub fn forbidden(resource: &Resource, name: &str, why: impl std::fmt::Display) -> Self {
        let of = if name.is_empty() { String::new() } else { format!(" {name:?}") };
        Self::new(403, "Forbidden", format!("{}{of} is forbidden: {why}", resource.qualified())).about(resource, name)
    }

    /// 403 for something that is not a resource.
    pub fn forbidden_here(why: impl Into<String>) -> Self {
        Self::new(403, "Forbidden", why)
    }

    /// 404: the object does not exist.
    pub fn not_found(resource: &Resource, name: &str) -> Self {
        Self::new(404, "NotFound", format!("{} {name:?} not found", resource.qualified())).about(resource, name)
    }

    /// 404: there is no such resource, subresource or address.
    pub fn no_such_resource(message: impl Into<String>) -> Self {
        let mut error = Self::new(404, "NotFound", message);
        // kubectl looks into the details of whatever is not found.
        error.details();
        error
    }

    /// 405: the resource exists and does not do that.
    pub fn method_not_allowed(resource: &Resource, what: &str) -> Self {
        Self::new(
            405,
            "MethodNotAllowed",
            format!("{what} is not supported on resources of kind {:?}", resource.qualified()),
        )
        .about(resource, "")
    }

    /// 405: the path exists and does not do that.
    pub fn not_allowed(message: impl Into<String>) -> Self {
        Self::new(405, "MethodNotAllowed", message)
    }

    /// 415: the content type cannot be read.
    pub fn unsupported_media_type(content_type: &str, supported: &[&str]) -> Self {
        Self::new(
            415,
            "UnsupportedMediaType",
            format!("content type {content_type:?} is not supported here; supported are: {}", supported.join(", ")),
        )
    }

    /// 405 for something that is no resource of the table.
    pub fn method_not_allowed_here(what: &str) -> Self {
        Self::new(405, "MethodNotAllowed", format!("{what} is not supported here"))
    }

    /// 406: the answer cannot be had in any form the client takes.
    pub fn not_acceptable(message: &str) -> Self {
        Self::new(406, "NotAcceptable", message)
    }

    /// 409: an object of this name is there already.
    pub fn already_exists(resource: &Resource, name: &str) -> Self {
        Self::new(409, "AlreadyExists", format!("{} {name:?} already exists", resource.qualified()))
            .about(resource, name)
    }

    /// 409: somebody else was quicker, or a precondition does not hold.
    pub fn conflict(resource: &Resource, name: &str, why: impl std::fmt::Display) -> Self {
        Self::new(409, "Conflict", format!("Operation cannot be fulfilled on {} {name:?}: {why}", resource.qualified()))
            .about(resource, name)
    }

    /// 409: an apply would change fields that others manage; per field, who does (`conflict with "x"`) and its path.
    pub fn apply_conflict(resource: &Resource, fields: &[(String, String)]) -> Self {
        let mut message =
            format!("Apply failed with {} conflict{}: ", fields.len(), if fields.len() == 1 { "" } else { "s" });
        for (i, (with, field)) in fields.iter().enumerate() {
            if fields.len() == 1 {
                message.push_str(&format!("{with}: {field}"));
                continue;
            }
            if i == 0 || fields[i - 1].0 != *with {
                let separator = if i == 0 { "" } else { "\n" };
                message.push_str(&format!("{separator}{}:", with.replacen("conflict", "conflicts", 1)));
            }
            message.push_str(&format!("\n- {field}"));
        }
        let refused = Self::new(409, "Conflict", message).about(resource, "");
        fields.iter().fold(refused, |refused, (with, field)| refused.cause("FieldManagerConflict", with, field))
    }

    /// 409: the object changed since the writer read it.
    pub fn modified(resource: &Resource, name: &str) -> Self {
        Self::conflict(
            resource,
            name,
            "the object has been modified; please apply your changes to the latest version and try again",
        )
    }

    /// 410: the revision asked for is no longer kept.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    /// 413: more bytes than the server takes.
    pub fn too_large(what: &str, size: usize, limit: usize) -> Self {
        Self::new(
            413,
            "RequestEntityTooLarge",
            format!("Request entity too large: {what} has {size} bytes and the limit is {limit}"),
        )
    }

    /// 422: the object is invalid; every error is a cause.
    pub fn invalid(resource: &Resource, name: &str, errors: &[FieldError]) -> Self {
        let all: Vec<String> = errors.iter().map(ToString::to_string).collect();
        let list = if all.len() == 1 { all.concat() } else { format!("[{}]", all.join(", ")) };
        let kind = if resource.group.is_empty() {
            resource.kind.clone()
        } else {
            format!("{}.{}", resource.kind, resource.group)
        };
        let mut error = Self::new(422, "Invalid", format!("{kind} {name:?} is invalid: {list}"));
        let details = error.details();
        details.name = name.into();
        details.group = resource.group.clone();
        details.kind = resource.kind.clone();
        for e in errors {
            error = error.cause(e.kind.reason(), &e.message(), &e.path);
        }
        error
    }

    /// 429: too much at once; try again later.
    pub fn too_many_requests(message: impl Into<String>, retry_after_seconds: i32) -> Self {
        let mut error = Self::new(429, "TooManyRequests", message);
        error.details().retry_after_seconds = retry_after_seconds;
        error
    }

    /// 500: the server's own fault.
    pub fn internal(message: impl std::fmt::Display) -> Self {
        Self::new(500, "InternalError", format!("Internal error occurred: {message}"))
    }

    /// 501: known, and not there yet.
    pub fn not_implemented(message: impl Into<String>) -> Self {
        Self::new(501, "NotImplemented", message)
    }

    /// 503: cannot serve now.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(503, "ServiceUnavailable", message)
    }

    /// 504: it took too long.
    pub fn timeout(message: impl Into<String>) -> Self {
        let mut error = Self::new(504, "Timeout", message);
        error.details().retry_after_seconds = 1;
        error
    }

    /// 504: a revision that has not been reached.
    pub fn revision_too_large(asked: u64, current: u64) -> Self {
        Self::timeout(format!("Too large resource version: {asked}, current: {current}")).cause(
            "ResourceVersionTooLarge",
            "Too large resource version",
            "",
        )
    }

    /// With a cause that programs can tell.
    pub fn because(self, reason: &str, message: &str, field: &str) -> Self {
        self.cause(reason, message, field)
    }

    /// 422: the options of a request are invalid.
    pub fn invalid_options(message: &str) -> Self {
        Self::new(422, "Invalid", message)
    }

    /// With a token at which a list may be continued, inconsistently (after `expired`).
    pub fn with_continue(mut self, token: String) -> Self {
        self.0.metadata.r#continue = token;
        self
    }

    /// The HTTP code.
    pub fn code(&self) -> i32 {
        self.0.code
    }

    /// The reason programs act on.
    pub fn reason(&self) -> &str {
        &self.0.reason
    }

    /// The words.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The whole Status.
    pub fn status(&self) -> &metav1::Status {
        &self.0
    }
}
