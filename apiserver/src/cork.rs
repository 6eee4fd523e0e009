//! Fewer, larger reads and writes on a connection: a system call and a wake-up of the other side carry more than one
//! answer.
//!
//! HTTP/2 flushes after whatever is ready, and one commit of the store makes many answers ready at once. [`Corked`] puts
//! a flush off for one round of the scheduler: the connection's task asks to be polled again, behind the tasks that are
//! about to answer, and what they have put into it by then leaves in one TLS record and one write. Nothing waits for
//! time to pass. [`ReadAhead`] lies below TLS, which by itself reads four kilobytes at a time.

use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What is gathered before it is written without waiting for a flush; what TLS takes at once.
const FULL: usize = 64 * 1024;
/// What is set aside for the first write of a round.
const FIRST: usize = 4 * 1024;
/// Read at once.
const AHEAD: usize = 16 * 1024;

/// A stream whose flushes are put off by a round.
pub struct Corked<S> {
    inner: S,
    gathered: BytesMut,
    /// The round in which a flush was put off.
    put_off: Option<u64>,
    rounds: Arc<Rounds>,
}

/// The connection's task and how often it was polled. Only its flushes can be put off: it surely comes back.
#[derive(Default)]
pub struct Rounds {
    number: AtomicU64,
    task: Mutex<Option<Waker>>,
}

impl Rounds {
    /// Polls a connection, counting the rounds.
    pub async fn drive<F: Future>(&self, mut connection: Pin<&mut F>) -> F::Output {
        poll_fn(|cx| {
            self.number.fetch_add(1, Ordering::Relaxed);
            let mut task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
            if !task.as_ref().is_some_and(|task| task.will_wake(cx.waker())) {
                *task = Some(cx.waker().clone());
            }
            drop(task);
            connection.as_mut().poll(cx)
        })
        .await
    }

    fn number(&self) -> u64 {
        self.number.load(Ordering::Relaxed)
    }

    /// Whether it is the connection's task that asks: after an upgrade it is somebody else's.
    fn is_task(&self, cx: &Context<'_>) -> bool {
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        task.as_ref().is_some_and(|task| task.will_wake(cx.waker()))
    }
}

impl<S: AsyncWrite + Unpin> Corked<S> {
    /// A stream, and what its connection must be driven by.
    pub fn new(inner: S) -> (Corked<S>, Arc<Rounds>) {
        let rounds = Arc::new(Rounds::default());
        (Corked { inner, gathered: BytesMut::new(), put_off: None, rounds: rounds.clone() }, rounds)
    }

    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.gathered.is_empty() {
            let written = ready!(Pin::new(&mut self.inner).poll_write(cx, &self.gathered))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.gathered.advance(written);
        }
        // A quiet connection holds no memory for this.
        self.gathered = BytesMut::new();
        ready!(Pin::new(&mut self.inner).poll_flush(cx))?;
        self.put_off = None;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Corked<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        // The flush that was put off is due behind this read, in the same round; here only what has missed that.
        if let Some(round) = self.put_off
            && (self.rounds.number() > round + 1 || !self.rounds.is_task(cx))
            && let Poll::Ready(Err(error)) = self.poll_drain(cx)
        {
            return Poll::Ready(Err(error));
        }
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Corked<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let size: usize = bufs.iter().map(|buf| buf.len()).sum();
        if self.gathered.len() + size > FULL {
            ready!(self.poll_drain(cx))?;
        }
        if size > FULL {
            return Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        }
        if self.gathered.capacity() == 0 {
            self.gathered.reserve(size.max(FIRST));
        }
        for buf in bufs {
            self.gathered.extend_from_slice(buf);
        }
        Poll::Ready(Ok(size))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.gathered.is_empty() {
            return Pin::new(&mut self.inner).poll_flush(cx);
        }
        let round = self.rounds.number();
        match self.put_off {
            Some(before) if before == round && self.rounds.is_task(cx) => Poll::Ready(Ok(())),
            None if self.rounds.is_task(cx) => {
                self.put_off = Some(round);
                cx.waker().wake_by_ref();
                Poll::Ready(Ok(()))
            }
            _ => self.poll_drain(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// A stream that reads more than it is asked for, and keeps the rest; it holds no memory while there is no rest.
pub struct ReadAhead<S> {
    inner: S,
    rest: Bytes,
}

impl<S> ReadAhead<S> {
    /// Around a stream.
    pub fn new(inner: S) -> ReadAhead<S> {
        ReadAhead { inner, rest: Bytes::new() }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ReadAhead<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.rest.is_empty() {
            if buf.remaining() >= AHEAD {
                return Pin::new(&mut self.inner).poll_read(cx, buf);
            }
            let mut space = [MaybeUninit::<u8>::uninit(); AHEAD];
            let mut ahead = ReadBuf::uninit(&mut space);
            ready!(Pin::new(&mut self.inner).poll_read(cx, &mut ahead))?;
            let (now, rest) = ahead.filled().split_at(ahead.filled().len().min(buf.remaining()));
            buf.put_slice(now);
            self.rest = Bytes::copy_from_slice(rest);
            return Poll::Ready(Ok(()));
        }
        let size = self.rest.len().min(buf.remaining());
        buf.put_slice(&self.rest[..size]);
        self.rest.advance(size);
        if self.rest.is_empty() {
            self.rest = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ReadAhead<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// Counts what reaches it; reads give `chunk` bytes each.
    #[derive(Default)]
    struct Counting {
        writes: Arc<Mutex<Vec<usize>>>,
        reads: Arc<Mutex<Vec<usize>>>,
        left: usize,
    }

    impl AsyncWrite for Counting {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            self.writes.lock().unwrap().push(buf.len());
            Poll::Ready(Ok(buf.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncRead for Counting {
        fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            let size = buf.remaining().min(self.left);
            self.left -= size;
            buf.put_slice(&vec![7; size]);
            self.reads.lock().unwrap().push(size);
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn what_is_flushed_in_two_polls_leaves_as_one_write() {
        let stream = Counting::default();
        let writes = stream.writes.clone();
        let (mut corked, rounds) = Corked::new(stream);
        let mut polls = 0;
        let connection = poll_fn(|cx| {
            polls += 1;
            let mut corked = Pin::new(&mut corked);
            if polls <= 2 {
                assert!(matches!(corked.as_mut().poll_write(cx, b"answer"), Poll::Ready(Ok(6))));
            }
            // Flushed twice within one poll, as HTTP/2 does.
            assert!(corked.as_mut().poll_flush(cx).is_ready());
            assert!(corked.as_mut().poll_flush(cx).is_ready());
            if writes.lock().unwrap().is_empty() { Poll::Pending } else { Poll::Ready(polls) }
        });
        // Nothing but its own flush wakes it again.
        let connection = pin!(connection);
        let driven = tokio::time::timeout(std::time::Duration::from_secs(5), rounds.drive(connection));
        assert_eq!(driven.await.expect("the flush that was put off came"), 2);
        assert_eq!(*writes.lock().unwrap(), [12]);
    }

    #[tokio::test]
    async fn a_large_write_does_not_wait_and_keeps_its_order() {
        let stream = Counting::default();
        let writes = stream.writes.clone();
        let (mut corked, _) = Corked::new(stream);
        corked.write_all(b"small").await.unwrap();
        corked.write_all(&vec![0; FULL + 1]).await.unwrap();
        assert_eq!(*writes.lock().unwrap(), [5, FULL + 1]);
    }

    #[tokio::test]
    async fn whoever_is_not_the_connections_task_flushes_at_once() {
        let stream = Counting::default();
        let writes = stream.writes.clone();
        let (mut corked, _) = Corked::new(stream);
        corked.write_all(b"upgraded").await.unwrap();
        corked.flush().await.unwrap();
        assert_eq!(*writes.lock().unwrap(), [8]);
    }

    #[tokio::test]
    async fn reading_ahead_gives_every_byte_and_asks_less_often() {
        let stream = Counting { left: 3 * AHEAD, ..Counting::default() };
        let reads = stream.reads.clone();
        let mut stream = ReadAhead::new(stream);
        let mut whole = Vec::new();
        let mut piece = [0; 4096];
        loop {
            match stream.read(&mut piece).await.unwrap() {
                0 => break,
                size => whole.extend_from_slice(&piece[..size]),
            }
        }
        assert_eq!(whole, vec![7; 3 * AHEAD]);
        assert_eq!(*reads.lock().unwrap(), [AHEAD, AHEAD, AHEAD, 0]);
    }
}
