//! The one task that follows the store and moves the cache on.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::{Progress, Shared};
use crate::store::{Entry, ROOT, Revision, Store, StoreError, WatchItem, WatchStream};

/// Who else is told of every revision, in order.
pub trait RevisionSink: Send + Sync + 'static {
    /// The last revision it has; the feed begins there if the store still remembers.
    fn resume_from(&self) -> Option<u64>;
    /// One revision. Must not block; one that it has already is to be ignored.
    fn revision(&self, revision: &Arc<Revision>);
    /// Nothing more will be told of the revisions in between: the store has forgotten them.
    fn gap(&self, after: u64, up_to: u64);
}

/// At the start the cache begins so many revisions back, so that watchers of a server that died can resume.
const LOOK_BACK: u64 = 2_000;
/// A sink's resumption may lie further back, up to here.
const SINK_LOOK_BACK: u64 = 10_000;
const PAGE: usize = 2_000;
/// Most revisions applied under one lock.
const BATCH: usize = 256;
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// How often watchers that went away are forgotten.
const SWEEP: u32 = 64;

/// Fills the cache, catches up and starts to follow.
pub(super) async fn start(shared: &Arc<Shared>, sinks: Vec<Arc<dyn super::RevisionSink>>) -> Result<(), StoreError> {
    let mut feed = Feed { shared: shared.clone(), sinks, batches: 0 };
    let head = feed.store().head().await?;
    let resume = feed.sinks.iter().filter_map(|sink| sink.resume_from()).min().unwrap_or(head);
    let from = resume.max(head.saturating_sub(SINK_LOOK_BACK)).min(head.saturating_sub(LOOK_BACK)).max(1);
    let mut stream = feed.load(from).await?;
    // The head may be a revision that is not ours; this makes one that is.
    feed.store().progress().await?;
    while feed.shared.progress.borrow().revision < head {
        let taken = match stream.next().await {
            Some(item) => item.and_then(|item| feed.take(item, &mut stream)),
            None => return Err(StoreError::Closed),
        };
        match taken {
            // A restore lies within what was looked back at: begin behind it.
            Err(gone) if gone.needs_relist() => stream = feed.start_over().await?,
            other => other?,
        }
    }
    let world = shared.world.clone();
    world.spawn("cache-feed", feed.run(stream));
    Ok(())
}

struct Feed {
    shared: Arc<Shared>,
    sinks: Vec<Arc<dyn super::RevisionSink>>,
    batches: u32,
}

impl Feed {
    fn store(&self) -> &dyn Store {
        self.shared.store.as_ref()
    }

    fn revision(&self) -> u64 {
        self.shared.progress.borrow().revision
    }

    /// Follows until the store is closed or cannot be understood.
    async fn run(mut self, mut stream: WatchStream) {
        loop {
            let why = self.follow(&mut stream).await;
            match self.recover(why).await {
                Ok(again) => stream = again,
                Err(why) => return self.fail(why),
            }
        }
    }

    /// Applies what comes until the stream ends; says why it did.
    async fn follow(&mut self, stream: &mut WatchStream) -> StoreError {
        while let Some(item) = stream.next().await {
            if let Err(why) = item.and_then(|item| self.take(item, stream)) {
                return why;
            }
            // A long run of revisions must not keep the watchers from reading: on one thread they could not.
            tokio::task::yield_now().await;
        }
        StoreError::Closed
    }

    /// Applies one item and what waits behind it: first to the state, then to the watchers, then it counts as reached.
    fn take(&mut self, first: WatchItem, stream: &mut WatchStream) -> Result<(), StoreError> {
        let shared = self.shared.clone();
        let mut hub = shared.hub();
        let mut changes = Vec::new();
        let revision = {
            let mut state = shared.state_mut();
            let waiting = std::iter::from_fn(|| stream.try_next());
            for item in std::iter::once(first).chain(waiting.take(BATCH)) {
                match item {
                    WatchItem::Progress(revision) => state.advance(revision),
                    WatchItem::Revision(revision) => {
                        changes.extend(state.apply(&revision)?);
                        self.sinks.iter().for_each(|sink| sink.revision(&revision));
                    }
                }
            }
            state.revision()
        };
        hub.tell(&changes);
        self.batches = self.batches.wrapping_add(1);
        if self.batches.is_multiple_of(SWEEP) {
            hub.sweep();
        }
        drop(hub);
        self.shared.progress.send_modify(|progress| progress.revision = revision);
        Ok(())
    }

    /// Watches again where it stopped, or starts over where that is impossible. Tries until it succeeds.
    async fn recover(&mut self, mut why: StoreError) -> Result<WatchStream, StoreError> {
        let mut pause = FIRST_PAUSE;
        loop {
            tracing::info!(%why, revision = self.revision(), "the cache lost its watch on the store");
            let again = match &why {
                StoreError::Closed | StoreError::NewerFormat { .. } | StoreError::Corrupt(_) => return Err(why),
                gone if gone.needs_relist() => self.start_over().await,
                _ => self.store().watch(ROOT.as_bytes(), self.revision()).await,
            };
            match again {
                Ok(stream) => return Ok(stream),
                Err(error) => why = error,
            }
            self.shared.world.sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Reads everything anew. Whoever watches has to list again: what happened in between is not known.
    async fn start_over(&mut self) -> Result<WatchStream, StoreError> {
        let head = self.store().head().await?;
        let before = self.revision();
        let stream = self.load(head).await?;
        for sink in &self.sinks {
            sink.gap(before, head);
        }
        Ok(stream)
    }

    /// Fills the cache with the state at `from`, or at the oldest revision there is, and watches on from there.
    async fn load(&mut self, from: u64) -> Result<WatchStream, StoreError> {
        let (entries, revision) = match self.read_all(from).await {
            Err(StoreError::Compacted { oldest }) => self.read_all(oldest.max(from)).await?,
            other => other?,
        };
        if let Some(after) = self.sinks.iter().filter_map(|sink| sink.resume_from()).min()
            && after < revision
        {
            self.sinks.iter().for_each(|sink| sink.gap(after, revision));
        }
        let stream = self.store().watch(ROOT.as_bytes(), revision).await?;
        let mut hub = self.shared.hub();
        self.shared.state_mut().replace(entries, revision)?;
        hub.cut_all();
        drop(hub);
        self.shared.progress.send_modify(|progress| progress.revision = revision);
        Ok(stream)
    }

    async fn read_all(&self, at: u64) -> Result<(Vec<Entry>, u64), StoreError> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut from: Option<Bytes> = None;
        loop {
            let page = self.store().range(ROOT.as_bytes(), from.as_deref(), PAGE, Some(at)).await?;
            let more = page.more;
            entries.extend(page.entries);
            match entries.last() {
                // The key right behind the last one.
                Some(last) if more => from = Some([&last.key[..], &[0]].concat().into()),
                _ => return Ok((entries, at)),
            }
        }
    }

    /// Nothing more will come: everybody is told, and reads go on with what is there.
    fn fail(&self, why: StoreError) {
        if why != StoreError::Closed {
            tracing::error!(%why, "the cache stops following the store");
        }
        self.shared.progress.send_modify(|progress: &mut Progress| progress.failed = Some(why));
        self.shared.hub().cut_all();
    }
}
