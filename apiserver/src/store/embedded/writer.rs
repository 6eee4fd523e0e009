//! The only task that changes the embedded store: it gathers what waits, commits it at once, and then tells everybody.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use skiff_world::World;
use skiff_world::mutants::{Mutant, is_awake};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::log::{Commit, Log};
use super::machine::{Applied, Machine, VersionId, cut};
use super::{Retention, Shared};
use crate::store::{Snapshot, StoreError, Txn, TxnResult, WatchItem};

/// Most transactions in one commit.
const BATCH: usize = 512;
/// Compaction runs when the history is longer than what is kept by one part in so many.
const SLACK: usize = 8;
/// How often old history and expired keys are looked for.
const TICK: Duration = Duration::from_secs(10);

/// Where an answer goes.
pub(super) type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// What the writer is asked to do.
pub(super) enum Request {
    Txn(Txn, Reply<TxnResult>),
    Compact(u64, Reply<()>),
    Restore(Snapshot, Reply<u64>),
    Close(Reply<()>),
}

pub(super) struct Writer {
    world: World,
    log: Arc<Log>,
    shared: Arc<Shared>,
    retention: Retention,
    /// Freed by a compaction whose commit is still to come, with the next write.
    dead: Vec<VersionId>,
    /// Heads at earlier ticks, oldest first: what was written before them is at least that old.
    ages: VecDeque<(Instant, u64)>,
    /// Who waits until the file is closed.
    closing: Vec<Reply<()>>,
}

impl Writer {
    pub(super) fn new(world: World, log: Log, shared: Arc<Shared>, retention: Retention) -> Writer {
        Writer {
            world,
            log: Arc::new(log),
            shared,
            retention,
            dead: Vec::new(),
            ages: VecDeque::new(),
            closing: Vec::new(),
        }
    }

    /// Runs until it is told to close, every store handle is gone, or the disk fails: after a failed commit nobody
    /// knows what the file holds, so nothing more is promised until it has been opened again.
    pub(super) async fn run(mut self, mut queue: mpsc::Receiver<Request>) {
        let mut waiting = Vec::new();
        let mut tick = self.world.now() + TICK;
        let why = loop {
            let pause = self.pause(tick);
            tokio::select! {
                biased;
                count = queue.recv_many(&mut waiting, BATCH) => {
                    if count == 0 {
                        break StoreError::Closed;
                    }
                }
                () = self.world.sleep(pause) => {}
            }
            if self.world.now() >= tick {
                tick = self.world.now() + TICK;
                self.age();
            }
            if let Err(why) = self.serve(&mut waiting).await {
                break why;
            }
        };
        if why != StoreError::Closed {
            tracing::error!(error = %why, "the store's disk failed; nothing is written any more");
        }
        queue.close();
        for watcher in self.shared.watchers().drain(..) {
            watcher.sender.end(why.clone());
        }
        while let Ok(request) = queue.try_recv() {
            refuse(request, &why);
        }
        // Only now may somebody else open the file.
        drop(self.log);
        for reply in self.closing {
            let _ = reply.send(Ok(()));
        }
    }

    /// Until the next tick, or the next expiry if that is sooner.
    fn pause(&self, tick: Instant) -> Duration {
        let until_tick = tick.saturating_duration_since(self.world.now());
        let Some(expiry) = self.shared.read().next_expiry() else { return until_tick };
        let until_expiry = expiry.saturating_sub(self.now()).max(0) as u64;
        until_tick.min(Duration::from_millis(until_expiry))
    }

    /// Serves what waits: runs of transactions together, everything else by itself, in order.
    async fn serve(&mut self, waiting: &mut Vec<Request>) -> Result<(), StoreError> {
        let (mut txns, mut replies) = (Vec::new(), Vec::new());
        for (key, mod_revision) in self.shared.read().expired(self.now()) {
            txns.push(Txn::delete(key, mod_revision));
            replies.push(None);
        }
        let mut requests = waiting.drain(..);
        let outcome = loop {
            match requests.next() {
                Some(Request::Txn(txn, reply)) => {
                    txns.push(txn);
                    replies.push(Some(reply));
                    continue;
                }
                other => {
                    if let Err(why) = self.write(std::mem::take(&mut txns), std::mem::take(&mut replies)).await {
                        if let Some(request) = other {
                            refuse(request, &why);
                        }
                        break Err(why);
                    }
                    match other {
                        None => return Ok(()),
                        Some(request) => {
                            if let Err(why) = self.alone(request).await {
                                break Err(why);
                            }
                        }
                    }
                }
            }
        };
        if let Err(why) = &outcome {
            requests.for_each(|request| refuse(request, why));
        }
        outcome
    }

    /// What does not go with others into one commit.
    async fn alone(&mut self, request: Request) -> Result<(), StoreError> {
        match request {
            Request::Txn(txn, reply) => self.write(vec![txn], vec![Some(reply)]).await,
            Request::Compact(below, reply) => {
                self.forget(below);
                let done = self.write(Vec::new(), Vec::new()).await;
                let _ = reply.send(done.clone());
                done
            }
            Request::Restore(snapshot, reply) => {
                let done = self.restore(snapshot).await;
                let _ = reply.send(done.clone());
                done.map(drop)
            }
            Request::Close(reply) => {
                self.closing.push(reply);
                Err(StoreError::Closed)
            }
        }
    }

    /// Plans, commits, installs, publishes and answers, in this order.
    async fn write(&mut self, txns: Vec<Txn>, replies: Vec<Option<Reply<TxnResult>>>) -> Result<(), StoreError> {
        let (planned, marks) = {
            let machine = self.shared.read();
            let marks = (!self.dead.is_empty()).then(|| (machine.head(), machine.compacted()));
            (machine.plan(&txns, self.now()), marks)
        };
        let dead = std::mem::take(&mut self.dead);
        let commit = Commit { applied: planned.applied, dead, marks, clear: false };
        let applied = match self.commit(commit).await {
            Ok(applied) => applied,
            Err(why) => {
                for reply in replies.into_iter().flatten() {
                    let _ = reply.send(Err(why.clone()));
                }
                return Err(why);
            }
        };
        self.publish(&applied);
        for (reply, outcome) in replies.into_iter().zip(planned.outcomes) {
            // Whoever asked may have given up; the write stands all the same.
            let _ = reply.map(|reply| reply.send(Ok(outcome)));
        }
        self.trim_history();
        Ok(())
    }

    async fn commit(&self, commit: Commit) -> Result<Vec<Applied>, StoreError> {
        if commit.is_empty() {
            return Ok(commit.applied);
        }
        let log = self.log.clone();
        self.world.blocking(move || log.commit(&commit).map(|()| commit.applied)).await
    }

    /// Makes durable revisions visible to readers and watchers in one step.
    fn publish(&self, applied: &[Applied]) {
        if applied.is_empty() {
            return;
        }
        let mut machine = self.shared.machine.write().unwrap_or_else(PoisonError::into_inner);
        machine.install(applied);
        self.shared.watchers().retain(|watcher| {
            let mut cuts = applied.iter().filter_map(|one| cut(&one.revision, &watcher.prefix));
            !watcher.sender.is_closed() && cuts.all(|revision| watcher.sender.send(WatchItem::Revision(revision)))
        });
    }

    /// Compacts when the history has outgrown what is kept; its commit comes with the next write.
    fn trim_history(&mut self) {
        let Retention { revisions, bytes, .. } = self.retention;
        let (count, size) = self.shared.read().history_size();
        if count > revisions + revisions / SLACK || size > bytes + bytes / SLACK {
            let below = self.shared.read().compaction_for(revisions, bytes);
            self.forget(below);
        }
    }

    /// Lets history go that is older than what is kept.
    fn age(&mut self) {
        let now = self.world.now();
        let (head, always) = {
            let machine = self.shared.read();
            (machine.head(), machine.compaction_for(self.retention.always, usize::MAX))
        };
        let mut old = 0;
        while let Some((_, revision)) = self.ages.pop_front_if(|(at, _)| now - *at >= self.retention.age) {
            old = revision;
        }
        self.ages.push_back((now, head));
        if old > 0 {
            self.forget(old.min(always));
        }
    }

    fn forget(&mut self, below: u64) {
        if is_awake(Mutant::HistoryForEver) {
            return;
        }
        let mut machine = self.shared.machine.write().unwrap_or_else(PoisonError::into_inner);
        self.dead.extend(machine.compact(below));
    }

    /// Replaces everything, above every revision that was ever given out.
    async fn restore(&mut self, snapshot: Snapshot) -> Result<u64, StoreError> {
        let head = self.shared.read().head();
        let floor = if is_awake(Mutant::RestoreGoesBack) { 1 } else { snapshot.floor.max(head) };
        let mut machine = Machine::new(floor, floor);
        let puts = snapshot.entries.into_iter().map(|(key, value)| Txn::create(key, value));
        let planned = machine.plan(&puts.collect::<Vec<_>>(), self.now());
        machine.install(&planned.applied);
        let head = machine.head();
        // Nobody may watch from within the restore: it has no events, it is where history begins.
        machine.compact(head);
        let commit = Commit { applied: planned.applied, dead: Vec::new(), marks: Some((head, head)), clear: true };
        self.commit(commit).await?;
        self.dead.clear();
        self.ages.clear();
        let mut shown = self.shared.machine.write().unwrap_or_else(PoisonError::into_inner);
        *shown = machine;
        for watcher in self.shared.watchers().drain(..) {
            watcher.sender.end(StoreError::Restored);
        }
        Ok(head)
    }

    fn now(&self) -> i64 {
        self.world.wall().as_millisecond()
    }
}

fn refuse(request: Request, why: &StoreError) {
    // Whoever asked may have given up by now.
    match request {
        Request::Txn(_, reply) => drop(reply.send(Err(why.clone()))),
        Request::Compact(_, reply) | Request::Close(reply) => drop(reply.send(Err(why.clone()))),
        Request::Restore(_, reply) => drop(reply.send(Err(why.clone()))),
    }
}
