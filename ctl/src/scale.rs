//! `scale`: sets the number of replicas, and nothing else.

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;
use serde_json::json;
use skiff_client::Patch;

use crate::amend;
use crate::columns::number;
use crate::report::Report;
use crate::selection::Selection;
use crate::session::Session;
use crate::target;

/// What `scale` takes.
#[derive(Args, Debug)]
pub struct Options {
    /// `TYPE/NAME...` or `TYPE NAME...`.
    what: Vec<String>,
    #[command(flatten)]
    selection: Selection,
    /// How many replicas there are to be.
    #[arg(long)]
    replicas: u32,
    /// Only if there are so many now.
    #[arg(long)]
    current_replicas: Option<i64>,
    #[command(flatten)]
    report: Report,
}

/// Patches `spec.replicas` of every target.
pub async fn run(session: &Session, options: Options) -> Result<ExitCode> {
    for object in options.selection.find(session, &options.what).await? {
        let resource = &object.resource;
        if !resource.subresources.iter().any(|s| s == "scale") {
            bail!("{} cannot be scaled", target::plural(resource));
        }
        let api = options.report.api(session, resource);
        let mut spec = json!({"spec": {"replicas": options.replicas}});
        let current = match options.current_replicas.is_some() || options.report.is_client() {
            true => Some(api.get(&object.namespace, &object.name).await?),
            false => None,
        };
        if let (Some(expected), Some(current)) = (options.current_replicas, &current) {
            let replicas = number(current, "/spec/replicas");
            if replicas != expected {
                bail!("{}: expected {expected} replicas, but there are {replicas}", object.called());
            }
            // The write fails if somebody scales between our look and our write.
            spec["metadata"] = json!({"resourceVersion": current["metadata"]["resourceVersion"]});
        }
        let patch = Patch::Merge(spec);
        let scaled = match &current {
            Some(current) if options.report.is_client() => amend::apply(resource, current, &patch)?,
            _ => api.patch(&object.namespace, &object.name, patch, Some("scale")).await?,
        };
        options.report.say(resource, &scaled, "scaled")?;
    }
    Ok(ExitCode::SUCCESS)
}
