//! `logs`: what a container wrote, from the node through the API server. With --follow, a connection
//! that is cut is made again, and the log goes on where it was: every line comes once.

mod resume;

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;
use skiff_client::streams::{self, Channel, StreamEvent};
use skiff_client::tunnel::Close;
use skiff_client::{Error, ListOptions};
use skiff_proto::skiffv1::{LogsRequest, StreamOpen, stream_open::Request};

use crate::columns::{name, text};
use crate::rollout::parse_duration;
use crate::session::Session;
use crate::target;

use resume::Lines;

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

/// Between two attempts to go on.
const PAUSE: Duration = Duration::from_secs(1);
/// A log that cannot be had for so long is given up.
const PATIENCE: Duration = Duration::from_secs(300);
/// How much the clocks of node and user may run apart while a log is resumed; what was printed
/// before is known by its time, so more costs nothing but bytes.
const SLACK: Duration = Duration::from_secs(10);

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
        since_seconds: options.since.map(seconds),
        timestamps: options.timestamps,
        previous: options.previous,
        pod_uid: String::new(),
    };
    if options.follow {
        follow(session, request).await?
    } else {
        copy(session, request).await?
    }
    Ok(ExitCode::SUCCESS)
}

/// All that a container has written so far.
pub async fn print_all(session: &Session, pod: &str, container: &str) -> Result<()> {
    let request = LogsRequest {
        namespace: session.namespace().to_owned(),
        pod: pod.to_owned(),
        container: container.to_owned(),
        ..LogsRequest::default()
    };
    copy(session, request).await
}

async fn copy(session: &Session, request: LogsRequest) -> Result<()> {
    let mut print = |bytes: &[u8]| Ok(write(bytes)?);
    match read(session, request, &mut print).await? {
        Ended::Done => Ok(()),
        Ended::Lost(why) => bail!("{why}"),
    }
}

/// Prints the log as it grows. Lines are asked for with their times, by which they are known again.
async fn follow(session: &Session, request: LogsRequest) -> Result<()> {
    let mut lines = Lines::new(request.timestamps);
    let mut asked = LogsRequest { timestamps: true, ..request };
    let mut last = session.world().now();
    let mut told = false;
    loop {
        let mut print = |bytes: &[u8]| {
            (last, told) = (session.world().now(), false);
            Ok(write(&lines.take(bytes))?)
        };
        let why = match read(session, asked.clone(), &mut print).await? {
            Ended::Done => {
                write(&lines.rest())?;
                return Ok(());
            }
            Ended::Lost(why) => why,
        };
        let silent = session.world().now().saturating_duration_since(last);
        if !std::mem::replace(&mut told, true) {
            eprintln!("Warning: {why}; the log goes on when it can be had again");
        }
        if silent > PATIENCE {
            bail!("{why}: given up after {} s", silent.as_secs());
        }
        if lines.count() > 0 {
            lines.resume();
            asked.tail_lines = None;
            asked.since_seconds = Some(seconds(silent + SLACK));
        }
        session.world().sleep(PAUSE).await;
    }
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

fn write(bytes: &[u8]) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes)?;
    out.flush()
}

/// How reading a log ended.
enum Ended {
    Done,
    /// The way to it was cut, or is not there yet; it may be again.
    Lost(String),
}

/// Reads one stream of a log to its end. A refusal is an error.
async fn read(session: &Session, request: LogsRequest, print: &mut impl FnMut(&[u8]) -> Result<()>) -> Result<Ended> {
    let open =
        StreamOpen { component: "kubelet".to_owned(), request: Some(Request::Logs(request)), ..StreamOpen::default() };
    let mut stream = match streams::open(session.client(), open).await {
        Ok(stream) => stream,
        Err(error) if is_passing(&error) => return Ok(Ended::Lost(error.to_string())),
        Err(error) => return Err(error.into()),
    };
    while let Some(event) = stream.recv().await {
        match event {
            StreamEvent::Data { channel: Channel::Stderr, bytes } => std::io::stderr().write_all(&bytes)?,
            StreamEvent::Data { bytes, .. } => print(&bytes)?,
            StreamEvent::End(_) => {}
            StreamEvent::Closed(Close::Failed { reason, message }) if reason == "ServiceUnavailable" => {
                return Ok(Ended::Lost(message));
            }
            StreamEvent::Closed(Close::Failed { message, .. }) => bail!("{message}"),
            StreamEvent::Closed(_) => return Ok(Ended::Done),
        }
    }
    Ok(Ended::Lost("the connection to the API server was lost".to_owned()))
}

/// The node's tunnel, or the API server, may be there again in a moment.
fn is_passing(error: &Error) -> bool {
    error.is_unreachable() || error.reason() == "ServiceUnavailable"
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
