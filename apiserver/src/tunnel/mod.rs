//! The tunnel's server end: the way from a user to a component that does not listen.
//!
//! ```text
//! skiffctl --Streams.Open--> API server ==Tunnel.Attach (opened by the component)==> kubelet, proxy, scheduler, ...
//! ```
//!
//! A component keeps one `Attach` call open; everything asked of it travels inside, many streams in one, each with
//! credit in both directions. Credit is end to end: the server only passes frames on, and cuts off whoever sends more
//! than the other end allowed, so that one slow reader never holds up another stream, nor fills the server's memory.
//!
//! A component can only be itself: what it says in its hello must fit its certificate.

mod attach;
mod fetch;
mod streams;

pub use attach::TunnelService;
pub use fetch::Fetched;
pub use streams::{FromComponent, StreamsService};

use crate::registry::Registry;
use skiff_proto::skiffv1::{StreamClose, StreamFrame, TunnelFrame, stream_frame, tunnel_frame};
use skiff_world::World;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::mpsc;
use tonic::Status;

/// What each side of a stream may send before the other allows more.
const INITIAL_CREDIT: u64 = 256 * 1024;
/// Frames that may wait for a component; whoever sends more waits.
const TO_COMPONENT: usize = 256;
/// Frames that may wait for a user who reads slowly. Credit bounds their bytes; this bounds their number.
const TO_USER: usize = 16 * 1024;
/// Streams at once through one tunnel.
const STREAMS: usize = 256;

/// Names a component: `kubelet` on a node, or `scheduler` without one.
type Place = (String, String);

/// All open tunnels. Cloning shares them.
#[derive(Clone)]
pub struct Tunnels {
    world: World,
    registry: Registry,
    open: Arc<Mutex<BTreeMap<Place, Vec<Arc<Tunnel>>>>>,
    next_id: Arc<AtomicU64>,
}

impl Tunnels {
    /// No tunnels yet.
    pub fn new(world: World, registry: Registry) -> Self {
        Self { world, registry, open: Arc::default(), next_id: Arc::new(AtomicU64::new(1)) }
    }

    fn places(&self) -> MutexGuard<'_, BTreeMap<Place, Vec<Arc<Tunnel>>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The newest tunnel of a component.
    fn find(&self, component: &str, node: &str) -> Option<Arc<Tunnel>> {
        self.places().get(&(component.to_string(), node.to_string())).and_then(|all| all.last().cloned())
    }

    /// Adds a tunnel; an older one of the same process is over.
    fn add(&self, place: Place, tunnel: Arc<Tunnel>) {
        let mut places = self.places();
        let all = places.entry(place).or_default();
        all.retain(|other| other.instance != tunnel.instance);
        all.push(tunnel);
    }

    fn remove(&self, place: &Place, id: u64) {
        let mut places = self.places();
        if let Some(all) = places.get_mut(place) {
            all.retain(|tunnel| tunnel.id != id);
            if all.is_empty() {
                places.remove(place);
            }
        }
    }

    fn new_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }
}

/// One component's tunnel.
struct Tunnel {
    id: u64,
    instance: String,
    to_component: mpsc::Sender<Result<TunnelFrame, Status>>,
    streams: Mutex<BTreeMap<u64, Arc<Link>>>,
}

/// A stream in a tunnel, as the tunnel's reader sees it.
struct Link {
    to_user: mpsc::Sender<Result<StreamFrame, Status>>,
    /// What the user may still send to the component.
    from_user: Allowance,
    /// What the component may still send to the user.
    from_component: Allowance,
}

impl Tunnel {
    fn streams(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Link>>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a frame of a stream to the component; waits while it does not read. `false`: the tunnel is over.
    async fn send(&self, stream: u64, body: tunnel_frame::Body) -> bool {
        self.to_component.send(Ok(TunnelFrame { stream, body: Some(body) })).await.is_ok()
    }

    /// Passes a frame from the component on to the user it is for. Never waits. An answer is a close for the component.
    fn take(&self, frame: TunnelFrame) -> Option<StreamClose> {
        use tunnel_frame::Body;
        let link = self.streams().get(&frame.stream).cloned()?;
        let (body, over) = match frame.body? {
            Body::Data(data) => {
                if !link.from_component.take(data.data.len()) {
                    self.end(
                        frame.stream,
                        &link,
                        failed("InternalError", "the component sent more than it was allowed to"),
                    );
                    return Some(failed("BadRequest", "more was sent than the other end allowed"));
                }
                (stream_frame::Body::Data(data), false)
            }
            Body::Window(window) => {
                link.from_user.give(window.bytes);
                (stream_frame::Body::Window(window), false)
            }
            Body::Close(close) => (stream_frame::Body::Close(close), true),
            Body::Hello(_) | Body::Open(_) => return None,
        };
        let sent = link.to_user.try_send(Ok(StreamFrame { body: Some(body) })).is_ok();
        if over || !sent {
            self.streams().remove(&frame.stream);
        }
        (!sent && !over).then(|| failed("ServiceUnavailable", "the user is gone, or reads too slowly"))
    }

    /// Ends a stream on the user's side.
    fn end(&self, stream: u64, link: &Link, close: StreamClose) {
        self.streams().remove(&stream);
        // A user who is gone needs no close.
        let _ = link.to_user.try_send(Ok(StreamFrame { body: Some(stream_frame::Body::Close(close)) }));
    }

    /// Ends all streams: the component is gone.
    fn end_all(&self) {
        let all = std::mem::take(&mut *self.streams());
        for link in all.into_values() {
            let close = failed("ServiceUnavailable", "the connection to the component was lost");
            let _ = link.to_user.try_send(Ok(StreamFrame { body: Some(stream_frame::Body::Close(close)) }));
        }
    }
}

/// What may still be sent in one direction.
struct Allowance(AtomicU64);

impl Allowance {
    fn new() -> Self {
        Self(AtomicU64::new(INITIAL_CREDIT))
    }

    /// Uses up credit; `false` if there is not that much.
    fn take(&self, bytes: usize) -> bool {
        let bytes = bytes as u64;
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(bytes)).is_ok()
    }

    fn give(&self, bytes: u32) {
        // Whatever a receiver allows, it cannot make the server hold more than this.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
            Some(left.saturating_add(u64::from(bytes)).min(4 * INITIAL_CREDIT))
        });
    }
}

fn failed(reason: &str, message: impl Into<String>) -> StreamClose {
    StreamClose { failed: true, reason: reason.into(), message: message.into(), exit_code: None }
}
