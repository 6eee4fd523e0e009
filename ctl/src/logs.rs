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

use crate::columns::name;
use crate::pod::{self, container_of, pod_of};
use crate::rollout::parse_duration;
use crate::session::Session;

use resume::Lines;

/// What `logs` takes.
#[derive(Args, Debug)]
pub struct Options {
    /// `POD` or `TYPE/NAME`; of a workload, its first Pod.
    #[arg(required_unless_present = "selector", conflicts_with = "selector")]
    what: Option<String>,
    /// Which container; default: the annotated default, or the first.
    container_name: Option<String>,
    /// Which container.
    #[arg(short, long)]
    container: Option<String>,
    /// Of all Pods whose labels match.
    #[arg(short = 'l', long)]
    selector: Option<String>,
    /// Of all containers.
    #[arg(long, conflicts_with_all = ["container", "container_name"])]
    all_containers: bool,
    /// Put Pod and container before each line.
    #[arg(long)]
    prefix: bool,
    /// So many logs are followed at once, at most.
    #[arg(long, default_value_t = 5)]
    max_log_requests: usize,
    /// Go on as the container writes.
    #[arg(short, long)]
    follow: bool,
    /// Only so many of the last lines; with -l 10, if nothing is said; -1: all.
    #[arg(long, allow_negative_numbers = true)]
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

/// Copies the logs to standard output: one after the other, or when followed all at once.
pub async fn run(session: &Session, options: Options) -> Result<ExitCode> {
    let sources = sources(session, &options).await?;
    let several = options.selector.as_ref().map(|_| 10);
    let request = |(pod, container): &(String, String)| LogsRequest {
        namespace: session.namespace().to_owned(),
        pod: pod.clone(),
        container: container.clone(),
        follow: options.follow,
        tail_lines: options.tail.or(several).filter(|lines| *lines >= 0),
        since_seconds: options.since.map(seconds),
        timestamps: options.timestamps,
        previous: options.previous,
        pod_uid: String::new(),
    };
    let prefix = |(pod, container): &(String, String)| match options.prefix {
        true => format!("[pod/{pod}/{container}] "),
        false => String::new(),
    };
    if options.follow {
        if sources.len() > options.max_log_requests {
            bail!(
                "you are attempting to follow {} log streams, but maximum allowed concurrency is {}, \
                 use --max-log-requests to increase the limit",
                sources.len(),
                options.max_log_requests
            );
        }
        let all = sources.iter().map(|source| follow(session, request(source), prefix(source)));
        futures::future::try_join_all(all).await?;
    } else {
        for source in &sources {
            copy(session, request(source), prefix(source)).await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The Pods and containers whose logs are meant.
async fn sources(session: &Session, options: &Options) -> Result<Vec<(String, String)>> {
    let pods = session.resource("", "pods").await?;
    let api = session.api(&pods, false);
    let found = match (&options.selector, &options.what) {
        (Some(selector), _) => api.list(session.namespace(), &ListOptions::labels(selector.as_str())).await?.items,
        (None, Some(what)) => vec![api.get(session.namespace(), &pod_of(session, what).await?).await?],
        (None, None) => bail!("say whose log: a Pod, TYPE/NAME, or labels with -l"),
    };
    if found.is_empty() {
        eprintln!("No resources found in {} namespace.", session.namespace());
    }
    let asked = options.container.clone().or(options.container_name.clone());
    let mut sources = vec![];
    for object in &found {
        if options.all_containers {
            sources.extend(pod::running(object).into_iter().map(|container| (name(object), container)));
        } else {
            let container = container_of(session, session.namespace(), &name(object), asked.clone()).await?;
            sources.push((name(object), container));
        }
    }
    Ok(sources)
}

/// All that a container writes, from its start to its end.
pub async fn follow_all(session: &Session, pod: &str, container: &str) -> Result<()> {
    let request = LogsRequest {
        namespace: session.namespace().to_owned(),
        pod: pod.to_owned(),
        container: container.to_owned(),
        follow: true,
        ..LogsRequest::default()
    };
    follow(session, request, String::new()).await
}

/// All that a container has written so far.
pub async fn print_all(session: &Session, pod: &str, container: &str) -> Result<()> {
    let request = LogsRequest {
        namespace: session.namespace().to_owned(),
        pod: pod.to_owned(),
        container: container.to_owned(),
        ..LogsRequest::default()
    };
    copy(session, request, String::new()).await
}

async fn copy(session: &Session, request: LogsRequest, prefix: String) -> Result<()> {
    let mut lines = Lines::new(request.timestamps, prefix);
    let asked = LogsRequest { timestamps: true, ..request };
    let mut print = |bytes: &[u8]| Ok(write(&lines.take(bytes))?);
    match read(session, asked, &mut print).await? {
        Ended::Done => Ok(write(&lines.rest())?),
        Ended::Lost(why) => bail!("{why}"),
        Ended::Refused(error) => Err(error.into()),
    }
}

/// Prints the log as it grows. Lines are asked for with their times, by which they are known again.
async fn follow(session: &Session, request: LogsRequest, prefix: String) -> Result<()> {
    let mut lines = Lines::new(request.timestamps, prefix);
    let mut asked = LogsRequest { timestamps: true, ..request };
    let mut last = session.world().now();
    let (mut begun, mut told) = (false, false);
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
            Ended::Refused(error) if begun && is_passing(&error) => error.to_string(),
            Ended::Refused(error) => return Err(error.into()),
        };
        begun = true;
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
    /// The way to it was cut.
    Lost(String),
    /// It could not be opened.
    Refused(Error),
}

/// Reads one stream of a log to its end.
async fn read(session: &Session, request: LogsRequest, print: &mut impl FnMut(&[u8]) -> Result<()>) -> Result<Ended> {
    let open =
        StreamOpen { component: "kubelet".to_owned(), request: Some(Request::Logs(request)), ..StreamOpen::default() };
    let mut stream = match streams::open(session.client(), open).await {
        Ok(stream) => stream,
        Err(error) => return Ok(Ended::Refused(error)),
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
