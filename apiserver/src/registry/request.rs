//! What is asked: one `Request` for both faces, and what is answered. A face does nothing but build the one and print
//! the other.

use crate::resources::{JSON, PROTOBUF, Resource, YAML};
use bytes::Bytes;
use skiff_proto::skiffv1;
use skiff_world::Identity;
use std::sync::Arc;

/// A request, authenticated, addressed, and not yet allowed.
pub struct Request {
    /// Who asks.
    pub identity: Identity,
    /// Of which resource.
    pub resource: Arc<Resource>,
    /// `""`, `status`, `scale`, `binding`, ...
    pub subresource: String,
    /// `""`: cluster-scoped, or all namespaces.
    pub namespace: String,
    /// `""`: the collection.
    pub name: String,
    /// What is to be done.
    pub operation: Operation,
    /// In which form the answer is wanted.
    pub accept: Format,
    /// Only the metadata of the objects.
    pub metadata_only: bool,
    /// Why, as far as the client says.
    pub cause: skiffv1::Cause,
    /// The Lease that must still be held for this write to happen.
    pub fence: Option<Fence>,
}

impl Request {
    /// The verb, as allow tables name it.
    pub fn verb(&self) -> &'static str {
        match &self.operation {
            Operation::Get => "get",
            Operation::List(_) => "list",
            Operation::Watch(_) => "watch",
            Operation::Create(_) => "create",
            Operation::Update(_) => "update",
            Operation::Patch { .. } => "patch",
            Operation::Delete(_) => "delete",
            Operation::DeleteCollection { .. } => "deletecollection",
        }
    }

    /// Whether it may change something.
    pub fn is_write(&self) -> bool {
        !matches!(self.operation, Operation::Get | Operation::List(_) | Operation::Watch(_))
    }

    /// Whether everything is to be done but the writing.
    pub fn dry_run(&self) -> bool {
        match &self.operation {
            Operation::Create(body) | Operation::Update(body) | Operation::Patch { body, .. } => body.dry_run,
            Operation::Delete(options) | Operation::DeleteCollection { options, .. } => options.dry_run,
            _ => false,
        }
    }

    /// Whether a list or watch filters nothing out.
    pub fn selects_all(&self) -> bool {
        let labels = match &self.operation {
            Operation::List(options) | Operation::DeleteCollection { list: options, .. } => &options.label_selector,
            Operation::Watch(options) => &options.label_selector,
            _ => "",
        };
        labels.is_empty() && self.field_selector().is_empty()
    }

    /// The one object it is about: named by its address, or by the field selector of a list or watch. Empty: of many, or
    /// of one that has no name yet.
    pub fn object_name(&self) -> &str {
        if !self.name.is_empty() {
            return &self.name;
        }
        let mut parts = self.field_selector().split(',');
        let named = parts.find_map(|part| part.trim().strip_prefix("metadata.name="));
        named.map_or("", |name| name.trim_start_matches('='))
    }

    /// The field selector of a list or watch.
    pub fn field_selector(&self) -> &str {
        match &self.operation {
            Operation::List(options) | Operation::DeleteCollection { list: options, .. } => &options.field_selector,
            Operation::Watch(options) => &options.field_selector,
            _ => "",
        }
    }
}

/// What is to be done.
pub enum Operation {
    /// Read one object.
    Get,
    /// Read a page of a collection.
    List(ListOptions),
    /// Follow a collection.
    Watch(WatchOptions),
    /// Make an object.
    Create(Body),
    /// Replace an object.
    Update(Body),
    /// Change parts of an object.
    Patch {
        /// How the patch is to be read.
        kind: PatchKind,
        /// The patch.
        body: Body,
    },
    /// Delete an object.
    Delete(DeleteOptions),
    /// Delete every object of a collection.
    DeleteCollection {
        /// How each is deleted.
        options: DeleteOptions,
        /// Which of them.
        list: ListOptions,
    },
}

/// How a patch is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchKind {
    /// RFC 6902.
    Json,
    /// RFC 7386.
    Merge,
    /// Kubernetes' own, guided by the Schema.
    Strategic,
    /// Server-side apply.
    Apply,
}

/// What a write sends.
#[derive(Default)]
pub struct Body {
    /// The bytes.
    pub bytes: Bytes,
    /// What they are.
    pub content_type: String,
    /// Do all but writing.
    pub dry_run: bool,
    /// What to do about unknown and duplicate fields.
    pub field_validation: FieldValidation,
    /// Who manages the fields.
    pub field_manager: String,
    /// Of an apply: take fields from other managers.
    pub force: bool,
}

/// What to do about unknown and duplicate fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FieldValidation {
    /// Drop them silently.
    Ignore,
    /// Drop them and say so.
    #[default]
    Warn,
    /// Refuse the write.
    Strict,
}

impl FieldValidation {
    /// Reads the option's name.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "" | "Warn" => Some(Self::Warn),
            "Ignore" => Some(Self::Ignore),
            "Strict" => Some(Self::Strict),
            _ => None,
        }
    }
}

/// How to list.
#[derive(Clone, Debug, Default)]
pub struct ListOptions {
    /// Labels to match.
    pub label_selector: String,
    /// Fields to match.
    pub field_selector: String,
    /// The most objects; 0: as many as fit a page.
    pub limit: usize,
    /// Where the last page ended.
    pub continue_token: String,
    /// Which revision is wanted.
    pub resource_version: String,
    /// `""`, `Exact` or `NotOlderThan`.
    pub resource_version_match: String,
    /// Pages only end where `limit` says: for a face without a limit on its messages.
    pub unpaged: bool,
}

/// How to watch.
#[derive(Clone, Debug, Default)]
pub struct WatchOptions {
    /// Labels to match.
    pub label_selector: String,
    /// Fields to match.
    pub field_selector: String,
    /// Events strictly after it; unset or 0: everything there is, first.
    pub resource_version: String,
    /// Whether bookmarks are understood.
    pub allow_bookmarks: bool,
    /// Whether to begin with everything there is, closed by a bookmark.
    pub send_initial_events: bool,
    /// Whether a watch that names no revision begins with what happens from now on.
    pub skip_initial_events: bool,
    /// End after so many seconds; 0: after half an hour to an hour.
    pub timeout_seconds: u64,
}

/// How to delete.
#[derive(Clone, Debug, Default)]
pub struct DeleteOptions {
    /// Do all but writing.
    pub dry_run: bool,
    /// How long the object may take its leave.
    pub grace_period_seconds: Option<i64>,
    /// `""`, `Background`, `Foreground`, `Orphan`.
    pub propagation_policy: String,
    /// Only this incarnation.
    pub precondition_uid: String,
    /// Only this revision.
    pub precondition_resource_version: String,
}

/// A held Lease that fences a write: refused when holder or transitions differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fence {
    /// The Lease's namespace.
    pub namespace: String,
    /// The Lease's name.
    pub name: String,
    /// Who must hold it.
    pub holder: String,
    /// How often it must have changed hands.
    pub transitions: i32,
}

impl Fence {
    /// Reads `namespace/name/holder/transitions`.
    pub fn parse(text: &str) -> Option<Self> {
        let (rest, transitions) = text.rsplit_once('/')?;
        let (namespace, rest) = rest.split_once('/')?;
        let (name, holder) = rest.split_once('/')?;
        Some(Self {
            namespace: namespace.into(),
            name: name.into(),
            holder: holder.into(),
            transitions: transitions.parse().ok()?,
        })
    }
}

/// In which form an object is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Kubernetes' protobuf, if the kind has one; JSON else.
    #[default]
    Protobuf,
    /// JSON.
    Json,
}

impl Format {
    /// Reads a content type; unset means protobuf.
    pub fn parse(content_type: &str) -> Option<Self> {
        match content_type {
            "" | PROTOBUF => Some(Self::Protobuf),
            JSON => Some(Self::Json),
            _ => None,
        }
    }

    /// What can be asked for.
    pub const SUPPORTED: &'static [&'static str] = &[PROTOBUF, JSON];
    /// What can be sent.
    pub const READABLE: &'static [&'static str] = &[JSON, YAML, PROTOBUF];
}

/// An answered object.
#[derive(Clone, Debug)]
pub struct ObjectReply {
    /// The object.
    pub bytes: Bytes,
    /// What the bytes are.
    pub content_type: &'static str,
    /// What the writer should know.
    pub warnings: Vec<String>,
    /// Of a delete: whether the object is gone.
    pub deleted: bool,
    /// Of an apply: whether it made the object.
    pub created: bool,
}

/// An answered page.
#[derive(Clone, Debug, Default)]
pub struct ListReply {
    /// The objects.
    pub items: Vec<Bytes>,
    /// What the bytes are.
    pub content_type: &'static str,
    /// The revision all pages show.
    pub resource_version: String,
    /// Where the next page begins; empty on the last.
    pub continue_token: String,
    /// How many objects follow, if that is known.
    pub remaining: Option<i64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fence_is_read_from_its_parts() {
        let fence = Fence::parse("kube-system/kube-scheduler/node-1_abc/7").expect("well formed");
        assert_eq!(
            (fence.name.as_str(), fence.holder.as_str(), fence.transitions),
            ("kube-scheduler", "node-1_abc", 7)
        );
        for bad in ["", "a/b", "a/b/c", "a/b/c/x"] {
            assert_eq!(Fence::parse(bad), None, "{bad:?}");
        }
    }
}
