//! `events`: what happened, the latest last.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use serde_json::Value;
use skiff_client::ListOptions;

use crate::columns::{self, TableOptions, text};
use crate::output;
use crate::session::Session;
use crate::target;

/// What `events` takes.
#[derive(Args, Debug)]
pub struct Options {
    /// Only those of one object: `TYPE/NAME`.
    #[arg(long = "for", value_name = "TYPE/NAME")]
    object: Option<String>,
    /// In all namespaces.
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// No line of titles.
    #[arg(long)]
    no_headers: bool,
}

/// Prints the events of the namespace.
pub async fn run(session: &Session, options: Options) -> Result<ExitCode> {
    let namespace = if options.all_namespaces { "" } else { session.namespace() };
    let mut fields = String::new();
    if let Some(object) = options.object {
        let (resource, name) = target::parse_one(session, &[object]).await?;
        fields = format!("involvedObject.kind={},involvedObject.name={name}", resource.kind);
    }
    let events = fetch(session, namespace, fields).await?;
    if events.is_empty() {
        match namespace {
            "" => eprintln!("No events found."),
            namespace => eprintln!("No events found in {namespace} namespace."),
        }
        return Ok(ExitCode::SUCCESS);
    }
    let shown = TableOptions { namespace: options.all_namespaces, ..TableOptions::default() };
    let table = columns::table(&columns::of("Event"), &events, &shown, session.now());
    output::print(&table.render(!options.no_headers))?;
    Ok(ExitCode::SUCCESS)
}

/// The events that match a field selector, the latest last.
pub async fn fetch(session: &Session, namespace: &str, fields: String) -> Result<Vec<Value>> {
    let resource = session.resource("", "events").await?;
    let list = session.api(&resource, false).list(namespace, &ListOptions::fields(fields)).await?;
    let mut events = list.items;
    // RFC 3339 times in UTC sort as text.
    events.sort_by_key(|e| match text(e, "/lastTimestamp") {
        last if last.is_empty() => text(e, "/metadata/creationTimestamp"),
        last => last,
    });
    Ok(events)
}
