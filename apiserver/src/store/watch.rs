//! The reader's and the writer's end of a store watch: a bounded queue that never makes the writer wait.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::OnceLock;

use tokio::sync::mpsc;

use super::{Revision, StoreError};

/// What a watch yields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WatchItem {
    /// One whole revision, cut down to the watched prefix.
    Revision(Arc<Revision>),
    /// Everything up to this revision has been yielded.
    Progress(u64),
}

impl WatchItem {
    /// The revision it speaks of.
    pub fn revision(&self) -> u64 {
        match self {
            WatchItem::Revision(revision) => revision.revision,
            WatchItem::Progress(revision) => *revision,
        }
    }
}

/// Yields revisions in order until it ends with an error; after that only `None`.
#[derive(Debug)]
pub struct WatchStream {
    backlog: VecDeque<Arc<Revision>>,
    queue: mpsc::Receiver<WatchItem>,
    end: Arc<OnceLock<StoreError>>,
    ended: bool,
}

impl WatchStream {
    /// The next item. `Some(Err(_))` comes once, as the last: its error says whether to resume or to list again.
    pub async fn next(&mut self) -> Option<Result<WatchItem, StoreError>> {
        if let Some(revision) = self.backlog.pop_front() {
            return Some(Ok(WatchItem::Revision(revision)));
        }
        if self.ended {
            return None;
        }
        match self.queue.recv().await {
            Some(item) => Some(Ok(item)),
            None => {
                self.ended = true;
                Some(Err(self.end.get().cloned().unwrap_or(StoreError::Closed)))
            }
        }
    }

    /// What is there already, without waiting: for readers that work in batches.
    pub fn try_next(&mut self) -> Option<WatchItem> {
        if let Some(revision) = self.backlog.pop_front() {
            return Some(WatchItem::Revision(revision));
        }
        self.queue.try_recv().ok()
    }
}

/// The writer's end. Dropping it ends the stream.
#[derive(Debug)]
pub struct WatchSender {
    queue: mpsc::Sender<WatchItem>,
    end: Arc<OnceLock<StoreError>>,
}

impl WatchSender {
    /// Queues an item without waiting. `false`: the reader is gone or too slow, and the watch is over.
    pub fn send(&self, item: WatchItem) -> bool {
        match self.queue.try_send(item) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Full(_)) => {
                self.end(StoreError::Lagging);
                false
            }
            Err(mpsc::error::TrySendError::Closed(_)) => false,
        }
    }

    /// Says why the stream will end when this sender is dropped. The first reason stays.
    pub fn end(&self, why: StoreError) {
        // A second reason is not an error: the first one is why it ended.
        let _ = self.end.set(why);
    }

    /// True if nobody reads any more.
    pub fn is_closed(&self) -> bool {
        self.queue.is_closed()
    }

    /// Completes when nobody reads any more.
    pub async fn closed(&self) {
        self.queue.closed().await;
    }
}

/// A watch that first yields `backlog`, then what is sent; a reader more than `capacity` items behind is cut off.
pub fn watch_channel(backlog: VecDeque<Arc<Revision>>, capacity: usize) -> (WatchSender, WatchStream) {
    let (sender, queue) = mpsc::channel(capacity);
    let end = Arc::new(OnceLock::new());
    (WatchSender { queue: sender, end: end.clone() }, WatchStream { backlog, queue, end, ended: false })
}
