//! Scopes: who owns a task, and what becomes of it.
//!
//! A scope is a set of tasks, connections and child scopes. Stopping it aborts and drops all of
//! them, which is how a crash in simulation, a restart by a supervisor and an orderly shutdown all
//! work. A task that panics stops its scope: half a component is worse than none.

use std::any::Any;
use std::collections::BTreeMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll};

use tokio::task::{AbortHandle, JoinHandle};

use crate::Connection;
use crate::host::{SharedHost, locked};
use crate::pipe::Wire;
use crate::watch;

/// Why a World is stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// It, or the World it is a child of, was asked to.
    Asked,
    /// One of its tasks panicked.
    Panicked {
        /// The name the task was spawned under.
        task: &'static str,
        /// What it said.
        message: String,
    },
}

/// How a task ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Its future completed.
    Finished,
    /// It was aborted, or its World was stopped, or it never started.
    Stopped,
    /// It panicked.
    Panicked,
}

/// A task in a World. Dropping this handle leaves the task alone.
pub struct Task {
    name: &'static str,
    running: Option<JoinHandle<Ended>>,
}

impl Task {
    /// The name the task was spawned under.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Ends the task at its next suspension point.
    pub fn abort(&self) {
        if let Some(running) = &self.running {
            running.abort();
        }
    }

    /// Whether the task is over.
    pub fn is_finished(&self) -> bool {
        self.running.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Waits for the task's end.
    pub async fn join(self) -> Ended {
        match self.running {
            Some(running) => running.await.unwrap_or(Ended::Stopped),
            None => Ended::Stopped,
        }
    }
}

/// Starts hyper's and tonic's tasks in a World.
#[derive(Clone)]
pub struct Executor {
    scope: Arc<Scope>,
}

impl Executor {
    pub(crate) fn new(scope: Arc<Scope>) -> Executor {
        Executor { scope }
    }
}

impl<F> hyper::rt::Executor<F> for Executor
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        self.scope.spawn("connection", async move {
            future.await;
        });
    }
}

pub(crate) struct Scope {
    component: String,
    host: SharedHost,
    state: Mutex<State>,
    /// Told when the last task of this scope alone goes after it was stopped: stop() waits for that. While it runs,
    /// tasks come and go by the thousand, and nobody has to be told.
    emptied: watch::Sender<()>,
    stopped: watch::Sender<Option<Stopped>>,
}

#[derive(Default)]
struct State {
    next_id: u64,
    /// Without a handle for the instant in which a task is being started.
    tasks: BTreeMap<u64, Option<AbortHandle>>,
    children: Vec<Weak<Scope>>,
    wires: Vec<Weak<Wire>>,
    /// Above this many wires, the dead ones are swept out.
    sweep_at: usize,
}

impl Scope {
    pub(crate) fn new(component: &str, host: SharedHost, parent: Option<&Arc<Scope>>) -> Arc<Scope> {
        let scope = Arc::new(Scope {
            component: component.to_owned(),
            host,
            state: Mutex::default(),
            emptied: watch::Sender::new(()),
            stopped: watch::Sender::new(None),
        });
        if let Some(parent) = parent {
            let mut state = locked(&parent.state);
            state.children.retain(|child| child.strong_count() > 0);
            state.children.push(Arc::downgrade(&scope));
            drop(state);
            if parent.is_stopped() {
                scope.cease(Stopped::Asked);
            }
        }
        scope
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.borrow().is_some()
    }

    pub(crate) fn spawn<F>(self: &Arc<Self>, name: &'static str, future: F) -> Task
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let id = {
            let mut state = locked(&self.state);
            let id = state.next_id;
            state.next_id += 1;
            state.tasks.insert(id, None);
            id
        };
        let owned = Owned {
            future: Some(Box::pin(future)),
            yielded: false,
            name,
            membership: Membership { scope: self.clone(), id },
        };
        if self.is_stopped() {
            return Task { name, running: None };
        }
        let running = tokio::spawn(owned);
        // Its entry is gone if it is over already.
        if let Some(entry) = locked(&self.state).tasks.get_mut(&id) {
            *entry = Some(running.abort_handle());
        }
        // A stop in between has not seen the handle.
        if self.is_stopped() {
            running.abort();
        }
        Task { name, running: Some(running) }
    }

    /// Makes a connection end with the scope.
    pub(crate) fn own_connection(&self, connection: &Connection) {
        let Some(wire) = connection.wire() else {
            return;
        };
        let mut state = locked(&self.state);
        if state.wires.len() >= state.sweep_at.max(16) {
            state.wires.retain(|wire| wire.strong_count() > 0);
            state.sweep_at = state.wires.len() * 2;
        }
        state.wires.push(Arc::downgrade(wire));
        drop(state);
        if self.is_stopped() {
            wire.cut();
        }
    }

    /// Ends everything at once, without waiting. The first reason given stays.
    pub(crate) fn cease(&self, why: Stopped) {
        let news = self.stopped.send_if_modified(|stopped| {
            let first = stopped.is_none();
            if first {
                *stopped = Some(why);
            }
            first
        });
        if !news {
            return;
        }
        let (tasks, children, wires) = {
            let mut state = locked(&self.state);
            let tasks: Vec<AbortHandle> = state.tasks.values().flatten().cloned().collect();
            (tasks, std::mem::take(&mut state.children), std::mem::take(&mut state.wires))
        };
        for child in children.iter().filter_map(Weak::upgrade) {
            child.cease(Stopped::Asked);
        }
        for wire in wires.iter().filter_map(Weak::upgrade) {
            wire.cut();
        }
        for task in tasks {
            task.abort();
        }
    }

    /// Ends everything and waits until it is gone.
    pub(crate) async fn stop(&self) {
        let family = self.family();
        self.cease(Stopped::Asked);
        for scope in family {
            scope.until_empty().await;
        }
        self.until_empty().await;
    }

    /// Waits until no task lives; only after `cease`.
    async fn until_empty(&self) {
        let mut emptied = self.emptied.subscribe();
        while !locked(&self.state).tasks.is_empty() {
            // Never an error: the sender lives in the scope we hold.
            let _ = emptied.changed().await;
        }
    }

    fn family(&self) -> Vec<Arc<Scope>> {
        let children: Vec<_> = locked(&self.state).children.iter().filter_map(Weak::upgrade).collect();
        let deeper: Vec<_> = children.iter().flat_map(|child| child.family()).collect();
        children.into_iter().chain(deeper).collect()
    }

    pub(crate) async fn stopped(&self) -> Stopped {
        let mut stopped = self.stopped.subscribe();
        match stopped.wait_for(Option::is_some).await {
            Ok(why) => why.clone().unwrap_or(Stopped::Asked),
            Err(_) => Stopped::Asked,
        }
    }

    fn report(&self, task: &'static str, panic: &(dyn Any + Send)) {
        let message = panic
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "no message".to_owned());
        tracing::error!(component = self.component, task, message, "a task panicked; its component stops");
        self.host.panicked(&self.component, task, &message);
        self.cease(Stopped::Panicked { task, message });
    }
}

/// A task's future together with its place in the scope, which it leaves when it is dropped.
struct Owned {
    future: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    yielded: bool,
    name: &'static str,
    membership: Membership,
}

impl Future for Owned {
    type Output = Ended;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Ended> {
        let this = &mut *self;
        if !this.yielded && this.membership.scope.host.yields() {
            this.yielded = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        this.yielded = false;
        let Some(future) = this.future.as_mut() else {
            return Poll::Ready(Ended::Finished);
        };
        let ended = match std::panic::catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(())) => Ended::Finished,
            Err(panic) => {
                this.membership.scope.report(this.name, panic.as_ref());
                Ended::Panicked
            }
        };
        // Dropped here, not with the handle: what the task held is free when it is over.
        this.future = None;
        Poll::Ready(ended)
    }
}

struct Membership {
    scope: Arc<Scope>,
    id: u64,
}

impl Drop for Membership {
    fn drop(&mut self) {
        let mut state = locked(&self.scope.state);
        state.tasks.remove(&self.id);
        let last = state.tasks.is_empty();
        drop(state);
        // Whoever stops the scope says so before looking whether it is empty: one of the two sees the other.
        if last && self.scope.is_stopped() {
            self.scope.emptied.send_replace(());
        }
    }
}
