//! A small API server in memory, for tests: the gRPC service over a World's pipes, with objects kept as bytes, a
//! history to watch, compaction, and faults on command. It knows just enough to be wrong about nothing it does.

mod watching;

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};

use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use prost::Message;
use serde_json::Value;
use skiff_proto::Kind;
use skiff_proto::metav1::{ObjectMeta, PartialObjectMetadata, Status};
use skiff_proto::skiffv1::resources_server::{Resources, ResourcesServer};
use skiff_proto::skiffv1::watch_event::Type;
use skiff_proto::skiffv1::*;
use skiff_proto::{coordinationv1, corev1};
use skiff_world::{Address, World};
use tokio::sync::broadcast;

use crate::{Client, ClientConfig};
use watching::Watching;

/// The name of the pipe it listens on.
pub(crate) const PIPE: &str = "fake-api";

/// The server; clones are the same.
#[derive(Clone)]
pub(crate) struct Fake {
    state: Arc<Mutex<State>>,
}

struct State {
    revision: u64,
    compacted: u64,
    objects: BTreeMap<Place, Stored>,
    history: Vec<Written>,
    news: broadcast::Sender<()>,
    /// Every write that succeeded, with its cause and fence.
    log: Vec<Logged>,
    /// Watches tell nothing while this is set.
    hold_watches: bool,
    /// Watches that are open end when this changes.
    cuts: u64,
    /// The next writes fail so.
    failures: Vec<Status>,
    /// The next create is done, and nobody is told: neither who asked nor the watches.
    silent_create: bool,
    /// Every reply to a write has these warnings.
    warnings: Vec<String>,
    page: usize,
    lists: u64,
    watches: u64,
    /// Lists answer as of this revision, as a server does that is behind.
    behind: Option<u64>,
    uids: u64,
}

type Place = (String, String, String);

#[derive(Clone)]
struct Stored {
    bytes: Vec<u8>,
    revision: u64,
}

#[derive(Clone)]
struct Written {
    revision: u64,
    place: Place,
    kind: Type,
    bytes: Vec<u8>,
}

/// One write.
#[derive(Clone, Debug)]
pub(crate) struct Logged {
    pub(crate) what: String,
    pub(crate) cause: Cause,
    pub(crate) fence: Option<String>,
}

impl Fake {
    pub(crate) fn new() -> Fake {
        let state = State {
            revision: 10,
            compacted: 0,
            objects: BTreeMap::new(),
            history: Vec::new(),
            news: broadcast::channel(1024).0,
            log: Vec::new(),
            hold_watches: false,
            cuts: 0,
            failures: Vec::new(),
            silent_create: false,
            warnings: Vec::new(),
            page: 3,
            lists: 0,
            watches: 0,
            behind: None,
            uids: 0,
        };
        Fake { state: Arc::new(Mutex::new(state)) }
    }

    /// Serves on the pipe until the World stops.
    pub(crate) async fn serve(&self, world: &World) {
        self.serve_on(world, PIPE).await;
    }

    pub(crate) async fn serve_on(&self, world: &World, pipe: &str) {
        let mut listener = world.listen(&Address::Pipe(pipe.into())).await.unwrap();
        let (fake, inner) = (self.clone(), world.clone());
        world.spawn("fake-api", async move {
            while let Ok(connection) = listener.accept().await {
                let service = TowerToHyperService::new(ResourcesServer::new(fake.clone()));
                let serving = hyper::server::conn::http2::Builder::new(inner.executor())
                    .timer(hyper_util::rt::TokioTimer::new())
                    .serve_connection(TokioIo::new(connection), service);
                inner.spawn("fake-connection", async move { drop(serving.await) });
            }
        });
    }

    pub(crate) fn client(world: &World) -> Client {
        Client::new(world, ClientConfig::pipe(PIPE, "test/0")).unwrap()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Writes as somebody else would.
    pub(crate) fn put<K: Kind>(&self, object: &K) -> u64 {
        let metadata = object.metadata();
        let place = (K::RESOURCE.to_string(), metadata.namespace.clone(), metadata.name.clone());
        self.lock().write(place, object.encode_to_vec())
    }

    pub(crate) fn remove(&self, resource: &str, namespace: &str, name: &str) -> u64 {
        self.lock().delete(&(resource.into(), namespace.into(), name.into())).map_or(0, |stored| stored.revision)
    }

    pub(crate) fn compact(&self) {
        let mut state = self.lock();
        state.compacted = state.revision;
        state.history.clear();
    }

    pub(crate) fn cut_watches(&self) {
        let mut state = self.lock();
        state.cuts += 1;
        let _ = state.news.send(());
    }

    pub(crate) fn hold_watches(&self, hold: bool) {
        let mut state = self.lock();
        state.hold_watches = hold;
        let _ = state.news.send(());
    }

    /// Lists answer with nothing, as of `revision`, until told otherwise.
    pub(crate) fn be_behind(&self, revision: Option<u64>) {
        self.lock().behind = revision;
    }

    pub(crate) fn fail_next(&self, reason: &str, code: i32) {
        let status = status(reason, code);
        self.lock().failures.push(status);
    }

    pub(crate) fn do_next_create_silently(&self) {
        self.lock().silent_create = true;
    }

    pub(crate) fn warn(&self, warning: &str) {
        self.lock().warnings.push(warning.into());
    }

    pub(crate) fn revision(&self) -> u64 {
        self.lock().revision
    }

    pub(crate) fn counts(&self) -> (u64, u64) {
        let state = self.lock();
        (state.lists, state.watches)
    }

    pub(crate) fn log(&self) -> Vec<Logged> {
        self.lock().log.clone()
    }

    pub(crate) fn names(&self, resource: &str) -> Vec<String> {
        self.lock().objects.keys().filter(|place| place.0 == resource).map(|place| place.2.clone()).collect()
    }

    pub(crate) fn get<K: Kind>(&self, namespace: &str, name: &str) -> Option<K> {
        let place = (K::RESOURCE.to_string(), namespace.to_string(), name.to_string());
        self.lock().objects.get(&place).map(|stored| K::decode(stored.bytes.as_slice()).unwrap())
    }
}

impl State {
    fn write(&mut self, place: Place, mut bytes: Vec<u8>) -> u64 {
        self.revision += 1;
        let old = self.objects.get(&place).map(|stored| metadata(&stored.bytes).uid);
        let kind = if old.is_some() { Type::Modified } else { Type::Added };
        let uid = old.unwrap_or_else(|| {
            self.uids += 1;
            format!("uid-{}", self.uids)
        });
        bytes.extend(stamp(&uid, self.revision));
        self.objects.insert(place.clone(), Stored { bytes: bytes.clone(), revision: self.revision });
        self.tell(place, kind, bytes);
        self.revision
    }

    fn delete(&mut self, place: &Place) -> Option<Stored> {
        let mut stored = self.objects.remove(place)?;
        self.revision += 1;
        stored.revision = self.revision;
        stored.bytes.extend(stamp(&metadata(&stored.bytes).uid, self.revision));
        self.tell(place.clone(), Type::Deleted, stored.bytes.clone());
        Some(stored)
    }

    fn tell(&mut self, place: Place, kind: Type, bytes: Vec<u8>) {
        self.history.push(Written { revision: self.revision, place, kind, bytes });
        let _ = self.news.send(());
    }

    fn reply(&self, place: &Place) -> ObjectReply {
        let (object, warnings) = (self.objects[place].bytes.clone().into(), self.warnings.clone());
        ObjectReply { object, warnings, ..ObjectReply::default() }
    }

    fn check(&mut self, place: &Place, version: &str) -> Result<(), tonic::Status> {
        let Some(stored) = self.objects.get(place) else {
            return Err(refuse("NotFound", 404));
        };
        if !version.is_empty() && version != stored.revision.to_string() {
            return Err(refuse("Conflict", 409));
        }
        Ok(())
    }
}

/// Protobuf merges a repeated message: appended metadata overrides.
fn stamp(uid: &str, revision: u64) -> Vec<u8> {
    let metadata = ObjectMeta { uid: uid.into(), resource_version: revision.to_string(), ..ObjectMeta::default() };
    PartialObjectMetadata { metadata }.encode_to_vec()
}

fn metadata(bytes: &[u8]) -> ObjectMeta {
    PartialObjectMetadata::decode(bytes).unwrap().metadata
}

fn status(reason: &str, code: i32) -> Status {
    let message = format!("the test's server says {reason}");
    Status { status: "Failure".into(), reason: reason.into(), code, message, ..Status::default() }
}

fn grpc(status: &Status) -> tonic::Status {
    tonic::Status::with_details(tonic::Code::Unknown, "refused", status.encode_to_vec().into())
}

fn refuse(reason: &str, code: i32) -> tonic::Status {
    grpc(&status(reason, code))
}

fn place(reference: &Option<ResourceRef>) -> Place {
    let reference = reference.clone().unwrap();
    (reference.resource, reference.namespace, reference.name)
}

fn merge(target: &mut Value, patch: &Value) {
    let (Some(target), Some(patch)) = (target.as_object_mut(), patch.as_object()) else {
        *target = patch.clone();
        return;
    };
    for (key, value) in patch {
        if value.is_null() {
            target.remove(key);
        } else {
            merge(target.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

fn patched<K: Kind>(bytes: &[u8], patch: &Value) -> Vec<u8> {
    let mut value = serde_json::to_value(K::decode(bytes).unwrap()).unwrap();
    merge(&mut value, patch);
    serde_json::from_value::<K>(value).unwrap().encode_to_vec()
}

impl Fake {
    /// What every write goes through: a failure on command, and the log.
    fn admit<T>(&self, request: &tonic::Request<T>, what: String) -> Result<(), tonic::Status> {
        let mut state = self.lock();
        if !state.failures.is_empty() {
            return Err(grpc(&state.failures.remove(0)));
        }
        let cause = request.metadata().get_bin("skiff-cause-bin").expect("every write carries a cause");
        let cause = Cause::decode(cause.to_bytes().unwrap()).unwrap();
        let fence = request.metadata().get("skiff-fence").map(|fence| fence.to_str().unwrap().to_string());
        state.log.push(Logged { what, cause, fence });
        Ok(())
    }
}

#[tonic::async_trait]
impl Resources for Fake {
    async fn get(&self, request: tonic::Request<GetRequest>) -> Result<tonic::Response<ObjectReply>, tonic::Status> {
        let place = place(&request.get_ref().r#ref);
        let state = self.lock();
        if !state.objects.contains_key(&place) {
            return Err(refuse("NotFound", 404));
        }
        Ok(tonic::Response::new(state.reply(&place)))
    }

    async fn list(&self, request: tonic::Request<ListRequest>) -> Result<tonic::Response<ListReply>, tonic::Status> {
        let request = request.into_inner();
        let (resource, namespace, _) = place(&request.r#ref);
        let mut state = self.lock();
        state.lists += 1;
        if let Some(revision) = state.behind {
            return Ok(tonic::Response::new(ListReply {
                resource_version: revision.to_string(),
                ..ListReply::default()
            }));
        }
        // The token is "revision:offset"; a write in between makes it expire, as no history is kept for it here.
        let (at, from) = match request.r#continue.split_once(':') {
            Some((at, from)) => (at.parse().unwrap(), from.parse().unwrap()),
            None => (state.revision, 0usize),
        };
        if at != state.revision {
            return Err(refuse("Expired", 410));
        }
        let all: Vec<_> = (state.objects.iter())
            .filter(|(place, _)| place.0 == resource && (namespace.is_empty() || place.1 == namespace))
            .map(|(_, stored)| stored.bytes.clone())
            .collect();
        let page: Vec<_> = all.iter().skip(from).take(state.page).map(|bytes| bytes.clone().into()).collect();
        let end = from + page.len();
        let next = if end < all.len() { format!("{at}:{end}") } else { String::new() };
        let reply =
            ListReply { items: page, resource_version: at.to_string(), r#continue: next, ..ListReply::default() };
        Ok(tonic::Response::new(reply))
    }

    type WatchStream = Pin<Box<dyn futures::Stream<Item = Result<WatchEvent, tonic::Status>> + Send>>;

    async fn watch(
        &self,
        request: tonic::Request<WatchRequest>,
    ) -> Result<tonic::Response<Self::WatchStream>, tonic::Status> {
        let request = request.into_inner();
        let (resource, namespace, _) = place(&request.r#ref);
        let from: u64 = request.resource_version.parse().unwrap();
        let (news, cuts) = {
            let mut state = self.lock();
            state.watches += 1;
            (state.news.subscribe(), state.cuts)
        };
        let watching = Watching { fake: self.clone(), resource, namespace, sent: from, news, cuts, over: false };
        Ok(tonic::Response::new(Box::pin(futures::stream::unfold(watching, Watching::next))))
    }

    async fn create(
        &self,
        request: tonic::Request<CreateRequest>,
    ) -> Result<tonic::Response<ObjectReply>, tonic::Status> {
        let (resource, namespace, _) = place(&request.get_ref().r#ref);
        let bytes = request.get_ref().object.to_vec();
        let name = metadata(&bytes).name;
        self.admit(&request, format!("create {resource} {name}"))?;
        let place = (resource, namespace, name);
        let mut state = self.lock();
        if state.objects.contains_key(&place) {
            return Err(refuse("AlreadyExists", 409));
        }
        if std::mem::take(&mut state.silent_create) {
            state.hold_watches = true;
            state.write(place, bytes);
            return Err(refuse("Timeout", 504));
        }
        state.write(place.clone(), bytes);
        Ok(tonic::Response::new(state.reply(&place)))
    }

    async fn update(
        &self,
        request: tonic::Request<UpdateRequest>,
    ) -> Result<tonic::Response<ObjectReply>, tonic::Status> {
        let place = place(&request.get_ref().r#ref);
        let bytes = request.get_ref().object.to_vec();
        self.admit(&request, format!("update {} {}", place.0, place.2))?;
        let mut state = self.lock();
        state.check(&place, &metadata(&bytes).resource_version)?;
        state.write(place.clone(), bytes);
        Ok(tonic::Response::new(state.reply(&place)))
    }

    async fn patch(
        &self,
        request: tonic::Request<PatchRequest>,
    ) -> Result<tonic::Response<ObjectReply>, tonic::Status> {
        let place = place(&request.get_ref().r#ref);
        let patch: Value = serde_json::from_slice(&request.get_ref().patch).unwrap();
        self.admit(&request, format!("patch {} {}", place.0, place.2))?;
        let mut state = self.lock();
        state.check(&place, patch["metadata"]["resourceVersion"].as_str().unwrap_or_default())?;
        let old = &state.objects[&place].bytes;
        let bytes = match place.0.as_str() {
            "leases" => patched::<coordinationv1::Lease>(old, &patch),
            "events" => patched::<corev1::Event>(old, &patch),
            _ => patched::<corev1::ConfigMap>(old, &patch),
        };
        state.write(place.clone(), bytes);
        Ok(tonic::Response::new(state.reply(&place)))
    }

    async fn delete(
        &self,
        request: tonic::Request<DeleteRequest>,
    ) -> Result<tonic::Response<ObjectReply>, tonic::Status> {
        let place = place(&request.get_ref().r#ref);
        self.admit(&request, format!("delete {} {}", place.0, place.2))?;
        let mut state = self.lock();
        let stored = state.delete(&place).ok_or_else(|| refuse("NotFound", 404))?;
        Ok(tonic::Response::new(ObjectReply { object: stored.bytes.into(), deleted: true, ..ObjectReply::default() }))
    }

    async fn explain(&self, _: tonic::Request<ExplainRequest>) -> Result<tonic::Response<ExplainReply>, tonic::Status> {
        Ok(tonic::Response::new(ExplainReply::default()))
    }

    async fn discover(
        &self,
        _: tonic::Request<DiscoverRequest>,
    ) -> Result<tonic::Response<DiscoverReply>, tonic::Status> {
        Ok(tonic::Response::new(DiscoverReply { server_version: "fake".into(), ..DiscoverReply::default() }))
    }
}
