//! Watch: a collection's changes as a stream, from a revision on, without a gap.

use super::Registry;
use super::commit::cache_error;
use super::error::{ApiError, ApiResult};
use super::limits::Permit;
use super::list::{content, content_type, revision};
use super::metrics::Counted;
use super::request::{Format, Request, WatchOptions};
use super::selection::Selection;
use crate::cache::{self, CacheError, SharedFrame, WatchFrom, WatchKind};
use crate::envelope::ContentType;
use crate::resources::{PROTOBUF, Resource};
use bytes::Bytes;
use prometheus_client::metrics::counter::Counter;
use skiff_world::mutants::{Mutant, is_awake};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How often a watch says how far it is.
const BOOKMARKS: Duration = Duration::from_secs(60);
/// A watch that sets no end to itself ends after half of this, or up to all of it: in seconds.
const LONGEST: u64 = 3600;
/// The latest end that a watch may ask for, in seconds: what a clock can still count to.
const FOREVER: u64 = 10 * 365 * 24 * 3600;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchEventKind {
    /// An object came, or came to be selected.
    Added,
    /// An object changed.
    Modified,
    /// An object went, or is no longer selected.
    Deleted,
    /// Only how far the stream is.
    Bookmark,
    /// The stream ends, for the reason it carries.
    Error,
}

/// One event.
#[derive(Clone, Debug)]
pub struct WatchEvent {
    /// What happened.
    pub kind: WatchEventKind,
    /// The object; empty in a bookmark and in an error.
    pub object: Bytes,
    /// What the bytes are.
    pub content_type: &'static str,
    /// The event's revision.
    pub revision: u64,
    /// On the bookmark that closes the initial events.
    pub initial_events_end: bool,
    /// In an error: why the stream ends.
    pub error: Option<ApiError>,
    /// Where the event as REST sends it is shared with other watchers.
    pub frame: Option<SharedFrame>,
}

/// A stream of events. It gives its leave back when dropped.
pub struct WatchReply {
    watch: cache::Watch,
    resource: Arc<Resource>,
    format: Format,
    content_type: &'static str,
    metadata_only: bool,
    bookmarks: bool,
    initial_end: bool,
    deadline: Instant,
    ended: bool,
    closing: CancellationToken,
    _permit: Permit,
    cut_off: Counter,
    _counted: Counted,
}

impl Registry {
    /// Opens a watch.
    pub(super) async fn watch(
        &self,
        request: &Request,
        options: &WatchOptions,
        permit: Permit,
    ) -> ApiResult<WatchReply> {
        self.inner.permits.selector(&options.label_selector)?;
        self.inner.permits.selector(&options.field_selector)?;
        let resource = &request.resource;
        let selection = Selection::parse(resource, &options.label_selector, &options.field_selector)?;
        let unversioned = if options.skip_initial_events { WatchFrom::Now } else { WatchFrom::State };
        let from = match options.resource_version.as_str() {
            "" => {
                self.catch_up().await?;
                unversioned
            }
            "0" => unversioned,
            version => {
                let revision = revision(version)?;
                self.wait_for(revision).await?;
                // With initial events the revision says how new they must be; without, where the stream begins.
                if options.send_initial_events { WatchFrom::State } else { WatchFrom::After(revision) }
            }
        };
        let wanted = cache::WatchOptions {
            namespace: request.namespace.clone(),
            filter: selection.filter(),
            only: selection.only(),
            from,
            bookmarks: options.allow_bookmarks.then_some(BOOKMARKS),
        };
        let watch = self.inner.cache.watch(resource.cached(), wanted).map_err(cache_error)?;
        let seconds = match options.timeout_seconds {
            // Spread, so that watches that began together do not all come again together.
            0 => LONGEST / 2 + self.inner.world.random_below(LONGEST / 2),
            seconds => seconds,
        };
        Ok(WatchReply {
            watch,
            resource: resource.clone(),
            format: request.accept,
            content_type: content_type(request),
            metadata_only: request.metadata_only,
            bookmarks: options.allow_bookmarks,
            initial_end: options.send_initial_events && options.allow_bookmarks,
            deadline: self.inner.world.now() + Duration::from_secs(seconds.min(FOREVER)),
            ended: false,
            closing: self.inner.closing.clone(),
            _permit: permit,
            cut_off: self.inner.metrics.cut_off(resource),
            _counted: self.inner.metrics.watching(request),
        })
    }
}

impl WatchReply {
    /// The next event; `None` when the stream is over.
    pub async fn next(&mut self) -> Option<WatchEvent> {
        loop {
            if self.ended {
                return None;
            }
            // What is there already needs no waiting, and most of what is sent comes in batches.
            if let Some(event) = self.try_next() {
                return Some(event);
            }
            let next = tokio::select! {
                biased;
                () = self.closing.cancelled() => return None,
                next = self.watch.next() => next,
                () = tokio::time::sleep_until(self.deadline) => return None,
            };
            if let Some(event) = self.shown(next) {
                return Some(event);
            }
        }
    }

    /// What can be sent without waiting.
    pub fn try_next(&mut self) -> Option<WatchEvent> {
        while !self.ended {
            let next = self.watch.try_next()?;
            if let Some(event) = self.shown(Ok(next)) {
                return Some(event);
            }
        }
        None
    }

    fn shown(&mut self, next: Result<cache::WatchEvent, CacheError>) -> Option<WatchEvent> {
        match next {
            Ok(cache::WatchEvent::Object(event)) => {
                let as_stored = self.format == Format::Protobuf
                    && event.entry.content_type() == ContentType::Protobuf
                    && !self.metadata_only;
                let content = match as_stored {
                    true => Ok((event.object(), PROTOBUF)),
                    false => content(&self.resource, &event.entry, self.format, self.metadata_only),
                };
                let (object, content_type) = match content {
                    Ok(content) => content,
                    Err(error) => return Some(self.error(error)),
                };
                // What is kept as JSON may be shown in several versions.
                let versioned = event.entry.content_type() == ContentType::Json;
                let nameless = is_awake(Mutant::NamelessDelete) && event.kind == WatchKind::Deleted;
                let object = if nameless { Bytes::new() } else { object };
                let kind = match event.kind {
                    WatchKind::Added => WatchEventKind::Added,
                    WatchKind::Modified => WatchEventKind::Modified,
                    WatchKind::Deleted => WatchEventKind::Deleted,
                };
                Some(WatchEvent {
                    kind,
                    object,
                    content_type,
                    revision: event.entry.mod_revision,
                    initial_events_end: false,
                    error: None,
                    frame: event.frame().filter(|_| !self.metadata_only && !nameless && !versioned),
                })
            }
            Ok(cache::WatchEvent::Bookmark { revision, initial_end }) => {
                let wanted = if initial_end { self.initial_end } else { self.bookmarks };
                wanted.then(|| WatchEvent {
                    kind: WatchEventKind::Bookmark,
                    object: Bytes::new(),
                    content_type: self.content_type,
                    revision,
                    initial_events_end: initial_end,
                    error: None,
                    frame: None,
                })
            }
            // A watcher that was too slow goes on from where it was: the stream just ends.
            Err(CacheError::Lagging) => {
                self.cut_off.inc();
                self.ended = true;
                None
            }
            // A kind that goes, or becomes another, ends what follows it; whoever goes on learns what it is now.
            Err(CacheError::Ended) => {
                self.ended = true;
                None
            }
            Err(error) => Some(self.error(cache_error(error))),
        }
    }

    /// The last event: why the stream ends.
    fn error(&mut self, error: ApiError) -> WatchEvent {
        self.ended = true;
        WatchEvent {
            kind: WatchEventKind::Error,
            object: Bytes::new(),
            content_type: self.content_type,
            revision: self.watch.revision(),
            initial_events_end: false,
            error: Some(error),
            frame: None,
        }
    }
}
