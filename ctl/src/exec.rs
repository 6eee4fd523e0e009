//! `exec`: a command in a container.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use skiff_proto::skiffv1::ExecRequest;

use crate::logs::pod_of;
use crate::session::Session;
use crate::terminal;

/// What `exec` takes.
#[derive(Args, Debug)]
pub struct Options {
    /// `POD` or `TYPE/NAME`.
    what: String,
    /// Which container; default: the first.
    #[arg(short, long)]
    container: Option<String>,
    /// Pass standard input on.
    #[arg(short = 'i', long)]
    stdin: bool,
    /// Give the command a terminal.
    #[arg(short, long)]
    tty: bool,
    /// The command, after `--`.
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

/// Runs the command; its exit code is ours.
pub async fn run(session: &Session, options: Options) -> Result<ExitCode> {
    let request = ExecRequest {
        namespace: session.namespace().to_owned(),
        pod: pod_of(session, &options.what).await?,
        container: options.container.unwrap_or_default(),
        command: options.command,
        stdin: options.stdin,
        tty: terminal::is_usable(options.tty),
        ..ExecRequest::default()
    };
    terminal::converse(session, request).await
}
