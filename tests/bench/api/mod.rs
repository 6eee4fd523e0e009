//! `make bench-api`: the API server alone, through its own doors, beside the design's bars.
//!
//! Client and server share the machine's processors, so the client is as cheap as it can be made: one thread, requests
//! that are built once and only have their names changed, HTTP/2 by `h2` itself and HTTP/1.1 by hand. What the server
//! spends is told apart by its own CPU time.

mod creates;
mod lists;
mod memory;
mod server;
mod watchers;
mod wire;

use anyhow::Result;

use crate::cluster::Store;
use crate::line;

/// The groups, in the order in which they are taken.
pub const GROUPS: [&str; 5] = ["api-creates", "api-etcd", "api-lists", "api-watch", "api-memory"];

/// Takes the wanted groups, each on a server of its own.
pub async fn run(wanted: impl Fn(&str) -> bool) -> Result<()> {
    if wanted("api-creates") {
        creates::all(Store::Embedded).await?;
    }
    if wanted("api-etcd") {
        creates::all(Store::Etcd).await?;
    }
    if wanted("api-lists") {
        lists::all().await?;
    }
    if wanted("api-watch") {
        watchers::all().await?;
    }
    if wanted("api-memory") {
        memory::all().await?;
    }
    Ok(())
}

/// A row with a bar: what was measured, what the design asks for, and the first over the second.
fn beside_bar(what: &str, measured: f64, unit: &str, bar: f64) {
    let digits = |value: f64| if value < 10.0 { 2 } else { 0 };
    let text = |value: f64| format!("{value:.*}{unit}", digits(value));
    line(what, &text(measured), &format!("bar {}", text(bar)), &format!("{:.2}", measured / bar));
}
