//! Channels by their numbers, whatever carries them: messages of a WebSocket, or streams of SPDY. A message begins with
//! its channel; the end of SPDY's standard input is the same message that version 5 of the WebSocket protocol has for it.

use super::pipe::Pipe;
use super::socket::Socket;
use super::spdy::{Decoder, Encoder, Frame};
use bytes::{BufMut, Bytes, BytesMut};
use std::collections::BTreeMap;
use std::time::Duration;

/// Standard input.
pub const STDIN: u8 = 0;
/// Standard output.
pub const STDOUT: u8 = 1;
/// Standard error.
pub const STDERR: u8 = 2;
/// How it ended.
pub const OUTCOME: u8 = 3;
/// The terminal's size.
pub const RESIZE: u8 = 4;
/// Closes the channel that its message names.
pub const CLOSE: u8 = 255;

/// How long a user may take to open the streams that were asked for.
const STREAMS: Duration = Duration::from_secs(30);

/// A user who talks in channels.
pub enum Session {
    /// Over a WebSocket.
    Socket(Box<Socket>),
    /// Over SPDY.
    Spdy(Box<Spdy>),
}

/// The streams of SPDY.
pub struct Spdy {
    pipe: Pipe,
    decoder: Decoder,
    encoder: Encoder,
    streams: BTreeMap<u8, u32>,
}

impl Session {
    /// A session over SPDY, once the streams are open that it needs; `None`: the user is gone.
    pub async fn over_spdy(pipe: Pipe, needed: &[u8]) -> Option<Session> {
        let mut spdy =
            Spdy { pipe, decoder: Decoder::default(), encoder: Encoder::default(), streams: BTreeMap::new() };
        let open = async {
            while !needed.iter().all(|channel| spdy.streams.contains_key(channel)) {
                // Nothing is typed before all is open.
                spdy.next().await?;
            }
            Some(())
        };
        tokio::time::timeout(STREAMS, open).await.ok()??;
        Some(Session::Spdy(Box::new(spdy)))
    }

    /// The next message; an empty one means nothing. `None`: the user is gone. Cancelling it loses nothing.
    pub async fn next(&mut self) -> Option<Bytes> {
        match self {
            Session::Socket(socket) => socket.next().await,
            Session::Spdy(spdy) => spdy.next().await,
        }
    }

    /// Sends data on a channel. `None`: the user is gone.
    pub async fn send(&mut self, channel: u8, data: &[u8]) -> Option<()> {
        match self {
            Session::Socket(socket) => socket.send(channel, data).await,
            Session::Spdy(spdy) => match spdy.streams.get(&channel) {
                Some(stream) => spdy.pipe.write(spdy.encoder.data(*stream, data, false)).await,
                // It was not asked for.
                None => Some(()),
            },
        }
    }

    /// Ends everything in order.
    pub async fn close(self) {
        match self {
            Session::Socket(socket) => socket.close().await,
            Session::Spdy(mut spdy) => {
                for channel in [STDOUT, STDERR, OUTCOME] {
                    if let Some(stream) = spdy.streams.get(&channel) {
                        let _ = spdy.pipe.write(spdy.encoder.data(*stream, b"", true)).await;
                    }
                }
                spdy.pipe.close().await;
            }
        }
    }
}

impl Spdy {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            match self.decoder.next().ok()? {
                Some(frame) => return self.take(frame).await,
                None => {
                    let bytes = self.pipe.read().await?;
                    self.decoder.feed(&bytes);
                }
            }
        }
    }

    async fn take(&mut self, frame: Frame) -> Option<Bytes> {
        let nothing = Some(Bytes::new());
        match frame {
            Frame::Open { stream, headers } => {
                let kind = headers.iter().find(|(name, _)| name == "streamtype").map(|(_, value)| value.as_str());
                let channel = match kind {
                    Some("stdin") => STDIN,
                    Some("stdout") => STDOUT,
                    Some("stderr") => STDERR,
                    Some("error") => OUTCOME,
                    Some("resize") => RESIZE,
                    _ => {
                        self.pipe.write(self.encoder.reset(stream)).await?;
                        return nothing;
                    }
                };
                self.streams.insert(channel, stream);
                let reply = self.encoder.reply(stream);
                self.pipe.write(reply).await?;
                nothing
            }
            Frame::Data { stream, data, end } => {
                let Some(channel) = self.streams.iter().find(|(_, id)| **id == stream).map(|(channel, _)| *channel)
                else {
                    return nothing;
                };
                let mut message = BytesMut::with_capacity(1 + data.len());
                if end && data.is_empty() {
                    message.put_slice(&[CLOSE, channel]);
                } else {
                    message.put_u8(channel);
                    message.put_slice(&data);
                }
                Some(message.freeze())
            }
            Frame::Ping(ping) => {
                self.pipe.write(self.encoder.pong(ping)).await?;
                nothing
            }
            Frame::GoAway => None,
            Frame::Reset(_) | Frame::Other => nothing,
        }
    }
}
