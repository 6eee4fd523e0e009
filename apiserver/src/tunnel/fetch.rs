//! A page of a component, for the API server itself: one stream through its tunnel, read to its end.

use super::{Allowance, INITIAL_CREDIT, Link, STREAMS, TO_USER, Tunnel, Tunnels, failed};
use crate::registry::{ApiError, ApiResult};
use skiff_proto::skiffv1::{HttpGet, StreamOpen, StreamWindow, stream_frame, stream_open, tunnel_frame};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;

/// The largest page.
const LARGEST: usize = 16 * 1024 * 1024;

/// What a component answered: a text, or why there is none.
#[derive(Debug)]
pub struct Fetched {
    /// The page.
    pub text: String,
    /// A StatusReason, if the component refused; else empty.
    pub reason: String,
    /// The refusal in words.
    pub message: String,
}

/// A way to one process of a component.
pub struct Reach {
    tunnel: Arc<Tunnel>,
    ids: Arc<AtomicU64>,
    whose: String,
}

impl Tunnels {
    /// Every process of a component that has a tunnel open, the newest first.
    pub(crate) fn all(&self, component: &str, node: &str) -> Vec<Reach> {
        let on = if node.is_empty() { String::new() } else { format!(" of node {node:?}") };
        let places = self.places();
        let tunnels = places.get(&(component.to_string(), node.to_string())).into_iter().flatten().rev();
        let reach = |tunnel: &Arc<Tunnel>| Reach {
            tunnel: tunnel.clone(),
            ids: self.next_id.clone(),
            whose: format!("{component}{on}"),
        };
        tunnels.map(reach).collect()
    }
}

impl Reach {
    /// Gets a page within a time.
    pub(crate) async fn fetch(&self, path: &str, patience: Duration) -> ApiResult<Fetched> {
        let (to_user, frames) = mpsc::channel(TO_USER);
        let link = Arc::new(Link { to_user, from_user: Allowance::new(), from_component: Allowance::new() });
        let stream = Open { tunnel: &self.tunnel, id: self.ids.fetch_add(1, Ordering::Relaxed) };
        {
            let mut streams = self.tunnel.streams();
            if streams.len() >= STREAMS {
                let words = format!("{STREAMS} streams to the {} are open already; please try again later", self.whose);
                return Err(ApiError::too_many_requests(words, 1));
            }
            streams.insert(stream.id, link.clone());
        }
        match tokio::time::timeout(patience, self.read(&stream, &link, frames, path)).await {
            Ok(fetched) => fetched,
            Err(_) => Err(ApiError::unavailable(format!(
                "the {} has not answered {path} within {} s",
                self.whose,
                patience.as_secs()
            ))),
        }
    }

    async fn read(
        &self,
        stream: &Open<'_>,
        link: &Link,
        mut frames: mpsc::Receiver<Result<skiff_proto::skiffv1::StreamFrame, tonic::Status>>,
        path: &str,
    ) -> ApiResult<Fetched> {
        let gone = || ApiError::unavailable(format!("the connection to the {} was lost", self.whose));
        let request = Some(stream_open::Request::HttpGet(HttpGet { path: path.into() }));
        let open = StreamOpen { request, ..StreamOpen::default() };
        if !self.tunnel.send(stream.id, tunnel_frame::Body::Open(open)).await {
            return Err(gone());
        }
        let (mut page, mut unacknowledged) = (Vec::new(), 0);
        loop {
            let frame = frames.recv().await.and_then(Result::ok).and_then(|frame| frame.body);
            match frame.ok_or_else(gone)? {
                stream_frame::Body::Data(data) => {
                    page.extend_from_slice(&data.data);
                    unacknowledged += data.data.len();
                    if page.len() > LARGEST {
                        let words = format!("{path} of the {} is larger than {LARGEST} bytes", self.whose);
                        return Err(ApiError::unavailable(words));
                    }
                    if unacknowledged as u64 >= INITIAL_CREDIT / 4 {
                        let bytes = u32::try_from(std::mem::take(&mut unacknowledged)).unwrap_or(u32::MAX);
                        link.from_component.give(bytes);
                        self.tunnel.send(stream.id, tunnel_frame::Body::Window(StreamWindow { bytes })).await;
                    }
                }
                stream_frame::Body::Close(close) => {
                    let text = String::from_utf8_lossy(&page).into_owned();
                    let reason = if close.failed { close.reason } else { String::new() };
                    return Ok(Fetched { text, reason, message: close.message });
                }
                stream_frame::Body::Window(_) | stream_frame::Body::Open(_) => {}
            }
        }
    }
}

/// A stream that is closed at the component when nobody waits for it any more.
struct Open<'a> {
    tunnel: &'a Tunnel,
    id: u64,
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        if self.tunnel.streams().remove(&self.id).is_some() {
            let close = tunnel_frame::Body::Close(failed("Canceled", "nobody waits for the page any more"));
            let frame = skiff_proto::skiffv1::TunnelFrame { stream: self.id, body: Some(close) };
            // If there is no room, the component learns of it when it sends.
            let _ = self.tunnel.to_component.try_send(Ok(frame));
        }
    }
}
