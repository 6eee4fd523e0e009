//! One watcher's stream from the small API server.

use prost::Message;
use skiff_proto::skiffv1::WatchEvent;
use skiff_proto::skiffv1::watch_event::Type;
use tokio::sync::broadcast;

use super::{Fake, Written, status};

pub(super) struct Watching {
    pub(super) fake: Fake,
    pub(super) resource: String,
    pub(super) namespace: String,
    pub(super) sent: u64,
    pub(super) news: broadcast::Receiver<()>,
    pub(super) cuts: u64,
    pub(super) over: bool,
}

impl Watching {
    pub(super) async fn next(mut self) -> Option<(Result<WatchEvent, tonic::Status>, Self)> {
        loop {
            if let Some(item) = self.ready()? {
                return Some((item, self));
            }
            let _ = self.news.recv().await;
        }
    }

    /// The next event; `Some(None)`: none yet; `None`: the end.
    fn ready(&mut self) -> Option<Option<Result<WatchEvent, tonic::Status>>> {
        let state = self.fake.lock();
        if self.over || state.cuts != self.cuts {
            return None;
        }
        if state.hold_watches {
            return Some(None);
        }
        if self.sent < state.compacted {
            drop(state);
            self.over = true;
            let object = status("Expired", 410).encode_to_vec().into();
            return Some(Some(Ok(WatchEvent { r#type: Type::Error.into(), object, ..WatchEvent::default() })));
        }
        let mine = |written: &&Written| {
            written.revision > self.sent
                && written.place.0 == self.resource
                && (self.namespace.is_empty() || written.place.1 == self.namespace)
        };
        let written = state.history.iter().find(mine).cloned();
        drop(state);
        Some(written.map(|written| {
            self.sent = written.revision;
            Ok(WatchEvent {
                r#type: written.kind.into(),
                object: written.bytes.into(),
                resource_version: written.revision.to_string(),
                initial_events_end: false,
            })
        }))
    }
}
