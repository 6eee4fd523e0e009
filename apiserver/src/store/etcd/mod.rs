//! The store in etcd: for several API servers, and for clusters that outgrow one machine.
//!
//! `layout` says what lies there and how revisions are counted, `connection` how etcd is reached, `leases` how keys
//! expire, `watch` how a watch is told in whole revisions, `restore` how everything is replaced.

mod connection;
mod layout;
mod leases;
mod restore;
mod watch;

#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use etcd_client::{Compare, CompareOp, GetOptions, PutOptions, Txn as EtcdTxn, TxnOp, TxnOpResponse, TxnResponse};
use skiff_world::tls::Files;
use skiff_world::{Task, World};

use self::connection::{Connection, Repeat};
use self::layout::{Layout, Marks, PROGRESS_KEY, STORE_KEY};
use self::leases::Leases;
use self::watch::Carrier;
use super::{Entry, Op, RangeResult, Snapshot, Store, StoreError, Txn, TxnResult, WatchStream, watch_channel};

/// Revisions a watcher may be behind before it is cut off.
const WATCH_QUEUE: usize = 16_384;
/// Keys asked for at once when all are wanted.
const PAGE: usize = 1_000;
/// History is kept at least so long, and at most twice.
const COMPACT_EVERY: Duration = Duration::from_secs(300);

/// Where etcd is.
#[derive(Debug, Clone)]
pub struct EtcdOptions {
    /// `http://` or `https://` and host:port; tried in order.
    pub endpoints: Vec<String>,
    /// Whom to trust and who to be; needed for `https://`.
    pub tls: Option<Files>,
    /// Goes before every key. Clusters that share an etcd need different ones; empty for one alone.
    pub key_prefix: String,
    /// How long one call may take, with all its tries.
    pub patience: Duration,
}

impl EtcdOptions {
    /// An etcd of one's own, without TLS.
    pub fn new(endpoints: Vec<String>) -> EtcdOptions {
        EtcdOptions { endpoints, tls: None, key_prefix: String::new(), patience: Duration::from_secs(10) }
    }
}

/// What to do about a restore that is not finished.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unfinished {
    Refuse,
    Accept,
}

/// The store in etcd.
pub struct Etcd {
    world: World,
    etcd: Arc<Connection>,
    layout: RwLock<Layout>,
    leases: Leases,
    closed: AtomicBool,
    compactor: Task,
}

impl Etcd {
    /// Reads what the store is, and makes it one if it is empty.
    pub async fn open(world: &World, options: EtcdOptions) -> Result<Arc<Etcd>, StoreError> {
        Etcd::open_marked(world, options, Unfinished::Refuse).await
    }

    /// Opens a store for `restore` alone, also one in which a restore was cut off.
    pub async fn open_for_restore(world: &World, options: EtcdOptions) -> Result<Arc<Etcd>, StoreError> {
        Etcd::open_marked(world, options, Unfinished::Accept).await
    }

    async fn open_marked(world: &World, options: EtcdOptions, unfinished: Unfinished) -> Result<Arc<Etcd>, StoreError> {
        // Tasks of this store end with it, not only with the server.
        let world = world.child("store", None);
        let etcd = Arc::new(Connection::new(&world, &options).await?);
        let layout = mark(&etcd, options.key_prefix, unfinished).await?;
        let compactor = world.spawn("etcd-compactor", compact_by_age(world.clone(), etcd.clone()));
        Ok(Arc::new(Etcd {
            world,
            etcd,
            layout: RwLock::new(layout),
            leases: Leases::default(),
            closed: AtomicBool::new(false),
            compactor,
        }))
    }

    fn layout(&self) -> Layout {
        self.layout.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn check_open(&self) -> Result<(), StoreError> {
        if self.closed.load(Ordering::Relaxed) { Err(StoreError::Closed) } else { Ok(()) }
    }

    /// Reads the marks anew: somebody restored the store.
    async fn reload(&self) -> Result<(), StoreError> {
        let layout = mark(&self.etcd, self.layout().cluster, Unfinished::Refuse).await?;
        *self.layout.write().unwrap_or_else(PoisonError::into_inner) = layout;
        Ok(())
    }

    async fn operations(&self, layout: &Layout, txn: &Txn) -> Result<Vec<TxnOp>, StoreError> {
        let mut ops = Vec::with_capacity(txn.ops.len());
        for op in &txn.ops {
            ops.push(match op {
                Op::Put { key, value, ttl: None } => TxnOp::put(layout.key(key), value.to_vec(), None),
                Op::Put { key, value, ttl: Some(ttl) } => {
                    let lease = self.leases.lease(&self.world, &self.etcd, *ttl).await?;
                    TxnOp::put(layout.key(key), value.to_vec(), Some(PutOptions::new().with_lease(lease)))
                }
                Op::Delete { key } => TxnOp::delete(layout.key(key), None),
            });
        }
        Ok(ops)
    }

    async fn try_txn(&self, txn: &Txn) -> Result<TxnResult, StoreError> {
        let layout = self.layout();
        let store_key = layout.key(STORE_KEY.as_bytes());
        let mut compare = vec![Compare::mod_revision(store_key.clone(), CompareOp::Equal, layout.marked_at)];
        let mut reads = vec![TxnOp::get(store_key, Some(GetOptions::new().with_keys_only()))];
        for one in &txn.compare {
            let key = layout.key(&one.key);
            compare.push(Compare::mod_revision(key.clone(), CompareOp::Equal, layout.expected(one.mod_revision)));
            reads.push(TxnOp::get(key, None));
        }
        let request = EtcdTxn::new().when(compare).and_then(self.operations(&layout, txn).await?).or_else(reads);
        let answer = self.etcd.kv("a transaction", Repeat::Unsent, |mut kv| {
            let request = request.clone();
            async move { kv.txn(request).await }
        });
        let answer = answer.await?;
        let revision = layout.outer(answer.header().map_or(0, |header| header.revision()));
        if answer.succeeded() {
            return Ok(TxnResult::Committed { revision });
        }
        let mut found = reads_of(&answer);
        if found.next().flatten().map(|kv| kv.mod_revision()) != Some(layout.marked_at) {
            self.reload().await?;
            return Err(StoreError::Restored);
        }
        let current = found.map(|kv| kv.and_then(|kv| layout.entry(kv))).collect();
        Ok(TxnResult::Conflict { revision, current })
    }

    /// Fills in what etcd's errors do not say.
    async fn explain(&self, error: StoreError, asked: u64) -> StoreError {
        match error {
            StoreError::Compacted { oldest: 0 } => match self.oldest().await {
                Ok(oldest) => StoreError::Compacted { oldest },
                Err(error) => error,
            },
            StoreError::FutureRevision { .. } => match self.head().await {
                Ok(head) => StoreError::FutureRevision { asked, head },
                Err(error) => error,
            },
            other => other,
        }
    }

    /// The oldest revision that can be read. etcd only tells a watch that asks for something older.
    async fn oldest(&self) -> Result<u64, StoreError> {
        let (layout, patience) = (self.layout(), self.etcd.patience());
        let (_, mut stream) = self.etcd.watch(|client| watch::open(client, &layout, layout.base)).await?;
        let answer = tokio::time::timeout(patience, async {
            while let Ok(Some(response)) = stream.message().await {
                if response.compact_revision() > 0 {
                    return layout.outer(response.compact_revision());
                }
                if !response.events().is_empty() {
                    break;
                }
            }
            layout.outer(1)
        });
        let late = |_| StoreError::Timeout { operation: "asking for the oldest revision", seconds: patience.as_secs() };
        answer.await.map_err(late)
    }

    async fn page(
        &self,
        layout: &Layout,
        prefix: &[u8],
        from: &[u8],
        limit: usize,
        at: u64,
    ) -> Result<RangeResult, StoreError> {
        let mut options = GetOptions::new().with_range(layout.end_of(prefix)).with_limit(limit as i64);
        if at > 0 {
            options = options.with_revision(layout.inner(at));
        }
        let start = layout.key(from);
        let answer = self.etcd.kv("a range", Repeat::Freely, |mut kv| {
            let (start, options) = (start.clone(), options.clone());
            async move { kv.get(start, Some(options)).await }
        });
        let mut answer = match answer.await {
            Ok(answer) => answer,
            Err(error) => return Err(self.explain(error, at).await),
        };
        let head = layout.outer(answer.header().map_or(0, |header| header.revision()));
        let more = answer.more();
        let entries = answer.take_kvs().into_iter().filter_map(|kv| layout.entry(kv)).collect();
        Ok(RangeResult { entries, revision: if at > 0 { at } else { head }, more })
    }
}

#[async_trait]
impl Store for Etcd {
    async fn txn(&self, txn: Txn) -> Result<TxnResult, StoreError> {
        self.check_open()?;
        txn.validate()?;
        match self.try_txn(&txn).await {
            // A lease that we thought was open has ended: nothing was written.
            Err(StoreError::Unavailable(why)) if why.contains("requested lease not found") => {
                self.leases.forget().await;
                self.try_txn(&txn).await
            }
            other => other,
        }
    }

    async fn range(
        &self,
        prefix: &[u8],
        from: Option<&[u8]>,
        limit: usize,
        at: Option<u64>,
    ) -> Result<RangeResult, StoreError> {
        self.check_open()?;
        let layout = self.layout();
        let mut at = at.unwrap_or(0);
        if at > 0 && at <= layout.base {
            return Err(StoreError::Compacted { oldest: self.oldest().await? });
        }
        let mut start = from.map_or(prefix, |from| from.max(prefix)).to_vec();
        let mut entries: Vec<Entry> = Vec::new();
        loop {
            // The store's own two keys may be among them, and one more tells whether there is more.
            let wanted = if limit == 0 { PAGE } else { PAGE.min(limit - entries.len() + 3) };
            let page = self.page(&layout, prefix, &start, wanted, at).await?;
            at = page.revision;
            let last = page.entries.last().map(|entry| entry.key.clone());
            entries.extend(page.entries);
            let full = limit > 0 && entries.len() > limit;
            match last {
                Some(key) if page.more && !full => start = [&key[..], &[0]].concat(),
                _ => {
                    if full {
                        entries.truncate(limit);
                    }
                    return Ok(RangeResult { entries, revision: at, more: full });
                }
            }
        }
    }

    async fn watch(&self, prefix: &[u8], after: u64) -> Result<WatchStream, StoreError> {
        self.check_open()?;
        let layout = self.layout();
        if after > 0 {
            // Fails as the watch would, but now: the revision is forgotten, or in the future.
            self.range(STORE_KEY.as_bytes(), None, 1, Some(after)).await?;
        }
        let (endpoint, stream) = self.etcd.watch(|client| watch::open(client, &layout, after)).await?;
        let (sender, ours) = watch_channel(Default::default(), WATCH_QUEUE);
        let mut carrier = Carrier { layout, prefix: prefix.to_vec(), after, sender };
        let etcd = self.etcd.clone();
        self.world.spawn("etcd-watch", async move {
            if let Err(why) = carrier.run(stream).await {
                if why.is_transient() {
                    etcd.rotate(endpoint);
                }
                carrier.sender.end(why);
            }
        });
        Ok(ours)
    }

    async fn compact(&self, below: u64) -> Result<(), StoreError> {
        self.check_open()?;
        let layout = self.layout();
        let below = below.min(self.head().await?);
        if below <= layout.base {
            return Ok(());
        }
        match compact_to(&self.etcd, layout.inner(below)).await {
            Err(StoreError::Compacted { .. }) => Ok(()),
            other => other,
        }
    }

    async fn head(&self) -> Result<u64, StoreError> {
        self.check_open()?;
        let layout = self.layout();
        Ok(layout.outer(inner_head(&self.etcd, &layout.key(STORE_KEY.as_bytes())).await?))
    }

    async fn progress(&self) -> Result<(), StoreError> {
        self.check_open()?;
        let key = self.layout().key(PROGRESS_KEY.as_bytes());
        let put = self.etcd.kv("a progress mark", Repeat::Freely, |mut kv| {
            let key = key.clone();
            async move { kv.put(key, "", None).await }
        });
        put.await.map(drop)
    }

    async fn restore(&self, snapshot: Snapshot) -> Result<u64, StoreError> {
        self.check_open()?;
        self.replace_all(snapshot).await
    }

    async fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        self.compactor.abort();
        self.world.stop().await;
    }
}

/// The key-value that each read of a failed transaction found.
fn reads_of(answer: &TxnResponse) -> impl Iterator<Item = Option<etcd_client::KeyValue>> {
    answer.op_responses().into_iter().map(|response| match response {
        TxnOpResponse::Get(mut get) => get.take_kvs().into_iter().next(),
        _ => None,
    })
}

/// Reads the store's marks; writes the first ones into an empty store.
async fn mark(etcd: &Connection, cluster: String, unfinished: Unfinished) -> Result<Layout, StoreError> {
    let mut layout = Layout { cluster, base: 0, marked_at: 0 };
    let key = layout.key(STORE_KEY.as_bytes());
    let first = Marks { base: 0, restoring: false }.encode();
    let request = EtcdTxn::new()
        .when([Compare::mod_revision(key.clone(), CompareOp::Equal, 0)])
        .and_then([TxnOp::put(key.clone(), first, None), TxnOp::get(key.clone(), None)])
        .or_else([TxnOp::get(key, None)]);
    let answer = etcd.kv("opening the store", Repeat::Freely, |mut kv| {
        let request = request.clone();
        async move { kv.txn(request).await }
    });
    let found = reads_of(&answer.await?).flatten().last();
    let found = found.ok_or_else(|| StoreError::Corrupt(format!("etcd's key {STORE_KEY} is gone")))?;
    let marks = Marks::decode(found.value())?;
    if marks.restoring && unfinished == Unfinished::Refuse {
        let why = "a restore is under way, or was cut off; wait for it, or restore the snapshot again";
        return Err(StoreError::Unavailable(why.into()));
    }
    layout.base = marks.base;
    layout.marked_at = found.mod_revision();
    Ok(layout)
}

/// etcd's newest revision, agreed on by its members.
async fn inner_head(etcd: &Connection, key: &[u8]) -> Result<i64, StoreError> {
    let answer = etcd.kv("asking for the head", Repeat::Freely, |mut kv| {
        let key = key.to_vec();
        async move { kv.get(key, Some(GetOptions::new().with_keys_only())).await }
    });
    Ok(answer.await?.header().map_or(0, |header| header.revision()))
}

async fn compact_to(etcd: &Connection, inner: i64) -> Result<(), StoreError> {
    let answer = etcd.kv("a compaction", Repeat::Freely, |mut kv| async move { kv.compact(inner, None).await });
    answer.await.map(drop)
}

/// Every so often, what was the head the time before is compacted: etcd would else grow without end.
async fn compact_by_age(world: World, etcd: Arc<Connection>) {
    let mut before = None;
    loop {
        if let Some(revision) = before
            && let Err(why) = compact_to(&etcd, revision).await
            // Another API server was quicker.
            && !matches!(why, StoreError::Compacted { .. })
        {
            tracing::warn!(%why, "etcd's history could not be compacted");
        }
        before = inner_head(&etcd, STORE_KEY.as_bytes()).await.ok().filter(|revision| *revision > 0);
        world.sleep(COMPACT_EVERY).await;
    }
}
