//! Credit: how many bytes a sender may still send before the receiver allows more.

use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

/// What each side may send before it hears of more.
pub const INITIAL: u32 = 256 * 1024;

pub(crate) struct Credit {
    /// `None` once the stream is closed.
    left: Mutex<Option<u64>>,
    changed: Notify,
}

impl Credit {
    pub(crate) fn new() -> Credit {
        Credit { left: Mutex::new(Some(u64::from(INITIAL))), changed: Notify::new() }
    }

    /// Takes up to `want` bytes of credit, at least one; waits for some. `None` once closed.
    pub(crate) async fn take(&self, want: usize) -> Option<usize> {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            {
                let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
                let credit = left.as_mut()?;
                let taken = (*credit).min(want as u64);
                if taken > 0 || want == 0 {
                    *credit -= taken;
                    return Some(taken as usize);
                }
            }
            changed.await;
        }
    }

    pub(crate) fn give(&self, bytes: u32) {
        if let Some(credit) = self.left.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            *credit = credit.saturating_add(u64::from(bytes));
        }
        self.changed.notify_waiters();
    }

    pub(crate) fn close(&self) {
        *self.left.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.changed.notify_waiters();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.left.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    /// Waits until the stream is closed.
    pub(crate) async fn closed(&self) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.is_closed() {
                return;
            }
            changed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[test]
    fn credit_is_taken_given_and_ends() {
        let credit = Credit::new();
        let all = INITIAL as usize;
        assert_eq!(credit.take(all - 10).now_or_never(), Some(Some(all - 10)));
        assert_eq!(credit.take(50).now_or_never(), Some(Some(10)), "what is left");
        assert_eq!(credit.take(1).now_or_never(), None, "then one waits");
        credit.give(5);
        assert_eq!(credit.take(50).now_or_never(), Some(Some(5)));
        credit.close();
        assert_eq!(credit.take(1).now_or_never(), Some(None));
        credit.give(5);
        assert_eq!(credit.take(1).now_or_never(), Some(None), "closed stays closed");
    }
}
