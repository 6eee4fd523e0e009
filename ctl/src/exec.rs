//! `exec`: a command in a container.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use skiff_proto::skiffv1::ExecRequest;

use crate::pod::{container_of, pod_of};
use crate::session::Session;
use crate::terminal::{self, Place};

/// What `exec` takes.
#[derive(Args, Debug)]
pub struct Options {
    #[command(flatten)]
    place: Place,
    /// The command, after `--`.
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

/// Runs the command; its exit code is ours.
pub async fn run(session: &Session, options: Options) -> Result<ExitCode> {
    let Place { what, container, stdin, tty } = options.place;
    let pod = pod_of(session, &what).await?;
    let request = ExecRequest {
        namespace: session.namespace().to_owned(),
        container: container_of(session, session.namespace(), &pod, container).await?,
        pod,
        command: options.command,
        stdin,
        tty: terminal::is_usable(tty),
        ..ExecRequest::default()
    };
    terminal::converse(session, request).await
}
