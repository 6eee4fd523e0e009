//! Watch: events as concatenated JSON objects, as Tables, or as frames of protobuf.

use super::media::{Encoding, Shape};
use super::respond::{self, Answer};
use super::tables::Table;
use super::{Ask, OK, Rest, envelope, events};
use crate::registry::{ApiError, ApiResult, Operation, Reply, WatchEvent, WatchEventKind, WatchReply};
use crate::resources::{JSON, PROTOBUF, Resource};
use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::StreamBody;
use hyper::body::Frame;
use prost::Message;
use serde_json::{Value, json};
use skiff_proto::metav1::{ObjectMeta, PartialObjectMetadata};
use std::convert::Infallible;
use std::sync::Arc;
use tonic::body::Body;

/// About so much is sent at once, if it is there.
const PIECE: usize = 32 * 1024;
/// The annotation of the bookmark that ends the initial events.
const INITIAL_END: &str = "k8s.io/initial-events-end";

impl Rest {
    /// Follows a collection, or one object of it.
    pub(super) async fn watch(&self, ask: &Ask, resource: Arc<Resource>) -> ApiResult<Answer> {
        if !ask.place.subresource.is_empty() {
            return Err(ApiError::method_not_allowed(&resource, "watch"));
        }
        let mut options = ask.query.watch()?;
        if !ask.place.name.is_empty() {
            let one = format!("metadata.name={}", ask.place.name);
            let more = std::mem::take(&mut options.field_selector);
            options.field_selector = if more.is_empty() { one } else { format!("{one},{more}") };
        }
        options.field_selector = events::selector(&resource, options.field_selector);
        let request = self.request(ask, resource.clone(), Operation::Watch(options))?;
        let mut writer = Writer::new(self, ask, &resource);
        let content_type = writer.content_type();
        let events = match self.registry.serve(request).await {
            Ok(Reply::Watch(watch)) => writer.stream(watch),
            Ok(_) => return Err(ApiError::internal("a watch was expected")),
            // Informers look for this as an event: only then do they list again.
            Err(error) if error.code() == 410 => Body::new(http_body_util::Full::new(writer.error(&error))),
            Err(error) => return Err(error),
        };
        Ok(respond::stream(OK, content_type, events))
    }
}

/// Writes one watch's events.
struct Writer {
    resource: Arc<Resource>,
    api_version: String,
    kind: String,
    whole: bool,
    protobuf: bool,
    table: Option<Table>,
    first: bool,
}

impl Writer {
    fn new(rest: &Rest, ask: &Ask, resource: &Arc<Resource>) -> Self {
        let table = match ask.wanted.shape {
            Shape::Table(version) => {
                Some(Table::new(resource, version, ask.query.get("includeObject"), rest.world.wall()))
            }
            _ => None,
        };
        let metadata_only = ask.wanted.shape == Shape::Metadata;
        let stored = resource.strategy.stored_as() == crate::envelope::ContentType::Protobuf;
        let (api_version, kind) = match metadata_only {
            true => ("meta.k8s.io/v1".to_string(), "PartialObjectMetadata".to_string()),
            false => (resource.api_version(), resource.kind.clone()),
        };
        let protobuf = ask.wanted.encoding == Encoding::Protobuf && (stored || metadata_only);
        let whole = ask.wanted.shape == Shape::Whole;
        Self { resource: resource.clone(), api_version, kind, whole, protobuf, table, first: true }
    }

    fn content_type(&self) -> &'static str {
        if self.protobuf { "application/vnd.kubernetes.protobuf;stream=watch" } else { JSON }
    }

    fn stream(self, watch: WatchReply) -> Body {
        let frames = futures::stream::unfold((watch, self), |(mut watch, mut writer)| async move {
            let event = watch.next().await?;
            let frame = writer.gather(event, &mut watch);
            Some((Ok::<_, Infallible>(Frame::data(frame)), (watch, writer)))
        });
        Body::new(StreamBody::new(frames))
    }

    /// One event, and what is there already behind it. Alone, its bytes are those that all watchers share.
    fn gather(&mut self, event: WatchEvent, watch: &mut WatchReply) -> Bytes {
        let first = self.event(event);
        let Some(second) = watch.try_next() else { return first };
        let second = self.event(second);
        let mut size = first.len() + second.len();
        let mut frames = vec![first, second];
        while size < PIECE
            && let Some(event) = watch.try_next()
        {
            let frame = self.event(event);
            size += frame.len();
            frames.push(frame);
        }
        let mut piece = BytesMut::with_capacity(size);
        frames.iter().for_each(|frame| piece.extend_from_slice(frame));
        piece.freeze()
    }

    fn event(&mut self, mut event: WatchEvent) -> Bytes {
        let kind = match event.kind {
            WatchEventKind::Added => "ADDED",
            WatchEventKind::Modified => "MODIFIED",
            WatchEventKind::Deleted => "DELETED",
            WatchEventKind::Bookmark => return self.bookmark(event.revision, event.initial_events_end),
            WatchEventKind::Error => {
                return self.error(&event.error.unwrap_or_else(|| ApiError::internal("the watch ended")));
            }
        };
        if self.whole && events::is_view(&self.resource) {
            // What is shared is the core group's.
            event.frame = None;
            event.object = match events::shown(&self.resource, event.object, event.content_type) {
                Ok(object) => object,
                Err(error) => return self.error(&error),
            };
        }
        if event.content_type == PROTOBUF && self.protobuf {
            let make = || envelope::frame(kind, envelope::seal(&self.api_version, &self.kind, event.object.clone()));
            return event.frame.as_ref().map_or_else(make, |shared| shared.protobuf(make));
        }
        match &self.table {
            None => {
                let make = || line(kind, &event.object);
                event.frame.as_ref().map_or_else(make, |shared| shared.json(make))
            }
            Some(table) => match table.of_event(&event.object, std::mem::take(&mut self.first)) {
                Ok(table) => line(kind, table.to_string().as_bytes()),
                Err(error) => self.error(&error),
            },
        }
    }

    fn bookmark(&mut self, revision: u64, initial_end: bool) -> Bytes {
        let mut metadata = ObjectMeta { resource_version: revision.to_string(), ..ObjectMeta::default() };
        if initial_end {
            metadata.annotations.insert(INITIAL_END.into(), "true".into());
        }
        if self.protobuf {
            // Of every kind the metadata is the first field.
            let raw = PartialObjectMetadata { metadata }.encode_to_vec().into();
            return envelope::frame("BOOKMARK", envelope::seal(&self.api_version, &self.kind, raw));
        }
        let metadata = skiff_proto::json::encode_value(&metadata);
        let object = json!({"kind": self.kind, "apiVersion": self.api_version, "metadata": metadata});
        let object: Value = match &self.table {
            Some(table) => table.of_bookmark(object, std::mem::take(&mut self.first)),
            None => object,
        };
        line("BOOKMARK", object.to_string().as_bytes())
    }

    fn error(&mut self, error: &ApiError) -> Bytes {
        if self.protobuf {
            let raw = error.status().encode_to_vec().into();
            return envelope::frame("ERROR", envelope::seal("v1", "Status", raw));
        }
        line("ERROR", &skiff_proto::json::encode(error.status()))
    }
}

/// One event in JSON: the object's bytes as they are.
fn line(kind: &str, object: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(object.len() + 40);
    out.put_slice(b"{\"type\":\"");
    out.put_slice(kind.as_bytes());
    out.put_slice(b"\",\"object\":");
    out.put_slice(object);
    out.put_slice(b"}\n");
    out.freeze()
}
