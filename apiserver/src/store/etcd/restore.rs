//! Replacing everything in etcd by a snapshot.
//!
//! etcd takes a bounded number of keys in one transaction, so this is many; the store key says "restoring" meanwhile,
//! which every other API server sees: its watches end, its writes are refused, and it does not open.

use std::sync::PoisonError;

use etcd_client::{DeleteOptions, Txn as EtcdTxn, TxnOp};

use super::connection::{Connection, Repeat};
use super::layout::{Layout, Marks, STORE_KEY};
use super::{Etcd, compact_to, inner_head};
use crate::store::{Snapshot, StoreError};

/// etcd refuses more than 128 operations, or 1.5 MiB, in one transaction.
const OPS: usize = 100;
const BYTES: usize = 1 << 20;

impl Etcd {
    pub(super) async fn replace_all(&self, snapshot: Snapshot) -> Result<u64, StoreError> {
        let old = self.layout();
        let key = old.key(STORE_KEY.as_bytes());
        let inner = inner_head(&self.etcd, &key).await?;
        let base = snapshot.floor.max(old.outer(inner));
        clear(&self.etcd, &old, base).await?;
        let mut chunk = Vec::new();
        let mut size = 0;
        for (name, value) in snapshot.entries {
            if chunk.len() == OPS || size + value.len() > BYTES {
                commit(&self.etcd, std::mem::take(&mut chunk)).await?;
                size = 0;
            }
            size += value.len();
            chunk.push(TxnOp::put(old.key(&name), value, None));
        }
        if !chunk.is_empty() {
            commit(&self.etcd, chunk).await?;
        }
        let done = TxnOp::put(key, Marks { base, restoring: false }.encode(), None);
        let marked_at = commit(&self.etcd, vec![done]).await?;
        let layout = Layout { base, marked_at, ..old };
        let head = layout.outer(marked_at);
        *self.layout.write().unwrap_or_else(PoisonError::into_inner) = layout;
        // Nobody may watch from within the restore: it has no events, it is where history begins.
        match compact_to(&self.etcd, marked_at).await {
            Ok(()) | Err(StoreError::Compacted { .. }) => Ok(head),
            Err(why) => Err(why),
        }
    }
}

/// Deletes all, and says that a restore is under way.
async fn clear(etcd: &Connection, layout: &Layout, base: u64) -> Result<(), StoreError> {
    let key = layout.key(STORE_KEY.as_bytes());
    let (from, to) = layout.everything();
    let behind = [key.as_slice(), &[0]].concat();
    let delete = |from: Vec<u8>, to: Vec<u8>| TxnOp::delete(from, Some(DeleteOptions::new().with_range(to)));
    let marks = TxnOp::put(key.clone(), Marks { base, restoring: true }.encode(), None);
    commit(etcd, vec![delete(from, key), delete(behind, to), marks]).await.map(drop)
}

/// One step; a step may be done twice, which gives the same.
async fn commit(etcd: &Connection, ops: Vec<TxnOp>) -> Result<i64, StoreError> {
    let request = EtcdTxn::new().and_then(ops);
    let answer = etcd.kv("a step of the restore", Repeat::Freely, |mut kv| {
        let request = request.clone();
        async move { kv.txn(request).await }
    });
    Ok(answer.await?.header().map_or(0, |header| header.revision()))
}
