//! The whole control plane under a few seeds; `make simulate SEEDS=N` runs many.

mod custom;
mod deletion;
mod nodes;
mod overlap;
mod patience;
mod prompt;
mod quotas;
mod stale;
mod why;

use skiff_tests::simulation::minimise::minimise;
use skiff_tests::simulation::plan::Plan;
use skiff_tests::simulation::{Size, complaints_of, ideal, law_of, laws, run_plan, story};
use skiff_tests::traps::{self, Killer};
use skiff_world::mutants::{self, Mutant};

/// Few enough for every test run; which they are does not matter.
const SEEDS: std::ops::Range<u64> = 0..6;

#[test]
fn one_seed_is_one_run() {
    let size = Size { acts: 6, troubles: 4, ..Size::default() };
    let run = |seed| run_plan(&Plan::sized(seed, size));
    let (one, two) = (run(1), run(1));
    let differ = one.trace.iter().zip(&two.trace).find(|(one, two)| one != two);
    assert_eq!(differ, None, "the first lines in which the traces differ");
    assert_eq!(one.trace.len(), two.trace.len());
    assert_eq!(one.digest, two.digest, "the same lines, and other traffic");
    assert_ne!(one.digest, run(2).digest);
}

#[test]
fn whatever_goes_wrong_laws_hold_and_everybody_gets_what_they_asked_for() {
    for seed in SEEDS {
        let plan = Plan::sized(seed, Size::default());
        let outcome = run_plan(&plan).value;
        assert_eq!(outcome.complaints(), Vec::<String>::new(), "seed {seed}");
        assert!(outcome.versions > 100, "seed {seed}: hardly anything happened");
        assert_eq!(outcome.picture, ideal(&plan), "seed {seed} ends otherwise than without faults");
    }
}

/// A simulation that finds no fault where there is one proves nothing. The others of `docs/traps.md` are killed by tests
/// of their own: `make mutants` tries them all.
#[test]
fn each_deliberate_fault_is_caught() {
    // What a caught fault makes panic is expected.
    std::panic::set_hook(Box::new(|_| {}));
    let mut tried = 0;
    for row in traps::table().expect("docs/traps.md is a good table") {
        let Killer::Seed { seed, law } = row.killer else { continue };
        // Where the code has changed, chance has too: then some other seed does it.
        let mut seeds = std::iter::once(seed).chain(0..400);
        let breaks = |seed| complaints_of(&Plan::of_seed(seed)).iter().any(|complaint| law_of(complaint) == law);
        assert!(seeds.any(|seed| mutants::with(row.mutant, || breaks(seed))), "{:?} survives", row.mutant);
        tried += 1;
    }
    assert!(tried > 10, "only {tried} are caught by the simulation");
}

#[test]
fn a_run_that_fails_is_made_small_and_told() {
    let plan = Plan::sized(2, Size { acts: 5, troubles: 5, ..Size::default() });
    let (small, told) = mutants::with(Mutant::OldDelete, || {
        let small = minimise(&plan, laws::REVISIONS).plan;
        let run = run_plan(&small);
        let told = story::tell(&small, &run.trace, &run.value.complaints());
        (small, told)
    });
    assert!(small.troubles.is_empty() && !small.network_fails, "that takes no trouble: {small:?}");
    assert!(small.script.acts.len() <= 2, "one makes something, and at most one more deletes it: {told}");
    assert!(told.contains("user: "), "{told}");
    assert!(told.contains("Broken: revisions only grow.\n"), "{told}");
    assert!(told.lines().count() < 70, "{told}");
    assert!(complaints_without(&small).is_empty(), "without the fault all is well");
}

fn complaints_without(plan: &Plan) -> Vec<String> {
    run_plan(plan).value.complaints()
}
