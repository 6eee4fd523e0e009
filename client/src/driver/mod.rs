//! The loop that drives every component: take a key, observe, plan, gate, act one step, gate, act the next.
//!
//! - [`Reconciler::observe`] reads informer stores, [`Reconciler::plan`] decides and is pure, [`Reconciler::act`] does
//!   what was decided and decides nothing.
//! - The queue hands a key to one worker at a time, and again if it was added meanwhile (`queue/`).
//! - Before each step stands a [`Gate`] (`gate.rs`).
//! - A key is only observed once the informers show what it wrote itself (`settled.rs`).
//! - Every step runs inside its cause (`cause.rs`).
//! - Failures back off and never give up; a conflict is looked at again soon, since somebody else was just quicker.

mod gate;
mod plan;
pub mod settled;

use std::fmt::{Debug, Display};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use skiff_world::World;
use skiff_world::mutants::{Mutant, is_awake};
use tracing::Instrument;

pub use gate::{Gate, HeldGate, Standing};
pub use plan::{Plan, Step};

use crate::cause;
use crate::error::{ActError, Retry};
use crate::metrics::Ended;
use crate::queue::{KEY_BACKOFF, QueueKey, Trigger, Work, WorkQueue};
use settled::Note;

/// A conflict is looked at again after at most this long.
const CONFLICT_CAP: Duration = Duration::from_millis(500);
/// A write whose outcome is unknown has this long to land, before it is looked for and the key is planned again.
const UNKNOWN_FLOOR: Duration = Duration::from_secs(1);
/// While the API server cannot be reached, or cannot serve because its store is away, a key waits at most this long: it is
/// not the key's fault, and once that is over nobody shall wait for what has grown meanwhile.
const OUTAGE_CAP: Duration = Duration::from_secs(5);

/// One kind of work, in three parts.
pub trait Reconciler: Send + Sync + 'static {
    /// What the queue carries.
    type Key: QueueKey;
    /// Everything that the plan depends on.
    type Observed: Send + Sync;
    /// One thing to do; as data, and printable.
    type Action: Debug + Display + Clone + Send + Sync;
    /// The name in logs, causes and metrics.
    const NAME: &'static str;

    /// What is known about the key, from informer stores; `None` when there is nothing to do about it.
    fn observe(&self, key: &Self::Key) -> Option<Self::Observed>;
    /// What to do about it. Pure: no client, clock, randomness or logging.
    fn plan(&self, observed: &Self::Observed, now: jiff::Timestamp) -> Plan<Self::Action>;
    /// Does one thing.
    fn act(&self, key: &Self::Key, action: &Self::Action) -> impl Future<Output = Result<(), ActError>> + Send;
}

/// Drives a reconciler with `workers` keys at a time, until the queue is closed. Dropping the future stops it, and
/// the keys that were being worked on are back in the queue.
pub async fn run<R: Reconciler>(
    world: World,
    reconciler: Arc<R>,
    queue: WorkQueue<R::Key>,
    gate: Gate,
    workers: usize,
) {
    let driver = Driver { world, reconciler, queue, gate };
    let worker = async || {
        while let Some(work) = driver.queue.next().await {
            let started = driver.world.now();
            let id = driver.world.random_suffix(10);
            // Of the highest level, so that no filter takes the id from a line that it lets through.
            let span = tracing::error_span!("reconcile", controller = R::NAME, key = %work.key(), %id);
            let outcome = driver.reconcile(&work, &id).instrument(span.clone()).await.unwrap_or_else(|early| early);
            driver.queue.metrics().reconciled(outcome.ended(), driver.world.now().saturating_duration_since(started));
            span.in_scope(|| finish(work, outcome));
        }
    };
    let workers = if is_awake(Mutant::OneAtATime) { 1 } else { workers.max(1) };
    futures::future::join_all((0..workers).map(|_| worker())).await;
}

struct Driver<R: Reconciler> {
    world: World,
    reconciler: Arc<R>,
    queue: WorkQueue<R::Key>,
    gate: Gate,
}

impl<R: Reconciler> Driver<R> {
    /// The heart: one look at one key. An `Err` is a look that found no plan.
    async fn reconcile(&self, work: &Work<R::Key>, id: &str) -> Result<Outcome, Outcome> {
        let key = work.key();
        let mut plan = self.look(key).await?;
        let mut next = 0;
        while let Some(step) = plan.steps.get(next) {
            if self.gate.pass(|| standing(work, &plan, next)).await {
                // It was closed, and time has passed. If what the plan was made from has changed, there is a new one;
                // its first step has been let through only if it reads the same.
                let let_through = shown(key, step);
                let again = self.look(key).await?;
                if again.differs_from(&plan) {
                    (plan, next) = (again, 0);
                    if plan.steps.first().map(|first| shown(key, first)) != Some(let_through) {
                        continue;
                    }
                }
            }
            let Some(step) = plan.steps.get(next) else {
                break;
            };
            tracing::debug!(step = next, action = %step.action, reason = step.reason);
            let cause = cause::of_step(R::NAME, id, next, &step.reason, work.triggers(), &plan.inputs);
            let (unseen, of) = (self.queue.unseen().clone(), key.clone());
            let noted = move |note| match note {
                Note::Write(write) => unseen.note(&of, write),
                Note::Doubt(views) => unseen.doubt(&of, UNKNOWN_FLOOR, views),
            };
            // On the heap: what an action needs while it waits can be a hundred kilobytes, which nobody should pass around.
            let action = Box::pin(self.reconciler.act(key, &step.action));
            let acted = cause::noting(cause, noted, action).await;
            if let Err(error) = acted {
                if error.may_have_been_done() {
                    // Which views would show it has been noted where it was made.
                    self.queue.unseen().doubt(key, UNKNOWN_FLOOR, Vec::new());
                }
                return Ok(Outcome::Failed(step.action.to_string(), error));
            }
            next += 1;
        }
        Ok(Outcome::Done(plan.requeue_after))
    }

    async fn look(&self, key: &R::Key) -> Result<Plan<R::Action>, Outcome> {
        if let Some(wait) = self.queue.unseen().in_doubt(key) {
            return Err(Outcome::Early(wait));
        }
        if !self.queue.unseen().settled(key).await {
            return Err(Outcome::Stale);
        }
        let observed = self.reconciler.observe(key).ok_or(Outcome::Done(None))?;
        Ok(self.reconciler.plan(&observed, self.world.wall()))
    }
}

/// A step as people see it at the gate.
fn shown<K: Display, A: Display>(key: &K, step: &Step<A>) -> String {
    format!("{key}: {} ({})", step.action, step.reason)
}

/// All there is to know of a step, for who lets it through: what woke the key, what was observed, the whole plan.
fn standing<K: QueueKey, A: Display>(work: &Work<K>, plan: &Plan<A>, next: usize) -> Standing {
    let what = plan.steps.get(next).map(|step| shown(work.key(), step)).unwrap_or_default();
    let inputs: Vec<String> = plan.inputs.iter().map(|input| Trigger::Object(input.clone()).to_string()).collect();
    let observed = if inputs.is_empty() { "see the plan".to_string() } else { inputs.join(", ") };
    let mut story = format!("woken by: {}\nobserved: {observed}\nplan:", work.triggers());
    for (at, step) in plan.steps.iter().enumerate() {
        let mark = if at == next { '>' } else { ' ' };
        story.push_str(&format!("\n{mark} {}. {} ({})", at + 1, step.action, step.reason));
    }
    if let Some(time) = plan.requeue_after {
        story.push_str(&format!("\n  look again after {time:?}"));
    }
    Standing { what, story }
}

/// How one look ended.
enum Outcome {
    /// There is nothing (more) to do, until that time.
    Done(Option<Duration>),
    /// The informers don't show yet what this key wrote.
    Stale,
    /// Nor is it known what that was: they have so long to show it.
    Early(Duration),
    /// The action that failed, and how.
    Failed(String, ActError),
}

impl Outcome {
    fn ended(&self) -> Ended {
        match self {
            Outcome::Done(_) => Ended::Done,
            Outcome::Stale | Outcome::Early(_) => Ended::Stale,
            Outcome::Failed(_, error) if error.retry() == Retry::Now => Ended::Conflict,
            Outcome::Failed(..) => Ended::Failed,
        }
    }
}

/// Gives the key back to the queue, for when it is to be looked at next.
fn finish<K: QueueKey>(work: Work<K>, outcome: Outcome) {
    match outcome {
        Outcome::Done(None) if is_awake(Mutant::NeverDone) => drop(work.retry(Duration::ZERO, KEY_BACKOFF.max)),
        Outcome::Done(None) => work.done(),
        Outcome::Done(Some(time)) => work.done_until(time, Trigger::Timer("asked for by the last plan".into())),
        Outcome::Early(wait) => {
            tracing::debug!(?wait, "it is not known what was written for this key; waiting for it to show");
            work.put_off(wait);
        }
        // No failure of the key's: the next one that is shall not wait the longer for it.
        Outcome::Stale => {
            tracing::debug!("the informers don't show yet what was written for this key");
            work.put_off(settled::PATIENCE);
        }
        Outcome::Failed(action, error) if error.retry() == Retry::Now => {
            let wait = work.retry(Duration::ZERO, CONFLICT_CAP);
            tracing::debug!(action, %error, ?wait, "changed meanwhile; looking again");
        }
        Outcome::Failed(action, error) => {
            let cap = if error.is_outage() { OUTAGE_CAP } else { KEY_BACKOFF.max };
            let floor = if error.may_have_been_done() { UNKNOWN_FLOOR } else { Duration::ZERO };
            let wait = work.retry(error.retry_after().unwrap_or(floor), cap);
            tracing::warn!(action, %error, ?wait, "failed; trying again");
        }
    }
}

#[cfg(test)]
mod tests;
