//! One stream through the tunnel, the same at both ends: data on channels, credit each way, and a close that says how
//! it went.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use skiff_proto::skiffv1::{StreamClose, StreamData, StreamFrame, StreamWindow, TunnelFrame};
use skiff_proto::skiffv1::{stream_frame, tunnel_frame};
use tokio::sync::mpsc;

use super::credit::{Credit, INITIAL};

pub use skiff_proto::skiffv1::stream_data::Channel;

/// Data travels in frames of at most this size.
pub const MAX_DATA: usize = 32 * 1024;
/// Credit is given back once so much has been read.
const GIVE_BACK: u64 = INITIAL as u64 / 4;

/// How a stream ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Close {
    /// As it should, with nothing more to say.
    Done,
    /// A process ended with this code.
    Exit(i32),
    /// It failed.
    Failed {
        /// A StatusReason: `NotFound`, `BadRequest`, `InternalError`, ...
        reason: String,
        /// In words for people.
        message: String,
    },
}

impl Close {
    /// A failure.
    pub fn failed(reason: impl Into<String>, message: impl Into<String>) -> Close {
        Close::Failed { reason: reason.into(), message: message.into() }
    }

    pub(crate) fn lost() -> Close {
        Close::failed("ServiceUnavailable", "the connection to the API server was lost")
    }
}

impl fmt::Display for Close {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Close::Done => f.write_str("done"),
            Close::Exit(code) => write!(f, "exit code {code}"),
            Close::Failed { reason, message } => write!(f, "{message} ({reason})"),
        }
    }
}

impl From<Close> for StreamClose {
    fn from(close: Close) -> StreamClose {
        match close {
            Close::Done => StreamClose::default(),
            Close::Exit(code) => StreamClose { exit_code: Some(code), ..StreamClose::default() },
            Close::Failed { reason, message } => {
                StreamClose { failed: true, reason, message, ..StreamClose::default() }
            }
        }
    }
}

impl From<StreamClose> for Close {
    fn from(close: StreamClose) -> Close {
        match close {
            StreamClose { failed: true, reason, message, .. } => Close::Failed { reason, message },
            StreamClose { exit_code: Some(code), .. } => Close::Exit(code),
            _ => Close::Done,
        }
    }
}

/// What comes out of a stream.
#[derive(Clone, Debug, PartialEq)]
pub enum StreamEvent {
    /// Bytes on a channel.
    Data {
        /// Which.
        channel: Channel,
        /// What.
        bytes: Bytes,
    },
    /// Nothing more comes on this channel.
    End(Channel),
    /// The stream is over.
    Closed(Close),
}

/// The stream is over: nothing can be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the other end has closed the stream")]
pub struct Closed;

/// Where frames go: one of many streams of a tunnel, or a gRPC call of its own.
#[derive(Clone)]
pub(crate) enum Sink {
    Tunnel { stream: u64, frames: mpsc::Sender<TunnelFrame> },
    Call(mpsc::Sender<StreamFrame>),
}

pub(crate) enum Frame {
    Data(StreamData),
    Window(u32),
    Close(StreamClose),
}

impl Sink {
    async fn send(&self, frame: Frame) -> Result<(), Closed> {
        match self {
            Sink::Tunnel { stream, frames } => frames.send(tunnel_frame(*stream, frame)).await.map_err(|_| Closed),
            Sink::Call(frames) => frames.send(stream_frame(frame)).await.map_err(|_| Closed),
        }
    }

    /// For who must not wait; a full pipe loses it, and the other end notices when the connection goes.
    fn try_send(&self, frame: Frame) {
        match self {
            Sink::Tunnel { stream, frames } => drop(frames.try_send(tunnel_frame(*stream, frame))),
            Sink::Call(frames) => drop(frames.try_send(stream_frame(frame))),
        }
    }
}

pub(crate) fn tunnel_frame(stream: u64, frame: Frame) -> TunnelFrame {
    use tunnel_frame::Body;
    let body = match frame {
        Frame::Data(data) => Body::Data(data),
        Frame::Window(bytes) => Body::Window(StreamWindow { bytes }),
        Frame::Close(close) => Body::Close(close),
    };
    TunnelFrame { stream, body: Some(body) }
}

fn stream_frame(frame: Frame) -> StreamFrame {
    use stream_frame::Body;
    let body = match frame {
        Frame::Data(data) => Body::Data(data),
        Frame::Window(bytes) => Body::Window(StreamWindow { bytes }),
        Frame::Close(close) => Body::Close(close),
    };
    StreamFrame { body: Some(body) }
}

/// One stream: send and receive. [`Stream::split`] lets two tasks do that.
pub struct Stream {
    sender: StreamSender,
    receiver: StreamReceiver,
}

/// The sending half; clones send into the same stream.
#[derive(Clone)]
pub struct StreamSender {
    shared: Arc<Shared>,
}

struct Shared {
    sink: Sink,
    credit: Arc<Credit>,
    closed: AtomicBool,
}

/// The receiving half.
pub struct StreamReceiver {
    events: mpsc::UnboundedReceiver<StreamEvent>,
    sink: Sink,
    /// What the other end may still send; shared with the [`Feed`], which checks it.
    allowed: Arc<AtomicU64>,
    unacknowledged: u64,
    over: bool,
}

/// Where frames that come in for a stream go. Never waits: what may come in is bounded by credit.
pub(crate) struct Feed {
    events: mpsc::UnboundedSender<StreamEvent>,
    credit: Arc<Credit>,
    allowed: Arc<AtomicU64>,
    sink: Sink,
}

/// Makes a stream over a sink, and the feed for what comes in.
pub(crate) fn pair(sink: Sink) -> (Stream, Feed) {
    let (sender, events) = mpsc::unbounded_channel();
    let credit = Arc::new(Credit::new());
    let allowed = Arc::new(AtomicU64::new(u64::from(INITIAL)));
    let feed = Feed { events: sender, credit: credit.clone(), allowed: allowed.clone(), sink: sink.clone() };
    let shared = Arc::new(Shared { sink: sink.clone(), credit, closed: AtomicBool::new(false) });
    let receiver = StreamReceiver { events, sink, allowed, unacknowledged: 0, over: false };
    (Stream { sender: StreamSender { shared }, receiver }, feed)
}

impl Stream {
    /// Sends bytes; waits while the other end does not read.
    pub async fn send(&self, channel: Channel, bytes: impl Into<Bytes>) -> Result<(), Closed> {
        self.sender.send(channel, bytes).await
    }

    /// Says that nothing more comes on a channel.
    pub async fn end(&self, channel: Channel) -> Result<(), Closed> {
        self.sender.end(channel).await
    }

    /// What comes in next; `None` after [`StreamEvent::Closed`].
    pub async fn recv(&mut self) -> Option<StreamEvent> {
        self.receiver.recv().await
    }

    /// Ends the stream, and says how it went.
    pub async fn close(self, how: Close) {
        self.sender.close(how).await;
    }

    /// Both halves.
    pub fn split(self) -> (StreamSender, StreamReceiver) {
        (self.sender, self.receiver)
    }

    pub(crate) fn sender(&self) -> StreamSender {
        self.sender.clone()
    }
}

impl StreamSender {
    /// Sends bytes; waits while the other end does not read.
    pub async fn send(&self, channel: Channel, bytes: impl Into<Bytes>) -> Result<(), Closed> {
        let mut bytes: Bytes = bytes.into();
        while !bytes.is_empty() {
            let taken = self.shared.credit.take(bytes.len().min(MAX_DATA)).await.ok_or(Closed)?;
            let data = StreamData { channel: channel.into(), data: bytes.split_to(taken), end: false };
            self.shared.sink.send(Frame::Data(data)).await?;
        }
        Ok(())
    }

    /// Says that nothing more comes on a channel.
    pub async fn end(&self, channel: Channel) -> Result<(), Closed> {
        if self.shared.credit.is_closed() {
            return Err(Closed);
        }
        let data = StreamData { channel: channel.into(), data: Default::default(), end: true };
        self.shared.sink.send(Frame::Data(data)).await
    }

    /// Ends the stream, and says how it went. Only the first close counts.
    pub async fn close(&self, how: Close) {
        if self.shared.closed.swap(true, Ordering::SeqCst) || self.shared.credit.is_closed() {
            return;
        }
        // An error means that the other end is gone already.
        let _ = self.shared.sink.send(Frame::Close(how.into())).await;
        self.shared.credit.close();
    }

    /// Waits until the stream is over, whoever ends it.
    pub async fn closed(&self) {
        self.shared.credit.closed().await;
    }
}

impl StreamReceiver {
    /// What comes in next; `None` after [`StreamEvent::Closed`].
    pub async fn recv(&mut self) -> Option<StreamEvent> {
        if self.over {
            return None;
        }
        let event = self.events.recv().await.unwrap_or_else(|| StreamEvent::Closed(Close::lost()));
        match &event {
            StreamEvent::Data { bytes, .. } => self.acknowledge(bytes.len() as u64).await,
            StreamEvent::Closed(_) => self.over = true,
            StreamEvent::End(_) => {}
        }
        Some(event)
    }

    /// Gives credit back for what was read, in large pieces.
    async fn acknowledge(&mut self, bytes: u64) {
        self.unacknowledged += bytes;
        if self.unacknowledged >= GIVE_BACK {
            let bytes = std::mem::take(&mut self.unacknowledged);
            self.allowed.fetch_add(bytes, Ordering::SeqCst);
            // If it cannot be sent the stream is over, which the next event says.
            let _ = self.sink.send(Frame::Window(u32::try_from(bytes).unwrap_or(u32::MAX))).await;
        }
    }
}

impl Feed {
    /// Data came in. More than was allowed ends the stream.
    pub(crate) fn data(&self, data: StreamData) {
        let bytes = data.data.len() as u64;
        let left = self.allowed.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(bytes));
        if left.is_err() {
            let close = Close::failed("BadRequest", "more data was sent than the stream's window allows");
            self.sink.try_send(Frame::Close(close.clone().into()));
            return self.close(close);
        }
        let (channel, end) = (data.channel(), data.end);
        // Nobody listens any more: then nobody misses it.
        if bytes > 0 {
            let _ = self.events.send(StreamEvent::Data { channel, bytes: data.data });
        }
        if end {
            let _ = self.events.send(StreamEvent::End(channel));
        }
    }

    /// Whether the stream is closed.
    pub(crate) fn is_over(&self) -> bool {
        self.credit.is_closed()
    }

    /// The other end allows more.
    pub(crate) fn window(&self, bytes: u32) {
        self.credit.give(bytes);
    }

    /// The stream is over.
    pub(crate) fn close(&self, how: Close) {
        self.credit.close();
        let _ = self.events.send(StreamEvent::Closed(how));
    }
}

#[cfg(test)]
mod tests;
