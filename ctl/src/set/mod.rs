//! `set`: the parts of a workload that change most, without writing a patch.

mod change;

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use serde_json::Value;
use skiff_client::Patch;

use crate::amend;
use crate::columns::{list, text};
use crate::output;
use crate::report::Report;
use crate::selection::{Chosen, Selection};
use crate::session::Session;

use change::{Change, Quantities};

/// What can be set.
#[derive(Subcommand, Debug)]
pub enum Action {
    /// The images of containers: CONTAINER=IMAGE, or *=IMAGE for all.
    Image(Words),
    /// Environment variables: KEY=VALUE sets, KEY- removes.
    Env(Env),
    /// What containers may use, and what is kept for them.
    Resources(Resources),
}

/// `TYPE/NAME` or `TYPE NAME`, then what is set.
#[derive(Args, Debug)]
pub struct Words {
    /// The objects, then what is to be set.
    #[arg(required_unless_present = "files")]
    words: Vec<String>,
    #[command(flatten)]
    selection: Selection,
    #[command(flatten)]
    report: Report,
}

/// What `set env` takes.
#[derive(Args, Debug)]
pub struct Env {
    #[command(flatten)]
    words: Words,
    /// Which containers; a * at the end stands for anything.
    #[arg(short, long, default_value = "*")]
    containers: String,
    /// Show what there is.
    #[arg(long)]
    list: bool,
}

/// What `set resources` takes.
#[derive(Args, Debug)]
pub struct Resources {
    #[command(flatten)]
    words: Words,
    /// Which containers; a * at the end stands for anything.
    #[arg(short, long, default_value = "*")]
    containers: String,
    /// What they may use at most: `cpu=500m,memory=64Mi`; 0 removes one.
    #[arg(long, default_value = "")]
    limits: String,
    /// What is kept for them: `cpu=100m,memory=32Mi`; 0 removes one.
    #[arg(long, default_value = "")]
    requests: String,
}

/// Sets it.
pub async fn run(session: &Session, action: Action) -> Result<ExitCode> {
    match action {
        Action::Image(words) => {
            let (objects, pairs) = split(&words.words, false);
            let images = change::images(&pairs)?;
            change_all(session, &words, &objects, &Change::Images(images), "image updated").await
        }
        Action::Env(env) => {
            let (objects, pairs) = split(&env.words.words, true);
            if env.list {
                return list_env(session, &env, &objects).await;
            }
            let variables = change::variables(&pairs)?;
            let change = Change::Env { containers: env.containers, variables };
            change_all(session, &env.words, &objects, &change, "env updated").await
        }
        Action::Resources(r) => {
            let quantities = Quantities::read(&r.limits, &r.requests)?;
            let change = Change::Resources { containers: r.containers, quantities };
            change_all(session, &r.words, &r.words.words, &change, "resource requirements updated").await
        }
    }
}

/// The objects come first, then what is set: words with `=`, or for variables ending in `-`.
fn split(words: &[String], removals: bool) -> (Vec<String>, Vec<String>) {
    let is_set = |w: &String| w.contains('=') || (removals && w.ends_with('-'));
    let at = words.iter().position(is_set).unwrap_or(words.len());
    (words[..at].to_vec(), words[at..].to_vec())
}

async fn change_all(
    session: &Session,
    words: &Words,
    objects: &[String],
    change: &Change,
    done: &str,
) -> Result<ExitCode> {
    for chosen in words.selection.find(session, objects).await? {
        let template = template(&chosen)?;
        let patch = |object: &Value| Ok(Patch::Strategic(change.patch(object, template)?));
        let amended = amend::amend(session, &words.report, &chosen, patch).await?;
        // As kubectl: nothing is said where nothing is different.
        if amended.changed() || words.report.output.is_some() {
            words.report.say(&chosen.resource, &amended.after, done)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Where a kind keeps the spec of its Pods.
fn template(chosen: &Chosen) -> Result<&'static str> {
    match chosen.resource.kind.as_str() {
        "Pod" => Ok("/spec"),
        "CronJob" => Ok("/spec/jobTemplate/spec/template/spec"),
        "Deployment" | "ReplicaSet" | "StatefulSet" | "DaemonSet" | "Job" | "ReplicationController" => {
            Ok("/spec/template/spec")
        }
        _ => bail!("{} has no containers", chosen.called()),
    }
}

async fn list_env(session: &Session, env: &Env, objects: &[String]) -> Result<ExitCode> {
    for chosen in env.words.selection.find(session, objects).await? {
        let object = session.api(&chosen.resource, false).get(&chosen.namespace, &chosen.name).await?;
        let containers = list(&object, &format!("{}/containers", template(&chosen)?));
        for container in containers.iter().filter(|c| change::is_meant(&env.containers, &text(c, "/name"))) {
            output::line(format!("# {}, container {}", chosen.called(), text(container, "/name")))?;
            for variable in list(container, "/env") {
                let name = text(variable, "/name");
                match variable.get("valueFrom") {
                    Some(source) => output::line(format!("# {name} from {source}"))?,
                    None => output::line(format!("{name}={}", text(variable, "/value")))?,
                }
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
