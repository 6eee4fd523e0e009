//! The cheapest clients there are: HTTP/2 by `h2` itself, HTTP/1.1 by hand, gRPC as the bytes it is.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use rustls_pki_types::ServerName;
use skiff_client::Pem;
use skiff_world::tls::{ClientTls, Files};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::server::Server;

const WINDOW: u32 = 64 << 20;
const GRPC: &str = "application/grpc";

/// A connection over TLS that speaks only `protocol`.
async fn connect(server: &Server, protocol: &str) -> Result<TlsStream<TcpStream>> {
    let files = server.config.tls.as_ref().context("the kubeconfig has no certificates")?;
    let path = |pem: &Pem, name: &str| match pem {
        Pem::File(path) => Ok(path.clone()),
        Pem::Text(text) => server.file(name, text),
    };
    let (certificate, key) = files.identity.as_ref().context("the kubeconfig has no client certificate")?;
    let files = Files {
        ca: path(&files.ca, "ca.crt")?,
        identity: Some((path(certificate, "admin.crt")?, path(key, "admin.key")?)),
    };
    let mut config = (*ClientTls::new(files)?.config()).clone();
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    let stream = TcpStream::connect(&server.address).await?;
    stream.set_nodelay(true)?;
    let host = server.address.rsplit_once(':').map_or(server.address.as_str(), |(host, _)| host).to_owned();
    Ok(TlsConnector::from(Arc::new(config)).connect(ServerName::try_from(host)?, stream).await?)
}

/// A request whose only variable part is a name.
#[derive(Clone)]
pub struct Template {
    bytes: BytesMut,
    at: usize,
}

/// What stands for the name: all names are as long.
pub const NAME: &str = "object-000000000";

impl Template {
    /// From bytes that hold [`NAME`] once.
    pub fn new(bytes: &[u8]) -> Result<Template> {
        let at = bytes.windows(NAME.len()).position(|window| window == NAME.as_bytes()).context("no name in it")?;
        Ok(Template { bytes: bytes.into(), at })
    }

    /// The request with a name of its own.
    pub fn numbered(&self, number: usize) -> Bytes {
        let mut bytes = self.bytes.clone();
        let digits = format!("{number:09}");
        let end = self.at + NAME.len();
        bytes[end - 9..end].copy_from_slice(digits.as_bytes());
        bytes.freeze()
    }
}

/// An HTTP/2 connection.
#[derive(Clone)]
pub struct H2 {
    sender: h2::client::SendRequest<Bytes>,
    authority: String,
}

impl H2 {
    /// Opens one.
    pub async fn open(server: &Server) -> Result<H2> {
        let stream = connect(server, "h2").await?;
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(WINDOW).initial_connection_window_size(WINDOW).max_frame_size(1 << 20);
        let (sender, connection) = builder.handshake::<_, Bytes>(stream).await?;
        tokio::spawn(async move {
            let _ = connection.await;
        });
        Ok(H2 { sender, authority: server.address.clone() })
    }

    /// Sends a request; its answer's code and body, piece by piece.
    pub async fn send(&self, request: http::request::Builder, path: &str, body: Bytes) -> Result<h2::RecvStream> {
        let request = request.uri(format!("https://{}{path}", self.authority)).body(())?;
        let mut sender = self.sender.clone().ready().await?;
        let (answer, mut stream) = sender.send_request(request, body.is_empty())?;
        if !body.is_empty() {
            stream.send_data(body, true)?;
        }
        let answer = answer.await?;
        ensure!(answer.status().is_success(), "{path}: {}", answer.status());
        Ok(answer.into_body())
    }

    /// The same by a method and content type, read to its end: the bytes of the answer.
    pub async fn call(&self, method: &str, path: &str, media: &str, body: Bytes) -> Result<usize> {
        let request = http::Request::builder().method(method).header("content-type", media).header("accept", media);
        let mut answer = self.send(request, path, body).await?;
        drain(&mut answer).await
    }

    /// A call of the Resources service.
    pub async fn grpc(&self, method: &str, message: Bytes) -> Result<h2::RecvStream> {
        let request = http::Request::builder().method("POST").header("content-type", GRPC).header("te", "trailers");
        self.send(request, &format!("/skiff.v1.Resources/{method}"), message).await
    }

    /// The same, read to its end, which must be a success.
    pub async fn grpc_call(&self, method: &str, message: Bytes) -> Result<usize> {
        let mut answer = self.grpc(method, message).await?;
        let size = drain(&mut answer).await?;
        let trailers = answer.trailers().await?.context("a call was refused")?;
        let status = trailers.get("grpc-status").map(|status| status.as_bytes());
        ensure!(status == Some(b"0"), "{method}: {trailers:?}");
        Ok(size)
    }
}

async fn drain(answer: &mut h2::RecvStream) -> Result<usize> {
    let mut size = 0;
    while let Some(piece) = answer.data().await {
        let piece = piece?;
        size += piece.len();
        answer.flow_control().release_capacity(piece.len())?;
    }
    Ok(size)
}

/// A message as gRPC sends it.
pub fn framed(message: &impl Message) -> Bytes {
    let mut out = BytesMut::with_capacity(5 + message.encoded_len());
    out.put_u8(0);
    out.put_u32(message.encoded_len() as u32);
    out.put_slice(&message.encode_to_vec());
    out.freeze()
}

/// An HTTP/1.1 connection: one request at a time.
pub struct H1 {
    stream: TlsStream<TcpStream>,
    answer: Vec<u8>,
}

impl H1 {
    /// Opens one.
    pub async fn open(server: &Server) -> Result<H1> {
        Ok(H1 { stream: connect(server, "http/1.1").await?, answer: Vec::with_capacity(64 << 10) })
    }

    /// A whole request, head and body, and its whole answer, which must be a success and say its length.
    pub async fn call(&mut self, request: &[u8]) -> Result<usize> {
        self.stream.write_all(request).await?;
        self.stream.flush().await?;
        self.answer.clear();
        loop {
            ensure!(self.stream.read_buf(&mut self.answer).await? > 0, "the connection was closed");
            let Some(head) = self.answer.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
            let text = std::str::from_utf8(&self.answer[..head])?;
            ensure!(text.starts_with("HTTP/1.1 2"), "{text}");
            let length = text.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
            });
            let whole = head + 4 + length.context("an answer without a length")?;
            while self.answer.len() < whole {
                ensure!(self.stream.read_buf(&mut self.answer).await? > 0, "the connection was closed");
            }
            return Ok(whole);
        }
    }
}
