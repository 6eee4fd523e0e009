//! Runs the whole control plane under many seeds: `simulate --seeds 1000`, or one of them: `simulate --seed 7 --trace`.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::process::ExitCode;

use clap::Parser;
use skiff_tests::simulation::{self, Size};

/// Simulates a cluster, a user and everything that can go wrong, from seeds.
#[derive(Parser)]
struct Arguments {
    /// How many seeds, from --from on.
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Run this one seed only.
    #[arg(long)]
    seed: Option<u64>,
    /// Print the trace of every run that fails; with --seed, of that one.
    #[arg(long)]
    trace: bool,
    /// Show the components' logs (RUST_LOG says which), with the time inside the simulation.
    #[arg(long)]
    log: bool,
    /// Nodes of the cluster.
    #[arg(long, default_value_t = Size::default().nodes)]
    nodes: usize,
    /// Acts of the user.
    #[arg(long, default_value_t = Size::default().acts)]
    acts: usize,
    /// Troubles, beside the network's.
    #[arg(long, default_value_t = Size::default().troubles)]
    troubles: usize,
    /// Run each seed twice, and once without faults, and compare.
    #[arg(long)]
    twice: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.log {
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        tracing_subscriber::fmt().with_env_filter(filter).without_time().with_writer(std::io::stderr).init();
    }
    let size = Size { nodes: arguments.nodes, acts: arguments.acts, troubles: arguments.troubles };
    let seeds = match arguments.seed {
        Some(seed) => seed..seed + 1,
        None => arguments.from..arguments.from + arguments.seeds,
    };
    let (count, first) = (seeds.end - seeds.start, seeds.start);
    let mut failures: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    for seed in seeds {
        let complaints = complaints(seed, size, &arguments);
        if !complaints.is_empty() {
            println!("seed {seed}: {} complaints", complaints.len());
            complaints.iter().take(20).for_each(|complaint| println!("  {complaint}"));
            failures.insert(seed, complaints);
        } else if (seed - first + 1).is_multiple_of(50) {
            println!("{} of {count} seeds, {} failed", seed - first + 1, failures.len());
        }
    }
    println!("{count} seeds, {} failed: {:?}", failures.len(), failures.keys().collect::<Vec<_>>());
    if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Everything that is wrong with a seed; a panic is a complaint like any other.
fn complaints(seed: u64, size: Size, arguments: &Arguments) -> Vec<String> {
    let attempt = std::panic::catch_unwind(AssertUnwindSafe(|| {
        let run = simulation::run(seed, size);
        let mut complaints = run.value.complaints();
        if arguments.trace && (arguments.seed.is_some() || !complaints.is_empty()) {
            run.trace.iter().for_each(|line| println!("{line}"));
        }
        if arguments.seed.is_some() {
            println!(
                "digest {:016x}, {:.0} s inside, {} versions",
                run.digest,
                run.elapsed.as_secs_f64(),
                run.value.versions
            );
        }
        if arguments.twice {
            let again = simulation::run(seed, size);
            if again.digest != run.digest {
                let differ = run.trace.iter().zip(&again.trace).find(|(one, two)| one != two);
                complaints.push(format!("a second run differs: {differ:?}"));
            }
            if complaints.is_empty() && run.value.picture != simulation::ideal(seed, size) {
                complaints.push("ends otherwise than without faults".to_owned());
            }
        }
        complaints
    }));
    attempt.unwrap_or_else(|panic| vec![simulation::panic_text(panic.as_ref())])
}
