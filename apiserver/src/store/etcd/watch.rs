//! Watching etcd: its responses, told as whole revisions.
//!
//! The watch always covers everything that is Skiff's, whatever prefix was asked for: so each revision shows how far the
//! watch is, a restore is seen, and a tick written by `progress` comes by. (etcd 3.4 and early 3.5 answer a progress
//! request at once, even with events still to be sent: it would claim what is not true yet.)

use std::sync::Arc;

use bytes::Bytes;
use etcd_client::{
    Event as EtcdEvent, EventType, KeyValue, WatchClient, WatchOptions, WatchResponse, WatchStream as EtcdStream,
};

use super::layout::{Layout, PROGRESS_KEY, STORE_KEY};
use crate::store::embedded::cut;
use crate::store::{Event, EventKind, Revision, StoreError, WatchItem, WatchSender};

/// Opens the watch. It begins at `after` itself, so that etcd's own test for compaction is the strict one: from
/// `after + 1` on it would accept a compaction at just that revision, and a delete there would be lost without a word.
pub(super) async fn open(
    mut client: WatchClient,
    layout: &Layout,
    after: u64,
) -> Result<EtcdStream, etcd_client::Error> {
    let (from, to) = layout.everything();
    let start = layout.inner(after).max(1);
    client.watch(from, Some(WatchOptions::new().with_range(to).with_start_revision(start).with_prev_key())).await
}

/// Carries one etcd watch over to one of ours.
pub(super) struct Carrier {
    pub(super) layout: Layout,
    pub(super) prefix: Vec<u8>,
    pub(super) after: u64,
    pub(super) sender: WatchSender,
}

impl Carrier {
    /// Runs until the watch ends on either side; `Err` says why it ended on etcd's.
    pub(super) async fn run(&mut self, mut stream: EtcdStream) -> Result<(), StoreError> {
        loop {
            let response = tokio::select! {
                biased;
                () = self.sender.closed() => return Ok(()),
                response = stream.message() => response,
            };
            let gone = |why: String| StoreError::Unavailable(format!("etcd's watch ended: {why}"));
            match response {
                Ok(Some(response)) => {
                    if !self.carry(&response)? {
                        return Ok(());
                    }
                }
                Ok(None) => return Err(gone("the connection was closed".into())),
                Err(error) => return Err(gone(error.to_string())),
            }
        }
    }

    /// One response: no events, or those of one or more whole revisions. `false`: the reader is gone.
    fn carry(&mut self, response: &WatchResponse) -> Result<bool, StoreError> {
        if response.compact_revision() > 0 {
            return Err(StoreError::Compacted { oldest: self.layout.outer(response.compact_revision()) });
        }
        if response.canceled() {
            return Err(StoreError::Unavailable(format!("etcd cancelled the watch: {}", response.cancel_reason())));
        }
        for events in response.events().chunk_by(|a, b| revision_of(a) == revision_of(b)) {
            if !self.carry_revision(events)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn carry_revision(&mut self, events: &[EtcdEvent]) -> Result<bool, StoreError> {
        let Some(revision) = events.first().map(|event| self.layout.outer(revision_of(event))) else { return Ok(true) };
        if revision <= self.after {
            return Ok(true);
        }
        self.after = revision;
        // First of all: a restore may already have compacted away what its own deletes had.
        let marks = self.layout.key(STORE_KEY.as_bytes());
        // The mark we know is where this history began; any other one means that it was replaced.
        let remarked = |kv: &KeyValue| kv.key() == marks && kv.mod_revision() > self.layout.marked_at;
        if events.iter().any(|event| event.kv().is_some_and(remarked)) {
            return Err(StoreError::Restored);
        }
        let mut ours = Vec::with_capacity(events.len());
        for event in events {
            let Some(key) = event.kv().and_then(|kv| self.layout.strip(kv.key())) else { continue };
            if key != PROGRESS_KEY.as_bytes() && key != STORE_KEY.as_bytes() {
                ours.push(self.event(key, event, revision)?);
            }
        }
        // What the asker does not want to see shows at least how far we are.
        let item = match cut(&Arc::new(Revision { revision, events: ours }), &self.prefix) {
            Some(revision) if !revision.events.is_empty() => WatchItem::Revision(revision),
            _ => WatchItem::Progress(revision),
        };
        Ok(self.sender.send(item))
    }

    fn event(&self, key: Bytes, event: &EtcdEvent, revision: u64) -> Result<Event, StoreError> {
        let kind = match (event.event_type(), event.kv()) {
            (EventType::Put, Some(kv)) => EventKind::Put {
                value: Bytes::copy_from_slice(kv.value()),
                create_revision: self.layout.outer(kv.create_revision()),
            },
            // The last value was compacted away: better to list again than to delete nobody knows what.
            _ => match event.prev_kv() {
                Some(previous) => EventKind::Delete { previous: Bytes::copy_from_slice(previous.value()) },
                None => return Err(StoreError::Compacted { oldest: revision }),
            },
        };
        Ok(Event { key, kind })
    }
}

fn revision_of(event: &EtcdEvent) -> i64 {
    event.kv().map_or(0, |kv| kv.mod_revision())
}
