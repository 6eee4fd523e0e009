//! List: pages of a collection, all at one revision.

use super::Registry;
use super::commit::cache_error;
use super::error::{ApiError, ApiResult};
use super::request::{Format, ListOptions, ListReply, Request};
use super::selection::Selection;
use super::token::Token;
use crate::cache::{self, CacheError, Entry};
use crate::envelope::ContentType;
use crate::resources::{JSON, PROTOBUF, Resource};
use bytes::Bytes;
use prost::Message;
use prost::encoding::{DecodeContext, decode_key, skip_field};
use skiff_proto::metav1::PartialObjectMetadata;
use skiff_world::mutants::{Mutant, is_awake};

impl Registry {
    /// Reads a page of a collection.
    pub(super) async fn list(&self, request: &Request, options: &ListOptions) -> ApiResult<ListReply> {
        let resource = &request.resource;
        let selection = Selection::parse(resource, &options.label_selector, &options.field_selector)?;
        let scope = Token::scope(resource, &request.namespace, &options.label_selector, &options.field_selector);
        let (at, after_key) = if options.continue_token.is_empty() {
            (self.revision_to_list(options).await?, None)
        } else {
            if !matches!(options.resource_version.as_str(), "" | "0") {
                return Err(ApiError::bad_request("specifying resource version is not allowed when using continue"));
            }
            let token = Token::read(&options.continue_token, scope)?;
            (token.revision, Some(token.after_key))
        };
        let limits = self.limits();
        let limit = match options.limit {
            n if options.unpaged => n,
            0 => limits.page_items,
            n => n.min(limits.page_items),
        };
        let wanted = cache::ListOptions {
            namespace: request.namespace.clone(),
            filter: selection.filter(),
            limit,
            after_key: after_key.clone(),
            at,
        };
        let page = self.inner.cache.list(resource.cached(), &wanted).map_err(|error| match (error, after_key) {
            (CacheError::Expired { .. }, Some(after_key)) => ApiError::expired(
                "The provided continue parameter is too old to display a consistent list result. Start a new list, or go \
                 on from where you were with the continue token in this error: the rest is then as of now",
            )
            .with_continue(Token { revision: None, after_key }.write(scope)),
            (error, _) => cache_error(error),
        })?;
        self.reply(request, page, scope, options.unpaged)
    }

    /// Which revision a first page shows; `None`: the newest.
    async fn revision_to_list(&self, options: &ListOptions) -> ApiResult<Option<u64>> {
        let version = options.resource_version.as_str();
        let wanted = options.resource_version_match.as_str();
        let invalid = |why: &str| Err(ApiError::invalid_options(why));
        match (wanted, version) {
            ("", "") if is_awake(Mutant::ReadsBehind) => Ok(None),
            ("", "") => self.catch_up().await.map(|()| None),
            (_, "") => invalid("resourceVersionMatch is forbidden unless resourceVersion is provided"),
            ("Exact", "0") => {
                invalid("resourceVersionMatch: Forbidden: \"Exact\" is forbidden for resourceVersion \"0\"")
            }
            ("" | "NotOlderThan", "0") => Ok(None),
            ("" | "NotOlderThan", version) => self.wait_for(revision(version)?).await.map(|()| None),
            ("Exact", version) => {
                let revision = revision(version)?;
                self.wait_for(revision).await.map(|()| Some(revision))
            }
            _ => invalid("resourceVersionMatch: Unsupported value: supported values: \"Exact\", \"NotOlderThan\""),
        }
    }

    /// A page in the form asked for, cut where it has bytes enough.
    fn reply(&self, request: &Request, page: cache::ListPage, scope: u32, unpaged: bool) -> ApiResult<ListReply> {
        let mut reply = ListReply {
            content_type: content_type(request),
            resource_version: page.revision.to_string(),
            ..Default::default()
        };
        let (mut bytes, total) = (0, page.entries.len());
        for entry in &page.entries {
            let (item, _) = content(&request.resource, entry, request.accept, request.metadata_only)?;
            if !unpaged && bytes > 0 && bytes + item.len() > self.limits().page_bytes {
                break;
            }
            bytes += item.len();
            reply.items.push(item);
        }
        let shown = reply.items.len();
        if shown < total || page.next.is_some() {
            let after_key = page.entries[shown - 1].key().to_string();
            reply.continue_token = Token { revision: Some(page.revision), after_key }.write(scope);
            // What follows is only counted where nothing is filtered out.
            let counted = page.remaining.or((page.next.is_none() && request.selects_all()).then_some(0));
            reply.remaining = counted.map(|n| (n + total - shown) as i64);
        }
        Ok(reply)
    }
}

/// A resourceVersion that a client sends.
pub fn revision(version: &str) -> ApiResult<u64> {
    let canonical = !version.starts_with('0') && version.bytes().all(|c| c.is_ascii_digit());
    version.parse().ok().filter(|_| canonical).ok_or_else(|| {
        ApiError::invalid_options(&format!(
            "resourceVersion: Invalid value: {version:?}: must be a revision this server gave out"
        ))
    })
}

/// The content type of a collection's items.
pub fn content_type(request: &Request) -> &'static str {
    match request.accept {
        Format::Json => JSON,
        Format::Protobuf if request.metadata_only => PROTOBUF,
        Format::Protobuf => request.resource.strategy.stored_as().as_str(),
    }
}

/// A cached object in the form asked for.
pub fn content(
    resource: &Resource,
    entry: &Entry,
    format: Format,
    metadata_only: bool,
) -> ApiResult<(Bytes, &'static str)> {
    if metadata_only {
        if format == Format::Protobuf && entry.content_type() == ContentType::Protobuf {
            return metadata_of(&entry.object()).map(|bytes| (bytes, PROTOBUF)).map_err(ApiError::internal);
        }
        let metadata = metadata(entry)?;
        return Ok(match format {
            Format::Protobuf => (metadata.encode_to_vec().into(), PROTOBUF),
            Format::Json => (skiff_proto::json::encode(&metadata).into(), JSON),
        });
    }
    match (format, entry.content_type()) {
        (Format::Protobuf, ContentType::Protobuf) => Ok((entry.object(), PROTOBUF)),
        _ => {
            let json = entry.json().map_err(ApiError::internal)?;
            let json = resource.strategy.shown(&json).unwrap_or(Ok(json)).map_err(ApiError::internal)?;
            Ok((json, JSON))
        }
    }
}

/// The metadata of any kind's message, as PartialObjectMetadata: it is the first field of both. Nothing is decoded.
fn metadata_of(object: &Bytes) -> Result<Bytes, prost::DecodeError> {
    const METADATA: u32 = 1;
    let mut rest = object.clone();
    let mut out = Vec::new();
    while !rest.is_empty() {
        let before = rest.clone();
        let (tag, wire_type) = decode_key(&mut rest)?;
        skip_field(wire_type, tag, &mut rest, DecodeContext::default())?;
        if tag == METADATA {
            out.extend_from_slice(&before[..before.len() - rest.len()]);
        }
    }
    Ok(out.into())
}

/// The metadata alone. In protobuf every kind has it at the same place, so the rest is skipped unread.
fn metadata(entry: &Entry) -> ApiResult<PartialObjectMetadata> {
    let object = entry.object();
    match entry.content_type() {
        ContentType::Protobuf => PartialObjectMetadata::decode(object).map_err(ApiError::internal),
        ContentType::Json => {
            #[derive(serde::Deserialize)]
            struct Partial {
                metadata: serde_json::Value,
            }
            let partial: Partial = serde_json::from_slice(&object).map_err(ApiError::internal)?;
            let read = skiff_proto::json::decode_value(&partial.metadata, skiff_proto::json::Strictness::Ignore);
            read.map(|(metadata, _)| PartialObjectMetadata { metadata }).map_err(ApiError::internal)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skiff_proto::corev1::Pod;

    #[test]
    fn metadata_is_cut_out_of_any_message() {
        let mut pod = Pod::default();
        pod.metadata.name = "web-1".into();
        pod.metadata.labels.insert("app".into(), "web".into());
        pod.spec.node_name = "node-1".into();
        let stored = crate::envelope::with_resource_version(ContentType::Protobuf, &pod.encode_to_vec(), 42);
        let cut = metadata_of(&stored).expect("a message");
        pod.metadata.resource_version = "42".into();
        let wanted = PartialObjectMetadata { metadata: pod.metadata };
        assert_eq!(PartialObjectMetadata::decode(cut).expect("metadata"), wanted);
        assert!(metadata_of(&Bytes::from_static(&[0x0a, 0x7f])).is_err(), "a message that is cut off");
    }
}
