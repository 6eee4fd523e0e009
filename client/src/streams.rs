//! A user's end of a stream to a component: logs, exec, port-forward, metrics.

use std::time::Duration;

use skiff_proto::skiffv1::stream_frame::Body;
use skiff_proto::skiffv1::streams_client::StreamsClient;
use skiff_proto::skiffv1::{StreamFrame, StreamOpen};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::client::Client;
use crate::error::Error;
use crate::tunnel::{Close, Feed, Sink, Stream, pair};

pub use crate::tunnel::{Channel, Closed, StreamEvent, StreamReceiver, StreamSender};

/// A user's end of a stream: send and receive, until it is closed.
pub type ClientStream = Stream;

const OPEN_TIMEOUT: Duration = Duration::from_secs(15);
const OUTGOING: usize = 16;

/// Opens a stream to a component.
pub async fn open(client: &Client, request: StreamOpen) -> Result<ClientStream, Error> {
    let operation = format!("open a stream to the {}", request.component);
    let (frames, outgoing) = mpsc::channel(OUTGOING);
    // There is room: it is the first.
    let _ = frames.try_send(StreamFrame { body: Some(Body::Open(request)) });
    let opened = async {
        let mut api = StreamsClient::with_origin(client.wire().await?, client.origin());
        api.open(ReceiverStream::new(outgoing)).await.map_err(|status| Error::from_grpc(&operation, &status))
    };
    let incoming = match tokio::time::timeout(OPEN_TIMEOUT, opened).await {
        Ok(opened) => opened?.into_inner(),
        Err(_) => {
            return Err(Error::Timeout { operation, after: OPEN_TIMEOUT });
        }
    };
    let (stream, feed) = pair(Sink::Call(frames));
    client.world().spawn("stream", feed_from(incoming, feed, operation));
    Ok(stream)
}

async fn feed_from(mut incoming: tonic::Streaming<StreamFrame>, feed: Feed, operation: String) {
    loop {
        match incoming.message().await {
            Ok(Some(StreamFrame { body })) => match body {
                Some(Body::Data(data)) => feed.data(data),
                Some(Body::Window(window)) => feed.window(window.bytes),
                Some(Body::Close(close)) => return feed.close(close.into()),
                Some(Body::Open(_)) | None => {}
            },
            Ok(None) => return feed.close(Close::lost()),
            Err(status) => {
                let error = Error::from_grpc(&operation, &status);
                let reason = if error.reason().is_empty() { "ServiceUnavailable" } else { error.reason() };
                return feed.close(Close::failed(reason, error.to_string()));
            }
        }
    }
}
