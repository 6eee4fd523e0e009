//! Shows that the tests find faults: wakes each deliberate fault of `docs/traps.md`, one after the other, and looks
//! whether what the page says kills it. Fails if one survives, or if a test fails without any.
//!
//! A mutant of the simulation is awake in this process, while its seed runs. For one of a test the test's own program is
//! run, twice: with all asleep it must pass, with `SKIFF_MUTANT` it must fail.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, bail};
use clap::Parser;
use skiff_tests::simulation::plan::Plan;
use skiff_tests::simulation::{complaints_of, law_of};
use skiff_tests::traps::{self, Killer, Row, Verdict, verdict};
use skiff_world::World;
use skiff_world::mutants::{self, Mutant};

/// Wakes each mutant and looks what kills it.
#[derive(Parser)]
struct Arguments {
    /// Only these mutants.
    only: Vec<String>,
    /// How many seeds a mutant may survive, where the one that the page names does not kill it.
    #[arg(long, default_value_t = 400)]
    seeds: u64,
    /// A test that takes longer than this many seconds hangs, and that is a failure.
    #[arg(long, default_value_t = 300)]
    patience: u64,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    // What a mutant makes panic is expected, and said below in one line.
    std::panic::set_hook(Box::new(|_| {}));
    let rows = traps::table().map_err(anyhow::Error::msg)?;
    let asked = |row: &&Row| arguments.only.is_empty() || arguments.only.contains(&format!("{:?}", row.mutant));
    let rows: Vec<&Row> = rows.iter().filter(asked).collect();
    if rows.is_empty() {
        bail!("there is no such mutant");
    }
    let programs = if rows.iter().any(|row| matches!(row.killer, Killer::Test { .. })) {
        test_programs()?
    } else {
        Programs::new()
    };
    let world = World::real("mutants");
    let began = world.now();
    let survivors = try_all(&rows, &programs, &arguments)?;
    println!("{} mutants in {} s, {survivors} survive", rows.len(), (world.now() - began).as_secs());
    Ok(if survivors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Tries to kill each, as many at a time as there are processors, and says how it went. How many survive.
fn try_all(rows: &[&Row], programs: &Programs, arguments: &Arguments) -> Result<usize> {
    let (next, survivors) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let work = || -> Result<()> {
        while let Some(row) = rows.get(next.fetch_add(1, Ordering::Relaxed)) {
            let (sign, words) = match try_to_kill(row, programs, arguments)? {
                Ok(how) => ("killed  ", how),
                Err(why) => {
                    survivors.fetch_add(1, Ordering::Relaxed);
                    ("SURVIVES", why)
                }
            };
            println!("{sign} {:<18} {words}\n         {}", format!("{:?}", row.mutant), row.trap);
        }
        Ok(())
    };
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..processors).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().unwrap_or_else(|_| bail!("a worker panicked")))
    })?;
    Ok(survivors.into_inner())
}

/// How it was killed, or why it was not.
fn try_to_kill(row: &Row, programs: &Programs, arguments: &Arguments) -> Result<Result<String, String>> {
    match &row.killer {
        Killer::Seed { seed, law } => Ok(by_seed(row.mutant, *seed, law, arguments.seeds)),
        Killer::Test { name, file } => by_test(row.mutant, name, file, programs, arguments.patience),
    }
}

fn by_seed(mutant: Mutant, named: u64, law: &str, most: u64) -> Result<String, String> {
    for seed in std::iter::once(named).chain((0..most).filter(|seed| *seed != named)) {
        let found = mutants::with(mutant, || complaints_of(&Plan::of_seed(seed)));
        if let Some(complaint) = found.iter().find(|complaint| law_of(complaint) == law) {
            return Ok(format!("by seed {seed}: {complaint}"));
        }
    }
    Err(format!("seed {named} and seeds 0 to {} keep the law {law:?}", most.saturating_sub(1)))
}

/// The test programs, by the folder of their crate.
type Programs = BTreeMap<String, Vec<PathBuf>>;

/// Builds all tests, as the suite does, and finds their programs. This crate is built with them, which is what turns the
/// mutants on.
fn test_programs() -> Result<Programs> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("this crate lies in the workspace")?;
    let built = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()))
        .args(["test", "--no-run", "--quiet", "--workspace", "--message-format=json"])
        .current_dir(root)
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run cargo to build the tests")?;
    if !built.status.success() {
        bail!("the tests cannot be built: {}", built.status);
    }
    let mut programs = Programs::new();
    for line in String::from_utf8_lossy(&built.stdout).lines() {
        let Ok(message) = serde_json::from_str::<serde_json::Value>(line) else { continue };
        let (Some(program), Some(manifest)) = (message["executable"].as_str(), message["manifest_path"].as_str())
        else {
            continue;
        };
        if message["profile"]["test"] == true
            && let Some(folder) = Path::new(manifest).parent().and_then(|path| path.strip_prefix(root).ok())
        {
            programs.entry(folder.to_string_lossy().into_owned()).or_default().push(program.into());
        }
    }
    Ok(programs)
}

fn by_test(
    mutant: Mutant,
    name: &str,
    file: &Path,
    programs: &Programs,
    patience: u64,
) -> Result<Result<String, String>> {
    let folder = Killer::folder(file);
    let mut found = Vec::new();
    for program in programs.get(&folder).into_iter().flatten() {
        let listed = Command::new(program).args(["--list", "--format", "terse"]).output()?;
        for line in String::from_utf8_lossy(&listed.stdout).lines() {
            let path = line.strip_suffix(": test").unwrap_or_default();
            if path.rsplit("::").next() == Some(name) {
                found.push((program.clone(), path.to_owned()));
            }
        }
    }
    if found.is_empty() {
        return Ok(Err(format!("no test of {folder}/ is called {name}")));
    }
    // The crate's folder, as cargo does it: tests find their files from there.
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder);
    for (program, path) in &found {
        let asleep = run_test(program, path, &folder, None, patience)?;
        if asleep != Verdict::Passed {
            return Ok(Err(format!("the test {path} does not pass without it: {asleep:?}")));
        }
        if run_test(program, path, &folder, Some(mutant), patience)? == Verdict::Failed {
            return Ok(Ok(format!("by the test {path} ({})", file.display())));
        }
    }
    Ok(Err(format!("the test {name} passes with it")))
}

/// Runs one test in a process of its own; whether it passed. One that hangs, or whose process dies, has failed.
fn run_test(program: &Path, path: &str, folder: &Path, mutant: Option<Mutant>, patience: u64) -> Result<Verdict> {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=1", &patience.to_string()]).arg(program).args(["--exact", path]).current_dir(folder);
    if let Some(mutant) = mutant {
        command.env("SKIFF_MUTANT", format!("{mutant:?}"));
    }
    let done = command.output().with_context(|| format!("cannot run {}", program.display()))?;
    let told = verdict(&String::from_utf8_lossy(&done.stdout));
    let died = told == Verdict::NotRun && !done.status.success();
    Ok(if died { Verdict::Failed } else { told })
}
