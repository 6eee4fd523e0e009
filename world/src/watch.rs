//! A value that tasks wait on: tokio's `sync::watch`, with waiters that are woken in the order in which they came.
//!
//! tokio's own spreads its waiters at random over several lists, which is good for many threads and bad for
//! determinism: who waits for the same change would go on in another order in each run. The names are tokio's.

use std::ops::Deref;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use tokio::sync::Notify;

/// All senders are gone: the value will not change any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("nobody can change the value any more")]
pub struct RecvError;

/// Nobody listens; here is the value again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("nobody listens to the value")]
pub struct SendError<T>(pub T);

struct Shared<T> {
    state: RwLock<State<T>>,
    changed: Notify,
    senders: AtomicUsize,
    receivers: AtomicUsize,
}

struct State<T> {
    value: T,
    version: u64,
}

impl<T> Shared<T> {
    fn read(&self) -> RwLockReadGuard<'_, State<T>> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State<T>> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_closed(&self) -> bool {
        self.senders.load(Ordering::SeqCst) == 0
    }

    async fn changed_from(&self, seen: &mut u64) -> Result<(), RecvError> {
        loop {
            let changed = self.changed.notified();
            let mut changed = std::pin::pin!(changed);
            changed.as_mut().enable();
            let version = self.read().version;
            if version != *seen {
                *seen = version;
                return Ok(());
            }
            if self.is_closed() {
                return Err(RecvError);
            }
            changed.await;
        }
    }
}

/// The value, as long as this lives. Don't hold it across an `await`: whoever wants to change the value waits.
pub struct Ref<'a, T>(RwLockReadGuard<'a, State<T>>);

impl<T> Deref for Ref<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.value
    }
}

impl<T: std::fmt::Debug> std::fmt::Debug for Ref<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        (**self).fmt(f)
    }
}

/// Changes the value. Clones change the same one.
pub struct Sender<T> {
    shared: Arc<Shared<T>>,
}

/// Sees the value, and waits for changes of it. A clone has seen what its original has.
pub struct Receiver<T> {
    shared: Arc<Shared<T>>,
    seen: u64,
}

/// A value, with one end that changes it and one that listens.
pub fn channel<T>(value: T) -> (Sender<T>, Receiver<T>) {
    let sender = Sender::new(value);
    let receiver = sender.subscribe();
    (sender, receiver)
}

impl<T> Sender<T> {
    /// A value that nobody listens to yet.
    pub fn new(value: T) -> Sender<T> {
        Sender {
            shared: Arc::new(Shared {
                state: RwLock::new(State { value, version: 0 }),
                changed: Notify::new(),
                senders: AtomicUsize::new(1),
                receivers: AtomicUsize::new(0),
            }),
        }
    }

    /// Somebody who listens from now on; the present value counts as seen.
    pub fn subscribe(&self) -> Receiver<T> {
        self.shared.receivers.fetch_add(1, Ordering::SeqCst);
        let seen = self.shared.read().version;
        Receiver { shared: self.shared.clone(), seen }
    }

    /// Sets the value, if somebody listens.
    pub fn send(&self, value: T) -> Result<(), SendError<T>> {
        if self.receiver_count() == 0 {
            return Err(SendError(value));
        }
        self.send_replace(value);
        Ok(())
    }

    /// Sets the value, and gives the one before.
    pub fn send_replace(&self, mut value: T) -> T {
        self.send_modify(|old| std::mem::swap(old, &mut value));
        value
    }

    /// Changes the value in place.
    pub fn send_modify(&self, modify: impl FnOnce(&mut T)) {
        self.send_if_modified(|value| {
            modify(value);
            true
        });
    }

    /// Changes the value in place, and tells the listeners if the closure says that it did. Gives what it said.
    pub fn send_if_modified(&self, modify: impl FnOnce(&mut T) -> bool) -> bool {
        let modified = {
            let mut state = self.shared.write();
            let modified = modify(&mut state.value);
            state.version += u64::from(modified);
            modified
        };
        if modified {
            self.shared.changed.notify_waiters();
        }
        modified
    }

    /// The value.
    pub fn borrow(&self) -> Ref<'_, T> {
        Ref(self.shared.read())
    }

    /// How many listen.
    pub fn receiver_count(&self) -> usize {
        self.shared.receivers.load(Ordering::SeqCst)
    }

    /// Whether nobody listens.
    pub fn is_closed(&self) -> bool {
        self.receiver_count() == 0
    }

    /// Waits until nobody listens.
    pub async fn closed(&self) {
        loop {
            let changed = self.shared.changed.notified();
            let mut changed = std::pin::pin!(changed);
            changed.as_mut().enable();
            if self.is_closed() {
                return;
            }
            changed.await;
        }
    }
}

impl<T> Receiver<T> {
    /// The value; it does not count as seen.
    pub fn borrow(&self) -> Ref<'_, T> {
        Ref(self.shared.read())
    }

    /// The value, which counts as seen.
    pub fn borrow_and_update(&mut self) -> Ref<'_, T> {
        let state = self.shared.read();
        self.seen = state.version;
        Ref(state)
    }

    /// Whether there is a value that has not been seen.
    pub fn has_changed(&self) -> Result<bool, RecvError> {
        if self.shared.is_closed() {
            return Err(RecvError);
        }
        Ok(self.shared.read().version != self.seen)
    }

    /// Makes the present value count as not seen.
    pub fn mark_changed(&mut self) {
        self.seen = self.seen.wrapping_sub(1);
    }

    /// Makes the present value count as seen.
    pub fn mark_unchanged(&mut self) {
        self.seen = self.shared.read().version;
    }

    /// Waits for a value that has not been seen, which then counts as seen. Safe to drop and call again.
    pub async fn changed(&mut self) -> Result<(), RecvError> {
        self.shared.changed_from(&mut self.seen).await
    }

    /// Waits until the value is as the closure wants it, which it may be already. Safe to drop and call again.
    pub async fn wait_for(&mut self, mut is_it: impl FnMut(&T) -> bool) -> Result<Ref<'_, T>, RecvError> {
        loop {
            let closed = self.shared.is_closed();
            {
                let state = self.shared.read();
                self.seen = state.version;
                if is_it(&state.value) {
                    return Ok(Ref(state));
                }
            }
            if closed {
                return Err(RecvError);
            }
            // An error means the last change may have come just before the end: looked at once more.
            let _ = self.shared.changed_from(&mut self.seen).await;
        }
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Sender<T> {
        self.shared.senders.fetch_add(1, Ordering::SeqCst);
        Sender { shared: self.shared.clone() }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        if self.shared.senders.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.shared.changed.notify_waiters();
        }
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Receiver<T> {
        self.shared.receivers.fetch_add(1, Ordering::SeqCst);
        Receiver { shared: self.shared.clone(), seen: self.seen }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        if self.shared.receivers.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.shared.changed.notify_waiters();
        }
    }
}

impl<T: Default> Default for Sender<T> {
    fn default() -> Sender<T> {
        Sender::new(T::default())
    }
}

impl<T: std::fmt::Debug> std::fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Sender").field(&*self.borrow()).finish()
    }
}

impl<T: std::fmt::Debug> std::fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Receiver").field(&*self.borrow()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[tokio::test]
    async fn a_change_is_seen_once_and_the_end_is_told() {
        let (sender, mut receiver) = channel(1);
        assert_eq!(receiver.has_changed(), Ok(false));
        assert_eq!(sender.send(2), Ok(()));
        assert_eq!(receiver.changed().await, Ok(()));
        assert_eq!(*receiver.borrow(), 2);
        assert!(!sender.send_if_modified(|_| false));
        assert_eq!(receiver.has_changed(), Ok(false));
        sender.send_modify(|value| *value += 1);
        let second = sender.clone();
        drop(sender);
        assert_eq!(receiver.clone().changed().await, Ok(()));
        assert_eq!(*receiver.borrow_and_update(), 3);
        drop(second);
        assert_eq!(receiver.changed().await, Err(RecvError));
        assert!(receiver.wait_for(|value| *value == 3).await.is_ok(), "the last value can still be waited for");
        assert!(receiver.wait_for(|value| *value == 4).await.is_err());
    }

    #[tokio::test]
    async fn whoever_waits_is_woken_by_changes_and_by_the_end() {
        let (sender, mut receiver) = channel(0);
        let ((), reached) = tokio::join!(
            async {
                for value in 1..=5 {
                    tokio::task::yield_now().await;
                    sender.send_replace(value);
                }
            },
            async { receiver.wait_for(|value| *value >= 4).await.map(|value| *value) }
        );
        assert_eq!(reached, Ok(4));
        let ((), end) = tokio::join!(async { drop(sender) }, async {
            receiver.mark_unchanged();
            receiver.changed().await
        });
        assert_eq!(end, Err(RecvError));
    }

    #[tokio::test]
    async fn a_sender_learns_that_nobody_listens() {
        let (sender, receiver) = channel(0);
        tokio::join!(sender.closed(), async { drop(receiver) });
        assert_eq!(sender.send(1), Err(SendError(1)));
        assert_eq!(sender.send_replace(2), 0);
        assert_eq!(*sender.subscribe().borrow(), 2);
    }

    #[test]
    fn waiters_go_on_in_the_order_in_which_they_came() {
        crate::sim::Simulation::new(1).faults(crate::sim::Faults { yields: 0, ..Default::default() }).run(
            |sim| async move {
                let world = sim.machine("one").world("a", None);
                let sender = Sender::new(0);
                let order = Arc::new(Mutex::new(Vec::new()));
                for number in 0..40 {
                    let (mut receiver, order) = (sender.subscribe(), order.clone());
                    world.spawn("wait", async move {
                        receiver.changed().await.unwrap();
                        order.lock().unwrap().push(number);
                    });
                }
                tokio::task::yield_now().await;
                sender.send_replace(1);
                world.sleep(std::time::Duration::from_millis(1)).await;
                assert_eq!(*order.lock().unwrap(), (0..40).collect::<Vec<_>>());
            },
        );
    }
}
