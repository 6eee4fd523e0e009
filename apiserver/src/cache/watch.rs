//! One watcher's stream: first what was there or happened before, then what happens, with bookmarks in between.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::hub::{Interest, ObjectEvent, Subscription};
use super::state::{Change, Objects};
use super::{CacheError, Shared};

/// What a watch yields.
#[derive(Debug, Clone)]
pub enum WatchEvent {
    /// One object was added, changed or went away.
    Object(ObjectEvent),
    /// Everything up to this revision has been yielded.
    Bookmark {
        /// Watching after it leaves no gap.
        revision: u64,
        /// True once: behind the objects that were there at the beginning.
        initial_end: bool,
    },
}

/// What comes before the queue.
pub(super) enum Initial {
    State(Objects),
    Changes(Vec<Arc<Change>>),
}

/// A watch. Dropping it ends it.
pub struct Watch {
    shared: Arc<Shared>,
    backlog: VecDeque<WatchEvent>,
    subscription: Subscription,
    /// Everything up to here has been yielded once the backlog is empty.
    revision: u64,
    bookmarks: Option<Duration>,
    next_bookmark: Instant,
}

impl Watch {
    pub(super) fn new(
        shared: Arc<Shared>,
        interest: Interest,
        initial: Initial,
        revision: u64,
        subscription: Subscription,
        bookmarks: Option<Duration>,
    ) -> Watch {
        let backlog = match initial {
            Initial::State(objects) => {
                let selected = objects.values().filter(|entry| interest.wants(entry));
                let added = selected.map(|entry| ObjectEvent::initial(entry.clone()));
                let end = WatchEvent::Bookmark { revision, initial_end: true };
                added.map(WatchEvent::Object).chain([end]).collect()
            }
            Initial::Changes(changes) => {
                changes.iter().filter_map(|change| interest.see(change)).map(WatchEvent::Object).collect()
            }
        };
        let next_bookmark = shared.world.now() + bookmarks.unwrap_or_default();
        Watch { shared, backlog, subscription, revision, bookmarks, next_bookmark }
    }

    /// The next event. An error is the end: `Lagging` and `Expired` say how to go on.
    pub async fn next(&mut self) -> Result<WatchEvent, CacheError> {
        loop {
            if let Some(event) = self.try_next() {
                return Ok(event);
            }
            let pause = self.bookmarks.map(|_| self.next_bookmark);
            let received = tokio::select! {
                biased;
                event = self.subscription.next() => Some(event),
                () = until(pause) => None,
            };
            match received {
                Some(Some(event)) => {
                    self.revision = event.entry.mod_revision;
                    return Ok(WatchEvent::Object(event));
                }
                Some(None) => return Err(self.why_ended()),
                None => {
                    if let Some(bookmark) = self.bookmark() {
                        return Ok(bookmark);
                    }
                }
            }
        }
    }

    /// What is there already, without waiting: for writers that send many events at once.
    pub fn try_next(&mut self) -> Option<WatchEvent> {
        if let Some(event) = self.backlog.pop_front() {
            return Some(event);
        }
        let event = self.subscription.try_next()?;
        self.revision = event.entry.mod_revision;
        Some(WatchEvent::Object(event))
    }

    /// The revision up to which everything has been yielded.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The time has come. The cache's revision is read before the queue is looked at: the feed moves it on only when
    /// everything up to it is queued, so an empty queue after that means that nothing is missing.
    fn bookmark(&mut self) -> Option<WatchEvent> {
        let revision = self.shared.progress.borrow().revision;
        if !self.subscription.is_empty() {
            return None;
        }
        self.next_bookmark = self.shared.world.now() + self.bookmarks.unwrap_or_default();
        self.revision = self.revision.max(revision);
        Some(WatchEvent::Bookmark { revision: self.revision, initial_end: false })
    }

    fn why_ended(&self) -> CacheError {
        if self.subscription.is_lagging() {
            return CacheError::Lagging;
        }
        if self.subscription.is_over() {
            return CacheError::Ended;
        }
        let progress = self.shared.progress.borrow();
        match &progress.failed {
            Some(why) => CacheError::Store(why.clone()),
            None => CacheError::Expired { asked: self.revision, oldest: progress.revision },
        }
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
