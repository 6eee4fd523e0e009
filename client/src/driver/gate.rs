//! A gate stands before every action of a control loop. Open, it costs one atomic load. Closed, the loop stands
//! still in front of its next action, while leases, watches and queues go on, until somebody lets it through.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

/// A gate; clones are the same gate.
#[derive(Clone)]
pub struct Gate {
    shared: Arc<Shared>,
}

struct Shared {
    name: String,
    closed: AtomicBool,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    /// How many actions may still pass the closed gate.
    permits: u64,
    standing: BTreeMap<u64, Standing>,
    next: u64,
}

/// Who stands before a closed gate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// In one line: the key, the action, and why.
    pub what: String,
    /// In several: what woke the key, what was observed, the whole plan.
    pub story: String,
}

impl From<String> for Standing {
    fn from(what: String) -> Standing {
        Standing { what, story: String::new() }
    }
}

impl Gate {
    /// An open gate. Most gates come from [`crate::Controls::gate`], which lets people find them.
    pub fn new(name: impl Into<String>) -> Gate {
        let shared = Shared {
            name: name.into(),
            closed: AtomicBool::new(false),
            state: Mutex::default(),
            changed: Notify::new(),
        };
        Gate { shared: Arc::new(shared) }
    }

    /// The gate's name.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Whether actions pass freely.
    pub fn is_open(&self) -> bool {
        !self.shared.closed.load(Ordering::Acquire)
    }

    /// Stops every action that comes from now on.
    pub fn close(&self) {
        self.lock().permits = 0;
        self.shared.closed.store(true, Ordering::Release);
    }

    /// Lets everything through again.
    pub fn open(&self) {
        self.shared.closed.store(false, Ordering::Release);
        self.shared.changed.notify_waiters();
    }

    /// Lets `actions` more pass the closed gate, those that stand there first.
    pub fn step(&self, actions: u64) {
        let mut state = self.lock();
        state.permits = state.permits.saturating_add(actions);
        drop(state);
        self.shared.changed.notify_waiters();
    }

    /// Closes the gate for as long as the answer lives; nothing if it is closed already.
    pub fn hold(&self) -> Option<HeldGate> {
        let taken = !self.shared.closed.swap(true, Ordering::AcqRel);
        taken.then(|| {
            self.lock().permits = 0;
            HeldGate { gate: self.clone() }
        })
    }

    /// What stands before the gate, in the order of arrival.
    pub fn standing(&self) -> Vec<String> {
        self.lock().standing.values().map(|standing| standing.what.clone()).collect()
    }

    /// The same, with all there is to know of each.
    pub fn stories(&self) -> Vec<Standing> {
        self.lock().standing.values().cloned().collect()
    }

    /// Waits until [`Gate::stories`] are other than these.
    pub async fn other_than(&self, known: &[Standing]) -> Vec<Standing> {
        loop {
            let changed = self.shared.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let now = self.stories();
            if now != known {
                return now;
            }
            changed.await;
        }
    }

    /// Passes the gate; true when that took waiting, and what the caller knows may be old.
    pub async fn pass<S: Into<Standing>>(&self, what: impl FnOnce() -> S) -> bool {
        if self.is_open() {
            return false;
        }
        let place = self.stand(what().into());
        loop {
            let changed = self.shared.changed.notified();
            tokio::pin!(changed);
            // From here on no change is missed, also one that comes before the await.
            changed.as_mut().enable();
            if self.is_open() || place.take_permit() {
                return true;
            }
            changed.await;
        }
    }

    fn stand(&self, what: Standing) -> Place<'_> {
        let mut state = self.lock();
        let id = state.next;
        state.next += 1;
        state.standing.insert(id, what);
        drop(state);
        // For those who look on.
        self.shared.changed.notify_waiters();
        Place { gate: self, id }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A gate that is closed until this is dropped.
pub struct HeldGate {
    gate: Gate,
}

impl HeldGate {
    /// The gate.
    pub fn gate(&self) -> &Gate {
        &self.gate
    }
}

impl Drop for HeldGate {
    fn drop(&mut self) {
        self.gate.open();
    }
}

/// A place in the line before a gate; left also when the waiting is given up.
struct Place<'a> {
    gate: &'a Gate,
    id: u64,
}

impl Place<'_> {
    /// First come, first served: as many as there are permits, from the front of the line.
    fn take_permit(&self) -> bool {
        let mut state = self.gate.lock();
        let ahead = state.standing.range(..self.id).count() as u64;
        if ahead >= state.permits {
            return false;
        }
        state.permits -= 1;
        state.standing.remove(&self.id);
        true
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.gate.lock().standing.remove(&self.id);
        // One less ahead of the others.
        self.gate.shared.changed.notify_waiters();
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate")
            .field("name", &self.shared.name)
            .field("open", &self.is_open())
            .field("standing", &self.standing())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    fn line(gate: &Gate, name: &str) -> std::pin::Pin<Box<dyn Future<Output = bool>>> {
        let (gate, name) = (gate.clone(), name.to_string());
        async move { gate.pass(move || name).await }.boxed_local()
    }

    #[test]
    fn open_lets_through_without_asking_what() {
        let gate = Gate::new("g");
        let passed = gate.pass(|| -> String { panic!("an open gate prints nothing") }).now_or_never();
        assert_eq!(passed, Some(false));
    }

    #[tokio::test]
    async fn closed_shows_who_stands_and_steps_in_order() {
        let gate = Gate::new("g");
        gate.close();
        let (mut a, mut b) = (line(&gate, "a"), line(&gate, "b"));
        assert!(futures::poll!(&mut a).is_pending() && futures::poll!(&mut b).is_pending());
        assert_eq!(gate.standing(), ["a", "b"]);

        gate.step(1);
        // The one behind is asked first, and still does not jump the line.
        assert!(futures::poll!(&mut b).is_pending());
        assert!(futures::poll!(&mut a).is_ready());
        assert_eq!(gate.standing(), ["b"]);
        assert!(futures::poll!(&mut b).is_pending(), "one step is one action");

        gate.open();
        assert!(b.await);
        assert!(gate.standing().is_empty());
    }

    #[tokio::test]
    async fn who_gives_up_leaves_the_line_and_takes_no_permit() {
        let gate = Gate::new("g");
        gate.close();
        let (mut a, mut b) = (line(&gate, "a"), line(&gate, "b"));
        assert!(futures::poll!(&mut a).is_pending() && futures::poll!(&mut b).is_pending());
        drop(a);
        gate.step(1);
        assert!(b.await);
    }

    #[tokio::test]
    async fn a_held_gate_opens_with_its_holder_and_has_only_one() {
        let gate = Gate::new("g");
        let held = gate.hold().expect("it was open");
        assert!(gate.hold().is_none() && !gate.is_open());
        let mut a = line(&gate, "a");
        let news = gate.other_than(&[]);
        tokio::pin!(news);
        assert!(futures::poll!(&mut news).is_pending() && futures::poll!(&mut a).is_pending());
        assert_eq!(news.await, [Standing::from("a".to_string())]);
        drop(held);
        assert!(a.await && gate.is_open());
    }

    #[tokio::test]
    async fn closing_again_takes_unused_permits_back() {
        let gate = Gate::new("g");
        gate.close();
        gate.step(5);
        gate.close();
        assert_eq!(line(&gate, "a").now_or_never(), None);
    }
}
