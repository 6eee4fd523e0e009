//! What was: how objects were at earlier revisions, and why. Answered from the recorder, and from the cache for objects
//! whose last write is older than what the recorder holds.
//!
//! To read how an object was is a right like reading the object: every write that is shown has been asked for as a `get`
//! of its object, also when the object is gone.

use crate::cache::Entry;
use crate::recorder::{Notice, Reading, Recorded, Recorder, RecorderError, Subject};
use crate::registry::{ApiError, ApiResult, Format, Operation, Registry, Request};
use crate::resources::Resource;
use crate::store::parse_key;
use prost::Message;
use skiff_proto::skiffv1 as pb;
use skiff_world::Identity;
use std::collections::BTreeSet;
use std::sync::Arc;

/// So many changes are in a reply at most.
const LIMIT: usize = 1_000;
/// About how large a reply may be.
const REPLY_BYTES: usize = 3 << 20;
/// So many single writes may be asked for at once.
const WRITES: usize = 64;

/// What was. Cheap to clone.
#[derive(Clone)]
pub struct History {
    registry: Registry,
    recorder: Option<Arc<Recorder>>,
}

impl History {
    /// Answers from this recorder, if there is one.
    pub fn new(registry: Registry, recorder: Option<Arc<Recorder>>) -> History {
        History { registry, recorder }
    }

    /// The writes of one object, oldest first.
    pub async fn changes(&self, identity: Identity, asked: pb::ChangesRequest) -> ApiResult<pb::ChangesReply> {
        let reference = asked.r#ref.ok_or_else(|| ApiError::bad_request("the request names no object"))?;
        let resource = self.registry.resource(&reference.group, &reference.version, &reference.resource)?;
        let (namespace, name) = (reference.namespace.as_str(), reference.name.as_str());
        self.registry.permit(&reading(&identity, &resource, namespace, name))?;
        self.registry.catch_up().await?;
        let newest = self.registry.cache().revision();
        let up_to = if asked.up_to == 0 { u64::MAX } else { asked.up_to };
        if asked.up_to > newest {
            return Err(ApiError::revision_too_large(asked.up_to, newest));
        }
        let limit = if asked.limit == 0 { LIMIT } else { LIMIT.min(asked.limit as usize) };
        let subject = Subject::Key(resource.key(namespace, name));
        let mut read = match &self.recorder {
            // Of another object of the same name there may be any number of writes.
            Some(recorder) if asked.uid.is_empty() => recorder.last_changes(subject.clone(), up_to, limit).await,
            Some(recorder) => recorder.last_changes(Subject::Uid(asked.uid.clone()), up_to, limit).await,
            None => Ok(Reading::default()),
        }
        .map_err(unreadable)?;
        // A uid is no proof of the name that goes with it.
        let key = resource.key(namespace, name);
        read.changes.retain(|change| change.key == key);
        let mut reply = pb::ChangesReply {
            notices: notices(&read.notices),
            oldest: self.oldest().await?,
            newest,
            ..Default::default()
        };
        let mut changes = Vec::new();
        if let Some(entry) = self.registry.cache().get(resource.cached(), namespace, name)
            && entry.mod_revision <= up_to
            && (asked.uid.is_empty() || entry.uid() == asked.uid)
            && read.changes.last().is_none_or(|last| last.revision < entry.mod_revision)
        {
            changes.push(of_entry(&resource, &entry)?);
        }
        if changes.is_empty() && read.changes.is_empty() {
            return Err(self.nothing(&resource, subject, name, asked.up_to, reply.oldest).await?);
        }
        let mut bytes = 0;
        for change in read.changes.iter().rev() {
            changes.push(of_recorded(&resource, change)?);
            bytes += changes.last().map_or(0, Message::encoded_len);
            if bytes > REPLY_BYTES {
                reply.notices.push("older writes are left out: the reply would be too large".into());
                break;
            }
        }
        changes.reverse();
        reply.changes = changes;
        Ok(reply)
    }

    /// Single writes. Those that are not held are left out; those that are not for the reader are named in the notices.
    pub async fn writes(&self, identity: Identity, asked: pb::WritesRequest) -> ApiResult<pb::ChangesReply> {
        if asked.writes.len() > WRITES {
            return Err(ApiError::bad_request(format!("more than {WRITES} writes are asked for at once")));
        }
        self.registry.catch_up().await?;
        let wanted: BTreeSet<(u64, String)> = asked.writes.iter().map(|w| (w.revision, w.uid.clone())).collect();
        let read = match &self.recorder {
            Some(recorder) => recorder.writes(wanted).await.map_err(unreadable)?,
            None => Reading::default(),
        };
        let mut reply = pb::ChangesReply {
            notices: notices(&read.notices),
            oldest: self.oldest().await?,
            newest: self.registry.cache().revision(),
            ..Default::default()
        };
        for write in asked.writes {
            let found = read.changes.iter().find(|c| c.revision == write.revision && c.uid == write.uid);
            match self.one(&identity, &write, found) {
                Ok(Some(change)) => reply.changes.push(change),
                Ok(None) => {}
                Err(refused) => reply.notices.push(format!("{}: {}", called(&write), refused.message())),
            }
        }
        Ok(reply)
    }

    /// How far the server's own parts have come.
    pub async fn progress(&self) -> ApiResult<pb::ProgressReply> {
        let recorder = self.recorder.as_ref().and_then(|recorder| recorder.last()).unwrap_or(0);
        let rows = self.registry.table().all();
        let resources = rows.values().map(|row| pb::ResourceProgress {
            group: row.group.clone(),
            resource: row.resource.clone(),
            revision: self.registry.cache().last_change(row.cached()),
        });
        Ok(pb::ProgressReply {
            resources: resources.collect(),
            cache: self.registry.cache().revision(),
            store: self.registry.head().await?,
            recorder,
        })
    }

    fn one(
        &self,
        identity: &Identity,
        write: &pb::ObjectRef,
        found: Option<&Recorded>,
    ) -> ApiResult<Option<pb::Recorded>> {
        let Some(resource) = self.row(&write.group, &write.resource) else { return Ok(None) };
        if let Some(found) = found {
            // What the reader calls it proves nothing: the key says what it is.
            let name = parse_key(&found.key).map_err(ApiError::internal)?;
            let Some(resource) = self.row(name.group, name.resource) else { return Ok(None) };
            self.registry.permit(&reading(identity, &resource, name.namespace, name.name))?;
            return of_recorded(&resource, found).map(Some);
        }
        self.registry.permit(&reading(identity, &resource, &write.namespace, &write.name))?;
        let entry = self.registry.cache().get(resource.cached(), &write.namespace, &write.name);
        let same = entry.filter(|entry| entry.mod_revision == write.revision && entry.uid() == write.uid);
        same.map(|entry| of_entry(&resource, &entry)).transpose()
    }

    /// Causes name resources without their version: there is one of each.
    fn row(&self, group: &str, resource: &str) -> Option<Arc<Resource>> {
        self.registry.table().all().values().find(|row| row.group == group && row.resource == resource).cloned()
    }

    async fn oldest(&self) -> ApiResult<u64> {
        match &self.recorder {
            Some(recorder) => Ok(recorder.oldest().await.map_err(unreadable)?.unwrap_or(0)),
            None => Ok(0),
        }
    }

    /// Why there is no write to show: the object was never there, or what was is not held.
    async fn nothing(
        &self,
        resource: &Resource,
        subject: Subject,
        name: &str,
        up_to: u64,
        oldest: u64,
    ) -> ApiResult<ApiError> {
        if up_to == 0 {
            return Ok(ApiError::not_found(resource, name));
        }
        let what = format!("how {} {name:?} was at revision {up_to}", resource.qualified());
        let Some(recorder) = &self.recorder else {
            return Ok(ApiError::expired(format!("{what} is not known: this API server keeps no record")));
        };
        let later = recorder.range(subject, up_to, u64::MAX, 1).await.map_err(unreadable)?;
        // A deletion does not say when the object was made.
        let was_there = later.changes.first().is_some_and(|c| c.deleted || c.create_revision <= up_to);
        if up_to < oldest || was_there {
            return Ok(ApiError::expired(format!(
                "{what} is not held any more: the oldest revision that this API server holds is {oldest}"
            )));
        }
        Ok(ApiError::not_found(resource, name))
    }
}

fn reading(identity: &Identity, resource: &Arc<Resource>, namespace: &str, name: &str) -> Request {
    Request {
        identity: identity.clone(),
        resource: resource.clone(),
        subresource: String::new(),
        namespace: if resource.namespaced { namespace.into() } else { String::new() },
        name: name.into(),
        operation: Operation::Get,
        accept: Format::Json,
        metadata_only: false,
        cause: pb::Cause::default(),
        fence: None,
    }
}

fn unreadable(error: RecorderError) -> ApiError {
    ApiError::unavailable(error.to_string())
}

fn notices(notices: &[Notice]) -> Vec<String> {
    let words = |notice: &Notice| match notice.file.file_name() {
        Some(file) => format!("the recorder's file {} {}", file.to_string_lossy(), notice.text),
        None => notice.text.clone(),
    };
    notices.iter().map(words).collect()
}

fn called(write: &pb::ObjectRef) -> String {
    let pb::ObjectRef { resource, namespace, name, revision, .. } = write;
    let name = if namespace.is_empty() { name.clone() } else { format!("{namespace}/{name}") };
    format!("{resource} {name} at revision {revision}")
}

fn of_recorded(resource: &Resource, change: &Recorded) -> ApiResult<pb::Recorded> {
    let name = parse_key(&change.key).map_err(ApiError::internal)?;
    let json = match change.content_type {
        crate::envelope::ContentType::Json => change.object(),
        crate::envelope::ContentType::Protobuf => {
            (resource.strategy.json_of_stored())(&change.object()).map_err(ApiError::internal)?
        }
    };
    let object = object(resource, (name.namespace, name.name), &change.uid, change.revision);
    let (at, deleted) = (change.at.as_millisecond(), change.deleted);
    Ok(pb::Recorded { object: Some(object), at, deleted, cause: change.cause.clone(), json })
}

fn of_entry(resource: &Resource, entry: &Entry) -> ApiResult<pb::Recorded> {
    let object = object(resource, (entry.namespace(), entry.name()), entry.uid(), entry.mod_revision);
    let cause = pb::Cause::decode(entry.cause().clone()).ok();
    let json = entry.json().map_err(ApiError::internal)?;
    Ok(pb::Recorded { object: Some(object), at: 0, deleted: false, cause, json })
}

fn object(resource: &Resource, (namespace, name): (&str, &str), uid: &str, revision: u64) -> pb::ObjectRef {
    pb::ObjectRef {
        resource: resource.resource.clone(),
        group: resource.group.clone(),
        namespace: namespace.into(),
        name: name.into(),
        uid: uid.into(),
        revision,
    }
}
