//! Connections and listeners: TCP, Unix sockets and pipes behind one face.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use crate::pipe::{PipeEnd, Wire};
use crate::scope::Scope;
use crate::{Address, Identity};

/// A stream of bytes to and from somebody.
pub struct Connection {
    stream: Stream,
    peer: String,
    peer_identity: Option<Identity>,
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    Pipe(PipeEnd),
}

impl Connection {
    pub(crate) fn tcp(stream: TcpStream, peer: String) -> io::Result<Connection> {
        // Small messages with answers are what control planes are made of.
        stream.set_nodelay(true)?;
        Ok(Connection { stream: Stream::Tcp(stream), peer, peer_identity: None })
    }

    pub(crate) fn unix(stream: UnixStream, peer: String) -> Connection {
        Connection { stream: Stream::Unix(stream), peer, peer_identity: None }
    }

    pub(crate) fn pipe(end: PipeEnd, peer: String, peer_identity: Option<Identity>) -> Connection {
        Connection { stream: Stream::Pipe(end), peer, peer_identity }
    }

    /// Who is at the other end, when the connection is a pipe and the other end has an identity.
    /// Over TCP, that is TLS's to say.
    pub fn peer_identity(&self) -> Option<&Identity> {
        self.peer_identity.as_ref()
    }

    /// The other end's address or component, for people to read.
    pub fn peer(&self) -> &str {
        &self.peer
    }

    /// Whether this is an in-memory pipe, which needs no TLS.
    pub fn is_pipe(&self) -> bool {
        matches!(self.stream, Stream::Pipe(_))
    }

    /// The process's id at the other end of a Unix socket.
    pub fn peer_pid(&self) -> Option<i32> {
        match &self.stream {
            Stream::Unix(stream) => stream.peer_cred().ok()?.pid(),
            _ => None,
        }
    }

    pub(crate) fn wire(&self) -> Option<&Arc<Wire>> {
        match &self.stream {
            Stream::Pipe(end) => Some(end.wire()),
            _ => None,
        }
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("peer", &self.peer).finish_non_exhaustive()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Pipe(end) => Pin::new(end).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Pipe(end) => Pin::new(end).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Stream::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Stream::Pipe(end) => Pin::new(end).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Pipe(end) => Pin::new(end).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Pipe(end) => Pin::new(end).poll_shutdown(cx),
        }
    }
}

/// What a listener's kind has to offer.
#[async_trait]
pub(crate) trait Accepting: Send + Sync {
    /// The next connection. Safe to drop and call again.
    async fn accept(&mut self) -> io::Result<Connection>;

    /// Where it really listens, which differs for port 0.
    fn local(&self) -> Option<Address> {
        None
    }
}

/// Accepts connections on an address; dropping it frees the address.
pub struct Listener {
    accepting: Box<dyn Accepting>,
    address: Address,
    scope: Arc<Scope>,
}

impl Listener {
    pub(crate) fn new(accepting: Box<dyn Accepting>, asked: Address, scope: Arc<Scope>) -> Listener {
        let address = accepting.local().unwrap_or(asked);
        Listener { accepting, address, scope }
    }

    /// The address it listens on, with the port that the system chose if 0 was asked for.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Waits for the next connection. Safe to drop and call again.
    pub async fn accept(&mut self) -> io::Result<Connection> {
        let connection = self.accepting.accept().await?;
        self.scope.own_connection(&connection);
        Ok(connection)
    }
}
