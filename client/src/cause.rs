//! Why: the cause that travels with every write, and the note of what was written.
//!
//! A reconcile (or a user's command) runs inside a [`Scope`]. The [`crate::Client`] finds it as a task local: it attaches
//! the scope's cause to each write, and notes in it each write that succeeded, and each that may have, for
//! [`crate::driver::settled`].
//! Nobody passes either by hand, so nobody forgets to.

use std::future::Future;
use std::sync::Arc;

use prost::Message;
use serde_json::{Value, json};
use skiff_proto::skiffv1::{self, Cause, ObjectRef};

use crate::driver::settled::Note;
use crate::queue::TriggerSet;

/// The server refuses a cause that is larger.
pub const MAX_BYTES: usize = 1024;
/// How many inputs a cause names.
pub const MAX_INPUTS: usize = 8;
/// A reason is cut to so many bytes.
const MAX_REASON: usize = 256;

tokio::task_local! {
    static CURRENT: Arc<Scope>;
}

struct Scope {
    cause: Cause,
    /// Who wants to know of each write.
    noted: Option<Arc<dyn Fn(Note) + Send + Sync>>,
}

/// Runs `action`, with `cause` on every write that it makes through a client.
pub async fn with<F: Future>(cause: Cause, action: F) -> F::Output {
    CURRENT.scope(Arc::new(Scope { cause, noted: None }), action).await
}

/// Runs `action` under the present cause, but the driver will not wait to see what it writes. For
/// who keeps their own writes in mind, and must go on working while the API server is away.
pub async fn unawaited<F: Future>(action: F) -> F::Output {
    with(of_now(), action).await
}

/// Runs `action` under the present cause, which then also names the effects that its write reports.
pub async fn reporting<F: Future>(effects: Vec<String>, action: F) -> F::Output {
    let scope = CURRENT.try_with(Arc::clone).ok();
    let cause = scope.as_ref().map(|scope| scope.cause.clone()).unwrap_or_default();
    let noted = scope.and_then(|scope| scope.noted.clone());
    CURRENT.scope(Arc::new(Scope { cause: Cause { effects, ..cause }, noted }), action).await
}

/// The same, telling `noted` of each write as soon as it has succeeded, or it is not known whether it has (`action` may be
/// dropped after that).
pub(crate) async fn noting<F: Future>(
    cause: Cause,
    noted: impl Fn(Note) + Send + Sync + 'static,
    action: F,
) -> F::Output {
    CURRENT.scope(Arc::new(Scope { cause, noted: Some(Arc::new(noted)) }), action).await
}

/// Notes a write in the current scope, if somebody there wants to know.
pub(crate) fn note(note: impl FnOnce() -> Note) {
    // An error means: not inside a scope.
    let noted = CURRENT.try_with(|scope| scope.noted.clone()).ok().flatten();
    if let Some(noted) = noted {
        noted(note());
    }
}

/// The cause of the step that is being done now; an empty one outside of steps.
pub(crate) fn of_now() -> Cause {
    CURRENT.try_with(|scope| scope.cause.clone()).unwrap_or_default()
}

/// The current cause as bytes for a request's metadata.
pub(crate) fn current(request_id: String) -> Vec<u8> {
    let cause = of_now();
    bounded(Cause { request_id, ..cause }).encode_to_vec()
}

/// The cause of one step of a reconcile.
pub(crate) fn of_step(
    controller: &str,
    id: &str,
    step: usize,
    reason: &str,
    triggers: &TriggerSet,
    inputs: &[ObjectRef],
) -> Cause {
    Cause {
        controller: controller.to_string(),
        reconcile_id: id.to_string(),
        step: u32::try_from(step).unwrap_or(u32::MAX),
        reason: reason.to_string(),
        triggers: triggers.first().iter().cloned().map(skiffv1::Trigger::from).collect(),
        more_triggers: triggers.more(),
        inputs: inputs.iter().take(MAX_INPUTS).cloned().collect(),
        ..Cause::default()
    }
}

/// Makes a cause fit: first the reason is cut, then the last inputs go, then the latest triggers (which stay counted).
fn bounded(mut cause: Cause) -> Cause {
    if cause.reason.len() > MAX_REASON {
        let end = (0..=MAX_REASON).rev().find(|i| cause.reason.is_char_boundary(*i)).unwrap_or(0);
        cause.reason.truncate(end);
    }
    cause.inputs.truncate(MAX_INPUTS);
    while cause.encoded_len() > MAX_BYTES {
        if cause.inputs.len() > 1 {
            cause.inputs.pop();
        } else if cause.triggers.pop().is_some() {
            cause.more_triggers = cause.more_triggers.saturating_add(1);
        } else if cause.effects.pop().is_none() && cause.inputs.pop().is_none() {
            break;
        }
    }
    cause
}

/// A cause as a JSON document: what `-o json` and effects show of it.
pub fn to_json(cause: &Cause) -> Value {
    let actor = cause.actor.clone().unwrap_or_default();
    json!({
        "user": actor.user,
        "program": actor.component,
        "node": actor.node,
        "processStart": actor.process_start,
        "controller": cause.controller,
        "verb": cause.verb,
        "requestID": cause.request_id,
        "replacedRevision": cause.replaced_revision,
        "reconcileID": cause.reconcile_id,
        "step": cause.step,
        "reason": cause.reason,
        "triggers": cause.triggers.iter().filter_map(trigger_to_json).collect::<Vec<_>>(),
        "moreTriggers": cause.more_triggers,
        "inputs": cause.inputs.iter().map(object_to_json).collect::<Vec<_>>(),
        "effects": cause.effects,
    })
}

fn trigger_to_json(trigger: &skiffv1::Trigger) -> Option<Value> {
    use skiffv1::trigger::What;
    Some(match trigger.what.as_ref()? {
        What::Object(object) => json!({ "object": object_to_json(object) }),
        What::Timer(why) => json!({ "timer": why }),
        What::Resync(why) => json!({ "resync": why }),
        What::Start(why) => json!({ "start": why }),
        What::Effect(what) => json!({ "effect": what }),
    })
}

/// The name of one write of one object as a JSON document.
pub fn object_to_json(object: &ObjectRef) -> Value {
    json!({
        "group": object.group,
        "resource": object.resource,
        "namespace": object.namespace,
        "name": object.name,
        "uid": object.uid,
        "revision": object.revision,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::Trigger;

    fn object(n: usize, length: usize) -> ObjectRef {
        ObjectRef { resource: "pods".into(), name: format!("{n}-{}", "x".repeat(length)), ..ObjectRef::default() }
    }

    #[test]
    fn a_cause_never_exceeds_its_bound_and_keeps_the_earliest() {
        let mut triggers = TriggerSet::default();
        (0..8).for_each(|n| triggers.note(Trigger::Object(object(n, 250))));
        let inputs: Vec<_> = (0..20).map(|n| object(n, 60)).collect();
        let reason = "ü".repeat(2000);
        let cause = bounded(of_step("test", "id", 3, &reason, &triggers, &inputs));
        assert!(cause.encoded_len() <= MAX_BYTES);
        assert!(!cause.triggers.is_empty() && !cause.inputs.is_empty() && !cause.reason.is_empty());
        let kept = cause.triggers.len() as u32;
        assert_eq!(kept + cause.more_triggers, 8);
        assert_eq!(cause.inputs[0], inputs[0]);
    }

    #[test]
    fn a_small_cause_stays_whole() {
        let triggers = TriggerSet::from(Trigger::Object(object(1, 10)));
        let inputs = [object(2, 10)];
        let cause = of_step("test", "id", 1, "because", &triggers, &inputs);
        assert_eq!(bounded(cause.clone()), cause);
    }

    #[tokio::test]
    async fn outside_of_a_scope_a_write_has_only_its_request() {
        let bytes = current("r1".into());
        assert_eq!(Cause::decode(bytes.as_slice()).unwrap(), Cause { request_id: "r1".into(), ..Cause::default() });
    }

    #[tokio::test]
    async fn inside_it_has_the_scopes_cause() {
        let cause = Cause { reason: "scale up".into(), ..Cause::default() };
        let bytes = with(cause.clone(), async { current("r2".into()) }).await;
        assert_eq!(Cause::decode(bytes.as_slice()).unwrap(), Cause { request_id: "r2".into(), ..cause });
    }
}
