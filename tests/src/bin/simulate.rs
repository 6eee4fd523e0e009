//! Runs the whole control plane under many seeds: `simulate --seeds 1000`, or one of them: `simulate --seed 7 --trace`.
//! A seed that fails is made smaller and told as a story; `simulate --minimise 7` does just that.

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use clap::Parser;
use skiff_tests::simulation::minimise::minimise;
use skiff_tests::simulation::mix::Mix;
use skiff_tests::simulation::plan::Plan;
use skiff_tests::simulation::{self, Size, story};
use skiff_world::World;

/// Simulates a cluster, a user and everything that can go wrong, from seeds.
#[derive(Parser)]
struct Arguments {
    /// How many seeds, from --from on.
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// So many seeds at a time, each on a processor of its own; 0: one for each processor.
    #[arg(long, default_value_t = 0)]
    jobs: usize,
    /// Run this one seed only.
    #[arg(long)]
    seed: Option<u64>,
    /// Run this one seed, make it smaller as long as it fails, and tell its story.
    #[arg(long)]
    minimise: Option<u64>,
    /// Of a seed that fails, tell only what it complains of first.
    #[arg(long)]
    brief: bool,
    /// With --seed, print the trace.
    #[arg(long)]
    trace: bool,
    /// Show the components' logs (RUST_LOG says which), with the time inside the simulation.
    #[arg(long)]
    log: bool,
    /// Every story large, with every kind of trouble; otherwise the seed chooses.
    #[arg(long)]
    whole: bool,
    /// Nodes of the cluster, whatever the seed chooses.
    #[arg(long)]
    nodes: Option<usize>,
    /// Acts of the user.
    #[arg(long)]
    acts: Option<usize>,
    /// Troubles, beside the network's.
    #[arg(long)]
    troubles: Option<usize>,
    /// Run each seed once without faults too, and compare how both end.
    #[arg(long)]
    ideal: bool,
    /// Run each seed twice, and compare both runs.
    #[arg(long)]
    twice: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.log {
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        tracing_subscriber::fmt().with_env_filter(filter).without_time().with_writer(std::io::stderr).init();
    }
    // What panics is told with its run.
    std::panic::set_hook(Box::new(|_| {}));
    let clean = match (arguments.minimise, arguments.seed) {
        (Some(seed), _) => is_clean(seed, &arguments),
        (None, Some(seed)) => show(seed, &arguments),
        (None, None) => run_all(&arguments),
    };
    if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The plan of a seed, as far as it is not said otherwise.
fn plan_of(seed: u64, arguments: &Arguments) -> Plan {
    let mut mix = if arguments.whole { Mix::whole(Size::default()) } else { Mix::of_seed(seed) };
    mix.size.nodes = arguments.nodes.unwrap_or(mix.size.nodes);
    mix.size.acts = arguments.acts.unwrap_or(mix.size.acts);
    mix.size.troubles = arguments.troubles.unwrap_or(mix.size.troubles);
    mix.network_fails &= mix.size.troubles > 0;
    Plan::mixed(seed, &mix)
}

/// One seed, with what there is to know about its run.
fn show(seed: u64, arguments: &Arguments) -> bool {
    let run = simulation::run_plan(&plan_of(seed, arguments));
    if arguments.trace {
        run.trace.iter().for_each(|line| println!("{line}"));
    }
    let (seconds, versions) = (run.elapsed.as_secs_f64(), run.value.versions);
    println!("digest {:016x}, {seconds:.0} s inside, {versions} versions", run.digest);
    is_clean(seed, arguments)
}

/// Many seeds, on all processors.
fn run_all(arguments: &Arguments) -> bool {
    let world = World::real("simulate");
    let (began, until) = (world.now(), arguments.from + arguments.seeds);
    let next = AtomicU64::new(arguments.from);
    let failed = Mutex::new(Vec::new());
    let done = AtomicU64::new(0);
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let jobs = if arguments.jobs == 0 { processors } else { arguments.jobs };
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= until {
                        return;
                    }
                    let clean = is_clean(seed, arguments);
                    let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                    if !clean {
                        failed.push(seed);
                    }
                    let done = done.fetch_add(1, Ordering::Relaxed) + 1;
                    if done.is_multiple_of(100) {
                        let took = told(world.now() - began);
                        println!("{done} of {} seeds after {took}, {} failed", arguments.seeds, failed.len());
                    }
                }
            });
        }
    });
    let mut failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    failed.sort_unstable();
    let (seeds, from, took) = (arguments.seeds, arguments.from, told(world.now() - began));
    println!("{seeds} seeds from {from} on {jobs} processors in {took}, {} failed: {failed:?}", failed.len());
    failed.is_empty()
}

fn told(time: Duration) -> String {
    let seconds = time.as_secs();
    format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// Runs a seed; if it breaks a law, makes it smaller and tells the story.
fn is_clean(seed: u64, arguments: &Arguments) -> bool {
    let plan = plan_of(seed, arguments);
    let run = simulation::run_plan(&plan);
    let complaints = run.value.complaints();
    if let (Some(first), true) = (complaints.first(), arguments.brief) {
        println!("seed {seed} fails: {first}");
        return false;
    }
    if let Some(first) = complaints.first() {
        let law = simulation::law_of(first).to_owned();
        let small = minimise(&plan, &law);
        let last = simulation::run_plan(&small.plan);
        let told = story::tell(&small.plan, &last.trace, &last.value.complaints());
        println!("seed {seed} fails: {first}\nAs small as it still fails, after {} runs:\n\n{told}", small.runs);
        return false;
    }
    if arguments.twice {
        let again = simulation::run_plan(&plan);
        if again.digest != run.digest {
            let differ = run.trace.iter().zip(&again.trace).find(|(one, two)| one != two);
            println!("seed {seed}: a second run differs: {differ:?}");
            return false;
        }
    }
    if arguments.ideal && run.value.picture != simulation::ideal(&plan) {
        println!("seed {seed} ends otherwise than without faults");
        return false;
    }
    true
}
