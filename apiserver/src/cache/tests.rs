//! The cache over an embedded store in a simulated world, against what a client may expect of lists and watches.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;
use serde_json::{Value, json};
use skiff_world::sim::{Sim, Simulation};

use super::*;
use crate::envelope::{ContentType, Envelope};
use crate::store::embedded::{Embedded, EmbeddedOptions};
use crate::store::{Op, Revision, Txn, TxnResult, object_key, take_snapshot};

const PATIENCE: Duration = Duration::from_secs(5);

struct Fixture {
    sim: Sim,
    store: Arc<dyn Store>,
    cache: Cache,
    pods: ResourceId,
}

fn pods() -> CachedResource {
    let fields = vec![SelectableField::new("spec.nodeName", &[], FieldKind::String)];
    let to_json: ToJson = Arc::new(|_| Err("these objects are JSON already".into()));
    CachedResource::new("", "pods", Arc::new(FieldIndexer::new(fields)), to_json)
}

impl Fixture {
    async fn start(sim: &Sim) -> Fixture {
        let world = sim.machine("server").world("apiserver", None);
        let store: Arc<dyn Store> = Arc::new(Embedded::open(&world, EmbeddedOptions::new("/store")).await.unwrap());
        let cache = Cache::start(&world, store.clone(), Vec::new(), Vec::new()).await.unwrap();
        let pods = cache.register(pods());
        Fixture { sim: sim.clone(), store, cache, pods }
    }

    async fn write(&self, op: Op) -> u64 {
        let Ok(TxnResult::Committed { revision }) = self.store.txn(Txn::default().and(op)).await else {
            panic!("the store refused")
        };
        self.cache.wait_until(revision, PATIENCE).await.unwrap();
        revision
    }

    /// Writes a Pod `ns/name` with the label `app` and a node.
    async fn put(&self, name: &str, app: &str, node: &str) -> u64 {
        self.write(Op::Put { key: pod_key(name), value: pod(app, node), ttl: None }).await
    }

    async fn delete(&self, name: &str) -> u64 {
        self.write(Op::Delete { key: pod_key(name) }).await
    }

    fn watch(&self, from: WatchFrom) -> WatchOptions {
        WatchOptions { namespace: String::new(), filter: None, only: None, from, bookmarks: None }
    }

    fn list(&self, options: ListOptions) -> ListPage {
        self.cache.list(self.pods, &options).unwrap()
    }
}

fn pod_key(name: &str) -> Bytes {
    let (namespace, name) = name.split_once('/').unwrap();
    object_key("", "pods", namespace, name)
}

fn pod(app: &str, node: &str) -> Bytes {
    let object = json!({"metadata": {"uid": "u", "labels": {"app": app}}, "spec": {"nodeName": node}});
    Envelope { content_type: ContentType::Json, object: object.to_string().into(), cause: Bytes::new() }.encode()
}

fn app_is(app: &'static str) -> Option<Filter> {
    Some(Arc::new(move |entry: &Entry| entry.label("app") == Some(app)))
}

fn run<F: Future<Output = ()>>(case: impl FnOnce(Fixture) -> F) {
    Simulation::new(1).run(|sim| async move { case(Fixture::start(&sim).await).await });
}

/// What a watch has ready: kind, key and revision.
fn ready(watch: &mut Watch) -> Vec<(WatchKind, String, u64)> {
    std::iter::from_fn(|| watch.try_next())
        .filter_map(|event| match event {
            WatchEvent::Object(event) => Some((event.kind, event.entry.key().to_owned(), event.entry.mod_revision)),
            WatchEvent::Bookmark { .. } => None,
        })
        .collect()
}

fn object(entry: &Entry) -> Value {
    serde_json::from_slice(&entry.object()).unwrap()
}

#[test]
fn entering_a_selection_is_added_and_leaving_it_is_deleted() {
    run(|f| async move {
        use WatchKind::{Added, Deleted, Modified};
        let everything = &mut f.cache.watch(f.pods, f.watch(WatchFrom::Now)).unwrap();
        let web = WatchOptions { filter: app_is("web"), ..f.watch(WatchFrom::Now) };
        let web = &mut f.cache.watch(f.pods, web).unwrap();
        let key = |kind, revision| (kind, "ns/a".to_owned(), revision);
        let created = f.put("ns/a", "web", "").await;
        let changed = f.put("ns/a", "web", "n1").await;
        assert_eq!(ready(web), [key(Added, created), key(Modified, changed)]);
        let left = f.put("ns/a", "db", "n1").await;
        let Some(WatchEvent::Object(event)) = web.try_next() else { panic!("leaving was not told") };
        assert_eq!((event.kind, event.entry.mod_revision), (Deleted, left));
        let seen = object(&event.entry);
        assert_eq!(seen["metadata"]["labels"]["app"], "web", "the object is as it was last seen");
        assert_eq!(seen["metadata"]["resourceVersion"], left.to_string(), "but under the revision that ended it");
        let unseen = f.put("ns/a", "db", "n2").await;
        let entered = f.put("ns/a", "web", "n2").await;
        let deleted = f.delete("ns/a").await;
        assert_eq!(ready(web), [key(Added, entered), key(Deleted, deleted)]);
        let all = [
            (Added, created),
            (Modified, changed),
            (Modified, left),
            (Modified, unseen),
            (Modified, entered),
            (Deleted, deleted),
        ];
        assert_eq!(ready(everything), all.map(|(kind, revision)| key(kind, revision)));
    });
}

#[test]
fn a_watch_from_a_list_of_nothing_sees_the_first_write() {
    run(|f| async move {
        let nothing = f.list(ListOptions::default());
        assert!(nothing.entries.is_empty());
        let mut watch = f.cache.watch(f.pods, f.watch(WatchFrom::After(nothing.revision))).unwrap();
        let written = f.put("ns/a", "web", "").await;
        match watch.next().await.unwrap() {
            WatchEvent::Object(event) => {
                assert_eq!((event.kind, event.entry.mod_revision), (WatchKind::Added, written))
            }
            other => panic!("the first write comes first, and not {other:?}"),
        }
    });
}

#[test]
fn a_watch_with_state_shows_it_then_marks_its_end() {
    run(|f| async move {
        f.put("ns/b", "web", "").await;
        let last = f.put("ns/a", "web", "").await;
        let other = f.put("other/c", "web", "").await;
        let options = WatchOptions { namespace: "ns".into(), ..f.watch(WatchFrom::State) };
        let mut watch = f.cache.watch(f.pods, options).unwrap();
        let mut keys = Vec::new();
        loop {
            match watch.next().await.unwrap() {
                WatchEvent::Object(event) => keys.push((event.kind, event.entry.name().to_owned())),
                WatchEvent::Bookmark { revision, initial_end } => {
                    assert_eq!((revision, initial_end), (other, true));
                    break;
                }
            }
        }
        assert_eq!(keys, [(WatchKind::Added, "a".into()), (WatchKind::Added, "b".into())]);
        assert!(last < other && watch.try_next().is_none());
    });
}

#[test]
fn bookmarks_carry_the_head_of_everything_and_never_overtake() {
    run(|f| async move {
        let every = Some(Duration::from_secs(60));
        let options = WatchOptions { namespace: "quiet".into(), bookmarks: every, ..f.watch(WatchFrom::Now) };
        let mut watch = f.cache.watch(f.pods, options).unwrap();
        let first = f.put("quiet/a", "web", "").await;
        let elsewhere = f.put("loud/a", "web", "").await;
        f.sim.machine("server").world("client", None).sleep(Duration::from_secs(61)).await;
        let WatchEvent::Object(event) = watch.next().await.unwrap() else { panic!("the bookmark overtook an event") };
        assert_eq!(event.entry.mod_revision, first);
        let WatchEvent::Bookmark { revision, initial_end } = watch.next().await.unwrap() else { panic!("no bookmark") };
        assert_eq!((revision, initial_end), (elsewhere, false));
        assert_eq!(watch.revision(), elsewhere);
    });
}

#[test]
fn what_cannot_be_resumed_is_expired_and_what_is_not_yet_there_is_behind() {
    run(|f| async move {
        let small = f.cache.register(CachedResource { history: 3, ..pods() });
        let mut revisions = Vec::new();
        for number in 0..6 {
            revisions.push(f.put("ns/a", "web", &number.to_string()).await);
        }
        let watch = |after| f.cache.watch(small, f.watch(WatchFrom::After(after)));
        let oldest = revisions[2];
        assert_eq!(watch(revisions[1]).err(), Some(CacheError::Expired { asked: revisions[1], oldest }));
        assert_eq!(ready(&mut watch(oldest).unwrap()).len(), 3);
        let current = revisions[5];
        assert_eq!(watch(current + 1).err(), Some(CacheError::Behind { asked: current + 1, current }));
        let old = ListOptions { at: Some(revisions[1]), ..ListOptions::default() };
        assert_eq!(f.cache.list(small, &old).err(), Some(CacheError::Expired { asked: revisions[1], oldest }));
        let late = f.cache.wait_until(current + 1, PATIENCE).await;
        assert_eq!(late, Err(CacheError::Behind { asked: current + 1, current }));
        assert_eq!(f.cache.wait_until_fresh(PATIENCE).await, Ok(current));
    });
}

#[test]
fn a_slow_watcher_is_cut_off_and_slows_nobody() {
    run(|f| async move {
        let mut slow = f.cache.watch(f.pods, f.watch(WatchFrom::Now)).unwrap();
        let mut quick = f.cache.watch(f.pods, f.watch(WatchFrom::Now)).unwrap();
        let mut seen = 0;
        let total = WATCH_QUEUE + 10;
        for number in 0..total {
            f.put("ns/a", "web", &number.to_string()).await;
            seen += ready(&mut quick).len();
        }
        assert_eq!(seen, total, "the quick one saw everything");
        assert_eq!(ready(&mut slow).len(), WATCH_QUEUE);
        let resume = slow.revision();
        assert_eq!(slow.next().await.err(), Some(CacheError::Lagging));
        let mut again = f.cache.watch(f.pods, f.watch(WatchFrom::After(resume))).unwrap();
        assert_eq!(ready(&mut again).len(), 10, "it resumes where it was cut off");
    });
}

#[test]
fn pages_keep_to_their_moment() {
    run(|f| async move {
        for name in ["ns/a", "ns/b", "ns/c", "ns/d", "zz/a"] {
            f.put(name, "web", "").await;
        }
        let names = |page: &ListPage| page.entries.iter().map(|e| e.key().to_owned()).collect::<Vec<_>>();
        let first = f.list(ListOptions { limit: 2, ..ListOptions::default() });
        assert_eq!((names(&first), first.remaining), (vec!["ns/a".into(), "ns/b".into()], Some(3)));
        f.delete("ns/c").await;
        f.put("ns/bb", "web", "").await;
        f.put("ns/d", "db", "").await;
        let next =
            ListOptions { limit: 2, after_key: first.next.clone(), at: Some(first.revision), ..ListOptions::default() };
        let second = f.list(next.clone());
        assert_eq!((names(&second), second.revision), (vec!["ns/c".into(), "ns/d".into()], first.revision));
        assert_eq!(second.entries[1].label("app"), Some("web"));
        let last = f.list(ListOptions { after_key: second.next.clone(), ..next });
        assert_eq!((names(&last), last.next, last.remaining), (vec!["zz/a".into()], None, None));
        let selected =
            f.list(ListOptions { namespace: "ns".into(), filter: app_is("web"), limit: 2, ..ListOptions::default() });
        assert_eq!((names(&selected), selected.remaining), (vec!["ns/a".into(), "ns/b".into()], None));
        assert_eq!(selected.next.as_deref(), Some("ns/b"));
    });
}

/// Clients of a server that died go on where they were: nobody lists everything again.
#[test]
fn a_watch_resumes_across_a_restart() {
    Simulation::new(2).run(|sim| async move {
        let f = Fixture::start(&sim).await;
        let before = f.put("ns/a", "web", "").await;
        let deleted = f.delete("ns/a").await;
        let after = f.put("ns/b", "web", "").await;
        sim.machine("server").crash().await;
        let f = Fixture::start(&sim).await;
        let mut watch = f.cache.watch(f.pods, f.watch(WatchFrom::After(before))).unwrap();
        let wanted = [(WatchKind::Deleted, "ns/a".into(), deleted), (WatchKind::Added, "ns/b".into(), after)];
        assert_eq!(ready(&mut watch), wanted);
        let selected = WatchOptions { filter: app_is("web"), ..f.watch(WatchFrom::After(before)) };
        assert_eq!(ready(&mut f.cache.watch(f.pods, selected).unwrap()), wanted, "what came before is indexed too");
    });
}

#[test]
fn a_restored_store_ends_watches_and_shows_what_was_restored() {
    run(|f| async move {
        f.put("ns/kept", "web", "").await;
        let snapshot = take_snapshot(&*f.store).await.unwrap();
        let old = f.put("ns/phantom", "web", "").await;
        let mut watch = f.cache.watch(f.pods, f.watch(WatchFrom::Now)).unwrap();
        let head = f.store.restore(snapshot).await.unwrap();
        f.cache.wait_until(head, PATIENCE).await.unwrap();
        assert!(matches!(watch.next().await, Err(CacheError::Expired { .. })));
        let page = f.list(ListOptions::default());
        assert_eq!(page.entries.iter().map(|entry| entry.key()).collect::<Vec<_>>(), ["ns/kept"]);
        assert!(page.revision >= head);
        let resumed = f.cache.watch(f.pods, f.watch(WatchFrom::After(old)));
        assert!(matches!(resumed.err(), Some(CacheError::Expired { .. })));
        let next = f.put("ns/new", "web", "").await;
        assert!(next > head, "the cache follows the restored store");
    });
}

#[test]
fn a_closed_store_is_said_and_reads_go_on() {
    run(|f| async move {
        f.put("ns/a", "web", "").await;
        let mut watch = f.cache.watch(f.pods, f.watch(WatchFrom::Now)).unwrap();
        f.store.close().await;
        assert_eq!(watch.next().await.err(), Some(CacheError::Store(StoreError::Closed)));
        assert_eq!(f.cache.health(), Err(CacheError::Store(StoreError::Closed)));
        assert!(f.cache.get(f.pods, "ns", "a").is_some());
    });
}

#[test]
fn an_object_that_cannot_be_indexed_can_still_be_read() {
    run(|f| async move {
        let object = Bytes::from_static(b"not json");
        let value = Envelope { content_type: ContentType::Json, object, cause: Bytes::new() }.encode();
        f.write(Op::Put { key: pod_key("ns/odd"), value, ttl: None }).await;
        let entry = f.cache.get(f.pods, "ns", "odd").unwrap();
        assert_eq!((entry.uid(), entry.name(), &entry.object()[..]), ("", "odd", &b"not json"[..]));
    });
}

#[test]
fn json_is_made_once_for_all() {
    run(|f| async move {
        let made = Arc::new(AtomicUsize::new(0));
        let counted = made.clone();
        let to_json: ToJson = Arc::new(move |object| {
            counted.fetch_add(1, Ordering::Relaxed);
            Ok(Bytes::copy_from_slice(object))
        });
        let widgets = f.cache.register(CachedResource::new("x", "widgets", Arc::new(FieldIndexer::default()), to_json));
        let value =
            Envelope { content_type: ContentType::Protobuf, object: Bytes::new(), cause: Bytes::new() }.encode();
        f.write(Op::Put { key: object_key("x", "widgets", "", "a"), value, ttl: None }).await;
        let watched = f.cache.watch(widgets, f.watch(WatchFrom::State)).unwrap().try_next();
        let Some(WatchEvent::Object(event)) = watched else { panic!("nothing there") };
        let listed = &f.cache.list(widgets, &ListOptions::default()).unwrap().entries[0];
        let json = [event.entry.json().unwrap(), listed.json().unwrap(), listed.json().unwrap()];
        assert!(json.iter().all(|bytes| bytes.as_ptr() == json[0].as_ptr()) && !json[0].is_empty());
        assert_eq!(made.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn a_selector_on_an_unknown_field_is_refused() {
    run(|f| async move {
        let options = WatchOptions { only: Some(("spec.color".into(), "red".into())), ..f.watch(WatchFrom::Now) };
        assert_eq!(f.cache.watch(f.pods, options).err(), Some(CacheError::UnknownField("spec.color".into())));
    });
}

/// A sink is told every revision once, in order, from where it left off; what the store has forgotten is a gap.
#[test]
fn sinks_are_told_everything_or_of_a_gap() {
    #[derive(Default)]
    struct Sink {
        from: Option<u64>,
        told: Mutex<Vec<(u64, u64)>>,
    }
    impl RevisionSink for Sink {
        fn resume_from(&self) -> Option<u64> {
            self.from
        }
        fn revision(&self, revision: &Arc<Revision>) {
            self.told.lock().unwrap().push((revision.revision, revision.revision));
        }
        fn gap(&self, after: u64, up_to: u64) {
            self.told.lock().unwrap().push((after + 1, up_to));
        }
    }
    run(|f| async move {
        let mut revisions = Vec::new();
        for number in 0..20 {
            revisions.push(f.put("ns/a", "web", &number.to_string()).await);
        }
        f.store.compact(revisions[9]).await.unwrap();
        for from in [3, 12] {
            let sink = Arc::new(Sink { from: Some(revisions[from]), ..Sink::default() });
            let world = f.sim.machine("server").world("other", None);
            let cache = Cache::start(&world, f.store.clone(), Vec::new(), vec![sink.clone()]).await.unwrap();
            assert_eq!(cache.revision(), revisions[19]);
            let told = sink.told.lock().unwrap();
            let after_own = told.iter().filter(|(_, last)| *last > revisions[from]);
            let covered: Vec<u64> = after_own.flat_map(|(first, last)| *first..=*last).collect();
            assert_eq!(covered, (revisions[from] + 1..=revisions[19]).collect::<Vec<_>>());
            assert_eq!(told.iter().any(|(first, last)| first != last), from == 3);
        }
    });
}

fn steps() -> impl Strategy<Value = Vec<(u8, Option<(bool, u8)>)>> {
    // Which Pod; none: delete it, else whether it is "web", and its node.
    proptest::collection::vec((0..4_u8, proptest::option::weighted(0.75, (any::<bool>(), 0..3_u8))), 1..30)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// A list at any revision shows what was there then; and list, then watch, ends at what is there now, whatever was
    /// selected and wherever it began.
    #[test]
    fn list_then_watch_misses_nothing(steps in steps()) {
        run(|f| async move {
            let begin = f.cache.revision();
            let (mut states, mut state) = (BTreeMap::new(), BTreeMap::new());
            states.insert(begin, state.clone());
            for (pod, change) in &steps {
                let name = format!("n{}/p{pod}", pod % 2);
                let revision = match change {
                    Some((web, node)) => {
                        let app = if *web { "web" } else { "db" };
                        let revision = f.put(&name, app, &node.to_string()).await;
                        state.insert(name, (app.to_owned(), node.to_string(), revision));
                        revision
                    }
                    None => {
                        state.remove(&name);
                        f.delete(&name).await
                    }
                };
                states.insert(revision, state.clone());
            }
            for (at, wanted) in &states {
                let listed = f.list(ListOptions { at: Some(*at), ..ListOptions::default() });
                assert_eq!(&by_name(&listed.entries), wanted, "at {at}");
                check_watches(&f, *at, wanted, &state);
            }
        });
    }
}

type Pods = BTreeMap<String, (String, String, u64)>;

fn by_name(entries: &[Arc<Entry>]) -> Pods {
    entries.iter().map(|entry| (entry.key().to_owned(), facts(entry))).collect()
}

fn facts(entry: &Entry) -> (String, String, u64) {
    let field = |value: Option<&str>| value.unwrap_or_default().to_owned();
    (field(entry.label("app")), field(entry.field("spec.nodeName")), entry.mod_revision)
}

fn check_watches(f: &Fixture, at: u64, begin: &Pods, end: &Pods) {
    let from = f.watch(WatchFrom::After(at));
    let on_node = Some(("spec.nodeName".to_owned(), "1".to_owned()));
    type Selects = fn(&str, &(String, String, u64)) -> bool;
    let cases: [(WatchOptions, Selects); 4] = [
        (from.clone(), |_, _| true),
        (WatchOptions { filter: app_is("web"), ..from.clone() }, |_, pod| pod.0 == "web"),
        (WatchOptions { only: on_node, ..from.clone() }, |_, pod| pod.1 == "1"),
        (WatchOptions { namespace: "n1".into(), ..from }, |name, _| name.starts_with("n1/")),
    ];
    for (options, selects) in cases {
        let select = |pods: &Pods| pods.clone().into_iter().filter(|(name, pod)| selects(name, pod)).collect::<Pods>();
        let mut view = select(begin);
        let mut watch = f.cache.watch(f.pods, options).unwrap();
        let mut last = at;
        while let Some(event) = watch.try_next() {
            let WatchEvent::Object(ObjectEvent { kind, entry, .. }) = event else { continue };
            assert!(entry.mod_revision > last, "events are in order and none comes twice");
            last = entry.mod_revision;
            let before = match kind {
                WatchKind::Deleted => view.remove(entry.key()),
                _ => view.insert(entry.key().to_owned(), facts(&entry)),
            };
            assert_eq!(before.is_some(), kind != WatchKind::Added, "{kind:?} of {}", entry.key());
        }
        assert_eq!(view, select(end));
    }
}

/// The same, while it happens: a bucket of watchers by field sees just what a filter would.
#[test]
fn watchers_by_field_see_what_a_filter_would() {
    run(|f| async move {
        let only = |node: &str| Some(("spec.nodeName".to_owned(), node.to_owned()));
        let mut watches = Vec::new();
        for node in ["", "n1", "n2"] {
            let filter: Filter = Arc::new(move |entry: &Entry| entry.field("spec.nodeName") == Some(node));
            let by_field = WatchOptions { only: only(node), ..f.watch(WatchFrom::Now) };
            let by_filter = WatchOptions { filter: Some(filter), ..f.watch(WatchFrom::Now) };
            watches.push([by_field, by_filter].map(|options| f.cache.watch(f.pods, options).unwrap()));
        }
        for (name, node) in [("ns/a", ""), ("ns/a", "n1"), ("ns/b", "n1"), ("ns/b", "n2"), ("ns/a", "n1")] {
            f.put(name, "web", node).await;
        }
        f.delete("ns/a").await;
        let seen: Vec<usize> = watches
            .iter_mut()
            .map(|[by_field, by_filter]| {
                let seen = ready(by_field);
                assert_eq!(seen, ready(by_filter));
                seen.len()
            })
            .collect();
        assert_eq!(seen, [2, 5, 1]);
    });
}
