//! In-memory connections: two lanes of bytes, one in each direction.
//!
//! In the real world a lane delivers at once. In simulation a [`Link`] decides when each chunk
//! arrives, whether the connection breaks instead, and a partition holds lanes back. A lane keeps
//! its order, as TCP does; what is reordered is what travels on different connections.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use crate::host::locked;

/// How much one direction holds before the writer waits, like a socket's send buffer.
const CAPACITY: usize = 256 * 1024;

/// What becomes of a chunk on its way.
pub(crate) enum Fate {
    /// It arrives at once.
    Arrives,
    /// It arrives then, or when what was sent before it has arrived.
    ArrivesAt(Instant),
    /// It is lost, and the connection with it.
    Breaks,
}

/// Decides what becomes of each chunk. `wire` names the connection, `forth` the direction.
pub(crate) trait Link: Send + Sync {
    fn fate(&self, wire: u64, forth: bool) -> Fate;
}

/// Both lanes of a connection.
pub(crate) struct Wire {
    forth: Mutex<Lane>,
    back: Mutex<Lane>,
}

#[derive(Default)]
struct Lane {
    chunks: VecDeque<Chunk>,
    queued: usize,
    last_arrival: Option<Instant>,
    /// The writer has sent its end.
    ended: bool,
    /// The reader is gone: writing makes no sense.
    abandoned: bool,
    /// The connection broke: both sides get an error.
    broken: bool,
    /// Nothing gets through, not even the news of an end, until the lane is released.
    held: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

struct Chunk {
    arrives: Option<Instant>,
    /// Empty for the end of the stream.
    bytes: Bytes,
}

impl Lane {
    fn wake(&mut self) -> [Option<Waker>; 2] {
        [self.reader.take(), self.writer.take()]
    }
}

impl Wire {
    /// Breaks the connection: both ends get an error, what is under way is lost.
    pub(crate) fn cut(&self) {
        for lane in [&self.forth, &self.back] {
            let wakers = {
                let mut lane = locked(lane);
                lane.broken = true;
                lane.wake()
            };
            wakers.into_iter().flatten().for_each(Waker::wake);
        }
    }

    /// Holds everything back, or lets it go on.
    pub(crate) fn hold(&self, held: bool) {
        for lane in [&self.forth, &self.back] {
            let wakers = {
                let mut lane = locked(lane);
                lane.held = held;
                lane.wake()
            };
            wakers.into_iter().flatten().for_each(Waker::wake);
        }
    }
}

/// One end of a connection.
pub(crate) struct PipeEnd {
    wire: Arc<Wire>,
    number: u64,
    link: Option<Arc<dyn Link>>,
    /// Whether this end writes the forth lane (and reads the back lane).
    forth: bool,
    timer: Option<Pin<Box<Sleep>>>,
}

/// A connection's two ends: the connecting one first.
pub(crate) fn pair(number: u64, link: Option<Arc<dyn Link>>) -> (PipeEnd, PipeEnd) {
    let wire = Arc::new(Wire { forth: Mutex::default(), back: Mutex::default() });
    let end = |forth| PipeEnd { wire: wire.clone(), number, link: link.clone(), forth, timer: None };
    (end(true), end(false))
}

impl PipeEnd {
    pub(crate) fn wire(&self) -> &Arc<Wire> {
        &self.wire
    }

    fn outgoing(&self) -> &Mutex<Lane> {
        if self.forth { &self.wire.forth } else { &self.wire.back }
    }

    fn incoming(&self) -> &Mutex<Lane> {
        if self.forth { &self.wire.back } else { &self.wire.forth }
    }

    /// Sends a chunk on its way; an empty one is the end of the stream.
    fn send(&self, bytes: Bytes) {
        let arrives = match self.link.as_ref().map(|link| link.fate(self.number, self.forth)) {
            None | Some(Fate::Arrives) => None,
            Some(Fate::ArrivesAt(at)) => Some(at),
            Some(Fate::Breaks) => return self.wire.cut(),
        };
        let reader = {
            let mut lane = locked(self.outgoing());
            // Order is kept: nothing overtakes what was sent before it.
            let arrives = arrives.max(lane.last_arrival);
            lane.last_arrival = arrives;
            lane.ended |= bytes.is_empty();
            lane.queued += bytes.len();
            lane.chunks.push_back(Chunk { arrives, bytes });
            lane.reader.take()
        };
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    /// Room for this many bytes, or why there is none.
    fn poll_room(&self, cx: &Context<'_>) -> Poll<io::Result<usize>> {
        let mut lane = locked(self.outgoing());
        if lane.ended {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if !lane.held {
            if lane.broken {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            if lane.abandoned {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
        }
        if lane.queued >= CAPACITY {
            lane.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Ok(CAPACITY - lane.queued))
    }

    fn end(&self) {
        let over = {
            let lane = locked(self.outgoing());
            lane.ended || lane.broken
        };
        if !over {
            self.send(Bytes::new());
        }
    }
}

impl AsyncRead for PipeEnd {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let wait_until = {
            let mut lane = locked(this.incoming());
            lane.reader = Some(cx.waker().clone());
            if lane.held {
                return Poll::Pending;
            }
            if lane.broken {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            match lane.chunks.front() {
                None => return Poll::Pending,
                Some(chunk) => chunk.arrives.filter(|at| *at > Instant::now()),
            }
        };
        if let Some(at) = wait_until {
            let timer = this.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
            if timer.deadline() != at {
                timer.as_mut().reset(at);
            }
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
        let writer = {
            let mut lane = locked(this.incoming());
            let now = Instant::now();
            while buf.remaining() > 0 {
                let Some(chunk) = lane.chunks.front_mut() else {
                    break;
                };
                if chunk.bytes.is_empty() || chunk.arrives.is_some_and(|at| at > now) {
                    break;
                }
                let some = chunk.bytes.len().min(buf.remaining());
                buf.put_slice(&chunk.bytes[..some]);
                chunk.bytes.advance(some);
                let emptied = chunk.bytes.is_empty();
                lane.queued -= some;
                if emptied {
                    lane.chunks.pop_front();
                }
            }
            lane.writer.take()
        };
        if let Some(writer) = writer {
            writer.wake();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for PipeEnd {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let room = std::task::ready!(self.poll_room(cx))?;
        let some = buf.len().min(room);
        if some > 0 {
            self.send(Bytes::copy_from_slice(&buf[..some]));
        }
        Poll::Ready(Ok(some))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let room = std::task::ready!(self.poll_room(cx))?;
        let wanted: usize = bufs.iter().map(|buf| buf.len()).sum();
        let mut joined = Vec::with_capacity(wanted.min(room));
        for buf in bufs {
            let some = buf.len().min(room - joined.len());
            joined.extend_from_slice(&buf[..some]);
        }
        let some = joined.len();
        if some > 0 {
            self.send(joined.into());
        }
        Poll::Ready(Ok(some))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.end();
        Poll::Ready(Ok(()))
    }
}

impl Drop for PipeEnd {
    fn drop(&mut self) {
        self.end();
        let writer = {
            let mut lane = locked(self.incoming());
            lane.abandoned = true;
            lane.writer.take()
        };
        if let Some(writer) = writer {
            writer.wake();
        }
    }
}
