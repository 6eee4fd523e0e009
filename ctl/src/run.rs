//! `run`: one Pod from the command line, perhaps attached to, perhaps for as long as it is watched.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use clap::Args;
use serde_json::{Map, Value, json};
use skiff_client::DeleteOptions;
use skiff_proto::skiffv1::{ExecRequest, ResourceInfo};

use crate::attach;
use crate::columns::{list, number, pod_status, text};
use crate::create::{self, pairs};
use crate::follow::Follow;
use crate::logs;
use crate::report::{DryRun, Report};
use crate::rollout::parse_duration;
use crate::session::Session;
use crate::terminal;

/// What `run` takes.
#[derive(Args, Debug)]
pub struct Options {
    /// The Pod's name.
    name: String,
    /// The image.
    #[arg(long)]
    image: String,
    /// When the container is started again.
    #[arg(long, value_enum, default_value_t = Restart::Always)]
    restart: Restart,
    /// The port that it serves.
    #[arg(long)]
    port: Option<u16>,
    /// An environment variable, as `KEY=VALUE`; may be given several times.
    #[arg(long, value_name = "KEY=VALUE")]
    env: Vec<String>,
    /// Labels; default: run=NAME.
    #[arg(short = 'l', long)]
    labels: Option<String>,
    /// When the image is pulled: `Always`, `IfNotPresent` or `Never`.
    #[arg(long)]
    image_pull_policy: Option<String>,
    /// What follows `--` is the command, not arguments to the image's own.
    #[arg(long)]
    command: bool,
    /// Pass standard input on, and attach.
    #[arg(short = 'i', long)]
    stdin: bool,
    /// Give the container a terminal.
    #[arg(short, long)]
    tty: bool,
    /// Attach once it runs; so with -i.
    #[arg(long)]
    attach: bool,
    /// Delete the Pod when it has ended; only with --attach or -i.
    #[arg(long)]
    rm: bool,
    /// How long it may take to start: `90s`, `5m`, or seconds.
    #[arg(long, default_value = "1m", value_parser = parse_duration)]
    pod_running_timeout: Duration,
    /// The command or its arguments, after `--`.
    #[arg(last = true)]
    args: Vec<String>,
    #[command(flatten)]
    report: Report,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Restart {
    #[value(name = "Always")]
    Always,
    #[value(name = "OnFailure")]
    OnFailure,
    #[value(name = "Never")]
    Never,
}

/// Makes the Pod; attaches and deletes when asked to.
pub async fn run(session: &Session, options: Options) -> Result<ExitCode> {
    let attached = options.attach || options.stdin;
    if options.rm && !attached {
        bail!("--rm should only be used for attached containers: give --attach or -i too");
    }
    if attached && options.report.dry.run != DryRun::None {
        bail!("--dry-run can't be used with attached containers options (--attach, --stdin, or --tty)");
    }
    let pods = session.resource("", "pods").await?;
    let object = pod(&options)?;
    if !attached {
        create::make(session, &options.report, &pods, session.namespace(), object, "created").await?;
        return Ok(ExitCode::SUCCESS);
    }
    session.api(&pods, false).create(session.namespace(), &object).await?;
    let ended = converse(session, &pods, &options).await;
    if options.rm {
        session.api(&pods, false).delete(session.namespace(), &options.name, &DeleteOptions::default()).await?;
        eprintln!("pod \"{}\" deleted", options.name);
    }
    ended
}

/// The Pod that the flags describe.
fn pod(options: &Options) -> Result<Value> {
    let labels = match &options.labels {
        Some(text) => pairs(text)?,
        None => [("run".to_owned(), options.name.clone())].into(),
    };
    let mut env = vec![];
    for variable in &options.env {
        match variable.split_once('=') {
            Some((name, value)) if !name.is_empty() => env.push(json!({"name": name, "value": value})),
            _ => bail!("--env={variable}: expected KEY=VALUE"),
        }
    }
    let mut container = Map::new();
    let mut put = |field: &str, value: Value, given: bool| {
        if given {
            container.insert(field.to_owned(), value);
        }
    };
    put("name", json!(options.name), true);
    put("image", json!(options.image), true);
    put("imagePullPolicy", json!(options.image_pull_policy), options.image_pull_policy.is_some());
    put(if options.command { "command" } else { "args" }, json!(options.args), !options.args.is_empty());
    put("env", json!(env), !env.is_empty());
    put("ports", json!([{"containerPort": options.port}]), options.port.is_some());
    put("stdin", json!(true), options.stdin);
    put("stdinOnce", json!(true), options.stdin);
    put("tty", json!(true), options.tty);
    Ok(json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": options.name, "labels": labels},
        "spec": {"containers": [container], "restartPolicy": format!("{:?}", options.restart)},
    }))
}

async fn converse(session: &Session, pods: &ResourceInfo, options: &Options) -> Result<ExitCode> {
    let name = &options.name;
    let started = tokio::time::timeout(options.pod_running_timeout, started(session, pods, name)).await;
    let seconds = options.pod_running_timeout.as_secs();
    let pod = started
        .map_err(|_| anyhow!("pod/{name} did not start within {seconds} s; see `skiffctl describe pod/{name}`"))??;
    if !options.stdin {
        // Who only listens hears all of it from the log, from the first word on.
        logs::follow_all(session, name, name).await?;
    } else if text(&pod, "/status/phase") == "Running" {
        let tty = options.tty && terminal::is_usable(true);
        eprintln!("If you don't see a command prompt, try pressing enter.");
        // It may have said something before we were there.
        let request = ExecRequest { replay: true, ..attach::request(session, name, name, options.stdin, tty) };
        match terminal::listen(session, request).await {
            Ok(ended) if ended.heard || options.restart == Restart::Always => {}
            // All was said before we listened.
            Ok(_) => logs::print_all(session, name, name).await?,
            Err(error) => {
                eprintln!("warning: couldn't attach to pod/{name}, falling back to its log: {error:#}");
                logs::print_all(session, name, name).await?;
            }
        }
    } else {
        // It was quicker than we were.
        logs::print_all(session, name, name).await?;
    }
    exit_code(session, pods, options).await
}

/// Follows the Pod until it runs or has ended.
async fn started(session: &Session, pods: &ResourceInfo, name: &str) -> Result<Value> {
    let mut follow = Follow::one(session, pods, session.namespace(), name);
    let mut told = String::new();
    loop {
        let Some(pod) = follow.object().await? else { bail!("pod/{name} was deleted before it ran") };
        if ["Running", "Succeeded", "Failed"].contains(&text(&pod, "/status/phase").as_str()) {
            return Ok(pod);
        }
        let status = pod_status(&pod);
        // What cannot get better by itself is worth a word while we wait.
        if (status.contains("Err") || status.contains("BackOff")) && status != told {
            eprintln!("pod/{name} is not running: {status}");
            told = status;
        }
    }
}

/// The container's exit code, once it has ended; a container that starts again has none.
async fn exit_code(session: &Session, pods: &ResourceInfo, options: &Options) -> Result<ExitCode> {
    if options.restart == Restart::Always {
        return Ok(ExitCode::SUCCESS);
    }
    let mut follow = Follow::one(session, pods, session.namespace(), &options.name);
    loop {
        let Some(pod) = follow.object().await? else { return Ok(ExitCode::SUCCESS) };
        match text(&pod, "/status/phase").as_str() {
            "Succeeded" => return Ok(ExitCode::SUCCESS),
            "Failed" => {
                let ended = list(&pod, "/status/containerStatuses").iter();
                let code = ended.map(|s| number(s, "/state/terminated/exitCode")).find(|c| *c != 0).unwrap_or(1);
                return Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    #[test]
    fn a_pod_is_what_its_flags_say() {
        let line =
            ["run", "x", "--image=skiff/demo", "-it", "--restart=Never", "--env=A=b=c", "--port=80", "--", "sh", "-c"];
        let made = pod(&Line::parse_from(line).options).unwrap();
        let expected = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "x", "labels": {"run": "x"}},
            "spec": {"restartPolicy": "Never", "containers": [{
                "name": "x", "image": "skiff/demo", "args": ["sh", "-c"],
                "env": [{"name": "A", "value": "b=c"}], "ports": [{"containerPort": 80}],
                "stdin": true, "stdinOnce": true, "tty": true,
            }]},
        });
        assert_eq!(made, expected);
        let command =
            pod(&Line::parse_from(["run", "x", "--image=i", "--command", "-l", "a=b", "--", "sh"]).options).unwrap();
        assert_eq!(command["spec"]["containers"][0], json!({"name": "x", "image": "i", "command": ["sh"]}));
        assert_eq!(command["metadata"]["labels"], json!({"a": "b"}));
    }
}
