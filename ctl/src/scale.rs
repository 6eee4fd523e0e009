//! `scale`: sets the number of replicas, and nothing else.

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;
use serde_json::json;
use skiff_client::Patch;

use crate::columns::number;
use crate::output;
use crate::session::Session;
use crate::target;

/// What `scale` takes.
#[derive(Args, Debug)]
pub struct Options {
    /// `TYPE/NAME...` or `TYPE NAME...`.
    #[arg(required = true)]
    what: Vec<String>,
    /// How many replicas there are to be.
    #[arg(long)]
    replicas: u32,
    /// Only if there are so many now.
    #[arg(long)]
    current_replicas: Option<i64>,
}

/// Patches `spec.replicas` of every target.
pub async fn run(session: &Session, options: Options) -> Result<ExitCode> {
    for target in target::parse(session, &options.what).await? {
        let resource = &target.resource;
        if !resource.subresources.iter().any(|s| s == "scale") {
            bail!("{} cannot be scaled", target::plural(resource));
        }
        if target.names.is_empty() {
            bail!("name what to scale, as `{}/NAME`", resource.singular);
        }
        let api = session.api(resource, false);
        for name in &target.names {
            let mut spec = json!({"spec": {"replicas": options.replicas}});
            if let Some(expected) = options.current_replicas {
                let current = api.get(session.namespace(), name).await?;
                let replicas = number(&current, "/spec/replicas");
                if replicas != expected {
                    bail!("{}: expected {expected} replicas, but there are {replicas}", target::called(resource, name));
                }
                // The write fails if somebody scales between our look and our write.
                spec["metadata"] = json!({"resourceVersion": current["metadata"]["resourceVersion"]});
            }
            api.patch(session.namespace(), name, Patch::Merge(spec), Some("scale")).await?;
            output::line(format!("{} scaled", target::called(resource, name)))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
