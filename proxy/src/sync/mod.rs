//! Keeps one node's tables as the model has them.
//!
//! ```text
//!            start, failure, time to check          all is as it should be
//!   Unread ---------------------------------+---> Current
//!      |  read back: what differs?          |        |
//!      +--> restore, restore, ... ----------+        | a Service changes
//!                ^                                    v
//!                +---- only the changed chains <------+
//! ```
//!
//! After a restart nothing is flushed: what is there is read back, and only what differs is written. The same is
//! done after any failure (then nobody knows what was applied), and from time to time, in case somebody tampered
//! with the tables.

mod plan;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use skiff_client::{Effects, ObjectRef, TriggerSet};
use skiff_proto::skiffv1::Cause;
use skiff_world::World;
use skiff_world::mutants::{Mutant, is_awake};

pub use plan::{Action, Known, Observed, plan};

use crate::apply::{ApplyError, RuleApplier};
use crate::metrics::Metrics;
use crate::rules::batch::{self, Batch, Sizes};
use crate::rules::diff::{self, Difference, Present};
use crate::rules::{Facts, Model, RuleSet, StaleFlow, Table};
use crate::services::{ServiceName, ServiceView};

/// Of more Services than this at once, only their number is told.
const TOLD: usize = 64;
/// A check costs about as much as reading the tables: at most this part of the time is spent on it.
const CHECK_SHARE: u32 = 200;

/// One node's tables, as they should be and as far as they are known.
pub struct Tables {
    world: World,
    applier: Arc<dyn RuleApplier>,
    check_every: Duration,
    effects: Effects,
    metrics: Metrics,
    state: Mutex<State>,
}

struct State {
    model: Model,
    /// Why the tables must be read before anything is written; none: they are as known.
    unread: Option<Unread>,
    /// When they are read again in any case.
    check_at: tokio::time::Instant,
    /// Jumps that are missing, or are there and should not be.
    jumps: Difference,
    /// Services whose rules are not all in the kernel yet, with what changed them.
    untold: BTreeMap<ServiceName, TriggerSet>,
    /// Since when something is known that is not in the kernel yet.
    behind_since: Option<tokio::time::Instant>,
    /// How many rules were written since then.
    written: BTreeMap<Table, usize>,
    /// The last restore failed: removals go apart.
    cautious: bool,
    limit: usize,
}

/// Why nobody knows what is in the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unread {
    /// The proxy has just started.
    Started,
    /// The last attempt failed, and may have been applied in part.
    Failed,
    /// They were not looked at for a while.
    Due,
}

impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Unread::Started => "the proxy has just started",
            Unread::Failed => "the last attempt failed, and may have been applied in part",
            Unread::Due => "it is time to look whether somebody changed them",
        })
    }
}

/// How a look at the tables ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// How many chains and jumps differed from what the proxy had written.
    pub differing: usize,
}

impl Tables {
    /// Tables that nobody has looked at yet; checked for tampering every `check_every` at most.
    pub fn new(world: &World, applier: Arc<dyn RuleApplier>, facts: Facts, check_every: Duration) -> Tables {
        let state = State {
            model: Model::new(facts),
            unread: Some(Unread::Started),
            check_at: world.now(),
            jumps: Difference::default(),
            untold: BTreeMap::new(),
            behind_since: None,
            written: BTreeMap::new(),
            cautious: false,
            limit: 1_000,
        };
        let (effects, metrics) = (Effects::default(), Metrics::default());
        Tables { world: world.clone(), applier, check_every, effects, metrics, state: Mutex::new(state) }
    }

    /// The same, telling what got into the kernel to this ring.
    pub fn with_effects(self, effects: Effects) -> Tables {
        Tables { effects, ..self }
    }

    /// The same, measured.
    pub fn with_metrics(self, metrics: Metrics) -> Tables {
        Tables { metrics, ..self }
    }

    /// What made a Service what it was last set to; told once its rules are in the kernel.
    pub fn because(&self, name: ServiceName, woken: TriggerSet) {
        self.state().untold.entry(name).or_default().merge(woken);
    }

    /// A Service is this now, or gone. Whether that is anything new.
    pub fn set(&self, name: &ServiceName, view: Option<ServiceView>) -> bool {
        self.state().model.set(name, view)
    }

    /// Asks that the tables be read before anything else.
    pub fn distrust(&self) {
        self.state().unread.get_or_insert(Unread::Due);
    }

    /// What is to be done, as data.
    pub fn observe(&self) -> Observed {
        let mut state = self.state();
        state.model.refresh();
        if self.world.now() >= state.check_at {
            state.unread.get_or_insert(Unread::Due);
        }
        if let Some(why) = state.unread {
            return Observed::Unread { why };
        }
        let behind =
            !(state.model.changed().is_empty() && state.jumps.insert.is_empty() && state.jumps.delete.is_empty());
        if behind {
            state.behind_since.get_or_insert(self.world.now());
        }
        let (model, rule_set) = (&state.model, state.model.rule_set());
        let mut difference = diff::of_changed(rule_set, model.changed().keys());
        difference.insert = state.jumps.insert.clone();
        difference.delete = state.jumps.delete.clone();
        let wanted = difference.write.iter().filter_map(|key| Some((key.clone(), rule_set.chains.get(key)?.clone())));
        Observed::Known(Box::new(Known {
            wanted: RuleSet { chains: wanted.collect(), jumps: rule_set.jumps.clone() },
            difference,
            changes: model.changed().clone(),
            stale: model.stale_flows().iter().cloned().collect(),
            sizes: Sizes { limit: state.limit, together: !state.cautious },
            check_after: state.check_at.saturating_duration_since(self.world.now()),
        }))
    }

    /// Does one thing.
    pub async fn act(&self, action: &Action) -> Result<(), ApplyError> {
        let result = match action {
            Action::ReadBack => self.read_back().await.map(drop),
            Action::Restore { batch, changes } => self.restore(batch, changes).await,
            Action::Forget(flows) => self.forget(flows).await,
        };
        if result.is_err() {
            if matches!(action, Action::Restore { .. }) {
                self.metrics.failed();
            }
            let mut state = self.state();
            state.unread.get_or_insert(Unread::Failed);
            state.cautious = true;
        }
        result
    }

    /// Reads the tables and finds what differs; also on demand.
    pub async fn read_back(&self) -> Result<Look, ApplyError> {
        let began = self.world.now();
        let limit = self.applier.batch_limit().await?;
        let mut saved = Vec::new();
        for table in Table::ALL {
            saved.push((table, self.applier.save(table).await?));
        }
        let mut state = self.state();
        state.model.refresh();
        let mut present = Present::default();
        for (table, text) in &saved {
            present.read(*table, text, state.model.names());
        }
        let difference = diff::diff(state.model.rule_set(), &present);
        let differing =
            difference.write.len() + difference.dead.len() + difference.insert.len() + difference.delete.len();
        // What the proxy itself was about to write is no surprise.
        let known = state.unread.is_none_or(|why| why == Unread::Due) && state.model.changed().is_empty();
        if known && differing > 0 {
            self.metrics.repaired();
            tracing::warn!(differing, "somebody changed the proxy's rules; putting them right");
        }
        state.model.differing(difference.write.iter().chain(&difference.dead).cloned());
        state.jumps = Difference { insert: difference.insert, delete: difference.delete, ..Difference::default() };
        if state.model.changed().is_empty() && state.jumps.insert.is_empty() && state.jumps.delete.is_empty() {
            // All was in the kernel before: no effect of ours.
            state.untold.clear();
        }
        state.limit = limit;
        state.unread = None;
        let now = self.world.now();
        let cost = now.saturating_duration_since(began);
        let never = is_awake(Mutant::RulesFlushed);
        let every = if never { Duration::from_secs(1 << 30) } else { self.check_every };
        state.check_at = now + every.max(cost * CHECK_SHARE);
        Ok(Look { differing })
    }

    /// Observes, plans and acts until there is nothing to do: what the driver does, for who has no driver.
    pub async fn settle(&self) -> Result<Vec<Action>, ApplyError> {
        let mut done = Vec::new();
        loop {
            let actions: Vec<Action> = plan(&self.observe()).steps.into_iter().map(|step| step.action).collect();
            if actions.is_empty() {
                return Ok(done);
            }
            for action in actions {
                self.act(&action).await?;
                done.push(action);
            }
        }
    }

    /// How many chains and rules there should be.
    pub fn size(&self) -> (usize, usize) {
        let mut state = self.state();
        state.model.refresh();
        let rule_set = state.model.rule_set();
        (rule_set.chains.len(), rule_set.rule_count())
    }

    /// How many rules there should be in each table.
    pub fn sizes(&self) -> Vec<(Table, usize)> {
        let mut state = self.state();
        state.model.refresh();
        let mut sizes = BTreeMap::from(Table::ALL.map(|table| (table, 0)));
        for ((table, _), chain) in &state.model.rule_set().chains {
            *sizes.entry(*table).or_default() += chain.rules.len();
        }
        sizes.into_iter().collect()
    }

    async fn restore(&self, batch: &Batch, changes: &[u64]) -> Result<(), ApplyError> {
        self.applier.restore(&batch.text).await?;
        let mut state = self.state();
        let state = &mut *state;
        for (chain, change) in batch.chains.iter().zip(changes) {
            let rules = state.model.rule_set().chains.get(chain).map_or(0, |chain| chain.rules.len());
            *state.written.entry(chain.0).or_default() += rules;
            state.model.written(chain, *change);
        }
        if batch.jumps > 0 {
            // All jumps are in one batch, or the next look finds what is still missing.
            state.jumps = Difference::default();
        }
        if state.model.changed().is_empty() {
            state.cautious = false;
            self.tell(state, batch);
            let written: Vec<_> = std::mem::take(&mut state.written).into_iter().collect();
            if let Some(since) = state.behind_since.take() {
                let took = self.world.now().saturating_duration_since(since);
                self.metrics.synced(took, self.world.wall(), &written);
            }
        }
        Ok(())
    }

    /// All rules are in the kernel: tells which Services' that were.
    fn tell(&self, state: &mut State, batch: &Batch) {
        let now = self.world.wall();
        let untold = std::mem::take(&mut state.untold);
        if untold.len() > TOLD {
            let what = format!("rules of {} Services are in the kernel; the last restore: {batch}", untold.len());
            self.effects.note(now, what, ObjectRef::default());
            return;
        }
        for (name, woken) in untold {
            let chains: Vec<String> = state.model.chains_of(&name).iter().map(ToString::to_string).collect();
            let what = match chains.as_slice() {
                [] => "no chain of its own: nobody is behind it, or it is gone".to_string(),
                chains => format!("chains replaced: {}", chains.join(", ")),
            };
            let object = ObjectRef {
                resource: "services".into(),
                namespace: name.namespace,
                name: name.name,
                ..ObjectRef::default()
            };
            let triggers = woken.first().iter().cloned().map(Into::into).collect();
            let cause = Cause { triggers, more_triggers: woken.more(), ..self.effects.cause() };
            self.effects.note_because(now, what, object, cause);
        }
    }

    async fn forget(&self, flows: &[StaleFlow]) -> Result<(), ApplyError> {
        self.applier.forget(flows).await?;
        self.state().model.forgotten(flows);
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Removes every chain and jump of a cluster's proxy from a node's tables.
pub async fn cleanup(applier: &dyn RuleApplier, cluster: &str) -> Result<(), ApplyError> {
    let names = crate::rules::Names::for_cluster(cluster);
    let mut saved = Vec::new();
    for table in Table::ALL {
        saved.push((table, applier.save(table).await?));
    }
    let mut present = Present::default();
    for (table, text) in &saved {
        present.read(*table, text, &names);
    }
    let nothing = RuleSet::default();
    let difference = diff::diff(&nothing, &present);
    let sizes = Sizes { limit: applier.batch_limit().await?, together: true };
    for batch in batch::batches(&nothing, &difference, sizes) {
        applier.restore(&batch.text).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
