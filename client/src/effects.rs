//! Effects: what a component did that is not a write. A container started, an address given, a chain replaced.
//!
//! Nothing in the API shows an effect by itself, so each component keeps the latest of its own, with their causes, in a
//! bounded ring that is read through the tunnel (`/debug/effects`). A status write that follows names the effects it
//! reports (`cause::reporting`): so the way from a container back to an `apply` has no gap.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};
use skiff_proto::skiffv1::{Cause, ObjectRef};

use crate::cause;

/// So many effects are kept; older ones go.
pub const KEPT: usize = 512;

/// The effects of a component; clones are the same ring.
#[derive(Clone, Default)]
pub struct Effects {
    ring: Arc<Mutex<Ring>>,
}

#[derive(Default)]
struct Ring {
    next: u64,
    kept: VecDeque<Effect>,
}

/// One effect.
#[derive(Clone, Debug, PartialEq)]
pub struct Effect {
    /// Counts up from the component's start: what causes name it by.
    pub id: String,
    /// When.
    pub at: jiff::Timestamp,
    /// What was done, in words: `container app started`.
    pub what: String,
    /// For which object, at the revision that it was done for.
    pub object: ObjectRef,
    /// The step that did it.
    pub cause: Cause,
}

impl Effects {
    /// Keeps an effect of the step that is being done now; gives its id.
    pub fn note(&self, at: jiff::Timestamp, what: impl Into<String>, object: ObjectRef) -> String {
        self.note_because(at, what, object, cause::of_now())
    }

    /// The same, for what was done on other grounds than the present step's.
    pub fn note_because(
        &self,
        at: jiff::Timestamp,
        what: impl Into<String>,
        object: ObjectRef,
        cause: Cause,
    ) -> String {
        let mut ring = self.lock();
        let id = ring.next.to_string();
        ring.next += 1;
        if ring.kept.len() >= KEPT {
            ring.kept.pop_front();
        }
        let effect = Effect { id: id.clone(), at, what: what.into(), object, cause };
        tracing::info!(target: "effect", id, object = effect.object.name, reason = effect.cause.reason, "{}", effect.what);
        ring.kept.push_back(effect);
        id
    }

    /// The cause of the step that is being done now; an empty one outside of steps.
    pub fn cause(&self) -> Cause {
        cause::of_now()
    }

    /// Those that are kept, the oldest first.
    pub fn all(&self) -> Vec<Effect> {
        self.lock().kept.iter().cloned().collect()
    }

    /// A JSON object a line.
    pub fn print(&self) -> String {
        self.lock().kept.iter().map(|effect| format!("{}\n", effect.to_json())).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Effect {
    fn to_json(&self) -> Value {
        json!({
            "id": self.id,
            "at": self.at.to_string(),
            "what": self.what,
            "object": cause::object_to_json(&self.object),
            "cause": cause::to_json(&self.cause),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod() -> ObjectRef {
        ObjectRef { resource: "pods".into(), name: "web".into(), uid: "u".into(), revision: 7, ..ObjectRef::default() }
    }

    #[test]
    fn the_ring_keeps_the_latest_and_counts_on() {
        let effects = Effects::default();
        (0..KEPT + 3).for_each(|n| drop(effects.note(jiff::Timestamp::UNIX_EPOCH, format!("did {n}"), pod())));
        let all = effects.all();
        assert_eq!((all.len(), all[0].what.as_str(), all[0].id.as_str()), (KEPT, "did 3", "3"));
    }

    #[tokio::test]
    async fn an_effect_has_the_cause_of_the_step_that_did_it() {
        let effects = Effects::default();
        let cause = Cause { reason: "it has none yet".into(), controller: "pods".into(), ..Cause::default() };
        cause::with(cause, async { effects.note(jiff::Timestamp::UNIX_EPOCH, "container app started", pod()) }).await;
        let line: Value = serde_json::from_str(effects.print().trim()).unwrap();
        assert_eq!((line["id"].as_str(), line["at"].as_str()), (Some("0"), Some("1970-01-01T00:00:00Z")));
        assert_eq!(
            (line["cause"]["reason"].as_str(), line["object"]["revision"].as_u64()),
            (Some("it has none yet"), Some(7))
        );
    }
}
