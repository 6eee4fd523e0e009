//! Collections: list, and delete of all that is selected.

use super::media::{Encoding, Shape};
use super::objects::delete_options;
use super::respond::{self, Answer};
use super::{Ask, OK, Rest, envelope, events, tables};
use crate::registry::{ApiError, ApiResult, ListOptions, ListReply, Operation, Reply};
use crate::resources::{JSON, PROTOBUF, Resource};
use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::StreamBody;
use hyper::body::Frame;
use skiff_proto::metav1::ListMeta;
use std::sync::Arc;
use tonic::body::Body;

/// About the size of a piece of a list on its way.
const PIECE: usize = 64 * 1024;

impl Rest {
    /// Lists a collection.
    pub(super) async fn list(&self, ask: &Ask, resource: Arc<Resource>) -> ApiResult<Answer> {
        if !ask.place.subresource.is_empty() {
            return Err(ApiError::method_not_allowed(&resource, "list"));
        }
        let request = self.request(ask, resource.clone(), Operation::List(options(ask, &resource)?))?;
        match self.registry.serve(request).await? {
            Reply::List(page) => self.page(ask, &resource, page),
            _ => Err(ApiError::internal("a list was expected")),
        }
    }

    /// Deletes what is selected, and shows what it was.
    pub(super) async fn delete_collection(&self, ask: &Ask, resource: Arc<Resource>) -> ApiResult<Answer> {
        if resource.namespaced && ask.place.namespace.is_empty() {
            return Err(ApiError::method_not_allowed(&resource, "deletecollection"));
        }
        let operation = Operation::DeleteCollection { options: delete_options(ask)?, list: options(ask, &resource)? };
        let request = self.request(ask, resource.clone(), operation)?;
        match self.registry.serve(request).await? {
            Reply::List(page) => self.page(ask, &resource, page),
            _ => Err(ApiError::internal("a list was expected")),
        }
    }

    fn page(&self, ask: &Ask, resource: &Resource, mut page: ListReply) -> ApiResult<Answer> {
        if ask.wanted.shape == Shape::Whole {
            for item in &mut page.items {
                *item = events::shown(resource, std::mem::take(item), page.content_type)?;
            }
        }
        let meta = ListMeta {
            resource_version: page.resource_version,
            r#continue: page.continue_token,
            remaining_item_count: page.remaining,
            ..ListMeta::default()
        };
        let metadata_only = ask.wanted.shape == Shape::Metadata;
        let (api_version, kind) = match metadata_only {
            true => ("meta.k8s.io/v1".to_string(), "PartialObjectMetadataList".to_string()),
            false => (resource.api_version(), format!("{}List", resource.kind)),
        };
        if page.content_type == PROTOBUF {
            let head = envelope::list_head(&api_version, &kind, &meta, &page.items);
            let pieces = Pieces::new(head, page.items, Form::Protobuf);
            return Ok(respond::stream(OK, PROTOBUF, pieces.body()));
        }
        if let Shape::Table(version) = ask.wanted.shape {
            let table = tables::Table::new(resource, version, ask.query.get("includeObject"), self.world.wall());
            return Ok(respond::json(OK, ask.wanted.encoding, table.of_list(&meta, &page.items)?));
        }
        let metadata = String::from_utf8_lossy(&skiff_proto::json::encode(&meta)).into_owned();
        let head = format!("{{\"kind\":{kind:?},\"apiVersion\":{api_version:?},\"metadata\":{metadata},\"items\":[");
        let pieces = Pieces::new(head.into(), page.items, Form::Json);
        if ask.wanted.encoding == Encoding::Yaml {
            return Ok(respond::json(OK, Encoding::Yaml, pieces.flatten().collect::<Vec<u8>>().into()));
        }
        Ok(respond::stream(OK, JSON, pieces.body()))
    }
}

/// What is listed.
fn options(ask: &Ask, resource: &Resource) -> ApiResult<ListOptions> {
    let mut options = ask.query.list()?;
    options.field_selector = events::selector(resource, options.field_selector);
    Ok(options)
}

/// What a list is written in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Json,
    Protobuf,
}

/// A list in pieces: the objects' bytes are shared with the cache until they are on their way.
struct Pieces {
    next: Option<Bytes>,
    items: std::vec::IntoIter<Bytes>,
    form: Form,
    first: bool,
}

impl Pieces {
    fn new(head: Bytes, items: Vec<Bytes>, form: Form) -> Pieces {
        Pieces { next: Some(head), items: items.into_iter(), form, first: true }
    }

    fn body(self) -> Body {
        let frames = self.map(|piece| Ok::<_, std::convert::Infallible>(Frame::data(piece)));
        Body::new(StreamBody::new(futures::stream::iter(frames)))
    }
}

impl Iterator for Pieces {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let head = self.next.take()?;
        // With room for the object that goes over the size, as most do.
        let mut piece = BytesMut::with_capacity(head.len() + PIECE + PIECE / 8);
        piece.put(head);
        for item in self.items.by_ref() {
            let first = std::mem::take(&mut self.first);
            match self.form {
                Form::Json if first => {}
                Form::Json => piece.put_u8(b','),
                Form::Protobuf => envelope::item_head(&mut piece, &item),
            }
            piece.put(item);
            if piece.len() >= PIECE {
                self.next = Some(Bytes::new());
                return Some(piece.freeze());
            }
        }
        if self.form == Form::Json {
            piece.put_slice(b"]}\n");
        }
        Some(piece.freeze()).filter(|piece| !piece.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_make_one_document() {
        for (count, size) in [(0, 1), (1, 1), (3, 10), (10, PIECE), (5000, 100)] {
            let item = Bytes::from(serde_json::json!({"a": "x".repeat(size)}).to_string());
            let items = vec![item; count];
            let pieces = Pieces::new("{\"items\":[".into(), items, Form::Json);
            let whole: Vec<u8> = pieces.flatten().collect();
            let read: serde_json::Value = serde_json::from_slice(&whole).expect("one document");
            assert_eq!(read["items"].as_array().map(Vec::len), Some(count));
        }
    }
}
