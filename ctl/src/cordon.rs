//! `cordon` and `uncordon`: whether a node takes new Pods.

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;
use serde_json::{Value, json};
use skiff_client::{ListOptions, Patch};
use skiff_proto::skiffv1::ResourceInfo;

use crate::amend;
use crate::columns::name;
use crate::report::Report;
use crate::selection::Chosen;
use crate::session::Session;

/// What `cordon` and `uncordon` take.
#[derive(Args, Debug)]
pub struct Options {
    #[command(flatten)]
    nodes: Nodes,
    #[command(flatten)]
    report: Report,
}

/// Nodes, by name or by labels.
#[derive(Args, Debug)]
pub struct Nodes {
    /// The nodes' names.
    names: Vec<String>,
    /// Nodes whose labels match.
    #[arg(short = 'l', long)]
    selector: Option<String>,
}

impl Nodes {
    /// The nodes that are meant.
    pub async fn find(&self, session: &Session) -> Result<Vec<Chosen>> {
        let resource = session.resource("", "nodes").await?;
        let chosen = |name: String| Chosen { resource: resource.clone(), namespace: String::new(), name };
        match (&self.selector, self.names.as_slice()) {
            (None, []) => bail!("say which node, by name or by labels with -l; `skiffctl get nodes` lists them"),
            (Some(_), [_, ..]) => bail!("name nodes, or select them with -l: not both"),
            // `node/n1` is as good as `n1`.
            (None, names) => Ok(names
                .iter()
                .map(|n| chosen(n.strip_prefix("node/").or(n.strip_prefix("nodes/")).unwrap_or(n).to_owned()))
                .collect()),
            (Some(selector), []) => {
                let list = session.api(&resource, false).list("", &ListOptions::labels(selector.as_str())).await?;
                Ok(list.items.iter().map(|node| chosen(name(node))).collect())
            }
        }
    }
}

/// Cordons the nodes, or takes it back.
pub async fn run(session: &Session, options: Options, cordon: bool) -> Result<ExitCode> {
    for node in options.nodes.find(session).await? {
        set(session, &options.report, &node, cordon).await?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Cordons one node or takes it back, and says so.
pub async fn set(session: &Session, report: &Report, node: &Chosen, cordon: bool) -> Result<()> {
    let wanted = |_: &Value| Ok(Patch::Merge(json!({"spec": {"unschedulable": cordon.then_some(true)}})));
    let amended = amend::amend(session, report, node, wanted).await?;
    let done = match (cordon, is_cordoned(&amended.before)) {
        (true, true) => "already cordoned",
        (true, false) => "cordoned",
        (false, true) => "uncordoned",
        (false, false) => "already uncordoned",
    };
    let resource: &ResourceInfo = &node.resource;
    report.say(resource, &amended.after, done)
}

fn is_cordoned(node: &Value) -> bool {
    node.pointer("/spec/unschedulable") == Some(&Value::Bool(true))
}
