//! A stream through a tunnel as a connection to read from and write to. When the connection is dropped the stream is
//! closed, and the kubelet lets go of the Pod.

use super::target::Target;
use crate::guard::{self, Asked};
use crate::registry::ApiResult;
use crate::rest::Rest;
use crate::rest::streams::wire::{Event, Wire};
use bytes::{Bytes, BytesMut};
use skiff_proto::skiffv1::stream_data::Channel;
use skiff_proto::skiffv1::{PortForwardRequest, StreamClose, stream_open};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};
use tokio::sync::oneshot;
use tokio_util::sync::{CancellationToken, DropGuard};

/// What may wait in each direction.
const WAITING: usize = 64 * 1024;
/// Bytes read at once.
const READ: usize = 16 * 1024;

/// A connection to a Pod.
pub struct ToPod {
    stream: DuplexStream,
    _open: DropGuard,
}

/// Says why a connection to a Pod has failed, once it has.
pub type Why = oneshot::Receiver<StreamClose>;

impl Rest {
    /// Connects to a Pod through its node's tunnel.
    pub(super) async fn wire_to(&self, target: &Target) -> ApiResult<(ToPod, Why)> {
        let request = PortForwardRequest {
            namespace: target.namespace.clone(),
            pod: target.pod.clone(),
            port: target.port.into(),
            pod_uid: target.uid.clone(),
            by_address: true,
        };
        let wire = self.dial_node(&target.node, stream_open::Request::PortForward(request)).await?;
        let (ours, theirs) = tokio::io::duplex(WAITING);
        let (told, why) = oneshot::channel();
        let open = CancellationToken::new();
        let over = open.clone();
        let what = Asked { verb: "proxy".into(), path: format!("{}/{}", target.namespace, target.pod), grpc: false };
        let task = async move {
            tokio::select! {
                biased;
                () = over.cancelled() => {}
                () = bridge(wire, theirs, told) => {}
            }
        };
        self.world.spawn("proxy", guard::contain(self.world.clone(), what, task));
        Ok((ToPod { stream: ours, _open: open.drop_guard() }, why))
    }
}

/// Passes bytes on, both ways, until the Pod's end is over.
async fn bridge(mut wire: Wire, end: DuplexStream, told: oneshot::Sender<StreamClose>) {
    let (mut reader, mut writer) = tokio::io::split(end);
    let (mut from_pod, mut to_pod) = (Bytes::new(), Bytes::new());
    let mut buffer = BytesMut::new();
    let mut reading = true;
    loop {
        buffer.reserve(READ);
        tokio::select! {
            biased;
            event = wire.next(), if from_pod.is_empty() => match event {
                Event::Data(_, data) => from_pod = data,
                Event::Credit => to_pod = wire.send(Channel::Stdin, std::mem::take(&mut to_pod)).await,
                Event::End => {
                    let _ = writer.shutdown().await;
                }
                Event::Closed(close) => {
                    if close.failed {
                        // Whoever asked may be gone.
                        let _ = told.send(close);
                    }
                    return;
                }
            },
            written = writer.write_buf(&mut from_pod), if !from_pod.is_empty() => {
                if written.is_err() {
                    return;
                }
            }
            read = reader.read_buf(&mut buffer), if reading && to_pod.is_empty() => match read {
                Ok(1..) => to_pod = wire.send(Channel::Stdin, buffer.split().freeze()).await,
                Ok(0) | Err(_) => {
                    reading = false;
                    wire.end(Channel::Stdin).await;
                }
            },
        }
    }
}

impl AsyncRead for ToPod {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for ToPod {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
