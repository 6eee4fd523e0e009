//! Shows that the simulation finds faults: puts a deliberate one into the client, runs seeds until one complains, and
//! fails if none does.

use std::process::ExitCode;

use clap::Parser;
use skiff_client::mutants::{self, Mutant};
use skiff_tests::simulation::{self, Size};

/// Runs the simulation with each mutant until it is caught.
#[derive(Parser)]
struct Arguments {
    /// How many seeds a mutant may survive.
    #[arg(long, default_value_t = 50)]
    seeds: u64,
    /// Run all seeds, and say how many catch each mutant.
    #[arg(long)]
    all: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // What a caught mutant makes panic is expected, and said below in one line.
    std::panic::set_hook(Box::new(|_| {}));
    let mut survivors = 0;
    for mutant in Mutant::ALL {
        let mut caught = Vec::new();
        for seed in 0..arguments.seeds {
            if let Some(complaint) = complaint(mutant, seed) {
                caught.push((seed, complaint));
                if !arguments.all {
                    break;
                }
            }
        }
        match caught.first() {
            Some((seed, complaint)) if arguments.all => {
                println!(
                    "{mutant:?}: caught by {} of {} seeds, first by {seed}: {complaint}",
                    caught.len(),
                    arguments.seeds
                );
            }
            Some((seed, complaint)) => println!("{mutant:?}: caught by seed {seed}: {complaint}"),
            None => {
                println!("{mutant:?}: survived {} seeds", arguments.seeds);
                survivors += 1;
            }
        }
    }
    if survivors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What a seed has to complain of first while the mutant is awake.
fn complaint(mutant: Mutant, seed: u64) -> Option<String> {
    mutants::with(mutant, || simulation::complaints(seed, Size::default())).into_iter().next()
}
