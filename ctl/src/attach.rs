//! `attach`: to the process that runs in a container already.

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;
use serde_json::Value;
use skiff_proto::skiffv1::ExecRequest;

use crate::columns::{list, text};
use crate::pod::{self, pod_of};
use crate::session::Session;
use crate::terminal;

/// What `attach` takes.
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
    /// The process has a terminal: this one becomes it.
    #[arg(short, long)]
    tty: bool,
}

/// Attaches until the process ends or the user goes.
pub async fn run(session: &Session, options: Options) -> Result<ExitCode> {
    let name = pod_of(session, &options.what).await?;
    let pods = session.resource("", "pods").await?;
    let pod = session.api(&pods, false).get(session.namespace(), &name).await?;
    let phase = text(&pod, "/status/phase");
    if phase == "Succeeded" || phase == "Failed" {
        bail!("cannot attach to a container in a completed pod; current phase is {phase}: see `skiffctl logs {name}`");
    }
    let container = container(&pod, options.container.as_deref())?;
    if options.stdin && container["stdin"] != true {
        eprintln!("Warning: container {} was not made with stdin: true, so it reads nothing", container["name"]);
    }
    let tty = options.tty && container["tty"] == true;
    if options.tty && !tty {
        eprintln!("Unable to use a TTY - container {} did not allocate one", text(container, "/name"));
    }
    let request = request(session, &name, &text(container, "/name"), options.stdin, tty && terminal::is_usable(true));
    eprintln!("If you don't see a command prompt, try pressing enter.");
    terminal::converse(session, request).await
}

/// The container that is meant.
fn container<'p>(object: &'p Value, named: Option<&str>) -> Result<&'p Value> {
    let all = list(object, "/spec/containers");
    let wanted = named.map_or_else(|| pod::default(object), str::to_owned);
    let found = all.iter().find(|c| text(c, "/name") == wanted);
    match found {
        Some(container) => Ok(container),
        None => {
            let names: Vec<String> = all.iter().map(|c| text(c, "/name")).collect();
            bail!("container {wanted} not found in the pod; it has: {}", names.join(", "))
        }
    }
}

/// What is asked of the node.
pub fn request(session: &Session, pod: &str, container: &str, stdin: bool, tty: bool) -> ExecRequest {
    ExecRequest {
        namespace: session.namespace().to_owned(),
        pod: pod.to_owned(),
        container: container.to_owned(),
        stdin,
        tty,
        attach: true,
        ..ExecRequest::default()
    }
}
