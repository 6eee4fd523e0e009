//! `logs`: what a container wrote, from the node through the API server.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;
use skiff_client::ListOptions;
use skiff_client::streams::{self, Channel, StreamEvent};
use skiff_client::tunnel::Close;
use skiff_proto::skiffv1::{LogsRequest, StreamOpen, stream_open::Request};

use crate::columns::{name, text};
use crate::rollout::parse_duration;
use crate::session::Session;
use crate::target;

/// What `logs` takes.
#[derive(Args, Debug)]
pub struct Options {
    /// `POD` or `TYPE/NAME`; of a workload, its first Pod.
    what: String,
    /// Which container; default: the first, or the annotated default.
    container_name: Option<String>,
    /// Which container.
    #[arg(short, long)]
    container: Option<String>,
    /// Go on as the container writes.
    #[arg(short, long)]
    follow: bool,
    /// Only so many of the last lines.
    #[arg(long)]
    tail: Option<i64>,
    /// Only what is newer: `90s`, `5m`.
    #[arg(long, value_parser = parse_duration)]
    since: Option<Duration>,
    /// Put the time before each line.
    #[arg(long)]
    timestamps: bool,
    /// Of the container's previous life.
    #[arg(short, long)]
    previous: bool,
}

/// Copies the log to standard output.
pub async fn run(session: &Session, options: Options) -> Result<ExitCode> {
    let pod = pod_of(session, &options.what).await?;
    let container = options.container.or(options.container_name).unwrap_or_default();
    let request = LogsRequest {
        namespace: session.namespace().to_owned(),
        pod,
        container,
        follow: options.follow,
        tail_lines: options.tail,
        since_seconds: options.since.map(|d| i64::try_from(d.as_secs()).unwrap_or(i64::MAX)),
        timestamps: options.timestamps,
        previous: options.previous,
        pod_uid: String::new(),
    };
    let open =
        StreamOpen { component: "kubelet".to_owned(), request: Some(Request::Logs(request)), ..StreamOpen::default() };
    let mut stream = streams::open(session.client(), open).await?;
    while let Some(event) = stream.recv().await {
        match event {
            StreamEvent::Data { channel: Channel::Stderr, bytes } => std::io::stderr().write_all(&bytes)?,
            StreamEvent::Data { bytes, .. } => {
                std::io::stdout().write_all(&bytes)?;
                std::io::stdout().flush()?;
            }
            StreamEvent::End(_) => {}
            StreamEvent::Closed(Close::Failed { message, .. }) => bail!("{message}"),
            StreamEvent::Closed(_) => break,
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The Pod that is meant: itself, or the first one that a workload or Service selects.
pub async fn pod_of(session: &Session, what: &str) -> Result<String> {
    let Some((_, object_name)) = what.split_once('/') else { return Ok(what.to_owned()) };
    let (resource, _) = target::parse_one(session, &[what.to_owned()]).await?;
    if resource.kind == "Pod" {
        return Ok(object_name.to_owned());
    }
    let object = session.api(&resource, false).get(session.namespace(), object_name).await?;
    let selector = match resource.kind.as_str() {
        "Service" => crate::columns::labels(object.pointer("/spec/selector")),
        _ => crate::columns::selector(object.pointer("/spec/selector")),
    };
    if selector.is_empty() {
        bail!("{what} selects no Pods: name a Pod");
    }
    let pods = session.resource("", "pods").await?;
    let mut found = session.api(&pods, false).list(session.namespace(), &ListOptions::labels(selector)).await?.items;
    // A running one first, then the oldest.
    found.sort_by_key(|p| (text(p, "/status/phase") != "Running", text(p, "/metadata/creationTimestamp")));
    let Some(first) = found.first() else { bail!("{what} has no Pods") };
    if found.len() > 1 {
        eprintln!("Found {} pods, using pod/{}", found.len(), name(first));
    }
    Ok(name(first))
}
