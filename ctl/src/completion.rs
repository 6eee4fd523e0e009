//! `completion`: the script that lets a shell complete verbs and flags.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Command};
use clap_complete::Shell;

use crate::output;

/// What `completion` takes.
#[derive(Args, Debug)]
pub struct Options {
    /// Which shell: `source <(skiffctl completion bash)`.
    shell: Shell,
}

/// Prints the script.
pub fn run(options: Options, mut command: Command) -> Result<ExitCode> {
    let mut script = vec![];
    clap_complete::generate(options.shell, &mut command, "skiffctl", &mut script);
    output::print(&String::from_utf8_lossy(&script))?;
    Ok(ExitCode::SUCCESS)
}
