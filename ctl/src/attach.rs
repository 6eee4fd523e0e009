//! `attach`: to the process that runs in a container already.

use std::process::ExitCode;

use anyhow::{Result, bail};
use serde_json::Value;
use skiff_proto::skiffv1::ExecRequest;

use crate::columns::{list, text};
use crate::pod::{self, pod_of};
use crate::session::Session;
use crate::terminal::{self, Place};

/// Attaches until the process ends or the user goes.
pub async fn run(session: &Session, place: Place) -> Result<ExitCode> {
    let name = pod_of(session, &place.what).await?;
    let pods = session.resource("", "pods").await?;
    let pod = session.api(&pods, false).get(session.namespace(), &name).await?;
    let phase = text(&pod, "/status/phase");
    if phase == "Succeeded" || phase == "Failed" {
        bail!("cannot attach to a container in a completed pod; current phase is {phase}: see `skiffctl logs {name}`");
    }
    let container = container(&pod, place.container.as_deref())?;
    if place.stdin && container["stdin"] != true {
        eprintln!("Warning: container {} was not made with stdin: true, so it reads nothing", container["name"]);
    }
    let tty = place.tty && container["tty"] == true;
    if place.tty && !tty {
        eprintln!("Unable to use a TTY - container {} did not allocate one", text(container, "/name"));
    }
    let request = request(session, &name, &text(container, "/name"), place.stdin, tty && terminal::is_usable(true));
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

/// What is asked of the node: what the process writes from now on.
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
