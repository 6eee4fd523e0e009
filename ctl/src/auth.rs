//! `auth`: what one may do here, and as whom one is here. The server answers, by the same code that lets requests through.

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use skiff_proto::skiffv1::ResourceInfo;

use crate::columns::{list, text};
use crate::describe::rights;
use crate::output::{self, Format};
use crate::session::Session;
use crate::table::Table;
use crate::target;

/// What is asked.
#[derive(Subcommand, Debug)]
pub enum Action {
    /// Whether something may be done: `can-i create pods`, `can-i get /metrics`.
    CanI(CanI),
    /// As whom the server sees you.
    Whoami(Whoami),
}

/// What `auth can-i` takes.
#[derive(Args, Debug)]
pub struct CanI {
    /// The verb, and `TYPE`, `TYPE/NAME`, `TYPE NAME` or a path.
    what: Vec<String>,
    /// Of the resource, this subresource.
    #[arg(long, default_value = "")]
    subresource: String,
    /// Everything that may be done in the namespace.
    #[arg(long, conflicts_with_all = ["what", "subresource"])]
    list: bool,
    /// In all namespaces.
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Print nothing: only the exit code tells.
    #[arg(short, long)]
    quiet: bool,
}

/// What `auth whoami` takes.
#[derive(Args, Debug)]
pub struct Whoami {
    /// Print the answer itself.
    #[arg(short, long, value_enum)]
    output: Option<Format>,
}

/// Asks.
pub async fn run(session: &Session, action: Action) -> Result<ExitCode> {
    match action {
        Action::CanI(options) if options.list => can_do(session).await,
        Action::CanI(options) => can_i(session, &options).await,
        Action::Whoami(options) => who_am_i(session, &options).await,
    }
}

/// A review: an object that is only ever sent, for the answer that comes back.
async fn review(session: &Session, group: &str, kind: &str, spec: Value) -> Result<Value> {
    let resource = ResourceInfo {
        group: format!("{group}.k8s.io"),
        version: "v1".to_owned(),
        resource: format!("{}s", kind.to_lowercase()),
        kind: kind.to_owned(),
        ..ResourceInfo::default()
    };
    let object = json!({"apiVersion": format!("{group}.k8s.io/v1"), "kind": kind, "spec": spec});
    Ok(session.api(&resource, false).create("", &object).await?)
}

async fn can_i(session: &Session, options: &CanI) -> Result<ExitCode> {
    let (verb, what) = match options.what.as_slice() {
        [verb, what] => (verb, what.clone()),
        [verb, what, name] => (verb, format!("{what}/{name}")),
        _ => bail!("say what: a verb and a resource, as in `auth can-i create pods`, or a verb and a path"),
    };
    let spec = if what.starts_with('/') {
        json!({"nonResourceAttributes": {"verb": verb, "path": what}})
    } else {
        let namespace = if options.all_namespaces { "" } else { session.namespace() };
        let table = session.resources().await?;
        json!({"resourceAttributes": attributes(&table, verb, &what, &options.subresource, namespace)})
    };
    let answer = review(session, "authorization", "SelfSubjectAccessReview", spec).await?;
    let allowed = answer.pointer("/status/allowed") == Some(&Value::Bool(true));
    if !options.quiet {
        let why = text(&answer, "/status/reason");
        let why = if why.is_empty() { why } else { format!(" - {why}") };
        output::print(&if allowed { "yes\n".to_owned() } else { format!("no{why}\n") })?;
    }
    Ok(if allowed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What is asked about a resource. One that the server does not know is asked about all the same, with a warning.
fn attributes(table: &[ResourceInfo], verb: &str, what: &str, subresource: &str, namespace: &str) -> Value {
    let (word, name) = what.split_once('/').unwrap_or((what, ""));
    let known = (word != "*").then(|| target::find(table, word));
    let (group, resource, namespace) = match known {
        Some(Ok(found)) => {
            let namespace = if found.namespaced { namespace } else { "" };
            (found.group, found.resource, namespace)
        }
        Some(Err(error)) => {
            eprintln!("Warning: {error}");
            let (resource, group) = word.split_once('.').unwrap_or((word, ""));
            (group.to_owned(), resource.to_owned(), namespace)
        }
        None => ("*".to_owned(), "*".to_owned(), namespace),
    };
    json!({
        "verb": verb, "group": group, "resource": resource, "subresource": subresource,
        "name": name, "namespace": namespace,
    })
}

async fn can_do(session: &Session) -> Result<ExitCode> {
    let spec = json!({"namespace": session.namespace()});
    let answer = review(session, "authorization", "SelfSubjectRulesReview", spec).await?;
    let rules = [list(&answer, "/status/resourceRules"), list(&answer, "/status/nonResourceRules")].concat();
    output::print(&rights::table(&rules).render(true))?;
    if answer.pointer("/status/incomplete") == Some(&Value::Bool(true)) {
        eprintln!("Warning: the list may be incomplete: a node's rights depend on its Pods");
    }
    Ok(ExitCode::SUCCESS)
}

async fn who_am_i(session: &Session, options: &Whoami) -> Result<ExitCode> {
    let answer = review(session, "authentication", "SelfSubjectReview", json!({})).await?;
    if let Some(format) = options.output {
        output::print(&output::document(&answer, format)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let info = &answer["status"]["userInfo"];
    let words = |value: &Value| {
        let words: Vec<&str> = value.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        format!("[{}]", words.join(" "))
    };
    let mut table = Table::new(["ATTRIBUTE", "VALUE"]);
    table.row(["Username".to_owned(), text(info, "/username")]);
    if info.get("uid").is_some() {
        table.row(["UID".to_owned(), text(info, "/uid")]);
    }
    table.row(["Groups".to_owned(), words(&info["groups"])]);
    for (key, values) in info["extra"].as_object().into_iter().flatten() {
        table.row([format!("Extra: {key}"), words(values)]);
    }
    output::print(&table.render(true))?;
    Ok(ExitCode::SUCCESS)
}
