//! The store as an API server meets it: the embedded one, with what can happen to a server's etcd between the two. Calls
//! take long, watches tell late, the leader is lost for a while, and somebody may lie in wait for a write.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use skiff_apiserver::store::{
    RangeResult, Snapshot, Store, StoreError, Txn, TxnResult, WatchSender, WatchStream, watch_channel,
};
use skiff_world::{World, watch};
use tokio::sync::Notify;

/// How far a reader may be behind what its watch has told.
const QUEUE: usize = 1 << 14;

/// How long a write is held for whoever lies in wait for it.
const HELD: Duration = Duration::from_secs(5);

/// Where a store is, if it is anywhere: it may be started again behind everybody's back.
pub type Place = Arc<Mutex<Option<Arc<dyn Store>>>>;

/// What one server's store is like at the moment. Clones are the same.
#[derive(Clone)]
pub struct Weather {
    state: Arc<Mutex<State>>,
    /// Counts how often the leader was lost.
    lost: Arc<watch::Sender<u64>>,
}

#[derive(Default)]
struct State {
    slow: Duration,
    late: Duration,
    leaderless: bool,
    ambush: Option<(u64, Ambush)>,
}

/// Somebody who waits for a write, and holds its answer back.
#[derive(Clone, Default)]
pub struct Ambush {
    struck: Arc<Notify>,
    over: Arc<Notify>,
}

impl Ambush {
    /// Waits until the write is there.
    pub async fn struck(&self) {
        self.struck.notified().await;
    }

    /// Lets the answer go.
    pub fn end(&self) {
        self.over.notify_one();
    }
}

impl Default for Weather {
    fn default() -> Weather {
        Weather { state: Arc::default(), lost: Arc::new(watch::Sender::new(0)) }
    }
}

impl Weather {
    /// Every call takes up to so much longer.
    pub fn slow(&self, longest: Duration) {
        self.state().slow = longest;
    }

    /// Every watch tells up to so much later.
    pub fn late(&self, longest: Duration) {
        self.state().late = longest;
    }

    /// The leader is lost: watches end, nothing can be read, and of what is written nobody knows what becomes of it.
    pub fn lose_leader(&self) {
        self.state().leaderless = true;
        self.lost.send_modify(|count| *count += 1);
    }

    /// There is a leader again.
    pub fn find_leader(&self) {
        self.state().leaderless = false;
    }

    /// Lies in wait for the write that comes after so many.
    pub fn ambush(&self, after: u64) -> Ambush {
        let ambush = Ambush::default();
        self.state().ambush = Some((after, ambush.clone()));
        ambush
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A write has happened: whoever waited for it, if it was this one.
    fn written(&self) -> Option<Ambush> {
        let mut state = self.state();
        match &mut state.ambush {
            Some((0, _)) => state.ambush.take().map(|(_, ambush)| ambush),
            Some((left, _)) => {
                *left -= 1;
                None
            }
            None => None,
        }
    }
}

/// A store under its weather.
pub struct Weathered {
    world: World,
    place: Place,
    weather: Weather,
    /// It is on a machine of its own: when it ends there, it comes back there.
    apart: bool,
}

impl Weathered {
    /// The server's own store, in its World.
    pub fn own(world: &World, store: Arc<dyn Store>, weather: Weather) -> Weathered {
        Weathered { world: world.clone(), place: Arc::new(Mutex::new(Some(store))), weather, apart: false }
    }

    /// A store elsewhere, for a server in this World.
    pub fn apart(world: &World, place: Place, weather: Weather) -> Weathered {
        Weathered { world: world.clone(), place, weather, apart: true }
    }

    /// Of a store elsewhere, its end is an outage.
    fn told(&self, error: StoreError) -> StoreError {
        match error {
            StoreError::Closed if self.apart => StoreError::Unavailable("the connection was closed".into()),
            other => other,
        }
    }

    /// The store, after what the way there takes.
    async fn reach(&self) -> Result<Arc<dyn Store>, StoreError> {
        let slow = self.weather.state().slow;
        self.pause(slow).await;
        if self.weather.state().leaderless {
            return Err(StoreError::Unavailable("etcdserver: no leader".into()));
        }
        self.store()
    }

    fn store(&self) -> Result<Arc<dyn Store>, StoreError> {
        let store = self.place.lock().unwrap_or_else(PoisonError::into_inner).clone();
        store.ok_or_else(|| StoreError::Unavailable("nobody is there".into()))
    }

    async fn pause(&self, longest: Duration) {
        let millis = u64::try_from(longest.as_millis()).unwrap_or(u64::MAX);
        if millis > 0 {
            self.world.sleep(Duration::from_millis(self.world.random_below(millis))).await;
        }
    }

    /// A write while there is no leader: refused, lost on the way, or done though nobody says so.
    async fn write_without_leader(&self, txn: Txn) -> StoreError {
        match self.world.random_below(3) {
            0 => return StoreError::Unavailable("etcdserver: no leader".into()),
            1 => {}
            _ => {
                if let Ok(store) = self.store() {
                    // Whatever became of it, it is not told.
                    let _ = store.txn(txn).await;
                }
            }
        }
        self.pause(Duration::from_secs(3)).await;
        if self.world.random_below(2) == 0 {
            return StoreError::Unavailable("etcdserver: leader changed".into());
        }
        StoreError::Timeout { operation: "a transaction", seconds: 3 }
    }
}

#[async_trait]
impl Store for Weathered {
    async fn txn(&self, txn: Txn) -> Result<TxnResult, StoreError> {
        let slow = self.weather.state().slow;
        self.pause(slow).await;
        if self.weather.state().leaderless {
            return Err(self.write_without_leader(txn).await);
        }
        let result = self.store()?.txn(txn).await.map_err(|error| self.told(error));
        if let Ok(TxnResult::Committed { .. }) = &result
            && let Some(ambush) = self.weather.written()
        {
            ambush.struck.notify_one();
            // Who was to be struck may be nobody by now.
            let _ = tokio::time::timeout(HELD, ambush.over.notified()).await;
        }
        result
    }

    async fn range(
        &self,
        prefix: &[u8],
        from: Option<&[u8]>,
        limit: usize,
        at: Option<u64>,
    ) -> Result<RangeResult, StoreError> {
        self.reach().await?.range(prefix, from, limit, at).await.map_err(|error| self.told(error))
    }

    async fn watch(&self, prefix: &[u8], after: u64) -> Result<WatchStream, StoreError> {
        let mut lost = self.weather.lost.subscribe();
        let before = *lost.borrow();
        let stream = self.reach().await?.watch(prefix, after).await.map_err(|error| self.told(error))?;
        let (sender, told) = watch_channel(Default::default(), QUEUE);
        let (world, weather) = (self.world.clone(), self.weather.clone());
        let carrier = Weathered { world: world.clone(), place: self.place.clone(), weather, apart: self.apart };
        world.spawn("store-watch", async move {
            tokio::select! {
                biased;
                _ = lost.wait_for(|count| *count > before) => {
                    sender.end(StoreError::Unavailable("etcd cancelled the watch: no leader".into()));
                }
                () = sender.closed() => {}
                () = carrier.carry(stream, &sender) => {}
            }
        });
        Ok(told)
    }

    async fn compact(&self, below: u64) -> Result<(), StoreError> {
        self.reach().await?.compact(below).await.map_err(|error| self.told(error))
    }

    async fn head(&self) -> Result<u64, StoreError> {
        self.reach().await?.head().await.map_err(|error| self.told(error))
    }

    async fn progress(&self) -> Result<(), StoreError> {
        self.reach().await?.progress().await.map_err(|error| self.told(error))
    }

    async fn restore(&self, snapshot: Snapshot) -> Result<u64, StoreError> {
        self.reach().await?.restore(snapshot).await.map_err(|error| self.told(error))
    }

    async fn close(&self) {
        // One that is elsewhere goes on.
        if let (false, Ok(store)) = (self.apart, self.store()) {
            store.close().await;
        }
    }
}

impl Weathered {
    /// Carries a watch over to the server's end.
    async fn carry(&self, mut stream: WatchStream, sender: &WatchSender) {
        while let Some(item) = stream.next().await {
            let late = self.weather.state().late;
            self.pause(late).await;
            match item {
                Ok(item) => {
                    if !sender.send(item) {
                        return;
                    }
                }
                Err(why) => return sender.end(self.told(why)),
            }
        }
    }
}
