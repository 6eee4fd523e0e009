//! The whole control plane under a few seeds; `make simulate SEEDS=N` runs many.

mod deletion;
mod nodes;
mod overlap;
mod patience;
mod why;

use skiff_client::mutants::{self, Mutant};
use skiff_tests::simulation::{Size, complaints, ideal, run};

/// Few enough for every test run; which they are does not matter.
const SEEDS: std::ops::Range<u64> = 0..6;

#[test]
fn one_seed_is_one_run() {
    let size = Size { acts: 6, troubles: 4, ..Size::default() };
    let (one, two) = (run(1, size), run(1, size));
    let differ = one.trace.iter().zip(&two.trace).find(|(one, two)| one != two);
    assert_eq!(differ, None, "the first lines in which the traces differ");
    assert_eq!(one.trace.len(), two.trace.len());
    assert_eq!(one.digest, two.digest, "the same lines, and other traffic");
    assert_ne!(one.digest, run(2, size).digest);
}

#[test]
fn whatever_goes_wrong_laws_hold_and_everybody_gets_what_they_asked_for() {
    for seed in SEEDS {
        let size = Size::default();
        let outcome = run(seed, size).value;
        assert_eq!(outcome.complaints(), Vec::<String>::new(), "seed {seed}");
        assert!(outcome.versions > 100, "seed {seed}: hardly anything happened");
        assert_eq!(outcome.picture, ideal(seed, size), "seed {seed} ends otherwise than without faults");
    }
}

/// A simulation that finds no fault where there is one proves nothing.
#[test]
fn each_deliberate_fault_is_caught() {
    // What a caught fault makes panic is expected.
    std::panic::set_hook(Box::new(|_| {}));
    let size = Size::default();
    for mutant in Mutant::ALL {
        let caught = (0..50).any(|seed| !mutants::with(mutant, || complaints(seed, size)).is_empty());
        assert!(caught, "{mutant:?} survived 50 seeds");
    }
}
