//! From what is known of the tables to what is done: pure.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use skiff_client::Plan;

use super::Unread;
use crate::rules::batch::{Batch, Sizes, batches};
use crate::rules::{ChainName, Difference, RuleSet, StaleFlow, Table};

/// What is known of the tables.
#[derive(Clone, Debug)]
pub enum Observed {
    /// Nobody knows what is in them.
    Unread {
        /// Why not.
        why: Unread,
    },
    /// They are known, and this differs.
    Known(Box<Known>),
}

/// How known tables differ from what they should be.
#[derive(Clone, Debug)]
pub struct Known {
    /// The chains that are to be written, and all jumps.
    pub wanted: RuleSet,
    /// What differs.
    pub difference: Difference,
    /// The changes that made chains differ, by number.
    pub changes: BTreeMap<(Table, ChainName), u64>,
    /// Conversations to forget, once the rules are in place.
    pub stale: Vec<StaleFlow>,
    /// How large restores may be.
    pub sizes: Sizes,
    /// When to look whether somebody tampered with them.
    pub check_after: Duration,
}

/// One thing to do to the tables.
#[derive(Clone, Debug)]
pub enum Action {
    /// Read them and find what differs.
    ReadBack,
    /// Write rules.
    Restore {
        /// The rules.
        batch: Batch,
        /// For each of its chains, the change that it brings into the kernel.
        changes: Arc<[u64]>,
    },
    /// Make the kernel forget conversations.
    Forget(Vec<StaleFlow>),
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::ReadBack => f.write_str("read the tables back"),
            Action::Restore { batch, .. } => write!(f, "{batch}"),
            Action::Forget(flows) => {
                write!(f, "forget {} UDP conversations", flows.len())?;
                match flows.first() {
                    Some(first) => {
                        write!(f, ": {first}{}", if flows.len() > 1 { ", ..." } else { "" })
                    }
                    None => Ok(()),
                }
            }
        }
    }
}

/// What to do.
pub fn plan(observed: &Observed) -> Plan<Action> {
    let mut plan = Plan::nothing();
    match observed {
        Observed::Unread { why } => {
            plan.step(Action::ReadBack, why.to_string());
            // What differs is only known then.
            plan.look_again_after(Duration::ZERO);
        }
        Observed::Known(known) => {
            for batch in batches(&known.wanted, &known.difference, known.sizes) {
                let number = |chain| known.changes.get(chain).copied().unwrap_or_default();
                let changes = batch.chains.iter().map(number).collect();
                let reason = if batch.removed > 0 && batch.written == 0 {
                    "nothing leads there any more"
                } else {
                    "Services or endpoints differ from what is in the tables"
                };
                plan.step(Action::Restore { batch, changes }, reason);
            }
            if !known.stale.is_empty() {
                let reason = "their endpoints are gone, or came only now";
                plan.step(Action::Forget(known.stale.clone()), reason);
            }
            plan.look_again_after(known.check_after);
        }
    }
    plan
}
