//! `why-not`: what each scheduler plugin says about a Pod on one node, worked out by the scheduler itself, now.

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;

use crate::columns::text;
use crate::session::Session;
use crate::{inspect, output, target};

/// What `why-not` takes.
#[derive(Args, Debug)]
pub struct Options {
    /// `pod/NAME` or `pod NAME`.
    #[arg(required = true)]
    what: Vec<String>,
    /// Which node.
    #[arg(long)]
    node: String,
}

/// Asks the scheduler, and prints what it says.
pub async fn run(session: &Session, options: Options) -> Result<ExitCode> {
    let (resource, name) = target::parse_one(session, &options.what).await?;
    if resource.kind != "Pod" {
        bail!("{}: only Pods are scheduled", target::called(&resource, &name));
    }
    let pod = session.api(&resource, false).get(session.namespace(), &name).await?;
    let at = text(&pod, "/spec/nodeName");
    if !at.is_empty() {
        output::line(format!("pod/{name} is on {at} already; this is what would be said if it had no node yet."))?;
    }
    let path = format!("/debug/schedule/{}/{name}/{}", session.namespace(), options.node);
    let said = inspect::get(session, "scheduler", "", &path).await?;
    output::print(&format!("pod/{name} on {}: {said}", options.node))?;
    Ok(ExitCode::SUCCESS)
}
