//! `version`: of this program and of the server.

use std::process::ExitCode;

use anyhow::Result;

use crate::output;
use crate::session::Session;

/// Prints both; a server that is away is an error after our own version is printed.
pub async fn run(session: &Session) -> Result<ExitCode> {
    output::line(format!("Client Version: v{}", env!("CARGO_PKG_VERSION")))?;
    output::line(format!("Server Version: v{}", session.server_version().await?.trim_start_matches('v')))?;
    Ok(ExitCode::SUCCESS)
}
