//! `pods/log`: plain text, as it comes.

use super::wire::{Event, Wire, refusal};
use crate::registry::{ApiError, ApiResult};
use crate::rest::path::Place;
use crate::rest::query::Query;
use crate::rest::respond::{self, Answer};
use crate::rest::{OK, Rest};
use bytes::Bytes;
use http_body_util::StreamBody;
use hyper::body::Frame;
use skiff_proto::skiffv1::{LogsRequest, stream_open};
use skiff_world::Identity;
use std::convert::Infallible;
use std::time::Duration;
use tonic::body::Body;

/// A refusal that comes so soon is still the answer's own; later it is a last line.
const FIRST: Duration = Duration::from_millis(500);

/// Logs on their way.
struct Logs {
    wire: Wire,
    first: Option<Event>,
    /// As many bytes may still be shown.
    left: u64,
}

impl Rest {
    /// Reads or follows a container's log.
    pub(super) async fn logs(&self, identity: &Identity, place: &Place, query: &Query) -> ApiResult<Answer> {
        let since = match query.get("sinceTime") {
            "" => query.number("sinceSeconds")?,
            text => {
                let time: jiff::Timestamp = text
                    .parse()
                    .map_err(|_| ApiError::bad_request(format!("sinceTime: {text:?} is not an RFC 3339 time")))?;
                Some((self.world.wall().as_second() - time.as_second()).max(1))
            }
        };
        for (name, value, least) in [
            ("sinceSeconds", since, 1),
            ("tailLines", query.number("tailLines")?, 0),
            ("limitBytes", query.number("limitBytes")?, 1),
        ] {
            if value.is_some_and(|value| value < least) {
                return Err(ApiError::invalid_options(&format!(
                    "{name}: Invalid value: {}: must be greater than or equal to {least}",
                    value.unwrap_or_default()
                )));
            }
        }
        let request = LogsRequest {
            namespace: place.namespace.clone(),
            pod: place.name.clone(),
            container: query.get("container").into(),
            follow: query.is_on("follow"),
            tail_lines: query.number("tailLines")?,
            since_seconds: since,
            timestamps: query.is_on("timestamps"),
            previous: query.is_on("previous"),
            pod_uid: String::new(),
        };
        let mut wire = self.dial(identity, stream_open::Request::Logs(request)).await?;
        let first = tokio::select! {
            biased;
            event = wire.next() => Some(event),
            () = self.world.sleep(FIRST) => None,
        };
        if let Some(Event::Closed(close)) = &first
            && close.failed
        {
            return Err(refusal(close));
        }
        let left = query.number("limitBytes")?.and_then(|n| u64::try_from(n).ok()).unwrap_or(u64::MAX);
        let logs = Logs { wire, first, left };
        let frames = futures::stream::unfold(logs, |mut logs| async move {
            let piece = logs.next().await?;
            Some((Ok::<_, Infallible>(Frame::data(piece)), logs))
        });
        Ok(respond::stream(OK, "text/plain", Body::new(StreamBody::new(frames))))
    }
}

impl Logs {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if self.left == 0 {
                return None;
            }
            let event = match self.first.take() {
                Some(event) => event,
                None => self.wire.next().await,
            };
            match event {
                Event::Data(_, mut data) => {
                    data.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
                    self.left -= data.len() as u64;
                    return Some(data);
                }
                Event::End | Event::Credit => {}
                Event::Closed(close) if close.failed => {
                    self.left = 0;
                    return Some(format!("{}\n", close.message).into());
                }
                Event::Closed(_) => return None,
            }
        }
    }
}
