//! Makes a run that breaks a law smaller, as long as it still breaks the same law: fewer troubles, fewer acts of the
//! user, and a network that does not fail by itself, if it goes without. (Delta debugging: halves first, then ever
//! smaller parts.)

use std::time::Duration;

use super::plan::Plan;
use super::script::{Act, Script};
use super::{complaints_of, law_of};

/// More runs than this are not made: what is small by then is small enough.
const MOST_RUNS: usize = 300;

/// A plan that cannot do with less.
#[derive(Debug)]
pub struct Minimised {
    /// The plan.
    pub plan: Plan,
    /// How many runs it took to find it.
    pub runs: usize,
}

/// Makes a plan smaller whose run breaks this law.
pub fn minimise(plan: &Plan, law: &str) -> Minimised {
    shrink(plan, |plan| complaints_of(plan).iter().any(|complaint| law_of(complaint) == law))
}

/// Makes a plan smaller for as long as it `fails`.
fn shrink(plan: &Plan, fails: impl Fn(&Plan) -> bool) -> Minimised {
    let (mut plan, mut runs) = (plan.clone(), 0);
    let mut still = |plan: &Plan| {
        runs += 1;
        runs <= MOST_RUNS && fails(plan)
    };
    let calm = Plan { network_fails: false, ..plan.clone() };
    if plan.network_fails && still(&calm) {
        plan = calm;
    }
    loop {
        let before = (plan.troubles.len(), plan.script.acts.len());
        let troubles = fewer(&plan.troubles, |troubles| still(&Plan { troubles: troubles.to_vec(), ..plan.clone() }));
        plan = Plan { troubles, ..plan };
        let acts = fewer(&timed(&plan.script), |acts| {
            let script = paused(acts);
            script.makes_sense() && still(&Plan { script, ..plan.clone() })
        });
        plan = Plan { script: paused(&acts), ..plan };
        if (plan.troubles.len(), plan.script.acts.len()) == before {
            return Minimised { plan, runs: runs.min(MOST_RUNS) };
        }
    }
}

/// The acts with their time, if none of them took any: so that those that stay keep theirs when others go.
fn timed(script: &Script) -> Vec<(Duration, Act)> {
    let mut at = Duration::ZERO;
    let timed = |(pause, act): &(Duration, Act)| {
        at += *pause;
        (at, act.clone())
    };
    script.acts.iter().map(timed).collect()
}

fn paused(acts: &[(Duration, Act)]) -> Script {
    let mut before = Duration::ZERO;
    let paused = |(at, act): &(Duration, Act)| (*at - std::mem::replace(&mut before, *at), act.clone());
    Script { acts: acts.iter().map(paused).collect() }
}

/// Leaves out as many items as it can, in parts that become smaller.
fn fewer<T: Clone>(items: &[T], mut still: impl FnMut(&[T]) -> bool) -> Vec<T> {
    let mut items = items.to_vec();
    let mut part = items.len();
    while part > 0 {
        let mut from = 0;
        while from < items.len() {
            let until = (from + part).min(items.len());
            let rest = [&items[..from], &items[until..]].concat();
            if still(&rest) {
                items = rest;
            } else {
                from = until;
            }
        }
        part /= 2;
    }
    items
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulation::Size;

    #[test]
    fn what_is_not_needed_is_left_out() {
        let mut looks = 0;
        let needed = |items: &[u32]| {
            looks += 1;
            items.contains(&3) && items.contains(&17)
        };
        assert_eq!(fewer(&(0..20).collect::<Vec<u32>>(), needed), [3, 17]);
        assert!(looks < 60, "{looks} looks");
        assert_eq!(fewer(&[1, 2], |_| true), Vec::<i32>::new());
        assert_eq!(fewer(&[1, 2], |_| false), [1, 2]);
    }

    #[test]
    fn a_smaller_plan_makes_sense_and_what_stays_keeps_its_time() {
        let plan = Plan::sized(3, Size { acts: 40, ..Size::default() });
        let all = timed(&plan.script);
        assert_eq!(paused(&all), plan.script);
        // It takes a rollout, and two troubles.
        let fails = |plan: &Plan| {
            let rolls = plan.script.acts.iter().any(|(_, act)| matches!(act, Act::Roll { .. }));
            rolls && plan.troubles.len() >= 2
        };
        assert!(fails(&plan), "another seed will do");
        let small = shrink(&plan, fails).plan;
        assert!(small.script.makes_sense() && !small.network_fails);
        assert_eq!((small.script.acts.len(), small.troubles.len()), (2, 2), "{small:?}");
        assert!(timed(&small.script).iter().all(|act| all.contains(act)));
    }
}
