//! `create`: objects from files, or of a few kinds from flags. What flags make is worked out without
//! the server, so `--dry-run=client -o yaml` writes a first manifest.

mod configs;
mod quota;
pub mod rights;
mod service;
mod token;

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};
use skiff_proto::skiffv1::ResourceInfo;

use crate::manifest::{self, Files};
use crate::report::Report;
use crate::session::Session;

/// What `create` takes.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Options {
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    report: Report,
    #[command(subcommand)]
    kind: Option<Kind>,
}

/// The kinds that flags make.
#[derive(Subcommand, Debug)]
enum Kind {
    /// A Deployment of Pods with these images.
    #[command(visible_alias = "deploy")]
    Deployment(Deployment),
    /// A Service; its Pods are those labelled app=NAME.
    #[command(subcommand, visible_alias = "svc")]
    Service(service::Service),
    /// A namespace.
    #[command(visible_alias = "ns")]
    Namespace(Named),
    /// A ConfigMap from values and files.
    #[command(visible_alias = "cm")]
    Configmap(configs::ConfigMap),
    /// A Secret.
    #[command(subcommand)]
    Secret(configs::Secret),
    /// A ResourceQuota: how much a namespace may have.
    #[command(visible_alias = "resourcequota")]
    Quota(quota::Quota),
    /// A PriorityClass: a name for a priority of Pods.
    #[command(visible_alias = "pc")]
    Priorityclass(quota::PriorityClass),
    /// A token of a service account; prints it.
    Token(token::Options),
    /// A service account.
    #[command(visible_alias = "sa")]
    Serviceaccount(Named),
    /// Rights within a namespace.
    Role(rights::Role),
    /// Rights anywhere.
    Clusterrole(rights::ClusterRole),
    /// Gives a role's rights to somebody, within a namespace.
    Rolebinding(rights::RoleBinding),
    /// Gives a ClusterRole's rights to somebody, everywhere.
    Clusterrolebinding(rights::ClusterRoleBinding),
}

/// A kind that has nothing but a name.
#[derive(Args, Debug)]
struct Named {
    /// Its name.
    name: String,
    #[command(flatten)]
    report: Report,
}

#[derive(Args, Debug)]
struct Deployment {
    /// Its name.
    name: String,
    /// The image; several make several containers.
    #[arg(long, required = true)]
    image: Vec<String>,
    /// How many Pods.
    #[arg(short, long, default_value_t = 1)]
    replicas: u32,
    /// The port that the container serves.
    #[arg(long)]
    port: Option<u16>,
    /// The command, after `--`.
    #[arg(last = true)]
    command: Vec<String>,
    #[command(flatten)]
    report: Report,
}

/// Creates what files or flags say.
pub async fn run(session: &Session, options: Options) -> Result<ExitCode> {
    let (group, plural, object, report) = match options.kind {
        Some(Kind::Token(t)) => return token::run(session, t).await,
        None => return from_files(session, &options.files, &options.report).await,
        Some(Kind::Deployment(d)) => ("apps", "deployments", deployment(&d)?, d.report),
        Some(Kind::Service(s)) => ("", "services", s.object()?, s.into_report()),
        Some(Kind::Namespace(n)) => ("", "namespaces", plain("Namespace", &n.name), n.report),
        Some(Kind::Configmap(c)) => ("", "configmaps", c.object()?, c.report),
        Some(Kind::Secret(s)) => ("", "secrets", s.object()?, s.into_report()),
        Some(Kind::Quota(q)) => ("", "resourcequotas", q.object()?, q.report),
        Some(Kind::Priorityclass(c)) => ("scheduling.k8s.io", "priorityclasses", c.object(), c.report),
        Some(Kind::Serviceaccount(n)) => ("", "serviceaccounts", plain("ServiceAccount", &n.name), n.report),
        Some(Kind::Role(r)) => (rights::GROUP, "roles", r.object(&session.resources().await?)?, r.report),
        Some(Kind::Clusterrole(r)) => (rights::GROUP, "clusterroles", r.object(&session.resources().await?)?, r.report),
        Some(Kind::Rolebinding(b)) => (rights::GROUP, "rolebindings", b.object()?, b.report),
        Some(Kind::Clusterrolebinding(b)) => (rights::GROUP, "clusterrolebindings", b.object()?, b.report),
    };
    let resource = session.resource(group, plural).await?;
    let namespace = if resource.namespaced { session.namespace() } else { "" };
    make(session, &report, &resource, namespace, object, "created").await?;
    Ok(ExitCode::SUCCESS)
}

async fn from_files(session: &Session, files: &Files, report: &Report) -> Result<ExitCode> {
    if files.files.is_empty() {
        bail!("say what to create: -f FILE, or a kind, as in `create deployment web --image=skiff/demo`");
    }
    for manifest in manifest::read(session, files).await? {
        make(session, report, &manifest.resource, &manifest.namespace, manifest.object, "created")
            .await
            .with_context(|| manifest.place)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Makes one object and says so; returns it.
pub async fn make(
    session: &Session,
    report: &Report,
    resource: &ResourceInfo,
    namespace: &str,
    object: Value,
    done: &str,
) -> Result<Value> {
    let made = if report.is_client() {
        object
    } else {
        let mut object = object;
        if !namespace.is_empty() {
            object["metadata"]["namespace"] = json!(namespace);
        }
        report.api(session, resource).create(namespace, &object).await?
    };
    report.say(resource, &made, done)?;
    Ok(made)
}

/// An object with a name and nothing else.
fn plain(kind: &str, name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name}})
}

fn deployment(d: &Deployment) -> Result<Value> {
    if d.image.len() > 1 && !d.command.is_empty() {
        bail!("one command cannot be for {} containers: write a manifest", d.image.len());
    }
    let containers: Vec<Value> = d.image.iter().map(|image| container(image, d)).collect();
    let labels = json!({"app": d.name});
    Ok(json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": d.name, "labels": labels},
        "spec": {
            "replicas": d.replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": containers}},
        },
    }))
}

fn container(image: &str, d: &Deployment) -> Value {
    let mut container = Map::new();
    container.insert("name".to_owned(), json!(container_name(image)));
    container.insert("image".to_owned(), json!(image));
    if !d.command.is_empty() {
        container.insert("command".to_owned(), json!(d.command));
    }
    if let Some(port) = d.port {
        container.insert("ports".to_owned(), json!([{"containerPort": port}]));
    }
    Value::Object(container)
}

/// A container is named for its image: `registry:5000/skiff/demo:1` is `demo`.
pub fn container_name(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or(image);
    let plain = last.split(['@', ':']).next().unwrap_or(last);
    plain.to_lowercase().replace(['_', '.'], "-")
}

/// Reads `a=b,c=d`.
pub fn pairs(text: &str) -> Result<BTreeMap<String, String>> {
    let pair = |part: &str| match part.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => bail!("{part:?}: expected KEY=VALUE, several of them with commas between"),
    };
    text.split(',').filter(|p| !p.is_empty()).map(pair).collect()
}

#[cfg(test)]
mod tests;
