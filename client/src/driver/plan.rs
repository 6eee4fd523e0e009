//! Plans: what is to be done, as plain data that prints well.

use std::fmt;
use std::time::Duration;

use skiff_proto::skiffv1::ObjectRef;

/// One action of a plan, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step<A> {
    /// What to do.
    pub action: A,
    /// Why, in words for people; it becomes part of the write's cause.
    pub reason: String,
}

/// What a reconcile will do: steps in order, when to look again, and what it was computed from.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan<A> {
    /// The actions, in order. The first that fails ends the reconcile.
    pub steps: Vec<Step<A>>,
    /// Look again after this long although nothing changes.
    pub requeue_after: Option<Duration>,
    /// The objects, with revisions, that decided. A closed gate compares them when it opens.
    pub inputs: Vec<ObjectRef>,
}

impl<A> Default for Plan<A> {
    fn default() -> Self {
        Plan { steps: Vec::new(), requeue_after: None, inputs: Vec::new() }
    }
}

impl<A> Plan<A> {
    /// A plan to do nothing.
    pub fn nothing() -> Plan<A> {
        Plan::default()
    }

    /// A plan to do nothing yet.
    pub fn wait(time: Duration) -> Plan<A> {
        Plan { requeue_after: Some(time), ..Plan::default() }
    }

    /// Adds a step.
    pub fn step(&mut self, action: A, reason: impl Into<String>) -> &mut Self {
        self.steps.push(Step { action, reason: reason.into() });
        self
    }

    /// Names an object that decided.
    pub fn input(&mut self, object: ObjectRef) -> &mut Self {
        self.inputs.push(object);
        self
    }

    /// Looks again after `time` at the latest.
    pub fn look_again_after(&mut self, time: Duration) -> &mut Self {
        self.requeue_after = Some(self.requeue_after.map_or(time, |earlier| earlier.min(time)));
        self
    }

    /// Whether there is nothing to do (now).
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }
}

impl<A: fmt::Display> Plan<A> {
    /// Whether another plan for the same key was made from something else, or says something else: not all that a plan
    /// is made from has a revision.
    pub(crate) fn differs_from(&self, other: &Plan<A>) -> bool {
        let reads = |plan: &Plan<A>| -> Vec<String> {
            plan.steps.iter().map(|step| format!("{} ({})", step.action, step.reason)).collect()
        };
        self.inputs != other.inputs || reads(self) != reads(other)
    }
}

impl<A: fmt::Display> fmt::Display for Plan<A> {
    /// A step a line: `1. create Pod default/web-x7k2p (2 of 3 replicas exist)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.steps.is_empty() {
            f.write_str("nothing to do")?;
        }
        for (i, step) in self.steps.iter().enumerate() {
            let end = if i == 0 { "" } else { "\n" };
            write!(f, "{end}{}. {} ({})", i + 1, step.action, step.reason)?;
        }
        match self.requeue_after {
            None => Ok(()),
            Some(time) => write!(f, "\nlook again after {time:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_differs_by_what_it_was_made_from_or_by_what_it_says() {
        let plan = |revision: u64, action: &'static str, wait: u64| {
            let mut plan = Plan::wait(Duration::from_secs(wait));
            plan.input(ObjectRef { name: "web".into(), revision, ..ObjectRef::default() });
            plan.step(action, "because");
            plan
        };
        let known = plan(1, "start", 5);
        for (other, differs) in [
            (plan(1, "start", 5), false),
            (plan(1, "start", 4), false),
            (plan(2, "start", 5), true),
            // What a node's containers are has no revision.
            (plan(1, "stop", 5), true),
        ] {
            assert_eq!(other.differs_from(&known), differs, "{other}");
        }
    }
}
