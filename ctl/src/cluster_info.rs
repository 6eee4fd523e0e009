//! `cluster-info`: where the cluster is, and whether it answers.

use std::process::ExitCode;

use anyhow::Result;
use skiff_world::Address;

use crate::columns::{list, text};
use crate::output;
use crate::session::Session;

/// Says the API server's address, its version and how many nodes are ready.
pub async fn run(session: &Session) -> Result<ExitCode> {
    let version = session.server_version().await?;
    let nodes = session.resource("", "nodes").await?;
    let nodes = session.api(&nodes, false).list("", &Default::default()).await?.items;
    for server in &session.client().config().servers {
        output::line(format!("Skiff control plane is running at {}", url(server)))?;
    }
    let is_ready = |node: &&serde_json::Value| {
        list(node, "/status/conditions").iter().any(|c| text(c, "/type") == "Ready" && text(c, "/status") == "True")
    };
    let ready = nodes.iter().filter(is_ready).count();
    output::line(format!("Version v{}, {ready} of {} nodes ready", version.trim_start_matches('v'), nodes.len()))?;
    output::line("\nTo see what is wrong: `skiffctl get nodes`, `skiffctl events -A`, `skiffctl describe TYPE/NAME`")?;
    Ok(ExitCode::SUCCESS)
}

/// An address as kubeconfigs write it.
pub fn url(server: &Address) -> String {
    match server {
        Address::Tcp(host) => format!("https://{host}"),
        other => other.to_string(),
    }
}
