//! `debug`: a container of one's own in a Pod that runs, to look into it.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use clap::Args;
use serde_json::{Map, Value, json};
use skiff_client::Patch;
use skiff_proto::skiffv1::{ExecRequest, ResourceInfo};

use crate::columns::{list, number, text};
use crate::create::pairs;
use crate::follow::Follow;
use crate::pod::pod_of;
use crate::rollout::parse_duration;
use crate::session::Session;
use crate::{attach, logs, terminal};

/// What `debug` takes.
#[derive(Args, Debug)]
pub struct Options {
    /// The Pod, or a workload whose Pod is meant: `POD`, `deployment/NAME`.
    what: String,
    /// The image to look with.
    #[arg(long)]
    image: String,
    /// The container's name; default: one that nobody has.
    #[arg(short, long)]
    container: Option<String>,
    /// See the processes of this container.
    #[arg(long, default_value_t)]
    target: String,
    /// An environment variable, as `KEY=VALUE`; may be given several times.
    #[arg(long, value_name = "KEY=VALUE")]
    env: Vec<String>,
    /// When the image is pulled: `Always`, `IfNotPresent` or `Never`.
    #[arg(long)]
    image_pull_policy: Option<String>,
    /// Pass standard input on, and attach.
    #[arg(short = 'i', long)]
    stdin: bool,
    /// Give the container a terminal.
    #[arg(short, long)]
    tty: bool,
    /// Attach once it runs; so with -i.
    #[arg(long)]
    attach: bool,
    /// How long it may take to start: `90s`, `5m`, or seconds.
    #[arg(long, default_value = "1m", value_parser = parse_duration)]
    running_timeout: Duration,
    /// What to run in place of the image's own command, after `--`.
    #[arg(last = true)]
    command: Vec<String>,
}

/// Adds the container; attaches when asked to.
pub async fn run(session: &Session, options: Options) -> Result<ExitCode> {
    let pods = session.resource("", "pods").await?;
    let pod = pod_of(session, &options.what).await?;
    let name = match &options.container {
        Some(name) => name.clone(),
        None => {
            let name = format!("debugger-{}", session.world().random_suffix(5));
            eprintln!("Defaulting debug container name to {name}.");
            name
        }
    };
    let patch = json!({"spec": {"ephemeralContainers": [container(&name, &options)?]}});
    let api = session.api(&pods, false);
    api.patch(session.namespace(), &pod, Patch::Strategic(patch), Some("ephemeralcontainers")).await?;
    if !options.stdin && !options.attach {
        return Ok(ExitCode::SUCCESS);
    }
    let begun = tokio::time::timeout(options.running_timeout, begun(session, &pods, &pod, &name)).await;
    let seconds = options.running_timeout.as_secs();
    let state = begun.map_err(|_| {
        anyhow!("container {name} did not start within {seconds} s; see `skiffctl describe pod/{pod}`")
    })??;
    if state.get("running").is_some() {
        let tty = options.tty && terminal::is_usable(true);
        eprintln!("If you don't see a command prompt, try pressing enter.");
        // It may have said something before we were there.
        let request = ExecRequest { replay: true, ..attach::request(session, &pod, &name, options.stdin, tty) };
        if terminal::listen(session, request).await?.heard {
            return exit_code(session, &pods, &pod, &name).await;
        }
    }
    // It was quicker than we were.
    logs::print_all(session, &pod, &name).await?;
    exit_code(session, &pods, &pod, &name).await
}

/// The container that the flags describe.
fn container(name: &str, options: &Options) -> Result<Value> {
    let mut env = vec![];
    for variable in &options.env {
        for (name, value) in pairs(variable)? {
            env.push(json!({"name": name, "value": value}));
        }
    }
    let mut container = Map::new();
    let mut put = |field: &str, value: Value, given: bool| {
        if given {
            container.insert(field.to_owned(), value);
        }
    };
    put("name", json!(name), true);
    put("image", json!(options.image), true);
    put("imagePullPolicy", json!(options.image_pull_policy), options.image_pull_policy.is_some());
    put("command", json!(options.command), !options.command.is_empty());
    put("env", json!(env), !env.is_empty());
    put("stdin", json!(true), options.stdin);
    put("tty", json!(true), options.tty);
    put("targetContainerName", json!(options.target), !options.target.is_empty());
    Ok(Value::Object(container))
}

/// Follows the Pod until the container runs or has ended; its state.
async fn begun(session: &Session, pods: &ResourceInfo, pod: &str, name: &str) -> Result<Value> {
    let mut told = String::new();
    follow(session, pods, pod, name, |state| {
        if state.get("running").is_some() || state.get("terminated").is_some() {
            return true;
        }
        let reason = text(state, "/waiting/reason");
        // What cannot get better by itself is worth a word while we wait.
        if (reason.contains("Err") || reason.contains("BackOff")) && reason != told {
            eprintln!("container {name} is not running: {reason}: {}", text(state, "/waiting/message"));
            told = reason;
        }
        false
    })
    .await
}

/// The container's exit code, once it has ended.
async fn exit_code(session: &Session, pods: &ResourceInfo, pod: &str, name: &str) -> Result<ExitCode> {
    let state = follow(session, pods, pod, name, |state| state.get("terminated").is_some()).await?;
    let code = number(&state, "/terminated/exitCode");
    Ok(u8::try_from(code).map_or(ExitCode::FAILURE, ExitCode::from))
}

/// Follows the Pod until the container's state is as wanted.
async fn follow(
    session: &Session,
    pods: &ResourceInfo,
    pod: &str,
    name: &str,
    mut wanted: impl FnMut(&Value) -> bool,
) -> Result<Value> {
    let mut follow = Follow::one(session, pods, session.namespace(), pod);
    loop {
        let Some(object) = follow.object().await? else { bail!("pod/{pod} was deleted meanwhile") };
        let mut all = list(&object, "/status/ephemeralContainerStatuses").iter();
        let state = all.find(|status| text(status, "/name") == name).and_then(|status| status.get("state"));
        if let Some(state) = state.filter(|state| wanted(state)) {
            return Ok(state.clone());
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
    fn a_container_is_what_its_flags_say() {
        let line = ["debug", "web", "--image=i", "-it", "--target=app", "--env=A=b", "--", "sh", "-c"];
        let made = container("look", &Line::parse_from(line).options).unwrap();
        let expected = json!({
            "name": "look", "image": "i", "command": ["sh", "-c"], "env": [{"name": "A", "value": "b"}],
            "stdin": true, "tty": true, "targetContainerName": "app",
        });
        assert_eq!(made, expected);
        let made = container("look", &Line::parse_from(["debug", "web", "--image=i"]).options).unwrap();
        assert_eq!(made, json!({"name": "look", "image": "i"}));
    }
}
