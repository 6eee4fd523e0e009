//! `exec`: a command in a container.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use skiff_proto::skiffv1::ExecRequest;

use crate::pod::{container_of, pod_of};
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
    let pod = pod_of(session, &options.what).await?;
    let request = ExecRequest {
        namespace: session.namespace().to_owned(),
        container: container_of(session, session.namespace(), &pod, options.container).await?,
        pod,
        command: options.command,
        stdin: options.stdin,
        tty: terminal::is_usable(options.tty),
        ..ExecRequest::default()
    };
    terminal::converse(session, request).await
}
