//! What can go wrong between a component and the API server, and what to do about it.

use std::time::Duration;

use prost::Message;
use skiff_proto::metav1;
use tonic::Code;

/// What to do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Somebody else was quicker, or what is known is too old: look again, then try again.
    Now,
    /// Try the same again after a while.
    Backoff,
    /// The same request will fail again: tell the user. (A control loop still looks again, rarely.)
    Never,
}

/// An error of a client. It prints as a sentence for people.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The API server answered, and refused.
    #[error("{}", .status.message)]
    Api {
        /// What was asked: `create pods default/web`.
        operation: String,
        /// Kubernetes' answer.
        status: Box<metav1::Status>,
    },
    /// No API server could be reached; nothing was sent.
    #[error("cannot reach the API server at {servers}: {reason}")]
    Unreachable {
        /// Every address that was tried.
        servers: String,
        /// What the last one said.
        reason: String,
    },
    /// The connection broke after the request had been sent: whether a write happened is unknown.
    #[error("lost the connection to the API server during {operation}: {reason}")]
    Cut {
        /// What was asked.
        operation: String,
        /// What happened.
        reason: String,
    },
    /// No answer came in time: whether a write happened is unknown.
    #[error("no answer from the API server to {operation} within {after:?}")]
    Timeout {
        /// What was asked.
        operation: String,
        /// The time allowed.
        after: Duration,
    },
    /// The answer could not be understood.
    #[error("the API server's answer to {operation} could not be read: {reason}")]
    Decode {
        /// What was asked.
        operation: String,
        /// What is wrong with it.
        reason: String,
    },
    /// What was to be sent could not be written down.
    #[error("cannot write down what to send for {operation}: {reason}")]
    Encode {
        /// What was asked.
        operation: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The configuration does not say how to reach an API server.
    #[error("{place}: {problem}")]
    Config {
        /// Which file and entry.
        place: String,
        /// What is wrong there, and what would be right.
        problem: String,
    },
}

impl Error {
    /// An error that the API server answered.
    pub fn api(operation: impl Into<String>, status: metav1::Status) -> Error {
        Error::Api { operation: operation.into(), status: Box::new(status) }
    }

    /// Reads what gRPC says. A refusal carries a `metav1.Status`; anything without one comes from the wire.
    pub(crate) fn from_grpc(operation: &str, status: &tonic::Status) -> Error {
        let operation = operation.to_string();
        if !status.details().is_empty() {
            return match metav1::Status::decode(status.details()) {
                Ok(status) => Error::api(operation, status),
                Err(error) => Error::Decode { operation, reason: error.to_string() },
            };
        }
        let from_the_wire = std::error::Error::source(status).is_some();
        match (status.code(), reason_of(status.code())) {
            (_, Some((reason, code))) if !from_the_wire => {
                let message = status.message().to_string();
                let status = metav1::Status {
                    status: "Failure".into(),
                    reason: reason.into(),
                    code,
                    message,
                    ..metav1::Status::default()
                };
                Error::api(operation, status)
            }
            _ => {
                let mut reason = status.message().to_string();
                let mut source = std::error::Error::source(status);
                while let Some(error) = source {
                    let text = error.to_string();
                    if !reason.contains(&text) {
                        reason = format!("{reason}: {text}");
                    }
                    source = error.source();
                }
                // Where a library explains itself is of no use to who uses us.
                let reason = reason.split(": https://").next().unwrap_or_default().to_string();
                Error::Cut { operation, reason }
            }
        }
    }

    /// Kubernetes' answer, if there was one.
    pub fn status(&self) -> Option<&metav1::Status> {
        match self {
            Error::Api { status, .. } => Some(status),
            _ => None,
        }
    }

    /// Kubernetes' reason: `NotFound`, `Conflict`, ...; empty if the server did not answer.
    pub fn reason(&self) -> &str {
        self.status().map_or("", |status| &status.reason)
    }

    /// The object does not exist.
    pub fn is_not_found(&self) -> bool {
        self.reason() == "NotFound"
    }

    /// The object has been changed meanwhile (not: its name is taken).
    pub fn is_conflict(&self) -> bool {
        self.reason() == "Conflict"
    }

    /// An object of this name exists.
    pub fn is_already_exists(&self) -> bool {
        self.reason() == "AlreadyExists"
    }

    /// The revision asked for is no longer known: list again.
    pub fn is_expired(&self) -> bool {
        matches!(self.reason(), "Expired" | "Gone")
    }

    /// The server does not know the revision asked for *yet*: it is behind, or its history has gone back.
    pub fn is_ahead_of_server(&self) -> bool {
        let causes = self.status().and_then(|status| status.details.as_ref()).map(|details| &details.causes);
        causes.into_iter().flatten().any(|cause| cause.reason == "ResourceVersionTooLarge")
    }

    /// The API server could not be spoken to (it has not refused anything).
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Error::Unreachable { .. } | Error::Cut { .. } | Error::Timeout { .. })
    }

    /// No fault of the request's: the API server could not be spoken to, or says that it cannot serve anybody now, its
    /// store is away, say.
    pub fn is_outage(&self) -> bool {
        let says_so = ["ServiceUnavailable", "ServerTimeout", "Timeout", "TooManyRequests"];
        self.is_unreachable() || says_so.contains(&self.reason())
    }

    /// Whether a write may have happened although this error says nothing about it.
    pub fn outcome_unknown(&self) -> bool {
        matches!(self, Error::Cut { .. } | Error::Timeout { .. })
    }

    /// Of a write: whether it may have happened all the same. Beside [`Error::outcome_unknown`] that is so when the server
    /// itself does not know: its store took too long, lost its leader or closed in the middle.
    pub fn may_have_been_done(&self) -> bool {
        let open = ["Timeout", "ServerTimeout", "ServiceUnavailable", "InternalError"];
        self.outcome_unknown() || open.contains(&self.reason())
    }

    /// What to do about it.
    pub fn retry(&self) -> Retry {
        match self {
            Error::Unreachable { .. } | Error::Cut { .. } | Error::Timeout { .. } => Retry::Backoff,
            Error::Decode { .. } | Error::Encode { .. } | Error::Config { .. } => Retry::Never,
            Error::Api { status, .. } => match status.reason.as_str() {
                "Conflict" | "Expired" | "Gone" => Retry::Now,
                "TooManyRequests" | "ServerTimeout" | "Timeout" | "InternalError" | "ServiceUnavailable"
                | "AlreadyExists" => Retry::Backoff,
                _ if status.code >= 500 => Retry::Backoff,
                _ => Retry::Never,
            },
        }
    }

    /// How long the server asks to wait, if it does.
    pub fn retry_after(&self) -> Option<Duration> {
        let details = self.status()?.details.as_ref()?;
        let seconds = u64::try_from(details.retry_after_seconds).ok()?;
        (seconds > 0).then(|| Duration::from_secs(seconds))
    }
}

/// Kubernetes' reason and HTTP code for a gRPC code that a server has chosen; `None` for those that the
/// connection's own troubles have.
fn reason_of(code: Code) -> Option<(&'static str, i32)> {
    Some(match code {
        Code::InvalidArgument | Code::OutOfRange => ("BadRequest", 400),
        Code::Unauthenticated => ("Unauthorized", 401),
        Code::PermissionDenied => ("Forbidden", 403),
        Code::NotFound => ("NotFound", 404),
        Code::Unimplemented => ("MethodNotAllowed", 405),
        Code::AlreadyExists => ("AlreadyExists", 409),
        Code::Aborted | Code::FailedPrecondition => ("Conflict", 409),
        Code::ResourceExhausted => ("TooManyRequests", 429),
        Code::Internal | Code::DataLoss => ("InternalError", 500),
        Code::DeadlineExceeded => ("Timeout", 504),
        Code::Ok | Code::Cancelled | Code::Unknown | Code::Unavailable => return None,
    })
}

/// Why an action of a plan failed.
#[derive(Debug, thiserror::Error)]
pub enum ActError {
    /// The API server refused, or could not be reached.
    #[error(transparent)]
    Api(#[from] Error),
    /// What the plan was made from has changed: look again at once.
    #[error("{0}")]
    Changed(String),
    /// Something outside of the API failed (Docker, the kernel): try again with backoff.
    #[error("{0}")]
    Failed(String),
}

impl ActError {
    /// A failure outside of the API, in its own words.
    pub fn failed(error: impl std::fmt::Display) -> ActError {
        ActError::Failed(error.to_string())
    }

    /// What to do about it.
    pub fn retry(&self) -> Retry {
        match self {
            ActError::Api(error) => error.retry(),
            ActError::Changed(_) => Retry::Now,
            ActError::Failed(_) => Retry::Backoff,
        }
    }

    /// Of a write: whether it may have happened all the same.
    pub fn may_have_been_done(&self) -> bool {
        matches!(self, ActError::Api(error) if error.may_have_been_done())
    }

    /// How long the API server asks to wait, if it does.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            ActError::Api(error) => error.retry_after(),
            _ => None,
        }
    }

    /// The API server could not be spoken to, or cannot serve anybody now.
    pub fn is_outage(&self) -> bool {
        matches!(self, ActError::Api(error) if error.is_outage())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn api(reason: &str, code: i32) -> Error {
        let status = metav1::Status { reason: reason.into(), code, ..metav1::Status::default() };
        Error::api("update pods default/web", status)
    }

    #[test]
    fn each_reason_has_its_answer() {
        for (reason, code, retry) in [
            ("Conflict", 409, Retry::Now),
            ("Expired", 410, Retry::Now),
            ("AlreadyExists", 409, Retry::Backoff),
            ("TooManyRequests", 429, Retry::Backoff),
            ("InternalError", 500, Retry::Backoff),
            ("SomethingNew", 503, Retry::Backoff),
            ("NotFound", 404, Retry::Never),
            ("Invalid", 422, Retry::Never),
            ("Forbidden", 403, Retry::Never),
        ] {
            assert_eq!(api(reason, code).retry(), retry, "{reason}");
        }
    }

    #[test]
    fn a_server_that_cannot_serve_is_out_for_everybody_and_may_have_written_all_the_same() {
        for (reason, code, out, open) in [
            ("ServiceUnavailable", 503, true, true),
            ("Timeout", 504, true, true),
            ("TooManyRequests", 429, true, false),
            ("InternalError", 500, false, true),
            ("Conflict", 409, false, false),
            ("Forbidden", 403, false, false),
        ] {
            let error = ActError::from(api(reason, code));
            assert_eq!((error.is_outage(), error.may_have_been_done()), (out, open), "{reason}");
        }
        assert!(Error::from_grpc("get nodes n1", &tonic::Status::unavailable("gone")).is_outage());
    }

    #[test]
    fn a_refusal_keeps_its_status_across_grpc() {
        let sent = metav1::Status {
            reason: "NotFound".into(),
            message: "pods \"web\" not found".into(),
            code: 404,
            ..metav1::Status::default()
        };
        let grpc = tonic::Status::with_details(Code::NotFound, "m", sent.encode_to_vec().into());
        let error = Error::from_grpc("get pods default/web", &grpc);
        assert!(error.is_not_found());
        assert_eq!(error.status(), Some(&sent));
        assert_eq!(error.to_string(), "pods \"web\" not found");
    }

    #[test]
    fn without_a_status_the_code_tells_refusal_from_a_broken_wire() {
        let refused = Error::from_grpc("get nodes n1", &tonic::Status::unauthenticated("who are you?"));
        assert_eq!(refused.reason(), "Unauthorized");
        assert_eq!(refused.retry(), Retry::Never);

        for broken in
            [tonic::Status::unavailable("gone"), tonic::Status::unknown("h2 reset"), tonic::Status::cancelled("c")]
        {
            let error = Error::from_grpc("create pods default/web", &broken);
            assert!(error.outcome_unknown() && error.is_unreachable(), "{error}");
        }

        let learned = tonic::Status::unknown("closed without close_notify: https://docs.rs/rustls/manual#eof");
        let error = Error::from_grpc("watch pods", &learned).to_string();
        assert!(error.ends_with("closed without close_notify"), "{error}");
    }
}
