//! The informer: lists a resource, then watches it from the list's revision, for ever, and keeps a [`Store`] of it.
//!
//! `step.rs` is the whole of its thinking: states and turns. This file does what it says: asks, listens, waits.

mod step;

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use skiff_proto::Kind;
use skiff_proto::metav1::{ObjectMeta, PartialObjectMetadata};
use skiff_proto::skiffv1::ResourceInfo;
use skiff_world::World;
use skiff_world::mutants::{Mutant, is_awake};

use crate::api::{ListOptions, Page, RawEvent, RawWatch};
use crate::client::Client;
use crate::error::Error;
use crate::key::{ObjectKey, Resource};
use crate::project::Project;
use crate::queue::Backoff;
use crate::store::{Change, Held, IndexFn, Store};
use step::{Effect, Heard, State};

/// The wait between tries that the API server refuses: never long, for who waits is blind.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10));
/// A watch is asked to end after 5 to 10 minutes, so that one that has gone dead unnoticed is not for ever.
const WATCH_SECONDS: u64 = 300;
/// A list that the driver asks for begins no sooner after the watch has opened.
const RENEW_AFTER: Duration = Duration::from_secs(1);
/// How much longer than that it may take to end.
const WATCH_GRACE: Duration = Duration::from_secs(30);
/// Objects per page of a list.
const PAGE: i64 = 500;

/// An informer to be started: of which objects, what to keep of them, and how to find them.
pub struct Informer<K, P: Project<K>> {
    client: Client,
    resource: Resource,
    metadata_only: bool,
    metadata: fn(&K) -> &ObjectMeta,
    namespace: String,
    options: ListOptions,
    indexes: Vec<(String, IndexFn<P::Out>)>,
    projection: PhantomData<P>,
}

impl<K: Kind, P: Project<K>> Informer<K, P> {
    /// An informer of all objects of a kind.
    pub fn of(client: &Client) -> Self {
        Self::build(client, Resource::of::<K>(), false, K::metadata)
    }

    /// Starts an informer without indexes: `namespace` is `""` for all.
    pub fn start(
        world: &World,
        client: &Client,
        namespace: &str,
        options: ListOptions,
        handler: impl Fn(Change<P::Out>) + Send + Sync + 'static,
    ) -> Store<P::Out> {
        Self::of(client).namespace(namespace).options(options).run(world, handler)
    }
}

impl<P: Project<PartialObjectMetadata>> Informer<PartialObjectMetadata, P> {
    /// An informer of the metadata of all objects of any resource of the server's table.
    pub fn metadata(client: &Client, resource: &ResourceInfo) -> Self {
        Self::build(client, Resource::from_info(resource), true, |object| &object.metadata)
    }
}

impl<K: Message + Default + 'static, P: Project<K>> Informer<K, P> {
    fn build(client: &Client, resource: Resource, metadata_only: bool, metadata: fn(&K) -> &ObjectMeta) -> Self {
        Informer {
            client: client.clone(),
            resource,
            metadata_only,
            metadata,
            namespace: String::new(),
            options: ListOptions::default(),
            indexes: Vec::new(),
            projection: PhantomData,
        }
    }

    /// Only objects of this namespace.
    pub fn namespace(mut self, namespace: &str) -> Self {
        self.namespace = namespace.to_string();
        self
    }

    /// Only objects that the selectors select.
    pub fn options(mut self, options: ListOptions) -> Self {
        self.options = options;
        self
    }

    /// Finds objects by the values that `values` gives, in [`Store::by_index`].
    pub fn index(
        mut self,
        name: &str,
        values: impl Fn(&ObjectKey, &P::Out) -> Vec<String> + Send + Sync + 'static,
    ) -> Self {
        self.indexes.push((name.to_string(), Arc::new(values)));
        self
    }

    /// Starts it. `handler` is told of every change in order, after the store shows it.
    pub fn run(self, world: &World, handler: impl Fn(Change<P::Out>) + Send + Sync + 'static) -> Store<P::Out> {
        let selective = !(self.options.labels.is_empty() && self.options.fields.is_empty());
        let store = Store::new(self.resource.clone(), &self.namespace, selective, self.indexes);
        self.client.views().add(&self.resource, store.view());
        let running = Running::<K, P> {
            world: world.clone(),
            client: self.client,
            resource: self.resource,
            metadata_only: self.metadata_only,
            metadata: self.metadata,
            namespace: self.namespace,
            options: ListOptions { limit: PAGE, ..self.options },
            store: store.clone(),
            handler: Box::new(handler),
        };
        store.fed_by(world.spawn("informer", running.run()));
        store
    }
}

struct Running<K, P: Project<K>> {
    world: World,
    client: Client,
    resource: Resource,
    metadata_only: bool,
    metadata: fn(&K) -> &ObjectMeta,
    namespace: String,
    options: ListOptions,
    store: Store<P::Out>,
    handler: Box<dyn Fn(Change<P::Out>) + Send + Sync>,
}

type Item<O> = (ObjectKey, Held<O>);

impl<K: Message + Default + 'static, P: Project<K>> Running<K, P> {
    async fn run(self) {
        let mut state = State::START;
        let mut watch = None;
        let mut asked = 0;
        loop {
            let heard = match state {
                State::Listing { .. } => {
                    asked = self.store.asked();
                    self.list().await
                }
                State::Opening { revision, .. } => self.open(revision, &mut watch).await,
                State::Watching { .. } => self.hear(&mut watch).await,
            };
            if matches!(
                heard,
                Heard::Listed { .. } | Heard::Put { .. } | Heard::Removed { .. } | Heard::Bookmark { .. }
            ) {
                self.store.heard(self.world.wall());
            }
            let (next, effect) = state.step(heard);
            let is_list = matches!(effect, Effect::Replace { .. });
            self.take(effect).await;
            if is_list {
                self.store.renewed(asked);
            }
            state = next;
        }
    }

    async fn take(&self, effect: Effect<Item<P::Out>>) {
        match effect {
            Effect::None => {}
            Effect::Wait { failures } => self.world.sleep(BACKOFF.jittered(failures, &self.world)).await,
            Effect::Advance { revision } => self.store.advance(revision, true),
            Effect::Replace { items, revision } => {
                self.store.replace(items, revision).into_iter().for_each(&self.handler);
                self.store.advance(revision, true);
            }
            Effect::Put { object: (key, held), revision } => {
                self.store.put(key, held).into_iter().for_each(&self.handler);
                self.store.advance(revision, true);
            }
            Effect::Remove { object: (key, _), revision } => {
                self.store.remove(&key, revision).into_iter().for_each(&self.handler);
                self.store.advance(revision, true);
            }
        }
    }

    /// Lists everything, page by page, projecting as it goes: the objects themselves are never all in memory.
    async fn list(&self) -> Heard<Item<P::Out>> {
        let mut items = Vec::new();
        let mut token = String::new();
        loop {
            let page = self.client.page(&self.resource, &self.namespace, &self.options, self.metadata_only, &token);
            let page: Page = match page.await {
                Ok(page) => page,
                Err(error) => return self.trouble("list", &error),
            };
            for bytes in &page.items {
                match self.item(bytes) {
                    Ok(item) => items.push(item),
                    Err(error) => return self.trouble("list", &error),
                }
            }
            token = page.next;
            if token.is_empty() {
                return Heard::Listed { items, revision: page.revision };
            }
        }
    }

    async fn open(&self, revision: u64, watch: &mut Option<OpenWatch>) -> Heard<Item<P::Out>> {
        #[cfg(feature = "mutants")]
        let revision = crate::mutants::watch_from(&self.client, &self.resource, revision).await;
        let seconds = WATCH_SECONDS + self.world.random_below(WATCH_SECONDS);
        let (client, from) = (&self.client, revision.to_string());
        let opened =
            client.open_watch(&self.resource, &self.namespace, &self.options, self.metadata_only, &from, seconds);
        match opened.await {
            Ok(events) => {
                let since = self.world.now();
                *watch = Some(OpenWatch { events, since, until: since + Duration::from_secs(seconds) + WATCH_GRACE });
                Heard::Opened
            }
            Err(error) => self.trouble("watch", &error),
        }
    }

    async fn hear(&self, watch: &mut Option<OpenWatch>) -> Heard<Item<P::Out>> {
        let Some(open) = watch else {
            return Heard::Failed { lived: Duration::ZERO };
        };
        if is_awake(Mutant::Polling) {
            self.world.sleep(Duration::from_secs(30)).await;
        }
        let since = open.since;
        let doubted = async {
            if self.world.now() < since + RENEW_AFTER {
                tokio::time::sleep_until(since + RENEW_AFTER).await;
            }
            self.store.doubted().await;
        };
        let heard = tokio::select! {
            biased;
            () = doubted => Heard::Doubted,
            event = tokio::time::timeout_at(open.until, open.events.next()) => match event {
                Ok(Some(Ok(event))) => self.event(event),
                Ok(Some(Err(error))) => self.trouble("watch", &error),
                Ok(None) | Err(_) => Heard::Failed { lived: Duration::ZERO },
            },
        };
        if matches!(heard, Heard::Put { .. } | Heard::Removed { .. } | Heard::Bookmark { .. }) {
            return heard;
        }
        let lived = self.world.now().saturating_duration_since(open.since);
        *watch = None;
        if matches!(heard, Heard::Failed { .. }) { Heard::Failed { lived } } else { heard }
    }

    fn event(&self, event: RawEvent) -> Heard<Item<P::Out>> {
        let (bytes, revision, removed) = match event {
            RawEvent::Bookmark { revision, .. } => return Heard::Bookmark { revision },
            RawEvent::Put { object, revision, .. } => (object, revision, false),
            RawEvent::Deleted { object, revision } => (object, revision, true),
        };
        match self.item(&bytes) {
            Ok(object) if removed => Heard::Removed { object, revision },
            Ok((key, held)) => Heard::Put { object: (key, Held { revision, ..held }), revision },
            Err(error) => self.trouble("watch", &error),
        }
    }

    fn item(&self, bytes: &[u8]) -> Result<Item<P::Out>, Error> {
        let object = K::decode(bytes).map_err(|error| Error::Decode {
            operation: format!("list {}", self.resource),
            reason: error.to_string(),
        })?;
        let metadata = (self.metadata)(&object);
        let held = Held {
            uid: metadata.uid.as_str().into(),
            revision: crate::key::revision_of(metadata),
            value: Arc::new(P::project(&object)),
        };
        Ok((ObjectKey::of(metadata), held))
    }

    fn trouble(&self, what: &str, error: &Error) -> Heard<Item<P::Out>> {
        if error.is_expired() {
            tracing::info!(resource = %self.resource, "{what}: the revision is too old; listing again");
            return Heard::Expired;
        }
        if error.is_ahead_of_server() {
            tracing::debug!(resource = %self.resource, %error, "{what}: the API server is behind");
            return Heard::Ahead;
        }
        if error.is_unreachable() {
            tracing::debug!(resource = %self.resource, %error, "{what} failed");
        } else {
            tracing::warn!(resource = %self.resource, %error, "{what} failed");
        }
        if matches!(error, Error::Unreachable { .. }) {
            return Heard::Unreachable;
        }
        Heard::Failed { lived: Duration::ZERO }
    }
}

struct OpenWatch {
    events: RawWatch,
    since: tokio::time::Instant,
    until: tokio::time::Instant,
}

#[cfg(test)]
mod tests;
