//! `create token`: a token of a service account, on standard output and nowhere else.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::{Value, json};

use crate::columns::text;
use crate::output::{self, Format};
use crate::rollout::parse_duration;
use crate::session::Session;

/// What `create token` takes.
#[derive(Args, Debug)]
pub struct Options {
    /// The service account.
    name: String,
    /// For whom the token is; several are possible. Without one it is for the API server.
    #[arg(long)]
    audience: Vec<String>,
    /// How long it shall be good: `10m` at least [default: an hour].
    #[arg(long, value_parser = parse_duration)]
    duration: Option<Duration>,
    /// What it is bound to, and goes with: `Pod`, `Secret` or `Node`.
    #[arg(long, requires = "bound_object_name")]
    bound_object_kind: Option<String>,
    /// The name of what it is bound to.
    #[arg(long, requires = "bound_object_kind")]
    bound_object_name: Option<String>,
    /// The uid of what it is bound to.
    #[arg(long, requires = "bound_object_kind")]
    bound_object_uid: Option<String>,
    /// The whole answer, and not the token alone: `yaml` or `json`.
    #[arg(short, long, value_enum)]
    output: Option<Format>,
}

impl Options {
    /// What is asked.
    pub fn object(&self) -> Result<Value> {
        let mut spec = json!({"audiences": self.audience});
        if let Some(duration) = self.duration {
            spec["expirationSeconds"] = json!(duration.as_secs());
        }
        if let Some(kind) = &self.bound_object_kind {
            let bound = ["Pod", "Secret", "Node"].into_iter().find(|known| known.eq_ignore_ascii_case(kind));
            let Some(kind) = bound else { bail!("--bound-object-kind {kind:?}: expected Pod, Secret or Node") };
            let uid = self.bound_object_uid.clone().unwrap_or_default();
            spec["boundObjectRef"] =
                json!({"kind": kind, "apiVersion": "v1", "name": self.bound_object_name, "uid": uid});
        }
        let metadata = json!({"name": self.name});
        Ok(json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "metadata": metadata, "spec": spec,
        }))
    }
}

/// Asks for a token and prints it.
pub async fn run(session: &Session, options: Options) -> Result<ExitCode> {
    let resource = session.resource("", "serviceaccounts").await?;
    let api = session.api(&resource, false);
    let answer = api.create_sub(session.namespace(), &options.name, "token", &options.object()?).await?;
    match options.output {
        Some(format) => output::print(&output::document(&answer, format)?)?,
        None => {
            let token = text(&answer, "/status/token");
            output::line(Some(token).filter(|t| !t.is_empty()).context("the server's answer has no token")?)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
