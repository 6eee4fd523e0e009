//! Bytes both ways with a user: over a connection that has changed to SPDY, or inside a WebSocket.

use super::socket::{Socket, UPGRADE, WRITE};
use crate::rest::respond::Answer;
use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Request, Response, StatusCode, header};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::body::Body;

/// The name that SPDY/3.1 goes by.
pub const SPDY: &str = "SPDY/3.1";
/// The header in which subprotocols are offered and chosen.
const VERSION: &str = "x-stream-protocol-version";
/// Bytes read at once.
const READ: usize = 32 * 1024;

/// A way for bytes.
pub enum Pipe {
    /// A connection of its own.
    Raw(Box<TokioIo<Upgraded>>),
    /// Binary messages.
    Socket(Box<Socket>),
}

impl Pipe {
    /// The next bytes; `None`: the user is gone. Cancelling it loses nothing.
    pub async fn read(&mut self) -> Option<Bytes> {
        match self {
            Pipe::Raw(connection) => {
                let mut buffer = BytesMut::with_capacity(READ);
                match connection.read_buf(&mut buffer).await {
                    Ok(1..) => Some(buffer.freeze()),
                    Ok(0) | Err(_) => None,
                }
            }
            Pipe::Socket(socket) => socket.next().await,
        }
    }

    /// Sends bytes. `None`: the user is gone.
    pub async fn write(&mut self, bytes: Bytes) -> Option<()> {
        match self {
            Pipe::Raw(connection) => {
                let write = async {
                    connection.write_all(&bytes).await?;
                    connection.flush().await
                };
                tokio::time::timeout(WRITE, write).await.ok()?.ok()
            }
            Pipe::Socket(socket) => socket.put(bytes).await,
        }
    }

    /// Says goodbye.
    pub async fn close(self) {
        match self {
            Pipe::Raw(mut connection) => {
                let goodbye = async {
                    let _ = connection.shutdown().await;
                    // The user has the last word, or time is up: what is on its way is not cut off.
                    let mut rest = [0; 1024];
                    while let Ok(1..) = connection.read(&mut rest).await {}
                };
                let _ = tokio::time::timeout(UPGRADE, goodbye).await;
            }
            Pipe::Socket(socket) => socket.close().await,
        }
    }
}

/// A change to SPDY that was asked for and can be granted.
pub struct SpdyHandshake {
    on_upgrade: OnUpgrade,
    /// The subprotocol that both speak.
    pub protocol: &'static str,
}

/// Reads a request to change to SPDY; `None` if it is none, or speaks none of the protocols.
pub fn spdy_handshake(request: &mut Request<Body>, protocols: &[&'static str]) -> Option<SpdyHandshake> {
    let headers = request.headers();
    let upgrade = headers.get(header::UPGRADE)?.to_str().ok()?;
    if !upgrade.eq_ignore_ascii_case(SPDY) {
        return None;
    }
    let offered: Vec<&str> = headers
        .get_all(VERSION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .collect();
    let protocol = protocols.iter().find(|known| offered.contains(*known))?;
    Some(SpdyHandshake { protocol, on_upgrade: hyper::upgrade::on(request) })
}

impl SpdyHandshake {
    /// The answer that grants it, and the connection once it is granted.
    pub fn grant(self) -> (Answer, impl Future<Output = Option<Pipe>>) {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(header::UPGRADE, HeaderValue::from_static(SPDY));
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(VERSION, HeaderValue::from_static(self.protocol));
        let opened = async move {
            let upgraded = tokio::time::timeout(UPGRADE, self.on_upgrade).await.ok()?.ok()?;
            Some(Pipe::Raw(Box::new(TokioIo::new(upgraded))))
        };
        (response, opened)
    }
}
