//! One stream through a tunnel, as this face holds it: frames with credit both ways.

use crate::registry::{ApiError, ApiResult};
use crate::rest::Rest;
use crate::tunnel::FromComponent;
use bytes::Bytes;
use skiff_proto::skiffv1::stream_data::Channel;
use skiff_proto::skiffv1::{StreamClose, StreamData, StreamFrame, StreamOpen, StreamWindow, stream_frame, stream_open};
use skiff_world::Identity;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

/// What may be sent before the component allows more.
const INITIAL_CREDIT: usize = 256 * 1024;
/// Frames that may wait to be passed on.
const WAITING: usize = 64;
/// The largest piece of data in a frame.
const PIECE: usize = 32 * 1024;

/// What comes out of a wire.
pub enum Event {
    /// Data on a channel; its credit is given back already.
    Data(Channel, Bytes),
    /// Nothing follows on a channel: of what is read here there is but one that ends by itself.
    End,
    /// The stream is over.
    Closed(StreamClose),
    /// Nothing to see: more may be sent now.
    Credit,
}

/// A stream to a component.
pub struct Wire {
    to: mpsc::Sender<Result<StreamFrame, Status>>,
    from: FromComponent,
    credit: usize,
    /// An end that came with the last data.
    ended: bool,
}

impl Rest {
    /// Opens a stream through a tunnel.
    pub(super) async fn dial(&self, identity: &Identity, request: stream_open::Request) -> ApiResult<Wire> {
        let (to, incoming) = mpsc::channel(WAITING);
        let open = StreamOpen { request: Some(request), ..StreamOpen::default() };
        let from = self.tunnels.open(identity, open, ReceiverStream::new(incoming)).await?;
        Ok(Wire { to, from, credit: INITIAL_CREDIT, ended: false })
    }
}

impl Rest {
    /// Opens a stream to a node's kubelet for a user who has been let in already.
    pub(in crate::rest) async fn dial_node(&self, node: &str, request: stream_open::Request) -> ApiResult<Wire> {
        let (to, incoming) = mpsc::channel(WAITING);
        let (component, node) = ("kubelet".into(), node.into());
        let open = StreamOpen { component, node, request: Some(request) };
        let from = self.tunnels.connect(open, ReceiverStream::new(incoming)).await?;
        Ok(Wire { to, from, credit: INITIAL_CREDIT, ended: false })
    }
}

impl Wire {
    /// What comes next. Cancelling it loses nothing.
    pub async fn next(&mut self) -> Event {
        if std::mem::take(&mut self.ended) {
            return Event::End;
        }
        let frame = match self.from.recv().await {
            Some(Ok(frame)) => frame.body,
            Some(Err(_)) | None => None,
        };
        match frame {
            Some(stream_frame::Body::Data(data)) => {
                let window = StreamWindow { bytes: u32::try_from(data.data.len()).unwrap_or(u32::MAX) };
                // Whoever takes an event has room for it. A wire that is full of our own frames is over anyway.
                let _ = self.to.try_send(frame_of(stream_frame::Body::Window(window)));
                match (data.end, data.data.is_empty()) {
                    (true, true) => Event::End,
                    (end, _) => {
                        self.ended = end;
                        Event::Data(data.channel(), data.data)
                    }
                }
            }
            Some(stream_frame::Body::Window(window)) => {
                self.credit += window.bytes as usize;
                Event::Credit
            }
            Some(stream_frame::Body::Close(close)) => Event::Closed(close),
            Some(stream_frame::Body::Open(_)) => Event::Credit,
            None => Event::Closed(StreamClose {
                failed: true,
                reason: "ServiceUnavailable".into(),
                message: "the connection to the node was lost".into(),
                exit_code: None,
            }),
        }
    }

    /// Sends as much as may be sent; what is left comes back. Where the stream is over the data is dropped: `next` says
    /// so, and how it ended.
    pub async fn send(&mut self, channel: Channel, mut data: Bytes) -> Bytes {
        while !data.is_empty() && self.credit > 0 {
            let piece = data.split_to(data.len().min(PIECE).min(self.credit));
            self.credit -= piece.len();
            self.put(StreamData { channel: channel.into(), data: piece, end: false }).await;
        }
        data
    }

    /// Says that nothing follows on a channel.
    pub async fn end(&mut self, channel: Channel) {
        self.put(StreamData { channel: channel.into(), data: Bytes::new(), end: true }).await;
    }

    async fn put(&self, data: StreamData) {
        let _ = self.to.send(frame_of(stream_frame::Body::Data(data))).await;
    }
}

fn frame_of(body: stream_frame::Body) -> Result<StreamFrame, Status> {
    Ok(StreamFrame { body: Some(body) })
}

/// A failed end as a refusal.
pub fn refusal(close: &StreamClose) -> ApiError {
    let words = close.message.clone();
    match close.reason.as_str() {
        "NotFound" => ApiError::no_such_resource(words),
        "BadRequest" => ApiError::bad_request(words),
        "ServiceUnavailable" => ApiError::unavailable(words),
        "NotImplemented" => ApiError::not_implemented(words),
        _ => ApiError::internal(words),
    }
}
