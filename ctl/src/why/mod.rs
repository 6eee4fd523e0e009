//! `why`: from the act that began it to an object's last write, as the writes themselves say; and what happened on
//! nodes because of it.

mod effects;
mod print;

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use serde_json::{Value, json};
use skiff_client::cause;
use skiff_client::chain::{self, Chain, Link};

use crate::changes;
use crate::output::{self, Format};
use crate::session::Session;
use crate::target;

/// What `why` takes.
#[derive(Args, Debug)]
pub struct Options {
    /// `TYPE/NAME` or `TYPE NAME`; the object may be gone.
    #[arg(required = true)]
    what: Vec<String>,
    /// Why it was as it was at this revision [default: the latest].
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    at: u64,
    /// How to print: `json` or `yaml` tells all there is.
    #[arg(short, long, value_enum)]
    output: Option<Format>,
}

/// Prints the chain, the act first.
pub async fn run(session: &Session, options: Options) -> Result<ExitCode> {
    let (resource, name) = target::parse_one(session, &options.what).await?;
    let mut reply = changes::fetch(session, &resource, &name, options.at, 1).await?;
    let Some(last) = reply.changes.pop() else { anyhow::bail!("nothing is held of {} {name:?}", resource.resource) };
    let mut chain = chain::trace(session.client(), last.clone()).await?;
    let (nodes, notices) = effects::of(session, &last).await;
    for notice in reply.notices.into_iter().chain(notices) {
        if !chain.notices.contains(&notice) {
            chain.notices.push(notice);
        }
    }
    match options.output {
        Some(format @ (Format::Json | Format::Yaml)) => {
            let effects: Vec<Value> =
                nodes.iter().map(|node| json!({ "node": node.name, "effects": node.effects })).collect();
            let all = json!({ "chain": document(&chain), "nodes": effects, "notices": chain.notices });
            output::print(&output::document(&all, format)?)?;
        }
        _ => output::print(&print::text(&chain, &nodes))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn document(chain: &Chain) -> Vec<Value> {
    let link = |link: &Link| {
        let before = link.before.as_ref().map(changes::json);
        json!({
            "edge": link.edge.map(|edge| edge.word()),
            "recorded": link.edge.is_none_or(|edge| edge.is_recorded()),
            "object": link.write.object.as_ref().map(cause::object_to_json),
            "at": changes::time(&link.write).map(|time| time.to_string()),
            "deleted": link.write.deleted,
            "change": changes::summary(before.as_ref(), &link.write),
            "cause": link.write.cause.as_ref().map(cause::to_json),
        })
    };
    chain.links.iter().map(link).collect()
}
