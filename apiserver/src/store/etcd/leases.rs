//! Time to live, the etcd way: keys hang on leases. A lease per key would cost etcd more than the key, so keys that
//! expire at about the same time share one.

use std::collections::BTreeMap;
use std::time::Duration;

use skiff_world::World;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::connection::Connection;
use crate::store::StoreError;

/// A lease takes keys for this part of its time, at least for a second; so a key lives that much longer at most.
const SHARE: u32 = 20;
/// A lease's end deletes all of its keys in one revision; this keeps that revision small.
const KEYS_PER_LEASE: u32 = 500;

struct Lease {
    id: i64,
    keys: u32,
    open_until: Instant,
}

/// The leases that still take keys, by their time to live in seconds.
#[derive(Default)]
pub(super) struct Leases {
    open: Mutex<BTreeMap<u64, Lease>>,
}

impl Leases {
    /// A lease that ends `ttl` from now or a little later.
    pub(super) async fn lease(&self, world: &World, etcd: &Connection, ttl: Duration) -> Result<i64, StoreError> {
        let seconds = ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0);
        // Held over the grant: of many puts at once, one asks and the others share what it gets.
        let mut open = self.open.lock().await;
        let now = world.now();
        open.retain(|_, lease| lease.open_until > now && lease.keys < KEYS_PER_LEASE);
        if let Some(lease) = open.get_mut(&seconds) {
            lease.keys += 1;
            return Ok(lease.id);
        }
        let share = (ttl / SHARE).max(Duration::from_secs(1));
        let granted = (seconds + share.as_secs()).max(1) as i64;
        let answer = etcd.lease("granting a lease", |mut client| async move { client.grant(granted, None).await });
        let id = answer.await?.id();
        open.insert(seconds, Lease { id, keys: 1, open_until: now + share });
        Ok(id)
    }

    /// Forgets all: one of them turned out to be gone.
    pub(super) async fn forget(&self) {
        self.open.lock().await.clear();
    }
}
