//! WebSockets: the handshake, and the channels that Kubernetes puts into them: each message begins with its channel.

use crate::registry::{ApiError, ApiResult};
use crate::rest::respond::Answer;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut, Bytes, BytesMut};
use futures::{SinkExt, StreamExt};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use std::time::Duration;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tonic::body::Body;

/// How long the connection may take to change over.
pub const UPGRADE: Duration = Duration::from_secs(10);
/// How long a message may take to be written.
pub const WRITE: Duration = Duration::from_secs(60);
/// The largest message that is taken.
const MESSAGE: usize = 1 << 20;

/// An upgrade that was asked for, and can be granted.
pub struct Handshake {
    on_upgrade: OnUpgrade,
    accept: String,
    /// The subprotocol that both speak.
    pub protocol: &'static str,
}

/// A socket that is open.
pub struct Socket {
    stream: WebSocketStream<TokioIo<Upgraded>>,
    /// For clients that only speak text: the channel is a digit, what follows is base64.
    base64: bool,
}

/// How much of a socket is taken at once.
pub fn limits() -> WebSocketConfig {
    WebSocketConfig::default().max_message_size(Some(MESSAGE)).max_frame_size(Some(MESSAGE))
}

/// The words of a header that is a list.
pub fn words(headers: &HeaderMap, name: header::HeaderName) -> Vec<String> {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(|word| word.trim().to_string()).collect()
}

/// Reads a request to change over; `protocols` are those this server speaks, the best first.
pub fn handshake(request: &mut Request<Body>, protocols: &[&'static str]) -> ApiResult<Handshake> {
    let headers = request.headers();
    let upgrade = words(headers, header::UPGRADE);
    if !upgrade.iter().any(|word| word.eq_ignore_ascii_case("websocket")) {
        return Err(ApiError::bad_request(format!(
            "unable to upgrade: this stream is spoken over a WebSocket, with one of the subprotocols {}",
            protocols.join(", ")
        )));
    }
    let key =
        headers.get(header::SEC_WEBSOCKET_KEY).ok_or_else(|| ApiError::bad_request("Sec-WebSocket-Key is missing"))?;
    let accept = derive_accept_key(key.as_bytes());
    let offered = words(headers, header::SEC_WEBSOCKET_PROTOCOL);
    let protocol = protocols.iter().find(|known| offered.iter().any(|word| word == *known)).ok_or_else(|| {
        ApiError::bad_request(format!(
            "unable to upgrade: none of the subprotocols {offered:?} is spoken here; those that are: {}",
            protocols.join(", ")
        ))
    })?;
    Ok(Handshake { accept, protocol, on_upgrade: hyper::upgrade::on(request) })
}

impl Handshake {
    /// The answer that grants it, and the socket once it is granted.
    pub fn grant(self) -> (Answer, impl Future<Output = Option<Socket>>) {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(self.protocol));
        if let Ok(accept) = HeaderValue::from_str(&self.accept) {
            headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
        }
        let base64 = self.protocol.contains("base64");
        let opened = async move {
            let upgraded = tokio::time::timeout(UPGRADE, self.on_upgrade).await.ok()?.ok()?;
            let io = TokioIo::new(upgraded);
            let stream = WebSocketStream::from_raw_socket(io, Role::Server, Some(limits())).await;
            Some(Socket { stream, base64 })
        };
        (response, opened)
    }
}

/// A message whose channel is a digit; anything else is no message.
pub fn from_base64(text: &[u8]) -> Option<Bytes> {
    let (channel, data) = text.split_first()?;
    let channel = channel.checked_sub(b'0').filter(|channel| *channel < 10)?;
    let mut message = vec![channel];
    STANDARD.decode_vec(data, &mut message).ok()?;
    Some(message.into())
}

fn to_base64(message: &[u8]) -> String {
    let Some((channel, data)) = message.split_first() else { return String::new() };
    let mut text = String::from(char::from(b'0' + channel % 10));
    STANDARD.encode_string(data, &mut text);
    text
}

impl Socket {
    /// The next message that carries something, whole; `None`: the user is gone. Cancelling it loses nothing.
    pub async fn next(&mut self) -> Option<Bytes> {
        loop {
            match self.stream.next().await?.ok()? {
                Message::Binary(bytes) if !self.base64 => return Some(bytes),
                Message::Text(text) if !self.base64 => return Some(text.into()),
                Message::Binary(bytes) => return from_base64(&bytes),
                Message::Text(text) => return from_base64(text.as_bytes()),
                Message::Close(_) => return None,
                // Pings are answered below.
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
        }
    }

    /// Sends data on a channel. `None`: the user is gone.
    pub async fn send(&mut self, channel: u8, data: &[u8]) -> Option<()> {
        let mut message = BytesMut::with_capacity(1 + data.len());
        message.put_u8(channel);
        message.put_slice(data);
        self.put(message.freeze()).await
    }

    /// Sends a message as it is.
    pub async fn put(&mut self, message: Bytes) -> Option<()> {
        let message = if self.base64 { Message::text(to_base64(&message)) } else { Message::Binary(message) };
        tokio::time::timeout(WRITE, self.stream.send(message)).await.ok()?.ok()
    }

    /// Says goodbye, and waits a little for the other end to do so.
    pub async fn close(mut self) {
        let goodbye = async {
            // client-go takes an end without a code for a failure.
            let normal = CloseFrame { code: CloseCode::Normal, reason: Default::default() };
            let _ = self.stream.close(Some(normal)).await;
            while let Some(Ok(_)) = self.stream.next().await {}
        };
        let _ = tokio::time::timeout(UPGRADE, goodbye).await;
    }
}
