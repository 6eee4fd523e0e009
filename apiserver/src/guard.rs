//! What keeps one request from harming others: a defect met while it is answered becomes an answer in words and a line
//! in the log, with one number in both; and a body that does not come is not waited for without end.
//!
//! A panic in a task ends its World, and with it the server: nothing that a client sends may get so far.

use crate::registry::ApiError;
use crate::rest::refusal;
use futures::FutureExt;
use http::Response;
use http_body::{Frame, SizeHint};
use skiff_world::World;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tonic::Status;
use tonic::body::Body;

/// An answer; if the handler panics, the words for that.
pub async fn answer<F>(world: &World, what: Asked, handler: F) -> Response<Body>
where
    F: Future<Output = Response<Body>>,
{
    match AssertUnwindSafe(handler).catch_unwind().await {
        // What is there already cannot go wrong any more.
        Ok(response) if http_body::Body::size_hint(response.body()).exact().is_some() => response,
        Ok(response) => {
            let world = world.clone();
            response.map(|body| Body::new(Guarded { body: Some(body), world, what }))
        }
        Err(panic) => {
            let message = met(world, &what, panic.as_ref());
            if what.grpc { Status::internal(message).into_http() } else { refusal(&ApiError::internal(message)) }
        }
    }
}

/// Runs what follows an answer, such as the conversation over a connection that has changed over.
pub async fn contain(world: World, what: Asked, task: impl Future<Output = ()>) {
    if let Err(panic) = AssertUnwindSafe(task).catch_unwind().await {
        met(&world, &what, panic.as_ref());
    }
}

/// What a request asked, for the log.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The method, or the name of a conversation.
    pub verb: String,
    /// The path.
    pub path: String,
    /// Whether it came over gRPC.
    pub grpc: bool,
}

/// Logs a defect; the words for the client, which say nothing of the inside.
fn met(world: &World, what: &Asked, panic: &(dyn Any + Send)) -> String {
    let request = world.uuid();
    let words = panic.downcast_ref::<&str>().copied().map(String::from);
    let words = words.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
    tracing::error!(request, verb = what.verb, path = what.path, panic = words, "a request met a defect of the server");
    format!("the server met a defect of its own while it answered; its log says more about request {request}")
}

/// A body that is made while it is sent: where that panics the body ends with an error.
struct Guarded {
    body: Option<Body>,
    world: World,
    what: Asked,
}

impl http_body::Body for Guarded {
    type Data = bytes::Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<bytes::Bytes>, Status>>> {
        let Some(body) = self.body.as_mut() else { return Poll::Ready(None) };
        match catch_unwind(AssertUnwindSafe(|| Pin::new(body).poll_frame(cx))) {
            Ok(polled) => polled,
            Err(panic) => {
                self.body = None;
                Poll::Ready(Some(Err(Status::internal(met(&self.world, &self.what, panic.as_ref())))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(http_body::Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(SizeHint::default, http_body::Body::size_hint)
    }
}

/// A body that has to be whole in time.
pub struct Patient {
    body: Body,
    patience: Duration,
    /// Set when it has to be waited for.
    deadline: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl Patient {
    /// Waits so long for a body, from when it first has to be waited for.
    pub fn new(body: Body, patience: Duration) -> Self {
        Self { body, patience, deadline: None }
    }
}

impl http_body::Body for Patient {
    type Data = bytes::Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<bytes::Bytes>, Status>>> {
        if let polled @ Poll::Ready(_) = Pin::new(&mut self.body).poll_frame(cx) {
            return polled;
        }
        let patience = self.patience;
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        deadline.as_mut().poll(cx).map(|()| Some(Err(Status::deadline_exceeded("the body did not come in time"))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
